//! `[queue]`: jobs, their workers and the spool on disk for when Redis is away.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Relative to the working directory.
    pub spool_dir: PathBuf,
    /// A full spool refuses jobs instead of filling the disk.
    #[serde(with = "units::size")]
    pub spool_max_bytes: ByteSize,
    /// A claimed job that is not acknowledged within this comes back.
    #[serde(with = "units::duration")]
    pub visibility_timeout: Duration,
    pub workers: u32,
    /// How long a worker waits after it found nothing.
    #[serde(with = "units::duration")]
    pub poll_interval: Duration,
    /// After so many claims a job goes to the dead letters.
    pub max_attempts: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            spool_dir: PathBuf::from("spool"),
            spool_max_bytes: ByteSize::mib(256),
            visibility_timeout: Duration::from_secs(10),
            workers: 2,
            poll_interval: Duration::from_millis(100),
            max_attempts: 20,
        }
    }
}

impl Queue {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        let named = !self.spool_dir.as_os_str().is_empty();
        checks.require("spool_dir", self.spool_dir.display(), named, "a folder");
        checks.size("spool_max_bytes", self.spool_max_bytes, "64KiB", "1TiB");
        checks.duration("visibility_timeout", self.visibility_timeout, "100ms", "1day");
        checks.count("workers", u64::from(self.workers), 1..=256);
        checks.duration("poll_interval", self.poll_interval, "1ms", "1m");
        checks.count("max_attempts", u64::from(self.max_attempts), 1..=1_000);
    }
}
