//! The series of webhooks. Types of events are those that have a handler, and `other`: senders cannot add series.

use prometheus_client::encoding::EncodeLabelSet;

use super::store::State;
use crate::config::webhooks::{Provider, Webhooks};
use crate::observability::metrics::{Counter, Family, Gauge, Histogram, Registry, latency_histogram};

/// Why something failed, beside what [`Error::reason`](super::Error::reason) names.
pub const FAILED: &str = "failed";
const REASONS: [&str; 6] = ["unsigned", "bad_signature", "expired", "malformed", "not_kept", FAILED];
/// An event that was known already.
const DUPLICATE: &str = "duplicate";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Received {
    provider: &'static str,
    event_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Processing {
    provider: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    provider: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    provider: &'static str,
    result: &'static str,
}

/// `webhook_received_total{provider,event_type}`, `webhook_processing_duration_seconds{provider}`,
/// `webhook_failures_total{provider,reason}`, `webhook_events_total{provider,result}` and `webhook_events_waiting`.
#[derive(Debug, Clone)]
pub struct WebhookMetrics {
    /// Events that are not done with, of all servers.
    pub(super) waiting: Gauge,
    received: Family<Received, Counter>,
    processing: Family<Processing, Histogram, fn() -> Histogram>,
    failures: Family<Failure, Counter>,
    events: Family<Ended, Counter>,
}

impl WebhookMetrics {
    /// Registers the families, with the series of the webhooks there are at zero.
    pub fn register(registry: &mut Registry, webhooks: &Webhooks) -> Self {
        let metrics = Self {
            waiting: Gauge::default(),
            received: Family::default(),
            processing: Family::new_with_constructor(latency_histogram as fn() -> Histogram),
            failures: Family::default(),
            events: Family::default(),
        };
        for webhook in webhooks.0.values() {
            let provider = webhook.provider;
            let events = webhook.handlers.iter().map(|handler| handler.event.as_str());
            for event in events.chain([OTHER]) {
                metrics.count_received(provider, event, 0);
            }
            drop(metrics.processing.get_or_create_owned(&Processing { provider: provider.name() }));
            for reason in REASONS {
                metrics.failure(provider, reason).inc_by(0);
            }
            for result in State::ALL.map(State::name).into_iter().chain([DUPLICATE]) {
                metrics.event(provider, result).inc_by(0);
            }
        }
        let help = "Webhooks whose signature was right, by provider and the event's type";
        registry.register("webhook_received", help, metrics.received.clone());
        let help = "Time from the arrival of a webhook whose signature was right to its answer";
        registry.register("webhook_processing_duration_seconds", help, metrics.processing.clone());
        let help = "Webhooks that were not taken, and attempts to handle their events that failed";
        registry.register("webhook_failures", help, metrics.failures.clone());
        let help = "Webhooks that were taken, by what became of their events at once or later";
        registry.register("webhook_events", help, metrics.events.clone());
        if !webhooks.0.is_empty() {
            let help = "Events that webhooks told of and that are not done with";
            registry.register("webhook_events_waiting", help, metrics.waiting.clone());
        }
        metrics
    }

    /// Counts deliveries that were signed. `kind` is one that has a handler, else [`OTHER`].
    pub(super) fn count_received(&self, provider: Provider, kind: &str, by: u64) {
        let labels = Received { provider: provider.name(), event_type: kind.to_owned() };
        self.received.get_or_create_owned(&labels).inc_by(by);
    }

    pub(super) fn took(&self, provider: Provider, seconds: f64) {
        self.processing.get_or_create_owned(&Processing { provider: provider.name() }).observe(seconds);
    }

    pub(super) fn count_failure(&self, provider: Provider, reason: &'static str) {
        self.failure(provider, reason).inc();
    }

    pub(super) fn count_event(&self, provider: Provider, state: State) {
        self.event(provider, state.name()).inc();
    }

    pub(super) fn count_duplicate(&self, provider: Provider) {
        self.event(provider, DUPLICATE).inc();
    }

    fn failure(&self, provider: Provider, reason: &'static str) -> Counter {
        self.failures.get_or_create_owned(&Failure { provider: provider.name(), reason })
    }

    fn event(&self, provider: Provider, result: &'static str) -> Counter {
        self.events.get_or_create_owned(&Ended { provider: provider.name(), result })
    }
}

/// The type of all events that have no handler.
pub const OTHER: &str = "other";
