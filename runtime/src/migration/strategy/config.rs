//! What a migration is to do, and whether that leads to an end. Pure.

use std::time::Duration;

use super::MigrationError;

/// Metrics that [`MigrationConfig::health_metrics`] may name.
pub(super) const ERROR_RATE: &str = "error_rate";
pub(super) const P99_LATENCY: &str = "p99_latency";

/// What a migration is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct MigrationConfig {
    /// The flag of the new code.
    pub feature_flag: String,
    /// Migrations of the database that have to be in place before the canary.
    pub db_migrations: Vec<String>,
    /// Users who get the feature first.
    pub canary_users: Vec<String>,
    /// Percentages in ascending order, the last one 100, and for how long each is watched before the next.
    pub rollout_schedule: Vec<(u8, Duration)>,
    /// `error_rate` and `p99_latency`, of which at least one.
    pub health_metrics: Vec<String>,
    /// An error rate above this is unhealthy, 0 to 1.
    pub error_threshold: f64,
    /// A p99 above this is unhealthy, milliseconds.
    pub p99_threshold_ms: f64,
    /// How much worse than those without the feature those with it may do: 1.5 is half as much again. Only where the two
    /// can be told apart.
    pub control_factor: f64,
    /// Fewer requests than this tell nothing, where they are counted.
    pub samples_min: u64,
    /// For how long the canary is watched.
    pub canary_wait: Duration,
    /// How often health is looked at within a step.
    pub poll_interval: Duration,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            feature_flag: String::new(),
            db_migrations: Vec::new(),
            canary_users: Vec::new(),
            rollout_schedule: vec![
                (10, seconds(300)),
                (25, seconds(600)),
                (50, seconds(1_800)),
                (100, seconds(0)),
            ],
            health_metrics: vec![ERROR_RATE.to_owned(), P99_LATENCY.to_owned()],
            error_threshold: 0.01,
            p99_threshold_ms: 500.0,
            control_factor: 2.0,
            samples_min: 100,
            canary_wait: seconds(60),
            poll_interval: seconds(5),
        }
    }
}

impl MigrationConfig {
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), MigrationError> {
        let refuse = |message: String| Err(MigrationError::Config(message));
        let steps: Vec<u8> = self.rollout_schedule.iter().map(|(percentage, _)| *percentage).collect();
        let ascends = steps.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascends || steps.first() == Some(&0) || steps.last() != Some(&100) {
            return refuse(format!(
                "rollout_schedule is {steps:?}: it must ascend from above 0 and end with 100"
            ));
        }
        let known = |name: &String| name == ERROR_RATE || name == P99_LATENCY;
        if self.health_metrics.is_empty() || !self.health_metrics.iter().all(known) {
            let names = &self.health_metrics;
            return refuse(format!(
                "health_metrics is {names:?}: it must have {ERROR_RATE} or {P99_LATENCY}, or both"
            ));
        }
        if !(0.0..=1.0).contains(&self.error_threshold) {
            return refuse(format!("error_threshold is {}: it must be 0 to 1", self.error_threshold));
        }
        for (name, value, least) in
            [("p99_threshold_ms", self.p99_threshold_ms, 0.0), ("control_factor", self.control_factor, 1.0)]
        {
            if !value.is_finite() || value < least {
                return refuse(format!("{name} is {value}: it must be a number from {least} on"));
            }
        }
        if self.poll_interval.is_zero() {
            return refuse("poll_interval is 0: it must be longer".to_owned());
        }
        Ok(())
    }

    /// The step after this percentage.
    pub(super) fn step_after(&self, percentage: u8) -> Option<(u8, Duration)> {
        self.rollout_schedule.iter().copied().find(|(step, _)| *step > percentage)
    }
}
