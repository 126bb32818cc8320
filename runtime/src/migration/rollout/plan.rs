//! What a rollout is to do, as operators write it and the database keeps it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::error::ErrorKind;
use crate::feature_flags::{self, FeatureFlag};
use crate::migration::strategy::MigrationConfig;

/// A step of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledStep {
    /// On for so many of a hundred users.
    pub percentage: u8,
    /// For how long this is watched.
    #[serde(with = "humantime_serde")]
    pub watch: Duration,
}

/// What happens when a step is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Off for everybody.
    #[default]
    Rollback,
    /// Back to the step before, until somebody says `advance`.
    Pause,
}

/// A plan. Fields that a newer server knows are left alone by an older one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// The flag of the new code.
    pub flag: String,
    /// Migrations of the database that have to be in place: number, name or file.
    pub db_migrations: Vec<String>,
    /// Users who get the feature first; without any there is no canary.
    pub canary_users: Vec<String>,
    /// For how long the canary is watched.
    #[serde(with = "humantime_serde")]
    pub canary_watch: Duration,
    /// Ascending, the last one 100.
    pub schedule: Vec<ScheduledStep>,
    /// `error_rate` and `p99_latency`, of which at least one.
    pub health_metrics: Vec<String>,
    /// An error rate above this is unhealthy, 0 to 1.
    pub error_threshold: f64,
    /// A p99 above this is unhealthy, milliseconds.
    pub p99_threshold_ms: f64,
    /// How much worse those with the feature may do than those without.
    pub control_factor: f64,
    /// Fewer requests than this tell nothing.
    pub samples_min: u64,
    /// How often health is looked at.
    #[serde(with = "humantime_serde")]
    pub poll_interval: Duration,
    /// Requests of so long ago are looked at, if the step is as old.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// For how long a step that is over waits for enough requests, before it has failed.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// Whether each step waits for somebody to say `advance`.
    pub manual: bool,
    /// What happens when a step is not healthy.
    pub on_failure: OnFailure,
}

impl Default for Plan {
    fn default() -> Self {
        let config = MigrationConfig::default();
        let step = |&(percentage, watch): &(u8, Duration)| ScheduledStep { percentage, watch };
        Self {
            flag: String::new(),
            db_migrations: Vec::new(),
            canary_users: Vec::new(),
            canary_watch: config.canary_wait,
            schedule: config.rollout_schedule.iter().map(step).collect(),
            health_metrics: config.health_metrics,
            error_threshold: config.error_threshold,
            p99_threshold_ms: config.p99_threshold_ms,
            control_factor: config.control_factor,
            samples_min: config.samples_min,
            poll_interval: config.poll_interval,
            window: Duration::from_secs(60),
            patience: Duration::from_secs(30 * 60),
            manual: false,
            on_failure: OnFailure::Rollback,
        }
    }
}

/// The longest wait of any kind.
const WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// Samples are kept for an hour.
const WINDOW_MAX: Duration = Duration::from_secs(50 * 60);
const STEPS_MAX: usize = 101;

impl Plan {
    /// Reads a plan in JSON.
    ///
    /// # Errors
    /// What is no JSON, which key is not known, and as [`check`](Self::check).
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let bad = |message: String| Error::of_kind(ErrorKind::BadInput, message);
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|error| bad(format!("no JSON: {error}")))?;
        let known = serde_json::to_value(Self::default()).map_err(|error| bad(error.to_string()))?;
        let unknown = value.as_object().into_iter().flatten().find(|(key, _)| known.get(key).is_none());
        if let Some((key, _)) = unknown {
            let keys: Vec<&str> =
                known.as_object().into_iter().flat_map(|all| all.keys().map(String::as_str)).collect();
            return Err(bad(format!("a plan has no key {key:?}: it has {}", keys.join(", "))));
        }
        let plan: Self = serde_json::from_value(value).map_err(|error| bad(error.to_string()))?;
        plan.check()?;
        Ok(plan)
    }

    /// The rules of the orchestrator for it.
    pub fn config(&self) -> MigrationConfig {
        MigrationConfig {
            feature_flag: self.flag.clone(),
            db_migrations: self.db_migrations.clone(),
            canary_users: self.canary_users.clone(),
            rollout_schedule: self.schedule.iter().map(|step| (step.percentage, step.watch)).collect(),
            health_metrics: self.health_metrics.clone(),
            error_threshold: self.error_threshold,
            p99_threshold_ms: self.p99_threshold_ms,
            control_factor: self.control_factor,
            samples_min: self.samples_min,
            canary_wait: self.canary_watch,
            poll_interval: self.poll_interval,
        }
    }

    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |message: String| Err(Error::of_kind(ErrorKind::BadInput, message));
        self.config().check()?;
        let flag = FeatureFlag {
            name: self.flag.clone(),
            user_allowlist: self.canary_users.iter().cloned().collect(),
            ..FeatureFlag::default()
        };
        if let Err(problems) = feature_flags::check(&flag) {
            return bad(problems
                .replace("name is", "flag is")
                .replace("user_allowlist is", "canary_users is"));
        }
        if self.schedule.len() > STEPS_MAX {
            return bad(format!("schedule has {} steps: at most {STEPS_MAX}", self.schedule.len()));
        }
        if self.samples_min == 0 {
            return bad("samples_min is 0: it must be 1 or more, nothing is known of no request".to_owned());
        }
        let watch = |step: &ScheduledStep| ("schedule.watch", step.watch, WAIT_MAX);
        let waits = self.schedule.iter().map(watch).chain([
            ("canary_watch", self.canary_watch, WAIT_MAX),
            ("poll_interval", self.poll_interval, WINDOW_MAX),
            ("patience", self.patience, WAIT_MAX),
            ("window", self.window, WINDOW_MAX),
        ]);
        for (field, value, most) in waits {
            if value > most {
                let (value, most) = (humantime::format_duration(value), humantime::format_duration(most));
                return bad(format!("{field} is {value}: it must be at most {most}"));
            }
        }
        if self.window < Duration::from_secs(1) {
            return bad(format!(
                "window is {}: it must be at least 1s",
                humantime::format_duration(self.window)
            ));
        }
        Ok(())
    }

    /// The step after this percentage.
    pub fn step_after(&self, percentage: u8) -> Option<ScheduledStep> {
        self.schedule.iter().copied().find(|step| step.percentage > percentage)
    }
}
