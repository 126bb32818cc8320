//! A model of readers, writers and a cache that forgets and fails, with every step in any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use proptest::prelude::*;
use serde_json::Value;

use super::key::{Audience, Key, Operation};
use super::memory::{Limits, MemoryCache};
use super::metrics::CacheSeries;
use super::response::{CachedResponse, Lookup, ResponseCache, Ticket};
use super::versions::Tables;
use super::{CacheProvider, Error};
use crate::clock::TestClock;
use crate::config::cache::Response;

/// A cache in memory that can be away.
pub(super) struct Flaky {
    pub(super) cache: MemoryCache,
    pub(super) away: AtomicBool,
}

impl Flaky {
    pub(super) fn new(clock: Arc<TestClock>) -> Self {
        let limits = Limits { entries: 1_000, bytes: 1 << 20 };
        let cache = MemoryCache::new(limits, clock, CacheSeries::default());
        Self { cache, away: AtomicBool::new(false) }
    }

    fn there(&self) -> Result<&MemoryCache, Error> {
        if self.away.load(Ordering::Relaxed) { Err(Error::Protocol) } else { Ok(&self.cache) }
    }
}

#[async_trait::async_trait]
impl CacheProvider for Flaky {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.there()?.get(key).await
    }

    async fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<Bytes>>, Error> {
        self.there()?.get_many(keys).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), Error> {
        self.there()?.set(key, value, ttl).await
    }

    async fn claim(&self, keys: &[&str], value: Bytes, ttl: Duration) -> Result<Vec<Bytes>, Error> {
        self.there()?.claim(keys, value, ttl).await
    }

    async fn delete(&self, keys: &[&str]) -> Result<u64, Error> {
        self.there()?.delete(keys).await
    }
}

const TABLES: usize = 3;
const REPLICAS: usize = 2;
const TTL: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(20);
/// The tables that each query reads.
const QUERIES: [&[usize]; 4] = [&[0], &[0, 1], &[1, 2], &[]];

#[derive(Debug, Clone)]
enum Step {
    /// A replica looks a query up.
    Ask {
        replica: usize,
        query: usize,
    },
    /// One that asked in vain reads its tables.
    Compute(usize),
    /// One that has read them stores what it read.
    Store(usize),
    /// A table changes, seen by whoever reads it from now on.
    Commit(usize),
    /// A replica invalidates a table and tells its caller.
    Invalidate {
        replica: usize,
        table: usize,
    },
    /// The cache forgets a table's version, or a query's answer.
    ForgetVersion(usize),
    ForgetAnswer(usize),
    Away(bool),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (replica, table, query) = (0..REPLICAS, 0..TABLES, 0..QUERIES.len());
    prop_oneof![
        8 => (replica.clone(), query.clone()).prop_map(|(replica, query)| Step::Ask { replica, query }),
        4 => any::<usize>().prop_map(Step::Compute),
        4 => any::<usize>().prop_map(Step::Store),
        3 => table.clone().prop_map(Step::Commit),
        3 => (replica, table.clone()).prop_map(|(replica, table)| Step::Invalidate { replica, table }),
        1 => table.prop_map(Step::ForgetVersion),
        1 => query.prop_map(Step::ForgetAnswer),
        1 => any::<bool>().prop_map(Step::Away),
        2 => (0..8_u64).prop_map(Step::Advance),
    ]
}

/// A reader between its question and its answer.
struct Reader {
    replica: usize,
    query: usize,
    ticket: Ticket,
    read: Option<Bytes>,
}

struct World {
    clock: Arc<TestClock>,
    cache: Arc<Flaky>,
    replicas: Vec<ResponseCache>,
    readers: Vec<Reader>,
    /// How often each table changed.
    committed: [u64; TABLES],
    /// The changes that a caller of each replica was told of: its later questions must see them.
    told: [[u64; TABLES]; REPLICAS],
    hits: usize,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let cache = Arc::new(Flaky::new(clock.clone()));
        let replica =
            |_| ResponseCache::new(cache.clone(), Response::default(), clock.clone(), CacheSeries::default());
        let replicas = (0..REPLICAS).map(replica).collect();
        let (readers, committed, told) = (Vec::new(), [0; TABLES], [[0; TABLES]; REPLICAS]);
        Self { clock, cache, replicas, readers, committed, told, hits: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask { replica, query } => self.ask(replica, query),
            Step::Compute(reader) => {
                let Some(at) = self.pick(reader, |reader| reader.read.is_none()) else { return };
                let read: Vec<_> =
                    QUERIES[self.readers[at].query].iter().map(|t| self.committed[*t]).collect();
                self.readers[at].read = Some(serde_json::to_vec(&read).expect("JSON").into());
            }
            Step::Store(reader) => {
                let Some(at) = self.pick(reader, |reader| reader.read.is_some()) else { return };
                let Reader { replica, ticket, read, .. } = self.readers.swap_remove(at);
                let data = read.expect("it has read");
                now(self.replicas[replica].set(&ticket, data, Some(TTL), STALE));
            }
            Step::Commit(table) => self.committed[table] += 1,
            Step::Invalidate { replica, table } => {
                now(self.replicas[replica].invalidate(&tables(&[table])));
                let told = if self.is_away() { replica..replica + 1 } else { 0..REPLICAS };
                self.told[told].iter_mut().for_each(|told| told[table] = self.committed[table]);
            }
            Step::ForgetVersion(table) => {
                now(self.cache.cache.delete(&tables(&[table]).keys())).expect("memory");
            }
            Step::ForgetAnswer(query) => {
                now(self.cache.cache.delete(&[key(query).as_str()])).expect("memory");
            }
            Step::Away(away) => self.cache.away.store(away, Ordering::Relaxed),
            Step::Advance(seconds) => self.clock.advance(Duration::from_secs(seconds)),
        }
    }

    fn ask(&mut self, replica: usize, query: usize) {
        let cache = self.replicas[replica].clone();
        match now(cache.get(&key(query), &tables(QUERIES[query]))) {
            Lookup::Fresh(response) => {
                assert!(response.age(cache.now()) < TTL);
                self.check(replica, query, &response);
                self.hits += 1;
            }
            Lookup::Stale(response, ticket) => {
                let age = response.age(cache.now());
                assert!(TTL <= age && age < TTL + STALE, "{age:?}");
                self.check(replica, query, &response);
                self.readers.push(Reader { replica, query, ticket, read: None });
            }
            Lookup::Miss(ticket) => self.readers.push(Reader { replica, query, ticket, read: None }),
        }
    }

    fn check(&self, replica: usize, query: usize, response: &CachedResponse) {
        let read: Vec<u64> = serde_json::from_slice(&response.data).expect("what was stored");
        for (table, read) in QUERIES[query].iter().zip(read) {
            let told = self.told[replica][*table];
            assert!(read >= told, "table {table}: change {told} was told of, and the answer shows {read}");
        }
    }

    fn pick(&self, number: usize, wanted: impl Fn(&Reader) -> bool) -> Option<usize> {
        let found: Vec<_> = (0..self.readers.len()).filter(|at| wanted(&self.readers[*at])).collect();
        (!found.is_empty()).then(|| found[number % found.len()])
    }

    fn is_away(&self) -> bool {
        self.cache.away.load(Ordering::Relaxed)
    }
}

/// The result of a call that a cache in memory never lets wait.
fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("nothing to wait for")
}

fn key(query: usize) -> Key {
    let text = query.to_string();
    let operation = Operation { schema: "", text: &text, name: None, variables: &Value::Null };
    Key::new(&operation, &Audience::default())
}

fn tables(tables: &[usize]) -> Tables {
    const NAMES: [&str; TABLES] = ["items", "orders", "users"];
    Tables::of(tables.iter().map(|table| NAMES[*table]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// In whatever order questions, computations, stores, commits and invalidations come, and whatever the cache
    /// forgets or fails: no answer shows less than the caller's replica had confirmed before the question.
    #[test]
    fn no_answer_is_older_than_an_invalidation_that_was_told(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
    }
}

#[test]
fn the_model_does_hit_and_an_invalidation_ends_it() {
    let mut world = World::new();
    let round = |replica| [Step::Ask { replica, query: 1 }, Step::Compute(0), Step::Store(0)];
    round(0).into_iter().chain(round(1)).for_each(|step| world.take(step));
    assert_eq!(world.hits, 1, "the other replica finds what the first has stored");
    [Step::Commit(2), Step::Invalidate { replica: 0, table: 2 }]
        .into_iter()
        .for_each(|step| world.take(step));
    world.take(Step::Ask { replica: 0, query: 1 });
    assert_eq!(world.hits, 2, "a table that it does not read");
    [Step::Commit(1), Step::Invalidate { replica: 0, table: 1 }]
        .into_iter()
        .for_each(|step| world.take(step));
    round(1).into_iter().for_each(|step| world.take(step));
    assert_eq!((world.hits, world.readers.len()), (2, 0));
    world.take(Step::Ask { replica: 0, query: 1 });
    assert_eq!(world.hits, 3);
}
