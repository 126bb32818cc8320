//! How much callers may ask of this server, and who of them is over it.
//!
//! Promises: a quota of a minute holds at all replicas together while Redis answers; a replica alone never lets more than
//! the whole quota through, whatever Redis says, and while Redis is away its part of it, so that no failure lets more
//! through than the quota times the replicas. Asking Redis adds [`redis_timeout`](crate::config::limits::Limits) to a
//! request at most, and nothing while it is known to be away. A limit of a second is each replica's own: it is about
//! what this process can do; a request just over it waits for its turn before it is refused.

pub mod client;
pub mod metrics;
pub mod policy;
pub mod redis;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use ipnet::IpNet;
use tokio::time::Instant;

use self::client::Client;
use self::metrics::LimitMetrics;
use self::policy::{Limit, Policy, Request};
use self::redis::Shared;
use crate::clock::Clock;
use crate::config::auth::{Auth, Tier};
use crate::config::{self, Mode};
use crate::error::chain;
use crate::resilience::breaker::{self, Breaker};
use crate::resilience::degradation::Component;
use crate::resilience::limiter::memory::Memory;
use crate::resilience::limiter::{Answer, Ask, Refused};
use crate::security::guard::Caller;
use crate::storage::redis::Redis;

/// When Redis is not asked any more, and when again.
const BREAKER: breaker::Settings = breaker::Settings {
    failure_threshold: 5,
    window: Duration::from_secs(10),
    timeout: Duration::from_secs(1),
    success_threshold: 1,
    forgiving: false,
};
/// The name of all clients together.
const EVERYBODY: &str = "*";

/// What a quota is and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Which one.
    pub limit: Limit,
    /// How many it gives.
    pub quota: u32,
    /// In which time.
    pub window: Duration,
    /// How many are left.
    pub remaining: u32,
    /// Until all of them are there again.
    pub reset: Duration,
}

impl Told {
    /// How many it gives in how many whole seconds, since headers know no shorter time.
    pub fn in_seconds(&self) -> (u32, u64) {
        let windows = Duration::from_secs(1).as_nanos() / self.window.as_nanos().max(1);
        match u32::try_from(windows) {
            Ok(0 | 1) | Err(_) => (self.quota, seconds(self.window).max(1)),
            Ok(windows) => (self.quota.saturating_mul(windows), 1),
        }
    }
}

/// A request is over a limit. Nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Which one, and how it stands.
    pub told: Told,
    /// When it is worth trying again.
    pub retry_after: Duration,
}

/// The limits of this server. Clones share them.
#[derive(Clone)]
pub struct Limits {
    shared: Arc<Inner>,
}

/// What [`Limits`] are made from.
pub struct Parts {
    /// Where quotas are shared, if they are.
    pub redis: Option<Redis>,
    /// Told when Redis is away.
    pub degraded: Component,
    /// The series.
    pub metrics: LimitMetrics,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

struct Inner {
    policy: Policy,
    tiers: HashMap<String, Tier>,
    proxies: Vec<IpNet>,
    memory: Memory,
    everybody: Memory,
    redis: Option<(Shared, Breaker)>,
    replicas: u32,
    degraded: Component,
    metrics: LimitMetrics,
    clock: Arc<dyn Clock>,
    start: Instant,
}

/// A request that this replica would let in. What it took here of quotas and of the limit of all clients is given back when it is
/// dropped before [`LetIn::confirm`] has let it in: then it was not executed. A client's limit of a second counts it all the same.
#[must_use = "all replicas together have not been asked yet"]
pub struct LetIn {
    limits: Limits,
    client: Client,
    quotas: Vec<(Limit, Ask)>,
    /// What this replica says of the quotas, and when it did.
    own: Option<(Answer, Duration)>,
    /// Of the limit of all clients together.
    everybody: Option<Ask>,
}

/// What a request may still cost when more is known of it. Cheap to clone.
#[derive(Clone)]
pub struct Ticket {
    limits: Limits,
    client: Client,
    route: Arc<str>,
}

impl Limits {
    /// The limits of a configuration.
    pub fn new(table: &config::limits::Limits, auth: &Auth, mode: Mode, parts: Parts) -> Self {
        let Parts { redis, degraded, metrics, clock } = parts;
        let redis = redis.map(|redis| {
            let breaker = Breaker::new("redis for the limits", BREAKER, clock.clone());
            (Shared::new(redis, table.redis_timeout), breaker)
        });
        let start = clock.now();
        let inner = Inner {
            policy: Policy::new(table, mode),
            tiers: auth.api_keys.iter().map(|key| (key.id.clone(), key.tier)).collect(),
            proxies: table.proxies(),
            memory: Memory::new(table.max_clients as usize),
            everybody: Memory::new(1),
            redis,
            replicas: table.replicas,
            degraded,
            metrics,
            clock,
            start,
        };
        Self { shared: Arc::new(inner) }
    }

    /// Whose request it is.
    pub fn client(&self, caller: &Caller, peer: Option<IpAddr>, headers: &HeaderMap) -> Client {
        let tier = caller.identity().and_then(|identity| self.shared.tiers.get(&identity.id).copied());
        let address = client::address(peer, headers, &self.shared.proxies);
        Client::new(caller, tier.unwrap_or_default(), address)
    }

    /// Lets a request in; a quota that it counts towards is told. It may have waited for its turn.
    ///
    /// # Errors
    /// When it is over a limit.
    pub async fn request(&self, client: &Client, route: &str, writes: bool) -> Result<Option<Told>, Refusal> {
        self.receive(client, route, writes).await?.confirm().await
    }

    /// The part of [`request`](Self::request) that asks nobody else. It may have waited for its turn.
    ///
    /// # Errors
    /// When it is over a limit of this replica, or over a quota here already.
    pub async fn receive(&self, client: &Client, route: &str, writes: bool) -> Result<LetIn, Refusal> {
        let inner = &self.shared;
        let second = inner.policy.client_second();
        let wait = match second {
            Some(ask) => inner.second(Limit::ClientSecond, &inner.memory, client, ask, &client.key)?,
            None => Duration::ZERO,
        };
        let quotas = inner.policy.quotas(Request { tier: client.tier, route, writes });
        let own = if quotas.is_empty() { None } else { Some(inner.own(client, &quotas)?) };
        let mut let_in = LetIn { limits: self.clone(), client: client.clone(), quotas, own, everybody: None };
        let ask = inner.policy.global_second();
        let global = inner.second(Limit::GlobalSecond, &inner.everybody, client, ask, EVERYBODY)?;
        let_in.everybody = Some(ask);
        let wait = wait.max(global);
        if !wait.is_zero() {
            inner.metrics.delayed();
            tokio::time::sleep(wait).await;
        }
        Ok(let_in)
    }

    /// For what is learnt of the request later.
    pub fn ticket(&self, client: &Client, route: &str) -> Ticket {
        Ticket { limits: self.clone(), client: client.clone(), route: route.into() }
    }
}

impl LetIn {
    /// Asks all replicas together, for the request is about to be executed; a quota that it counts towards is told.
    ///
    /// # Errors
    /// When it is over a quota.
    pub async fn confirm(mut self) -> Result<Option<Told>, Refusal> {
        let Some((own, when)) = self.own else {
            self.everybody = None;
            return Ok(None);
        };
        let limits = self.limits.clone();
        let told = limits.shared.together(&self.client, &self.quotas, own, when).await;
        // What was taken of the quotas is settled, whatever the answer is.
        self.own = None;
        let told = told?;
        self.everybody = None;
        Ok(Some(told))
    }
}

impl Drop for LetIn {
    fn drop(&mut self) {
        let inner = &self.limits.shared;
        if let Some((_, when)) = self.own {
            inner.memory.give_back(&self.client.key, &asks(&self.quotas), when);
        }
        if let Some(ask) = self.everybody {
            inner.everybody.give_back(EVERYBODY, &[ask], inner.now());
        }
    }
}

impl Ticket {
    /// The request, which was let in, turned out to change something.
    ///
    /// # Errors
    /// When that is over a limit.
    pub async fn writes(&self) -> Result<(), Refusal> {
        let inner = &self.limits.shared;
        match inner.policy.writes(self.client.tier) {
            Some(quota) => {
                let (own, when) = inner.own(&self.client, &[quota])?;
                inner.together(&self.client, &[quota], own, when).await.map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// One more operation, of a list or over a connection.
    ///
    /// # Errors
    /// When it is over a limit of this replica, or over a quota here already.
    pub async fn receive(&self, writes: bool) -> Result<LetIn, Refusal> {
        self.limits.receive(&self.client, &self.route, writes).await
    }

    /// Whether mutations count for themselves.
    pub fn tells_writes_apart(&self) -> bool {
        self.limits.shared.policy.writes(self.client.tier).is_some()
    }

    /// Whose it is.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Inner {
    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.start)
    }

    fn second(
        &self,
        limit: Limit,
        memory: &Memory,
        client: &Client,
        ask: Ask,
        key: &str,
    ) -> Result<Duration, Refusal> {
        let answer = memory.take(key, &[ask], self.now());
        answer.taken.map_err(|refused| self.refuse(client, told(limit, ask, answer), refused))
    }

    /// What this replica says for itself, which costs nothing and spares Redis who is over anyway.
    fn own(&self, client: &Client, quotas: &[(Limit, Ask)]) -> Result<(Answer, Duration), Refusal> {
        let now = self.now();
        let own = self.memory.take(&client.key, &asks(quotas), now);
        match own.taken {
            Ok(_) => Ok((own, now)),
            Err(refused) => {
                self.metrics.decided_in_memory();
                Err(self.refuse(client, told_of(quotas, own), refused))
            }
        }
    }

    /// What all replicas together say of what this one took `when` it did.
    async fn together(
        &self,
        client: &Client,
        quotas: &[(Limit, Ask)],
        own: Answer,
        when: Duration,
    ) -> Result<Told, Refusal> {
        let answer = self.decide(&client.key, &asks(quotas), own, when).await;
        let told = told_of(quotas, answer);
        answer.taken.map(|_| told).map_err(|refused| self.refuse(client, told, refused))
    }

    async fn decide(&self, client: &str, asks: &[Ask], own: Answer, when: Duration) -> Answer {
        let Some((shared, breaker)) = &self.redis else {
            self.metrics.decided_in_memory();
            return own;
        };
        match breaker.call(shared.take(client, asks)).await {
            Ok(answer) => {
                self.degraded.restored();
                self.metrics.decided_by_redis();
                if answer.taken.is_err() {
                    self.memory.give_back(client, asks, when);
                }
                answer
            }
            Err(error) => {
                if let breaker::Error::Call(error) = &error {
                    tracing::debug!(error = %chain(error), "redis did not decide about limits");
                }
                self.degraded.degraded("redis does not answer in time");
                self.metrics.decided_in_memory();
                self.memory.give_back(client, asks, when);
                let part: Vec<Ask> =
                    asks.iter().map(|ask| Ask { rule: ask.rule.share_of(self.replicas), ..*ask }).collect();
                self.memory.take(client, &part, self.now())
            }
        }
    }

    fn refuse(&self, client: &Client, told: Told, refused: Refused) -> Refusal {
        self.metrics.refused(told.limit, client.tier);
        tracing::debug!(client = %client.key, limit = told.limit.label(), "over a limit");
        Refusal { told, retry_after: refused.retry_after.unwrap_or(told.window) }
    }
}

/// Whole seconds, rounded up.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn asks(quotas: &[(Limit, Ask)]) -> Vec<Ask> {
    quotas.iter().map(|(_, ask)| *ask).collect()
}

fn told_of(quotas: &[(Limit, Ask)], answer: Answer) -> Told {
    let (limit, ask) = quotas[answer.at];
    told(limit, ask, answer)
}

fn told(limit: Limit, ask: Ask, answer: Answer) -> Told {
    let Answer { remaining, reset, .. } = answer;
    Told { limit, quota: ask.rule.limit(), window: ask.rule.period(), remaining, reset }
}

#[cfg(test)]
mod tests;
