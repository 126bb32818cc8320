//! `/metrics` is valid text of both formats, its families are known, and callers cannot add series.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::observability::trace::Tracer;
use reqwest::Method;

use crate::support::TestFrame;

fn routes() -> Router {
    Router::new()
        .route("/orders/{id}", get(async |Path(id): Path<String>| id))
        .route("/graphql", post(async || "{}"))
        .route("/broken", get(async || http::StatusCode::BAD_GATEWAY))
}

/// Name, type and labels of every family.
fn schema(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            let before = families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            assert!(before.is_none(), "{name} is there twice");
            name.clone_into(&mut current);
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let suffixes = ["", "_bucket", "_sum", "_count"];
            assert!(
                suffixes.iter().any(|suffix| name == format!("{current}{suffix}")),
                "{line} in {current}"
            );
            let keys =
                labels.split(',').filter_map(|label| label.split_once('=')).map(|(key, _)| key.to_owned());
            families.get_mut(&current).expect("a family").1.extend(keys.filter(|key| key != "le"));
        }
    }
    families
}

fn series<'t>(text: &'t str, family: &str) -> Vec<&'t str> {
    text.lines().filter(|line| line.starts_with(family)).collect()
}

#[tokio::test]
async fn the_families_are_these() {
    let frame = TestFrame::spawn(routes()).await;
    let text = frame.text("/metrics").await;
    let lines: Vec<_> = schema(&text)
        .into_iter()
        .map(|(name, (kind, labels))| format!("{name} {kind} {}", Vec::from_iter(labels).join(",")))
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test]
async fn classic_text_is_the_default_and_open_metrics_is_there_on_request() {
    let frame = TestFrame::spawn(routes()).await;
    let classic = frame.get("/metrics").await;
    assert_eq!(classic.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = classic.text().await.expect("text");
    assert!(text.contains("# TYPE http_requests_total counter\n"));
    assert!(!text.contains("# EOF"));

    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let open =
        frame.client.get(frame.url("/metrics")).header("accept", accept).send().await.expect("an answer");
    assert_eq!(open.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = open.text().await.expect("text");
    assert!(text.contains("# TYPE http_requests counter\n"));
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn callers_cannot_add_series() {
    let frame = TestFrame::spawn(routes()).await;
    frame.get("/orders/0").await;
    frame.get("/nowhere").await;
    frame
        .client
        .request(Method::from_bytes(b"BREW").expect("a method"), frame.url("/x"))
        .send()
        .await
        .expect("sent");
    frame.text("/metrics").await;
    let before = series(&frame.text("/metrics").await, "").len();
    for number in 0..50 {
        frame.get(&format!("/orders/{number}?a={number}")).await;
        frame.get(&format!("/nowhere/{number}")).await;
        let method = Method::from_bytes(format!("BREW{number}").as_bytes()).expect("a method");
        frame.client.request(method, frame.url("/x")).send().await.expect("sent");
    }
    let text = frame.text("/metrics").await;
    assert_eq!(series(&text, "").len(), before);
    let count = r#"http_requests_total{method="GET",path="/orders/{id}",status="200"} 51"#;
    assert!(text.contains(count), "{count} is missing in {text}");
    let count = r#"http_requests_total{method="other",path="unmatched",status="404"} 51"#;
    assert!(text.contains(count), "{count} is missing in {text}");
}

#[tokio::test]
async fn known_routes_start_at_zero() {
    let frame = TestFrame::spawn(routes()).await;
    let text = frame.text("/metrics").await;
    for status in ["200", "500", "503"] {
        let line =
            format!("http_requests_total{{method=\"POST\",path=\"/graphql\",status=\"{status}\"}} 0\n");
        assert!(text.contains(&line), "{line} is missing in {text}");
    }
}

#[tokio::test]
async fn aliases_show_the_same_numbers() {
    let frame = TestFrame::spawn(routes()).await;
    frame.get("/orders/1").await;
    frame.get("/broken").await;
    let text = frame.text("/metrics").await;
    for (name, alias) in [
        ("http_requests_total", "fraiseql_requests_total"),
        ("http_requests_total", "xzepr_http_requests_total"),
        ("http_request_duration_seconds", "fraiseql_request_duration_seconds"),
        ("http_request_duration_seconds", "xzepr_http_request_duration_seconds"),
    ] {
        let mut canonical: Vec<_> =
            series(&text, name).iter().map(|line| line.replacen(name, alias, 1)).collect();
        let mut second: Vec<_> = series(&text, alias).iter().map(ToString::to_string).collect();
        canonical.sort();
        second.sort();
        assert!(canonical.len() > 3);
        assert_eq!(canonical, second);
    }
    assert!(text.contains(r#"fraiseql_errors_total{method="GET",path="/broken"} 1"#), "{text}");
}

#[tokio::test]
async fn the_buckets_resolve_the_targets() {
    let frame = TestFrame::spawn(routes()).await;
    let text = frame.text("/metrics").await;
    let buckets = series(&text, "http_request_duration_seconds_bucket");
    for bound in ["0.05", "0.1", "0.2", "0.5", "1.0", "2.5", "10.0", "+Inf"] {
        let has =
            |line: &&&str| line.contains("path=\"/health\"") && line.contains(&format!("le=\"{bound}\""));
        assert_eq!(buckets.iter().filter(has).count(), 1, "{bound}");
    }
}

#[tokio::test]
async fn open_connections_are_counted_and_given_back() {
    let frame = TestFrame::spawn(routes()).await;
    let second = reqwest::Client::new();
    second.get(frame.url("/livez")).send().await.expect("an answer");
    crate::support::eventually("two connections", async || {
        let text = frame.text("/metrics").await;
        let line = series(&text, "http_connections_active").first().map(ToString::to_string);
        if line.as_deref() == Some("http_connections_active 2") { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
    drop(second);
    crate::support::eventually("one connection", async || {
        let text = frame.text("/metrics").await;
        let line = series(&text, "http_connections_active").first().map(ToString::to_string);
        if line.as_deref() == Some("http_connections_active 1") { Ok(()) } else { Err(format!("{line:?}")) }
    })
    .await;
}

/// The value of a series.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a number")
}

#[tokio::test]
async fn what_runs_here_and_for_how_long_is_told() {
    let frame = TestFrame::spawn(routes()).await;
    let text = frame.text("/metrics").await;
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(series(&text, "xzepr_info{").iter().all(|line| line.contains(&version) && line.ends_with(" 1")));
    let later = frame.text("/metrics").await;
    assert!(value(&later, "xzepr_uptime_seconds") > value(&text, "xzepr_uptime_seconds"));
    for name in
        ["system_cpu_seconds_total{mode=\"idle\"}", "system_memory_total_bytes", "process_cpu_seconds_total"]
    {
        assert!(value(&later, name) > 0.0, "{name}");
    }
}

#[tokio::test]
async fn without_metrics_nothing_is_measured_and_nothing_told() {
    let frame = TestFrame::with("[metrics]\nenabled = false", routes(), []).await;
    assert_eq!(frame.get("/orders/1").await.status(), 200);
    assert_eq!(frame.get("/metrics").await.status(), 404);
}

/// The lines of a histogram's buckets that name a trace.
async fn exemplars(sample_rate: &str, path: &str) -> Vec<String> {
    let config: fraiseql_runtime::config::tracing::Tracing =
        toml::from_str(&format!("enabled = true\nsample_rate = {sample_rate}")).expect("a table");
    let (tracer, _exporter) = Tracer::new(&config, &Metrics::new());
    let frame = TestFrame::traced(tracer, routes()).await;
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0";
    let sampled = if sample_rate == "1.0" { 1 } else { 0 };
    let request = frame.client.get(frame.url(path)).header("traceparent", format!("{context}{sampled}"));
    request.send().await.expect("an answer");
    let accept = "application/openmetrics-text;version=1.0.0";
    let request = frame.client.get(frame.url("/metrics")).header("accept", accept);
    let text = request.send().await.expect("an answer").text().await.expect("text");
    assert!(!frame.text("/metrics").await.contains(" # {"), "the classic format has none");
    let buckets = series(&text, "http_request_duration_seconds_bucket");
    buckets.iter().filter(|line| line.contains(" # {")).map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_latency_leads_to_the_trace_that_had_it() {
    let found = exemplars("1.0", "/orders/1").await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(" # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} "), "{found:?}");
    assert!(exemplars("0.0", "/orders/1").await.is_empty(), "a trace that is not exported leads nowhere");
    assert_eq!(exemplars("0.0", "/broken").await.len(), 1, "one that failed is exported");
}
