//! The series of the security monitor. The `xzepr_*` names are those that the seed's alerts ask for; each is one event of
//! `security_events_total`, counted at the same place; `xzepr_rate_limit_rejections_total` is
//! among those of the limits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::SecurityEvent;
use crate::clock::Clock;
use crate::observability::metrics::{Counter, Family, Gauge, Histogram, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    event: &'static str,
}

/// The families.
#[derive(Debug, Clone)]
pub(super) struct MonitorMetrics {
    counters: [Counter; SecurityEvent::ALL.len()],
    /// Callers with too many offences in the last minute.
    pub(super) suspicious: Gauge,
    /// Time to find out who calls.
    pub(super) check_duration: Histogram,
}

impl MonitorMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let events = Family::<EventLabels, Counter>::default();
        let counters =
            SecurityEvent::ALL.map(|event| events.get_or_create_owned(&EventLabels { event: event.label() }));
        let check_duration = Histogram::new([1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2]);
        let metrics = Self { counters, suspicious: Gauge::default(), check_duration };
        registry.register("security_events", "Security events by kind", events);
        for (name, help, event) in [
            ("xzepr_auth_failures", "Callers who showed a key that nobody has", SecurityEvent::AuthFailure),
            ("xzepr_auth_success", "Callers who showed who they are", SecurityEvent::AuthSuccess),
            ("xzepr_cors_violations", "Requests of a foreign origin", SecurityEvent::CorsViolation),
            ("xzepr_validation_errors", "Requests that are not valid", SecurityEvent::ValidationError),
            (
                "xzepr_graphql_complexity_violations",
                "Operations that ask for too much",
                SecurityEvent::ComplexityViolation,
            ),
        ] {
            registry.register(name, help, metrics.counter(event).clone());
        }
        registry.register(
            "security_suspicious_clients",
            "Callers with twenty offences or more within a minute",
            metrics.suspicious.clone(),
        );
        registry.register(
            "security_check_duration_seconds",
            "Time to find out who calls",
            metrics.check_duration.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, event: SecurityEvent) {
        self.counter(event).inc();
    }

    fn counter(&self, event: SecurityEvent) -> &Counter {
        &self.counters[event as usize]
    }
}

/// A caller is active for so long after a request.
const ACTIVE: Duration = Duration::from_secs(300);
/// Callers that are counted at most.
const USERS_MAX: usize = 100_000;

/// Who was there.
#[derive(Debug)]
pub(super) struct Users {
    seen: Mutex<HashMap<Box<str>, Instant>>,
    clock: Arc<dyn Clock>,
}

impl Users {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { seen: Mutex::default(), clock }
    }

    pub(super) fn seen(&self, user: &str) {
        let (now, mut seen) = (self.clock.now(), self.seen.lock());
        if let Some(last) = seen.get_mut(user) {
            *last = now;
        } else if seen.len() < USERS_MAX {
            seen.insert(user.into(), now);
        }
    }

    /// How many were there in the last five minutes; forgets the others.
    pub(super) fn active(&self) -> usize {
        let (now, mut seen) = (self.clock.now(), self.seen.lock());
        seen.retain(|_, last| now.saturating_duration_since(*last) < ACTIVE);
        seen.len()
    }
}

/// `active_users`, counted when somebody scrapes.
#[derive(Debug)]
pub(super) struct ActiveUsers(Arc<Users>);

impl ActiveUsers {
    pub(super) fn new(users: Arc<Users>) -> Self {
        Self(users)
    }
}

impl Collector for ActiveUsers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::try_from(self.0.active()).unwrap_or(i64::MAX));
        let help = "Callers who were known by their key in the last five minutes.";
        gauge.encode(encoder.encode_descriptor("active_users", help, None, MetricType::Gauge)?)
    }
}
