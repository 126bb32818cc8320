//! The series of flags. Their labels are names of flags, which administrators make, at most a thousand.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::FeatureFlagService;
use crate::observability::metrics::{Counter, Registry};

/// Counts changes and loads.
#[derive(Debug, Clone)]
pub struct FlagMetrics {
    changes: Counter,
    failures: Counter,
    /// The last load that succeeded; at the beginning, the start.
    loaded: Arc<Mutex<Instant>>,
}

impl FlagMetrics {
    /// Registers the families of the flags that `service` answers.
    pub fn register(registry: &mut Registry, service: FeatureFlagService) -> Self {
        let metrics = Self {
            changes: Counter::default(),
            failures: Counter::default(),
            loaded: Arc::new(Mutex::new(Instant::now())),
        };
        registry.register("feature_flag_changes", "Flags that were found changed", metrics.changes.clone());
        registry.register(
            "feature_flag_load_failures",
            "Attempts to read the flags that failed",
            metrics.failures.clone(),
        );
        let loaded = metrics.loaded.clone();
        registry.register_collector(Box::new(FlagCollector { service, loaded }));
        metrics
    }

    pub(super) fn loaded(&self, changed: usize) {
        self.changes.inc_by(changed as u64);
        *self.loaded.lock() = Instant::now();
    }

    pub(super) fn not_loaded(&self) {
        self.failures.inc();
    }
}

/// Reads the counts when somebody scrapes.
#[derive(Debug)]
struct FlagCollector {
    service: FeatureFlagService,
    loaded: Arc<Mutex<Instant>>,
}

impl Collector for FlagCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let asked = self.service.asked();
        let count = ConstGauge::new(i64::try_from(asked.len()).unwrap_or(i64::MAX));
        let family =
            encoder.encode_descriptor("feature_flags", "Flags that are known", None, count.metric_type())?;
        count.encode(family)?;
        let age = ConstGauge::new(self.loaded.lock().elapsed().as_secs_f64());
        let help = "Seconds since the flags were read last, or since the start";
        age.encode(encoder.encode_descriptor("feature_flags_age_seconds", help, None, MetricType::Gauge)?)?;
        if asked.is_empty() {
            return Ok(());
        }
        let help = "How often each flag was asked for, and answered how";
        let mut family =
            encoder.encode_descriptor("feature_flag_evaluations", help, None, MetricType::Counter)?;
        for asked in asked {
            for (result, count) in [("off", asked.off), ("on", asked.on)] {
                let labels = [("flag", asked.flag.as_str()), ("result", result)];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
