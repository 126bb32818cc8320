//! The series of traces.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

use crate::observability::metrics::{Counter, Family, Registry};

/// Why a trace is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Kept {
    /// The sampling said so.
    sampled,
    /// It failed.
    failed,
}

/// Why a span was not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum Lost {
    /// Too many traces waited.
    queue_full,
    /// The collector did not take them.
    export_failed,
    /// Its trace had too many.
    too_many,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeptLabels {
    reason: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LostLabels {
    reason: Lost,
}

/// The families.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    kept: Family<KeptLabels, Counter>,
    lost: Family<LostLabels, Counter>,
    /// Spans that the collector took.
    pub exported: Counter,
}

impl TraceMetrics {
    /// Registers the families with their series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self { kept: Family::default(), lost: Family::default(), exported: Counter::default() };
        for reason in [Kept::sampled, Kept::failed] {
            metrics.kept.get_or_create(&KeptLabels { reason }).inc_by(0);
        }
        for reason in [Lost::queue_full, Lost::export_failed, Lost::too_many] {
            metrics.count_lost(reason, 0);
        }
        registry.register("trace_kept", "Traces that are exported, by why", metrics.kept.clone());
        registry.register("trace_spans_exported", "Spans that the collector took", metrics.exported.clone());
        registry.register(
            "trace_spans_dropped",
            "Spans that were not exported, by why",
            metrics.lost.clone(),
        );
        metrics
    }

    /// Counts a trace.
    pub fn count_kept(&self, reason: Kept) {
        self.kept.get_or_create(&KeptLabels { reason }).inc();
    }

    /// Counts spans.
    pub fn count_lost(&self, reason: Lost, spans: u64) {
        self.lost.get_or_create(&LostLabels { reason }).inc_by(spans);
    }
}
