//! Claim: a hit costs what reading the answer costs. `memory` runs always, `redis` where `REDIS_URL` names a server;
//! compare within one run. `response` is a whole question, key and versions included, with an answer of 10 KB.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fraiseql_runtime::cache::CacheProvider;
use fraiseql_runtime::cache::control::{CacheControl, Scope};
use fraiseql_runtime::cache::key::{Audience, Operation};
use fraiseql_runtime::cache::memory::{Limits, MemoryCache};
use fraiseql_runtime::cache::metrics::CacheSeries;
use fraiseql_runtime::cache::redis::RedisCache;
use fraiseql_runtime::cache::respond::{Answer, Question, Responder};
use fraiseql_runtime::cache::response::ResponseCache;
use fraiseql_runtime::cache::versions::Tables;
use fraiseql_runtime::clock::SystemClock;
use fraiseql_runtime::config::cache::Response;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::resilience::timeout::Elapsed;
use fraiseql_runtime::storage::redis::{self, Redis};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(86_400);
const TEXT: &str =
    "query ($first: Int!, $after: String) { orders(first: $first, after: $after) { id status total } }";

type Cache = Arc<dyn CacheProvider>;

fn caches(runtime: &Runtime) -> Vec<(&'static str, Cache)> {
    let limits = Limits { entries: 10_000, bytes: 64 << 20 };
    let memory = MemoryCache::new(limits, Arc::new(SystemClock), CacheSeries::default());
    let mut caches: Vec<(_, Cache)> = vec![("memory", Arc::new(memory))];
    match Environment::of_process().get("REDIS_URL") {
        Some(url) => caches.push(("redis", Arc::new(RedisCache::new(connect(runtime, url))))),
        None => eprintln!("NotRun: redis; set REDIS_URL to a server whose keys may be written"),
    }
    caches
}

fn connect(runtime: &Runtime, url: &str) -> Redis {
    let timeout = Duration::from_secs(2);
    let limits = redis::Limits { connections: 4, connect_timeout: timeout, command_timeout: timeout };
    let redis = Redis::new(url, limits).expect("a Redis URL");
    let maintained = redis.clone();
    runtime.spawn(async move { maintained.maintain(CancellationToken::new()).await });
    runtime.block_on(async {
        let connected = async {
            while redis.ping().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), connected).await.expect("redis answers");
    });
    redis
}

fn responder(cache: Cache) -> Responder<Elapsed> {
    let table = Response { default_ttl: DAY, max_ttl: DAY, ..Response::default() };
    Responder::new(ResponseCache::new(cache, table, Arc::new(SystemClock), CacheSeries::default()))
}

/// A question with an answer of 10 KB, which is computed once.
async fn ask(responder: &Responder<Elapsed>, tables: &Tables) -> Answer {
    let variables = json!({"first": 100, "after": "b3JkZXI6MTAw"});
    let operation = Operation { schema: "bench", text: TEXT, name: None, variables: &variables };
    let audience = Audience { tenant: Some("acme"), role: Some("viewer"), user: Some("ann") };
    let control = CacheControl { max_age: DAY, scope: Scope::Private, stale_if_error: Duration::ZERO };
    let question = Question { operation, audience, tables, control: Some(control) };
    let execute = async || {
        let orders: Vec<_> =
            (0..200).map(|id| json!({"id": id, "status": "shipped", "total": "12.50"})).collect();
        Ok(Answer { data: json!({"orders": orders}).to_string().into(), errors: None })
    };
    responder.query(&question, execute).await.expect("an answer").0
}

fn operations(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("cache");
    for (name, cache) in caches(&runtime) {
        group.bench_function(BenchmarkId::new("get_miss", name), |bencher| {
            bencher.to_async(&runtime).iter(|| cache.get("nonexistent_key"));
        });
        group.bench_function(BenchmarkId::new("set_get", name), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                let value = Bytes::from_static(b"value");
                cache.set("bench_key", value, None).await.expect("stored");
                cache.get("bench_key").await.expect("read").expect("there")
            });
        });
        let responder = responder(cache);
        let tables = Tables::of(["orders", "items"]);
        group.bench_function(BenchmarkId::new("response", name), |bencher| {
            bencher.to_async(&runtime).iter(|| ask(&responder, &tables));
        });
    }
    group.finish();
}

criterion_group!(benches, operations);
criterion_main!(benches);
