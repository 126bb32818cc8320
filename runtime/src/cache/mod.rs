//! Answers that are kept, so that the same question need not be asked of the database again.
//!
//! Promises: a cache never fails a request, since its errors are misses to every caller here; it is bounded in
//! entries, bytes and time; an answer is given only to whom it was computed for ([`key`]) and, unless its schema
//! allows a stale one while the source is away, only while no table that it read has been changed by a mutation whose
//! caller was told so ([`versions`]).
//! Absent on purpose: two layers (memory before Redis). A layer that must ask Redis for versions saves no round trip.

mod bounded;
pub mod control;
pub mod error;
pub mod key;
pub mod memory;
pub mod metrics;
#[cfg(test)]
mod model;
pub mod redis;
pub mod respond;
pub mod response;
pub mod single_flight;
pub mod versions;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::error::Error;
use self::memory::MemoryCache;
use self::metrics::CacheSeries;
use self::redis::RedisCache;
use crate::clock::Clock;
use crate::config::cache::{Backend, Response};
use crate::storage::redis::Redis;

/// A bounded map from keys to bytes that may forget any entry at any time.
///
/// Dropping a call may leave it done or not; so may an error.
#[async_trait::async_trait]
pub trait CacheProvider: Send + Sync + 'static {
    /// The value of a key; `None` when there is none or its time is over.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error>;

    /// The values of several keys in one round trip, in the order of the keys.
    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, Error>;

    /// Keeps a value for `ttl`, or until it is forgotten without one. A TTL of zero deletes the key.
    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), Error>;

    /// Gives `value` to those keys that have none, for `ttl`, and answers what each key has now, in their order. Two
    /// callers at the same time get the same answer.
    async fn claim(&self, keys: &[&str], value: Bytes, ttl: Duration) -> Result<Vec<Bytes>, Error>;

    /// Deletes keys; answers how many of them had a value.
    async fn delete(&self, keys: &[&str]) -> Result<u64, Error>;
}

/// Values as JSON, in any cache.
pub trait JsonCache {
    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::Decode`] when the bytes are not a `T`; otherwise as [`CacheProvider::get`].
    fn get_json<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> impl Future<Output = Result<Option<T>, Error>> + Send;

    /// Keeps a value, as [`CacheProvider::set`] does.
    ///
    /// # Errors
    /// [`Error::Encode`] when the value has no JSON form; otherwise as [`CacheProvider::set`].
    fn set_json<T: Serialize + Sync>(
        &self,
        key: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

impl<C: CacheProvider + ?Sized> JsonCache for C {
    async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let found = self.get(key).await?;
        found.map(|bytes| serde_json::from_slice(&bytes).map_err(Error::Decode)).transpose()
    }

    async fn set_json<T: Serialize + Sync>(
        &self,
        key: &str,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value).map_err(Error::Encode)?;
        self.set(key, bytes.into(), ttl).await
    }
}

/// The cache that `[cache.response]` asks for; `None` when it is switched off.
pub fn provider(
    table: &Response,
    redis: &Redis,
    clock: Arc<dyn Clock>,
    series: &CacheSeries,
) -> Option<Arc<dyn CacheProvider>> {
    if !table.enabled {
        return None;
    }
    Some(match table.backend {
        Backend::Redis => Arc::new(RedisCache::new(redis.clone())),
        Backend::Memory => Arc::new(MemoryCache::new(table.into(), clock, series.clone())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;
    use crate::storage::redis::Limits;

    fn provider_of(table: &Response) -> Option<Arc<dyn CacheProvider>> {
        let (connections, timeout) = (1, Duration::from_millis(1));
        let limits = Limits { connections, connect_timeout: timeout, command_timeout: timeout };
        let redis = Redis::new("redis://127.0.0.1:1", limits).expect("a URL");
        provider(table, &redis, Arc::new(TestClock::default()), &CacheSeries::default())
    }

    #[tokio::test]
    async fn the_table_chooses_the_cache() {
        let table = Response { enabled: true, ..Response::default() };
        assert!(provider_of(&Response { enabled: false, ..table.clone() }).is_none());
        let memory = provider_of(&Response { backend: Backend::Memory, ..table.clone() }).expect("a cache");
        assert!(matches!(memory.get("k").await, Ok(None)));
        let redis = provider_of(&Response { backend: Backend::Redis, ..table }).expect("a cache");
        assert!(matches!(redis.get("k").await, Err(Error::Redis(_))), "nothing listens there");
    }

    #[tokio::test]
    async fn json_reads_back_and_anything_else_is_an_error() {
        let cache = provider_of(&Response { enabled: true, backend: Backend::Memory, ..Response::default() });
        let cache = cache.expect("a cache");
        cache.set_json("k", &[1, 2], None).await.expect("stored");
        assert_eq!(cache.get_json::<Vec<u8>>("k").await.expect("read"), Some(vec![1, 2]));
        assert_eq!(cache.get_json::<u8>("other").await.expect("read"), None);
        cache.set("k", Bytes::from_static(b"[1,"), None).await.expect("stored");
        assert!(matches!(cache.get_json::<Vec<u8>>("k").await, Err(Error::Decode(_))));
    }
}
