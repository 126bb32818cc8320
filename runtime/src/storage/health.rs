//! The health checks `database`, `redis` and `nats`: each asks its server by the path that requests use.

use std::error::Error;

use tokio::time::Instant;

use super::nats::Nats;
use super::postgres::Postgres;
use super::redis::Redis;
use crate::error::chain;
use crate::observability::health::{CheckResult, Criticality, HealthCheck};

/// `SELECT 1` through the pool. Nothing works without the database.
pub struct DatabaseCheck(pub Postgres);

/// `PING`, over the connections that the queue uses.
pub struct RedisCheck {
    /// The handle that is asked.
    pub redis: Redis,
    /// Whether the spool stands in for Redis: then Redis away degrades only.
    pub fallback_enabled: bool,
}

/// A JetStream account request. Events wait in the outbox while NATS is away.
pub struct NatsCheck(pub Nats);

#[async_trait::async_trait]
impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &str {
        "database"
    }

    async fn check(&self) -> CheckResult {
        let started = Instant::now();
        result(started, self.0.ping().await)
    }
}

#[async_trait::async_trait]
impl HealthCheck for RedisCheck {
    fn name(&self) -> &str {
        "redis"
    }

    async fn check(&self) -> CheckResult {
        let started = Instant::now();
        result(started, self.redis.ping().await)
    }

    fn criticality(&self) -> Criticality {
        if self.fallback_enabled { Criticality::Degrading } else { Criticality::Critical }
    }
}

#[async_trait::async_trait]
impl HealthCheck for NatsCheck {
    fn name(&self) -> &str {
        "nats"
    }

    async fn check(&self) -> CheckResult {
        let started = Instant::now();
        result(started, self.0.ping().await)
    }

    fn criticality(&self) -> Criticality {
        Criticality::Degrading
    }
}

fn result<E: Error + 'static>(started: Instant, asked: Result<(), E>) -> CheckResult {
    match asked {
        Ok(()) => CheckResult::healthy(started.elapsed()),
        Err(error) => CheckResult::unhealthy(chain(&error), started.elapsed()),
    }
}
