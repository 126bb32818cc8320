//! A durable consumer of the stream: each event goes to one of those who subscribe under the same name, and comes again
//! until it is acknowledged, over restarts of everybody.
//!
//! A consumer that is new begins with what comes from now on: what happened before it was made was not meant for it.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Config, Stream};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use futures::StreamExt;

use super::{Error, Nats, failed};
use crate::observability::trace::context::TraceContext;

const HEARTBEAT: Duration = Duration::from_secs(1);
const EXPIRES: Duration = Duration::from_secs(30);

/// Events of a durable consumer.
pub struct Subscription {
    messages: Stream,
    prefix: String,
}

/// An event that is to be answered.
pub struct Delivery {
    /// Its subject behind the prefix.
    pub name: String,
    /// What it says.
    pub payload: Bytes,
    /// How often it came, this time included.
    pub deliveries: u64,
    message: jetstream::Message,
}

impl Nats {
    /// The events with these names. One that is not answered within `within` comes again; at most `under_way` are out.
    pub async fn subscribe(
        &self,
        consumer: &str,
        names: &[String],
        within: Duration,
        under_way: usize,
    ) -> Result<Subscription, Error> {
        self.ensure_stream().await?;
        let subscribed = self.subscribe_once(consumer, names, within, under_way);
        let subscribed = self.within("subscribe to the stream", self.soon(), subscribed).await;
        if subscribed.is_err() {
            self.shared.stream_ensured.store(false, std::sync::atomic::Ordering::Relaxed);
        }
        subscribed
    }

    async fn subscribe_once(
        &self,
        consumer: &str,
        names: &[String],
        within: Duration,
        under_way: usize,
    ) -> Result<Subscription, Error> {
        self.must_be_connected()?;
        let options = &self.shared.options;
        let stream = self.shared.context.get_stream(&options.stream).await;
        let stream = stream.map_err(|error| failed("find the stream", error))?;
        let config = Config {
            durable_name: Some(consumer.to_owned()),
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::Explicit,
            ack_wait: within,
            filter_subjects: names.iter().map(|name| format!("{}.{name}", options.subject_prefix)).collect(),
            max_ack_pending: i64::try_from(under_way).unwrap_or(i64::MAX),
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| failed("make a consumer", error))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(under_way)
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await
            .map_err(|error| failed("ask for messages", error))?;
        Ok(Subscription { messages, prefix: format!("{}.", options.subject_prefix) })
    }
}

impl Subscription {
    /// The next event, when there is one.
    ///
    /// # Errors
    /// When NATS or the consumer is gone: subscribe again.
    pub async fn next(&mut self) -> Result<Delivery, Error> {
        const ACTION: &str = "bring events";
        let next = self.messages.next().await;
        let message = next.ok_or_else(|| failed(ACTION, "the consumer ended"))?;
        let message = message.map_err(|error| failed(ACTION, error))?;
        let deliveries = message.info().map_err(|error| failed(ACTION, error))?.delivered;
        let subject = message.subject.as_str();
        let name = subject.strip_prefix(&self.prefix).unwrap_or(subject).to_owned();
        let payload = message.payload.clone();
        Ok(Delivery { name, payload, deliveries: u64::try_from(deliveries).unwrap_or(1), message })
    }
}

impl Delivery {
    /// The trace in which it happened.
    pub fn trace(&self) -> Option<TraceContext> {
        let headers = self.message.headers.as_ref()?;
        let state = headers.get("tracestate").map(AsRef::as_ref);
        TraceContext::parse(headers.get("traceparent")?.as_ref(), state)
    }

    /// It is done with and does not come again.
    ///
    /// # Errors
    /// When NATS was not told; it comes again.
    pub async fn done(&self) -> Result<(), Error> {
        self.message.ack().await.map_err(|error| failed("acknowledge an event", error))
    }

    /// It comes again after this time.
    ///
    /// # Errors
    /// When NATS was not told; it comes again all the same.
    pub async fn again_in(&self, wait: Duration) -> Result<(), Error> {
        let told = self.message.ack_with(AckKind::Nak(Some(wait))).await;
        told.map_err(|error| failed("give an event back", error))
    }
}
