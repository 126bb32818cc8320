//! The series of loaders, told apart by `loader`.

use prometheus_client::encoding::EncodeLabelSet;

use crate::observability::metrics::{Counter, Family, Gauge, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoaderLabels {
    loader: &'static str,
}

/// The families of all loaders. Registered once; each loader takes its series by name.
#[derive(Debug, Clone)]
pub struct LoaderMetrics {
    entries: Family<LoaderLabels, Gauge>,
    batches: Family<LoaderLabels, Counter>,
    keys: Family<LoaderLabels, Counter>,
}

/// What the loaders of one name count, in all requests together. Clones count into the same series.
#[derive(Debug, Clone, Default)]
pub struct LoaderSeries {
    /// Keys that live loaders hold, asked for or answered.
    pub entries: Gauge,
    /// Calls of the batch function.
    pub batches: Counter,
    /// Keys that those calls asked for.
    pub keys: Counter,
}

impl LoaderMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { entries: Family::default(), batches: Family::default(), keys: Family::default() };
        registry.register(
            "dataloader_cache_entries",
            "Keys in the caches of live loaders",
            metrics.entries.clone(),
        );
        registry.register("dataloader_batches", "Batches that loaders asked for", metrics.batches.clone());
        registry.register("dataloader_keys", "Keys that loaders asked for", metrics.keys.clone());
        metrics
    }

    /// The series of the loaders of one name, at zero until they count.
    pub fn loader(&self, name: &'static str) -> LoaderSeries {
        let labels = LoaderLabels { loader: name };
        LoaderSeries {
            entries: self.entries.get_or_create_owned(&labels),
            batches: self.batches.get_or_create_owned(&labels),
            keys: self.keys.get_or_create_owned(&labels),
        }
    }
}
