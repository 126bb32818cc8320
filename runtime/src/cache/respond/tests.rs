//! Questions and mutations over a cache that can be away, with a source that counts and can be away too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures::future::join_all;
use serde_json::Value;
use tokio::time::sleep;

use super::*;
use crate::cache::control::Scope;
use crate::cache::metrics::CacheSeries;
use crate::cache::model::Flaky;
use crate::cache::{CacheProvider, versions};
use crate::clock::TestClock;
use crate::config::cache::Response;
use crate::error::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure(ErrorKind);

impl Classify for Failure {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

struct Bench {
    responder: Responder<Failure>,
    cache: Arc<Flaky>,
    clock: Arc<TestClock>,
    series: CacheSeries,
    tables: Tables,
    /// Its only row, which every query reads.
    source: AtomicU32,
    computed: AtomicU32,
}

impl Bench {
    fn new() -> Self {
        let (clock, series) = (Arc::new(TestClock::default()), CacheSeries::default());
        let cache = Arc::new(Flaky::new(clock.clone()));
        let answers = ResponseCache::new(cache.clone(), Response::default(), clock.clone(), series.clone());
        let (responder, tables) = (Responder::new(answers), Tables::of(["orders"]));
        Self { responder, cache, clock, series, tables, source: 0.into(), computed: 0.into() }
    }

    fn question<'a>(&'a self, user: &'a str) -> Question<'a> {
        let operation = Operation { schema: "1", text: "{ orders }", name: None, variables: &Value::Null };
        let audience = Audience { tenant: None, role: None, user: Some(user) };
        Question { operation, audience, tables: &self.tables, control: Some(control()) }
    }

    /// Asks; computing takes a second and shows what the row was when it began.
    async fn ask(&self, question: &Question<'_>) -> (u32, Origin) {
        let execute = async || {
            self.computed.fetch_add(1, Ordering::Relaxed);
            let read = self.source.load(Ordering::Relaxed);
            sleep(SECOND).await;
            Ok(answer(read))
        };
        let (answer, origin) = self.responder.query(question, execute).await.expect("an answer");
        (serde_json::from_slice(&answer.data).expect("a number"), origin)
    }

    /// Asks while the source fails.
    async fn ask_in_vain(&self, kind: ErrorKind) -> Result<(Answer, Origin), Failure> {
        self.responder.query(&self.question("ann"), async || Err(Failure(kind))).await
    }

    /// Changes the row.
    async fn change(&self) {
        let execute = async || {
            self.source.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        self.responder.mutate(&self.tables, execute).await.expect("changed");
    }

    fn away(&self, away: bool) {
        self.cache.away.store(away, Ordering::Relaxed);
    }

    fn computed(&self) -> u32 {
        self.computed.load(Ordering::Relaxed)
    }
}

fn control() -> CacheControl {
    CacheControl { max_age: SECOND * 60, scope: Scope::Private, stale_if_error: SECOND * 30 }
}

fn answer(number: u32) -> Answer {
    Answer { data: number.to_string().into(), errors: None }
}

fn cached(age: u64) -> Origin {
    Origin::Cached { age: Duration::from_secs(age) }
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_are_answered_by_one_computation_and_later_ones_by_the_cache() {
    let bench = Bench::new();
    let question = bench.question("ann");
    for (value, origin) in join_all((0..50).map(|_| bench.ask(&question))).await {
        assert_eq!((value, origin), (0, Origin::Computed));
    }
    bench.clock.advance(SECOND * 59);
    assert_eq!(bench.ask(&question).await, (0, cached(59)));
    bench.clock.advance(SECOND);
    assert_eq!(bench.ask(&question).await, (0, Origin::Computed));
    assert_eq!(bench.computed(), 2);
    let CacheSeries { hits, misses, errors, .. } = &bench.series;
    assert_eq!((hits.get(), misses.get(), errors.get()), (1, 51, 0));
}

#[tokio::test(start_paused = true)]
async fn another_user_gets_another_answer_unless_it_is_public() {
    let bench = Bench::new();
    bench.ask(&bench.question("ann")).await;
    assert_eq!(bench.ask(&bench.question("bob")).await.1, Origin::Computed);
    let public = |user| Question {
        control: Some(CacheControl { scope: Scope::Public, ..control() }),
        ..bench.question(user)
    };
    assert_eq!(bench.ask(&public("ann")).await.1, Origin::Computed);
    assert_eq!(bench.ask(&public("bob")).await.1, cached(0));
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_mutation_never_gets_an_answer_from_before_it() {
    let bench = Bench::new();
    let question = bench.question("ann");
    // The computation is in flight when the row changes; the cache is there in the first round and away in the second.
    for (away, row) in [(false, 0), (true, 1)] {
        bench.away(away);
        let late = async {
            sleep(SECOND / 2).await;
            bench.change().await;
            assert_eq!(bench.responder.flights.in_flight(), 1, "the early one still computes");
            bench.ask(&question).await
        };
        let (early, late) = tokio::join!(bench.ask(&question), late);
        assert_eq!((early, late), ((row, Origin::Computed), (row + 1, Origin::Computed)));
    }
    bench.away(false);
    assert_eq!(bench.ask(&question).await, (2, Origin::Computed), "what was owed is made up for");
    assert_eq!(bench.ask(&question).await, (2, cached(0)));
}

#[tokio::test(start_paused = true)]
async fn without_the_cache_every_question_is_answered_and_many_at_once_by_one_computation() {
    let bench = Bench::new();
    bench.away(true);
    let question = bench.question("ann");
    for answer in join_all((0..50).map(|_| bench.ask(&question))).await {
        assert_eq!(answer, (0, Origin::Computed));
    }
    assert_eq!(bench.computed(), 1);
    assert_eq!(bench.series.errors.get(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_stands_in_for_a_source_that_is_away_within_its_bound() {
    let bench = Bench::new();
    let question = bench.question("ann");
    bench.ask(&question).await;
    bench.clock.advance(SECOND * 75);
    let stale = Origin::Stale { age: SECOND * 75 };
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
        assert_eq!(bench.ask_in_vain(kind).await, Ok((answer(0), stale)));
    }
    // A defect or a refusal is not an outage.
    for kind in [ErrorKind::Internal, ErrorKind::BadInput] {
        assert_eq!(bench.ask_in_vain(kind).await, Err(Failure(kind)));
    }
    bench.clock.advance(SECOND * 15);
    let gone = ErrorKind::Unavailable;
    assert_eq!(bench.ask_in_vain(gone).await, Err(Failure(gone)), "90 s are 60 s and 30 s");
    assert_eq!(bench.series.stale.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_a_mutation_made_wrong_does_not_stand_in_either() {
    let bench = Bench::new();
    bench.ask(&bench.question("ann")).await;
    bench.clock.advance(SECOND * 75);
    bench.change().await;
    let gone = ErrorKind::Unavailable;
    assert_eq!(bench.ask_in_vain(gone).await, Err(Failure(gone)));
}

#[tokio::test(start_paused = true)]
async fn errors_are_shared_by_those_who_ask_at_once_and_kept_by_nobody() {
    let bench = Bench::new();
    let question = bench.question("ann");
    let calls = AtomicU32::new(0);
    let with_errors = async || {
        calls.fetch_add(1, Ordering::Relaxed);
        sleep(SECOND).await;
        Ok(Answer { errors: Some(Bytes::from_static(b"[{}]")), ..answer(1) })
    };
    for told in join_all((0..5).map(|_| bench.responder.query(&question, with_errors))).await {
        assert!(told.expect("an answer").0.errors.is_some());
    }
    bench.responder.query(&question, with_errors).await.expect("an answer");
    assert_eq!(calls.into_inner(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_schema_does_not_allow_is_neither_kept_nor_shared() {
    let bench = Bench::new();
    let controls = [None, Some(CacheControl { max_age: Duration::ZERO, ..control() })];
    for (n, control) in controls.into_iter().enumerate() {
        let question = Question { control, ..bench.question("ann") };
        join_all((0..2).map(|_| bench.ask(&question))).await;
        assert_eq!(bench.computed(), 2 * (n as u32 + 1));
    }
    assert_eq!((bench.series.hits.get(), bench.series.misses.get()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_invalidates_unless_nothing_was_done() {
    let bench = Bench::new();
    let question = bench.question("ann");
    bench.ask(&question).await;
    let fails = async |kind| {
        let failed = bench.responder.mutate(&bench.tables, async || Err::<(), _>(Failure(kind))).await;
        assert_eq!(failed, Err(Failure(kind)));
        bench.ask(&question).await.1
    };
    assert_eq!(fails(ErrorKind::BadInput).await, cached(0));
    assert_eq!(fails(ErrorKind::Timeout).await, Origin::Computed);
    let other = Tables::of(["products"]);
    bench.responder.mutate(&other, async || Ok(())).await.expect("changed");
    assert_eq!(bench.ask(&question).await.1, cached(0));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_whose_caller_left_invalidates_all_the_same() {
    let bench = Bench::new();
    let question = bench.question("ann");
    bench.ask(&question).await;
    let committed = AtomicBool::new(false);
    let mutation = bench.responder.mutate(&bench.tables, async || {
        bench.source.fetch_add(1, Ordering::Relaxed);
        committed.store(true, Ordering::Relaxed);
        std::future::pending::<Result<(), _>>().await
    });
    assert!(tokio::time::timeout(SECOND, mutation).await.is_err());
    assert!(committed.load(Ordering::Relaxed));
    assert_eq!(bench.ask(&question).await, (1, Origin::Computed));
}

#[tokio::test(start_paused = true)]
async fn owed_invalidations_are_made_up_for_without_a_question() {
    let bench = Bench::new();
    bench.ask(&bench.question("ann")).await;
    let version = async || {
        let keys = bench.tables.keys();
        bench.cache.cache.get(keys[0]).await.expect("memory")
    };
    assert!(version().await.is_some());
    bench.away(true);
    bench.change().await;
    assert!(version().await.is_some());
    bench.away(false);
    let stop = tokio_util::sync::CancellationToken::new();
    let both = async {
        while version().await.is_some() {
            sleep(SECOND).await;
        }
        stop.cancel();
    };
    tokio::join!(bench.responder.cache().maintain(stop.clone()), both);
}

#[tokio::test(start_paused = true)]
async fn a_garbled_answer_is_a_miss_and_is_counted() {
    let bench = Bench::new();
    let question = bench.question("ann");
    bench.ask(&question).await;
    let key = Key::new(&question.operation, &question.audience);
    let kept = bench.cache.cache.get(key.as_str()).await.expect("memory").expect("kept");
    for garbled in [kept.slice(..kept.len() - 1), Bytes::from_static(b"\xff{}"), Bytes::new()] {
        bench.cache.cache.set(key.as_str(), garbled, None).await.expect("memory");
        assert_eq!(bench.ask(&question).await.1, Origin::Computed);
    }
    assert_eq!(bench.series.errors.get(), 3);
    // So is a version that is not one of ours.
    let version = [versions::PREFIX, "orders"].concat();
    bench.cache.cache.set(&version, Bytes::from_static(b"\xff"), None).await.expect("memory");
    assert_eq!(bench.ask(&question).await.1, Origin::Computed);
    assert_eq!(bench.series.errors.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_or_no_json_is_given_and_not_kept() {
    let bench = Bench::new();
    let question = bench.question("ann");
    let large = Bytes::from(format!("\"{}\"", "x".repeat(1 << 20)));
    for data in [large, Bytes::from_static(b"{\"a\":")] {
        let execute = async || Ok(Answer { data: data.clone(), errors: None });
        assert_eq!(bench.responder.query(&question, execute).await.expect("an answer").0.data, data);
        assert_eq!(bench.ask(&question).await.1, Origin::Computed);
        bench.change().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_json_with_data_and_time_and_lasts_as_long_as_it_may_be_given() {
    let bench = Bench::new();
    let question = bench.question("ann");
    bench.ask(&question).await;
    let key = Key::new(&question.operation, &question.audience);
    let kept = bench.cache.cache.get(key.as_str()).await.expect("memory").expect("kept");
    let kept: Value = serde_json::from_slice(&kept).expect("JSON");
    assert_eq!((&kept["data"], &kept["cached_at"]), (&0.into(), &"1970-01-01T00:00:00Z".into()));
    bench.clock.advance(SECOND * 90);
    assert_eq!(bench.cache.cache.get(key.as_str()).await.expect("memory"), None);
}
