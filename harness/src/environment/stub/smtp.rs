//! A mail server (RFC 5321) that takes every mail, or refuses each with one status after its text.
//!
//! It knows what a client needs to deliver a mail, without TLS and without authentication, and forwards nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Book, Taken};

/// Bytes of one mail at most, and of a line of the protocol.
const MAIL_BYTES_MAX: usize = 1 << 20;

pub(super) struct SmtpStub {
    address: SocketAddr,
    _ends: DropGuard,
}

impl SmtpStub {
    pub(super) async fn start(book: Arc<Book>) -> io::Result<SmtpStub> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let ends = CancellationToken::new();
        let cancel = ends.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = cancel.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { continue };
                let (book, cancel) = (book.clone(), cancel.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = cancel.cancelled() => {}
                        // A client that hangs up or speaks otherwise is no business of the stub.
                        _ = converse(stream, &book) => {}
                    }
                });
            }
        });
        Ok(SmtpStub { address, _ends: ends.drop_guard() })
    }

    pub(super) fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }
}

async fn converse(stream: TcpStream, book: &Book) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    write.write_all(b"220 stub ready\r\n").await?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line).await? == 0 || line.len() > MAIL_BYTES_MAX {
            return Ok(());
        }
        let command = String::from_utf8_lossy(&line).trim().to_ascii_uppercase();
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        let answer = match verb {
            "EHLO" | "HELO" => "250 stub\r\n".to_owned(),
            "MAIL" | "RCPT" | "RSET" | "NOOP" => "250 ok\r\n".to_owned(),
            "DATA" => {
                write.write_all(b"354 end with a dot\r\n").await?;
                let Some(mail) = text(&mut read).await? else { return Ok(()) };
                match book.call(taken(mail)) {
                    Ok(()) => "250 taken\r\n".to_owned(),
                    Err(refusal) => {
                        tokio::time::sleep(refusal.after).await;
                        format!("{} not now\r\n", refusal.status)
                    }
                }
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 unknown\r\n".to_owned(),
        };
        write.write_all(answer.as_bytes()).await?;
    }
}

/// The text of a mail up to the line with a dot; `None` when it ends before that or is too long.
async fn text(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut mail = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if read.read_until(b'\n', &mut line).await? == 0 || mail.len() + line.len() > MAIL_BYTES_MAX {
            return Ok(None);
        }
        if line == b".\r\n" || line == b".\n" {
            return Ok(Some(String::from_utf8_lossy(&mail).into_owned()));
        }
        // A dot that begins a line was doubled (RFC 5321, section 4.5.2).
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn taken(mail: String) -> Taken {
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("message-id").then(|| value.trim().to_owned())
    };
    let key = mail.lines().take_while(|line| !line.is_empty()).find_map(header).unwrap_or_default();
    Taken { key, body: mail }
}

#[cfg(test)]
mod tests {
    use super::super::{Calls, Stub, StubName};
    use super::*;

    async fn say(stream: &mut BufReader<TcpStream>, line: &str) -> String {
        stream.write_all(line.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_line(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn a_mail_is_kept_whole_and_refused_when_it_is_told_to() {
        let stub = Stub::start(StubName::Email).await.expect("listens");
        let address = stub.url().trim_start_matches("smtp://").to_owned();
        let mut stream = BufReader::new(TcpStream::connect(address).await.expect("connects"));
        assert!(say(&mut stream, "").await.starts_with("220"));
        assert!(say(&mut stream, "EHLO me\r\n").await.starts_with("250"));
        for (fails_with, status) in [(None, "250"), (Some(451), "451"), (None, "250")] {
            stub.fail_with(fails_with);
            assert!(say(&mut stream, "MAIL FROM:<a@b.example>\r\n").await.starts_with("250"));
            assert!(say(&mut stream, "RCPT TO:<c@d.example>\r\n").await.starts_with("250"));
            assert!(say(&mut stream, "DATA\r\n").await.starts_with("354"));
            let mail = "Subject: s\r\nMessage-ID: <1@b.example>\r\n\r\n..dotted\r\n.\r\n";
            assert!(say(&mut stream, mail).await.starts_with(status));
        }
        assert!(say(&mut stream, "STARTTLS\r\n").await.starts_with("502"));
        assert!(say(&mut stream, "QUIT\r\n").await.starts_with("221"));
        assert_eq!(stub.calls(), Calls { taken: 2, failed: 1, repeated: 2, repeated_peak: 2 });
        let mails = stub.taken();
        assert_eq!(mails[0].key, "<1@b.example>");
        assert!(mails[0].body.ends_with("\r\n\r\n.dotted\r\n"), "{:?}", mails[0].body);
    }
}
