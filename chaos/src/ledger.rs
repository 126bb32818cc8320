//! What a run started, written down before it acts, so that a later run can remove what a killed one left.
//!
//! An append-only file of JSON lines. An entry is on disk (written and synced) before the process is used, the
//! container started or the fault injected; a closing entry follows when it is gone. Nothing is ever found by name: a
//! process is its pid and start time, a container its id, a folder its path.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// A thing that has to be gone at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holding {
    /// A process: `start_ticks` is field 22 of `/proc/PID/stat`, which tells a recycled pid from the one recorded.
    Process { pid: i32, start_ticks: u64, role: String },
    /// A container by its full id; `label` is the run label it carries.
    Container { id: String, label: String },
    /// A folder outside the run folder, or a mount below it.
    Folder { path: PathBuf },
    /// A proxy that was made on a server of Toxiproxy's API at `api` (`host:port`).
    Proxy { api: String, name: String },
    /// An injected fault: `id` is unique in the run.
    Fault { id: String, kind: String, target: String },
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// First line: which run, and the harness process that owns it.
    Run {
        id: String,
        pid: i32,
        start_ticks: u64,
    },
    Open(Holding),
    Close(Holding),
}

/// Failure to write or read a ledger.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open ledger {path}")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("write ledger {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("read ledger {path}")]
    Read { path: PathBuf, source: std::io::Error },
}

/// An open ledger; every entry is synced before the call returns.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: Mutex<File>,
}

impl Ledger {
    /// Creates the file (an existing one is continued) and writes its first line.
    pub fn create(path: &Path, run: &str, pid: i32, start_ticks: u64) -> Result<Self, Error> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(|source| Error::Open { path: path.into(), source })?;
        end_torn_line(&mut file).map_err(|source| Error::Write { path: path.into(), source })?;
        let ledger = Ledger { path: path.into(), file: Mutex::new(file) };
        ledger.append(&Entry::Run { id: run.into(), pid, start_ticks })?;
        Ok(ledger)
    }

    pub fn open(&self, holding: Holding) -> Result<(), Error> {
        self.append(&Entry::Open(holding))
    }

    pub fn close(&self, holding: Holding) -> Result<(), Error> {
        self.append(&Entry::Close(holding))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn append(&self, entry: &Entry) -> Result<(), Error> {
        let mut line = serde_json::to_vec(entry).expect("a ledger entry is always representable as JSON");
        line.push(b'\n');
        let mut file = self.file.lock();
        file.write_all(&line)
            .and_then(|()| file.sync_data())
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }
}

/// A continued file may end in the middle of a line; without this the next entry would be lost with it.
fn end_torn_line(file: &mut File) -> std::io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" { Ok(()) } else { file.write_all(b"\n") }
}

/// What a ledger file says: its owner and everything opened and not closed, in order of opening.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    pub run: String,
    pub owner: Option<(i32, u64)>,
    pub open: Vec<Holding>,
    /// Lines that could not be understood. A killed writer leaves one; more are damage, and something may be missing.
    pub unreadable: usize,
}

/// What is to be swept after a run, newest first. `alive` says whether the process with that pid and start time still runs.
///
/// `None` while the run's owner is alive: what it holds is in use. Processes that have ended need no sweeping.
pub fn sweepable(contents: &Contents, alive: impl Fn(i32, u64) -> bool) -> Option<Vec<Holding>> {
    if contents.owner.is_some_and(|(pid, start_ticks)| alive(pid, start_ticks)) {
        return None;
    }
    let mut left = contents.open.clone();
    left.retain(|holding| match holding {
        Holding::Process { pid, start_ticks, .. } => alive(*pid, *start_ticks),
        Holding::Container { .. }
        | Holding::Folder { .. }
        | Holding::Proxy { .. }
        | Holding::Fault { .. } => true,
    });
    left.reverse();
    Some(left)
}

/// Reads a ledger. A torn line (the writer was killed in the middle) is passed over and counted.
pub fn read(path: &Path) -> Result<Contents, Error> {
    let file = File::open(path).map_err(|source| Error::Open { path: path.into(), source })?;
    let mut contents = Contents::default();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(|source| Error::Read { path: path.into(), source })?;
        match serde_json::from_slice(&line) {
            Ok(Entry::Run { id, pid, start_ticks }) => {
                contents.run = id;
                contents.owner = Some((pid, start_ticks));
            }
            Ok(Entry::Open(holding)) => contents.open.push(holding),
            Ok(Entry::Close(holding)) => contents.open.retain(|open| *open != holding),
            Err(_) => contents.unreadable += 1,
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(pid: i32) -> Holding {
        Holding::Process { pid, start_ticks: 99, role: "redis".into() }
    }

    #[test]
    fn what_was_opened_and_not_closed_is_left() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("ledger.jsonl");
        let ledger = Ledger::create(&path, "run-1", 10, 20).expect("create");
        ledger.open(redis(1)).expect("open");
        ledger.open(redis(2)).expect("open");
        ledger.close(redis(1)).expect("close");
        let contents = read(&path).expect("read");
        assert_eq!(contents.run, "run-1");
        assert_eq!(contents.owner, Some((10, 20)));
        assert_eq!(contents.open, vec![redis(2)]);
    }

    #[test]
    fn a_torn_last_line_loses_only_itself() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("ledger.jsonl");
        let ledger = Ledger::create(&path, "run-1", 10, 20).expect("create");
        ledger.open(redis(1)).expect("open");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(br#"{"open":{"process":{"pid":3,"#))
            .expect("torn write");
        let contents = read(&path).expect("read");
        assert_eq!((contents.open, contents.unreadable), (vec![redis(1)], 1));
        let ledger = Ledger::create(&path, "run-1", 11, 21).expect("continue");
        ledger.open(redis(2)).expect("open");
        let contents = read(&path).expect("read");
        assert_eq!(contents.owner, Some((11, 21)));
        assert_eq!((contents.open, contents.unreadable), (vec![redis(1), redis(2)], 1));
    }

    #[test]
    fn a_run_is_swept_once_its_owner_is_gone_and_newest_first() {
        let folder = Holding::Folder { path: "/run/x".into() };
        let open = vec![folder.clone(), redis(1), redis(2)];
        let contents = Contents { run: "run-1".into(), owner: Some((10, 20)), open, unreadable: 0 };
        assert_eq!(sweepable(&contents, |_, _| true), None);
        assert_eq!(sweepable(&contents, |pid, ticks| (pid, ticks) == (2, 99)), Some(vec![redis(2), folder]));
    }
}
