//! Redis away: jobs wait on disk, survive the process, and take effect once when Redis is back.

use std::io::Write;
use std::sync::Arc;

use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::ids::{JobId, OrderId};

use crate::support::{Shop, Stage, equal, eventually};

/// Requests invoices and answers their jobs.
async fn request(shop: &Shop, orders: &[OrderId]) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for order in orders {
        let key = Some(format!("invoice {order}"));
        jobs.push(shop.request_invoice(*order, key).await.expect("taken").job_id);
    }
    jobs
}

/// Every acknowledged job has its one invoice, and nothing waits any more.
async fn all_take_effect(shop: &mut Shop, jobs: &[JobId]) {
    shop.start(&["spool-drain", "job-workers", "queue-gauge"]);
    eventually("every job takes effect", async || {
        equal(shop.rows("invoices").await, i64::try_from(jobs.len()).expect("few"))
    })
    .await;
    eventually("the spool is empty", async || equal(shop.metric("spool_jobs") as i64, 0)).await;
    for job in jobs {
        assert_eq!(shop.rows(&format!("invoices WHERE job_id = '{job}'")).await, 1, "{job}");
    }
    eventually("the queue is empty", async || equal(shop.metric("queue_depth") as i64, 0)).await;
}

fn spooled(shop: &Shop) -> i64 {
    shop.metric("spool_jobs") as i64
}

/// What the spool's files hold, as bytes.
fn on_disk(shop: &Shop) -> Vec<u8> {
    shop.spool_files().iter().flat_map(|file| std::fs::read(file).expect("readable")).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

pub async fn jobs_wait_on_disk_while_redis_is_away_and_take_effect_when_it_is_back(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    let orders = shop.place_many(10).await;
    let mut jobs = request(&shop, &orders[..3]).await;
    assert_eq!(spooled(&shop), 0, "redis takes them while it is there");
    let cut = shop.redis.cut().await;
    jobs.extend(request(&shop, &orders[3..]).await);
    let enqueued = |backend| shop.metric(&format!("queue_enqueued_total{{backend=\"{backend}\"}}")) as i64;
    assert_eq!((enqueued("redis"), enqueued("spool"), spooled(&shop)), (3, 7, 7));
    let bytes = on_disk(&shop);
    for job in &jobs[3..] {
        assert!(holds(&bytes, &job.to_string()), "{job} was acknowledged and is not on disk");
    }
    assert_eq!(shop.rows("invoices").await, 0);
    cut.heal().await;
    all_take_effect(&mut shop, &jobs).await;
    assert!(shop.spool_files().is_empty(), "what is drained leaves the disk");
    shop.close().await;
}

pub async fn a_spool_survives_a_restart_with_a_torn_record_at_its_end(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let orders = shop.place_many(5).await;
    let cut = shop.redis.cut().await;
    let jobs = request(&shop, &orders).await;
    assert_eq!(spooled(&shop), 5);
    // The process died in the middle of a sixth record: its length and checksum are there, not all of its bytes.
    let torn = b"\x40\x00\x00\x00\xde\xad\xbe\xef{\"id\":\"half a rec";
    let mut shop = shop
        .restart(|segment| {
            let file = std::fs::OpenOptions::new().append(true).open(segment);
            file.and_then(|mut file| file.write_all(torn)).expect("torn");
        })
        .await;
    assert_eq!(spooled(&shop), 5, "the whole records count at once, the torn one does not");
    let kept = shop.spool_files()[0].with_extension("torn");
    assert_eq!(std::fs::read(kept).expect("what was cut is kept"), torn);
    cut.heal().await;
    shop.connect().await;
    // The new process appends behind what it found.
    all_take_effect(&mut shop, &jobs).await;
    shop.close().await;
}

pub async fn a_job_that_redis_may_have_takes_effect_once(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "cache.redis.command_timeout = '300ms'").await;
    let orders = shop.place_many(2).await;
    // The first one also makes the script known to redis, which loses its answer to an unknown one.
    let mut jobs = request(&shop, &orders[..1]).await;
    // Redis gets the job; its answer is lost on the way back.
    let deaf = NetworkFault::Blackhole { sticky: true, direction: Direction::Downstream };
    let guard = shop.redis.inject(deaf).await;
    jobs.extend(request(&shop, &orders[1..]).await);
    assert_eq!(spooled(&shop), 1, "in doubt the spool keeps it");
    let client = ::redis::Client::open(shop.redis.direct.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    let there: bool = ::redis::cmd("HEXISTS")
        .arg("{fraiseql:jobs}:payloads")
        .arg(jobs[1].to_string())
        .query_async(&mut connection)
        .await
        .expect("an answer");
    assert!(there, "redis has it all the same");
    guard.heal().await;
    all_take_effect(&mut shop, &jobs).await;
    shop.close().await;
}

pub async fn a_full_spool_refuses_and_says_so(stage: Arc<Stage>) {
    let mut shop = Shop::open_with(&stage, "queue.spool_max_bytes = '64KiB'").await;
    let order = shop.place_many(1).await[0];
    let cut = shop.redis.cut().await;
    let mut jobs = Vec::new();
    let refusal = loop {
        match shop.request_invoice(order, Some(format!("{:0>200}", jobs.len()))).await {
            Ok(request) => jobs.push(request.job_id),
            Err(error) => break error,
        }
        assert!(jobs.len() < 1_000, "64 KiB do not hold a thousand jobs of 300 bytes");
    };
    assert_eq!(refusal.kind(), ErrorKind::Unavailable, "{refusal:?}");
    assert!(refusal.to_string().contains("the queue is full"), "{refusal:?}");
    assert_eq!(spooled(&shop), i64::try_from(jobs.len()).expect("few"));
    cut.heal().await;
    all_take_effect(&mut shop, &jobs).await;
    // There is room again.
    let cut = shop.redis.cut().await;
    eventually("redis is seen to be away", async || {
        shop.request_invoice(order, None).await.map_err(|error| error.to_string())?;
        if shop.metric("queue_enqueued_total{backend=\"spool\"}") as usize > jobs.len() {
            Ok(())
        } else {
            Err("redis took it".into())
        }
    })
    .await;
    cut.heal().await;
    shop.close().await;
}
