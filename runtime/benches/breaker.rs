//! Claim: a call through a breaker costs less than a microsecond more than the call alone, and a refused one less than that;
//! so does a whole dependency, with its bulkhead and its budget of retries.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use fraiseql_runtime::clock::SystemClock;
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::resilience::breaker::{Breaker, Outcome, Settings};
use fraiseql_runtime::resilience::dependency::{self, CallMetrics, Dependency};
use fraiseql_runtime::resilience::retry::Policy;

fn settings(forgiving: bool) -> Settings {
    Settings {
        failure_threshold: 10,
        window: Duration::from_secs(60),
        timeout: Duration::from_secs(3_600),
        success_threshold: 1,
        forgiving,
    }
}

fn breaker(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("breaker");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    let closed = Breaker::new("closed", settings(true), Arc::new(SystemClock));
    group.bench_function("closed", |bencher| {
        bencher.iter(|| closed.ask().expect("closed").ends(black_box(Outcome::Success)));
    });
    let faulty = Breaker::new("faulty", settings(true), Arc::new(SystemClock));
    let mut turn = 0u32;
    group.bench_function("closed_every_third_a_fault", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let outcome = if turn.is_multiple_of(3) { Outcome::Fault } else { Outcome::Success };
            faulty.ask().expect("closed").ends(black_box(outcome));
        });
    });
    let open = Breaker::new("open", settings(false), Arc::new(SystemClock));
    for _ in 0..10 {
        open.ask().expect("closed").ends(Outcome::Fault);
    }
    group.bench_function("open", |bencher| bencher.iter(|| black_box(open.ask().is_err())));
    let settings = dependency::Settings {
        breaker: settings(true),
        in_flight_max: 100,
        retry: Policy::default(),
        retry_reserve: 10,
    };
    let metrics = Metrics::new().area(CallMetrics::register);
    let whole = Dependency::new("whole", settings, Arc::new(SystemClock), &metrics);
    group.bench_function("dependency", |bencher| {
        bencher.iter(|| {
            whole.begin();
            whole.enter().expect("closed").ends(black_box(Outcome::Success));
        });
    });
    group.finish();
}

criterion_group!(benches, breaker);
criterion_main!(benches);
