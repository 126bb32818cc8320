//! The series of the query engine.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::histogram::Histogram;

use super::schema::model::Schema;
use crate::observability::metrics::{Counter, Family, Gauge, Registry};
use crate::security::monitor::SecurityMonitor;

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

/// Labels of `graphql_results_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabels {
    /// How it ended.
    pub result: OutcomeLabel,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the values of the label")]
pub enum TypeLabel {
    /// It reads.
    query,
    /// It writes.
    mutation,
    /// It waits for events.
    subscription,
    /// It was refused before that was known.
    unknown,
}

impl TypeLabel {
    const ALL: [Self; 4] = [Self::query, Self::mutation, Self::subscription, Self::unknown];

    /// As it stands in a label or an attribute.
    pub const fn name(self) -> &'static str {
        match self {
            Self::query => "query",
            Self::mutation => "mutation",
            Self::subscription => "subscription",
            Self::unknown => "unknown",
        }
    }
}

impl From<OperationType> for TypeLabel {
    fn from(kind: OperationType) -> Self {
        match kind {
            OperationType::Query => Self::query,
            OperationType::Mutation => Self::mutation,
            OperationType::Subscription => Self::subscription,
        }
    }
}

/// Labels of `graphql_operations_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// What it is.
    pub operation_type: TypeLabel,
    /// The name of an operation of the configured list, else [`OTHER`]: callers may choose any.
    pub operation_name: Arc<str>,
}

/// Labels of `graphql_errors_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ErrorLabels {
    /// `extensions.code`, if it is one of ours or of the schema's, else [`OTHER`].
    pub error_code: Arc<str>,
}

/// What stands for every value that is not known beforehand.
pub const OTHER: &str = "other";

/// `graphql_operations_total`, with the names that are known.
#[derive(Debug, Clone)]
struct Operations {
    family: Family<OperationLabels, Counter>,
    others: Arc<[Counter; 4]>,
    known: Arc<HashMap<Box<str>, [Counter; 4]>>,
}

impl Operations {
    fn new() -> Self {
        let family = Family::default();
        let others = Arc::new(Self::counters(&family, OTHER));
        Self { family, others, known: Arc::default() }
    }

    fn counters(family: &Family<OperationLabels, Counter>, name: &str) -> [Counter; 4] {
        TypeLabel::ALL.map(|operation_type| {
            let operation_name = Arc::from(name);
            family.get_or_create_owned(&OperationLabels { operation_type, operation_name })
        })
    }

    fn count(&self, kind: TypeLabel, name: Option<&str>) {
        let counters = name.and_then(|name| self.known.get(name)).unwrap_or(&self.others);
        counters[kind as usize].inc();
    }
}

/// `graphql_errors_total`, with the codes that are known.
#[derive(Debug, Clone)]
pub struct Errors {
    family: Family<ErrorLabels, Counter>,
    known: Arc<HashMap<Box<str>, Counter>>,
    other: Counter,
}

impl Errors {
    fn new() -> Self {
        let family = Family::default();
        let counter = |code: &str| family.get_or_create_owned(&ErrorLabels { error_code: Arc::from(code) });
        let known = KNOWN_CODES.iter().map(|code| (Box::from(*code), counter(code))).collect();
        let other = counter(OTHER);
        Self { known: Arc::new(known), other, family }
    }

    /// Counts an error.
    pub fn count(&self, code: &str) {
        self.known.get(code).unwrap_or(&self.other).inc();
    }

    /// Also knows these codes.
    fn with<'c>(&self, codes: impl Iterator<Item = &'c str>) -> Self {
        let mut known = HashMap::clone(&self.known);
        for code in codes {
            known.entry(code.into()).or_insert_with(|| {
                self.family.get_or_create_owned(&ErrorLabels { error_code: Arc::from(code) })
            });
        }
        Self { known: Arc::new(known), other: self.other.clone(), family: self.family.clone() }
    }
}

/// What `extensions.code` may be without the schema's doing.
const KNOWN_CODES: [&str; 22] = [
    "BAD_USER_INPUT",
    "NOT_FOUND",
    "IDEMPOTENCY_CONFLICT",
    "INVALID_TRANSITION",
    "TIMEOUT",
    "UNAVAILABLE",
    "INTERNAL",
    "CIRCUIT_OPEN",
    "SERVICE_DEGRADED",
    "VALIDATION",
    "LIMIT_EXCEEDED",
    "UNAUTHENTICATED",
    "FORBIDDEN",
    "RATE_LIMITED",
    "QUEUE_FULL",
    "QUEUE_TIMEOUT",
    "TOO_MANY_CONCURRENT_REQUESTS",
    "OVERLOADED",
    "OUT_OF_MEMORY",
    "POOL_SATURATED",
    "PERSISTED_QUERY_NOT_FOUND",
    "PERSISTED_QUERY_ONLY",
];

/// The engine's families.
#[derive(Debug, Clone)]
pub struct EngineMetrics {
    cache: Family<CacheLabels, Counter>,
    operations: Operations,
    results: Family<ResultLabels, Counter>,
    /// Errors in answers, by code.
    pub errors: Errors,
    /// Told of what callers may not.
    pub monitor: Option<SecurityMonitor>,
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
            operations: Operations::new(),
            results: Family::default(),
            errors: Errors::new(),
            monitor: None,
            complexity: Histogram::new([
                1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0,
            ]),
            cached: Gauge::default(),
        };
        for result in [LookupLabel::hit, LookupLabel::miss, LookupLabel::evicted] {
            metrics.count_lookup(result, 0);
        }
        for result in [OutcomeLabel::ok, OutcomeLabel::refused, OutcomeLabel::failed] {
            metrics.results.get_or_create(&ResultLabels { result }).inc_by(0);
        }
        registry.register("graphql_plan_cache", "Lookups of plans", metrics.cache.clone());
        let operations = metrics.operations.family.clone();
        registry.register("graphql_operations", "Operations by type and by known name", operations);
        registry.register("graphql_results", "Operations by how they ended", metrics.results.clone());
        registry.register("graphql_errors", "Errors in answers by code", metrics.errors.family.clone());
        registry.register("graphql_query_complexity", "What operations cost", metrics.complexity.clone());
        registry.register("graphql_plans_cached", "Operations whose plans are kept", metrics.cached.clone());
        metrics
    }

    /// Counts lookups.
    pub fn count_lookup(&self, result: LookupLabel, by: u64) {
        self.cache.get_or_create(&CacheLabels { result }).inc_by(by);
    }

    /// Knows operations of these names, whose series begin at zero.
    #[must_use]
    pub fn knowing(mut self, names: impl IntoIterator<Item = String>) -> Self {
        let family = &self.operations.family;
        let known = names.into_iter().map(|name| {
            let counters = Operations::counters(family, &name);
            (name.into_boxed_str(), counters)
        });
        self.operations.known = Arc::new(known.collect());
        self
    }

    /// Knows the codes that a schema gives its constraints.
    #[must_use]
    pub(super) fn of_schema(mut self, schema: &Schema) -> Self {
        self.errors = self.errors.with(schema.constraints.values().map(|meaning| meaning.code.as_str()));
        self
    }

    /// Tells somebody of what callers may not.
    #[must_use]
    pub fn watched_by(mut self, monitor: SecurityMonitor) -> Self {
        self.monitor = Some(monitor);
        self
    }

    /// Counts an operation.
    pub fn count_operation(&self, kind: TypeLabel, name: Option<&str>, result: OutcomeLabel) {
        self.operations.count(kind, name);
        self.results.get_or_create(&ResultLabels { result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::metrics::Metrics;

    #[test]
    fn names_and_codes_that_nobody_knows_are_other_ones() {
        let registry = Metrics::new();
        let metrics = registry.area(EngineMetrics::register).knowing(["Shop".to_owned()]);
        let series = || registry.classic().lines().count();
        let before = series();
        for number in 0..100 {
            let name = format!("Made{number}");
            metrics.count_operation(TypeLabel::query, Some(&name), OutcomeLabel::ok);
            metrics.errors.count(&format!("CODE_{number}"));
        }
        metrics.count_operation(TypeLabel::query, Some("Shop"), OutcomeLabel::ok);
        metrics.count_operation(TypeLabel::unknown, None, OutcomeLabel::refused);
        metrics.errors.count("VALIDATION");
        assert_eq!(series(), before, "callers cannot add series");
        let text = registry.classic();
        for line in [
            "graphql_operations_total{operation_type=\"query\",operation_name=\"other\"} 100",
            "graphql_operations_total{operation_type=\"query\",operation_name=\"Shop\"} 1",
            "graphql_operations_total{operation_type=\"mutation\",operation_name=\"Shop\"} 0",
            "graphql_operations_total{operation_type=\"unknown\",operation_name=\"other\"} 1",
            "graphql_errors_total{error_code=\"other\"} 100",
            "graphql_errors_total{error_code=\"VALIDATION\"} 1",
            "graphql_errors_total{error_code=\"INTERNAL\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing:\n{text}");
        }
    }
}
