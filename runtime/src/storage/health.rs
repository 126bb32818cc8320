//! The health checks `database`, `redis` and `nats`: each asks its server by the path that requests use.

use std::error::Error;

use tokio::time::Instant;

use super::metrics::Up;
use super::nats::Nats;
use super::postgres::Postgres;
use super::redis::Redis;
use crate::error::chain;
use crate::observability::health::{CheckResult, Criticality, HealthCheck};

/// `SELECT 1` through the pool. Nothing works without the database.
pub struct DatabaseCheck {
    /// The handle that is asked.
    pub postgres: Postgres,
    /// `dependency_up` of it.
    pub up: Up,
}

/// `PING`, over the connections that the queue uses.
pub struct RedisCheck {
    /// The handle that is asked.
    pub redis: Redis,
    /// Whether the spool stands in for Redis: then Redis away degrades only.
    pub fallback_enabled: bool,
    /// `dependency_up` of it.
    pub up: Up,
}

/// A JetStream account request. Events wait in the outbox while NATS is away.
pub struct NatsCheck {
    /// The handle that is asked.
    pub nats: Nats,
    /// `dependency_up` of it.
    pub up: Up,
}

#[async_trait::async_trait]
impl HealthCheck for DatabaseCheck {
    fn name(&self) -> &str {
        "database"
    }

    async fn check(&self) -> CheckResult {
        ask(&self.up, self.postgres.ping()).await
    }
}

#[async_trait::async_trait]
impl HealthCheck for RedisCheck {
    fn name(&self) -> &str {
        "redis"
    }

    async fn check(&self) -> CheckResult {
        ask(&self.up, self.redis.ping()).await
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
        ask(&self.up, self.nats.ping()).await
    }

    fn criticality(&self) -> Criticality {
        Criticality::Degrading
    }
}

async fn ask<E: Error + 'static>(up: &Up, ping: impl Future<Output = Result<(), E>>) -> CheckResult {
    let started = Instant::now();
    // The checker may stop waiting: then it is down.
    let mut answer = up.down_unless_told();
    match ping.await {
        Ok(()) => {
            answer.is_up();
            CheckResult::healthy(started.elapsed())
        }
        Err(error) => CheckResult::unhealthy(chain(&error), started.elapsed()),
    }
}
