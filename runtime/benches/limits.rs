//! Claim: a limit in memory costs less than 5 µs a request, whoever asks and however many are remembered; a place among the
//! executed costs less than 1 µs; a limit in Redis costs one round trip. `redis` runs where `REDIS_URL` names a server, beside
//! its `ping`, which is what a round trip costs there; compare within one run.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fraiseql_runtime::clock::SystemClock;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::limits::redis::Shared;
use fraiseql_runtime::resilience::admission::machine::Settings;
use fraiseql_runtime::resilience::admission::memory::Pressure;
use fraiseql_runtime::resilience::admission::metrics::AdmissionMetrics;
use fraiseql_runtime::resilience::admission::{Admission, Parts, Policy};
use fraiseql_runtime::resilience::limiter::bucket::Bucket;
use fraiseql_runtime::resilience::limiter::memory::Memory;
use fraiseql_runtime::resilience::limiter::window::Window;
use fraiseql_runtime::resilience::limiter::{Ask, Rule};
use fraiseql_runtime::storage::redis::{self, Redis};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const MINUTE: Duration = Duration::from_secs(60);

fn asks(limit: u32) -> [Ask; 3] {
    let window = Rule::Window(Window::new(limit, MINUTE));
    let bucket = Rule::Bucket(Bucket::new(limit, limit));
    [Ask::one(0, window), Ask::one(1, window), Ask::one(2, bucket)]
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("memory");
    let asks = asks(u32::MAX / 2);
    let memory = Memory::new(100_000);
    let mut at = Duration::ZERO;
    group.bench_function("one client, three rules", |b| {
        b.iter(|| {
            at += Duration::from_micros(1);
            black_box(memory.take("a:203.0.113.9", &asks, at))
        });
    });
    let names: Vec<String> = (0..400_000).map(|number| format!("a:{number}")).collect();
    let mut turn = 0;
    group.bench_function("four times as many clients as are remembered", |b| {
        b.iter(|| {
            at += Duration::from_micros(1);
            turn = (turn + 1) % names.len();
            black_box(memory.take(&names[turn], &asks, at))
        });
    });
    let refused = [Ask::one(9, Rule::Window(Window::new(1, MINUTE)))];
    let _ = memory.take("a:203.0.113.9", &refused, at);
    group.bench_function("a refusal", |b| b.iter(|| black_box(memory.take("a:203.0.113.9", &refused, at))));
    group.finish();
}

fn admission(c: &mut Criterion) {
    let admission = Admission::new(Parts {
        settings: Settings {
            executing_max: 100,
            client_max: 10,
            timeout: Duration::from_secs(1),
            target: Duration::from_millis(50),
            interval: Duration::from_millis(500),
        },
        policy: Policy::Adaptive,
        depth_max: 1_000,
        pressure: Pressure::of_process(80),
        saturated: None,
        metrics: AdmissionMetrics::unregistered(),
        clock: Arc::new(SystemClock),
    });
    let client: Arc<str> = "a:203.0.113.9".into();
    c.bench_function("admission, in and out", |b| b.iter(|| drop(black_box(admission.receive(&client)))));
}

fn shared(c: &mut Criterion) {
    let runtime = Runtime::new().expect("an async runtime");
    let environment = Environment::of_process();
    let Some(url) = environment.get("REDIS_URL") else {
        eprintln!("NotRun: redis; set REDIS_URL to a server whose keys may be written");
        return;
    };
    let redis = connect(&runtime, url);
    let shared = Shared::new(redis.clone(), Duration::from_secs(1));
    let asks = asks(u32::MAX / 2);
    let mut group = c.benchmark_group("redis");
    group.bench_function("ping", |b| b.to_async(&runtime).iter(|| redis.ping()));
    for (name, asks) in [("one rule", &asks[..1]), ("three rules", &asks[..])] {
        group.bench_function(name, |b| b.to_async(&runtime).iter(|| shared.take("bench", asks)));
    }
    group.finish();
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

criterion_group!(benches, memory, admission, shared);
criterion_main!(benches);
