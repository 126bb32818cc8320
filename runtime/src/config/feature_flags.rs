//! `[feature_flags]`: where this server stands among environments, and how soon it sees a flag that was changed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureFlags {
    /// Flags that name environments are on in these alone: the one that this server is; empty: the mode's name, `production`
    /// or `development`.
    pub environment: String,
    /// How often flags are read besides whenever the database says that one was changed.
    #[serde(with = "units::duration")]
    pub poll_interval: Duration,
}

impl Default for FeatureFlags {
    fn default() -> Self {
        Self { environment: String::new(), poll_interval: Duration::from_millis(500) }
    }
}

impl FeatureFlags {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        let named = self.environment.trim() == self.environment && self.environment.len() <= 100;
        checks.require(
            "environment",
            format!("{:?}", self.environment),
            named,
            "at most 100 bytes, without spaces around",
        );
        checks.duration("poll_interval", self.poll_interval, "10ms", "1h");
    }
}
