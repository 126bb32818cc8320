//! The series of the stores: whether each is up, how many database connections there are, how far replicas are behind.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::postgres::Postgres;
use super::replication::Replica;
use crate::observability::metrics::{Family, Gauge, Registry};

/// Reads the pool's size when somebody scrapes.
pub struct PoolCollector {
    postgres: Postgres,
}

impl PoolCollector {
    /// A collector for the registry.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

impl std::fmt::Debug for PoolCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolCollector").field("size", &self.postgres.size()).finish()
    }
}

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let size = self.postgres.size();
        let mut family = encoder.encode_descriptor(
            "db_pool_size",
            "Database connections of the pool",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [("idle", size.idle), ("active", size.active)] {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabels {
    dependency: &'static str,
}

/// `dependency_up`: 1 when the last health check was answered, else 0.
#[derive(Debug, Clone)]
pub struct DependencyMetrics {
    up: Family<DependencyLabels, Gauge>,
}

impl DependencyMetrics {
    /// Registers the family.
    pub fn register(registry: &mut Registry) -> Self {
        let up = Family::default();
        registry.register(
            "dependency_up",
            "Whether the dependency answered its last health check",
            up.clone(),
        );
        Self { up }
    }

    /// The gauge of one dependency, down until told otherwise.
    pub fn up(&self, dependency: &'static str) -> Up {
        Up(self.up.get_or_create_owned(&DependencyLabels { dependency }))
    }
}

/// Whether one dependency is up.
#[derive(Debug, Clone)]
pub struct Up(Gauge);

impl Up {
    /// Sets the gauge when the answer is dropped.
    pub(super) fn down_unless_told(&self) -> Answer<'_> {
        Answer { gauge: &self.0, up: false }
    }
}

pub(super) struct Answer<'a> {
    gauge: &'a Gauge,
    up: bool,
}

impl Answer<'_> {
    pub(super) fn is_up(&mut self) {
        self.up = true;
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        self.gauge.set(i64::from(self.up));
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    replica: String,
}

/// `db_replication_lag_bytes` and `db_replication_lag_seconds` of each replica.
#[derive(Debug, Clone)]
pub struct ReplicationMetrics {
    bytes: Family<ReplicaLabels, Gauge>,
    seconds: Family<ReplicaLabels, Gauge<f64, AtomicU64>>,
    shown: Arc<Mutex<Vec<ReplicaLabels>>>,
}

impl ReplicationMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let (bytes, seconds) = (Family::default(), Family::default());
        registry.register(
            "db_replication_lag_bytes",
            "Bytes of the database's log that the replica has not replayed",
            bytes.clone(),
        );
        registry.register(
            "db_replication_lag_seconds",
            "Seconds between a commit and its replay on the replica, 0 while nothing is written",
            seconds.clone(),
        );
        Self { bytes, seconds, shown: Arc::default() }
    }

    /// Has the series of these replicas and of no other.
    pub(super) fn set(&self, replicas: &[Replica]) {
        let mut now = Vec::with_capacity(replicas.len());
        for replica in replicas {
            let labels = ReplicaLabels { replica: replica.name.clone() };
            self.bytes.get_or_create(&labels).set(replica.bytes);
            self.seconds.get_or_create(&labels).set(replica.seconds);
            now.push(labels);
        }
        let mut shown = self.shown.lock();
        for gone in shown.iter().filter(|labels| !now.contains(labels)) {
            self.bytes.remove(gone);
            self.seconds.remove(gone);
        }
        *shown = now;
    }
}
