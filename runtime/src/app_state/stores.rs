//! PostgreSQL, Redis and NATS with how they are asked, and what keeps jobs while Redis is away, as the configuration wants them.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::queue::fallback::Fallback;
use crate::queue::metrics::QueueMetrics;
use crate::resilience::breaker;
use crate::resilience::degradation::Registrar;
use crate::resilience::dependency::{self, CallMetrics, Dependency};
use crate::resilience::retry::{Policy, Strategy};
use crate::storage::nats::{self, Nats};
use crate::storage::postgres::{self, Lending, Postgres};
use crate::storage::redis::{self, Redis};
use crate::storage::spool::Spool;

/// How postgres, redis and nats are asked.
pub(super) fn dependencies(config: &Config, metrics: &CallMetrics) -> [Dependency; 3] {
    let clock = Arc::new(SystemClock);
    let (breakers, bulkheads) = (&config.resilience.breakers, &config.resilience.bulkheads);
    // A connection of the pool that is lost costs one retry, and all may be lost at once.
    let connections = config.database.max_connections;
    let again = Policy {
        strategy: Strategy::Exponential(Duration::from_millis(100)),
        longest: Duration::from_secs(1),
        attempts: 3,
    };
    [
        ("postgres", breakers.postgres.plain(), u32::MAX >> 4, connections),
        ("redis", breakers.redis.plain(), bulkheads.redis, 10),
        ("nats", breakers.nats.plain(), bulkheads.nats, 10),
    ]
    .map(|(service, table, in_flight_max, retry_reserve)| {
        let breaker = breaker::Settings {
            failure_threshold: table.failure_threshold,
            window: table.window,
            timeout: table.timeout,
            success_threshold: table.success_threshold,
            forgiving: true,
        };
        let settings = dependency::Settings { breaker, in_flight_max, retry: again, retry_reserve };
        Dependency::new(service, settings, clock.clone(), metrics)
    })
}

pub(super) fn postgres(config: &Config) -> Result<Postgres, postgres::Error> {
    let table = &config.database;
    let limits = postgres::Limits {
        min_connections: table.min_connections,
        max_connections: table.max_connections,
        connect_timeout: table.connect_timeout,
        acquire_timeout: table.acquire_timeout,
        idle_timeout: table.idle_timeout,
        max_lifetime: table.max_lifetime,
    };
    let lending = if table.transaction_pooling { Lending::Transaction } else { Lending::Session };
    let postgres = Postgres::lent(config.urls.database.expose(), limits, table.query_timeout, lending)?;
    Ok(if config.logging.slow_queries {
        postgres.logging_slower_than(table.query_timeout / 10)
    } else {
        postgres
    })
}

pub(super) fn redis(config: &Config) -> Result<Redis, redis::Error> {
    let table = &config.cache.redis;
    let limits = redis::Limits {
        connections: table.pool_size,
        connect_timeout: table.connect_timeout,
        command_timeout: table.command_timeout,
    };
    let sentinels = match &table.sentinels[..] {
        [] => None,
        addresses => Some(redis::Sentinels::new(addresses, &table.sentinel_master)?),
    };
    Redis::of_master(config.urls.redis.expose(), sentinels, limits)
}

pub(super) async fn nats(config: &Config) -> Result<Nats, nats::Error> {
    let table = &config.nats;
    let options = nats::Options {
        connect_timeout: table.connect_timeout,
        publish_timeout: table.publish_timeout,
        stream: table.stream.clone(),
        subject_prefix: table.subject_prefix.clone(),
        duplicate_window: table.duplicate_window,
    };
    Nats::new(config.urls.nats.expose(), options).await
}

pub(super) fn fallback(
    config: &Config,
    metrics: &QueueMetrics,
    degradations: &Registrar,
) -> Result<Fallback, Error> {
    let folder = config.queue.spool_dir.clone();
    let spool = Spool::open(&folder, config.queue.spool_max_bytes.as_u64());
    let spool = spool.map_err(|source| Error::Spool { folder, source })?;
    let degraded = degradations.component("queue", "jobs are kept on disk until redis takes them");
    Ok(Fallback::new(spool, metrics.clone(), degraded))
}
