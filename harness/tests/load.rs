//! The load driver against small servers: rate, latency from the intended start, drops, errors, cancel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{any, get, post};
use chaos::history::{self, Outcome as Ended};
use harness::load::{self, CLASSES, LoadOutcome, Overrides, Plan, Profile, gates};
use harness::observe::Recorder;
use harness::run::Run;
use harness::verdict::{Criterion, Outcome};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Fixture {
    run: Run,
    recorder: Recorder,
    _folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = Run::create("r1".into(), 7, folder.path().join("run"), CancellationToken::new()).expect("run");
    let recorder = Recorder::create(&run, &CLASSES).expect("recorder");
    Fixture { run, recorder, _folder: folder }
}

fn plan(head: &str, rate: u32, duration: &str) -> Plan {
    let text =
        format!("name = \"t\"\n{head}\n[[stage]]\nname = \"s\"\nrate = {rate}\nduration = \"{duration}\"\n");
    Plan::new(Profile::parse(&text, "t.toml").expect("profile"), Overrides::default())
}

fn plain(plan: Plan) -> Plan {
    Plan { plain_only: true, ..plan }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn drive(fixture: &Fixture, plan: &Plan, url: &str) -> LoadOutcome {
    load::drive(&fixture.run, plan, url, &fixture.recorder).await.expect("drive")
}

fn outcome_of(criteria: &[Criterion], name: &str) -> Outcome {
    criteria
        .iter()
        .find(|c| c.name == name)
        .unwrap_or_else(|| panic!("{name} in {criteria:?}"))
        .outcome
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_arrival_reaches_a_plain_server_at_the_wanted_rate() {
    let server = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::method("GET"))
        .respond_with(wiremock::ResponseTemplate::new(200))
        .mount(&server)
        .await;
    let fixture = fixture();
    let plan = plain(plan("users = 20\ntimeout = \"1s\"", 150, "2s"));
    let outcome = drive(&fixture, &plan, &server.uri()).await;
    assert_eq!((outcome.scheduled, outcome.released, outcome.started, outcome.ok), (300, 300, 300, 300));
    let criteria = gates::judge(&plan.profile, &fixture.recorder.windows(), &outcome, &[]);
    assert_eq!(outcome_of(&criteria, "achieved-rate"), Outcome::Pass, "{criteria:#?}");
    assert_eq!(outcome_of(&criteria, "error-rate"), Outcome::Pass);
    assert!(
        outcome.goose_report_json.as_ref().is_some_and(|path| path.exists()),
        "goose writes its own report"
    );
    let path = fixture.recorder.finish().expect("history");
    assert_eq!(history::read(&path).expect("read").operations.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_shows_in_every_arrival_it_delayed() {
    let first = Arc::new(OnceLock::<Instant>::new());
    let handler = move || {
        let first = first.clone();
        async move {
            let began = *first.get_or_init(Instant::now);
            let (freeze, thaw) = (began + Duration::from_secs(1), began + Duration::from_millis(1_500));
            if (freeze..thaw).contains(&Instant::now()) {
                tokio::time::sleep_until(thaw.into()).await;
            }
            "ok"
        }
    };
    // HEAD is the warm-up of connections and must not start the freeze.
    let url = serve(Router::new().route("/x", get(handler))).await;
    let fixture = fixture();
    let plan = plain(plan("users = 4\ntimeout = \"2s\"\n[[request]]\npath = \"/x\"", 100, "3s"));
    let outcome = drive(&fixture, &plan, &url).await;
    assert_eq!(outcome.ok, 300);
    let windows = fixture.recorder.windows();
    let merged = harness::observe::latency::Latencies::merged(windows.iter().flat_map(|w| w.latencies()));
    let late = merged.iter_recorded().filter(|v| v.value_iterated_to() > 100_000);
    let late: u64 = late.map(|v| v.count_at_value()).sum();
    // Four users: a closed loop would have seen four late answers; fifty arrivals were meant to start in the freeze.
    assert!(late >= 30, "{late} late answers");
    assert!(merged.value_at_quantile(0.99) > 400_000, "p99 {} µs", merged.value_at_quantile(0.99));
    assert!(outcome.backlogged >= 30, "{}", outcome.backlogged);
    let criteria = gates::judge(&plan.profile, &windows, &outcome, &[]);
    assert_eq!(outcome_of(&criteria, "p99"), Outcome::Fail);
}

#[tokio::test(flavor = "multi_thread")]
async fn arrivals_not_started_in_time_are_failures() {
    let slow = || async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "ok"
    };
    let url = serve(Router::new().route("/", any(slow))).await;
    let fixture = fixture();
    let plan = plain(plan("users = 2\nstart_within = \"50ms\"\ntimeout = \"1s\"", 50, "2s"));
    let outcome = drive(&fixture, &plan, &url).await;
    assert_eq!(outcome.started + outcome.dropped, 100);
    assert!(outcome.dropped > 50, "{outcome:?}");
    let criteria = gates::judge(&plan.profile, &fixture.recorder.windows(), &outcome, &[]);
    assert_eq!(outcome_of(&criteria, "error-rate"), Outcome::Fail);
    assert_eq!(outcome_of(&criteria, "achieved-rate"), Outcome::Fail);
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql_errors_with_status_200_count_as_errors() {
    let refuse = || async {
        axum::Json(json!({ "data": null, "errors": [{ "extensions": { "code": "INTERNAL" } }] }))
    };
    let url = serve(Router::new().route("/graphql", post(refuse))).await;
    let fixture = fixture();
    let plan = plan("users = 10\ntimeout = \"1s\"", 50, "1s");
    let outcome = drive(&fixture, &plan, &url).await;
    assert_eq!(outcome.ok, 0);
    assert!(outcome.unknown >= 50, "{outcome:?}");
    let criteria = gates::judge(&plan.profile, &fixture.recorder.windows(), &outcome, &[]);
    assert_eq!(outcome_of(&criteria, "error-rate"), Outcome::Fail);
    let path = fixture.recorder.finish().expect("history");
    let history = history::read(&path).expect("read");
    // Retries use the same key under a new process.
    let mut by_key = BTreeMap::<String, Vec<u32>>::new();
    for operation in history.of_class("createOrder") {
        by_key.entry(operation.key.clone()).or_default().push(operation.process);
    }
    let again: Vec<_> = by_key.values().filter(|processes| processes.len() > 1).collect();
    assert!(!again.is_empty(), "some createOrder is sent again");
    assert!(again.iter().all(|p| p.iter().collect::<BTreeSet<_>>().len() == p.len()), "{again:?}");
}

/// A server that acknowledges everything, one order per idempotency key.
async fn shop(axum::Json(body): axum::Json<Value>) -> axum::Json<Value> {
    let query = body["query"].as_str().unwrap_or_default();
    let variables = &body["variables"];
    let data = if query.contains("createOrder(") {
        let key = variables["input"]["idempotencyKey"].as_str().unwrap_or_default();
        json!({ "createOrder": { "id": format!("order-of-{key}"), "status": "pending", "total": "1.00" } })
    } else if query.contains("updateOrderStatus(") {
        json!({ "updateOrderStatus": { "id": variables["id"], "status": variables["status"] } })
    } else if query.contains("requestInvoice(") {
        json!({ "requestInvoice": { "jobId": format!("job-{}", variables["key"]), "orderId": variables["id"] } })
    } else if query.contains("order(") {
        json!({ "order": { "id": variables["id"], "status": "pending", "total": "1.00" } })
    } else {
        json!({ "products": [{ "id": "1" }] })
    };
    axum::Json(json!({ "data": data }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mix_runs_with_unique_keys_twins_and_at_most_one_update_an_order() {
    let url = serve(Router::new().route("/graphql", post(shop))).await;
    let fixture = fixture();
    let plan = plan("users = 20\ntimeout = \"1s\"\n[mix]\ntwin_share = 0.5", 200, "2s");
    let outcome = drive(&fixture, &plan, &url).await;
    assert_eq!((outcome.fail, outcome.unknown, outcome.dropped), (0, 0, 0), "{outcome:?}");
    let path = fixture.recorder.finish().expect("history");
    let history = history::read(&path).expect("read");
    for class in &CLASSES[..5] {
        assert!(!history.of_class(class).is_empty(), "{class} was never sent");
    }
    let creates = history.of_class("createOrder");
    assert!(
        creates
            .iter()
            .all(|o| o.outcome == Ended::Ok && o.answer == format!("order-of-{}|pending|1.00", o.key))
    );
    let keys: BTreeSet<&str> = creates.iter().map(|o| o.key.as_str()).collect();
    assert!(keys.len() < creates.len(), "twins share a key");
    assert_eq!(outcome.answered - outcome.started, (creates.len() - keys.len()) as u64);
    let updates = history.of_class("updateOrderStatus");
    let orders: BTreeSet<&str> = updates.iter().map(|o| o.value.as_str()).collect();
    assert_eq!(orders.len(), updates.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_promptly_and_spoils_no_history() {
    let stuck = || std::future::pending::<&'static str>();
    let url = serve(Router::new().route("/x", get(stuck))).await;
    let fixture = fixture();
    let plan = plain(plan("users = 5\ntimeout = \"30s\"\n[[request]]\npath = \"/x\"", 50, "10m"));
    let (recorder, cancel) = (fixture.recorder.clone(), fixture.run.cancel().clone());
    let stopper = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(20);
        while recorder.open_operations() == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
        Instant::now()
    });
    let outcome = drive(&fixture, &plan, &url).await;
    let stopped = stopper.await.expect("stopper").elapsed();
    assert!(stopped < Duration::from_secs(5), "{stopped:?}");
    assert!(outcome.cancelled && outcome.released < outcome.scheduled, "{outcome:?}");
    let path = fixture.recorder.finish().expect("history");
    let history = history::read(&path).expect("read");
    assert!(!history.operations.is_empty());
    assert!(history.operations.iter().all(|o| o.outcome == Ended::Unknown && o.code == "cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn target_mode_judges_the_root_of_any_server_and_prints_lines() {
    let url = serve(Router::new().route("/", any(|| async { "hello" }))).await;
    let folder = tempfile::tempdir().expect("temporary folder");
    let run = Run::create("r2".into(), 1, folder.path().join("run"), CancellationToken::new()).expect("run");
    let plan = plan("users = 10\ntimeout = \"1s\"", 100, "2s");
    let result = load::target::run(&run, &plan, &url).await.expect("target run");
    assert_eq!(result.outcome.ok, 200);
    let lines = load::target::lines(&result);
    assert!(lines[0].contains("200 asked, 200 released, 200 sent, 0 dropped"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("pass") && line.contains("error-rate")), "{lines:#?}");
}
