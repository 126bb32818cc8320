//! The spool as the queue's stand-in: it keeps jobs while Redis is away and hands them over when it is back.
//!
//! Jobs wait on disk until Redis took them; none is executed from the spool. A job is committed in the spool only
//! after Redis acknowledged it, so it may reach Redis twice, under the same id.

use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_util::sync::CancellationToken;

use super::metrics::QueueMetrics;
use super::redis::RedisQueue;
use super::{Error, Job};
use crate::error::chain;
use crate::resilience::backoff::Backoff;
use crate::resilience::degradation::Component;
use crate::storage::spool::{Record, Spool};

/// Jobs handed over between two commits.
const BATCH: usize = 256;
/// Jobs on their way to Redis at the same time.
const CONCURRENCY: usize = 32;
/// How often it is looked whether jobs wait.
const LOOK: Duration = Duration::from_millis(100);
/// After attempts that failed; the limit is short, since jobs wait.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));

/// The spool with the queue's record format. Clones share it.
#[derive(Clone)]
pub struct Fallback {
    spool: Spool,
    metrics: QueueMetrics,
    degraded: Component,
}

impl Fallback {
    /// Jobs that an earlier process left count at once. `degraded` is told when jobs wait on disk.
    pub fn new(spool: Spool, metrics: QueueMetrics, degraded: Component) -> Self {
        let fallback = Self { spool, metrics, degraded };
        fallback.measure();
        fallback
    }

    /// Keeps the job on disk.
    pub async fn keep(&self, job: &Job) -> Result<(), Error> {
        let record = serde_json::to_vec(job).expect("a job is plain data");
        let kept = self.spool.append(record).await.map_err(Error::NotTaken);
        self.measure();
        kept
    }

    /// Hands jobs over to Redis whenever there are some, after failures with a growing pause. Runs until `cancel`.
    pub async fn drain(&self, queue: &RedisQueue, cancel: CancellationToken) {
        let (mut pause, mut failures) = (LOOK, 0);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            match self.drain_once(queue).await {
                Ok(0) => (pause, failures) = (LOOK, 0),
                Ok(jobs) => {
                    tracing::info!(jobs, left = self.spool.records(), "handed spooled jobs over to redis");
                    (pause, failures) = (Duration::ZERO, 0);
                }
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "could not drain the spool");
                    pause = AGAIN.delay(failures, &mut StdRng::from_os_rng());
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// Hands over one batch; answers how many jobs left the spool.
    async fn drain_once(&self, queue: &RedisQueue) -> Result<usize, Error> {
        if self.spool.records() == 0 {
            return Ok(0);
        }
        let records = self.spool.read(BATCH).await.map_err(Error::Spool)?;
        let Some(last) = records.last() else { return Ok(0) };
        let (end, jobs) = (last.end, records.len());
        stream::iter(records)
            .map(|record| async move { hand_over(queue, &record).await })
            .buffer_unordered(CONCURRENCY)
            .try_collect::<()>()
            .await?;
        self.spool.commit(end).await.map_err(Error::Spool)?;
        self.measure();
        Ok(jobs)
    }

    fn measure(&self) {
        let waiting = self.spool.records();
        self.metrics.spooled.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if waiting > 0 {
            self.degraded.degraded("redis does not take jobs");
        } else {
            self.degraded.restored();
        }
    }
}

async fn hand_over(queue: &RedisQueue, record: &Record) -> Result<(), Error> {
    match serde_json::from_slice::<Job>(&record.payload) {
        Ok(job) => queue.enqueue(&job).await.map_err(Error::Redis),
        Err(error) => {
            // Its checksum is right, so another version wrote it. It must not hold up those behind it.
            tracing::error!(%error, "a spooled job cannot be read and is a dead letter now");
            queue.bury(&record.payload).await.map_err(Error::Redis)
        }
    }
}
