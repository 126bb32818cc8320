//! Dependencies that are away: who asks is told so at once, what has a substitute goes on, and all of it ends by itself.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Front, Shop, Stage, equal, eventually, order};

const PRODUCT: &str = "{ product(id: 1) { id } }";

fn code(answer: &Value) -> String {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("none").to_owned()
}

pub async fn ten_faults_open_the_breaker_of_the_database_and_it_closes_by_itself(stage: Arc<Stage>) {
    let settings = "resilience.breakers.postgres.timeout = '200ms'\ndatabase.min_connections = 0";
    let shop = Shop::open_with(&stage, settings).await;
    let front = Front::of(&shop).await;
    let state = || shop.metric("circuit_breaker_state{service=\"postgres\"}") as i64;
    for _ in 0..30 {
        shop.place(order(&[(1, 1_000_000)])).await.expect_err("so many are not there");
    }
    assert_eq!(state(), 0, "what the database refuses is not its fault");

    let cut = shop.postgres.cut().await;
    let (mut asked, mut answer) = (0, shop.answer(PRODUCT).await);
    while code(&answer) == "UNAVAILABLE" {
        asked += 1;
        answer = shop.answer(PRODUCT).await;
    }
    assert_eq!((asked, code(&answer).as_str()), (10, "CIRCUIT_OPEN"), "{answer}");
    let message = answer["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("postgres has failed too often"), "{message}");
    assert!(shop.metric("circuit_breaker_trips_total{service=\"postgres\"}") >= 1.0);
    assert!(shop.metric("circuit_breaker_refused_total{service=\"postgres\"}") >= 1.0);
    assert_eq!(shop.place(order(&[(1, 1)])).await.expect_err("refused").code, "CIRCUIT_OPEN");

    eventually("503 with Retry-After over HTTP", async || {
        let request = front.client.post(front.url()).json(&json!({ "query": PRODUCT }));
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let retry_after = answer.headers().get("retry-after").cloned();
        let status = answer.status().as_u16();
        equal((status, retry_after.as_ref().map(|value| value.as_bytes())), (503, Some(&b"1"[..])))
    })
    .await;
    cut.heal().await;
    eventually("the breaker closes by the calls that it tries", async || {
        let answer = shop.answer(PRODUCT).await;
        equal((answer["data"]["product"]["id"].as_str(), state()), (Some("1"), 0))
    })
    .await;
    front.ended().await;
    shop.close().await;
}

pub async fn a_server_without_callers_finds_out_by_its_health_check(stage: Arc<Stage>) {
    let settings = "resilience.breakers.postgres.timeout = '50ms'\n\
                    resilience.breakers.postgres.success_threshold = 1\ndatabase.min_connections = 0";
    let shop = Shop::open_with(&stage, settings).await;
    let mut checker = fraiseql_runtime::observability::health::HealthChecker::new("1");
    shop.state.add_health_checks(&mut checker);
    let state = || shop.metric("circuit_breaker_state{service=\"postgres\"}") as i64;
    let cut = shop.postgres.cut().await;
    for _ in 0..20 {
        assert_eq!(checker.run().await.status, "unhealthy");
    }
    assert_eq!(state(), 0, "health checks do not open it");
    while state() == 0 {
        shop.answer(PRODUCT).await;
    }
    assert_eq!(checker.run().await.checks["database"].status, "unhealthy");
    cut.heal().await;
    eventually("the check is what is tried", async || {
        let report = checker.run().await;
        equal((report.checks["database"].status.as_str(), state()), ("healthy", 0))
    })
    .await;
    shop.close().await;
}

pub async fn what_works_by_its_fallback_is_told_and_taken_back(stage: Arc<Stage>) {
    let mut shop = Shop::open(&stage).await;
    shop.start(&["outbox-relay", "spool-drain"]);
    let degraded = |component: &str| shop.metric(&format!("degraded{{component=\"{component}\"}}")) as i64;
    let orders = shop.place_many(1).await;
    eventually("nothing is degraded", async || equal((degraded("queue"), degraded("events")), (0, 0))).await;

    let (redis, nats) = (shop.redis.cut().await, shop.nats.cut().await);
    shop.request_invoice(orders[0], None).await.expect("the spool takes it");
    assert_eq!(degraded("queue"), 1, "at once");
    eventually("events wait", async || equal(degraded("events"), 1)).await;
    let shown = fraiseql_runtime::observability::health::Degradations::now(&shop.state.degradations);
    let shown: Vec<_> = shown.iter().map(|part| (part.component, part.fallback)).collect();
    let jobs = ("queue", "jobs are kept on disk until redis takes them");
    assert_eq!(shown, [("events", "events wait in the outbox"), jobs]);

    redis.heal().await;
    nats.heal().await;
    eventually("all is well again", async || equal((degraded("queue"), degraded("events")), (0, 0))).await;
    shop.close().await;
}

pub async fn a_full_outbox_refuses_what_would_add_an_event_and_nothing_else(stage: Arc<Stage>) {
    Box::pin(full_outbox(&stage, "outbox.max_pending = 3", 3)).await;
}

pub async fn an_outbox_that_takes_its_share_of_the_disk_is_full(stage: Arc<Stage>) {
    // The shop's events take some 450 bytes each.
    Box::pin(full_outbox(&stage, "outbox.max_bytes = \"1KiB\"", 2)).await;
}

/// `fits`: so many events are not too many.
async fn full_outbox(stage: &Arc<Stage>, setting: &str, fits: i64) {
    let mut shop = Shop::open_with(stage, setting).await;
    shop.start(&["outbox-relay", "outbox-gauge"]);
    let cut = shop.nats.cut().await;
    eventually("the outbox is full", async || match shop.place(order(&[(1, 1)])).await {
        Ok(_) => Err("placed".to_owned()),
        Err(refused) => equal(refused.code.as_str(), "SERVICE_DEGRADED"),
    })
    .await;
    let orders = shop.rows("orders").await;
    assert!(orders > fits, "{orders}");
    assert_eq!(shop.place(order(&[(1, 1)])).await.expect_err("refused").code, "SERVICE_DEGRADED");
    let each = shop.metric("outbox_pending_bytes") / shop.metric("outbox_pending");
    assert!((200.0..2_000.0).contains(&each), "{each} bytes an event");
    assert_eq!(shop.rows("orders").await, orders, "nothing was done");
    assert_eq!(shop.answer(PRODUCT).await["data"]["product"]["id"], "1");
    cut.heal().await;
    eventually("it takes events again", async || {
        shop.place(order(&[(1, 1)])).await.map(drop).map_err(|refused| refused.to_string())
    })
    .await;
    shop.close().await;
}
