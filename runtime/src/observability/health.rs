//! Asks the dependencies how they are, at the same time and each with a deadline, and keeps the
//! last answer for whoever wants to know.
//!
//! A route never runs a check: [`HealthMonitor::run`] does so in a loop and publishes the report,
//! so a dependency that hangs cannot hang `/health`. Messages of checks may hold addresses and
//! driver errors; they go to the log, and [`HealthStatus::public`] replaces them for callers. What works by its
//! fallback now is in the report too, at the moment it is read; it makes a healthy server a degraded one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub const HEALTHY: &str = "healthy";
pub const DEGRADED: &str = "degraded";
pub const UNHEALTHY: &str = "unhealthy";

/// The report of one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: String,
    pub version: String,
    pub uptime_seconds: u64,
    #[serde(serialize_with = "sorted")]
    pub checks: HashMap<String, CheckResult>,
    /// What works by its fallback now, by name.
    pub degraded: Vec<Degraded>,
}

/// A part of the server that works by its fallback. Callers see all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Degraded {
    /// Which.
    pub component: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What stands in for it.
    pub fallback: &'static str,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Who knows what is degraded.
pub trait Degradations: Send + Sync {
    /// All of it at this moment, in a fixed order.
    fn now(&self) -> Vec<Degraded>;
}

/// Nothing ever is.
#[derive(Debug)]
struct NoDegradations;

impl Degradations for NoDegradations {
    fn now(&self) -> Vec<Degraded> {
        Vec::new()
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// `healthy`, `degraded` or `unhealthy`; any other word counts as degraded.
    pub status: String,
    pub message: Option<String>,
    pub latency_ms: Option<u64>,
}

/// What an unhealthy check does to the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Criticality {
    /// Nothing works without it: the whole is unhealthy and not ready.
    #[default]
    Critical,
    /// There is a fallback: the whole is degraded and stays ready.
    Degrading,
}

/// Asks one dependency. What it does must be cheap: it runs every few seconds for ever.
#[async_trait::async_trait]
pub trait HealthCheck: Send + Sync {
    /// Key in the report; `database`, `redis`, `nats` are the built-in ones.
    fn name(&self) -> &str;

    async fn check(&self) -> CheckResult;

    fn criticality(&self) -> Criticality {
        Criticality::Critical
    }

    /// A check that takes longer is unhealthy; `None` means the checker's own limit.
    fn timeout(&self) -> Option<Duration> {
        None
    }
}

impl CheckResult {
    pub fn healthy(latency: Duration) -> Self {
        Self { status: HEALTHY.to_owned(), message: None, latency_ms: Some(millis(latency)) }
    }

    /// Works, but not as it should.
    pub fn degraded(message: impl Into<String>, latency: Duration) -> Self {
        let (message, latency_ms) = (Some(message.into()), Some(millis(latency)));
        Self { status: DEGRADED.to_owned(), message, latency_ms }
    }

    pub fn unhealthy(message: impl Into<String>, latency: Duration) -> Self {
        let (message, latency_ms) = (Some(message.into()), Some(millis(latency)));
        Self { status: UNHEALTHY.to_owned(), message, latency_ms }
    }
}

impl HealthStatus {
    /// The report for callers who may be anybody: says which check failed, not why.
    #[must_use]
    pub fn public(&self) -> Self {
        let mut public = self.clone();
        for (name, check) in &mut public.checks {
            check.message = match check.status.as_str() {
                HEALTHY => None,
                DEGRADED => Some(format!("{name} works with limits, see the log")),
                _ => Some(format!("{name} does not answer as it should, see the log")),
            };
        }
        public
    }

    /// A degraded server serves; an unhealthy one does not.
    pub fn is_serving(&self) -> bool {
        self.status != UNHEALTHY
    }

    /// The same with what is degraded now.
    fn with(mut self, degraded: Vec<Degraded>) -> Self {
        if self.status == HEALTHY && !degraded.is_empty() {
            DEGRADED.clone_into(&mut self.status);
        }
        self.degraded = degraded;
        self
    }
}

/// The checks and what they have in common.
pub struct HealthChecker {
    checks: Vec<Box<dyn HealthCheck>>,
    started: Instant,
    version: String,
    timeout: Duration,
    degradations: Arc<dyn Degradations>,
}

impl HealthChecker {
    /// With a limit of two seconds for each check.
    pub fn new(version: &str) -> Self {
        let (started, timeout) = (Instant::now(), Duration::from_secs(2));
        let degradations = Arc::new(NoDegradations);
        Self { checks: Vec::new(), started, version: version.to_owned(), timeout, degradations }
    }

    /// Who is asked what is degraded.
    #[must_use]
    pub fn with_degradations(mut self, degradations: Arc<dyn Degradations>) -> Self {
        self.degradations = degradations;
        self
    }

    /// The limit for checks that set none themselves.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn add_check<C: HealthCheck + 'static>(&mut self, check: C) {
        self.checks.push(Box::new(check));
    }

    /// Runs all checks at the same time, so it takes as long as the slowest or its limit.
    pub async fn run(&self) -> HealthStatus {
        self.run_checks().await.with(self.degradations.now())
    }

    /// What the checks say by themselves.
    async fn run_checks(&self) -> HealthStatus {
        let results = join_all(self.checks.iter().map(|check| self.run_one(check.as_ref()))).await;
        let status = overall(
            self.checks
                .iter()
                .zip(&results)
                .map(|(check, result)| (result.status.as_str(), check.criticality())),
        );
        let names = self.checks.iter().map(|check| check.name().to_owned());
        HealthStatus {
            status: status.to_owned(),
            version: self.version.clone(),
            uptime_seconds: self.started.elapsed().as_secs(),
            checks: names.zip(results).collect(),
            degraded: Vec::new(),
        }
    }

    async fn run_one(&self, check: &dyn HealthCheck) -> CheckResult {
        let limit = check.timeout().unwrap_or(self.timeout);
        let started = Instant::now();
        tokio::time::timeout(limit, check.check()).await.unwrap_or_else(|_| {
            let message = format!("no answer within {}", humantime::format_duration(limit));
            CheckResult::unhealthy(message, started.elapsed())
        })
    }

    /// The report before the first round: everything is unknown, which is not healthy.
    fn not_yet(&self) -> HealthStatus {
        let unknown = || CheckResult {
            status: UNHEALTHY.to_owned(),
            message: Some("not checked yet".to_owned()),
            latency_ms: None,
        };
        HealthStatus {
            status: UNHEALTHY.to_owned(),
            version: self.version.clone(),
            uptime_seconds: 0,
            checks: self.checks.iter().map(|check| (check.name().to_owned(), unknown())).collect(),
            degraded: Vec::new(),
        }
    }
}

/// All healthy is healthy; an unhealthy check that is critical makes the whole unhealthy;
/// everything between is degraded.
fn overall<'a>(checks: impl Iterator<Item = (&'a str, Criticality)>) -> &'static str {
    let mut status = HEALTHY;
    for check in checks {
        match check {
            (HEALTHY, _) => {}
            (UNHEALTHY, Criticality::Critical) => return UNHEALTHY,
            _ => status = DEGRADED,
        }
    }
    status
}

/// Runs the checks in a loop.
pub struct HealthMonitor {
    checker: HealthChecker,
    interval: Duration,
    report: watch::Sender<Arc<HealthStatus>>,
    started: Instant,
}

/// The last report; clones share it.
#[derive(Clone)]
pub struct HealthReport {
    report: watch::Receiver<Arc<HealthStatus>>,
    started: Instant,
    degradations: Arc<dyn Degradations>,
}

impl std::fmt::Debug for HealthReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HealthReport").field(&self.latest()).finish()
    }
}

impl HealthMonitor {
    pub fn new(checker: HealthChecker, interval: Duration) -> (Self, HealthReport) {
        let started = checker.started;
        let (sender, receiver) = watch::channel(Arc::new(checker.not_yet()));
        let degradations = checker.degradations.clone();
        let report = HealthReport { report: receiver, started, degradations };
        (Self { checker, interval, report: sender, started }, report)
    }

    /// Another reader of the reports.
    pub fn report(&self) -> HealthReport {
        let degradations = self.checker.degradations.clone();
        HealthReport { report: self.report.subscribe(), started: self.started, degradations }
    }

    /// Checks now and then once per interval, until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.round() => {}
            }
        }
    }

    /// One round: run, log what changed, publish.
    pub async fn round(&self) {
        let now = Arc::new(self.checker.run_checks().await);
        let before = self.report.send_replace(now.clone());
        log_changes(&before, &now);
    }
}

impl HealthReport {
    /// The last report, with the uptime of this moment and with what is degraded now.
    pub fn latest(&self) -> HealthStatus {
        let mut status = HealthStatus::clone(&self.report.borrow());
        status.uptime_seconds = self.started.elapsed().as_secs();
        status.with(self.degradations.now())
    }

    /// Waits for the next round to end. Returns at once when the monitor is gone.
    pub async fn changed(&mut self) {
        // The error says that no report will follow, and then there is nothing to wait for.
        let _gone = self.report.changed().await;
    }
}

fn log_changes(before: &HealthStatus, now: &HealthStatus) {
    for (name, check) in &now.checks {
        let was = before.checks.get(name).map_or("unknown", |old| old.status.as_str());
        if was == check.status {
            continue;
        }
        let (is, message) = (check.status.as_str(), check.message.as_deref().unwrap_or_default());
        if is == HEALTHY {
            tracing::info!(check = name, was, is, latency_ms = check.latency_ms, "health check changed");
        } else {
            tracing::warn!(
                check = name,
                was,
                is,
                latency_ms = check.latency_ms,
                message,
                "health check changed"
            );
        }
    }
    if before.status != now.status {
        tracing::info!(was = before.status, is = now.status, "health changed");
    }
}

fn millis(latency: Duration) -> u64 {
    u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)
}

/// A report reads the same each time, though the map has no order.
fn sorted<S: serde::Serializer>(
    checks: &HashMap<String, CheckResult>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    checks.iter().collect::<BTreeMap<_, _>>().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_weighs_as_much_as_it_is_critical() {
        use Criticality::{Critical, Degrading};
        assert_eq!(overall([].into_iter()), HEALTHY);
        assert_eq!(overall([(HEALTHY, Critical), (HEALTHY, Degrading)].into_iter()), HEALTHY);
        assert_eq!(overall([(UNHEALTHY, Degrading), (HEALTHY, Critical)].into_iter()), DEGRADED);
        assert_eq!(overall([(DEGRADED, Critical)].into_iter()), DEGRADED);
        assert_eq!(overall([(DEGRADED, Degrading), (UNHEALTHY, Critical)].into_iter()), UNHEALTHY);
    }

    #[test]
    fn callers_learn_which_check_failed_but_not_why() {
        let checks = [("database", CheckResult::unhealthy("10.0.0.7: no route", Duration::from_millis(3)))];
        let status = HealthStatus {
            status: UNHEALTHY.to_owned(),
            version: "1".to_owned(),
            uptime_seconds: 1,
            checks: checks.map(|(name, check)| (name.to_owned(), check)).into(),
            degraded: Vec::new(),
        };
        let shown = serde_json::to_string(&status.public()).expect("JSON");
        assert!(shown.contains("database does not answer"), "{shown}");
        assert!(!shown.contains("10.0.0.7"), "{shown}");
    }
}
