//! A feature comes to its users in steps: deployed and off, migrated, for a few, for more, for all.
//!
//! Promises: no step is taken while the service is unhealthy, and health is looked at throughout a step, not at its end; what
//! a failed step had turned on is turned off again before the error is told; a rollback interrupts whatever waits and can be
//! repeated. "Nobody asked" is not healthy. Its state is in memory; [`rollout`](super::rollout) keeps it.

mod config;
mod gate;
mod orchestrator;
pub mod store;
#[cfg(test)]
mod tests;

pub use config::MigrationConfig;
pub use gate::{Cohort, Health, Reading, judge};
pub use orchestrator::MigrationOrchestrator;

pub use crate::feature_flags::FeatureFlagProvider;

use async_trait::async_trait;

use crate::feature_flags;

/// Where a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPhase {
    /// New code is deployed, its flag is off.
    Deploy,
    /// The schema is being migrated, compatibly with the old code.
    Migrate,
    /// On for the canary users.
    Canary,
    /// On for so many of a hundred users.
    Rollout {
        /// 0 to 99.
        percentage: u8,
    },
    /// On for all; the old code can go, in a change of its own.
    Cleanup,
    /// Over.
    Complete,
}

/// Why a step was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// The service was not healthy in a step, which was taken back.
    #[error("Health check failed in phase: {phase}")]
    HealthCheckFailed {
        /// The step.
        phase: String,
    },
    /// The flag could not be read or set.
    #[error("Feature flag error: {0}")]
    FeatureFlag(String),
    /// The service's health could not be read.
    #[error("Metrics error: {0}")]
    Metrics(String),
    /// The configuration cannot lead to an end.
    #[error("Configuration error: {0}")]
    Config(String),
    /// A migration of the database that the feature needs is not in place.
    #[error("Database migration is not applied: {0}")]
    NotApplied(String),
    /// There is nothing to go back to: the old code may be gone.
    #[error(
        "Rollback refused in phase {phase}: the old code may be gone, turn the flag off yourself if it is not"
    )]
    TooLate {
        /// Where it is.
        phase: String,
    },
    /// A rollback interrupted the step.
    #[error("Interrupted by a rollback")]
    Interrupted,
}

impl From<feature_flags::Error> for MigrationError {
    fn from(error: feature_flags::Error) -> Self {
        Self::FeatureFlag(error.to_string())
    }
}

/// How the service does, of those whom the feature is on for where that can be told apart.
#[async_trait]
pub trait MetricsProvider: Send + Sync {
    /// Requests that failed over all, 0 to 1; NaN when there was none.
    async fn get_error_rate(&self) -> Result<f64, MigrationError>;

    /// Milliseconds within which 99 of 100 requests were answered; NaN when there was none.
    async fn get_p99_latency(&self) -> Result<f64, MigrationError>;

    /// How many requests these two are of; `None` where nobody counts.
    async fn get_sample_size(&self) -> Result<Option<u64>, MigrationError> {
        Ok(None)
    }

    /// The same of those whom the feature is off for, at the same time; `None` where they cannot be told apart.
    async fn get_control(&self) -> Result<Option<Cohort>, MigrationError> {
        Ok(None)
    }
}

/// Which migrations of the database are in place.
#[async_trait]
pub trait AppliedMigrations: Send + Sync {
    /// Whether this one is, by the name of its file or the number it begins with.
    async fn is_applied(&self, migration: &str) -> Result<bool, MigrationError>;
}
