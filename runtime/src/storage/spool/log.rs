//! The files of a spool: segments of records, each record its length, its checksum and its bytes.
//!
//! `stage` puts records into a buffer, `flush` writes and syncs them, and only then are they readable. Recovery
//! keeps every record up to the first that is torn or damaged in its segment. Segments that are drained are deleted;
//! the position inside the oldest one lives in memory only, so a restart reads that segment again from its start.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::Error;

const HEADER: usize = 8;
const RECORD_BYTES_MAX: usize = 16 << 20;
const SEGMENTS_IN_FULL_SPOOL: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    segment: u64,
    offset: u64,
    /// Records before this place, counted since the spool was opened.
    sequence: u64,
}

/// A record and the place where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What was appended.
    pub payload: Vec<u8>,
    /// Commit this to forget the record and all before it.
    pub end: Position,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// Bytes that are synced and whole.
    bytes: u64,
    /// Sealed segments are never written again.
    sealed: bool,
}

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    writing: Option<File>,
    staged: Vec<u8>,
    staged_records: u64,
    head: Position,
    /// Records ever readable since the spool was opened.
    appended: u64,
    _lock: File,
}

impl Log {
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(disk("make the folder of"))?;
        let lock = File::create(folder.join("lock")).map_err(disk("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::InUse,
            fs::TryLockError::Error(source) => Error::Disk { action: "lock", source },
        })?;
        let (segments, records) = recover(folder)?;
        let head =
            Position { segment: segments.front().map_or(1, |first| first.number), offset: 0, sequence: 0 };
        Ok(Self {
            folder: folder.to_owned(),
            max_bytes,
            segment_bytes: (max_bytes / SEGMENTS_IN_FULL_SPOOL).max(SEGMENT_BYTES_MIN),
            segments,
            writing: None,
            staged: Vec::new(),
            staged_records: 0,
            head,
            appended: records,
            _lock: lock,
        })
    }

    /// Records that can be read and are not committed.
    pub(super) fn records(&self) -> u64 {
        self.appended - self.head.sequence
    }

    /// Puts a record into the buffer that the next `flush` writes.
    pub(super) fn stage(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload.len() > RECORD_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        let kept: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        if kept + (self.staged.len() + HEADER + payload.len()) as u64 > self.max_bytes {
            return Err(Error::Full);
        }
        encode(payload, &mut self.staged);
        self.staged_records += 1;
        Ok(())
    }

    /// Writes and syncs what was staged. After an error none of it can be read by this process.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let staged = std::mem::take(&mut self.staged);
        let records = std::mem::take(&mut self.staged_records);
        if staged.is_empty() {
            return Ok(());
        }
        let result = self.write(&staged);
        match &result {
            Ok(()) => self.appended += records,
            Err(_) => self.abandon_segment(),
        }
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.segments.back().is_none_or(|last| last.sealed || last.bytes >= self.segment_bytes) {
            self.writing = None;
            self.start_segment()?;
        }
        let segment = self.segments.back_mut().expect("a segment was started");
        let file = match &mut self.writing {
            Some(file) => file,
            none => none.insert(open_for_writing(&self.folder, segment)?),
        };
        file.write_all(bytes).map_err(disk("write to"))?;
        file.sync_data().map_err(disk("sync"))?;
        segment.bytes += bytes.len() as u64;
        Ok(())
    }

    fn start_segment(&mut self) -> Result<(), Error> {
        let number = self.segments.back().map_or(self.head.segment, |last| last.number + 1);
        let path = path(&self.folder, number);
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(disk("add a file to"))?;
        sync_folder(&self.folder)?;
        self.segments.push_back(Segment { number, bytes: 0, sealed: false });
        self.writing = Some(file);
        Ok(())
    }

    /// After a failed write or sync nobody knows what the file holds behind its good bytes: it gets no more.
    fn abandon_segment(&mut self) {
        let file = self.writing.take();
        if let Some(segment) = self.segments.back_mut() {
            segment.sealed = true;
            if let Some(Err(error)) = file.map(|file| file.set_len(segment.bytes)) {
                tracing::warn!(%error, segment = segment.number, "could not cut a spool file after a failed write");
            }
        }
    }

    /// The oldest records that are not committed.
    pub(super) fn read(&self, limit: usize) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        let mut place = self.head;
        for segment in &self.segments {
            if place.segment != segment.number {
                place = Position { segment: segment.number, offset: 0, ..place };
            }
            let bytes = read_range(&self.folder, segment.number, place.offset, segment.bytes)?;
            let mut rest = bytes.as_slice();
            while records.len() < limit
                && let Some((payload, length)) = decode(rest)
            {
                rest = &rest[length..];
                place.offset += length as u64;
                place.sequence += 1;
                records.push(Record { payload: payload.to_vec(), end: place });
            }
            if records.len() >= limit {
                break;
            }
        }
        Ok(records)
    }

    /// Forgets all records before `position` and deletes the files that hold nothing else.
    pub(super) fn commit(&mut self, position: Position) -> Result<(), Error> {
        if position <= self.head {
            return Ok(());
        }
        self.head = position;
        while let Some(first) = self.segments.front() {
            let drained = first.number < position.segment
                || (first.number == position.segment && position.offset >= first.bytes);
            if !drained {
                break;
            }
            let number = first.number;
            if self.segments.len() == 1 {
                self.writing = None;
            }
            fs::remove_file(path(&self.folder, number)).map_err(disk("delete a file of"))?;
            self.segments.pop_front();
            if number == position.segment {
                self.head = Position { segment: number + 1, offset: 0, sequence: position.sequence };
            }
        }
        Ok(())
    }
}

fn encode(payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("bounded by RECORD_BYTES_MAX");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// The first record in `bytes` and its length with header, if it is whole and undamaged.
fn decode(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let expected = u32::from_le_bytes(bytes.get(4..HEADER)?.try_into().ok()?);
    let payload = bytes.get(HEADER..HEADER.checked_add(length as usize)?)?;
    (checksum(length, payload) == expected).then_some((payload, HEADER + payload.len()))
}

/// Covers the length too: a run of zero bytes, which a crash can leave, is no record.
fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(b"spool");
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Finds the segments in `folder`, cuts what is torn, and counts the records.
fn recover(folder: &Path) -> Result<(VecDeque<Segment>, u64), Error> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(disk("list"))? {
        let name = entry.map_err(disk("list"))?.file_name();
        let number: Option<u64> =
            name.to_str().and_then(|name| name.strip_suffix(".spool")).and_then(|name| name.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    let (mut segments, mut total) = (VecDeque::new(), 0);
    for number in numbers {
        let path = path(folder, number);
        let content = fs::read(&path).map_err(disk("read"))?;
        let (mut good, mut records) = (0, 0);
        while let Some((_, length)) = decode(&content[good..]) {
            good += length;
            records += 1;
        }
        if good < content.len() {
            cut(&path, &content, good)?;
        }
        if records == 0 {
            fs::remove_file(&path).map_err(disk("delete a file of"))?;
            continue;
        }
        total += records;
        segments.push_back(Segment { number, bytes: good as u64, sealed: true });
    }
    Ok((segments, total))
}

/// Cuts a file behind its last good record. What is cut is kept beside it when it may hold more than one torn write.
fn cut(path: &Path, content: &[u8], good: usize) -> Result<(), Error> {
    let lost = content.len() - good;
    tracing::warn!(file = %path.display(), bytes = lost, "cut a torn record from the spool");
    if content[good..].iter().any(|byte| *byte != 0) {
        fs::write(path.with_extension("torn"), &content[good..]).map_err(disk("keep a torn record of"))?;
    }
    let file = OpenOptions::new().write(true).open(path).map_err(disk("open"))?;
    file.set_len(good as u64).and_then(|()| file.sync_all()).map_err(disk("cut a file of"))
}

fn open_for_writing(folder: &Path, segment: &Segment) -> Result<File, Error> {
    let mut file = OpenOptions::new().write(true).open(path(folder, segment.number)).map_err(disk("open"))?;
    file.seek(SeekFrom::Start(segment.bytes)).map_err(disk("seek in"))?;
    Ok(file)
}

fn read_range(folder: &Path, number: u64, from: u64, to: u64) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path(folder, number)).map_err(disk("open"))?;
    file.seek(SeekFrom::Start(from)).map_err(disk("seek in"))?;
    let mut bytes = Vec::new();
    file.take(to.saturating_sub(from)).read_to_end(&mut bytes).map_err(disk("read"))?;
    Ok(bytes)
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk("sync the folder of"))
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.spool"))
}

fn disk(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Disk { action, source }
}

#[cfg(test)]
mod tests;
