//! Feature flags: code that is deployed and off until somebody says for whom it is on.
//!
//! Promises: asking costs no lock and no allocation; what was changed holds for the next question; a user has the same bucket
//! on every replica and in every build, so that a rollout that grows takes nobody's feature away. An unknown flag is off.
//! Where they live in the database ([`store`]), every server sees a change within a second ([`stored`]); a database that is
//! away leaves the flags as they were known last. What a flag answers depends on the flag, the environment, the user and the time, and is never remembered
//! (docs/decisions/0013).

mod check;
pub mod cohorts;
mod error;
mod evaluate;
pub mod metrics;
mod mock;
mod service;
pub mod store;
pub mod stored;

pub use check::check;
pub use error::Error;
pub use evaluate::{bucket, evaluate};
pub use mock::MockFeatureFlagProvider;
pub use service::{Asked, FeatureFlagService};

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A flag. The default is off for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureFlag {
    /// What code asks for it by.
    pub name: String,
    /// For people.
    pub description: String,
    /// On for everybody, also for those without a user.
    pub enabled: bool,
    /// On for so many of a hundred users, 0 to 100; what is above counts as 100.
    pub percentage: u8,
    /// Users it is on for, whatever `enabled` and `percentage` say.
    pub user_allowlist: HashSet<String>,
    /// Users it is off for, whatever else is said.
    pub user_denylist: HashSet<String>,
    /// Off before.
    pub start_time: Option<DateTime<Utc>>,
    /// Off after.
    pub end_time: Option<DateTime<Utc>>,
    /// Off in environments that are not in this list; empty: on in all.
    pub environments: Vec<String>,
}

impl FeatureFlag {
    /// Off for everybody, however it was on. Whom it is denied, when and where stays.
    pub fn turn_off(&mut self) {
        self.enabled = false;
        self.percentage = 0;
        self.user_allowlist.clear();
    }
}

/// Flags as a rollout drives them.
#[async_trait]
pub trait FeatureFlagProvider: Send + Sync {
    /// Sets for how many of a hundred users the flag is on. A flag that is not known is made.
    async fn set_percentage(&self, flag: &str, percentage: u8) -> Result<(), Error>;

    /// Replaces the users that the flag is on for in any case. A flag that is not known is made.
    async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), Error>;

    /// Turns it off for everybody, however it was on; a flag that is not known is made. All of it is tried before the first
    /// error is told.
    async fn turn_off(&self, flag: &str) -> Result<(), Error> {
        let (percentage, users) = (self.set_percentage(flag, 0).await, self.set_users(flag, &[]).await);
        percentage.and(users)
    }

    /// Whether the flag is on, for a user or for nobody.
    async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, Error>;
}
