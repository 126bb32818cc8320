//! A queue on disk for what its proper store cannot take now.
//!
//! Promises: `append` returns only when the record is written and `fdatasync`ed; concurrent appends share one sync;
//! records come back in the order of their appends; a record stays until its position is committed, also over a
//! crash, so a record may be read more than once. The spool is bounded in bytes. One process owns a folder.

mod log;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Classify, ErrorKind};
use log::Log;
pub use log::{Position, Record};

/// Appends that wait for the writer at most; further callers wait for room.
const WAITING_APPENDS: usize = 1024;
/// Records that share one sync at most.
const RECORDS_PER_SYNC: usize = 512;

/// Errors of the spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The spool holds as many bytes as it may. Nothing was written.
    #[error("the spool is full")]
    Full,
    /// Another process holds the folder.
    #[error("another process uses the spool folder")]
    InUse,
    /// The record is larger than the spool takes (16 MiB). Nothing was written.
    #[error("the record is too large for the spool")]
    TooLarge,
    /// The disk failed; the record may or may not survive.
    #[error("could not {action} the spool")]
    Disk {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The writer is gone: the process is going down.
    #[error("the spool is closed")]
    Closed,
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Full | Self::InUse | Self::Disk { .. } | Self::Closed => ErrorKind::Unavailable,
            Self::TooLarge => ErrorKind::BadInput,
        }
    }
}

/// Handle on one spool folder. Clones share it.
#[derive(Clone)]
pub struct Spool {
    log: Arc<Mutex<Log>>,
    appends: mpsc::Sender<Append>,
    waiting: Arc<AtomicU64>,
}

struct Append {
    payload: Vec<u8>,
    done: oneshot::Sender<Result<(), Error>>,
}

impl Spool {
    /// Opens the folder, makes it if needed, and recovers what an earlier process left. `max_bytes` bounds all files.
    pub fn open(folder: &Path, max_bytes: u64) -> Result<Self, Error> {
        let log = Log::open(folder, max_bytes)?;
        let waiting = Arc::new(AtomicU64::new(log.records()));
        let log = Arc::new(Mutex::new(log));
        let (appends, inbox) = mpsc::channel(WAITING_APPENDS);
        let writer = Writer { log: log.clone(), waiting: waiting.clone() };
        std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || writer.run(inbox))
            .map_err(|source| Error::Disk { action: "start the writer of", source })?;
        Ok(Self { log, appends, waiting })
    }

    /// Keeps `payload` until it is committed. Returns when it is on disk. A caller that stops waiting may find the
    /// record in the spool all the same.
    pub async fn append(&self, payload: Vec<u8>) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.appends.send(Append { payload, done }).await.map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The oldest records that are not committed, at most `limit`. Reading does not remove.
    pub async fn read(&self, limit: usize) -> Result<Vec<Record>, Error> {
        self.blocking(move |log| log.read(limit)).await
    }

    /// Forgets everything up to and including the record that ended at `position`.
    pub async fn commit(&self, position: Position) -> Result<(), Error> {
        let waiting = self.waiting.clone();
        self.blocking(move |log| {
            let result = log.commit(position);
            waiting.store(log.records(), Ordering::Relaxed);
            result
        })
        .await
    }

    /// Records that are not committed.
    pub fn records(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let log = self.log.clone();
        tokio::task::spawn_blocking(move || work(&mut log.lock())).await.map_err(|_| Error::Closed)?
    }
}

/// Owns the write side: one thread, so that all appends that arrive during a sync share the next one.
struct Writer {
    log: Arc<Mutex<Log>>,
    waiting: Arc<AtomicU64>,
}

impl Writer {
    fn run(self, mut inbox: mpsc::Receiver<Append>) {
        let mut batch = Vec::with_capacity(RECORDS_PER_SYNC);
        while inbox.blocking_recv_many(&mut batch, RECORDS_PER_SYNC) > 0 {
            let mut log = self.log.lock();
            let mut written = Vec::with_capacity(batch.len());
            for Append { payload, done } in batch.drain(..) {
                match log.stage(&payload) {
                    Ok(()) => written.push(done),
                    // A receiver that is gone has stopped waiting; nobody is left to tell.
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            let result = log.flush();
            self.waiting.store(log.records(), Ordering::Relaxed);
            drop(log);
            answer(written, result);
        }
    }
}

fn answer(written: Vec<oneshot::Sender<Result<(), Error>>>, result: Result<(), Error>) {
    let failure = result.err().map(|error| match error {
        Error::Disk { action, source } => (action, source.kind()),
        _ => ("write", std::io::ErrorKind::Other),
    });
    for done in written {
        let result = match failure {
            None => Ok(()),
            Some((action, kind)) => Err(Error::Disk { action, source: kind.into() }),
        };
        // A receiver that is gone has stopped waiting; the record stays and is drained like any other.
        drop(done.send(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn concurrent_appends_all_come_back_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(folder.path(), 1 << 20).expect("a spool");
        let appends = (0..200u32).map(|n| spool.append(n.to_be_bytes().to_vec()));
        for result in futures::future::join_all(appends).await {
            result.expect("room for all");
        }
        assert_eq!(spool.records(), 200);
        let records = spool.read(1000).await.expect("readable");
        let mut found: Vec<_> = records.iter().map(|record| record.payload.clone()).collect();
        found.sort();
        let expected: Vec<_> = (0..200u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(found, expected);
        spool.commit(records.last().expect("a last record").end).await.expect("committed");
        assert_eq!(spool.records(), 0);
        assert!(spool.read(10).await.expect("readable").is_empty());
    }

    #[tokio::test]
    async fn a_full_spool_refuses_and_takes_again_after_a_drain() {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(folder.path(), 1000).expect("a spool");
        let mut kept = 0;
        while spool.append(vec![7; 92]).await.is_ok() {
            kept += 1;
        }
        assert_eq!(kept, 10, "ten records of 100 bytes fit into 1,000");
        assert!(matches!(spool.append(vec![7; 92]).await, Err(Error::Full)));
        let records = spool.read(100).await.expect("readable");
        spool.commit(records[kept - 1].end).await.expect("committed");
        spool.append(vec![7; 92]).await.expect("room again");
    }

    #[tokio::test]
    async fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Spool::open(folder.path(), 1000).expect("a spool");
        assert!(matches!(Spool::open(folder.path(), 1000), Err(Error::InUse)));
        drop(first);
    }
}
