//! The cache in a real Redis: lifetimes, replicas that see each other's invalidations, and Redis away, silent or empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::cache::control::{CacheControl, Scope};
use fraiseql_runtime::cache::key::{Audience, Key, Operation};
use fraiseql_runtime::cache::metrics::CacheSeries;
use fraiseql_runtime::cache::redis::RedisCache;
use fraiseql_runtime::cache::respond::{Answer, Origin, Question, Responder};
use fraiseql_runtime::cache::response::ResponseCache;
use fraiseql_runtime::cache::versions::Tables;
use fraiseql_runtime::cache::{CacheProvider, JsonCache};
use fraiseql_runtime::clock::SystemClock;
use fraiseql_runtime::config::cache::Response;
use fraiseql_runtime::resilience::degradation::{Component, Registrar};
use fraiseql_runtime::resilience::timeout::Elapsed;
use fraiseql_runtime::storage::redis::{Limits, Redis};
use futures::future::join_all;
use harness::environment::ServiceName;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Link, Stage, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);

/// A Redis database of the test's own.
struct Bench {
    link: Link,
    /// Past the link.
    direct: Redis,
    tables: Tables,
    /// The only row, of which every answer tells.
    row: AtomicU32,
    computed: AtomicU32,
    _maintained: AbortOnDropHandle<()>,
}

/// A process of ours.
struct Replica {
    responder: Responder<Elapsed>,
    redis: Redis,
    series: CacheSeries,
    degraded: Component,
    _maintained: AbortOnDropHandle<()>,
    _owed: AbortOnDropHandle<()>,
}

impl Bench {
    async fn open(stage: &Stage) -> Self {
        let mut url = stage.url(ServiceName::Redis);
        url.set_path(&format!("/{}", stage.number()));
        let link = Link::to(url).await;
        let (direct, _maintained) = connect(link.direct.as_str()).await;
        let tables = Tables::of(["orders", "items"]);
        Self { link, direct, tables, row: 0.into(), computed: 0.into(), _maintained }
    }

    /// A process behind the link.
    async fn replica(&self) -> Replica {
        let (redis, _maintained) = connect(self.link.through.as_str()).await;
        let (cache, series) = (Arc::new(RedisCache::new(redis.clone())), CacheSeries::default());
        let cache = ResponseCache::new(cache, Response::default(), Arc::new(SystemClock), series.clone());
        let degraded = Registrar::default().component("cache", "answers are computed each time");
        let cache = cache.telling(degraded.clone());
        let owed = cache.clone();
        let owed = tokio::spawn(async move { owed.maintain(CancellationToken::new()).await });
        let responder = Responder::new(cache);
        Replica { responder, redis, series, degraded, _maintained, _owed: AbortOnDropHandle::new(owed) }
    }

    async fn ask(&self, replica: &Replica) -> (u32, Origin) {
        let (operation, audience, control) = question();
        let question = Question { operation, audience, tables: &self.tables, control: Some(control) };
        let execute = async || {
            self.computed.fetch_add(1, Ordering::Relaxed);
            let row = self.row.load(Ordering::Relaxed);
            Ok(Answer { data: format!("{{\"row\":{row}}}").into(), errors: None })
        };
        let (answer, origin) = replica.responder.query(&question, execute).await.expect("an answer");
        let data: Value = serde_json::from_slice(&answer.data).expect("JSON");
        (data["row"].as_u64().expect("a number") as u32, origin)
    }

    /// Answers the row's new state.
    async fn change(&self, replica: &Replica) -> u32 {
        let tables = Tables::of(["orders"]);
        let execute = async || Ok(self.row.fetch_add(1, Ordering::Relaxed) + 1);
        replica.responder.mutate(&tables, execute).await.expect("changed")
    }

    async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.direct.query(&command).await.expect("past the link")
    }
}

fn question() -> (Operation<'static>, Audience<'static>, CacheControl) {
    let operation = Operation { schema: "1", text: "{ row }", name: None, variables: &Value::Null };
    let audience = Audience { user: Some("ann"), ..Audience::default() };
    let control = CacheControl { max_age: MINUTE, scope: Scope::Private, stale_if_error: Duration::ZERO };
    (operation, audience, control)
}

fn key() -> Key {
    let (operation, audience, _) = question();
    Key::new(&operation, &audience)
}

async fn connect(url: &str) -> (Redis, AbortOnDropHandle<()>) {
    let limits =
        Limits { connections: 2, connect_timeout: Duration::from_secs(5), command_timeout: COMMAND_TIMEOUT };
    let redis = Redis::new(url, limits).expect("a URL");
    let maintained = redis.clone();
    let task = tokio::spawn(async move { maintained.maintain(CancellationToken::new()).await });
    connected(&redis).await;
    (redis, AbortOnDropHandle::new(task))
}

async fn connected(redis: &Redis) {
    eventually("redis is connected", async || redis.ping().await.map_err(|error| error.to_string())).await;
}

fn is_cached(origin: Origin) -> bool {
    matches!(origin, Origin::Cached { .. })
}

pub async fn values_last_for_their_ttl_and_deleted_ones_are_gone(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let cache = RedisCache::new(bench.direct.clone());
    let binary = Bytes::from_static(b"\0\xff\r\n");
    cache.set("short", binary.clone(), Some(Duration::from_millis(200))).await.expect("stored");
    cache.set("long", binary.clone(), Some(MINUTE)).await.expect("stored");
    cache.set("ever", binary.clone(), None).await.expect("stored");
    cache.set("tiny", binary.clone(), Some(Duration::from_nanos(1))).await.expect("stored");
    let ttl: i64 = bench.command(&["PTTL", "long"]).await;
    assert!(ttl > 50_000 && ttl <= 60_000, "{ttl}");
    assert_eq!(bench.command::<i64>(&["PTTL", "ever"]).await, -1);
    eventually("its time is over", async || match cache.get("short").await.expect("read") {
        None => Ok(()),
        Some(value) => Err(format!("{value:?}")),
    })
    .await;
    let found = cache.get_many(&["long", "short", "ever", "tiny"]).await.expect("read");
    assert_eq!(found, [Some(binary.clone()), None, Some(binary), None]);
    assert!(cache.get_many(&[]).await.expect("read").is_empty());

    cache.set("ever", Bytes::new(), Some(Duration::ZERO)).await.expect("deleted");
    assert_eq!(cache.delete(&["long", "ever", "short"]).await.expect("deleted"), 1);
    assert_eq!(cache.delete(&[]).await.expect("nothing"), 0);
    cache.set_json("json", &[1, 2], Some(MINUTE)).await.expect("stored");
    assert_eq!(cache.get_json::<Vec<u32>>("json").await.expect("read"), Some(vec![1, 2]));
    bench.link.close().await;
}

pub async fn claimers_at_once_agree_on_one_value(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let cache = RedisCache::new(bench.direct.clone());
    cache.set("b", Bytes::from_static(b"there"), None).await.expect("stored");
    let claims = (0..50).map(|n| {
        let cache = cache.clone();
        async move { cache.claim(&["a", "b", "c"], n.to_string().into(), MINUTE).await.expect("claimed") }
    });
    let answers = join_all(claims).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answers[0][1], "there");
    let ttl: i64 = bench.command(&["PTTL", "a"]).await;
    assert!(ttl > 50_000 && ttl <= 60_000, "{ttl}");
    bench.link.close().await;
}

pub async fn an_answer_is_json_under_its_key_and_lasts_as_long_as_the_directive_says(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let replica = bench.replica().await;
    bench.ask(&replica).await;
    let key = key();
    let kept: String = bench.command(&["GET", key.as_str()]).await;
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept["data"], serde_json::json!({"row": 0}));
    let cached_at = kept["cached_at"].as_str().expect("a time");
    chrono::DateTime::parse_from_rfc3339(cached_at).expect("RFC 3339");
    let ttl: i64 = bench.command(&["PTTL", key.as_str()]).await;
    assert!(ttl > 50_000 && ttl <= 60_000, "{ttl}");
    bench.link.close().await;
}

pub async fn replicas_share_answers_and_invalidations(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let (one, other) = (bench.replica().await, bench.replica().await);
    assert_eq!(bench.ask(&one).await, (0, Origin::Computed));
    for replica in [&one, &other] {
        let (row, origin) = bench.ask(replica).await;
        assert!(row == 0 && is_cached(origin), "{origin:?}");
    }
    bench.change(&other).await;
    assert_eq!(bench.ask(&one).await, (1, Origin::Computed));
    assert!(is_cached(bench.ask(&other).await.1));

    // Readers and writers of both, at the same time: who asks after a change sees it.
    let rounds = (0..20).map(async |n| {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        for _ in 0..20 {
            let changed = bench.change(writer).await;
            let (row, origin) = bench.ask(reader).await;
            assert!(row >= changed, "{row} {origin:?} after {changed}");
        }
    });
    join_all(rounds).await;
    bench.link.close().await;
}

pub async fn a_cache_that_forgets_everything_is_a_cache_without_answers(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let replica = bench.replica().await;
    bench.ask(&replica).await;
    let key = key();
    let old: String = bench.command(&["GET", key.as_str()]).await;
    bench.change(&replica).await;
    let _: () = bench.command(&["FLUSHDB"]).await;
    // An answer that comes back from the dead, as from a late write, is not valid under new versions.
    assert_eq!(bench.ask(&replica).await, (1, Origin::Computed));
    let _: () = bench.command(&["SET", key.as_str(), &old]).await;
    assert_eq!(bench.ask(&replica).await, (1, Origin::Computed));
    let _: () = bench.command(&["SET", key.as_str(), "{\"data\":"]).await;
    assert_eq!(bench.ask(&replica).await, (1, Origin::Computed));
    assert_eq!(replica.series.errors.get(), 1);
    let _: () = bench.command(&["DEL", key.as_str()]).await;
    let _: () = bench.command(&["LPUSH", key.as_str(), "a list"]).await;
    assert_eq!(bench.ask(&replica).await, (1, Origin::Computed));
    bench.link.close().await;
}

pub async fn while_redis_is_away_questions_are_answered_and_mutations_are_made_up_for(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let (replica, other) = (bench.replica().await, bench.replica().await);
    bench.ask(&replica).await;
    let before: Option<String> = bench.command(&["GET", "response-version:orders"]).await;
    assert!(before.is_some());
    let cut = bench.link.cut().await;
    eventually("redis is away", async || {
        match replica.redis.ping().await {
            Ok(()) => Err("it answers"),
            Err(_) => Ok(()),
        }
        .map_err(str::to_owned)
    })
    .await;
    assert_eq!(bench.ask(&replica).await, (0, Origin::Computed));
    bench.change(&replica).await;
    assert_eq!(bench.ask(&replica).await, (1, Origin::Computed));
    assert!(replica.series.errors.get() >= 2);
    assert!(replica.degraded.is_degraded() && !other.degraded.is_degraded(), "only who asked knows");
    cut.heal().await;
    // Nobody asks the replica that owes it.
    eventually("the invalidation is made up for", async || {
        let now: Option<String> = bench.command(&["GET", "response-version:orders"]).await;
        if now == before { Err("the old version is in force".to_owned()) } else { Ok(()) }
    })
    .await;
    eventually("the cache is not degraded any more", async || {
        if replica.degraded.is_degraded() { Err("nobody asked".to_owned()) } else { Ok(()) }
    })
    .await;
    connected(&other.redis).await;
    assert_eq!(bench.ask(&other).await, (1, Origin::Computed));
    connected(&replica.redis).await;
    assert!(is_cached(bench.ask(&replica).await.1));
    bench.link.close().await;
}

pub async fn a_silent_redis_costs_its_timeout_and_no_answer(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let replica = bench.replica().await;
    bench.ask(&replica).await;
    let silent =
        bench.link.inject(NetworkFault::Blackhole { sticky: true, direction: Direction::Both }).await;
    let begun = tokio::time::Instant::now();
    for answer in join_all((0..50).map(|_| bench.ask(&replica))).await {
        assert_eq!(answer.0, 0);
    }
    let took = begun.elapsed();
    assert!(took < COMMAND_TIMEOUT * 6, "50 questions took {took:?}");
    // From then on it is known to be away, and costs nothing.
    let begun = tokio::time::Instant::now();
    bench.ask(&replica).await;
    assert!(begun.elapsed() < COMMAND_TIMEOUT, "{:?}", begun.elapsed());
    silent.heal().await;
    eventually("answers are cached again", async || match bench.ask(&replica).await.1 {
        Origin::Cached { .. } => Ok(()),
        origin => Err(format!("{origin:?}")),
    })
    .await;
    bench.link.close().await;
}
