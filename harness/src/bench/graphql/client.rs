//! A client that costs little: HTTP/1.1 on kept connections, one request at a time on each. Every answer has to be a 200
//! without `errors` and about as long as the one that was compared; anything else ends the measurement.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::operation::Feed;
use crate::bench::clients::{self, Done, Load, connect};

/// Longest head and longest answer that are read.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A connection that carries one request after the other.
pub struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Length of the head itself.
    bytes: usize,
    body_bytes: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Connection> {
        Ok(Connection { socket: connect(address).await?, request: Vec::new(), answer: Vec::new() })
    }

    /// The status and the answer to a GraphQL request.
    pub async fn ask(&mut self, body: &str) -> anyhow::Result<(u16, &[u8])> {
        self.prepare(body);
        let (status, place) = self.exchange().await?;
        Ok((status, &self.answer[place]))
    }

    /// Makes the request that [`exchange`](Self::exchange) sends.
    fn prepare(&mut self, body: &str) {
        use std::io::Write;
        self.request.clear();
        write!(
            self.request,
            "POST /graphql HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\naccept: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("writing to a Vec cannot fail");
    }

    async fn exchange(&mut self) -> anyhow::Result<(u16, Range<usize>)> {
        self.socket.write_all(&self.request).await.context("send a request")?;
        self.answer.clear();
        let mut known = None;
        loop {
            let count = self.socket.read_buf(&mut self.answer).await.context("read an answer")?;
            ensure!(count > 0, "the connection ended within an answer");
            if known.is_none() {
                known = head(&self.answer)?;
            }
            if let Some(Head { status, bytes, body_bytes }) = known
                && self.answer.len() >= bytes + body_bytes
            {
                ensure!(self.answer.len() == bytes + body_bytes, "more came than one answer");
                return Ok((status, bytes..bytes + body_bytes));
            }
        }
    }
}

/// The head, when all of it is there.
fn head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        ensure!(bytes.len() < HEAD_BYTES_MAX, "the head of an answer has more than {HEAD_BYTES_MAX} bytes");
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("the head of an answer")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok()).flatten()
    });
    let (Some(status), Some(body_bytes)) = (status, length) else {
        bail!("an answer without status or content-length: {text}")
    };
    ensure!(body_bytes <= ANSWER_BYTES_MAX, "an answer of {body_bytes} bytes");
    Ok(Some(Head { status, bytes: end + 4, body_bytes }))
}

/// The answer as JSON, or why the subject cannot answer: the status, or the message of its first error.
pub async fn ask(address: SocketAddr, body: &str) -> anyhow::Result<Result<Value, String>> {
    let mut connection = Connection::open(address).await?;
    let (status, answer) = connection.ask(body).await?;
    let read: Result<Value, _> = serde_json::from_slice(answer);
    Ok(match read {
        Ok(answer) => match &answer["errors"][0] {
            Value::Null if status == 200 => Ok(answer),
            Value::Null => Err(format!("status {status}: {answer}")),
            error => Err(error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned)),
        },
        Err(_) => Err(format!("status {status}: {}", String::from_utf8_lossy(answer))),
    })
}

/// Asks what `feed` gives, on all connections, until the time is up. `answer_bytes` is how long an answer was that was
/// looked at.
pub async fn drive(
    address: SocketAddr,
    load: Load,
    feed: &Feed,
    answer_bytes: usize,
) -> anyhow::Result<Done> {
    let feed = feed.clone();
    clients::all(load, move |until| one(address, until, feed.clone(), answer_bytes)).await
}

async fn one(address: SocketAddr, until: Instant, feed: Feed, answer_bytes: usize) -> anyhow::Result<Done> {
    let mut done = Done::nothing();
    let mut connection = Connection::open(address).await?;
    connection.prepare(&feed.body());
    while Instant::now() < until {
        if !feed.is_constant() && done.requests > 0 {
            connection.prepare(&feed.body());
        }
        let began = Instant::now();
        let (status, place) = connection.exchange().await?;
        done.add(began);
        check(status, &connection.answer[place], answer_bytes)?;
    }
    Ok(done)
}

/// A quote within a string is escaped, so that the key can only be the key.
fn check(status: u16, answer: &[u8], looked_at_bytes: usize) -> anyhow::Result<()> {
    let text = std::str::from_utf8(answer).context("an answer that is no UTF-8")?;
    ensure!(status == 200 && !text.contains("\"errors\""), "status {status}: {text}");
    // Ids, names and sums differ in length; a list that is empty or an order that is null does by more.
    let enough = answer.len() * 4 >= looked_at_bytes * 3;
    ensure!(enough, "an answer of {} bytes where {looked_at_bytes} were compared: {text}", answer.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_all_of_it_is_there() {
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"data\":{}}\n";
        for length in 0..answer.len() {
            let read = head(&answer[..length]).expect("a head");
            let whole = length >= answer.len() - 12;
            let wanted = Head { status: 200, bytes: answer.len() - 12, body_bytes: 12 };
            assert_eq!(read, whole.then_some(wanted), "{length}");
        }
    }

    #[test]
    fn a_head_without_a_length_is_refused_and_not_waited_for() {
        for wrong in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/2 200\r\ncontent-length: 1\r\n\r\n",
        ] {
            assert!(head(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(head(&[b'x'; HEAD_BYTES_MAX]).is_err());
    }

    #[test]
    fn errors_other_statuses_and_short_answers_are_no_answers() {
        let good = br#"{"data":{"order":{"id":"a","name":"say \"errors\":"}}}"#;
        check(200, good, good.len() + 10).expect("an answer");
        assert!(check(500, good, good.len()).is_err());
        assert!(check(200, br#"{"data":{"order":{"id":"a"}},"errors":[{"message":"no"}]}"#, 10).is_err());
        assert!(check(200, br#"{"data":{"order":null}}"#, good.len()).is_err());
    }
}
