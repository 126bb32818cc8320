//! The series of subscriptions.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::observability::metrics::{Counter, Family, Gauge, Registry};

/// How callers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Transport {
    /// graphql-transport-ws.
    websocket,
    /// Server-sent events.
    sse,
}

/// Labels of `subscription_connections`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConnectionLabels {
    /// How.
    pub transport: Transport,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Ended {
    /// The caller left, or was done.
    client,
    /// It did not take its events in time.
    slow,
    /// It broke the protocol.
    protocol,
    /// It was silent for too long.
    silent,
    /// The server ends.
    shutdown,
    /// There were too many already.
    refused,
}

/// Labels of `subscription_connections_ended_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabels {
    /// Why.
    pub reason: Ended,
}

/// The families of subscriptions.
#[derive(Debug, Clone)]
pub struct SubscriptionMetrics {
    connections: Family<ConnectionLabels, Gauge>,
    ended: Family<EndLabels, Counter>,
    /// Subscriptions that are open.
    pub active: Gauge,
    /// Events that came from the stream.
    pub received: Counter,
    /// Events that were handed to a subscription.
    pub matched: Counter,
    /// Answers to events, given to the connection.
    pub delivered: Counter,
    /// Events that were dropped, because their subscription had too many waiting.
    pub dropped: Counter,
    /// Whether the stream is followed.
    pub following: Gauge,
}

impl SubscriptionMetrics {
    /// Registers the families with their series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Family::default(),
            ended: Family::default(),
            active: Gauge::default(),
            received: Counter::default(),
            matched: Counter::default(),
            delivered: Counter::default(),
            dropped: Counter::default(),
            following: Gauge::default(),
        };
        for transport in [Transport::websocket, Transport::sse] {
            metrics.connections.get_or_create(&ConnectionLabels { transport }).set(0);
        }
        use Ended::{client, protocol, refused, shutdown, silent, slow};
        for reason in [client, slow, protocol, silent, shutdown, refused] {
            metrics.ended.get_or_create(&EndLabels { reason }).inc_by(0);
        }
        let connections = metrics.connections.clone();
        registry.register("subscription_connections", "Open connections with subscriptions", connections);
        registry.register(
            "subscription_connections_ended",
            "Connections by their end",
            metrics.ended.clone(),
        );
        registry.register("subscriptions_active", "Open subscriptions", metrics.active.clone());
        registry.register("subscription_events_received", "Events from the stream", metrics.received.clone());
        registry.register(
            "subscription_events_matched",
            "Events that a subscription wanted, counted for each",
            metrics.matched.clone(),
        );
        registry.register(
            "subscription_events_delivered",
            "Answers to events that were given to the connection",
            metrics.delivered.clone(),
        );
        registry.register(
            "subscription_events_dropped",
            "Events whose subscription was too slow",
            metrics.dropped.clone(),
        );
        registry.register(
            "subscription_stream_followed",
            "Whether the stream is followed",
            metrics.following.clone(),
        );
        metrics
    }

    /// The gauge of a transport's connections.
    pub fn connections(&self, transport: Transport) -> Gauge {
        self.connections.get_or_create_owned(&ConnectionLabels { transport })
    }

    /// Counts a connection that ended.
    pub fn count_end(&self, reason: Ended) {
        self.ended.get_or_create(&EndLabels { reason }).inc();
    }
}
