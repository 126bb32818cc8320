//! The series of the stores: how many database connections there are. The other handles say through the health
//! checks whether they are up.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::postgres::Postgres;

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
