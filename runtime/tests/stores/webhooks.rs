//! What senders of webhooks meet: who is believed, that an event has one effect however often it comes, and that what was
//! acknowledged is done, or kept with the reason.

use std::sync::Arc;

use fraiseql_runtime::clock::{Clock, SystemClock};
use fraiseql_runtime::ids::OrderId;
use harness::environment::stub::{Stub, StubName};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use sqlx::Connection;

use crate::support::http::{Answer, Front, read};
use crate::support::orders::{Status, StatusChange};
use crate::support::{Shop, Stage, WEBHOOK_SECRET, equal, eventually, order};

/// A payment pays its order.
const PAID: &str = "webhooks.test.provider = 'stripe'
                    webhooks.test.secret_env = 'TEST_SECRET'
                    webhooks.test.retry_base = '50ms'
                    webhooks.test.handlers = [{ event = 'payment_intent.succeeded', \
                    mutation = 'mutation Pay($order: ID!, $key: String!) { \
                    updateOrderStatus(id: $order, status: paid, idempotencyKey: $key) { id } }', \
                    variables = { order = '/data/object/metadata/order_id', key = 'event_key' } }]";
const CONFIRMED: &str = "notifications.enabled = true
                    notifications.email.url_env = 'SMTP_URL'
                    notifications.rules = [{ name = 'order_confirmation', event = 'status_changed', \
                    when = { status = 'paid' }, function = 'order_confirmation', actions = ['email'] }]";
const CONFIRMATION: &str = include_str!("../../../fixtures/schemas/ecommerce/order_confirmation.sql");

/// The shop behind HTTP, with what handles what waits.
struct Bench {
    shop: Shop,
    front: Front,
}

impl Bench {
    async fn open(stage: &Stage, settings: &str) -> Self {
        let mut shop = Shop::open_with(stage, &format!("{PAID}\n{settings}")).await;
        shop.migrate_own().await;
        shop.start(&["webhooks"]);
        let front = Front::of(&shop).await;
        Self { shop, front }
    }

    /// A delivery with these headers.
    async fn deliver(&self, name: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("http://{}/webhooks/{name}", self.front.address);
        let mut request = self.front.client.post(url).body(body.to_owned());
        for (header, value) in headers {
            request = request.header(*header, *value);
        }
        read(request).await
    }

    /// A delivery of Stripe's, signed now.
    async fn stripe(&self, event: &Value) -> Answer {
        let body = event.to_string();
        self.deliver("test", &body, &[("stripe-signature", &stripe_signature(&body, 0))]).await
    }

    async fn placed(&self) -> OrderId {
        self.shop.place(order(&[(1, 1)])).await.expect("placed").id
    }

    async fn events(&self, condition: &str) -> i64 {
        self.shop.rows(&format!("fraiseql.webhook_events WHERE {condition}")).await
    }

    async fn paid(&self, order: OrderId) -> i64 {
        self.shop.rows(&format!("order_status_changes WHERE order_id = '{order}' AND status = 'paid'")).await
    }

    fn count(&self, series: &str) -> i64 {
        self.shop.metric(series) as i64
    }

    fn failures(&self, reason: &str) -> i64 {
        self.count(&format!("webhook_failures_total{{provider=\"stripe\",reason=\"{reason}\"}}"))
    }

    async fn close(self) {
        self.front.ended().await;
        self.shop.close().await;
    }
}

fn payment(id: &str, order: OrderId) -> Value {
    json!({ "id": id, "type": "payment_intent.succeeded", "data": { "object": { "metadata": { "order_id": order } } } })
}

fn code(parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As Stripe signs, so many seconds ago.
fn stripe_signature(body: &str, ago: i64) -> String {
    let at = (SystemClock.utc().timestamp() - ago).to_string();
    format!("t={at},v1={}", hexadecimal(&code(&[at.as_bytes(), b".", body.as_bytes()])))
}

pub async fn a_signed_payment_pays_the_order_and_the_customer_is_told(stage: Arc<Stage>) {
    let mails = Stub::start(StubName::Email).await.expect("a port");
    let settings = format!("{CONFIRMED}\ntargets.email = '{}'", mails.url());
    let mut bench = Box::pin(Bench::open(&stage, &settings)).await;
    bench.shop.run(CONFIRMATION).await;
    bench.shop.start(&["outbox-relay", "notifications"]);
    eventually("events are followed", async || {
        equal(bench.shop.metric_if_there("notification_stream_followed"), Some(1.0))
    })
    .await;
    let order = bench.placed().await;
    // Before the first there is a series, which is what rules and panels need.
    assert_eq!(
        bench.count("webhook_received_total{provider=\"stripe\",event_type=\"payment_intent.succeeded\"}"),
        0
    );

    let event = payment("evt_1", order);
    let answer = bench.stripe(&event).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("done")), "{answer:?}");
    let query = format!("{{ order(id: \"{order}\") {{ status }} }}");
    assert_eq!(bench.shop.answer(&query).await["data"]["order"]["status"], "paid");
    let stored =
        "provider = 'stripe' AND event_type = 'payment_intent.succeeded' AND state = 'done' AND attempts = 1";
    assert_eq!(bench.events(stored).await, 1);
    let as_it_came = format!("payload::text = '{event}' AND event_key = 'id:evt_1'");
    assert_eq!(bench.events(&as_it_came).await, 1);
    eventually("the customer is told", async || equal(mails.notification_sent("order_confirmation"), true))
        .await;
    assert_eq!(
        bench.count("webhook_received_total{provider=\"stripe\",event_type=\"payment_intent.succeeded\"}"),
        1
    );
    assert_eq!(bench.count("webhook_processing_duration_seconds_count{provider=\"stripe\"}"), 1);
    assert_eq!(bench.count("webhook_events_total{provider=\"stripe\",result=\"done\"}"), 1);

    // Again, and ten times at once: every one is taken, and nothing happens.
    let (status, state) = (200, json!("done"));
    let again = bench.stripe(&event).await;
    assert_eq!((again.status, &again.body["state"]), (status, &state), "{again:?}");
    let all = futures::future::join_all((0..10).map(|_| bench.stripe(&event))).await;
    assert!(all.iter().all(|one| one.status == status && one.body == answer.body), "{all:?}");
    assert_eq!((bench.events("true").await, bench.paid(order).await), (1, 1));
    assert_eq!(bench.count("webhook_events_total{provider=\"stripe\",result=\"duplicate\"}"), 11);
    assert_eq!(bench.shop.rows("fraiseql.notifications").await, 1);
    assert_eq!(mails.taken().len(), 1);
    bench.close().await;
}

pub async fn one_event_sent_by_many_at_once_has_one_effect(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    let order = bench.placed().await;
    let event = payment("evt_1", order);
    let all = futures::future::join_all((0..20).map(|_| bench.stripe(&event))).await;
    // Who came while another was at it is told that it is kept.
    assert!(all.iter().all(|one| matches!(one.status, 200 | 202)), "{all:?}");
    assert_eq!(bench.count("webhook_events_total{provider=\"stripe\",result=\"duplicate\"}"), 19);
    assert_eq!((bench.events("state = 'done'").await, bench.paid(order).await), (1, 1));
    bench.close().await;
}

pub async fn what_is_not_signed_is_refused_for_its_reason_and_not_kept(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    let order = bench.placed().await;
    let body = payment("evt_1", order).to_string();
    let signature = "stripe-signature";
    let six_minutes = stripe_signature(&body, 360);
    let of_another = stripe_signature("{}", 0);
    for (headers, code, reason) in [
        (&[][..], "SIGNATURE_MISSING", "unsigned"),
        (&[(signature, "t=123,v1=invalid")], "SIGNATURE_INVALID", "bad_signature"),
        (&[(signature, of_another.as_str())], "SIGNATURE_INVALID", "bad_signature"),
        (&[(signature, six_minutes.as_str())], "SIGNATURE_EXPIRED", "expired"),
    ] {
        let before = bench.failures(reason);
        let answer = bench.deliver("test", &body, headers).await;
        assert_eq!((answer.status, &answer.body["error"]["code"]), (400, &json!(code)), "{answer:?}");
        assert_eq!(bench.failures(reason), before + 1, "{reason}");
    }
    let malformed =
        [("{", "not JSON"), (r#"{"id":"evt_1"}"#, "type"), (r#"{"type":"a\u0007"}"#, "control characters")];
    for (body, told) in malformed {
        let answer = bench.deliver("test", body, &[(signature, &stripe_signature(body, 0))]).await;
        let message = answer.body["error"]["message"].as_str().unwrap_or_default();
        assert!(answer.status == 400 && message.contains(told), "{answer:?}");
    }
    assert_eq!(bench.failures("malformed"), 3);
    let unknown = bench.deliver("other", &body, &[(signature, &stripe_signature(&body, 0))]).await;
    assert_eq!((unknown.status, &unknown.body["error"]["code"]), (404, &json!("NOT_FOUND")), "{unknown:?}");
    assert_eq!((bench.events("true").await, bench.paid(order).await), (0, 0));
    assert_eq!(bench.count("security_events_total{event=\"auth_failure\"}"), 4);
    // Those that were signed and could not be read.
    assert_eq!(bench.count("webhook_received_total"), 3);
    assert_eq!(bench.count("webhook_received_total{provider=\"stripe\",event_type=\"other\"}"), 3);
    bench.close().await;
}

pub async fn what_nobody_handles_is_kept_and_ignored(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    // That of the given test: a payment that belongs to no order.
    let other = json!({ "type": "payment_intent.succeeded", "data": { "object": { "id": "pi_123" } } });
    let answer = bench.stripe(&other).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("ignored")), "{answer:?}");
    let reason =
        "state = 'ignored' AND last_error = 'the event has nothing at /data/object/metadata/order_id'";
    assert_eq!(bench.events(reason).await, 1);
    for invented in 0..50 {
        let answer = bench.stripe(&json!({ "type": format!("invented.{invented}") })).await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("ignored")));
    }
    assert_eq!(bench.events("state = 'ignored' AND last_error = 'no handler'").await, 50);
    // A sender invents no series.
    assert_eq!(bench.count("webhook_received_total{provider=\"stripe\",event_type=\"other\"}"), 50);
    assert_eq!(bench.count("webhook_received_total"), 51);
    bench.close().await;
}

pub async fn what_could_not_be_done_is_done_later_also_by_another_process(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "database.query_timeout = '300ms'")).await;
    let order = bench.placed().await;
    // Somebody has the order, so that the mutation ends by its timeout.
    let mut somebody = bench.shop.sql().await;
    let mut held = somebody.begin().await.expect("begun");
    let lock = sqlx::AssertSqlSafe(format!("SELECT FROM orders WHERE id = '{order}' FOR UPDATE"));
    sqlx::raw_sql(lock).execute(&mut *held).await.expect("locked");
    let answer = bench.stripe(&payment("evt_1", order)).await;
    assert_eq!((answer.status, &answer.body["state"]), (202, &json!("waiting")), "{answer:?}");
    let failed = "state = 'waiting' AND last_error LIKE 'TIMEOUT: %'";
    eventually("it is tried again and fails again", async || {
        equal(bench.events(&format!("{failed} AND attempts >= 3")).await, 1)
    })
    .await;
    assert!(bench.failures("failed") >= 2);

    bench.front.ended().await;
    let mut shop = bench.shop.restart(|_| {}).await;
    shop.connect().await;
    shop.start(&["webhooks"]);
    let bench = Bench { front: Front::of(&shop).await, shop };
    held.rollback().await.expect("let go");
    eventually("it is done", async || equal(bench.events("state = 'done'").await, 1)).await;
    assert_eq!(bench.paid(order).await, 1);
    bench.close().await;
}

pub async fn what_a_process_left_is_done_once_by_the_next(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    let order = bench.placed().await;
    assert_eq!(bench.stripe(&payment("evt_1", order)).await.body["state"], "done");
    // As if it had ended between the mutation and the note of it: the lease is over.
    let left =
        "UPDATE fraiseql.webhook_events SET state = 'waiting', next_attempt_at = now() - interval '1 second'";
    bench.shop.run(left).await;
    eventually("it is done", async || equal(bench.events("state = 'done' AND attempts = 2").await, 1)).await;
    assert_eq!(bench.paid(order).await, 1, "the key makes it one");
    // One that ends each process that handles it is given up at last.
    let poison =
        "UPDATE fraiseql.webhook_events SET state = 'waiting', attempts = 20, next_attempt_at = now()";
    bench.shop.run(poison).await;
    eventually("it is given up", async || {
        equal(bench.events("state = 'dead' AND last_error LIKE '%did not end'").await, 1)
    })
    .await;
    bench.close().await;
}

pub async fn what_is_refused_is_dead_with_the_reason_until_it_is_sent_again(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    let order = bench.placed().await;
    let cancelled = StatusChange { order_id: order, to: Status::Cancelled, idempotency_key: None };
    bench.shop.change_status(cancelled).await.expect("cancelled");
    let event = payment("evt_1", order);
    let answer = bench.stripe(&event).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("dead")), "{answer:?}");
    assert_eq!(
        bench.events("state = 'dead' AND attempts = 1 AND last_error LIKE 'INVALID_TRANSITION: %'").await,
        1
    );
    assert_eq!(bench.count("webhook_events_total{provider=\"stripe\",result=\"dead\"}"), 1);
    // Somebody has mended the order and has the event sent again.
    bench.shop.run(&format!("UPDATE orders SET status = 'pending' WHERE id = '{order}'")).await;
    let answer = bench.stripe(&event).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("done")), "{answer:?}");
    assert_eq!((bench.events("true").await, bench.paid(order).await), (1, 1));
    bench.close().await;
}

pub async fn what_cannot_be_kept_is_not_acknowledged(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "database.acquire_timeout = '500ms'")).await;
    let order = bench.placed().await;
    let event = payment("evt_1", order);
    let cut = bench.shop.postgres.cut().await;
    let answer = bench.stripe(&event).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(bench.failures("not_kept"), 1);
    cut.heal().await;
    let answer = eventually("the next delivery is taken", async || {
        let answer = bench.stripe(&event).await;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await;
    assert_eq!(answer.body["state"], "done");
    assert_eq!((bench.events("true").await, bench.paid(order).await), (1, 1));
    bench.close().await;
}

pub async fn each_provider_is_believed_by_its_own_header(stage: Arc<Stage>) {
    use base64::Engine as _;
    let more = "webhooks.code = { provider = 'github', secret_env = 'TEST_SECRET', handlers = [{ \
                event = 'issues.closed', mutation = 'mutation($id: ID!, $key: String) { \
                updateOrderStatus(id: $id, status: paid, idempotencyKey: $key) { id } }', \
                variables = { id = '/issue/order', key = 'event_key' } }] }
                webhooks.shop = { provider = 'shopify', secret_env = 'TEST_SECRET' }";
    let bench = Box::pin(Bench::open(&stage, more)).await;
    let order = bench.placed().await;
    let body = json!({ "action": "closed", "issue": { "order": order } }).to_string();
    let hex = format!("sha256={}", hexadecimal(&code(&[body.as_bytes()])));
    let base64 = base64::engine::general_purpose::STANDARD.encode(code(&[body.as_bytes()]));
    let github = |kind| [("x-hub-signature-256", hex.as_str()), ("x-github-event", kind)];
    let answer = bench.deliver("code", &body, &github("issues")).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("done")), "{answer:?}");
    assert_eq!(bench.paid(order).await, 1);
    // The type is not signed: what was sent is no other event under another one.
    let again = bench.deliver("code", &body, &github("pull_request")).await;
    assert_eq!(again.body, answer.body);
    let shopify = [("x-shopify-hmac-sha256", base64.as_str()), ("x-shopify-topic", "orders/paid")];
    let answer = bench.deliver("shop", &body, &shopify).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("ignored")), "{answer:?}");
    for (name, headers) in [("shop", github("issues")), ("test", shopify), ("code", shopify)] {
        assert_eq!(bench.deliver(name, &body, &headers).await.status, 400, "{name}");
    }
    assert_eq!(bench.events("true").await, 2);
    bench.close().await;
}

pub async fn a_handler_that_the_schema_does_not_take_stops_the_start(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, PAID).await;
    let problem = shop.refuses(&PAID.replace("updateOrderStatus", "payOrder")).await;
    for told in ["webhooks.test.handlers", "payment_intent.succeeded", "payOrder"] {
        assert!(problem.contains(told), "{problem}");
    }
    shop.close().await;
}
