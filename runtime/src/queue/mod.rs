//! Jobs that must happen although the caller does not wait for them.
//!
//! Promises: a job is acknowledged when Redis holds it or, with Redis away or in doubt, when the spool on disk
//! does. It is executed at least once and stays claimed while it runs; a claim that is not acknowledged within the
//! visibility timeout comes back; after too many claims the job is a dead letter, never lost. A job may be executed
//! more than once, so its effect is keyed by its id.
//! Absent on purpose: order between jobs.

pub mod error;
pub mod fallback;
pub mod metrics;
pub mod redis;
pub mod worker;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::error::Error;
use self::fallback::Fallback;
use self::metrics::{BackendLabel, QueueMetrics};
use self::redis::RedisQueue;
use crate::error::{Classify, chain};
use crate::ids::{JobId, OrderId};
use crate::observability::trace::{self, Kind};

/// What is to be done, and under which id its effect happens once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Key of the effect.
    pub id: JobId,
    /// What to do.
    pub task: Task,
    /// The trace that it belongs to, as W3C writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Write the invoice of an order.
    Invoice {
        /// The order.
        order_id: OrderId,
        /// The caller's key, kept as evidence.
        idempotency_key: Option<String>,
    },
    /// Call a function of the database.
    Call {
        /// Its name.
        function: String,
        /// Parameter → value, as text.
        args: BTreeMap<String, Option<String>>,
        /// The caller's key, kept as evidence.
        idempotency_key: Option<String>,
    },
}

/// Who took a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The queue in Redis.
    Redis,
    /// The spool on disk.
    Spool,
}

/// The front of the queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    redis: RedisQueue,
    /// `None` where the configuration switches the spool off.
    fallback: Option<Fallback>,
    metrics: QueueMetrics,
}

impl Queue {
    /// A queue in Redis, with a spool that stands in for it.
    pub fn new(redis: RedisQueue, fallback: Option<Fallback>, metrics: QueueMetrics) -> Self {
        Self { redis, fallback, metrics }
    }

    /// Takes a job. `Ok` means that it survives whatever happens next. The same id twice is one job, or two
    /// executions with one effect.
    pub async fn enqueue(&self, job: &Job) -> Result<Backend, Error> {
        let span =
            trace::span("queue.enqueue", Kind::Producer, || vec![("job.id", job.id.to_string().into())]);
        let taken = span.within(self.take(job)).await;
        match &taken {
            Ok(Backend::Redis) => span.set(|| vec![("queue.backend", "redis".into())]),
            Ok(Backend::Spool) => span.set(|| vec![("queue.backend", "spool".into())]),
            Err(error) => span.fail(error.kind().label()),
        }
        taken
    }

    async fn take(&self, job: &Job) -> Result<Backend, Error> {
        // Whoever executes the job goes on from the span that left it here.
        let traced;
        let job = match trace::traceparent() {
            Some(traceparent) => {
                traced = Job { traceparent: Some(traceparent), ..job.clone() };
                &traced
            }
            None => job,
        };
        let doubt = match self.redis.enqueue(job).await {
            Ok(()) => {
                self.metrics.count_enqueued(BackendLabel::redis, 1);
                return Ok(Backend::Redis);
            }
            Err(error) => error,
        };
        // Redis may have taken it: the spool keeps it under the same id, and its effect happens once all the same.
        let Some(fallback) = &self.fallback else { return Err(Error::NoFallback(doubt)) };
        tracing::debug!(job = %job.id, error = %chain(&doubt), "redis did not take a job, it goes to the spool");
        fallback.keep(job).await?;
        self.metrics.count_enqueued(BackendLabel::spool, 1);
        Ok(Backend::Spool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_job_on_disk_reads_back_as_it_was() {
        let job = Job {
            id: JobId(Uuid::from_u128(1)),
            task: Task::Invoice {
                order_id: OrderId(Uuid::from_u128(2)),
                idempotency_key: Some("k".to_owned()),
            },
            traceparent: None,
        };
        let text = serde_json::to_string(&job).expect("JSON");
        assert_eq!(
            text,
            r#"{"id":"00000000-0000-0000-0000-000000000001","task":{"kind":"invoice","order_id":"00000000-0000-0000-0000-000000000002","idempotency_key":"k"}}"#,
            "the format outlives a release: spool and queue hold it over an upgrade"
        );
        assert_eq!(serde_json::from_str::<Job>(&text).expect("a job"), job);
    }
}
