//! What it costs to ask for a flag, which is promised to stay below a microsecond, and to pass a gate of the engine.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use fraiseql_runtime::feature_flags::cohorts::Cohorts;
use fraiseql_runtime::feature_flags::{FeatureFlag, FeatureFlagService};

/// A thousand flags, of each kind that costs something else to ask for.
fn service(runtime: &tokio::runtime::Runtime) -> FeatureFlagService {
    let service = FeatureFlagService::new("production");
    let users = (0..10_000).map(|n| format!("user-{n}")).collect();
    let flag = |name: &str| FeatureFlag { name: name.to_owned(), ..FeatureFlag::default() };
    let mut flags: Vec<_> = (0..996).map(|n| flag(&format!("other_{n}"))).collect();
    flags.push(FeatureFlag { enabled: true, ..flag("enabled") });
    flags.push(FeatureFlag { percentage: 50, ..flag("percentage") });
    flags.push(FeatureFlag { user_allowlist: users, percentage: 50, ..flag("listed") });
    flags.push(FeatureFlag {
        environments: vec!["staging".into(), "production".into()],
        start_time: Some(chrono::DateTime::UNIX_EPOCH),
        percentage: 50,
        ..flag("timed")
    });
    runtime.block_on(service.load_flags(flags));
    service
}

fn ask(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("an async runtime");
    let service = service(&runtime);
    let mut group = c.benchmark_group("flag");
    for (name, flag, user) in [
        ("enabled for everybody", "enabled", None),
        ("a percentage, with the user's hash", "percentage", Some("3f0c9a52-6f0e-4c5b-9f0e-1f6a5d2c7b11")),
        ("ten thousand users listed", "listed", Some("user-9999")),
        ("an environment, a time and a percentage", "timed", Some("3f0c9a52-6f0e-4c5b-9f0e-1f6a5d2c7b11")),
    ] {
        group.bench_function(name, |b| b.iter(|| service.is_on(black_box(flag), black_box(user))));
    }
    let gate = Cohorts::default().gate(&service, "percentage");
    let user = Some("3f0c9a52-6f0e-4c5b-9f0e-1f6a5d2c7b11");
    group.bench_function("a gate of the engine, with its counts", |b| {
        b.iter(|| gate.enter(black_box(user)).on)
    });
    group.finish();
}

criterion_group!(benches, ask);
criterion_main!(benches);
