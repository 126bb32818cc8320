//! The history on its way to disk: a thread of its own behind a bounded channel.
//!
//! Whoever records goes on at once while there is room; a caller that has to wait for the disk is counted, never silent. A
//! write that failed is told by [`Journal::finish`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chaos::history::{Entry, Header, Writer};
use parking_lot::{Mutex, RwLock};

use crate::run::Run;

/// Entries that may wait for the disk.
const CHANNEL: usize = 65_536;
/// How long entries gather before they are written: a thread that is woken for each of them took a quarter of the generator's
/// processor time.
const GATHER: Duration = Duration::from_millis(2);

/// How the writing fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    pub entries: u64,
    /// Entries whose caller had to wait for the disk.
    pub waited: u64,
}

/// The open `history.bin` of a run.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    entries: AtomicU64,
    waited: AtomicU64,
    channel: RwLock<Option<SyncSender<Entry>>>,
    thread: Mutex<Option<JoinHandle<anyhow::Result<()>>>>,
    failed: Mutex<Option<String>>,
}

impl Journal {
    /// Opens `history.bin` in the run's folder and starts the thread that writes it. `classes` names the operation
    /// classes in the order of their ids.
    pub fn create(run: &Run, classes: &[&str]) -> anyhow::Result<Self> {
        let path = run.folder().join("history.bin");
        let header = Header {
            version: chaos::history::VERSION,
            run: run.id().into(),
            seed: run.seed(),
            started_unix_ms: started_unix_ms(run),
            classes: classes.iter().map(|class| class.to_string()).collect(),
        };
        let writer =
            Writer::create(&path, &header).with_context(|| format!("create history {}", path.display()))?;
        let (channel, entries) = sync_channel(CHANNEL);
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || write(writer, &entries))
            .context("start the history thread")?;
        Ok(Journal {
            path,
            entries: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            channel: RwLock::new(Some(channel)),
            thread: Mutex::new(Some(thread)),
            failed: Mutex::new(None),
        })
    }

    /// Hands an entry to the thread; passed over once the file is closed.
    pub fn append(&self, entry: Entry) {
        let channel = self.channel.read();
        let Some(channel) = channel.as_ref() else { return };
        self.entries.fetch_add(1, Ordering::Relaxed);
        let Err(TrySendError::Full(entry)) = channel.try_send(entry) else { return };
        self.waited.fetch_add(1, Ordering::Relaxed);
        // The other end is gone only when writing failed, and then `finish` says so.
        let _ = channel.send(entry);
    }

    pub fn health(&self) -> Health {
        Health { entries: self.entries.load(Ordering::Relaxed), waited: self.waited.load(Ordering::Relaxed) }
    }

    /// Writes what is left, closes the file and returns its path; later calls give the same answer.
    pub fn finish(&self) -> anyhow::Result<PathBuf> {
        // Dropping the sender ends the thread once the channel is empty.
        drop(self.channel.write().take());
        if let Some(thread) = self.thread.lock().take() {
            let result = thread.join().map_err(|_| anyhow!("the history thread panicked")).flatten();
            if let Err(error) = result {
                *self.failed.lock() = Some(format!("{error:#}"));
            }
        }
        match self.failed.lock().as_ref() {
            None => Ok(self.path.clone()),
            Some(reason) => Err(anyhow!("write history {}: {reason}", self.path.display())),
        }
    }
}

fn write(mut writer: Writer, entries: &Receiver<Entry>) -> anyhow::Result<()> {
    while let Ok(first) = entries.recv() {
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            writer.append(&entry).context("append an entry")?;
        }
        std::thread::sleep(GATHER);
    }
    writer.finish().context("finish the file")
}

/// Wall clock at time zero of the run.
#[expect(clippy::disallowed_methods, reason = "a history names the wall-clock time of its zero, once")]
fn started_unix_ms(run: &Run) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.saturating_sub(run.epoch().elapsed()).as_millis()).unwrap_or(u64::MAX)
}
