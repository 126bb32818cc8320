//! The series of the query engine.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::histogram::Histogram;

use crate::observability::metrics::{Counter, Family, Gauge, Registry};

/// What looking for an operation's plan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum LookupLabel {
    /// It was there.
    hit,
    /// It had to be made.
    miss,
    /// It had to go for another.
    evicted,
}

/// Labels of `graphql_plan_cache_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    /// What happened.
    pub result: LookupLabel,
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum OutcomeLabel {
    /// Without an error.
    ok,
    /// With an error of the caller's making.
    refused,
    /// With an error of ours.
    failed,
}

/// Labels of `graphql_operations_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// How it ended.
    pub result: OutcomeLabel,
}

/// The engine's families.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    cache: Family<CacheLabels, Counter>,
    operations: Family<OperationLabels, Counter>,
    /// What operations cost.
    pub complexity: Histogram,
    /// Operations whose plans are kept.
    pub cached: Gauge,
}

impl EngineMetrics {
    /// Registers the families with their series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            cache: Family::default(),
            operations: Family::default(),
            complexity: Histogram::new([
                1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0,
            ]),
            cached: Gauge::default(),
        };
        for result in [LookupLabel::hit, LookupLabel::miss, LookupLabel::evicted] {
            metrics.count_lookup(result, 0);
        }
        for result in [OutcomeLabel::ok, OutcomeLabel::refused, OutcomeLabel::failed] {
            metrics.operations.get_or_create(&OperationLabels { result }).inc_by(0);
        }
        registry.register("graphql_plan_cache", "Lookups of plans", metrics.cache.clone());
        registry.register("graphql_operations", "Operations by how they ended", metrics.operations.clone());
        registry.register("graphql_query_complexity", "What operations cost", metrics.complexity.clone());
        registry.register("graphql_plans_cached", "Operations whose plans are kept", metrics.cached.clone());
        metrics
    }

    /// Counts lookups.
    pub fn count_lookup(&self, result: LookupLabel, by: u64) {
        self.cache.get_or_create(&CacheLabels { result }).inc_by(by);
    }

    /// Counts an operation.
    pub fn count_operation(&self, result: OutcomeLabel) {
        self.operations.get_or_create(&OperationLabels { result }).inc();
    }
}
