//! Limits of callers over a real Redis and through HTTP, and requests that wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::limits::Limits;
use fraiseql_runtime::security::guard::Caller;
use futures::future::join_all;
use http::HeaderMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{Connection, Executor};

use crate::support::live::{Heard, Socket, Stream};
use crate::support::{Front, Replica, Shop, Stage, equal, eventually};

const QUERY: &str = "{ products(limit: 1) { id } }";
/// Ten a minute for everybody, and nothing else in the way.
const TEN: &str = "limits.policy = \"uniform\"\nlimits.default_rpm = 10\nlimits.client_max_qps = 100000\n\
                   limits.redis_timeout = \"1s\"\nlimits.client_max_concurrent = 1000";

fn limits(state: &fraiseql_runtime::app_state::AppState) -> Limits {
    state.limits.clone().expect("limits are on")
}

/// So many requests of one address, all at once; how many of them come in.
async fn ask(limits: &Limits, count: usize) -> usize {
    ask_from("203.0.113.9", limits, count).await
}

async fn ask_from(address: &str, limits: &Limits, count: usize) -> usize {
    let peer = Some(address.parse().expect("an address"));
    let client = limits.client(&Caller::Anonymous, peer, &HeaderMap::new());
    let asked = (0..count).map(|_| limits.request(&client, "/graphql", false));
    join_all(asked).await.into_iter().filter(Result::is_ok).count()
}

/// Past the link.
async fn redis<T: redis::FromRedisValue>(shop: &Shop, words: &[&str]) -> T {
    let client = redis::Client::open(shop.redis.direct.as_str()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(&mut connection).await.expect("an answer")
}

pub async fn two_hundred_calls_at_two_replicas_get_ten_through(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, TEN).await;
    let mut other = Replica::beside(&shop).await;
    other.start(&["redis-connections"]);
    eventually("the other replica asks redis", async || {
        ask_from("203.0.113.1", &limits(&other.state), 1).await;
        let text = other.metrics.classic();
        let never = text.lines().any(|line| line == "rate_limit_decisions_total{store=\"redis\"} 0");
        if never { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let (one, two) = (limits(&shop.state), limits(&other.state));
    let (first, second) = tokio::join!(ask(&one, 100), ask(&two, 100));
    assert_eq!(first + second, 10, "{first} and {second}");
    other.close().await;
    shop.close().await;
}

pub async fn a_script_that_redis_has_forgotten_is_loaded_again(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, TEN).await;
    let limits = limits(&shop.state);
    assert_eq!(ask(&limits, 4).await, 4);
    redis::<()>(&shop, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(ask(&limits, 20).await, 6, "what was counted before still counts");
    assert_eq!(shop.metric("rate_limit_decisions_total{store=\"memory\"}"), 14.0, "over it here already");
    assert_eq!(shop.metric("rate_limit_decisions_total{store=\"redis\"}"), 10.0);
    assert_eq!(shop.metric("degraded{component=\"limits\"}"), 0.0);
    shop.close().await;
}

pub async fn what_is_counted_is_in_one_place_and_expires(stage: Arc<Stage>) {
    let settings = TEN.replace("\"uniform\"", "\"checklist\"");
    let settings = format!("{settings}\nlimits.per_endpoint = {{ \"/graphql\" = 50 }}");
    let shop = Shop::open_with(&stage, &settings).await;
    let limits = limits(&shop.state);
    assert_eq!(ask(&limits, 100).await, 20, "the burst is the tightest");
    let keys: Vec<String> = redis(&shop, &["KEYS", "*limit*"]).await;
    assert_eq!(keys.len(), 4, "a minute, an hour, a burst and the route: {keys:?}");
    for key in keys {
        assert!(key.starts_with("{fraiseql:limit:a:203.0.113.9}:"), "{key}");
        let left: i64 = redis(&shop, &["PTTL", &key]).await;
        assert!((1..=3_960_001).contains(&left), "{key} expires in {left} ms");
    }
    shop.close().await;
}

pub async fn without_redis_each_replica_gives_its_part_and_no_more(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, &format!("{TEN}\nlimits.replicas = 2")).await;
    let limits = limits(&shop.state);
    assert_eq!(ask(&limits, 3).await, 3);
    let cut = shop.redis.cut().await;
    assert_eq!(ask(&limits, 50).await, 2, "half of ten, and three of these are used");
    assert_eq!(shop.metric("degraded{component=\"limits\"}"), 1.0);
    cut.heal().await;
    // The replica alone never gives more than the whole, and Redis knows of three.
    let passed = AtomicUsize::new(0);
    eventually("redis is asked again", async || {
        passed.fetch_add(ask(&limits, 1).await, Ordering::Relaxed);
        equal(shop.metric("degraded{component=\"limits\"}"), 0.0)
    })
    .await;
    let passed = passed.into_inner() + ask(&limits, 50).await;
    assert_eq!(passed, 5, "ten in all");
    shop.close().await;
}

pub async fn a_silent_redis_costs_the_timeout_of_the_limits_and_not_its_own(stage: Arc<Stage>) {
    let settings = format!("{TEN}\ncache.redis.command_timeout = \"5m\"")
        .replace("limits.redis_timeout = \"1s\"", "limits.redis_timeout = \"20ms\"");
    let shop = Shop::open_with(&stage, &settings).await;
    let limits = limits(&shop.state);
    let silence = NetworkFault::Blackhole { sticky: true, direction: Direction::Both };
    let silence = shop.redis.inject(silence).await;
    // Would take five minutes each, which is longer than a test may.
    assert_eq!(ask(&limits, 50).await, 10);
    assert_eq!(ask(&limits, 50).await, 0);
    assert_eq!(shop.metric("degraded{component=\"limits\"}"), 1.0);
    silence.heal().await;
    shop.close().await;
}

fn key(id: &str, tier: &str) -> String {
    let hash: String =
        Sha256::digest(format!("key of {id}")).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{{ id = \"{id}\", sha256 = \"{hash}\", tier = \"{tier}\" }}")
}

async fn post(front: &Front, id: Option<&str>, query: &str) -> reqwest::Response {
    let request = front.client.post(front.url()).json(&json!({ "query": query }));
    let request = match id {
        Some(id) => request.header("x-api-key", format!("key of {id}")),
        None => request,
    };
    // Whatever anybody writes there changes nothing.
    request.header("x-forwarded-for", uuid::Uuid::new_v4().to_string()).send().await.expect("an answer")
}

pub async fn each_tier_has_its_limit_and_says_how_it_stands(stage: Arc<Stage>) {
    let settings = format!(
        "limits.policy = \"tiers\"\nlimits.tiers = {{ anonymous_rpm = 2, authenticated_rpm = 4, admin_rpm = 6 }}\n\
         limits.redis_timeout = \"1s\"\nlimits.client_max_qps = 100000\nauth.api_keys = [{}, {}]",
        key("ann", "authenticated"),
        key("root", "admin"),
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    for (id, limit) in [(None, 2), (Some("ann"), 4), (Some("root"), 6)] {
        for left in (0..limit).rev() {
            let answer = post(&front, id, QUERY).await;
            assert_eq!(answer.status(), 200, "{id:?}");
            assert_eq!(answer.headers()["ratelimit-policy"], format!("\"minute\";q={limit};w=60"));
            let standing = answer.headers()["ratelimit"].to_str().expect("text").to_owned();
            assert!(standing.starts_with(&format!("\"minute\";r={left};t=")), "{standing}");
        }
        let refused = post(&front, id, QUERY).await;
        assert_eq!(refused.status(), 429, "{id:?}");
        let after = refused.headers()["retry-after"].to_str().expect("text").parse::<u64>().expect("seconds");
        assert!((1..=66).contains(&after), "{after}");
        assert_eq!(refused.headers()["ratelimit-policy"], format!("\"minute\";q={limit};w=60"));
        let body: Value = refused.json().await.expect("JSON");
        assert_eq!(body["errors"][0]["extensions"]["code"], "RATE_LIMITED", "{body}");
        assert_eq!(body["errors"][0]["message"], "too many requests: try again later");
    }
    let elsewhere = front.client.get(format!("http://{}/nowhere", front.address)).send().await.expect("sent");
    assert_eq!(elsewhere.status(), 429, "every route counts");
    let body: Value = elsewhere.json().await.expect("JSON");
    assert_eq!(body["error"]["code"], "RATE_LIMITED", "{body}");
    for exempt in ["/livez", "/metrics", "/health", "/ready"] {
        for _ in 0..3 {
            let url = format!("http://{}{exempt}", front.address);
            let status = front.client.get(url).send().await.expect("an answer").status();
            assert_ne!(status, 429, "{exempt}");
        }
    }
    assert_eq!(shop.metric("xzepr_rate_limit_rejections_total"), 4.0);
    for (tier, count) in [("anonymous", 2.0), ("authenticated", 1.0), ("admin", 1.0)] {
        let series = format!("rate_limit_rejections_total{{limit=\"minute\",tier=\"{tier}\"}}");
        assert_eq!(shop.metric(&series), count, "{tier}");
    }
    assert!(front.ended().await.is_clean());
    shop.close().await;
}

pub async fn mutations_are_limited_while_reads_go_on(stage: Arc<Stage>) {
    let settings = format!("{TEN}\nlimits.writes_percent = 20\ngraphql.max_batch = 5");
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    let change = "mutation { updateOrderStatus(id: \"4711\", status: paid) { id } }";
    for _ in 0..2 {
        let answer = post(&front, None, change).await;
        assert_eq!(answer.status(), 200, "it is executed, and there is no such order");
    }
    let refused = post(&front, None, change).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["ratelimit-policy"], "\"writes\";q=2;w=60");
    let body: Value = refused.json().await.expect("JSON");
    assert_eq!(body["errors"][0]["message"], "too many mutations: try again later", "{body}");
    assert_eq!(post(&front, None, QUERY).await.status(), 200, "reads go on");
    // Each operation of a list counts: this one is the fifth, and five more are left.
    let batch =
        json!([{"query": QUERY}, {"query": change}, {"query": QUERY}, {"query": QUERY}, {"query": QUERY}]);
    let answer = front.client.post(front.url()).json(&batch).send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    let refused: Vec<bool> =
        body.as_array().expect("a list").iter().map(|one| one["errors"].is_array()).collect();
    assert_eq!(refused, [false, true, false, false, false], "{body}");
    let answer = front.client.post(front.url()).json(&batch).send().await.expect("an answer");
    let body: Value = answer.json().await.expect("JSON");
    let refused: Vec<bool> =
        body.as_array().expect("a list").iter().map(|one| one["errors"].is_array()).collect();
    assert_eq!(refused, [false, true, false, true, true], "{body}");
    assert!(front.ended().await.is_clean());
    shop.close().await;
}

pub async fn a_mutation_answered_as_events_counts_once(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, &format!("{TEN}\nlimits.writes_percent = 20")).await;
    let front = Front::of(&shop).await;
    let change = "mutation { updateOrderStatus(id: \"4711\", status: paid) { id } }";
    for time in 0..2 {
        let mut stream = Stream::open(&front, change, json!({})).await;
        let (name, data) = stream.next().await.expect("an event");
        let code = &data["errors"][0]["extensions"]["code"];
        assert_eq!((name.as_str(), code), ("next", &json!("BAD_USER_INPUT")), "{time}: {data}");
    }
    let body = json!({"query": change});
    let third = front.client.post(front.url()).header("accept", "text/event-stream").json(&body).send().await;
    let third = third.expect("an answer");
    assert_eq!(third.status(), 429);
    assert_eq!(third.headers()["ratelimit-policy"], "\"writes\";q=2;w=60");
    front.ended().await;
    shop.close().await;
}

pub async fn operations_of_a_socket_count(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, &TEN.replace("default_rpm = 10", "default_rpm = 3")).await;
    let front = Front::of(&shop).await;
    let mut socket = Socket::ready(&front).await;
    for id in ["1", "2"] {
        socket.subscribe(id, QUERY, json!({})).await;
        socket.data(id).await;
        assert_eq!(socket.hear().await, Heard::Message(json!({"type": "complete", "id": id})));
    }
    socket.subscribe("3", QUERY, json!({})).await;
    let Heard::Message(refused) = socket.hear().await else { panic!("the connection goes on") };
    assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED", "{refused}");
    drop(socket);
    front.ended().await;
    shop.close().await;
}

pub async fn a_request_over_the_cap_waits_and_its_body_with_it(stage: Arc<Stage>) {
    let settings = "limits.global_max_concurrent = 1\ndatabase.query_timeout = \"1m\"\n\
                    backpressure.queue_rejection_policy = \"queue-all\"\nbackpressure.queue_timeout = \"1m\"\n\
                    backpressure.max_queue_memory_mb = 0\nserver.request_timeout = \"1m\"";
    let shop = Shop::open_with(&stage, settings).await;
    let front = Front::of(&shop).await;
    let mut holder = shop.sql().await;
    let mut held = holder.begin().await.expect("a transaction");
    held.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let first = async {
        let answer = post(&front, None, QUERY).await;
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let second = async {
        eventually("the first is executed", async || equal(shop.metric("admission_executing"), 1.0)).await;
        let answer = post(&front, None, QUERY).await;
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let release = async {
        eventually("the second waits, its body on disk", async || {
            equal((shop.metric("admission_waiting"), shop.metric("backpressure_spilled_bytes")), (1.0, 41.0))
        })
        .await;
        let health = front.client.get(format!("http://{}/livez", front.address)).send().await;
        assert_eq!(health.expect("an answer").status(), 200, "who asks how it is does not wait");
        held.commit().await.expect("released");
    };
    let (first, second, ()) = tokio::join!(first, second, release);
    assert_eq!(first.0, 200);
    assert_eq!(first, second);
    assert_eq!(shop.metric("backpressure_spilled_bytes"), 0.0);
    assert_eq!(shop.metric("backpressure_spilled_total"), 1.0);
    assert_eq!(shop.metric("backpressure_queued_total"), 1.0);
    eventually("all places are free", async || equal(shop.metric("admission_executing"), 0.0)).await;
    assert!(front.ended().await.is_clean());
    shop.close().await;
}

/// A request is executed for as long as `meanwhile` takes: it waits for a lock.
async fn while_one_is_executed(shop: &Shop, front: &Front, meanwhile: impl Future<Output = ()>) {
    let mut holder = shop.sql().await;
    let mut held = holder.begin().await.expect("a transaction");
    held.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let first = post(front, None, QUERY);
    let rest = async {
        eventually("it is executed", async || equal(shop.metric("admission_executing"), 1.0)).await;
        meanwhile.await;
        held.commit().await.expect("released");
    };
    let (first, ()) = tokio::join!(first, rest);
    assert_eq!(first.status(), 200);
}

pub async fn who_gets_no_place_costs_no_quota_and_asks_nobody(stage: Arc<Stage>) {
    let settings = format!(
        "{TEN}\nlimits.global_max_concurrent = 1\nlimits.global_max_qps = 10\ndatabase.query_timeout = \"1m\"\n\
         backpressure.queue_rejection_policy = \"fail-fast\"\nbackpressure.max_queue_depth = 0"
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    while_one_is_executed(&shop, &front, async {
        for _ in 0..120 {
            let refused = post(&front, None, QUERY).await;
            let body: Value = refused.json().await.expect("JSON");
            assert_eq!(body["errors"][0]["extensions"]["code"], "QUEUE_FULL", "{body}");
        }
    })
    .await;
    let asked = |store| shop.metric(&format!("rate_limit_decisions_total{{store=\"{store}\"}}"));
    assert_eq!(asked("redis") + asked("memory"), 1.0);
    assert_eq!(
        shop.metric("rate_limit_delayed_total"),
        0.0,
        "ten a second of all clients were never used up"
    );
    assert_eq!(shop.metric("graphql_errors_total{error_code=\"QUEUE_FULL\"}"), 120.0);
    for left in (0..9).rev() {
        let answer = post(&front, None, QUERY).await;
        assert_eq!(answer.status(), 200, "{left} should be left then");
        let standing = answer.headers()["ratelimit"].to_str().expect("text").to_owned();
        assert!(standing.starts_with(&format!("\"minute\";r={left};t=")), "{standing}");
    }
    assert_eq!(post(&front, None, QUERY).await.status(), 429);
    assert!(front.ended().await.is_clean());
    shop.close().await;
}

pub async fn an_operation_of_a_socket_that_gets_no_place_costs_no_quota(stage: Arc<Stage>) {
    let settings = format!(
        "{TEN}\nlimits.global_max_concurrent = 1\ndatabase.query_timeout = \"1m\"\n\
         backpressure.queue_rejection_policy = \"fail-fast\"\nbackpressure.max_queue_depth = 0"
    );
    let shop = Shop::open_with(&stage, &settings).await;
    let front = Front::of(&shop).await;
    let mut socket = Socket::ready(&front).await;
    while_one_is_executed(&shop, &front, async {
        for id in 0..30 {
            socket.subscribe(&format!("refused-{id}"), QUERY, json!({})).await;
            let Heard::Message(refused) = socket.hear().await else { panic!("the connection goes on") };
            assert_eq!(refused["payload"][0]["extensions"]["code"], "QUEUE_FULL", "{refused}");
        }
    })
    .await;
    let asked = |store| shop.metric(&format!("rate_limit_decisions_total{{store=\"{store}\"}}"));
    assert_eq!(
        asked("redis") + asked("memory"),
        2.0,
        "the socket's own request and the one that was executed"
    );
    for id in 0..8 {
        let id = format!("answered-{id}");
        socket.subscribe(&id, QUERY, json!({})).await;
        socket.data(&id).await;
        assert_eq!(socket.hear().await, Heard::Message(json!({"type": "complete", "id": id})));
    }
    socket.subscribe("last", QUERY, json!({})).await;
    let Heard::Message(refused) = socket.hear().await else { panic!("the connection goes on") };
    assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED", "{refused}");
    let errors = |code| shop.metric(&format!("graphql_errors_total{{error_code=\"{code}\"}}"));
    assert_eq!((errors("QUEUE_FULL"), errors("RATE_LIMITED")), (30.0, 1.0));
    drop(socket);
    front.ended().await;
    shop.close().await;
}

pub async fn a_full_queue_refuses(stage: Arc<Stage>) {
    let settings = "limits.global_max_concurrent = 1\ndatabase.query_timeout = \"1m\"\n\
                    backpressure.queue_rejection_policy = \"fail-fast\"\nbackpressure.max_queue_depth = 0";
    let shop = Shop::open_with(&stage, settings).await;
    let front = Front::of(&shop).await;
    while_one_is_executed(&shop, &front, async {
        let refused = post(&front, None, QUERY).await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "1");
        let body: Value = refused.json().await.expect("JSON");
        assert_eq!(body["errors"][0]["extensions"]["code"], "QUEUE_FULL", "{body}");
    })
    .await;
    assert_eq!(shop.metric("backpressure_rejections_total{reason=\"queue_full\"}"), 1.0);
    assert!(front.ended().await.is_clean());
    shop.close().await;
}
