//! Flags of the database, as this server knows them: read whenever the database says that one was changed, and every now and
//! then, for what was said while nobody heard.
//!
//! Promises: a change is seen by every server within the poll interval, and at once where NOTIFY is heard; a database that is
//! away leaves the flags as they were known last; one without tables for flags, which nobody has migrated yet, means that all
//! are off, is told once, and stops nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::{NOT_MIGRATED, is_not_migrated};
use super::metrics::FlagMetrics;
use super::store::{Expected, FlagStore, Stored};
use super::{Error, FeatureFlag, FeatureFlagProvider, FeatureFlagService};
use crate::error::chain;

/// The flags of a database. Clones share them.
#[derive(Clone)]
pub struct StoredFlags {
    /// Answers; never asks the database.
    pub service: FeatureFlagService,
    /// Reads and writes.
    pub store: FlagStore,
    inner: Arc<Inner>,
}

struct Inner {
    poll_interval: Duration,
    metrics: FlagMetrics,
    asked: Notify,
    /// One load at a time, so that an older one does not overwrite a newer one.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// How the last load ended, so that each change is told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NotYet,
    Loaded,
    NotMigrated,
    Away,
}

impl StoredFlags {
    /// Knows no flags until [`load`](Self::load) or [`follow`](Self::follow).
    pub fn new(
        service: FeatureFlagService,
        store: FlagStore,
        poll_interval: Duration,
        metrics: FlagMetrics,
    ) -> Self {
        let (asked, turn, state) = (Notify::new(), tokio::sync::Mutex::default(), Mutex::new(State::NotYet));
        Self { service, store, inner: Arc::new(Inner { poll_interval, metrics, asked, turn, state }) }
    }

    /// Reads the flags now. What cannot be read is told in the log, once, and leaves the flags as they were.
    pub async fn load(&self) {
        let _turn = self.inner.turn.lock().await;
        let state = match self.store.all().await {
            Ok(all) => {
                let changed = self.service.replace(all.into_iter().map(|stored| stored.flag).collect());
                self.inner.metrics.loaded(changed);
                State::Loaded
            }
            Err(error) if is_not_migrated(&error) => {
                self.inner.metrics.not_loaded();
                self.tell(State::NotMigrated, || tracing::warn!("all flags are off: {NOT_MIGRATED}"));
                return;
            }
            Err(error) => {
                self.inner.metrics.not_loaded();
                let known = self.service.flags().len();
                self.tell(State::Away, || {
                    tracing::warn!(error = %chain(&error), known, "flags cannot be read, they stay as they are known");
                });
                return;
            }
        };
        let flags = self.service.flags().len();
        self.tell(state, || tracing::info!(flags, "flags are read"));
    }

    fn tell(&self, state: State, tell: impl FnOnce()) {
        if std::mem::replace(&mut *self.inner.state.lock(), state) != state {
            tell();
        }
    }

    /// Has [`follow`](Self::follow) read them soon.
    pub fn ask(&self) {
        self.inner.asked.notify_one();
    }

    /// Reads them every now and then, and whenever somebody asks. Runs until `cancel`.
    pub async fn follow(&self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.load() => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.inner.asked.notified() => {}
                () = tokio::time::sleep(self.inner.poll_interval) => {}
            }
        }
    }

    /// As [`FlagStore::put`]; it holds here when this returns.
    ///
    /// # Errors
    /// As there.
    pub async fn put(&self, flag: &FeatureFlag, expected: Expected, actor: &str) -> Result<Stored, Error> {
        let stored = self.store.put(flag, expected, actor).await?;
        self.load().await;
        Ok(stored)
    }

    /// As [`FlagStore::edit`]; it holds here when this returns.
    ///
    /// # Errors
    /// As there.
    pub async fn edit(
        &self,
        name: &str,
        actor: &str,
        edit: impl Fn(&mut FeatureFlag),
    ) -> Result<Stored, Error> {
        let stored = self.store.edit(name, actor, edit).await?;
        self.load().await;
        Ok(stored)
    }

    /// As [`FlagStore::delete`]; it holds here when this returns.
    ///
    /// # Errors
    /// As there.
    pub async fn delete(&self, name: &str, expected: Expected, actor: &str) -> Result<(), Error> {
        self.store.delete(name, expected, actor).await?;
        self.load().await;
        Ok(())
    }
}

/// Whoever drives flags through the trait.
const ACTOR: &str = "rollout";

#[async_trait]
impl FeatureFlagProvider for StoredFlags {
    async fn set_percentage(&self, flag: &str, percentage: u8) -> Result<(), Error> {
        let percentage = percentage.min(100);
        self.edit(flag, ACTOR, |flag| flag.percentage = percentage).await?;
        tracing::info!(flag, percentage, "Feature flag percentage updated");
        Ok(())
    }

    async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), Error> {
        self.edit(flag, ACTOR, |flag| flag.user_allowlist = users.iter().cloned().collect()).await.map(drop)
    }

    async fn turn_off(&self, flag: &str) -> Result<(), Error> {
        self.edit(flag, ACTOR, FeatureFlag::turn_off).await.map(drop)
    }

    async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, Error> {
        Ok(self.service.is_on(flag, user))
    }
}
