//! Clients that subscribe before the load begins and listen until the final state was read: GraphQL subscriptions over
//! server-sent events. A subscriber never comes back once its subscription has ended, so that an end is seen.

use std::time::Duration;

use anyhow::{Context, bail};
use chaos::checker::subscriptions::Heard;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long the server may take to begin a subscription.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// The line of the server's metrics that says so.
const FOLLOWED: &str = "subscription_stream_followed 1";
/// An event of the stream is smaller; what is larger is no event of ours.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Orders that are placed.
const OPERATION: &str = "subscription Orders { orderCreated { id } }";

/// Open subscriptions.
pub struct Subscribers {
    stop: CancellationToken,
    listening: Vec<JoinHandle<Heard>>,
}

impl Subscribers {
    /// Opens `count` subscriptions, one after the other, and returns when the server has begun them all.
    ///
    /// # Errors
    /// The server does not answer, or does not begin a stream of events.
    pub async fn open(base_url: &str, count: u32) -> anyhow::Result<Subscribers> {
        let stop = CancellationToken::new();
        let mut listening = Vec::new();
        // A connection for each, and no time limit: a subscription lasts as long as the run.
        let client = reqwest::Client::builder()
            .connect_timeout(BEGIN_WITHIN)
            .build()
            .context("build the subscribers' HTTP client")?;
        for number in 0..count {
            let answer =
                begin(&client, base_url).await.with_context(|| format!("open subscription {number}"))?;
            listening.push(tokio::spawn(listen(answer, stop.clone())));
        }
        let subscribers = Subscribers { stop, listening };
        if count > 0 {
            tokio::time::timeout(BEGIN_WITHIN, followed(&client, base_url))
                .await
                .context("the server does not follow the stream of events")?;
        }
        Ok(subscribers)
    }

    /// Gives the subscriptions up and returns what each has heard.
    pub async fn heard(self) -> anyhow::Result<Vec<Heard>> {
        self.stop.cancel();
        let mut all = Vec::with_capacity(self.listening.len());
        for subscriber in self.listening {
            all.push(subscriber.await.context("join a subscriber")?);
        }
        Ok(all)
    }
}

async fn begin(client: &reqwest::Client, base_url: &str) -> anyhow::Result<reqwest::Response> {
    let url = format!("{}/graphql", base_url.trim_end_matches('/'));
    let request = client
        .post(url)
        .header("accept", "text/event-stream")
        .json(&serde_json::json!({ "query": OPERATION }));
    let answer = tokio::time::timeout(BEGIN_WITHIN, request.send())
        .await
        .with_context(|| format!("no answer within {}", humantime::format_duration(BEGIN_WITHIN)))??;
    let status = answer.status();
    let media =
        answer.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !status.is_success() || !media.starts_with("text/event-stream") {
        let media = media.to_owned();
        let body = answer.text().await.unwrap_or_default();
        bail!(
            "wanted a stream of events, got {status} {media}: {}",
            body.chars().take(500).collect::<String>()
        );
    }
    Ok(answer)
}

/// Waits until the server says that no later event is missed.
async fn followed(client: &reqwest::Client, base_url: &str) {
    let url = format!("{}/metrics", base_url.trim_end_matches('/'));
    loop {
        let text = async { client.get(&url).send().await?.text().await };
        if text.await.is_ok_and(|text| text.lines().any(|line| line == FOLLOWED)) {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn listen(mut answer: reqwest::Response, stop: CancellationToken) -> Heard {
    let mut heard = Heard::default();
    let mut events = Events::default();
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.cancelled() => return heard,
            chunk = answer.chunk() => chunk,
        };
        let ended = match chunk {
            Ok(Some(bytes)) => events.take(&bytes, &mut heard.keys).err(),
            Ok(None) => Some("the server closed it".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if ended.is_some() {
            heard.ended = ended;
            return heard;
        }
    }
}

/// Server-sent events as they come in, in pieces of any size.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
    kind: String,
    data: String,
}

impl Events {
    /// Adds the order of each whole event to `keys`.
    ///
    /// # Errors
    /// Why the subscription is over, or what could not be understood.
    fn take(&mut self, bytes: &[u8], keys: &mut Vec<String>) -> Result<(), String> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > EVENT_BYTES_MAX {
                    return Err(format!("a line of more than {EVENT_BYTES_MAX} bytes"));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            self.line_of(line.trim_end_matches('\r'), keys)?;
        }
        Ok(())
    }

    fn line_of(&mut self, line: &str, keys: &mut Vec<String>) -> Result<(), String> {
        if line.is_empty() {
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            return event(&kind, &data, keys);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" if self.data.len() + value.len() <= EVENT_BYTES_MAX => self.data.push_str(value),
            "data" => return Err(format!("an event of more than {EVENT_BYTES_MAX} bytes")),
            // A line without a name before the colon is a comment that keeps the connection alive.
            _ => {}
        }
        Ok(())
    }
}

fn event(kind: &str, data: &str, keys: &mut Vec<String>) -> Result<(), String> {
    match kind {
        "next" => {
            let answer: serde_json::Value =
                serde_json::from_str(data).map_err(|error| format!("an event that is not JSON: {error}"))?;
            match answer.pointer("/data/orderCreated/id").and_then(serde_json::Value::as_str) {
                Some(id) => keys.push(id.to_owned()),
                None => return Err(format!("an event without an order: {data}")),
            }
            Ok(())
        }
        "complete" => Err("the server completed it".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": alive\n\nevent: next\ndata: {\"data\":{\"orderCreated\":{\"id\":\"17\"}}}\n\n\
                          event: next\r\ndata: {\"data\":{\"orderCreated\":\r\ndata: {\"id\":\"18\"}}}\r\n\r\n";

    #[test]
    fn events_are_read_in_pieces_of_any_size() {
        for size in 1..STREAM.len() {
            let (mut events, mut keys) = (Events::default(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                events.take(piece, &mut keys).expect("events");
            }
            assert_eq!(keys, ["17", "18"], "pieces of {size}");
        }
    }

    #[test]
    fn an_end_and_an_error_end_it() {
        for (stream, wanted) in [
            ("event: complete\n\n", "completed"),
            ("event: next\ndata: {\"errors\":[]}\n\n", "without an order"),
            ("event: next\ndata: nonsense\n\n", "not JSON"),
        ] {
            let ended = Events::default().take(stream.as_bytes(), &mut Vec::new()).expect_err(stream);
            assert!(ended.contains(wanted), "{ended}");
        }
    }
}
