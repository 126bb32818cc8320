//! `[outbox]`: how events leave the database.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// How long the relay waits after it found nothing.
    #[serde(with = "units::duration")]
    pub poll_interval: Duration,
    /// Rows published in one round.
    pub batch: u32,
    /// So many events may wait for the stream; with more, whatever would add one is refused until there are fewer.
    pub max_pending: u32,
    /// So much of the database's disk they may take, with the same consequence.
    #[serde(with = "units::size")]
    pub max_bytes: ByteSize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(200),
            batch: 200,
            max_pending: 1_000_000,
            max_bytes: ByteSize::gib(1),
        }
    }
}

impl Outbox {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.duration("poll_interval", self.poll_interval, "1ms", "1m");
        checks.count("batch", u64::from(self.batch), 1..=10_000);
        checks.count("max_pending", u64::from(self.max_pending), 1..=1_000_000_000);
        checks.size("max_bytes", self.max_bytes, "1KiB", "1TiB");
    }
}
