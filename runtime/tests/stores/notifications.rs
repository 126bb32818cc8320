//! Notifications from the outbox to the targets: told at least once, over restarts, and given up with the reason.

use std::sync::Arc;

use harness::environment::stub::{Stub, StubName};
use serde_json::json;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::collector::{Collector, Span};
use crate::support::http::{Front, read};
use crate::support::orders::{Status, StatusChange};
use crate::support::{Shop, Stage, equal, eventually, order};

/// What the customer is told.
const CONFIRMATION: &str = include_str!("../../../fixtures/schemas/ecommerce/order_confirmation.sql");

const WORKERS: [&str; 2] = ["outbox-relay", "notifications"];

const RULE: &str = "notifications.enabled = true\n\
                    notifications.webhook.url_env = 'WEBHOOK_URL'\n\
                    notifications.email.url_env = 'SMTP_URL'\n\
                    notifications.email.from = 'Shop <shop@example.com>'\n\
                    notifications.retry.base = '5ms'\n\
                    notifications.retry.attempts = 1\n\
                    notifications.webhook.breaker.timeout = '100ms'\n\
                    notifications.email.breaker.timeout = '100ms'\n\
                    notifications.rules = [{ name = 'order_confirmation', event = 'status_changed', \
                    when = { status = 'paid' }, function = 'order_confirmation', actions = ['email', 'webhook'] }]";

struct Bench {
    shop: Shop,
    mails: Stub,
    webhook: MockServer,
}

impl Bench {
    async fn open(stage: &Stage, settings: &str) -> Self {
        let (mails, webhook) =
            (Stub::start(StubName::Email).await.expect("a port"), MockServer::start().await);
        let targets = format!("targets.webhook = '{}'\ntargets.email = '{}'", webhook.uri(), mails.url());
        let mut shop = Shop::open_with(stage, &format!("{RULE}\n{targets}\n{settings}")).await;
        shop.migrate_own().await;
        shop.run(CONFIRMATION).await;
        shop.start(&WORKERS);
        let bench = Self { shop, mails, webhook };
        bench.webhook_answers(200).await;
        bench
    }

    async fn webhook_answers(&self, status: u16) {
        self.webhook.reset().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(status)).mount(&self.webhook).await;
    }

    /// What happens from now on is told.
    async fn followed(&self) {
        eventually("the consumer is there", async || {
            equal(
                self.shop.metric_if_there("notification_stream_followed").map(|value| value as i64),
                Some(1),
            )
        })
        .await;
    }

    /// A paid order, after the consumer is there.
    async fn pay(&self) {
        self.followed().await;
        let id = self.shop.place(order(&[(1, 1)])).await.expect("placed").id;
        let change = StatusChange { order_id: id, to: Status::Paid, idempotency_key: None };
        self.shop.change_status(change).await.expect("paid");
    }

    async fn state(&self, action: &str, state: &str, rows: i64) {
        let table = format!("fraiseql.notifications WHERE action = '{action}' AND state = '{state}'");
        eventually(&format!("{rows} of {action} are {state}"), async || {
            equal(self.shop.rows(&table).await, rows)
        })
        .await;
    }

    fn count(&self, action: &str, result: &str) -> i64 {
        self.shop.metric(&format!("notifications_total{{action=\"{action}\",result=\"{result}\"}}")) as i64
    }
}

pub async fn a_paid_order_is_confirmed_once_by_each_action(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    bench.pay().await;
    bench.state("email", "sent", 1).await;
    bench.state("webhook", "sent", 1).await;
    assert!(bench.mails.notification_sent("order_confirmation"));
    let mails = bench.mails.taken();
    assert!(mails.len() == 1 && mails[0].key.ends_with(".order_confirmation@example.com>"), "{mails:?}");
    assert!(mails[0].body.contains("To: user1@example.com\r\n"), "{mails:?}");
    assert_eq!((bench.count("email", "sent"), bench.count("webhook", "sent")), (1, 1));
    assert_eq!(bench.webhook.received_requests().await.expect("recorded").len(), 1);
    // The placing of the order and whatever is not paid is nothing to tell.
    assert_eq!(bench.shop.rows("fraiseql.notifications").await, 2);
    bench.shop.close().await;
}

pub async fn what_is_told_belongs_to_the_trace_of_the_change(stage: Arc<Stage>) {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let collector = Collector::start().await;
    let mut bench = Box::pin(Bench::open(&stage, &collector.settings(""))).await;
    bench.shop.start(&["trace-exporter"]);
    bench.followed().await;
    let order = bench.shop.place(order(&[(1, 1)])).await.expect("placed").id;
    let front = Front::of(&bench.shop).await;
    let query = format!("mutation {{ updateOrderStatus(id: \"{order}\", status: paid) {{ id }} }}");
    let request = front.client.post(front.url()).json(&json!({ "query": query }));
    let answer = read(request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"))).await.body;
    assert_eq!(answer["data"]["updateOrderStatus"]["id"], json!(order.to_string()), "{answer}");
    let named = |spans: &[Span], name: &str| -> Vec<Span> {
        spans.iter().filter(|span| span.name == name).cloned().collect()
    };
    let spans = collector.trace(TRACE, |spans| !named(spans, "notifications.event").is_empty()).await;
    let one = |name: &str| {
        let found = named(&spans, name);
        assert_eq!(found.len(), 1, "{name} in {spans:#?}");
        found.into_iter().next().expect("just counted")
    };
    let event = one("notifications.event");
    assert_eq!((&event.parent, event.kind), (&one("outbox.publish").id, 5), "a consumer");
    let rule = one("notifications.rule");
    assert_eq!((&rule.parent, rule.text("rule.name")), (&event.id, "order_confirmation"));
    let actions = named(&spans, "action.execute");
    assert!(actions.len() == 2 && actions.iter().all(|span| span.parent == rule.id && span.kind == 3));
    let webhook = actions.iter().find(|span| span.text("action.name") == "webhook").expect("the webhook's");
    let requests = bench.webhook.received_requests().await.expect("recorded");
    let told: Vec<&str> =
        requests.iter().map(|request| request.headers["traceparent"].to_str().expect("text")).collect();
    assert_eq!(told, [format!("00-{TRACE}-{}-01", webhook.id)], "the target goes on below the call");
    front.ended().await;
    bench.shop.close().await;
}

pub async fn a_target_that_is_away_gets_it_later_and_the_others_at_once(stage: Arc<Stage>) {
    let bench = Box::pin(Bench::open(&stage, "")).await;
    bench.mails.fail_with(Some(421));
    bench.pay().await;
    bench.state("webhook", "sent", 1).await;
    bench.state("email", "waiting", 1).await;
    // A restart forgets nothing.
    let shop = bench.shop.restart(|_| {}).await;
    let mut bench = Bench { shop, ..bench };
    bench.shop.connect().await;
    bench.shop.start(&WORKERS);
    bench.mails.fail_with(None);
    bench.state("email", "sent", 1).await;
    assert_eq!(bench.mails.calls().taken, 1);
    assert_eq!(
        bench.webhook.received_requests().await.expect("recorded").len(),
        1,
        "what was sent is not sent again"
    );
    bench.shop.close().await;
}

pub async fn what_fails_too_often_or_for_good_is_dead_and_kept_with_the_reason(stage: Arc<Stage>) {
    let settings = "notifications.max_attempts = 3\nnotifications.email.breaker.failure_threshold = 100";
    let bench = Box::pin(Bench::open(&stage, settings)).await;
    bench.mails.fail_with(Some(451));
    bench.webhook_answers(404).await;
    bench.pay().await;
    bench.state("email", "dead", 1).await;
    bench.state("webhook", "dead", 1).await;
    assert_eq!((bench.count("email", "dead"), bench.count("webhook", "dead")), (1, 1));
    assert_eq!(bench.webhook.received_requests().await.expect("recorded").len(), 1, "404 is for good");
    let told =
        "fraiseql.notifications WHERE last_error LIKE '%the mail server answered 451%' AND attempts = 3";
    assert_eq!(bench.shop.rows(told).await, 1);
    bench.shop.close().await;
}
