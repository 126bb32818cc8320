//! A cache in this process: several bounded maps, each behind a lock of its own, so that threads seldom meet.
//!
//! Each map has its share of the bounds; one value may take up a whole share at most. Other processes do not see it,
//! so invalidation reaches this process alone.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::bounded::{Bounded, Bounds};
use super::metrics::CacheSeries;
use super::{CacheProvider, Error};
use crate::clock::Clock;
use crate::config::cache::Response;

const SHARDS_MAX: usize = 16;
/// With fewer entries in a map than this, chance would fill one map while another is empty.
const SHARD_ENTRIES_MIN: usize = 64;

/// How much a cache holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: usize,
    /// Bytes of keys and values, with about 160 bytes of bookkeeping an entry.
    pub bytes: usize,
}

impl From<&Response> for Limits {
    fn from(table: &Response) -> Self {
        let bytes = usize::try_from(table.max_bytes.as_u64()).unwrap_or(usize::MAX);
        Self { entries: table.max_entries as usize, bytes }
    }
}

/// The cache.
pub struct MemoryCache {
    shards: Box<[Mutex<Bounded>]>,
    hasher: RandomState,
    clock: Arc<dyn Clock>,
    series: CacheSeries,
}

impl MemoryCache {
    /// An empty cache. It keeps `entries`, `bytes` and `evictions` of its series up to date.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>, series: CacheSeries) -> Self {
        let shards = (limits.entries / SHARD_ENTRIES_MIN).clamp(1, SHARDS_MAX);
        let bounds = Bounds { entries: limits.entries / shards, bytes: limits.bytes / shards };
        let shards = (0..shards).map(|_| Mutex::new(Bounded::new(bounds))).collect();
        Self { shards, hasher: RandomState::new(), clock, series }
    }

    fn get_now(&self, key: &str) -> Option<Bytes> {
        self.with(key, |shard, now| shard.get(key, now))
    }

    /// Runs `work` on the key's map and brings the gauges up to date.
    fn with<T>(&self, key: &str, work: impl FnOnce(&mut Bounded, Instant) -> T) -> T {
        let now = self.clock.now();
        let shard = self.hasher.hash_one(key) as usize % self.shards.len();
        let mut shard = self.shards[shard].lock();
        let before = (shard.len(), shard.bytes());
        let result = work(&mut shard, now);
        let after = (shard.len(), shard.bytes());
        drop(shard);
        if before != after {
            self.series.entries.inc_by(after.0 as i64 - before.0 as i64);
            self.series.bytes.inc_by(after.1 as i64 - before.1 as i64);
        }
        result
    }

    fn set_in(&self, shard: &mut Bounded, key: &str, value: &[u8], ttl: Option<Duration>, now: Instant) {
        let expires = ttl.and_then(|ttl| now.checked_add(ttl));
        // A copy, because a slice of a larger buffer would keep all of it alive.
        let evicted = shard.set(key, Bytes::copy_from_slice(value), expires, now);
        self.series.evictions.inc_by(evicted);
    }
}

#[async_trait::async_trait]
impl CacheProvider for MemoryCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.get_now(key))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, Error> {
        Ok(keys.iter().map(|key| self.get_now(key)).collect())
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), Error> {
        self.with(key, |shard, now| {
            if ttl == Some(Duration::ZERO) {
                shard.remove(key);
            } else {
                self.set_in(shard, key, &value, ttl, now);
            }
        });
        Ok(())
    }

    async fn claim(&self, keys: &[&str], value: Bytes, ttl: Duration) -> Result<Vec<Bytes>, Error> {
        let claim = |key: &&str| {
            self.with(key, |shard, now| {
                shard.get(key, now).unwrap_or_else(|| {
                    self.set_in(shard, key, &value, Some(ttl), now);
                    value.clone()
                })
            })
        };
        Ok(keys.iter().map(claim).collect())
    }

    async fn delete(&self, keys: &[&str]) -> Result<u64, Error> {
        let gone = keys.iter().filter(|key| self.with(key, |shard, _| shard.remove(key)));
        Ok(gone.count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::bounded::OVERHEAD;
    use crate::clock::TestClock;

    struct Bench {
        cache: MemoryCache,
        clock: Arc<TestClock>,
        series: CacheSeries,
    }

    fn bench(entries: usize, bytes: usize) -> Bench {
        let (clock, series) = (Arc::new(TestClock::default()), CacheSeries::default());
        let cache = MemoryCache::new(Limits { entries, bytes }, clock.clone(), series.clone());
        Bench { cache, clock, series }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn a_value_lasts_for_its_ttl() {
        let Bench { cache, clock, series } = bench(1000, 1 << 20);
        cache.set("short", bytes("1"), Some(Duration::from_secs(2))).await.expect("stored");
        cache.set("long", bytes("2"), None).await.expect("stored");
        assert_eq!(series.entries.get(), 2);
        clock.advance(Duration::from_millis(1_999));
        assert_eq!(cache.get("short").await.expect("read"), Some(bytes("1")));
        clock.advance(Duration::from_millis(1));
        assert_eq!(
            cache.get_many(&["short", "long", "none"]).await.expect("read"),
            [None, Some(bytes("2")), None]
        );
        assert_eq!(series.entries.get(), 1);
        assert_eq!(series.bytes.get(), (OVERHEAD + "long".len() + 1) as i64);
        cache.set("long", bytes("3"), Some(Duration::ZERO)).await.expect("deleted");
        assert_eq!(cache.get("long").await.expect("read"), None);
        assert_eq!(series.bytes.get(), 0);
    }

    #[tokio::test]
    async fn however_much_is_stored_the_cache_stays_within_its_limits_and_counts_what_went() {
        let Bench { cache, series, .. } = bench(640, 1 << 20);
        for n in 0..5_000 {
            cache.set(&format!("key{n}"), bytes("value"), None).await.expect("stored");
        }
        let entries = series.entries.get();
        assert!((600..=640).contains(&entries), "{entries}");
        assert_eq!(series.evictions.get(), 5_000 - entries as u64);
        assert_eq!(cache.shards.iter().map(|shard| shard.lock().len() as i64).sum::<i64>(), entries);
    }

    #[tokio::test]
    async fn a_claimed_key_has_one_value_for_all_who_ask() {
        let Bench { cache, .. } = bench(10, 1 << 20);
        cache.set("a", bytes("old"), None).await.expect("stored");
        let ttl = Duration::from_secs(1);
        assert_eq!(
            cache.claim(&["a", "b"], bytes("x"), ttl).await.expect("claimed"),
            [bytes("old"), bytes("x")]
        );
        assert_eq!(cache.claim(&["b"], bytes("y"), ttl).await.expect("claimed"), [bytes("x")]);
        assert_eq!(cache.delete(&["a", "b", "c"]).await.expect("deleted"), 2);
        assert_eq!(cache.claim(&["b"], bytes("y"), ttl).await.expect("claimed"), [bytes("y")]);
    }
}
