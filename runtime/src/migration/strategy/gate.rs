//! Whether the service does well enough for the next step. Pure.

use super::config::{ERROR_RATE, MigrationConfig, P99_LATENCY};

/// How a group of users does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cohort {
    /// Requests that failed over all; NaN when there was none.
    pub error_rate: f64,
    /// Milliseconds; NaN when there was none.
    pub p99_latency_ms: f64,
}

/// What was read at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Those with the feature.
    pub cohort: Cohort,
    /// Requests of these, where they are counted.
    pub samples: Option<u64>,
    /// Those without, where they can be told apart.
    pub control: Option<Cohort>,
}

/// What follows from it.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    /// Go on.
    Healthy,
    /// Too little is known: wait, and go back if that does not change.
    Unknown,
    /// Go back.
    Unhealthy {
        /// Which metric.
        metric: &'static str,
        /// What it was.
        value: f64,
        /// What it may be.
        threshold: f64,
    },
}

/// Judges a reading. A value equal to its threshold is healthy.
pub fn judge(config: &MigrationConfig, reading: &Reading) -> Health {
    if reading.samples.is_some_and(|samples| samples < config.samples_min) {
        return Health::Unknown;
    }
    let watched = |name: &str| config.health_metrics.iter().any(|metric| metric == name);
    let control = reading.control.unwrap_or(Cohort { error_rate: f64::NAN, p99_latency_ms: f64::NAN });
    let metrics = [
        (ERROR_RATE, reading.cohort.error_rate, config.error_threshold, control.error_rate),
        (P99_LATENCY, reading.cohort.p99_latency_ms, config.p99_threshold_ms, control.p99_latency_ms),
    ];
    let mut unknown = false;
    for (metric, value, limit, beside) in metrics.into_iter().filter(|(metric, ..)| watched(metric)) {
        if value.is_nan() {
            unknown = true;
            continue;
        }
        // A control without a single error would make the first one fatal: the limit itself is always allowed to it.
        let threshold = if beside > 0.0 { limit.min(beside * config.control_factor) } else { limit };
        if value > threshold {
            return Health::Unhealthy { metric, value, threshold };
        }
    }
    if unknown { Health::Unknown } else { Health::Healthy }
}
