//! The series of the outbox.

use crate::observability::metrics::{Counter, Gauge, Registry};

/// The outbox's families.
#[derive(Debug, Clone)]
pub struct OutboxMetrics {
    /// Events that the stream does not hold yet.
    pub pending: Gauge,
    /// Events that the stream acknowledged.
    pub published: Counter,
}

impl OutboxMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { pending: Gauge::default(), published: Counter::default() };
        registry.register(
            "outbox_pending",
            "Events not yet acknowledged by the stream",
            metrics.pending.clone(),
        );
        registry.register("outbox_published", "Events acknowledged by the stream", metrics.published.clone());
        metrics
    }
}
