//! The series of the queue.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::observability::metrics::{Counter, Family, Gauge, Registry};

/// Who took a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum BackendLabel {
    /// The queue in Redis.
    redis,
    /// The spool on disk.
    spool,
}

/// How an execution ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum ResultLabel {
    /// The effect happened now.
    done,
    /// The effect had happened before.
    duplicate,
    /// The effect failed and will be tried again.
    failed,
    /// The job was given up and is a dead letter.
    dead,
}

/// Labels of `queue_enqueued_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EnqueuedLabels {
    /// Who took it.
    pub backend: BackendLabel,
}

/// Labels of `job_executions_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExecutionLabels {
    /// How it ended.
    pub result: ResultLabel,
}

/// The queue's families.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    enqueued: Family<EnqueuedLabels, Counter>,
    executions: Family<ExecutionLabels, Counter>,
    /// Jobs that wait or run, in Redis.
    pub depth: Gauge,
    /// Jobs on disk.
    pub spooled: Gauge,
    /// Jobs that were given up and are kept.
    pub dead_letters: Gauge,
}

impl QueueMetrics {
    /// Registers the families with their series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            enqueued: Family::default(),
            executions: Family::default(),
            depth: Gauge::default(),
            spooled: Gauge::default(),
            dead_letters: Gauge::default(),
        };
        for backend in [BackendLabel::redis, BackendLabel::spool] {
            metrics.count_enqueued(backend, 0);
        }
        for result in [ResultLabel::done, ResultLabel::duplicate, ResultLabel::failed, ResultLabel::dead] {
            metrics.count_executions(result, 0);
        }
        registry.register("queue_enqueued", "Jobs accepted, by who took them", metrics.enqueued.clone());
        registry.register("job_executions", "Job executions, by how they ended", metrics.executions.clone());
        registry.register("queue_depth", "Jobs waiting or running in Redis", metrics.depth.clone());
        registry.register("spool_jobs", "Jobs waiting in the spool on disk", metrics.spooled.clone());
        registry.register("queue_dead_letters", "Jobs that were given up", metrics.dead_letters.clone());
        metrics
    }

    /// Counts jobs that were taken.
    pub fn count_enqueued(&self, backend: BackendLabel, jobs: u64) {
        self.enqueued.get_or_create(&EnqueuedLabels { backend }).inc_by(jobs);
    }

    /// Counts executions.
    pub fn count_executions(&self, result: ResultLabel, jobs: u64) {
        self.executions.get_or_create(&ExecutionLabels { result }).inc_by(jobs);
    }
}
