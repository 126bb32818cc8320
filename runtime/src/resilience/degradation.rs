//! What works with limits now: which part, since when, why, and what stands in for it.
//!
//! Promises: each change is one log line and one step of the gauge `degraded{component}`; being told again what is known
//! costs one atomic read; a part that is degraded twice keeps the time of the first. The texts are constants, so that
//! nothing of an error (addresses, SQL) can reach a caller by this way; the cause belongs to the log of who saw it.
//! Absent on purpose: whether a part may fall back at all. Who has no fallback returns its error and is not degraded, it
//! is down.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;

use crate::clock::Clock;
use crate::observability::health::{Degradations, Degraded};
use crate::observability::metrics::{Family, Gauge, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    component: &'static str,
}

/// The series of the registry.
#[derive(Debug, Clone, Default)]
pub struct DegradationMetrics {
    degraded: Family<Labels, Gauge>,
}

impl DegradationMetrics {
    /// Registers the family.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "degraded",
            "Whether a part of the server works by its fallback",
            metrics.degraded.clone(),
        );
        metrics
    }
}

/// What is degraded now. Clones share it.
#[derive(Clone)]
pub struct Registrar {
    shared: Arc<Shared>,
}

struct Shared {
    now: Mutex<BTreeMap<&'static str, Degraded>>,
    metrics: DegradationMetrics,
    clock: Arc<dyn Clock>,
}

/// One part, which tells how it is. Clones share it.
#[derive(Clone)]
pub struct Component {
    name: &'static str,
    fallback: &'static str,
    is_degraded: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Registrar {
    /// Nothing is degraded.
    pub fn new(metrics: DegradationMetrics, clock: Arc<dyn Clock>) -> Self {
        Self { shared: Arc::new(Shared { now: Mutex::default(), metrics, clock }) }
    }

    /// A part of the server, with its series at zero. `fallback` completes the sentence "meanwhile", as
    /// "jobs are kept in the spool"; callers see both. A name is given once.
    pub fn component(&self, name: &'static str, fallback: &'static str) -> Component {
        self.shared.metrics.degraded.get_or_create(&Labels { component: name }).set(0);
        Component { name, fallback, is_degraded: Arc::default(), shared: self.shared.clone() }
    }
}

impl Degradations for Registrar {
    fn now(&self) -> Vec<Degraded> {
        self.shared.now.lock().values().cloned().collect()
    }
}

impl Component {
    /// It works by its fallback from now on. `reason` is for callers: nothing in it may be secret.
    pub fn degraded(&self, reason: &'static str) {
        let Shared { now, metrics, clock } = &*self.shared;
        let mut now = now.lock();
        let (component, fallback) = (self.name, self.fallback);
        match now.get_mut(component) {
            Some(known) if known.reason == reason => return,
            Some(known) => known.reason = reason,
            None => {
                now.insert(component, Degraded { component, reason, fallback, since: clock.utc() });
            }
        }
        self.is_degraded.store(true, Ordering::Release);
        metrics.degraded.get_or_create(&Labels { component }).set(1);
        drop(now);
        tracing::warn!(component, reason, fallback, "degraded");
    }

    /// It works as it should.
    pub fn restored(&self) {
        if !self.is_degraded.load(Ordering::Acquire) {
            return;
        }
        let Shared { now, metrics, clock } = &*self.shared;
        let mut now = now.lock();
        let Some(was) = now.remove(self.name) else { return };
        self.is_degraded.store(false, Ordering::Release);
        metrics.degraded.get_or_create(&Labels { component: self.name }).set(0);
        let seconds = (clock.utc() - was.since).num_seconds();
        drop(now);
        tracing::info!(component = self.name, reason = was.reason, seconds, "restored");
    }

    /// Whether the last that was told is that it is degraded.
    pub fn is_degraded(&self) -> bool {
        self.is_degraded.load(Ordering::Acquire)
    }
}

impl Default for Registrar {
    /// With series that nobody scrapes, for tests and tools.
    fn default() -> Self {
        Self::new(DegradationMetrics::default(), Arc::new(crate::clock::SystemClock))
    }
}

impl fmt::Debug for Registrar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registrar").field(&self.now()).finish()
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).field("degraded", &self.is_degraded()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::TestClock;
    use crate::observability::metrics::Metrics;

    #[test]
    fn the_registry_says_what_since_when_why_and_what_stands_in() {
        let (metrics, clock) = (Metrics::new(), Arc::new(TestClock::default()));
        let registry = Registrar::new(metrics.area(DegradationMetrics::register), clock.clone());
        let queue = registry.component("queue", "jobs are kept in the spool");
        let limits = registry.component("rate_limiter", "each replica limits by itself");
        assert!(metrics.classic().contains("degraded{component=\"queue\"} 0\n"), "{}", metrics.classic());
        assert_eq!(registry.now(), []);

        let since = clock.utc();
        queue.degraded("redis is away");
        clock.advance(Duration::from_secs(5));
        queue.degraded("redis is away");
        queue.degraded("redis is full");
        let (component, fallback) = ("queue", "jobs are kept in the spool");
        assert_eq!(registry.now(), [Degraded { component, reason: "redis is full", fallback, since }]);
        assert!(metrics.classic().contains("degraded{component=\"queue\"} 1\n"));

        limits.restored();
        queue.clone().restored();
        assert!(!queue.is_degraded());
        assert_eq!(registry.now(), []);
        assert!(metrics.classic().contains("degraded{component=\"queue\"} 0\n"));

        queue.degraded("redis is away");
        assert_eq!(registry.now()[0].since, since + Duration::from_secs(5), "a new time, not the old one");
    }
}
