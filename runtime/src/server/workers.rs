//! Every background task of the server, in one table. None can end unseen: a worker that panics or
//! returns is counted, logged and started again after a growing wait, until the server stops.

use std::future::Future;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use prometheus_client::encoding::EncodeLabelSet;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::observability::metrics::{Counter, Family, Gauge, Metrics, Registry};
use crate::resilience::backoff::Backoff;

/// Between a worker's end and its next start.
const RESTART: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));

/// A worker that has run for so long starts its waits from the beginning.
const STEADY: Duration = Duration::from_secs(60);

type Factory = Box<dyn Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// The table, before the start.
#[derive(Default)]
pub struct Workers {
    table: Vec<(&'static str, Factory)>,
}

/// The workers, while they run.
pub struct Running {
    tasks: TaskTracker,
}

impl Workers {
    /// `start` makes the worker's future; it ends when the token is cancelled, and only then.
    pub fn add<F, W>(&mut self, name: &'static str, start: F)
    where
        F: Fn(CancellationToken) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.table.push((name, Box::new(move |stop| start(stop).boxed())));
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.table.iter().map(|(name, _)| *name)
    }

    /// Starts all, each under its own supervisor.
    pub fn start(self, metrics: &Metrics, stop: &CancellationToken) -> Running {
        let metrics = metrics.area(WorkerMetrics::register);
        let tasks = TaskTracker::new();
        for (name, factory) in self.table {
            metrics.expect_worker(name);
            tasks.spawn(supervise(name, factory, metrics.clone(), stop.clone()));
        }
        tasks.close();
        Running { tasks }
    }
}

impl Running {
    /// Waits for all to stop; returns how many had not by then. Those end with the process.
    pub async fn stopped_by(&self, deadline: Instant) -> usize {
        match tokio::time::timeout_at(deadline, self.tasks.wait()).await {
            Ok(()) => 0,
            Err(_) => self.tasks.len(),
        }
    }
}

async fn supervise(name: &'static str, factory: Factory, metrics: WorkerMetrics, stop: CancellationToken) {
    let mut rng = StdRng::from_os_rng();
    let mut attempt = 0;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let running = metrics.running.get_or_create_owned(&WorkerLabels { worker: name });
        running.set(1);
        let end = tokio::spawn(factory(stop.child_token())).await;
        running.set(0);
        if stop.is_cancelled() {
            return;
        }
        let reason = match end {
            Ok(()) => "returned",
            Err(error) if error.is_panic() => "panicked",
            // The runtime is shutting down, and this task with it.
            Err(_) => return,
        };
        attempt = if started.elapsed() >= STEADY { 0 } else { attempt + 1 };
        let wait = RESTART.delay(attempt, &mut rng);
        tracing::error!(
            worker = name,
            reason,
            wait_ms = wait.as_millis(),
            "a worker ended and is started again"
        );
        metrics.restarts.get_or_create(&RestartLabels { worker: name, reason }).inc();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkerLabels {
    worker: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabels {
    worker: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone)]
struct WorkerMetrics {
    running: Family<WorkerLabels, Gauge>,
    restarts: Family<RestartLabels, Counter>,
}

impl WorkerMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self { running: Family::default(), restarts: Family::default() };
        registry.register("worker_running", "Whether the background task runs", metrics.running.clone());
        registry.register("worker_restarts", "Background tasks started again", metrics.restarts.clone());
        metrics
    }

    fn expect_worker(&self, worker: &'static str) {
        for reason in ["returned", "panicked"] {
            // Held only for its side effect: the series is there from now on.
            drop(self.restarts.get_or_create(&RestartLabels { worker, reason }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_counted_and_started_again() {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let starts = Arc::new(AtomicU32::new(0));
        let (third, seen) = (CancellationToken::new(), starts.clone());
        let mut workers = Workers::default();
        let reached = third.clone();
        workers.add("shaky", move |stop| {
            let (start, reached) = (seen.fetch_add(1, Ordering::SeqCst), reached.clone());
            async move {
                match start {
                    0 => panic!("planted"),
                    1 => {}
                    _ => {
                        reached.cancel();
                        stop.cancelled().await;
                    }
                }
            }
        });
        let running = workers.start(&metrics, &stop);
        third.cancelled().await;
        stop.cancel();
        assert_eq!(running.stopped_by(Instant::now() + Duration::from_secs(1)).await, 0);
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        let text = metrics.classic();
        for reason in ["panicked", "returned"] {
            let line = format!("worker_restarts_total{{worker=\"shaky\",reason=\"{reason}\"}} 1\n");
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_ignores_the_stop_is_reported() {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let mut workers = Workers::default();
        let started = CancellationToken::new();
        let begun = started.clone();
        workers.add("deaf", move |_| {
            begun.cancel();
            std::future::pending()
        });
        let running = workers.start(&metrics, &stop);
        started.cancelled().await;
        stop.cancel();
        assert_eq!(running.stopped_by(Instant::now() + Duration::from_secs(1)).await, 1);
    }
}
