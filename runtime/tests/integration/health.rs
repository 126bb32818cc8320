//! Health is asked in parallel, with deadlines, in a loop; routes answer from the last report.

use std::time::Duration;

use axum::Router;
use fraiseql_runtime::observability::health::{
    CheckResult, Criticality, HealthCheck, HealthChecker, HealthMonitor,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Planted, TestFrame, eventually};

fn failed() -> CheckResult {
    CheckResult::unhealthy("connect to 10.1.2.3:5432: password of shop refused", Duration::from_millis(7))
}

const FAST: &str = "[health]\ninterval = \"20ms\"";

#[tokio::test(start_paused = true)]
async fn checks_run_at_the_same_time() {
    let mut checker = HealthChecker::new("1.2.3");
    for name in ["one", "two", "three"] {
        checker.add_check(Planted::healthy(name, Criticality::Critical).taking(Duration::from_millis(1_500)));
    }
    let started = Instant::now();
    assert_eq!(checker.run().await.status, "healthy");
    assert_eq!(started.elapsed(), Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_unhealthy_at_its_deadline_and_holds_up_no_other() {
    let mut checker = HealthChecker::new("1.2.3").with_timeout(Duration::from_secs(2));
    checker.add_check(Planted::healthy("hangs", Criticality::Degrading).taking(Duration::from_secs(3_600)));
    checker.add_check(Planted::healthy("fine", Criticality::Critical));
    let started = Instant::now();
    let status = checker.run().await;
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    assert_eq!(status.status, "degraded");
    assert_eq!(status.checks["hangs"].status, "unhealthy");
    assert_eq!(status.checks["hangs"].message.as_deref(), Some("no answer within 2s"));
    assert_eq!(status.checks["hangs"].latency_ms, Some(2_000));
    assert_eq!(status.checks["fine"].status, "healthy");
}

#[tokio::test(start_paused = true)]
async fn uptime_grows() {
    let checker = HealthChecker::new("1.2.3");
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(checker.run().await.uptime_seconds, 61);
}

#[tokio::test(start_paused = true)]
async fn the_loop_asks_once_per_interval_and_readers_only_read() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    struct Counting(Arc<AtomicU32>);
    #[async_trait::async_trait]
    impl HealthCheck for Counting {
        fn name(&self) -> &str {
            "counting"
        }
        async fn check(&self) -> CheckResult {
            self.0.fetch_add(1, Ordering::SeqCst);
            CheckResult::healthy(Duration::ZERO)
        }
    }
    let asked = Arc::new(AtomicU32::new(0));
    let mut checker = HealthChecker::new("1.2.3");
    checker.add_check(Counting(asked.clone()));
    crate::support::log::install();
    let (monitor, mut report) = HealthMonitor::new(checker, Duration::from_secs(5));
    assert_eq!(report.latest().status, "unhealthy", "before the first round nothing is known");

    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move { monitor.run(stopped).await });
    report.changed().await;
    for _ in 0..1_000 {
        assert_eq!(report.latest().status, "healthy");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(14_999)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 3, "at 0 s, 5 s and 10 s");
    stop.cancel();
    running.await.expect("the loop ends when told to");
}

#[tokio::test]
async fn a_failed_fallback_dependency_degrades_and_a_critical_one_stops_readiness() {
    let database = Planted::healthy("database", Criticality::Critical);
    let redis = Planted::healthy("redis", Criticality::Degrading);
    let frame = TestFrame::with(FAST, Router::new(), [database.clone(), redis.clone()]).await;
    let seen = async |status: &str, health: u16, ready: u16| {
        eventually(&format!("{status} {health} {ready}"), async || {
            let (first, second) = (frame.get("/health").await, frame.get("/ready").await);
            let codes = (first.status().as_u16(), second.status().as_u16());
            let body: serde_json::Value = first.json().await.expect("JSON");
            let as_expected = body["status"] == status && codes == (health, ready);
            if as_expected { Ok(()) } else { Err(format!("{codes:?} {body}")) }
        })
        .await;
        assert_eq!(frame.get("/livez").await.status(), 200, "liveness looks at no dependency");
    };
    seen("healthy", 200, 200).await;
    redis.becomes(failed());
    seen("degraded", 200, 200).await;
    database.becomes(failed());
    seen("unhealthy", 503, 503).await;
    database.becomes(CheckResult::healthy(Duration::ZERO));
    redis.becomes(CheckResult::healthy(Duration::ZERO));
    seen("healthy", 200, 200).await;
}

#[tokio::test]
async fn the_report_reads_so() {
    let database = Planted::healthy("database", Criticality::Critical);
    let redis = Planted::healthy("redis", Criticality::Degrading);
    let nats = Planted::healthy("nats", Criticality::Degrading);
    redis.becomes(failed());
    let frame = TestFrame::with(FAST, Router::new(), [database, redis, nats]).await;
    let report = eventually("the first round", async || {
        let body: serde_json::Value = frame.get("/health").await.json().await.expect("JSON");
        if body["status"] == "degraded" { Ok(body) } else { Err(body.to_string()) }
    })
    .await;
    insta::assert_json_snapshot!(report, { ".uptime_seconds" => "[seconds]" });
    assert_eq!(frame.text("/ready").await, r#"{"status":"ready"}"#);
}

#[tokio::test]
async fn what_works_by_its_fallback_degrades_the_report_at_once_and_leaves_the_server_ready() {
    use std::sync::Arc;

    use fraiseql_runtime::resilience::degradation::Registrar;

    let registry = Registrar::default();
    let limiter = registry.component("rate_limiter", "each replica limits by itself");
    let check = Planted::healthy("database", Criticality::Critical);
    let mut checker = HealthChecker::new("1.2.3").with_degradations(Arc::new(registry));
    checker.add_check(check.clone());
    let (monitor, report) = HealthMonitor::new(checker, Duration::from_secs(5));
    monitor.round().await;
    assert_eq!((report.latest().status.as_str(), report.latest().degraded.len()), ("healthy", 0));

    limiter.degraded("redis is away");
    let degraded = report.latest();
    assert!(degraded.is_serving());
    assert_eq!(degraded.status, "degraded", "without another round of the checks");
    let shown = serde_json::to_value(degraded.public()).expect("JSON");
    insta::assert_json_snapshot!(shown["degraded"], { "[].since" => "[time]" });

    check.becomes(failed());
    monitor.round().await;
    assert_eq!(report.latest().status, "unhealthy", "a fallback does not hide what is down");
    check.becomes(CheckResult::healthy(Duration::ZERO));
    monitor.round().await;
    limiter.restored();
    assert_eq!(report.latest().status, "healthy");
}
