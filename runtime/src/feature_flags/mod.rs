//! Feature flags: code that is deployed and off until somebody says for whom it is on.
//!
//! Promises: asking costs no lock and no allocation; what was changed holds for the next question; a user has the same bucket
//! on every replica and in every build, so that a rollout that grows takes nobody's feature away. An unknown flag is off.
//! What a flag answers depends on the flag, the environment, the user and the time, and is never remembered
//! (docs/decisions/0013).

mod evaluate;
mod mock;
mod service;

pub use evaluate::{bucket, evaluate};
pub use mock::MockFeatureFlagProvider;
pub use service::FeatureFlagService;

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

/// Flags as a rollout drives them.
#[async_trait]
pub trait FeatureFlagProvider: Send + Sync {
    /// Sets for how many of a hundred users the flag is on. A flag that is not known is made.
    async fn set_percentage(&self, flag: &str, percentage: u8) -> Result<(), Error>;

    /// Replaces the users that the flag is on for in any case. A flag that is not known is made.
    async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), Error>;

    /// Whether the flag is on, for a user or for nobody.
    async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, Error>;
}

/// Flags could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);
