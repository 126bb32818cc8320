//! A cache in Redis, which all replicas share: one command and one round trip a call.
//!
//! While Redis is not connected a call fails at once. Redis' own `maxmemory` and its policy bound the cache; whatever
//! they push out is a miss and nothing worse.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Script;

use super::{CacheProvider, Error};
use crate::storage::redis::Redis;

/// The cache. Clones share the connections.
#[derive(Clone)]
pub struct RedisCache {
    redis: Redis,
    claim: Arc<Script>,
}

impl RedisCache {
    /// A cache over the handle's connections.
    pub fn new(redis: Redis) -> Self {
        Self { redis, claim: Arc::new(Script::new(include_str!("claim.lua"))) }
    }
}

#[async_trait::async_trait]
impl CacheProvider for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        let found: Option<Vec<u8>> = self.redis.query(&command).await.map_err(Error::Redis)?;
        Ok(found.map(Bytes::from))
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("MGET");
        command.arg(keys);
        let found: Vec<Option<Vec<u8>>> = self.redis.query(&command).await.map_err(Error::Redis)?;
        if found.len() != keys.len() {
            return Err(Error::Protocol);
        }
        Ok(found.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), Error> {
        if ttl == Some(Duration::ZERO) {
            return self.delete(&[key]).await.map(drop);
        }
        let mut command = redis::cmd("SET");
        command.arg(key).arg(&value[..]);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(millis(ttl));
        }
        self.redis.query(&command).await.map_err(Error::Redis)
    }

    async fn claim(&self, keys: &[&str], value: Bytes, ttl: Duration) -> Result<Vec<Bytes>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.claim.prepare_invoke();
        for key in keys {
            call.key(*key);
        }
        call.arg(&value[..]).arg(millis(ttl));
        let values: Vec<Vec<u8>> = self.redis.invoke(&call).await.map_err(Error::Redis)?;
        if values.len() != keys.len() {
            return Err(Error::Protocol);
        }
        Ok(values.into_iter().map(Bytes::from).collect())
    }

    async fn delete(&self, keys: &[&str]) -> Result<u64, Error> {
        if keys.is_empty() {
            return Ok(0);
        }
        let mut command = redis::cmd("DEL");
        command.arg(keys);
        self.redis.query(&command).await.map_err(Error::Redis)
    }
}

/// Redis refuses a TTL below one millisecond, and one whose end its clock cannot show.
fn millis(ttl: Duration) -> u64 {
    const CENTURY: u64 = 100 * 365 * 24 * 3600 * 1000;
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, CENTURY)
}
