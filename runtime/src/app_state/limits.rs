//! The limits of callers and the admission of requests, as the configuration wants them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::Config;
use crate::config::limits::{Policy, RejectionPolicy};
use crate::limits::metrics::LimitMetrics;
use crate::limits::{self, Limits};
use crate::observability::metrics::Metrics;
use crate::resilience::admission::memory::Pressure;
use crate::resilience::admission::metrics::AdmissionMetrics;
use crate::resilience::admission::{self, Admission, machine};
use crate::resilience::degradation::Registrar;
use crate::storage::postgres::Postgres;
use crate::storage::redis::Redis;

/// How bodies of waiting requests are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldSettings {
    /// For what is too much for the memory.
    pub folder: PathBuf,
    /// A larger body is refused.
    pub body_bytes_max: usize,
    /// Of all of them in memory.
    pub memory_bytes_max: u64,
    /// Of all of them on disk.
    pub disk_bytes_max: u64,
}

/// How much callers may ask.
pub(super) fn limits(config: &Config, redis: &Redis, degradations: &Registrar, metrics: &Metrics) -> Limits {
    let table = &config.limits;
    let parts = limits::Parts {
        redis: table.use_redis.then(|| redis.clone()),
        degraded: degradations.component("limits", "each replica gives its part of the quotas"),
        metrics: metrics.area(LimitMetrics::register),
        clock: Arc::new(SystemClock),
    };
    Limits::new(table, &config.auth, config.mode, parts)
}

/// How many requests are executed at a time.
pub(super) fn admission(config: &Config, postgres: &Postgres, metrics: AdmissionMetrics) -> Admission {
    let (limits, table) = (&config.limits, &config.backpressure);
    // Where limits are off, or none of a client holds, one client may have all places.
    let unbounded = !limits.enabled || limits.policy(config.mode) == Policy::LoadTest;
    let client_max = if unbounded { usize::MAX } else { limits.client_max_concurrent as usize };
    let saturated = table.reject_if_saturated.then(|| {
        let postgres = postgres.clone();
        let most = config.database.max_connections as usize;
        Box::new(move || postgres.size().active >= most) as Box<dyn Fn() -> bool + Send + Sync>
    });
    Admission::new(admission::Parts {
        settings: machine::Settings {
            executing_max: if limits.enabled { limits.global_max_concurrent as usize } else { usize::MAX },
            client_max,
            timeout: table.queue_timeout,
            target: table.shed_target,
            interval: table.shed_interval,
        },
        policy: match table.queue_rejection_policy {
            RejectionPolicy::FailFast => admission::Policy::FailFast,
            RejectionPolicy::QueueAll => admission::Policy::QueueAll,
            RejectionPolicy::Adaptive => admission::Policy::Adaptive,
        },
        depth_max: table.max_queue_depth as usize,
        pressure: Pressure::of_process(table.memory_threshold_percent),
        saturated,
        metrics,
        clock: Arc::new(SystemClock),
    })
}

/// Where bodies wait: where the queue is not bounded by its length.
pub(super) fn hold(config: &Config) -> Option<HoldSettings> {
    let table = &config.backpressure;
    let megabytes = |count: u32| u64::from(count) << 20;
    (table.queue_rejection_policy != RejectionPolicy::FailFast).then(|| HoldSettings {
        folder: config.queue.spool_dir.clone(),
        body_bytes_max: usize::try_from(config.server.max_body.as_u64()).unwrap_or(usize::MAX),
        memory_bytes_max: megabytes(table.max_queue_memory_mb),
        disk_bytes_max: megabytes(table.max_queue_disk_mb),
    })
}
