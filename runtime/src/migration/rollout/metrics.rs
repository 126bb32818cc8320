//! The series of rollouts. Their labels are names of flags that administrators began a rollout of.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::machine::{Rollout, percentage, word};
use super::samples::Samples;
use crate::observability::metrics::{Counter, Family, Gauge, Registry};

/// Why a feature was turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Cause {
    /// The gate found it unhealthy.
    gate,
    /// Somebody asked.
    request,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RollbackLabels {
    cause: Cause,
}

/// A rollout as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    feature: String,
    phase: &'static str,
    status: &'static str,
    /// What is being watched, else what was reached.
    percentage: u8,
}

impl View {
    /// Of a rollout.
    pub fn of(rollout: &Rollout) -> Self {
        let reached = percentage(rollout.phase);
        Self {
            feature: rollout.plan.flag.clone(),
            phase: word(rollout.phase),
            status: rollout.status.word(),
            percentage: rollout.step.map_or(reached, |step| step.to),
        }
    }
}

/// What the gate saw last: error rate and p99 in milliseconds of both sides; off, on.
type Gates = BTreeMap<String, [(f64, f64); 2]>;

#[derive(Debug, Default)]
struct Shown {
    rollouts: Mutex<Vec<View>>,
    gates: Mutex<Gates>,
}

/// The families.
#[derive(Debug, Clone)]
pub struct RolloutMetrics {
    leader: Gauge,
    rollbacks: Family<RollbackLabels, Counter>,
    shown: Arc<Shown>,
}

impl RolloutMetrics {
    /// Registers the families with their series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { leader: Gauge::default(), rollbacks: Family::default(), shown: Arc::default() };
        for cause in [Cause::gate, Cause::request] {
            metrics.rollbacks.get_or_create(&RollbackLabels { cause }).inc_by(0);
        }
        registry.register(
            "rollout_leader",
            "Whether this server takes the steps of rollouts",
            metrics.leader.clone(),
        );
        registry.register(
            "rollout_rollbacks",
            "Features that this server turned off",
            metrics.rollbacks.clone(),
        );
        registry.register_collector(Box::new(RolloutCollector(metrics.shown.clone())));
        metrics
    }

    /// Says whether this server leads; answers whether it did before.
    pub(super) fn leads(&self, leads: bool) -> bool {
        self.leader.set(i64::from(leads)) != 0
    }

    pub(super) fn rolled_back(&self, cause: Cause) {
        self.rollbacks.get_or_create(&RollbackLabels { cause }).inc();
    }

    pub(super) fn looked(&self, feature: &str, samples: &Samples) {
        let of = |sample: &crate::feature_flags::cohorts::Sample| (sample.error_rate(), sample.p99_ms());
        self.shown.gates.lock().insert(feature.to_owned(), [of(&samples.off), of(&samples.on)]);
    }

    pub(super) fn show(&self, rollouts: Vec<View>) {
        let running =
            |feature: &str| rollouts.iter().any(|view| view.feature == feature && view.status == "running");
        self.shown.gates.lock().retain(|feature, _| running(feature));
        *self.shown.rollouts.lock() = rollouts;
    }
}

#[derive(Debug)]
struct RolloutCollector(Arc<Shown>);

impl Collector for RolloutCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let rollouts = self.0.rollouts.lock().clone();
        if rollouts.is_empty() {
            return Ok(());
        }
        let help = "Of a hundred users, how many the feature is on for";
        let mut family = encoder.encode_descriptor("rollout_percentage", help, None, MetricType::Gauge)?;
        for view in &rollouts {
            let labels = [("feature", view.feature.as_str())];
            ConstGauge::new(i64::from(view.percentage)).encode(family.encode_family(&labels)?)?;
        }
        let help = "The phase and the status that a rollout is in";
        let mut family = encoder.encode_descriptor("rollout_phase", help, None, MetricType::Gauge)?;
        for view in &rollouts {
            let labels = [("feature", view.feature.as_str()), ("phase", view.phase), ("status", view.status)];
            ConstGauge::new(1_i64).encode(family.encode_family(&labels)?)?;
        }
        let gates = self.0.gates.lock().clone();
        if gates.is_empty() {
            return Ok(());
        }
        let families = [
            ("rollout_gate_error_rate", "Of the requests that the gate saw last, the part that failed", 1.0),
            (
                "rollout_gate_p99_seconds",
                "Within what 99 of 100 requests that the gate saw last ended",
                1_000.0,
            ),
        ];
        for (name, help, unit) in families {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (feature, sides) in &gates {
                for (cohort, (error_rate, p99_ms)) in [("off", sides[0]), ("on", sides[1])] {
                    let value = if unit == 1.0 { error_rate } else { p99_ms / unit };
                    if value.is_finite() {
                        let labels = [("feature", feature.as_str()), ("cohort", cohort)];
                        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        Ok(())
    }
}
