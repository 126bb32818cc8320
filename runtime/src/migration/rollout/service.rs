//! What anybody may ask of rollouts, on any server or from the command line: it needs no leader.

use std::sync::Arc;

use chrono::DateTime;

use super::Error;
use super::machine::{Change, Rollout, Seen, Step};
use super::metrics::{Cause, RolloutMetrics, View};
use super::plan::Plan;
use super::report::Report;
use super::samples::{SampleStore, Samples};
use super::store::{RolloutStore, Stored};
use crate::error::{ErrorKind, chain};
use crate::feature_flags::cohorts::Cohorts;
use crate::migration::strategy::store::Applied;
use crate::migration::strategy::{AppliedMigrations, Health, judge};
use crate::storage::postgres::Postgres;
use uuid::Uuid;

/// How often a change is begun anew that others were faster than.
const ATTEMPTS: u32 = 16;

/// The rollouts of a database. Clones share everything.
#[derive(Clone)]
pub struct Rollouts {
    /// Their rows.
    pub store: RolloutStore,
    /// What servers counted.
    pub samples: SampleStore,
    /// Says when a leader shall look.
    pub(super) asked: Arc<tokio::sync::Notify>,
    pub(super) metrics: RolloutMetrics,
    pub(super) cohorts: Cohorts,
    applied: Arc<dyn AppliedMigrations>,
}

impl Rollouts {
    /// Those of this database; what this server counts is in `cohorts`.
    pub fn new(postgres: &Postgres, cohorts: Cohorts, metrics: RolloutMetrics) -> Self {
        Self {
            store: RolloutStore::new(postgres.clone()),
            samples: SampleStore::new(postgres.clone(), Uuid::now_v7()),
            asked: Arc::default(),
            metrics,
            cohorts,
            applied: Arc::new(Applied { postgres: postgres.clone() }),
        }
    }

    /// Lets the leader look soon, if that is this server.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Begins a rollout, with its flag off.
    ///
    /// # Errors
    /// When the plan is wrong, a migration that it needs is not applied, or there is a rollout of the flag that is neither over
    /// nor rolled back.
    pub async fn start(&self, plan: Plan, actor: &str) -> Result<Stored, Error> {
        plan.check()?;
        if let Some(missing) = self.missing(&plan).await? {
            return Err(Error::refused(format!("Database migration is not applied: {missing}")));
        }
        let feature = plan.flag.clone();
        let started = self.store.start(&Rollout::start(plan), actor).await?;
        self.ask();
        started.ok_or_else(|| {
            Error::refused(format!("there is a rollout of {feature:?} already: roll it back first"))
        })
    }

    /// Has a rollout go on that waits for that.
    ///
    /// # Errors
    /// When there is none, or it does not wait.
    pub async fn advance(&self, feature: &str, actor: &str) -> Result<Stored, Error> {
        self.change(feature, actor, Rollout::advance).await
    }

    /// Turns the feature off for everybody, whatever is going on. Can be repeated.
    ///
    /// # Errors
    /// When there is none, or the old code may be gone and it is not forced.
    pub async fn rollback(&self, feature: &str, force: bool, actor: &str) -> Result<Stored, Error> {
        let (reason, phase) = (format!("asked for by {actor}"), self.store.get(feature).await?.rollout.phase);
        tracing::warn!(feature, ?phase, "Migration: Emergency rollback initiated");
        let stored = self.change(feature, actor, |rollout| rollout.rollback(&reason, force)).await?;
        self.metrics.rolled_back(Cause::request);
        Ok(stored)
    }

    async fn change(
        &self,
        feature: &str,
        actor: &str,
        decide: impl Fn(&Rollout) -> Result<Change, Error>,
    ) -> Result<Stored, Error> {
        for _ in 0..ATTEMPTS {
            let stored = self.store.get(feature).await?;
            let change = decide(&stored.rollout)?;
            if let Some(changed) = self.store.change(stored.version, &change, None, actor).await? {
                self.ask();
                return Ok(changed);
            }
        }
        Err(Error::of_kind(ErrorKind::Unavailable, "others change it all the time: try again"))
    }

    /// What was counted of a rollout, in the window that its gate looks at.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn counted(&self, rollout: &Rollout) -> Result<Samples, Error> {
        let since = rollout.step.map_or(DateTime::UNIX_EPOCH, |step: Step| step.began);
        Ok(self.samples.read(&rollout.plan.flag, since, rollout.plan.window).await?)
    }

    /// A rollout with what its gate sees.
    ///
    /// # Errors
    /// When there is none, or the database cannot be asked.
    pub async fn report_of(&self, feature: &str) -> Result<Report, Error> {
        let stored = self.store.get(feature).await?;
        Ok(Report::new(&stored, &self.counted(&stored.rollout).await?))
    }

    /// Every rollout with what its gate sees.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn reports(&self) -> Result<Vec<Report>, Error> {
        let mut reports = Vec::new();
        for stored in self.store.all().await? {
            reports.push(Report::new(&stored, &self.counted(&stored.rollout).await?));
        }
        Ok(reports)
    }

    /// How the service does, for a look of the leader.
    pub(super) async fn seen(&self, rollout: &Rollout) -> Result<Seen, Error> {
        if !rollout.needs_health() {
            return Ok(Seen { health: Health::Unknown, missing: None });
        }
        let samples = self.counted(rollout).await?;
        let (reading, missing) = match rollout.step {
            Some(_) => (samples.with_the_flag(&rollout.plan), None),
            None => (samples.without_the_flag(), self.missing(&rollout.plan).await?),
        };
        let health = judge(&rollout.plan.config(), &reading);
        self.metrics.looked(&rollout.plan.flag, &samples);
        Ok(Seen { health, missing })
    }

    async fn missing(&self, plan: &Plan) -> Result<Option<String>, Error> {
        for migration in &plan.db_migrations {
            if !self.applied.is_applied(migration).await? {
                return Ok(Some(migration.clone()));
            }
        }
        Ok(None)
    }

    /// Hands on what this server has counted. What could not be handed on is kept.
    pub(super) async fn hand_on(&self) {
        let sides = self.cohorts.take();
        if sides.is_empty() {
            return;
        }
        if let Err(error) = self.samples.add(&sides).await {
            tracing::debug!(error = %chain(&error), "what was counted behind flags is kept for now");
            self.cohorts.give_back(&sides);
        }
    }

    /// Shows the rollouts in the metrics.
    pub(super) async fn show(&self) {
        if let Ok(all) = self.store.all().await {
            self.metrics.show(all.iter().map(|stored| View::of(&stored.rollout)).collect());
        }
    }
}
