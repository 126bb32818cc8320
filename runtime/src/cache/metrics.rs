//! The series of every cache, told apart by `cache_name`.

use prometheus_client::encoding::EncodeLabelSet;

use crate::observability::metrics::{Counter, Family, Gauge, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache_name: &'static str,
}

/// The families of all caches. Registered once; each cache takes its series by name.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    hits: Family<CacheLabels, Counter>,
    misses: Family<CacheLabels, Counter>,
    evictions: Family<CacheLabels, Counter>,
    stale: Family<CacheLabels, Counter>,
    errors: Family<CacheLabels, Counter>,
    entries: Family<CacheLabels, Gauge>,
    bytes: Family<CacheLabels, Gauge>,
}

/// What one cache counts. Clones count into the same series.
#[derive(Debug, Clone, Default)]
pub struct CacheSeries {
    /// Questions that the cache answered.
    pub hits: Counter,
    /// Questions that it did not, also because it failed.
    pub misses: Counter,
    /// Entries that were pushed out by others before their time was over. Redis evicts on its own and tells no one.
    pub evictions: Counter,
    /// Misses that a stale answer stood in for.
    pub stale: Counter,
    /// Calls to the cache that failed, and values that could not be read.
    pub errors: Counter,
    /// Entries in this process' memory.
    pub entries: Gauge,
    /// Bytes of those, keys and bookkeeping included.
    pub bytes: Gauge,
}

impl CacheMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            hits: Family::default(),
            misses: Family::default(),
            evictions: Family::default(),
            stale: Family::default(),
            errors: Family::default(),
            entries: Family::default(),
            bytes: Family::default(),
        };
        registry.register("cache_hits", "Questions that a cache answered", metrics.hits.clone());
        registry.register("cache_misses", "Questions that a cache did not answer", metrics.misses.clone());
        registry.register("cache_evictions", "Entries pushed out by others", metrics.evictions.clone());
        registry.register(
            "cache_stale_served",
            "Stale answers while the source was away",
            metrics.stale.clone(),
        );
        registry.register(
            "cache_errors",
            "Failed calls to a cache and values that it garbled",
            metrics.errors.clone(),
        );
        registry.register("cache_entries", "Entries in this process' memory", metrics.entries.clone());
        registry.register("cache_bytes", "Bytes of the entries in memory", metrics.bytes.clone());
        metrics
    }

    /// The series of one cache, at zero until it counts.
    pub fn cache(&self, name: &'static str) -> CacheSeries {
        let labels = CacheLabels { cache_name: name };
        CacheSeries {
            hits: self.hits.get_or_create_owned(&labels),
            misses: self.misses.get_or_create_owned(&labels),
            evictions: self.evictions.get_or_create_owned(&labels),
            stale: self.stale.get_or_create_owned(&labels),
            errors: self.errors.get_or_create_owned(&labels),
            entries: self.entries.get_or_create_owned(&labels),
            bytes: self.bytes.get_or_create_owned(&labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observability::metrics::Metrics;

    #[test]
    fn every_series_of_a_cache_is_there_from_the_start() {
        let metrics = Metrics::new();
        let caches = metrics.area(CacheMetrics::register);
        caches.cache("response").misses.inc();
        caches.cache("plan");
        let text = metrics.classic();
        for line in [
            "cache_hits_total{cache_name=\"response\"} 0",
            "cache_misses_total{cache_name=\"response\"} 1",
            "cache_misses_total{cache_name=\"plan\"} 0",
            "cache_evictions_total{cache_name=\"response\"} 0",
            "cache_stale_served_total{cache_name=\"response\"} 0",
            "cache_errors_total{cache_name=\"response\"} 0",
            "cache_entries{cache_name=\"response\"} 0",
            "cache_bytes{cache_name=\"response\"} 0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing:\n{text}");
        }
    }
}
