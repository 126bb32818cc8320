//! Answers queries from the cache, computes what is missing once, and invalidates what mutations made wrong.
//!
//! Promises: of the same question asked by many at a time, one is computed; a question never gets an answer whose
//! computation began before an invalidation that was confirmed before the question came. While the source is away, a
//! stale answer stands in where the schema allows it. Mutations are never shared, and answers with errors never kept.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::control::CacheControl;
use super::key::{Audience, Key, Operation};
use super::response::{CachedResponse, Flight, Lookup, ResponseCache};
use super::single_flight::SingleFlight;
use super::versions::Tables;
use crate::error::Classify;

/// Questions that are computed at a time and may be shared. Beyond, each is computed alone.
const FLIGHTS_MAX: usize = 10_000;

/// A query, with what its plan says about it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// What is asked.
    pub operation: Operation<'a>,
    /// Who asks, as far as the answer depends on it.
    pub audience: Audience<'a>,
    /// What it reads, roles and tenants included where those are tables.
    pub tables: &'a Tables,
    /// How the answer may be kept; `None` where the schema does not say so for every part of it.
    pub control: Option<CacheControl>,
}

/// What executing a query brought, in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The value of `data`.
    pub data: Bytes,
    /// The value of `errors`, if there were some.
    pub errors: Option<Bytes>,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was computed for this question, or for the same one at the same time.
    Computed,
    /// It was kept, and is fresh.
    Cached {
        /// How old it is.
        age: Duration,
    },
    /// It was kept, and stands in for a source that is away.
    Stale {
        /// How old it is.
        age: Duration,
    },
}

/// Answers questions and executes mutations whose failures are `E`. Clones share everything.
#[derive(Clone)]
pub struct Responder<E> {
    cache: ResponseCache,
    flights: SingleFlight<Flight, Result<Answer, E>>,
}

impl<E: Classify + Clone> Responder<E> {
    /// A responder over `cache`.
    pub fn new(cache: ResponseCache) -> Self {
        Self { cache, flights: SingleFlight::new(FLIGHTS_MAX) }
    }

    /// The cache.
    pub fn cache(&self) -> &ResponseCache {
        &self.cache
    }

    /// Answers a query, by `execute` where it must be. Many who ask the same at a time share an answer and a failure.
    ///
    /// # Errors
    /// That of `execute`, unless it says that the source is away and a stale answer may stand in.
    pub async fn query<F>(
        &self,
        question: &Question<'_>,
        execute: impl FnOnce() -> F,
    ) -> Result<(Answer, Origin), E>
    where
        F: Future<Output = Result<Answer, E>>,
    {
        let kept = question.control.and_then(|control| Some((control, self.cache.get_cache_ttl(&control)?)));
        let Some((control, ttl)) = kept else {
            return Ok((execute().await?, Origin::Computed));
        };
        let key = Key::new(&question.operation, &question.audience.within(control.scope));
        let (stale, ticket) = match self.cache.get(&key, question.tables).await {
            Lookup::Fresh(response) => {
                let age = response.age(self.cache.now());
                return Ok((response.into(), Origin::Cached { age }));
            }
            Lookup::Stale(response, ticket) => (Some(response), ticket),
            Lookup::Miss(ticket) => (None, ticket),
        };
        let compute = || async {
            let answer = execute().await?;
            // Kept before the flight ends, so that who comes between the two does not compute it again.
            if answer.errors.is_none() {
                self.cache.set(&ticket, answer.data.clone(), Some(ttl), control.stale_if_error).await;
            }
            Ok(answer)
        };
        match (self.flights.run(ticket.flight(), compute).await, stale) {
            (Ok(answer), _) => Ok((answer, Origin::Computed)),
            (Err(error), Some(response)) if error.kind().is_away() => {
                self.cache.count_stale();
                let age = response.age(self.cache.now());
                Ok((response.into(), Origin::Stale { age }))
            }
            (Err(error), _) => Err(error),
        }
    }
}

impl<E: Classify> Responder<E> {
    /// Executes a mutation that may change `tables`, and invalidates the answers that read them unless it was refused.
    /// Also when it failed in doubt, or when this call is dropped halfway: it may have happened.
    ///
    /// # Errors
    /// That of `execute`.
    pub async fn mutate<T, F>(&self, tables: &Tables, execute: impl FnOnce() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        let debt = self.cache.debt(tables);
        let result = execute().await;
        let refused = result.as_ref().is_err_and(|error| error.kind().is_refusal());
        if !refused {
            self.cache.invalidate(tables).await;
        }
        // From here on, `invalidate` owes what was not confirmed.
        debt.forgive();
        result
    }
}

impl From<CachedResponse> for Answer {
    fn from(response: CachedResponse) -> Self {
        Self { data: response.data, errors: None }
    }
}

impl<E> fmt::Debug for Responder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
