//! Following the stream: every message from a place on, in order.
//!
//! Promises: messages come in the order of the stream, none twice and none left out while one [`Follower`] lives; whoever
//! tells the last sequence that it saw goes on behind it, however long NATS was away, as far as the stream keeps messages.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use bytes::Bytes;
use futures::StreamExt;

use super::{Error, Nats, failed};

/// A consumer that nobody asks for this long is removed by the server.
const INACTIVE_AFTER: Duration = Duration::from_secs(30);
/// Silence for twice as long, and the server is taken for gone.
const HEARTBEAT: Duration = Duration::from_secs(1);
const EXPIRES: Duration = Duration::from_secs(30);
const BATCH: usize = 256;

/// A message of the stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its subject behind the prefix.
    pub name: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// What it says.
    pub payload: Bytes,
}

/// Reads the stream.
pub struct Follower {
    messages: Stream,
    prefix: String,
    /// How many came: a number that is left out tells of a message that was lost on the way.
    seen: u64,
}

impl Nats {
    /// Follows the stream: behind `after`, or what comes from now on.
    pub async fn follow(&self, after: Option<u64>) -> Result<Follower, Error> {
        self.ensure_stream().await?;
        let followed = self.within("follow the stream", self.soon(), self.follow_once(after)).await;
        if followed.is_err() {
            self.shared.stream_ensured.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        followed
    }

    async fn follow_once(&self, after: Option<u64>) -> Result<Follower, Error> {
        self.must_be_connected()?;
        let options = &self.shared.options;
        let stream = self.shared.context.get_stream(&options.stream).await;
        let stream = stream.map_err(|error| failed("find the stream", error))?;
        let last = stream.cached_info().state.last_sequence;
        let deliver_policy = match after {
            None => DeliverPolicy::New,
            // The stream was made anew since: everything in it is new.
            Some(after) if after > last => DeliverPolicy::All,
            Some(after) => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
        };
        let config = Config {
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}.>", options.subject_prefix),
            inactive_threshold: INACTIVE_AFTER,
            memory_storage: true,
            num_replicas: 1,
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| failed("make a consumer", error))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(BATCH)
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| failed("ask for messages", error))?;
        Ok(Follower { messages, prefix: format!("{}.", options.subject_prefix), seen: 0 })
    }
}

impl Follower {
    /// The next message, when there is one.
    ///
    /// # Errors
    /// When NATS is gone or has forgotten the consumer: follow again, behind the last message.
    pub async fn next(&mut self) -> Result<Message, Error> {
        const ACTION: &str = "bring messages";
        let next = self.messages.next().await;
        let message = next.ok_or_else(|| failed(ACTION, "the consumer ended"))?;
        let message = message.map_err(|error| failed(ACTION, error))?;
        let info = message.info().map_err(|error| failed(ACTION, error))?;
        self.seen += 1;
        if info.consumer_sequence != self.seen {
            return Err(failed(ACTION, "a message was lost on the way"));
        }
        let subject = message.subject.as_str();
        let name = subject.strip_prefix(&self.prefix).unwrap_or(subject).to_owned();
        Ok(Message { name, sequence: info.stream_sequence, payload: message.payload.clone() })
    }
}
