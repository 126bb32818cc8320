//! Takes one step after the other.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::MigrationConfig;
use super::gate::{Cohort, Health, Reading, judge};
use super::{AppliedMigrations, FeatureFlagProvider, MetricsProvider, MigrationError, MigrationPhase};

/// Drives one feature. Steps and rollback may be called from different tasks.
pub struct MigrationOrchestrator {
    config: MigrationConfig,
    flags: Arc<dyn FeatureFlagProvider>,
    metrics: Arc<dyn MetricsProvider>,
    applied: Option<Arc<dyn AppliedMigrations>>,
    phase: Mutex<MigrationPhase>,
    /// Counts rollbacks.
    rollbacks: watch::Sender<u64>,
    /// One step at a time.
    turn: tokio::sync::Mutex<()>,
}

/// Rollbacks since a step was asked for.
type Rollbacks = watch::Receiver<u64>;

impl MigrationOrchestrator {
    /// Begins in [`MigrationPhase::Deploy`]; what is wrong with `config` is told by the first step.
    pub fn new(
        config: MigrationConfig,
        feature_flags: Arc<dyn FeatureFlagProvider>,
        metrics: Arc<dyn MetricsProvider>,
    ) -> Self {
        Self {
            config,
            flags: feature_flags,
            metrics,
            applied: None,
            phase: Mutex::new(MigrationPhase::Deploy),
            rollbacks: watch::Sender::new(0),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Looks for `db_migrations` here before the canary begins; else they are only logged.
    #[must_use]
    pub fn with_applied(mut self, applied: Arc<dyn AppliedMigrations>) -> Self {
        self.applied = Some(applied);
        self
    }

    /// Begins where an earlier one was.
    #[must_use]
    pub fn resumed_at(self, phase: MigrationPhase) -> Self {
        *self.phase.lock() = phase;
        self
    }

    /// Where it is.
    pub fn phase(&self) -> MigrationPhase {
        *self.phase.lock()
    }

    /// Takes the next step and watches it for as long as it says. Whoever drops the future leaves the step half done: the
    /// next call takes it again.
    ///
    /// # Errors
    /// The phase stays then, and what the step had turned on is off again.
    pub async fn advance(&self) -> Result<MigrationPhase, MigrationError> {
        // Before the turn: a rollback that comes while others have theirs is meant for this step too.
        let mut rollbacks = self.rollbacks.subscribe();
        let _turn = self.turn.lock().await;
        if rollbacks.has_changed().unwrap_or(true) {
            return Err(MigrationError::Interrupted);
        }
        self.config.check()?;
        let next = self.step(self.phase(), &mut rollbacks).await?;
        *self.phase.lock() = next;
        Ok(next)
    }

    /// Turns the feature off for everybody, whatever is going on, and begins again. Can be repeated.
    ///
    /// # Errors
    /// When the flag cannot be set: call it again. From the cleanup on it is refused, since the old code may be gone.
    pub async fn rollback(&self) -> Result<(), MigrationError> {
        let (feature, phase) = (&self.config.feature_flag, self.phase());
        if matches!(phase, MigrationPhase::Cleanup | MigrationPhase::Complete) {
            return Err(MigrationError::TooLate { phase: format!("{phase:?}").to_lowercase() });
        }
        tracing::warn!(feature, ?phase, "Migration: Emergency rollback initiated");
        self.rollbacks.send_modify(|count| *count += 1);
        // Off at once, and again when the step that was interrupted has taken back what it did.
        self.off().await?;
        let _turn = self.turn.lock().await;
        self.off().await?;
        *self.phase.lock() = MigrationPhase::Deploy;
        Ok(())
    }

    async fn off(&self) -> Result<(), MigrationError> {
        Ok(self.flags.turn_off(&self.config.feature_flag).await?)
    }

    async fn step(
        &self,
        phase: MigrationPhase,
        rollbacks: &mut Rollbacks,
    ) -> Result<MigrationPhase, MigrationError> {
        let feature = &self.config.feature_flag;
        match phase {
            MigrationPhase::Deploy => {
                tracing::info!(feature, "Migration: Deploy phase - new code deployed with feature flag off");
                Ok(MigrationPhase::Migrate)
            }
            MigrationPhase::Migrate => {
                self.migrations_are_applied().await?;
                // Who begins while it burns cannot tell the feature's fire from the old one.
                self.stays_healthy("migrate", Duration::ZERO, rollbacks).await?;
                Ok(MigrationPhase::Canary)
            }
            MigrationPhase::Canary => {
                let users = &self.config.canary_users;
                tracing::info!(
                    feature,
                    users = users.len(),
                    "Migration: Canary phase - enabling for canary users"
                );
                self.flags.set_users(feature, users).await?;
                let healthy = self.stays_healthy("canary", self.config.canary_wait, rollbacks).await;
                if let Err(error) = healthy {
                    self.flags.set_users(feature, &[]).await?;
                    return Err(error);
                }
                Ok(MigrationPhase::Rollout { percentage: 0 })
            }
            MigrationPhase::Rollout { percentage } => {
                let Some((next, wait)) = self.config.step_after(percentage) else {
                    return Ok(MigrationPhase::Cleanup);
                };
                tracing::info!(
                    feature,
                    percentage = next,
                    "Migration: Rollout phase - increasing the percentage"
                );
                self.flags.set_percentage(feature, next).await?;
                let healthy = self.stays_healthy(&format!("rollout_{next}%"), wait, rollbacks).await;
                if let Err(error) = healthy {
                    self.flags.set_percentage(feature, percentage).await?;
                    return Err(error);
                }
                Ok(if next == 100 {
                    MigrationPhase::Cleanup
                } else {
                    MigrationPhase::Rollout { percentage: next }
                })
            }
            MigrationPhase::Cleanup => {
                tracing::info!(feature, "Migration: Cleanup phase - the old code can be removed");
                Ok(MigrationPhase::Complete)
            }
            MigrationPhase::Complete => Ok(MigrationPhase::Complete),
        }
    }

    async fn migrations_are_applied(&self) -> Result<(), MigrationError> {
        tracing::info!(
            feature = self.config.feature_flag,
            "Migration: Migrate phase - looking for database migrations"
        );
        for migration in &self.config.db_migrations {
            tracing::info!(migration, "Running migration");
            if let Some(applied) = &self.applied
                && !applied.is_applied(migration).await?
            {
                return Err(MigrationError::NotApplied(migration.clone()));
            }
        }
        Ok(())
    }

    /// Looks at the service for `wait`, at the beginning and at the end too. Too little known is waited out, and not healthy
    /// at the end.
    async fn stays_healthy(
        &self,
        phase: &str,
        wait: Duration,
        rollbacks: &mut Rollbacks,
    ) -> Result<(), MigrationError> {
        let end = Instant::now() + wait;
        let failed = || Err(MigrationError::HealthCheckFailed { phase: phase.to_owned() });
        loop {
            let is_end = Instant::now() >= end;
            match judge(&self.config, &self.reading().await?) {
                Health::Healthy if is_end => return Ok(()),
                Health::Unknown if is_end => {
                    tracing::warn!(phase, "Migration health check failed: too few requests to judge");
                    return failed();
                }
                Health::Healthy | Health::Unknown => {}
                Health::Unhealthy { metric: "error_rate", value, threshold } => {
                    let error_rate = value;
                    tracing::warn!(
                        phase,
                        error_rate,
                        threshold,
                        "Migration health check failed: error rate too high"
                    );
                    return failed();
                }
                Health::Unhealthy { metric, value, threshold } => {
                    tracing::warn!(phase, metric, value, threshold, "Migration health check failed");
                    return failed();
                }
            }
            tokio::select! {
                // The sender lives as long as we do.
                _ = rollbacks.changed() => return Err(MigrationError::Interrupted),
                () = tokio::time::sleep_until(end.min(Instant::now() + self.config.poll_interval)) => {}
            }
        }
    }

    async fn reading(&self) -> Result<Reading, MigrationError> {
        let cohort = Cohort {
            error_rate: self.metrics.get_error_rate().await?,
            p99_latency_ms: self.metrics.get_p99_latency().await?,
        };
        let samples = self.metrics.get_sample_size().await?;
        Ok(Reading { cohort, samples, control: self.metrics.get_control().await? })
    }
}
