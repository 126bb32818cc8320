//! `TestFrame`: the real listener on a free port with routes of the test behind the real layers.

pub mod log;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use fraiseql_runtime::config::Config;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::observability::health::{CheckResult, Criticality, HealthCheck, HealthChecker};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::observability::trace::Tracer;
use fraiseql_runtime::server::workers::Workers;
use fraiseql_runtime::server::{self, Application, Ended};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a start needs besides the file.
pub fn environment() -> Environment {
    Environment::from([
        ("DATABASE_URL", "postgres://shop:hunter2@db.example:5432/shop"),
        ("REDIS_URL", "redis://cache.example:6379/0"),
        ("NATS_URL", "nats://bus.example:4222"),
    ])
}

/// A configuration with short times, changed by `toml`.
pub fn config(toml: &str) -> Config {
    Config::parse(toml, "test.toml", &environment()).expect("the test's configuration is valid")
}

/// A check whose result the test sets.
#[derive(Clone)]
pub struct Planted {
    name: &'static str,
    criticality: Criticality,
    pub result: Arc<Mutex<CheckResult>>,
    pub takes: Duration,
}

impl Planted {
    pub fn healthy(name: &'static str, criticality: Criticality) -> Self {
        let result = CheckResult { latency_ms: Some(1), ..CheckResult::healthy(Duration::ZERO) };
        Self { name, criticality, result: Arc::new(Mutex::new(result)), takes: Duration::ZERO }
    }

    pub fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    pub fn becomes(&self, result: CheckResult) {
        *self.result.lock() = result;
    }
}

#[async_trait::async_trait]
impl HealthCheck for Planted {
    fn name(&self) -> &str {
        self.name
    }

    async fn check(&self) -> CheckResult {
        tokio::time::sleep(self.takes).await;
        self.result.lock().clone()
    }

    fn criticality(&self) -> Criticality {
        self.criticality
    }
}

pub struct TestFrame {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    stop: CancellationToken,
    server: JoinHandle<Ended>,
}

impl TestFrame {
    /// One critical check that is healthy, so that `/ready` becomes 200.
    pub async fn spawn(routes: Router) -> Self {
        let check = Planted::healthy("database", Criticality::Critical);
        Self::with("[health]\ninterval = \"20ms\"", routes, [check]).await
    }

    pub async fn with<const N: usize>(toml: &str, routes: Router, checks: [Planted; N]) -> Self {
        Self::start(toml, Tracer::off(), routes, checks).await
    }

    /// Whose requests become traces.
    pub async fn traced(tracer: Tracer, routes: Router) -> Self {
        let check = Planted::healthy("database", Criticality::Critical);
        Self::start("[health]\ninterval = \"20ms\"", tracer, routes, [check]).await
    }

    async fn start<const N: usize>(toml: &str, tracer: Tracer, routes: Router, checks: [Planted; N]) -> Self {
        log::install();
        let mut health = HealthChecker::new("1.2.3");
        for check in checks {
            health.add_check(check);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, config) = (CancellationToken::new(), config(toml));
        let application = Application { routes, health, workers: Workers::default(), gate: None, tracer };
        let end = stop.clone();
        let server =
            tokio::spawn(
                async move { server::serve(listener, &config, Metrics::new(), application, end).await },
            );
        Self { address, client: reqwest::Client::new(), stop, server }
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(self.url(path)).send().await.expect("an answer")
    }

    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.text().await.expect("a body")
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn begin_shutdown(&self) {
        self.stop.cancel();
    }

    pub async fn ended(self) -> Ended {
        self.stop.cancel();
        self.server.await.expect("the server does not panic")
    }
}

/// Asks until the answer is there; fails after ten seconds with what was seen last.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) if tokio::time::Instant::now() > deadline => panic!("{what}: last seen: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
