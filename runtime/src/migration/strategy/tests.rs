//! The orchestrator on a clock that jumps, with a service whose health the test sets; the gate by properties.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::gate::judge;
use super::*;
use crate::feature_flags::MockFeatureFlagProvider;

/// A service whose health a test sets.
#[derive(Default)]
struct Service {
    error_rate: Mutex<f64>,
    p99: Mutex<f64>,
    samples: Mutex<Option<u64>>,
    control: Mutex<Option<Cohort>>,
    looked: Mutex<u32>,
}

#[async_trait]
impl MetricsProvider for Service {
    async fn get_error_rate(&self) -> Result<f64, MigrationError> {
        *self.looked.lock() += 1;
        Ok(*self.error_rate.lock())
    }

    async fn get_p99_latency(&self) -> Result<f64, MigrationError> {
        Ok(*self.p99.lock())
    }

    async fn get_sample_size(&self) -> Result<Option<u64>, MigrationError> {
        Ok(*self.samples.lock())
    }

    async fn get_control(&self) -> Result<Option<Cohort>, MigrationError> {
        Ok(*self.control.lock())
    }
}

struct Bench {
    flags: Arc<MockFeatureFlagProvider>,
    service: Arc<Service>,
    orchestrator: Arc<MigrationOrchestrator>,
}

fn config() -> MigrationConfig {
    MigrationConfig {
        feature_flag: "feature".to_owned(),
        canary_users: vec!["ada".to_owned()],
        ..MigrationConfig::default()
    }
}

fn bench(config: MigrationConfig) -> Bench {
    let (flags, service) = (Arc::new(MockFeatureFlagProvider::new()), Arc::new(Service::default()));
    let orchestrator = Arc::new(MigrationOrchestrator::new(config, flags.clone(), service.clone()));
    Bench { flags, service, orchestrator }
}

impl Bench {
    /// The percentage and the number of users of the flag.
    fn flag(&self) -> (u8, usize) {
        let flags = self.flags.flags.lock().expect("nobody panicked");
        flags.get("feature").map_or((0, 0), |(percentage, users)| (*percentage, users.len()))
    }

    async fn advance(&self) -> Result<MigrationPhase, MigrationError> {
        self.orchestrator.advance().await
    }
}

fn failed(phase: &str) -> Result<MigrationPhase, MigrationError> {
    Err(MigrationError::HealthCheckFailed { phase: phase.to_owned() })
}

#[tokio::test(start_paused = true)]
async fn the_whole_way_takes_as_long_as_the_schedule_says_and_ends_with_everybody() {
    let bench = bench(config());
    let started = tokio::time::Instant::now();
    let mut ways = Vec::new();
    for _ in 0..9 {
        let phase = bench.advance().await.expect("healthy");
        ways.push((phase, bench.flag(), started.elapsed().as_secs()));
    }
    let rollout = |percentage| MigrationPhase::Rollout { percentage };
    let expected = [
        (MigrationPhase::Migrate, (0, 0), 0),
        (MigrationPhase::Canary, (0, 0), 0),
        (rollout(0), (0, 1), 60),
        (rollout(10), (10, 1), 360),
        (rollout(25), (25, 1), 960),
        (rollout(50), (50, 1), 2_760),
        (MigrationPhase::Cleanup, (100, 1), 2_760),
        (MigrationPhase::Complete, (100, 1), 2_760),
        (MigrationPhase::Complete, (100, 1), 2_760),
    ];
    assert_eq!(ways, expected);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_goes_wrong_ends_soon_and_is_taken_back() {
    let bench = bench(config());
    for _ in 0..4 {
        bench.advance().await.expect("healthy");
    }
    assert_eq!(bench.flag(), (10, 1));
    let started = tokio::time::Instant::now();
    let (step, burn) = tokio::join!(bench.advance(), async {
        tokio::time::sleep(Duration::from_secs(91)).await;
        *bench.service.error_rate.lock() = 0.011;
        bench.flag()
    });
    assert_eq!((burn.0, step), (25, failed("rollout_25%")));
    assert_eq!(started.elapsed(), Duration::from_secs(95), "at the next look, not at the end of ten minutes");
    assert_eq!(
        (bench.flag(), bench.orchestrator.phase()),
        ((10, 1), MigrationPhase::Rollout { percentage: 10 })
    );
    *bench.service.error_rate.lock() = 0.01;
    assert_eq!(
        bench.advance().await,
        Ok(MigrationPhase::Rollout { percentage: 25 }),
        "just the threshold is healthy"
    );
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_fails_leaves_no_canary_users() {
    let bench = bench(config());
    bench.advance().await.expect("deployed");
    bench.advance().await.expect("migrated");
    *bench.service.p99.lock() = 501.0;
    assert_eq!(bench.advance().await, failed("canary"));
    assert_eq!((bench.flag(), bench.orchestrator.phase()), ((0, 0), MigrationPhase::Canary));
}

#[tokio::test(start_paused = true)]
async fn nobody_asking_is_waited_for_and_is_not_healthy() {
    let bench = bench(config());
    bench.advance().await.expect("deployed");
    bench.advance().await.expect("migrated");
    for unknown in [(f64::NAN, None), (0.0, Some(99))] {
        (*bench.service.error_rate.lock(), *bench.service.samples.lock()) = unknown;
        let started = tokio::time::Instant::now();
        assert_eq!(bench.advance().await, failed("canary"), "{unknown:?}");
        assert_eq!(started.elapsed(), Duration::from_secs(60), "requests may still come");
    }
    *bench.service.samples.lock() = Some(100);
    assert_eq!(bench.advance().await, Ok(MigrationPhase::Rollout { percentage: 0 }));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_interrupts_a_step_of_half_an_hour_and_whoever_waits_behind_it() {
    let bench = bench(config());
    for _ in 0..5 {
        bench.advance().await.expect("healthy");
    }
    let step =
        |orchestrator: Arc<MigrationOrchestrator>| tokio::spawn(async move { orchestrator.advance().await });
    let (first, second) = (step(bench.orchestrator.clone()), step(bench.orchestrator.clone()));
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(bench.flag(), (50, 1));
    let started = tokio::time::Instant::now();
    for _ in 0..2 {
        bench.orchestrator.rollback().await.expect("off");
        assert_eq!((bench.flag(), bench.orchestrator.phase()), ((0, 0), MigrationPhase::Deploy));
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
    for step in [first, second] {
        assert_eq!(step.await.expect("no panic"), Err(MigrationError::Interrupted));
    }
    assert_eq!(bench.flag(), (0, 0));
    assert_eq!(bench.advance().await, Ok(MigrationPhase::Migrate), "it begins again");
}

#[tokio::test(start_paused = true)]
async fn there_is_no_way_back_when_the_old_code_may_be_gone() {
    let bench = bench(config());
    for _ in 0..7 {
        bench.advance().await.expect("healthy");
    }
    assert_eq!(bench.orchestrator.phase(), MigrationPhase::Cleanup);
    let refused = bench.orchestrator.rollback().await;
    assert_eq!(refused, Err(MigrationError::TooLate { phase: "cleanup".to_owned() }));
    assert_eq!((bench.flag(), bench.orchestrator.phase()), ((100, 1), MigrationPhase::Cleanup));
}

#[tokio::test]
async fn a_rollback_tries_everything_before_it_tells_the_first_error() {
    /// Takes users and no percentages.
    struct Half(MockFeatureFlagProvider);

    #[async_trait]
    impl FeatureFlagProvider for Half {
        async fn set_percentage(&self, _: &str, _: u8) -> Result<(), feature_flags::Error> {
            Err(feature_flags::Error::new("away"))
        }
        async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), feature_flags::Error> {
            self.0.set_users(flag, users).await
        }
        async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, feature_flags::Error> {
            self.0.is_enabled(flag, user).await
        }
    }

    let flags = Arc::new(Half(MockFeatureFlagProvider::new()));
    flags.set_users("feature", &["ada".to_owned()]).await.expect("set");
    let orchestrator = MigrationOrchestrator::new(config(), flags.clone(), Arc::new(Service::default()));
    orchestrator.advance().await.expect("deployed");
    let failed = orchestrator.rollback().await;
    assert_eq!(failed, Err(MigrationError::FeatureFlag("away".to_owned())));
    assert_eq!(flags.is_enabled("feature", Some("ada")).await, Ok(false), "the users are gone all the same");
    assert_eq!(orchestrator.phase(), MigrationPhase::Migrate, "it is not rolled back yet");
}

#[tokio::test]
async fn a_migration_that_is_missing_holds_the_canary_up() {
    struct Known(&'static str);

    #[async_trait]
    impl AppliedMigrations for Known {
        async fn is_applied(&self, migration: &str) -> Result<bool, MigrationError> {
            Ok(migration == self.0)
        }
    }

    for (known, expected) in [
        ("1_a.sql", Err(MigrationError::NotApplied("2_b.sql".to_owned()))),
        ("2_b.sql", Err(MigrationError::NotApplied("1_a.sql".to_owned()))),
    ] {
        let config = MigrationConfig { db_migrations: vec!["1_a.sql".into(), "2_b.sql".into()], ..config() };
        let (flags, service) = (Arc::new(MockFeatureFlagProvider::new()), Arc::new(Service::default()));
        let orchestrator =
            MigrationOrchestrator::new(config, flags, service).with_applied(Arc::new(Known(known)));
        orchestrator.advance().await.expect("deployed");
        assert_eq!(orchestrator.advance().await, expected);
        assert_eq!(orchestrator.phase(), MigrationPhase::Migrate);
    }
}

#[test]
fn the_defaults_are_those_of_the_plan_and_what_cannot_end_is_refused() {
    let defaults = MigrationConfig::default();
    let schedule: Vec<_> =
        defaults.rollout_schedule.iter().map(|(step, wait)| (*step, wait.as_secs())).collect();
    assert_eq!(schedule, [(10, 300), (25, 600), (50, 1_800), (100, 0)]);
    assert_eq!(defaults.health_metrics, ["error_rate", "p99_latency"]);
    assert_eq!((defaults.error_threshold, defaults.canary_wait.as_secs()), (0.01, 60));
    defaults.check().expect("the defaults are valid");
    let steps = |steps: &[u8]| {
        let rollout_schedule = steps.iter().map(|step| (*step, Duration::ZERO)).collect();
        MigrationConfig { rollout_schedule, ..MigrationConfig::default() }
    };
    for (config, field) in [
        (steps(&[]), "rollout_schedule"),
        (steps(&[10, 50]), "rollout_schedule"),
        (steps(&[50, 10, 100]), "rollout_schedule"),
        (steps(&[50, 50, 100]), "rollout_schedule"),
        (steps(&[0, 100]), "rollout_schedule"),
        (steps(&[50, 100, 101]), "rollout_schedule"),
        (MigrationConfig { health_metrics: vec![], ..config() }, "health_metrics"),
        (MigrationConfig { health_metrics: vec!["cpu".into()], ..config() }, "health_metrics"),
        (MigrationConfig { error_threshold: f64::NAN, ..config() }, "error_threshold"),
        (MigrationConfig { error_threshold: 1.1, ..config() }, "error_threshold"),
        (MigrationConfig { p99_threshold_ms: f64::INFINITY, ..config() }, "p99_threshold_ms"),
        (MigrationConfig { control_factor: 0.5, ..config() }, "control_factor"),
        (MigrationConfig { poll_interval: Duration::ZERO, ..config() }, "poll_interval"),
    ] {
        let error = config.check().expect_err(field).to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn errors_read_as_they_are_told() {
    let texts = [
        MigrationError::HealthCheckFailed { phase: "canary".into() },
        MigrationError::FeatureFlag("away".into()),
        MigrationError::Metrics("away".into()),
    ];
    let texts = texts.map(|error| error.to_string());
    let expected =
        ["Health check failed in phase: canary", "Feature flag error: away", "Metrics error: away"];
    assert_eq!(texts, expected);
}

proptest! {
    #[test]
    fn what_is_healthy_stays_so_when_it_gets_better(
        error_rate in 0.0..0.05f64, p99 in 0.0..1_000.0f64, better in 0.0..=1.0f64,
        control in prop::option::of((0.0..0.05f64, 0.0..1_000.0f64)), samples in prop::option::of(0u64..200),
    ) {
        let control = control.map(|(error_rate, p99_latency_ms)| Cohort { error_rate, p99_latency_ms });
        let reading = |factor: f64| {
            let cohort = Cohort { error_rate: error_rate * factor, p99_latency_ms: p99 * factor };
            judge(&MigrationConfig::default(), &Reading { cohort, samples, control })
        };
        prop_assert!(reading(1.0) != Health::Healthy || reading(better) == Health::Healthy);
        if samples.is_some_and(|samples| samples < 100) {
            prop_assert_eq!(reading(1.0), Health::Unknown);
        } else if error_rate > 0.01 || p99 > 500.0 {
            let unhealthy = matches!(reading(1.0), Health::Unhealthy { .. });
            prop_assert!(unhealthy, "no control makes the limit larger");
        }
    }
}

#[test]
fn those_with_the_feature_may_not_do_much_worse_than_those_without() {
    let cohort = |error_rate, p99_latency_ms| Cohort { error_rate, p99_latency_ms };
    let judged = |with, without| {
        judge(&MigrationConfig::default(), &Reading { cohort: with, samples: None, control: Some(without) })
    };
    assert_eq!(judged(cohort(0.002, 100.0), cohort(0.001, 50.0)), Health::Healthy);
    let slow = Health::Unhealthy { metric: "p99_latency", value: 101.0, threshold: 100.0 };
    assert_eq!(judged(cohort(0.002, 101.0), cohort(0.001, 50.0)), slow);
    assert_eq!(judged(cohort(0.005, 50.0), cohort(0.0, 50.0)), Health::Healthy, "nobody had an error before");
}
