//! Claims jobs, executes them in batches, acknowledges what has happened.
//!
//! A failed batch is tried again after a delay that grows with its attempts; what fails for good ends as a dead
//! letter once its attempts are used up.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::metrics::{QueueMetrics, ResultLabel};
use super::redis::{Claim, RedisQueue};
use super::{Error, Job};
use crate::error::{Classify, chain};
use crate::ids::JobId;
use crate::observability::trace::context::TraceContext;
use crate::observability::trace::{Attribute, Kind, Root, Tracer};

/// Jobs that one worker claims at a time.
const BATCH: usize = 64;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(500);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
const ERROR_PAUSE: Duration = Duration::from_millis(500);
const DEPTH_PERIOD: Duration = Duration::from_secs(1);

/// How the effect of one job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It happened now.
    Done,
    /// It had happened before.
    Duplicate,
    /// It cannot happen now; it is tried again while attempts are left.
    Failed,
}

/// Makes effects happen, once for each job id however often it is called.
#[async_trait::async_trait]
pub trait Executor: Send + Sync {
    /// Executes the jobs; an outcome for each, in the same order. An error says nothing about any of them.
    async fn execute(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Error>;
}

/// One worker.
#[derive(Clone)]
pub struct Worker {
    /// Where jobs come from.
    pub queue: RedisQueue,
    /// What does them.
    pub executor: Arc<dyn Executor>,
    /// What counts them.
    pub metrics: QueueMetrics,
    /// How long it waits after it found nothing.
    pub poll_interval: Duration,
    /// Goes on with the traces of who left the jobs.
    pub tracer: Tracer,
}

impl Worker {
    /// Works until `cancel`; a batch that was begun is finished.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            let pause = match self.round().await {
                Ok(0) => self.poll_interval,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "a round of jobs failed");
                    ERROR_PAUSE
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Claims and executes one batch; answers how many jobs were claimed.
    async fn round(&self) -> Result<usize, Error> {
        let round = self.queue.claim(BATCH).await?;
        if round.dead > 0 {
            self.metrics.count_executions(ResultLabel::dead, round.dead);
            tracing::error!(jobs = round.dead, "jobs used up their attempts and are dead letters now");
        }
        let claimed = round.claims.len();
        if claimed > 0 {
            self.execute(round.claims).await?;
        }
        Ok(claimed)
    }

    async fn execute(&self, claims: Vec<Claim>) -> Result<(), Error> {
        let mut failed = Vec::new();
        let mut jobs = Vec::with_capacity(claims.len());
        let attempt = claims.iter().map(|claim| claim.attempt).max().unwrap_or(1);
        for claim in claims {
            match claim.job {
                Ok(job) => jobs.push(job),
                Err(error) => {
                    tracing::error!(job = %claim.id, attempt = claim.attempt, error, "a job cannot be read");
                    failed.push(claim.id);
                }
            }
        }
        let mut done = Vec::with_capacity(jobs.len());
        let traces = Traces::begin(&self.tracer, &jobs, attempt);
        let executed = traces.within(self.executor.execute(&jobs)).await;
        traces.end(&executed);
        match executed {
            Ok(outcomes) => {
                for (job, outcome) in jobs.iter().zip(outcomes) {
                    self.sort(job.id, outcome, &mut done, &mut failed);
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), jobs = jobs.len(), "jobs failed and will be tried again");
                self.metrics.count_executions(ResultLabel::failed, jobs.len() as u64);
                failed.extend(jobs.iter().map(|job| job.id));
            }
        }
        self.queue.ack(&done).await?;
        self.queue.retry(&failed, retry_delay(attempt)).await
    }

    fn sort(&self, id: JobId, outcome: Outcome, done: &mut Vec<JobId>, failed: &mut Vec<JobId>) {
        let (label, list) = match outcome {
            Outcome::Done => (ResultLabel::done, done),
            Outcome::Duplicate => (ResultLabel::duplicate, done),
            Outcome::Failed => (ResultLabel::failed, failed),
        };
        self.metrics.count_executions(label, 1);
        list.push(id);
    }
}

/// What a batch adds to the traces of its jobs. Its one statement stands in the first of them.
struct Traces<'j> {
    roots: Vec<(&'j Job, Option<Root>)>,
    attempt: u32,
}

impl<'j> Traces<'j> {
    fn begin(tracer: &Tracer, jobs: &'j [Job], attempt: u32) -> Self {
        let begin = |job: &'j Job| {
            let parent = TraceContext::parse(job.traceparent.as_deref()?, None)?;
            tracer.begin(Kind::Consumer, Some(parent))
        };
        Self { roots: jobs.iter().map(|job| (job, begin(job))).collect(), attempt }
    }

    async fn within<F: Future>(&self, work: F) -> F::Output {
        match self.roots.iter().find_map(|(_, root)| root.as_ref()) {
            Some(root) => root.within(work).await,
            None => work.await,
        }
    }

    fn end(self, executed: &Result<Vec<Outcome>, Error>) {
        let count = i64::try_from(self.roots.len()).unwrap_or(i64::MAX);
        for (at, (job, root)) in self.roots.into_iter().enumerate() {
            let Some(root) = root else { continue };
            match executed.as_ref().map(|outcomes| outcomes.get(at)) {
                Ok(Some(Outcome::Done | Outcome::Duplicate)) => {}
                Ok(_) => root.fail("the job failed"),
                Err(error) => root.fail(error.kind().label()),
            }
            root.end(|| {
                let attributes: Vec<Attribute> = vec![
                    ("job.id", job.id.to_string().into()),
                    ("job.attempt", i64::from(self.attempt).into()),
                    ("job.batch_size", count.into()),
                ];
                ("job.execute".into(), attributes)
            });
        }
    }
}

/// Keeps the gauges of the queue up to date. Runs until `cancel`.
pub async fn measure(queue: RedisQueue, metrics: QueueMetrics, cancel: CancellationToken) {
    loop {
        match queue.depth().await {
            Ok(depth) => {
                metrics.depth.set(depth.jobs);
                metrics.dead_letters.set(depth.dead);
            }
            Err(error) => tracing::debug!(error = %chain(&error), "could not measure the queue"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(DEPTH_PERIOD) => {}
        }
    }
}

/// Doubles with each attempt.
fn retry_delay(attempt: u32) -> Duration {
    (RETRY_DELAY_MIN * 2u32.pow(attempt.saturating_sub(1).min(10))).min(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_slow_down_and_stay_bounded() {
        assert_eq!(retry_delay(1), RETRY_DELAY_MIN);
        assert_eq!(retry_delay(2), RETRY_DELAY_MIN * 2);
        assert_eq!(retry_delay(u32::MAX), RETRY_DELAY_MAX);
    }
}
