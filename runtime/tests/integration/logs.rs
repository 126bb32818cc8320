//! The log of a request: one JSON line with its id, the route instead of the path, status and duration.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use fraiseql_runtime::api::{Frame, router};
use fraiseql_runtime::config::logging::Logging;
use fraiseql_runtime::observability::health::{HealthChecker, HealthMonitor};
use fraiseql_runtime::observability::metrics::Metrics;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::log;

/// What is logged while one request is answered, in one thread.
fn log_of(uri: &str) -> Vec<Value> {
    log::install();
    log::take();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_monitor, health) =
            HealthMonitor::new(HealthChecker::new("1"), std::time::Duration::from_secs(5));
        let config = crate::support::config("");
        let frame = Frame::new(&config, Metrics::new(), health, CancellationToken::new());
        let routes = Router::new()
            .route("/orders/{id}", get(async || "order"))
            .route("/panic", get(async || -> &'static str { panic!("planted") }));
        let request = Request::builder().uri(uri).body(Body::empty()).expect("a request");
        router(frame, routes).oneshot(request).await.expect("an answer");
    });
    let text = log::take();
    assert!(!text.contains("s3cret"), "{text}");
    text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

/// The lines that are there without asking for more.
fn info_log_of(uri: &str) -> Vec<Value> {
    log_of(uri).into_iter().filter(|line| line["level"] != "DEBUG").collect()
}

#[test]
fn a_request_is_one_line_with_the_route_and_without_the_query() {
    let lines = info_log_of("/orders/s3cret?token=s3cret");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line["message"], "close");
    assert!(line["target"].is_string());
    let span = &line["span"];
    assert_eq!(span["name"], "request");
    assert_eq!(
        (&span["method"], &span["path"], &span["status"]),
        (&"GET".into(), &"/orders/{id}".into(), &200.into())
    );
    assert!(span["duration_ms"].as_f64().expect("a number") >= 0.0);
    assert!(span["request_id"].as_str().expect("an id").parse::<uuid::Uuid>().is_ok());
}

#[test]
fn an_unknown_path_is_not_logged() {
    let lines = info_log_of("/s3cret");
    assert_eq!(lines[0]["span"]["path"], "unmatched");
    assert_eq!(lines[0]["span"]["status"], 404);
}

#[test]
fn a_panic_is_logged_within_its_request() {
    let lines = info_log_of("/panic");
    let line = lines.iter().find(|line| line["message"] == "a handler panicked").expect("a line");
    assert_eq!((&line["panic"], &line["span"]["path"]), (&"planted".into(), &"/panic".into()));
    assert_eq!(lines.last().expect("a line")["span"]["status"], 500);
}

#[test]
fn details_of_a_request_are_there_at_debug() {
    let lines = log_of("/orders/1");
    let line = lines.iter().find(|line| line["message"] == "Request processed").expect("a line");
    assert_eq!((&line["endpoint"], &line["status"]), (&"/orders/{id}".into(), &200.into()));
    assert!(line["duration"].is_number());
}

#[test]
fn a_second_start_of_the_log_is_an_error_and_not_a_panic() {
    use fraiseql_runtime::observability::logging::init_logging;
    log::install();
    assert!(init_logging(&Logging::default()).is_err());
}
