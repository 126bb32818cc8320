//! One run: its id, seed, folder, ledger and the signal that ends it early. Everything a run makes lies below its
//! folder or is in its ledger.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chaos::fault::process::ProcessHandle;
use chaos::ledger::Ledger;
use tokio_util::sync::CancellationToken;

/// Shared by every part of a run; cheap to clone.
#[derive(Debug, Clone)]
pub struct Run {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: String,
    seed: u64,
    folder: PathBuf,
    ledger: Ledger,
    epoch: Instant,
    cancel: CancellationToken,
}

impl Run {
    /// Makes `folder` (and its parents) and the ledger `ledger.jsonl` in it. `cancel` is cancelled by Ctrl-C and
    /// SIGTERM: every wait in the harness also waits for it.
    pub fn create(id: String, seed: u64, folder: PathBuf, cancel: CancellationToken) -> anyhow::Result<Self> {
        use anyhow::Context;
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("create run folder {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("resolve {}", folder.display()))?;
        let pid = std::process::id() as i32;
        let start_ticks = process_start_ticks(pid).context("read the harness's own start time")?;
        let ledger = Ledger::create(&folder.join("ledger.jsonl"), &id, pid, start_ticks)?;
        Ok(Run { inner: Arc::new(Inner { id, seed, folder, ledger, epoch: Instant::now(), cancel }) })
    }

    pub fn id(&self) -> &str {
        &self.inner.id
    }

    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// Absolute path of the run folder.
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    /// Time zero of the run's only clock.
    pub fn epoch(&self) -> Instant {
        self.inner.epoch
    }

    /// Nanoseconds since [`Run::epoch`].
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.inner.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn cancel(&self) -> &CancellationToken {
        &self.inner.cancel
    }
}

/// When the process with this pid started, in clock ticks since boot; `None` when there is no such process. Together with
/// the pid it names a process for good.
pub fn process_start_ticks(pid: i32) -> Option<u64> {
    ProcessHandle::of(pid).ok().map(|handle| handle.start_ticks)
}
