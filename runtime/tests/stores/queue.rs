//! The queue in a real Redis: claims, their ends, dead letters, and effects that happen once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fraiseql_runtime::engine::job::FunctionExecutor;
use fraiseql_runtime::ids::{JobId, OrderId};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::observability::trace::Tracer;
use fraiseql_runtime::queue::metrics::QueueMetrics;
use fraiseql_runtime::queue::redis::{Depth, RedisQueue};
use fraiseql_runtime::queue::worker::{Executor, Outcome, Worker};
use fraiseql_runtime::queue::{Error, Job, Task};
use fraiseql_runtime::storage::postgres::{Limits, Postgres};
use fraiseql_runtime::storage::redis::{self, Redis};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{Shop, Stage, equal, eventually};

/// Longer than any test: a claim that does not end.
const LONG: Duration = Duration::from_secs(3600);
/// A claim that has ended before anybody asks.
const SHORT: Duration = Duration::from_millis(1);
const EMPTY: Depth = Depth { jobs: 0, dead: 0 };

/// A shop, and a Redis handle of the test's own on the same queue.
struct Bench {
    shop: Shop,
    redis: Redis,
    stop: CancellationToken,
}

impl Bench {
    async fn open(stage: &Stage) -> Self {
        let shop = Shop::open(stage).await;
        let limits = redis::Limits {
            connections: 1,
            connect_timeout: Duration::from_secs(5),
            command_timeout: Duration::from_secs(5),
        };
        let redis = Redis::new(shop.redis.direct.as_str(), limits).expect("a URL");
        let stop = CancellationToken::new();
        let (maintained, until) = (redis.clone(), stop.clone());
        tokio::spawn(async move { maintained.maintain(until).await });
        eventually("redis is connected", async || redis.ping().await.map_err(|error| error.to_string()))
            .await;
        Self { shop, redis, stop }
    }

    fn queue(&self, visibility_timeout: Duration, max_attempts: u32) -> RedisQueue {
        RedisQueue::new(self.redis.clone(), visibility_timeout, max_attempts)
    }

    fn invoices(&self) -> FunctionExecutor {
        let limits = Limits {
            min_connections: 0,
            max_connections: 8,
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: LONG,
            max_lifetime: LONG,
        };
        let url = self.shop.postgres.direct.as_str();
        let postgres = Postgres::new(url, limits, Duration::from_secs(5)).expect("a URL");
        FunctionExecutor { postgres, served: self.shop.state.served.clone() }
    }

    /// Jobs for an order that is there.
    async fn jobs(&self, count: usize) -> Vec<Job> {
        let order_id = self.shop.place_many(1).await[0];
        (0..count).map(|_| job(order_id)).collect()
    }

    async fn close(self) {
        self.stop.cancel();
        self.shop.close().await;
    }
}

fn job(order_id: OrderId) -> Job {
    Job {
        id: JobId(Uuid::now_v7()),
        task: Task::Invoice { order_id, idempotency_key: None },
        traceparent: None,
    }
}

/// Claims until there is something; a claim's end is a moment of Redis' clock.
async fn claim_again(queue: &RedisQueue) -> Vec<(JobId, u32)> {
    eventually("a claim comes back", async || {
        let claims = queue.claim(10).await.expect("an answer").claims;
        let claims: Vec<_> = claims.into_iter().map(|claim| (claim.id, claim.attempt)).collect();
        if claims.is_empty() { Err("nothing to claim".to_owned()) } else { Ok(claims) }
    })
    .await
}

pub async fn a_job_is_claimed_once_and_gone_after_its_acknowledgement(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let queue = bench.queue(LONG, 3);
    let jobs = bench.jobs(50).await;
    for job in jobs.iter().chain(&jobs[..10]) {
        queue.enqueue(job).await.expect("taken");
    }
    assert_eq!(queue.depth().await.expect("a depth"), Depth { jobs: 50, dead: 0 }, "the same id is one job");

    // Claimers side by side share the jobs; none gets what another has.
    let rounds = join_all((0..8).map(|_| queue.claim(10))).await;
    let mut claimed: Vec<Job> = Vec::new();
    for round in rounds {
        let claims = round.expect("an answer").claims;
        assert!(claims.len() <= 10 && claims.iter().all(|claim| claim.attempt == 1), "{claims:?}");
        claimed.extend(claims.into_iter().map(|claim| claim.job.expect("a job")));
    }
    claimed.sort_by_key(|job| job.id);
    assert_eq!(claimed, jobs);
    assert!(queue.claim(10).await.expect("an answer").claims.is_empty(), "all are claimed");

    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    queue.ack(&ids[..20]).await.expect("acknowledged");
    assert_eq!(queue.depth().await.expect("a depth"), Depth { jobs: 30, dead: 0 });
    queue.ack(&ids).await.expect("a second time changes nothing");
    assert_eq!(queue.depth().await.expect("a depth"), EMPTY);
    bench.close().await;
}

pub async fn a_claim_that_is_not_acknowledged_in_time_comes_back(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let (short, long) = (bench.queue(SHORT, 10), bench.queue(LONG, 10));
    let job = bench.jobs(1).await.remove(0);
    short.enqueue(&job).await.expect("taken");
    assert_eq!(claim_again(&short).await, [(job.id, 1)]);
    // The worker is gone; the next one gets the job, and keeps it for as long as its own claim lasts.
    assert_eq!(claim_again(&long).await, [(job.id, 2)]);
    assert!(long.claim(10).await.expect("an answer").claims.is_empty());
    // A claim can be given up early.
    long.retry(&[job.id], SHORT).await.expect("given up");
    assert_eq!(claim_again(&long).await, [(job.id, 3)]);
    long.ack(&[job.id]).await.expect("acknowledged");
    assert_eq!(long.depth().await.expect("a depth"), EMPTY);
    bench.close().await;
}

pub async fn a_job_that_fails_each_time_is_a_dead_letter_and_kept(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let queue = bench.queue(SHORT, 3);
    let job = bench.jobs(1).await.remove(0);
    queue.enqueue(&job).await.expect("taken");
    for attempt in 1..=3 {
        assert_eq!(claim_again(&queue).await, [(job.id, attempt)]);
    }
    eventually("the job is given up", async || {
        let round = queue.claim(10).await.expect("an answer");
        assert!(round.claims.is_empty(), "a fourth attempt: {round:?}");
        equal(round.dead, 1)
    })
    .await;
    assert_eq!(queue.depth().await.expect("a depth"), Depth { jobs: 0, dead: 1 });
    let mut dead = ::redis::cmd("LRANGE");
    dead.arg("{fraiseql:jobs}:dead").arg(0).arg(-1);
    let kept: Vec<String> = bench.redis.query(&dead).await.expect("the dead letters");
    let kept: Vec<Job> = kept.iter().map(|text| serde_json::from_str(text).expect("a job")).collect();
    assert_eq!(kept, [job]);
    bench.close().await;
}

pub async fn an_acknowledgement_that_comes_late_still_counts(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let queue = bench.queue(SHORT, 10);
    let jobs = bench.jobs(2).await;
    for job in &jobs {
        queue.enqueue(job).await.expect("taken");
    }
    let (first, second) = (jobs[0].id, jobs[1].id);
    let claims = queue.claim(2).await.expect("an answer").claims;
    assert_eq!(claims.len(), 2);
    // The claims have ended. One is acknowledged before anybody looks, the other after it went to somebody else.
    queue.ack(&[first]).await.expect("acknowledged");
    assert_eq!(claim_again(&queue).await, [(second, 2)]);
    queue.ack(&[second]).await.expect("acknowledged");
    assert!(queue.claim(10).await.expect("an answer").claims.is_empty());
    assert_eq!(queue.depth().await.expect("a depth"), EMPTY);
    bench.close().await;
}

pub async fn an_effect_happens_once_although_the_job_runs_often(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let invoices = bench.invoices();
    let jobs = bench.jobs(20).await;
    let runs = join_all((0..8).map(|_| invoices.execute(&jobs))).await;
    let mut done = 0;
    for outcomes in runs {
        let outcomes = outcomes.expect("outcomes");
        assert_eq!(outcomes.len(), jobs.len());
        assert!(!outcomes.contains(&Outcome::Failed), "{outcomes:?}");
        done += outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count();
    }
    assert_eq!(done, jobs.len(), "each effect happened in exactly one of the runs");
    assert_eq!(bench.shop.rows("invoices").await, 20);
    let amounts = "invoices i JOIN orders o ON o.id = i.order_id AND o.total = i.amount";
    assert_eq!(bench.shop.rows(amounts).await, 20);
    bench.close().await;
}

/// Makes the effect happen, and fails afterwards until it has failed often enough: the worker cannot know.
struct FailsAfterwards {
    invoices: FunctionExecutor,
    failures_left: AtomicU32,
}

#[async_trait::async_trait]
impl Executor for FailsAfterwards {
    async fn execute(&self, jobs: &[Job]) -> Result<Vec<Outcome>, Error> {
        let outcomes = self.invoices.execute(jobs).await?;
        let fails = |left: u32| left.checked_sub(1);
        match self.failures_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails) {
            Ok(_) => Err(Error::Protocol),
            Err(_) => Ok(outcomes),
        }
    }
}

pub async fn a_worker_tries_again_and_the_effect_happens_once(stage: Arc<Stage>) {
    let bench = Bench::open(&stage).await;
    let queue = bench.queue(LONG, 10);
    let executor = FailsAfterwards { invoices: bench.invoices(), failures_left: AtomicU32::new(2) };
    let metrics = Metrics::new();
    let worker = Worker {
        queue: queue.clone(),
        executor: Arc::new(executor),
        metrics: metrics.area(QueueMetrics::register),
        poll_interval: Duration::from_millis(10),
        tracer: Tracer::off(),
    };
    let job = bench.jobs(1).await.remove(0);
    queue.enqueue(&job).await.expect("taken");
    let (stop, working) = (bench.stop.child_token(), worker.clone());
    let until = stop.clone();
    let running = tokio::spawn(async move { working.run(until).await });
    eventually("the job is done", async || equal(queue.depth().await.expect("a depth"), EMPTY)).await;
    stop.cancel();
    running.await.expect("the worker ends");
    assert_eq!(bench.shop.rows(&format!("invoices WHERE job_id = '{}'", job.id)).await, 1);
    let told = metrics.classic();
    for line in [r#"{result="failed"} 2"#, r#"{result="duplicate"} 1"#, r#"{result="done"} 0"#] {
        assert!(told.contains(&format!("job_executions_total{line}")), "{line} is missing:\n{told}");
    }
    bench.close().await;
}

pub async fn a_job_for_an_order_that_is_not_there_ends_as_a_dead_letter(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "queue.max_attempts = 2\nqueue.visibility_timeout = '1s'").await;
    shop.start(&["job-workers", "queue-gauge"]);
    let id = shop.place_many(1).await[0];
    let good = shop.request_invoice(id, None).await.expect("taken");
    let bad = job(OrderId(Uuid::now_v7()));
    let client = ::redis::Client::open(shop.redis.direct.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    let payload = serde_json::to_string(&bad).expect("JSON");
    ::redis::pipe()
        .hset("{fraiseql:jobs}:payloads", bad.id.to_string(), payload)
        .rpush("{fraiseql:jobs}:pending", bad.id.to_string())
        .query_async::<()>(&mut connection)
        .await
        .expect("planted");
    eventually("the bad job is given up", async || equal(shop.metric("queue_dead_letters") as i64, 1)).await;
    eventually("the good one is done", async || {
        equal(shop.rows(&format!("invoices WHERE job_id = '{}'", good.job_id)).await, 1)
    })
    .await;
    eventually("nothing waits", async || equal(shop.metric("queue_depth") as i64, 0)).await;
    assert_eq!(shop.rows("invoices").await, 1);
    assert_eq!(shop.metric("job_executions_total{result=\"dead\"}") as i64, 1);
    shop.close().await;
}
