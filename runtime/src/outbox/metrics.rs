//! The series of the outbox.

use crate::observability::metrics::{Counter, Gauge, Registry};

/// The outbox's families.
#[derive(Debug, Clone)]
pub struct OutboxMetrics {
    /// Events that the stream does not hold yet.
    pub pending: Gauge,
    /// Bytes that they take of the database's disk.
    pub pending_bytes: Gauge,
    /// Events that the stream acknowledged.
    pub published: Counter,
}

impl OutboxMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let (pending, pending_bytes) = (Gauge::default(), Gauge::default());
        let metrics = Self { pending, pending_bytes, published: Counter::default() };
        registry.register(
            "outbox_pending",
            "Events not yet acknowledged by the stream",
            metrics.pending.clone(),
        );
        registry.register(
            "outbox_pending_bytes",
            "What events not yet acknowledged by the stream take of the database's disk",
            metrics.pending_bytes.clone(),
        );
        registry.register("outbox_published", "Events acknowledged by the stream", metrics.published.clone());
        metrics
    }
}
