//! The series of admission and backpressure.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use super::machine::{Machine, Reason};
use crate::observability::metrics::{Counter, Family, Gauge, Histogram, Registry, latency_histogram};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: &'static str,
}

/// What admission counts.
#[derive(Debug, Clone)]
pub struct AdmissionMetrics {
    executing: Gauge,
    waiting: Gauge,
    queued: Counter,
    wait: Histogram,
    rejections: Family<Labels, Counter>,
    pressed: Gauge,
    spilled: Counter,
    spilled_bytes: Gauge,
}

impl AdmissionMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        registry.register("admission_executing", "Requests that are executed now", metrics.executing.clone());
        registry.register("admission_waiting", "Requests that wait for their turn", metrics.waiting.clone());
        registry.register("backpressure_queued", "Requests that had to wait", metrics.queued.clone());
        registry.register(
            "admission_wait_seconds",
            "How long requests waited, whatever became of them",
            metrics.wait.clone(),
        );
        registry.register(
            "backpressure_rejections",
            "Requests that were refused for what there was to do, by reason",
            metrics.rejections.clone(),
        );
        registry.register(
            "backpressure_memory_high",
            "Whether more memory is used than the threshold",
            metrics.pressed.clone(),
        );
        registry.register(
            "backpressure_spilled",
            "Bodies of waiting requests that went to disk",
            metrics.spilled.clone(),
        );
        registry.register(
            "backpressure_spilled_bytes",
            "Bytes of waiting requests on disk now",
            metrics.spilled_bytes.clone(),
        );
        metrics
    }

    /// Counts for nobody.
    pub fn unregistered() -> Self {
        let metrics = Self {
            executing: Gauge::default(),
            waiting: Gauge::default(),
            queued: Counter::default(),
            wait: latency_histogram(),
            rejections: Family::default(),
            pressed: Gauge::default(),
            spilled: Counter::default(),
            spilled_bytes: Gauge::default(),
        };
        for reason in Reason::ALL {
            drop(metrics.rejections.get_or_create(&Labels { reason: reason.label() }));
        }
        metrics
    }

    pub(super) fn measure(&self, machine: &Machine) {
        self.executing.set(i64::try_from(machine.executing()).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(machine.waiting()).unwrap_or(i64::MAX));
    }

    pub(super) fn queued(&self) {
        self.queued.inc();
    }

    pub(super) fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    pub(super) fn rejected(&self, reason: Reason) {
        self.rejections.get_or_create(&Labels { reason: reason.label() }).inc();
    }

    pub(super) fn pressed(&self, high: bool) {
        self.pressed.set(high.into());
    }

    /// A piece of a body went to disk, its `first` or another; to be followed by [`unspilled`](Self::unspilled).
    pub fn spilled(&self, bytes: u64, first: bool) {
        self.spilled.inc_by(first.into());
        self.spilled_bytes.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// It is not there any more.
    pub fn unspilled(&self, bytes: u64) {
        self.spilled_bytes.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
