//! Claim: to measure a request costs at most 500 ns, and to record a trace that nobody wants about as much. `masking` is
//! what a line of the log costs on its way out.

use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use criterion::{Criterion, criterion_group, criterion_main};
use fraiseql_runtime::api::middleware::metrics::begin;
use fraiseql_runtime::config::logging::Logging;
use fraiseql_runtime::config::tracing::Tracing;
use fraiseql_runtime::observability::logging::{layer, request_span};
use fraiseql_runtime::observability::masking::{Masking, mask};
use fraiseql_runtime::observability::metrics::{HttpMetrics, Metrics};
use fraiseql_runtime::observability::trace::{self, Kind, Tracer};
use futures::FutureExt;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

fn request() -> Request {
    Request::builder().method("POST").uri("/graphql").body(Body::empty()).expect("a request")
}

/// Count, duration, and what is needed for both; the series is there already, as it is after a first request.
fn middleware(c: &mut Criterion) {
    let http = Metrics::new().area(HttpMetrics::register);
    let (request, answer) = (request(), "{}".into_response());
    c.bench_function("middleware/metrics", |b| {
        b.iter(|| {
            let mut measured = begin(&http, None, &request);
            measured.answered(&answer);
        });
    });
}

/// A request with an operation and a statement.
fn traces(c: &mut Criterion) {
    let tracer = |sample_rate| {
        let config = Tracing { enabled: true, sample_rate, ..Tracing::default() };
        // What is sampled fills the queue and is dropped there: the exporter is no part of a request.
        Tracer::new(&config, &Metrics::new())
    };
    let request = async |tracer: &Tracer| {
        let Some(root) = tracer.begin(Kind::Server, None) else { return };
        root.within(async {
            let operation = trace::span("graphql.operation", Kind::Internal, Vec::new);
            operation
                .within(async {
                    let statement = || vec![("db.system.name", "postgresql".into())];
                    drop(trace::span("db.query", Kind::Client, statement));
                })
                .await;
        })
        .await;
        root.end(|| ("POST /graphql".into(), vec![("http.method", "POST".into())]));
    };
    let (unwanted, _unwanted) = tracer(0.0);
    let (sampled, _sampled) = tracer(1.0);
    for (name, tracer) in [("off", Tracer::off()), ("unsampled", unwanted), ("sampled", sampled)] {
        c.bench_function(&format!("trace/{name}"), |b| {
            b.iter(|| request(&tracer).now_or_never().expect("nothing waits"));
        });
    }
}

fn masking(c: &mut Criterion) {
    let line = r#"{"timestamp":"2026-11-29T05:50:33.123456Z","level":"INFO","message":"close","target":"fraiseql_runtime::api::middleware::trace","span":{"duration_ms":1.234,"method":"POST","path":"/graphql","request_id":"018f4e6a-1b2c-7d3e-8f4a-5b6c7d8e9f01","status":200,"name":"request"}}"#;
    c.bench_function("masking/line", |b| b.iter(|| mask(line)));
    let line = format!("{line} of ann@mail.example");
    c.bench_function("masking/line_with_address", |b| b.iter(|| mask(&line)));
}

/// A request's line: its span, what is recorded at its end, the line, masked; in this server's form and in the library's.
fn log_lines(c: &mut Criterion) {
    let ours = layer(&Logging::default(), std::io::sink);
    let theirs =
        tracing_subscriber::fmt::layer().with_writer(Masking(std::io::sink as fn() -> std::io::Sink));
    let theirs = theirs.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed();
    for (name, layer) in [("ours", ours), ("library", theirs)] {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            c.bench_function(&format!("log/request_{name}"), |b| {
                b.iter(|| {
                    let span = request_span("018f4e6a-1b2c-7d3e-8f4a-5b6c7d8e9f01", "POST", "/graphql");
                    tracing::record_all!(span, status = 200, duration_ms = 1.234);
                    span.in_scope(|| tracing::info!("close"));
                });
            });
        });
    }
}

criterion_group!(benches, middleware, traces, masking, log_lines);
criterion_main!(benches);
