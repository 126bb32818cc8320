//! Stand-ins for what the server calls of others: a webhook, Slack, a mail server. They keep what they took and fail when
//! they are told to.
//!
//! Promises: what is counted as taken was answered so; what was answered with an error is not kept. A stub lives as long as
//! its handle.

mod http;
mod smtp;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;

use http::HttpStub;
use smtp::SmtpStub;

/// Messages that a stub keeps; of those that come later only the number is known.
const KEPT_MAX: usize = 100_000;

/// What is stood in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StubName {
    Webhook,
    Slack,
    Email,
}

impl StubName {
    pub const ALL: [StubName; 3] = [StubName::Webhook, StubName::Slack, StubName::Email];

    /// The word for it in files, targets and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            StubName::Webhook => "webhook",
            StubName::Slack => "slack",
            StubName::Email => "email",
        }
    }

    /// The stub of this name.
    pub fn of(word: &str) -> Option<StubName> {
        StubName::ALL.into_iter().find(|name| name.as_str() == word)
    }
}

/// What a stub took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// By what repetitions of one message are recognised: `Idempotency-Key`, or the `Message-ID` of a mail; empty without.
    pub key: String,
    /// The whole body.
    pub body: String,
}

/// How often a stub was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Taken.
    pub taken: u64,
    /// Answered with an error, as it was told to.
    pub failed: u64,
}

/// What the two kinds share: what to answer, and what came.
#[derive(Debug, Default)]
struct Book {
    /// 0: take it; else the status, of HTTP or SMTP, of the error.
    fails_with: AtomicU16,
    taken: AtomicU64,
    failed: AtomicU64,
    kept: Mutex<Vec<Taken>>,
}

impl Book {
    /// Enters a call and says what to answer: `Err` with the status of the error.
    fn call(&self, message: impl FnOnce() -> Taken) -> Result<(), u16> {
        let status = self.fails_with.load(Ordering::Relaxed);
        if status != 0 {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(status);
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        if kept.len() < KEPT_MAX {
            kept.push(message());
        }
        Ok(())
    }
}

enum Server {
    Http(HttpStub),
    Smtp(SmtpStub),
}

/// One stub.
pub struct Stub {
    book: Arc<Book>,
    server: Server,
}

impl Stub {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(name: StubName) -> std::io::Result<Stub> {
        let book = Arc::new(Book::default());
        let server = match name {
            StubName::Webhook | StubName::Slack => Server::Http(HttpStub::start(book.clone()).await),
            StubName::Email => Server::Smtp(SmtpStub::start(book.clone()).await?),
        };
        Ok(Stub { book, server })
    }

    /// Where it listens, as the server is told it.
    pub fn url(&self) -> String {
        match &self.server {
            Server::Http(stub) => stub.url(),
            Server::Smtp(stub) => stub.url(),
        }
    }

    /// From now on every call is answered with this status, of HTTP or SMTP; `None`: it is taken.
    pub fn fail_with(&self, status: Option<u16>) {
        self.book.fails_with.store(status.unwrap_or(0), Ordering::Relaxed);
    }

    pub fn calls(&self) -> Calls {
        Calls {
            taken: self.book.taken.load(Ordering::Relaxed),
            failed: self.book.failed.load(Ordering::Relaxed),
        }
    }

    /// What it took, in this order.
    pub fn taken(&self) -> Vec<Taken> {
        self.book.kept.lock().clone()
    }
}

/// The stubs of an environment.
pub type Stubs = BTreeMap<StubName, Arc<Stub>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_http_stub_keeps_what_it_takes_and_fails_when_it_is_told_to() {
        let stub = Stub::start(StubName::Webhook).await.expect("listens");
        let client = reqwest::Client::new();
        let post = async |key: &str, body: &'static str| {
            let request = client.post(stub.url()).header("idempotency-key", key).body(body);
            request.send().await.expect("an answer").status().as_u16()
        };
        assert_eq!(post("a", "one").await, 200);
        stub.fail_with(Some(503));
        assert_eq!(post("b", "two").await, 503);
        stub.fail_with(None);
        assert_eq!(post("b", "two").await, 200);
        assert_eq!(stub.calls(), Calls { taken: 2, failed: 1 });
        let keys: Vec<String> = stub.taken().into_iter().map(|taken| taken.key + " " + &taken.body).collect();
        assert_eq!(keys, ["a one", "b two"]);
    }
}
