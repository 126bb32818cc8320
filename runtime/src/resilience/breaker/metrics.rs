//! The series of the breakers, read when somebody scrapes: an open one becomes half open by time alone.

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use std::sync::Arc;

use super::{Breaker, State};
use crate::observability::metrics::Registry;

/// `circuit_breaker_state`, `circuit_breaker_trips_total` and `circuit_breaker_refused_total` of every breaker that was
/// added. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct BreakerMetrics {
    breakers: Arc<Mutex<Vec<Breaker>>>,
}

impl BreakerMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// From now on its series are there. Each service once.
    pub fn add(&self, breaker: &Breaker) {
        self.breakers.lock().push(breaker.clone());
    }
}

impl Collector for BreakerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let breakers = self.breakers.lock().clone();
        let help = "What the circuit breaker does: 0 closed, 1 half open, 2 open";
        let mut family = encoder.encode_descriptor("circuit_breaker_state", help, None, MetricType::Gauge)?;
        for breaker in &breakers {
            let state: i64 = match breaker.state() {
                State::Closed => 0,
                State::HalfOpen => 1,
                State::Open => 2,
            };
            ConstGauge::new(state).encode(family.encode_family(&[("service", breaker.service())])?)?;
        }
        let help = "How often the circuit breaker has opened";
        let mut family =
            encoder.encode_descriptor("circuit_breaker_trips", help, None, MetricType::Counter)?;
        for breaker in &breakers {
            let labels = [("service", breaker.service())];
            ConstCounter::new(breaker.trips()).encode(family.encode_family(&labels)?)?;
        }
        let help = "Calls that were not made since the circuit breaker was open";
        let mut family =
            encoder.encode_descriptor("circuit_breaker_refused", help, None, MetricType::Counter)?;
        for breaker in &breakers {
            let labels = [("service", breaker.service())];
            ConstCounter::new(breaker.refused()).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Outcome, Settings};
    use super::*;
    use crate::clock::TestClock;
    use crate::observability::metrics::Metrics;

    #[test]
    fn state_trips_and_refusals_are_seen() {
        let (metrics, clock) = (Metrics::new(), Arc::new(TestClock::default()));
        let settings = Settings {
            failure_threshold: 1,
            window: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            forgiving: false,
        };
        let breaker = Breaker::new("oracle", settings, clock.clone());
        metrics.area(BreakerMetrics::register).add(&breaker);
        let seen = |name: &str, value: u64| {
            let text = metrics.classic();
            let line = format!("circuit_breaker_{name}{{service=\"oracle\"}} {value}\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        };
        seen("state", 0);
        breaker.ask().expect("closed").ends(Outcome::Fault);
        let _refused = breaker.ask().expect_err("open");
        seen("state", 2);
        seen("trips_total", 1);
        seen("refused_total", 1);
        clock.advance(Duration::from_secs(1));
        seen("state", 1);
        breaker.ask().expect("half open").ends(Outcome::Success);
        seen("state", 0);
    }
}
