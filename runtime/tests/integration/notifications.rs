//! Notifications against targets that fail: each action by itself, called as often as it may be and no oftener.

use std::sync::Arc;
use std::time::Duration;

use fraiseql_runtime::clock::{Clock, SystemClock};
use fraiseql_runtime::config::notifications::Notifications;
use fraiseql_runtime::config::url::ConnectionUrl;
use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::ids::EventId;
use fraiseql_runtime::notifications::{Action, Error, Notification, Notifier, Targets};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::resilience::dependency::CallMetrics;
use futures::future::join_all;
use harness::environment::stub::{Calls, Stub, StubName};
use serde_json::json;
use wiremock::matchers::{any, body_partial_json, header, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Waits of a millisecond, one call a delivery, a breaker that is tried again after an hour unless a test says otherwise.
const PATIENT: &str = "retry = { attempts = 1, base = '1ms' }\nwebhook.breaker.timeout = '1h'\n\
                       slack.breaker.timeout = '1h'\nemail.breaker.timeout = '1h'";

struct Bench {
    notifier: Notifier,
    metrics: Metrics,
    webhook: MockServer,
    slack: MockServer,
    mails: Stub,
}

impl Bench {
    async fn open(settings: &str) -> Self {
        let (webhook, slack) = (MockServer::start().await, MockServer::start().await);
        let mails = Stub::start(StubName::Email).await.expect("a free port");
        let url = |text: String| Some(ConnectionUrl::parse(&text).expect("a URL"));
        let targets = Targets {
            webhook: url(format!("{}/hook", webhook.uri())),
            slack: url(format!("{}/services/T0/B0/secret", slack.uri())),
            email: url(mails.url()),
        };
        let table: Notifications = toml::from_str(settings).expect("the test's settings");
        let (metrics, clock): (_, Arc<dyn Clock>) = (Metrics::new(), Arc::new(SystemClock));
        let calls = metrics.area(CallMetrics::register);
        let notifier = Notifier::new(&table, &targets, &clock, &calls).expect("a notifier");
        Self { notifier, metrics, webhook, slack, mails }
    }

    async fn send(&self, action: Action) -> Result<(), Error> {
        self.notifier.send(action, &notification()).await.map_err(|undelivered| undelivered.error)
    }

    /// Sends until the action's target is not called any more; answers how often it was.
    async fn calls_until_open(&self, action: Action) -> usize {
        for calls in 0..100 {
            if let Err(Error::Refused(refused)) = self.send(action).await {
                assert_eq!(refused.kind(), ErrorKind::CircuitBreakerOpen);
                assert!(refused.to_string().starts_with(action.name()), "{refused}");
                return calls;
            }
        }
        panic!("the breaker of {} does not open", action.name());
    }

    fn series(&self, line: &str) {
        let text = self.metrics.classic();
        assert!(text.contains(&format!("{line}\n")), "{line} is missing in {text}");
    }
}

fn notification() -> Notification {
    Notification {
        id: EventId(uuid::Uuid::from_u128(7)),
        name: "order_confirmation".to_owned(),
        event: "status_changed".to_owned(),
        recipient: "ada@example.com".to_owned(),
        subject: "Your order".to_owned(),
        body: "Thank you.".to_owned(),
        payload: json!({ "status": "paid" }),
    }
}

async fn answers(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(any()).respond_with(answer).mount(server).await;
}

async fn called(server: &MockServer) -> usize {
    server.received_requests().await.expect("recorded").len()
}

#[tokio::test]
async fn each_action_says_what_happened_in_its_own_form() {
    let bench = Bench::open(PATIENT).await;
    Mock::given(method("POST"))
        .and(header("idempotency-key", "00000000-0000-0000-0000-000000000007.order_confirmation"))
        .and(body_partial_json(json!({ "notification": "order_confirmation", "data": { "status": "paid" } })))
        .respond_with(ResponseTemplate::new(202))
        .mount(&bench.webhook)
        .await;
    Mock::given(method("POST"))
        .and(body_partial_json(json!({ "text": "*Your order*\nThank you." })))
        .respond_with(ResponseTemplate::new(200))
        .mount(&bench.slack)
        .await;
    for action in Action::ALL {
        bench.send(action).await.expect("sent");
    }
    let mails = bench.mails.taken();
    let (mail, key) = (&mails[0].body, "<00000000-0000-0000-0000-000000000007.order_confirmation@localhost>");
    assert_eq!((mails.len(), mails[0].key.as_str()), (1, key));
    assert!(mail.contains("To: ada@example.com\r\n") && mail.contains("Subject: Your order\r\n"), "{mail}");
}

#[tokio::test]
async fn the_breakers_open_at_five_three_and_two_faults_and_the_next_call_is_not_made() {
    let bench = Bench::open(PATIENT).await;
    answers(&bench.webhook, ResponseTemplate::new(500)).await;
    answers(&bench.slack, ResponseTemplate::new(503)).await;
    bench.mails.fail_with(Some(421));
    for (action, faults) in [(Action::Webhook, 5), (Action::Slack, 3), (Action::Email, 2)] {
        assert_eq!(bench.calls_until_open(action).await, faults, "{}", action.name());
        bench.series(&format!("circuit_breaker_state{{service=\"{}\"}} 2", action.name()));
        bench.series(&format!("circuit_breaker_trips_total{{service=\"{}\"}} 1", action.name()));
    }
    assert_eq!((called(&bench.webhook).await, called(&bench.slack).await), (5, 3));
    assert_eq!(bench.mails.calls(), Calls { failed: 2, repeated: 1, repeated_peak: 1, ..Calls::default() });
}

#[tokio::test]
async fn one_target_that_fails_leaves_the_others_working() {
    let bench = Bench::open(PATIENT).await;
    answers(&bench.webhook, ResponseTemplate::new(200)).await;
    answers(&bench.slack, ResponseTemplate::new(500)).await;
    bench.calls_until_open(Action::Slack).await;
    for _ in 0..3 {
        bench.send(Action::Webhook).await.expect("sent");
        bench.send(Action::Email).await.expect("sent");
        assert!(matches!(bench.send(Action::Slack).await, Err(Error::Refused(_))));
    }
    assert_eq!((called(&bench.webhook).await, bench.mails.calls().taken), (3, 3));
}

#[tokio::test]
async fn of_fifty_callers_of_a_target_that_may_be_back_one_calls() {
    let bench = Bench::open("retry = { attempts = 1 }\nwebhook.breaker.timeout = '10ms'").await;
    answers(&bench.webhook, ResponseTemplate::new(500)).await;
    bench.calls_until_open(Action::Webhook).await;
    answers(&bench.webhook, ResponseTemplate::new(200).set_delay(Duration::from_millis(200))).await;
    crate::support::eventually("the breaker is half open", async || {
        let text = bench.metrics.classic();
        let seen = text.contains("circuit_breaker_state{service=\"webhook\"} 1\n");
        if seen { Ok(()) } else { Err(text) }
    })
    .await;
    let results = join_all((0..50).map(|_| bench.send(Action::Webhook))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(called(&bench.webhook).await, 1);
    bench.series("circuit_breaker_state{service=\"webhook\"} 0");
}

#[tokio::test]
async fn what_a_target_refuses_for_good_is_sent_once_and_is_not_its_fault() {
    let bench = Bench::open("retry = { attempts = 5, base = '1ms' }").await;
    for status in [400, 401, 404, 410, 422] {
        answers(&bench.webhook, ResponseTemplate::new(status)).await;
        let error = bench.send(Action::Webhook).await.expect_err("refused");
        assert!(error.kind().is_refusal(), "{error:?}");
        assert_eq!(called(&bench.webhook).await, 1, "{status}");
    }
    answers(&bench.webhook, ResponseTemplate::new(302).insert_header("location", bench.slack.uri())).await;
    bench.send(Action::Webhook).await.expect_err("a redirect is not followed");
    assert_eq!(called(&bench.slack).await, 0);
    bench.series("circuit_breaker_state{service=\"webhook\"} 0");
    bench.series("retries_total{service=\"webhook\"} 0");
    bench.series("retries_given_up_total{service=\"webhook\",reason=\"permanent\"} 6");
}

#[tokio::test]
async fn what_passes_by_itself_is_sent_again_and_as_often_as_the_policy_says() {
    let bench =
        Bench::open("retry = { attempts = 4, base = '1ms' }\nwebhook.breaker.failure_threshold = 100").await;
    for status in [408, 425, 429, 500, 503] {
        answers(&bench.webhook, ResponseTemplate::new(status)).await;
        let error = bench.send(Action::Webhook).await.expect_err("fails");
        assert!(error.kind().is_retryable(), "{error:?}");
        let calls = called(&bench.webhook).await;
        // The budget of retries may end before the policy does, and is ten here.
        assert!((1..=4).contains(&calls), "{status}: {calls}");
    }
    bench.series("retries_total{service=\"webhook\"} 10");
}

#[tokio::test]
async fn a_target_that_says_when_is_asked_no_earlier() {
    let bench = Bench::open("retry = { attempts = 2, base = '1ms' }").await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(429).insert_header("retry-after", "1"))
        .up_to_n_times(1)
        .mount(&bench.webhook)
        .await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&bench.webhook).await;
    let began = std::time::Instant::now();
    bench.send(Action::Webhook).await.expect("the second is taken");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(called(&bench.webhook).await, 2);

    answers(&bench.webhook, ResponseTemplate::new(503).insert_header("retry-after", "3600")).await;
    bench.send(Action::Webhook).await.expect_err("that is for a later delivery");
    assert_eq!(called(&bench.webhook).await, 1);
}

#[tokio::test]
async fn an_action_that_used_up_its_rate_waits_its_turn() {
    let bench = Bench::open("webhook_max_per_sec = 5\ndelivery_timeout = '1s'").await;
    answers(&bench.webhook, ResponseTemplate::new(200)).await;
    let results = join_all((0..20).map(|_| bench.send(Action::Webhook))).await;
    let sent = results.iter().filter(|result| result.is_ok()).count();
    // Five at once, and those whose turn comes in the first half of the second that the delivery has: the other half is
    // for the call.
    assert!((5..=10).contains(&sent), "{sent}");
    assert!(
        results.iter().all(|result| matches!(result, Ok(()) | Err(Error::Limited { .. }))),
        "{results:?}"
    );
    assert_eq!(called(&bench.webhook).await, sent);
}

#[tokio::test]
async fn no_error_shows_the_secret_in_a_url() {
    let bench = Bench::open(PATIENT).await;
    let targets = Targets {
        slack: ConnectionUrl::parse("http://127.0.0.1:1/services/T0/secret").ok(),
        ..Targets::default()
    };
    let (metrics, clock): (_, Arc<dyn Clock>) = (Metrics::new(), Arc::new(SystemClock));
    let calls = metrics.area(CallMetrics::register);
    let notifier = Notifier::new(&Notifications::default(), &targets, &clock, &calls).expect("a notifier");
    let undelivered = notifier.send(Action::Slack, &notification()).await.expect_err("nobody listens there");
    let told = format!("{} {:?}", fraiseql_runtime::error::chain(&undelivered), undelivered);
    assert!(!told.contains("secret"), "{told}");
    assert!(matches!(
        notifier.send(Action::Email, &notification()).await.expect_err("none").error,
        Error::NotConfigured(_)
    ));
    drop(bench);
}
