//! Bodies of requests that wait: read, so that a caller need not keep the line open byte by byte, and kept in memory up to a
//! bound, then on disk.
//!
//! Promises: both bounds hold over all requests together; what went to disk is in files that have no name any more, so that
//! nothing is left of them whatever ends this process; a body comes back as it came.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use uuid::Uuid;

use crate::app_state::HoldSettings;
use crate::resilience::admission::metrics::AdmissionMetrics;

/// Read from disk at a time.
const CHUNK: usize = 64 << 10;

/// Why a body is not kept.
#[derive(Debug)]
pub(super) enum Error {
    /// It is larger than a body may be.
    TooLarge(usize),
    /// The caller did not send it.
    Body,
    /// There is no room for it, or the disk failed.
    Full,
}

/// Keeps bodies. Clones share the bounds.
#[derive(Clone)]
pub(super) struct Hold {
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    body_bytes_max: usize,
    memory: Budget,
    disk: Budget,
    metrics: AdmissionMetrics,
}

/// Bytes that may be used by all together.
struct Budget {
    used: AtomicU64,
    most: u64,
}

impl Budget {
    fn new(most: u64) -> Self {
        Self { used: AtomicU64::new(0), most }
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// A body that is kept; its room is free when it is dropped.
pub(super) struct Held {
    hold: Hold,
    in_memory: Vec<Bytes>,
    memory: u64,
    file: Option<File>,
    disk: u64,
}

impl Hold {
    pub(super) fn new(settings: HoldSettings, metrics: AdmissionMetrics) -> Self {
        let HoldSettings { folder, body_bytes_max, memory_bytes_max, disk_bytes_max } = settings;
        let (memory, disk) = (Budget::new(memory_bytes_max), Budget::new(disk_bytes_max));
        Self { shared: Arc::new(Shared { folder, body_bytes_max, memory, disk, metrics }) }
    }

    /// Reads all of it.
    pub(super) async fn read(&self, body: Body) -> Result<Held, Error> {
        let mut held = Held { hold: self.clone(), in_memory: Vec::new(), memory: 0, file: None, disk: 0 };
        let mut body: BodyDataStream = body.into_data_stream();
        let most = self.shared.body_bytes_max;
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|_| Error::Body)?;
            let length = piece.len() as u64;
            if held.memory + held.disk + length > most as u64 {
                return Err(Error::TooLarge(most));
            }
            if held.file.is_none() && self.shared.memory.take(length) {
                held.memory += length;
                held.in_memory.push(piece);
            } else {
                held.spill(&piece).await?;
            }
        }
        if let Some(file) = &mut held.file {
            file.flush().await.map_err(failed)?;
            file.rewind().await.map_err(failed)?;
        }
        Ok(held)
    }

    async fn file(&self) -> std::io::Result<File> {
        let path = self.shared.folder.join(format!("request-{}", Uuid::new_v4().simple()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).await?;
        tokio::fs::remove_file(&path).await?;
        Ok(file)
    }
}

impl Held {
    async fn spill(&mut self, piece: &Bytes) -> Result<(), Error> {
        let length = piece.len() as u64;
        let Shared { disk, metrics, .. } = &*self.hold.shared;
        if !disk.take(length) {
            return Err(Error::Full);
        }
        let first = self.disk == 0;
        self.disk += length;
        metrics.spilled(length, first);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(self.hold.file().await.map_err(failed)?),
        };
        file.write_all(piece).await.map_err(failed)
    }

    /// The body as it came. It takes its room until it is read.
    pub(super) fn into_body(mut self) -> Body {
        let mut in_memory = std::mem::take(&mut self.in_memory).into_iter();
        if self.file.is_none() {
            return match (in_memory.next(), in_memory.next()) {
                (None, _) => Body::empty(),
                // Whoever reads it holds it anyway.
                (Some(whole), None) => Body::from(whole),
                (Some(first), Some(second)) => {
                    let pieces = [first, second].into_iter().chain(in_memory);
                    Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>)))
                }
            };
        }
        Body::from_stream(stream::try_unfold((in_memory, self), |(mut in_memory, mut held)| async move {
            if let Some(piece) = in_memory.next() {
                return Ok(Some((piece, (in_memory, held))));
            }
            let Some(file) = &mut held.file else { return Ok(None) };
            let mut piece = vec![0; CHUNK];
            let length = file.read(&mut piece).await?;
            piece.truncate(length);
            Ok::<_, std::io::Error>((length > 0).then(|| (Bytes::from(piece), (in_memory, held))))
        }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Shared { memory, disk, metrics, .. } = &*self.hold.shared;
        memory.give_back(self.memory);
        if self.disk > 0 {
            disk.give_back(self.disk);
            metrics.unspilled(self.disk);
        }
    }
}

fn failed(error: std::io::Error) -> Error {
    tracing::error!(%error, "could not keep the body of a waiting request on disk");
    Error::Full
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(folder: &std::path::Path, memory_bytes_max: u64, disk_bytes_max: u64) -> Hold {
        let settings = HoldSettings {
            folder: folder.to_owned(),
            body_bytes_max: 1_000_000,
            memory_bytes_max,
            disk_bytes_max,
        };
        Hold::new(settings, AdmissionMetrics::unregistered())
    }

    fn body(pieces: &[&'static [u8]]) -> Body {
        Body::from_stream(
            stream::iter(pieces.to_vec()).map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))),
        )
    }

    fn room(hold: &Hold) -> (u64, u64) {
        let Shared { memory, disk, .. } = &*hold.shared;
        (memory.used.load(Ordering::Acquire), disk.used.load(Ordering::Acquire))
    }

    #[tokio::test]
    async fn a_body_beyond_the_memory_goes_to_disk_and_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let hold = hold(folder.path(), 10, 200_000);
        let large: &'static [u8] = vec![7; 150_000].leak();
        let held = hold.read(body(&[b"12345", large, b"end"])).await.expect("there is room");
        assert_eq!(room(&hold), (5, 150_003));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "the file has no name");
        let back = axum::body::to_bytes(held.into_body(), usize::MAX).await.expect("a body");
        assert_eq!(back, [b"12345", large, b"end"].concat());
        assert_eq!(room(&hold), (0, 0));
    }

    #[tokio::test]
    async fn both_bounds_hold_over_all_requests() {
        let folder = tempfile::tempdir().expect("a folder");
        let hold = hold(folder.path(), 10, 10);
        let first = hold.read(body(&[b"123456"])).await.expect("in memory");
        let second = hold.read(body(&[b"123456"])).await.expect("on disk");
        assert_eq!(room(&hold), (6, 6));
        assert!(matches!(hold.read(body(&[b"123456"])).await, Err(Error::Full)));
        assert_eq!(room(&hold), (6, 6));
        drop(second);
        let third = hold.read(body(&[b"1234", b"56"])).await.expect("both");
        assert_eq!(room(&hold), (10, 2));
        drop((first, third));
        assert_eq!(room(&hold), (0, 0));
        assert!(matches!(
            Hold::new(
                HoldSettings {
                    folder: folder.path().to_owned(),
                    body_bytes_max: 5,
                    memory_bytes_max: 100,
                    disk_bytes_max: 0
                },
                AdmissionMetrics::unregistered(),
            )
            .read(body(&[b"123456"]))
            .await,
            Err(Error::TooLarge(5))
        ));
    }
}
