//! Answers to queries, found by key and valid while no table that they read was changed.
//!
//! Promises: [`get`](ResponseCache::get) takes one round trip, versions included; a failing cache is a miss and is
//! counted; an answer is stored only under the versions that were in force before it was computed. An invalidation
//! that the cache did not confirm is owed: until it is made up for, this process uses and stores no answer about those
//! tables, while other replicas may give theirs until their time is over. The same holds for a process that ends
//! between a commit and its invalidation.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::control::{CacheControl, CacheControlParser};
use super::key::{Audience, Key, Operation};
use super::metrics::CacheSeries;
use super::versions::{self, Owed, Tables, Versions};
use super::{CacheProvider, Error, JsonCache};
use crate::clock::Clock;
use crate::config::cache::Response;
use crate::error::chain;
use crate::resilience::degradation::Component;

/// How often owed invalidations are tried again.
const OWED_PERIOD: Duration = Duration::from_secs(1);

/// An answer as the cache holds it, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedResponse {
    /// When its computation began.
    pub cached_at: DateTime<Utc>,
    /// How long it is fresh from then on.
    max_age_ms: u64,
    /// How much longer it may stand in for its source.
    stale_if_error_ms: u64,
    versions: Versions,
    /// The JSON of the answer's `data`.
    #[serde(with = "raw")]
    pub data: Bytes,
}

/// Whether an answer may still be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freshness {
    Fresh,
    Stale,
    Over,
}

impl CachedResponse {
    /// How old it is; nothing for one from a clock that is ahead of ours.
    pub fn age(&self, now: DateTime<Utc>) -> Duration {
        (now - self.cached_at).to_std().unwrap_or_default()
    }

    fn freshness(&self, now: DateTime<Utc>) -> Freshness {
        let (age, max_age) = (self.age(now), Duration::from_millis(self.max_age_ms));
        if age < max_age {
            Freshness::Fresh
        } else if age < max_age.saturating_add(Duration::from_millis(self.stale_if_error_ms)) {
            Freshness::Stale
        } else {
            Freshness::Over
        }
    }
}

/// What the cache has for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// An answer to give.
    Fresh(CachedResponse),
    /// One to give only if the source is away.
    Stale(CachedResponse, Ticket),
    /// None.
    Miss(Ticket),
}

/// Permission to store the answer to a question that was missed: made before the answer is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    key: Key,
    tables: Tables,
    era: Era,
    asked_at: DateTime<Utc>,
}

/// What was in force when a question was asked: who asks in a later one must not get an answer from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Era {
    Versions(Versions),
    /// The cache did not tell: how many invalidations this process had seen.
    Unknown(u64),
}

/// Computations with the same flight give the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Flight {
    key: Key,
    era: Era,
}

impl Ticket {
    pub(super) fn flight(&self) -> Flight {
        Flight { key: self.key.clone(), era: self.era.clone() }
    }
}

/// The cache of answers. Clones share it.
#[derive(Clone)]
pub struct ResponseCache {
    shared: Arc<Shared>,
}

struct Shared {
    cache: Arc<dyn CacheProvider>,
    cache_control_parser: CacheControlParser,
    table: Response,
    clock: Arc<dyn Clock>,
    series: CacheSeries,
    owed: Mutex<Owed>,
    invalidations: AtomicU64,
    degraded: OnceLock<Component>,
}

impl ResponseCache {
    /// A cache over `cache`. It keeps `hits`, `misses`, `stale` and `errors` of its series up to date.
    pub fn new(
        cache: Arc<dyn CacheProvider>,
        table: Response,
        clock: Arc<dyn Clock>,
        series: CacheSeries,
    ) -> Self {
        let cache_control_parser = CacheControlParser::new(table.default_ttl);
        let (owed, invalidations) = (Mutex::default(), AtomicU64::new(0));
        let degraded = OnceLock::new();
        let shared =
            Shared { cache, cache_control_parser, table, clock, series, owed, invalidations, degraded };
        Self { shared: Arc::new(shared) }
    }

    /// Tells `component` whether answers are kept. The first one that is named is told.
    #[must_use]
    pub fn telling(self, component: Component) -> Self {
        let _ = self.shared.degraded.set(component);
        self
    }

    /// The key of what `audience` is answered to `operation`.
    pub fn cache_key(&self, operation: &Operation<'_>, audience: &Audience<'_>) -> Key {
        Key::new(operation, audience)
    }

    /// Reads `@cacheControl` of a schema, with `default_ttl` for one without `maxAge`.
    pub fn cache_control_parser(&self) -> CacheControlParser {
        self.shared.cache_control_parser
    }

    /// How long an answer under `control` is fresh: its `maxAge` up to `max_ttl`; `None` when it is not to be kept.
    pub fn get_cache_ttl(&self, control: &CacheControl) -> Option<Duration> {
        let ttl = control.max_age.min(self.shared.table.max_ttl);
        (!ttl.is_zero()).then_some(ttl)
    }

    /// Looks an answer up that depends on `tables`. Never fails.
    pub async fn get(&self, key: &Key, tables: &Tables) -> Lookup {
        let lookup = self.look_up(key, tables).await;
        match &lookup {
            Lookup::Fresh(_) => self.shared.series.hits.inc(),
            Lookup::Stale(..) | Lookup::Miss(_) => self.shared.series.misses.inc(),
        };
        lookup
    }

    /// Keeps `data`, the JSON of an answer without errors that was computed after `ticket` was given. It is fresh for
    /// `ttl` or for the configured `default_ttl`, and may stand in for its source for `stale_if_error` more; both
    /// within the configured bounds. Never fails.
    pub async fn set(&self, ticket: &Ticket, data: Bytes, ttl: Option<Duration>, stale_if_error: Duration) {
        let Shared { cache, table, owed, .. } = &*self.shared;
        let Era::Versions(versions) = &ticket.era else { return };
        let ttl = ttl.unwrap_or(table.default_ttl).min(table.max_ttl);
        let stale = stale_if_error.min(table.max_stale);
        let too_large = data.len() as u64 > table.max_answer.as_u64();
        if ttl.is_zero() || too_large || owed.lock().touches(&ticket.tables) {
            return;
        }
        let response = CachedResponse {
            cached_at: ticket.asked_at,
            max_age_ms: millis(ttl),
            stale_if_error_ms: millis(stale),
            versions: versions.clone(),
            data,
        };
        if let Err(error) = cache.set_json(ticket.key.as_str(), &response, Some(ttl + stale)).await {
            self.failed(&error, "could not keep an answer");
        }
    }

    /// Makes every answer wrong that read one of `tables`: to be awaited after a mutation has been committed and
    /// before its caller is told. Never fails; what the cache does not confirm is owed, also when this call is dropped.
    pub async fn invalidate(&self, tables: &Tables) {
        let debt = self.debt(tables);
        self.shared.invalidations.fetch_add(1, Ordering::SeqCst);
        match self.shared.cache.delete(&tables.keys()).await {
            Ok(_) => debt.forgive(),
            Err(error) => self.failed(&error, "could not invalidate answers, this is tried again"),
        }
    }

    /// Makes up for owed invalidations even when nobody asks about their tables, for the sake of other replicas. Runs
    /// until `cancel`.
    pub async fn maintain(&self, cancel: CancellationToken) {
        loop {
            self.settle().await;
            self.probe().await;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(OWED_PERIOD) => {}
            }
        }
    }

    /// Owes the invalidation of `tables` when it is dropped.
    pub(super) fn debt(&self, tables: &Tables) -> Debt {
        Debt { shared: self.shared.clone(), tables: tables.clone() }
    }

    pub(super) fn count_stale(&self) {
        self.shared.series.stale.inc();
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.shared.clock.utc()
    }

    async fn look_up(&self, key: &Key, tables: &Tables) -> Lookup {
        let tables = tables.as_read();
        // Before the cache is asked: whatever is invalidated meanwhile makes the ticket an old one.
        let unknown = Era::Unknown(self.shared.invalidations.load(Ordering::SeqCst));
        let asked_at = self.now();
        let ticket = |era| Ticket { key: key.clone(), tables: tables.clone(), era, asked_at };
        let owed = self.shared.owed.lock().touches(&tables);
        if owed && !self.settle().await {
            return Lookup::Miss(ticket(unknown));
        }
        let (found, versions) = match self.fetch(key, &tables).await {
            Ok(fetched) => {
                self.works();
                fetched
            }
            Err(error) => {
                self.failed(&error, "could not look an answer up");
                return Lookup::Miss(ticket(unknown));
            }
        };
        let valid = found.filter(|response| response.versions == versions);
        let ticket = ticket(Era::Versions(versions));
        match valid.map(|response| (response.freshness(asked_at), response)) {
            Some((Freshness::Fresh, response)) => Lookup::Fresh(response),
            Some((Freshness::Stale, response)) => Lookup::Stale(response, ticket),
            Some((Freshness::Over, _)) | None => Lookup::Miss(ticket),
        }
    }

    /// The answer under a key and the versions of the tables, which are made where they are missing.
    async fn fetch(&self, key: &Key, tables: &Tables) -> Result<(Option<CachedResponse>, Versions), Error> {
        let cache = &self.shared.cache;
        let version_keys = tables.keys();
        let keys: Vec<_> = std::iter::once(key.as_str()).chain(version_keys.iter().copied()).collect();
        let mut found = cache.get_many(&keys).await?.into_iter();
        let response = found.next().flatten();
        let (response, tokens) = match found.collect::<Option<Vec<_>>>() {
            Some(tokens) => (response, tokens),
            // An answer under a version that is gone is not valid.
            None => (None, cache.claim(&version_keys, versions::token(), versions::TTL).await?),
        };
        let versions = Versions::of(tables, &tokens).ok_or(Error::Protocol)?;
        let response = response.and_then(|bytes| match serde_json::from_slice(&bytes) {
            Ok(response) => Some(response),
            Err(error) => {
                self.failed(&Error::Decode(error), "an answer in the cache is garbled");
                None
            }
        });
        Ok((response, versions))
    }

    /// Makes up for all that is owed; answers whether nothing is left of what was owed when it began.
    async fn settle(&self) -> bool {
        let Some(claim) = self.shared.owed.lock().claim() else { return true };
        match self.shared.cache.delete(&claim.tables.keys()).await {
            Ok(_) => {
                self.shared.owed.lock().settle(&claim);
                true
            }
            Err(error) => {
                self.failed(&error, "could not make up for an invalidation");
                false
            }
        }
    }

    /// A server without questions finds out as well that the cache is back.
    async fn probe(&self) {
        let degraded = self.shared.degraded.get().is_some_and(Component::is_degraded);
        if degraded && self.shared.cache.get("probe").await.is_ok() {
            self.works();
        }
    }

    fn works(&self) {
        if let Some(component) = self.shared.degraded.get() {
            component.restored();
        }
    }

    fn failed(&self, error: &Error, what: &'static str) {
        self.shared.series.errors.inc();
        if let (Error::Redis(error), Some(component)) = (error, self.shared.degraded.get())
            && error.is_away()
        {
            component.degraded("redis does not answer");
        }
        // The counter alerts; a line for each request of an outage would only fill the log.
        tracing::debug!(error = %chain(error), "{what}");
    }
}

/// An invalidation that is owed unless it is forgiven.
pub(super) struct Debt {
    shared: Arc<Shared>,
    tables: Tables,
}

impl Debt {
    pub(super) fn forgive(mut self) {
        self.tables = Tables::of([]);
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if self.tables.keys().is_empty() {
            return;
        }
        self.shared.owed.lock().add(&self.tables);
        self.shared.invalidations.fetch_add(1, Ordering::SeqCst);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Bytes that are JSON already, as they are.
mod raw {
    use bytes::Bytes;
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::{Error, Serialize, Serializer};
    use serde_json::value::RawValue;

    pub fn serialize<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_slice(data).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Box::<str>::from(raw).into_string().into())
    }
}
