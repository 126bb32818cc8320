//! NATS with JetStream: publish, and be told that the stream holds it.
//!
//! Promises: the handle can be made while NATS is away; the client reconnects by itself. A publish is answered `Ok`
//! only after the PubAck; every step has a deadline. Nothing is sent while the client is not connected, so that no
//! messages pile up in its buffer and leave much later. The stream is made when it is missing, before the first
//! publish and again after a failed one; of a stream that was there only the duplicate window is changed.

mod durable;
mod follow;

pub use durable::{Delivery, Subscription};
pub use follow::{Follower, Message};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State as ConnectionState;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{Classify, ErrorKind, chain};
use crate::observability::trace::context::TraceContext;
use crate::resilience::breaker::{Outcome, State};
use crate::resilience::dependency::{Dependency, Refused};

/// A server that does not answer two pings in a row is given up.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);

/// Asks JetStream about the account. Read as loose JSON: older servers leave fields out that the client wants.
const ACCOUNT_INFO: &str = "$JS.API.INFO";

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Errors of the NATS handle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of NATS, or its options are wrong.
    #[error("could not set up the nats client")]
    Setup(#[source] Cause),
    /// It is not asked now. Nothing was sent.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no connection now. Nothing was sent.
    #[error("nats is not connected")]
    Disconnected,
    /// NATS did not answer in time; the message may be in the stream.
    #[error("nats did not answer in time")]
    Timeout,
    /// NATS answered with an error; a message may still be in the stream.
    #[error("nats failed to {action}")]
    Failed {
        /// What was asked.
        action: &'static str,
        /// What it answered.
        #[source]
        source: Cause,
    },
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Setup(_) => ErrorKind::Internal,
            Self::Refused(refused) => refused.kind(),
            Self::Disconnected | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::Timeout => ErrorKind::Timeout,
        }
    }
}

/// What the handle needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Deadline of a connection attempt.
    pub connect_timeout: Duration,
    /// Deadline of a publish with its acknowledgement, and of any other request.
    pub publish_timeout: Duration,
    /// The stream's name.
    pub stream: String,
    /// The stream takes `<prefix>.>`.
    pub subject_prefix: String,
    /// Within this time the stream drops a message whose id it has seen. At least 100 ms.
    pub duplicate_window: Duration,
}

/// Handle on one NATS server or cluster. Clones share the connection.
#[derive(Clone)]
pub struct Nats {
    shared: Arc<Shared>,
    dependency: Dependency,
}

struct Shared {
    client: Client,
    context: jetstream::Context,
    options: Options,
    stream_ensured: AtomicBool,
    ensuring: Mutex<()>,
}

impl Nats {
    /// A handle whose client connects in the background. The error does not repeat the URL.
    pub async fn new(url: &str, options: Options) -> Result<Self, Error> {
        let connect = ConnectOptions::new()
            .name("fraiseql-server")
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.publish_timeout))
            .ping_interval(PING_INTERVAL)
            .retry_on_initial_connect()
            .reconnect_delay_callback(reconnect_delay);
        let client = match tokio::time::timeout(options.connect_timeout, connect.connect(url)).await {
            Ok(client) => client.map_err(|error| Error::Setup(error.into()))?,
            Err(_) => return Err(Error::Timeout),
        };
        let context = jetstream::ContextBuilder::new()
            .timeout(options.publish_timeout)
            .ack_timeout(options.publish_timeout)
            .build(client.clone());
        let (stream_ensured, ensuring) = (AtomicBool::new(false), Mutex::new(()));
        let shared = Arc::new(Shared { client, context, options, stream_ensured, ensuring });
        Ok(Self { shared, dependency: Dependency::unlimited("nats") })
    }

    /// The same connection, asked through the dependency's breaker and bulkhead.
    #[must_use]
    pub fn with_dependency(self, dependency: Dependency) -> Self {
        Self { dependency, ..self }
    }

    /// What the breaker does now.
    pub fn breaker(&self) -> State {
        self.dependency.breaker().state()
    }

    /// Whether messages can be sent now.
    pub fn is_connected(&self) -> bool {
        self.shared.client.connection_state() == ConnectionState::Connected
    }

    /// Publishes and waits until the stream holds the message. `message_id` makes a repetition harmless; `trace` goes into
    /// the headers `traceparent` and `tracestate`.
    /// It is made again within the same time, as often as the policy says.
    pub async fn publish(
        &self,
        subject: String,
        message_id: &str,
        payload: Bytes,
        trace: Option<&TraceContext>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + self.shared.options.publish_timeout;
        let publish = || async {
            self.ensure_stream().await?;
            let published = self.publish_once(subject.clone(), message_id, payload.clone(), trace);
            let published = self.within("publish", deadline, published).await;
            if published.is_err() {
                self.shared.stream_ensured.store(false, Ordering::Relaxed);
            }
            published
        };
        self.dependency.call(deadline, true, outcome, publish).await
    }

    /// Whether JetStream answers; past the breaker.
    pub async fn ping(&self) -> Result<(), Error> {
        let probe = self.dependency.breaker().probe();
        let result = self.ask_account().await;
        if let Some(probe) = probe {
            probe.ends(outcome(&result));
        }
        result
    }

    async fn ask_account(&self) -> Result<(), Error> {
        self.must_be_connected()?;
        let asked = async {
            let request = self.shared.client.request(ACCOUNT_INFO, Bytes::new()).await;
            let answer = request.map_err(|error| failed("ask for its account", error))?.payload;
            read_account(&answer)
        };
        self.within("ask for its account", self.soon(), asked).await
    }

    /// Gives up a connection that is open and silent, so that the client dials again.
    pub async fn reconnect(&self) {
        if let Err(error) = self.shared.client.force_reconnect().await {
            tracing::debug!(%error, "could not tell the nats client to reconnect");
        }
    }

    async fn publish_once(
        &self,
        subject: String,
        message_id: &str,
        payload: Bytes,
        trace: Option<&TraceContext>,
    ) -> Result<(), Error> {
        self.must_be_connected()?;
        let mut message = PublishMessage::build().payload(payload).message_id(message_id);
        if let Some(trace) = trace {
            message = message.header("traceparent", trace.traceparent());
            if let Some(state) = trace.state.as_deref() {
                message = message.header("tracestate", state);
            }
        }
        let timed_out = |error: async_nats::jetstream::context::PublishError| match error.kind() {
            PublishErrorKind::TimedOut => Error::Timeout,
            _ => failed("publish", error),
        };
        let acknowledgement = self.shared.context.send_publish(subject, message).await.map_err(timed_out)?;
        acknowledgement.await.map(drop).map_err(timed_out)
    }

    async fn ensure_stream(&self) -> Result<(), Error> {
        if self.shared.stream_ensured.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.within("make the stream", self.soon(), async {
            let _one_at_a_time = self.shared.ensuring.lock().await;
            if self.shared.stream_ensured.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.must_be_connected()?;
            let config = stream::Config {
                name: self.shared.options.stream.clone(),
                subjects: vec![format!("{}.>", self.shared.options.subject_prefix)],
                storage: stream::StorageType::File,
                duplicate_window: self.shared.options.duplicate_window,
                ..stream::Config::default()
            };
            let made = self.shared.context.get_or_create_stream(config).await;
            let stream = made.map_err(|error| failed("make the stream", error))?;
            self.adjust_window(&stream.cached_info().config).await;
            self.shared.stream_ensured.store(true, Ordering::Relaxed);
            Ok(())
        })
        .await
    }

    /// Gives a stream that was there before the configured window. Events flow without it too, so a refusal is told
    /// and no more.
    async fn adjust_window(&self, config: &stream::Config) {
        let wanted = window_for(self.shared.options.duplicate_window, config.max_age);
        if config.duplicate_window == wanted {
            return;
        }
        let (stream, was) = (&config.name, config.duplicate_window);
        let changed = stream::Config { duplicate_window: wanted, ..config.clone() };
        match self.shared.context.update_stream(changed).await {
            Ok(_) => tracing::info!(%stream, ?was, ?wanted, "the stream has another duplicate window now"),
            Err(error) => tracing::warn!(
                %stream, ?was, ?wanted, error = %chain(&error),
                "the stream keeps its duplicate window: change nats.duplicate_window or the stream"
            ),
        }
    }

    fn must_be_connected(&self) -> Result<(), Error> {
        if self.is_connected() { Ok(()) } else { Err(Error::Disconnected) }
    }

    /// When a request that is made now is given up.
    fn soon(&self) -> Instant {
        Instant::now() + self.shared.options.publish_timeout
    }

    async fn within<T>(
        &self,
        action: &'static str,
        deadline: Instant,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answered = tokio::time::timeout_at(deadline, work).await;
        answered.unwrap_or_else(|_| {
            tracing::debug!(action, "nats did not answer in time");
            Err(Error::Timeout)
        })
    }
}

/// What a result tells of NATS. Without a connection nothing was asked.
fn outcome<T>(result: &Result<T, Error>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Error::Timeout | Error::Failed { .. }) => Outcome::Fault,
        Err(Error::Setup(_) | Error::Refused(_) | Error::Disconnected) => Outcome::Unknown,
    }
}

fn read_account(answer: &[u8]) -> Result<(), Error> {
    let answer: serde_json::Value =
        serde_json::from_slice(answer).map_err(|error| failed("describe its account", error))?;
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(failed("describe its account", error.to_string())),
    }
}

fn failed(action: &'static str, source: impl Into<Cause>) -> Error {
    Error::Failed { action, source: source.into() }
}

/// A stream with a maximum age (zero is none) takes no window longer than that.
fn window_for(configured: Duration, max_age: Duration) -> Duration {
    if max_age.is_zero() { configured } else { configured.min(max_age) }
}

/// At once, then doubling from 50 ms.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(5);
    if attempts == 0 {
        Duration::ZERO
    } else {
        (Duration::from_millis(50) * 2u32.pow(doublings)).min(RECONNECT_DELAY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_without_the_newer_fields_is_an_account() {
        assert!(read_account(br#"{"memory":0,"storage":0,"streams":1}"#).is_ok());
        assert!(read_account(br#"{"error":{"code":503,"description":"no JetStream"}}"#).is_err());
        assert!(read_account(b"").is_err());
    }

    #[test]
    fn a_window_is_not_longer_than_messages_are_kept() {
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(120));
        assert_eq!(window_for(long, Duration::ZERO), long);
        assert_eq!(window_for(long, short), short);
        assert_eq!(window_for(short, long), short);
    }

    #[test]
    fn reconnecting_slows_down_to_a_second() {
        assert_eq!(reconnect_delay(0), Duration::ZERO);
        assert_eq!(reconnect_delay(1), Duration::from_millis(50));
        assert_eq!(reconnect_delay(3), Duration::from_millis(200));
        assert_eq!(reconnect_delay(1_000_000), RECONNECT_DELAY_MAX);
    }
}
