//! `[health]`: how often and how patiently the dependencies are asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// From the start of one round to the start of the next.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// A check that has not answered by then is unhealthy.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), timeout: Duration::from_secs(2) }
    }
}

impl Health {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.duration("interval", self.interval, "10ms", "5m");
        checks.duration("timeout", self.timeout, "1ms", "1m");
    }
}
