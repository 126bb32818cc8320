//! Stand-ins for what the server calls of others: a webhook, Slack, a mail server. They keep what they took and fail when
//! they are told to.
//!
//! Promises: what is counted as taken was answered so; what was answered with an error is not kept. A stub lives as long as
//! its handle.

mod http;
mod smtp;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

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

impl Taken {
    /// Both keys are the event's id and the notification's name: `<uuid>.<name>`, in a mail before the host.
    fn tells_of(&self, name: &str) -> bool {
        let key = self.key.trim_start_matches('<');
        let key = key.split_once('@').map_or(key, |(id, _host)| id);
        key.split_once('.').is_some_and(|(_event, found)| found == name)
    }
}

/// How often a stub was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calls {
    /// Taken.
    pub taken: u64,
    /// Answered with an error, as it was told to.
    pub failed: u64,
    /// Of all these, those whose message had come before.
    pub repeated: u64,
    /// Of the repeated ones, those of the busiest tenth of a second.
    pub repeated_peak: u64,
}

impl Calls {
    /// Which part of the repeated calls came within the busiest tenth of a second; 0 without any.
    pub fn repeated_peak_share(self) -> f64 {
        if self.repeated == 0 { 0.0 } else { self.repeated_peak as f64 / self.repeated as f64 }
    }
}

/// How a stub fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Failing {
    /// What it answers, of HTTP or SMTP.
    status: u16,
    /// When it answers all of them; `None`: each at once.
    held_until: Option<Instant>,
}

/// What a failing stub answers to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    status: u16,
    /// How long until then.
    after: Duration,
}

/// What the two kinds share: what to answer, and what came.
#[derive(Debug)]
struct Book {
    begun: Instant,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    fails: Option<Failing>,
    calls: Calls,
    kept: Vec<Taken>,
    /// Keys of messages that came.
    known: HashSet<String>,
    /// Repeated calls by tenth of a second.
    repeated: HashMap<u128, u64>,
}

impl Book {
    fn new() -> Self {
        Self { begun: Instant::now(), entries: Mutex::default() }
    }

    /// Enters a call and says what to answer.
    fn call(&self, message: Taken) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.known.contains(&message.key) {
            let tenth = now.duration_since(self.begun).as_millis() / 100;
            let within = entries.repeated.entry(tenth).or_default();
            *within += 1;
            let within = *within;
            entries.calls.repeated += 1;
            entries.calls.repeated_peak = entries.calls.repeated_peak.max(within);
        } else if !message.key.is_empty() && entries.known.len() < KEPT_MAX {
            entries.known.insert(message.key.clone());
        }
        if let Some(Failing { status, held_until }) = entries.fails {
            entries.calls.failed += 1;
            let after = held_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
            return Err(Refusal { status, after });
        }
        entries.calls.taken += 1;
        if entries.kept.len() < KEPT_MAX {
            entries.kept.push(message);
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
        let book = Arc::new(Book::new());
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
        self.book.entries.lock().fails = status.map(|status| Failing { status, held_until: None });
    }

    /// From now on every call waits, and all are answered with this status at that time.
    pub fn fail_together(&self, status: u16, at: Instant) {
        self.book.entries.lock().fails = Some(Failing { status, held_until: Some(at) });
    }

    pub fn calls(&self) -> Calls {
        self.book.entries.lock().calls
    }

    /// Whether it took a notification of this name (`order_confirmation`), as a webhook's `Idempotency-Key` or a mail's
    /// `Message-ID` says. What is posted to Slack has no key, so there it is never known.
    pub fn notification_sent(&self, name: &str) -> bool {
        self.book.entries.lock().kept.iter().any(|taken| taken.tells_of(name))
    }

    /// What it took, in this order.
    pub fn taken(&self) -> Vec<Taken> {
        self.book.entries.lock().kept.clone()
    }
}

/// The stubs of an environment.
pub type Stubs = BTreeMap<StubName, Arc<Stub>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_known_which_notifications_were_taken() {
        let stub = Stub::start(StubName::Webhook).await.expect("listens");
        let client = reqwest::Client::new();
        let post = async |key: &str| {
            client
                .post(stub.url())
                .header("idempotency-key", key)
                .body("{}")
                .send()
                .await
                .expect("an answer");
        };
        post("0199.order_confirmation").await;
        stub.fail_with(Some(500));
        post("0199.order_shipped").await;
        assert!(stub.notification_sent("order_confirmation"));
        assert!(!stub.notification_sent("order_shipped") && !stub.notification_sent("order"));
        let mail = |key: &str| Taken { key: key.to_owned(), body: String::new() };
        assert!(mail("<0199.order_confirmation@shop.example>").tells_of("order_confirmation"));
        assert!(!mail("<0199.order_confirmation@shop.example>").tells_of("shop"));
    }

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
        assert_eq!(stub.calls(), Calls { taken: 2, failed: 1, repeated: 1, repeated_peak: 1 });
        let keys: Vec<String> = stub.taken().into_iter().map(|taken| taken.key + " " + &taken.body).collect();
        assert_eq!(keys, ["a one", "b two"]);
    }
    #[tokio::test]
    async fn held_calls_are_answered_together_and_repetitions_counted_by_tenths_of_a_second() {
        let stub = Stub::start(StubName::Webhook).await.expect("listens");
        let client = reqwest::Client::new();
        let post = async |key: &str| {
            let request = client.post(stub.url()).header("idempotency-key", key).body("x");
            let status = request.send().await.expect("an answer").status().as_u16();
            (status, Instant::now())
        };
        let held_until = Instant::now() + Duration::from_millis(600);
        stub.fail_together(503, held_until);
        let later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            post("b").await
        };
        let (a, b) = tokio::join!(post("a"), later);
        assert_eq!((a.0, b.0), (503, 503));
        assert!(a.1 >= held_until && b.1 >= held_until, "answered before its time");
        stub.fail_with(None);
        assert_eq!((post("a").await.0, post("b").await.0), (200, 200));
        let calls = stub.calls();
        assert_eq!((calls.taken, calls.failed, calls.repeated), (2, 2, 2));
        assert!([0.5, 1.0].contains(&calls.repeated_peak_share()), "{calls:?}");
    }
}
