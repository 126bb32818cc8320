//! Traces while they happen, up to the queue: parents, what is kept, what is lost and counted.

use std::time::Duration;

use super::*;
use crate::observability::metrics::Metrics;

fn tracer(toml: &str) -> (Tracer, Exporter, Metrics) {
    let config: Tracing = toml::from_str(&format!("enabled = true\n{toml}")).expect("a table");
    let metrics = Metrics::new();
    let (tracer, exporter) = Tracer::new(&config, &metrics);
    (tracer, exporter.expect("it is enabled"), metrics)
}

fn parent(sampled: bool) -> TraceContext {
    TraceContext { trace_id: 7, span_id: 9, sampled, state: Some("a=b".into()) }
}

fn has(metrics: &Metrics, line: &str) -> bool {
    metrics.classic().lines().any(|told| told == line)
}

#[test]
fn without_an_endpoint_there_are_no_traces() {
    let metrics = Metrics::new();
    let (tracer, exporter) = Tracer::new(&Tracing::default(), &metrics);
    assert!(exporter.is_none());
    assert!(tracer.begin(Kind::Server, Some(parent(true))).is_none());
    assert!(
        has(&metrics, "trace_spans_dropped_total{reason=\"queue_full\"} 0"),
        "the series are there all the same"
    );
}

#[tokio::test]
async fn spans_stand_below_the_one_that_they_began_in() {
    let (tracer, exporter, _) = tracer("");
    let root = tracer.begin(Kind::Server, Some(parent(true))).expect("a trace");
    root.within(async {
        let outer = span("outer", Kind::Internal, Vec::new);
        outer
            .within(async {
                let both = || async { drop(span("inner", Kind::Client, || vec![("a", 1.into())])) };
                tokio::join!(both(), both());
            })
            .await;
        drop(span("beside", Kind::Client, Vec::new));
    })
    .await;
    root.end(|| ("whole".into(), vec![("b", "c".into())]));
    let finished = exporter.next().await;
    let spans = &finished.spans;
    let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
    assert_eq!(names, ["whole", "outer", "inner", "inner", "beside"]);
    assert_eq!(spans[0].parent, 9, "the caller's span");
    let parents = [spans[1].parent, spans[2].parent, spans[3].parent, spans[4].parent];
    assert_eq!(parents, [spans[0].id, spans[1].id, spans[1].id, spans[0].id]);
    let mut ids: Vec<u64> = spans.iter().map(|span| span.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), spans.len());
    assert!(spans.iter().all(|span| span.ended.is_some_and(|ended| ended >= span.started)));
    assert_eq!((finished.trace_id, finished.state.as_deref()), (7, Some("a=b")));
}

#[tokio::test]
async fn only_failed_traces_are_kept_of_those_that_nobody_wants() {
    let (tracer, exporter, metrics) = tracer("sample_rate = 0.0");
    let work = async |fails: bool| {
        let root = tracer.begin(Kind::Server, None).expect("a trace");
        root.within(async {
            let inner = span("inner", Kind::Client, Vec::new);
            if fails {
                inner.fail("timeout");
            }
        })
        .await;
        let kept = root.handle().is_kept();
        root.end(|| ("whole".into(), Vec::new()));
        kept
    };
    assert!(!work(false).await);
    assert!(work(true).await);
    let finished = exporter.next().await;
    assert_eq!(finished.spans[1].failed, Some("timeout"));
    assert!(has(&metrics, "trace_kept_total{reason=\"failed\"} 1"));
    assert!(has(&metrics, "trace_kept_total{reason=\"sampled\"} 0"));
}

#[tokio::test]
async fn a_parent_that_is_not_sampled_is_followed_and_passed_on() {
    let (tracer, _exporter, _) = tracer("");
    let root = tracer.begin(Kind::Server, Some(parent(false))).expect("a trace");
    assert!(!root.handle().is_kept());
    let told = root.within(async { current() }).await.expect("a context");
    assert_eq!((told.trace_id, told.sampled, told.state.as_deref()), (7, false, Some("a=b")));
    assert_ne!(told.span_id, 9, "the next one stands below us");
}

#[tokio::test]
async fn with_request_ids_alone_the_context_passes_through() {
    let (tracer, _exporter, metrics) = tracer("middleware = \"request-id\"");
    assert!(tracer.begin(Kind::Server, None).is_none());
    let root = tracer.begin(Kind::Server, Some(parent(true))).expect("a context");
    let told = root
        .within(async {
            let inner = span("inner", Kind::Client, Vec::new);
            inner.within(async { current() }).await
        })
        .await;
    assert_eq!(told, Some(parent(true)));
    root.end(|| ("whole".into(), Vec::new()));
    assert!(has(&metrics, "trace_kept_total{reason=\"sampled\"} 0"));
}

#[tokio::test]
async fn a_full_queue_and_an_endless_trace_cost_spans_that_are_counted() {
    let (tracer, exporter, metrics) = tracer("queue = 1");
    for _ in 0..3 {
        let root = tracer.begin(Kind::Server, None).expect("a trace");
        root.end(|| ("whole".into(), Vec::new()));
    }
    assert!(has(&metrics, "trace_spans_dropped_total{reason=\"queue_full\"} 2"));
    exporter.next().await;
    let root = tracer.begin(Kind::Server, None).expect("a trace");
    root.within(async {
        for _ in 0..record::SPANS_MAX + 5 {
            drop(span("inner", Kind::Client, Vec::new));
        }
    })
    .await;
    drop(root);
    let finished = exporter.next().await;
    assert_eq!(finished.spans.len(), record::SPANS_MAX + 1);
    assert_eq!(finished.spans[0].name, "abandoned");
    assert!(has(&metrics, "trace_spans_dropped_total{reason=\"too_many\"} 5"));
}

#[tokio::test]
async fn a_span_that_outlives_its_trace_harms_nobody() {
    let (tracer, exporter, _) = tracer("");
    let root = tracer.begin(Kind::Server, None).expect("a trace");
    let late = root.within(async { span("late", Kind::Client, Vec::new) }).await;
    root.end(|| ("whole".into(), Vec::new()));
    late.fail("too late");
    drop(late);
    let finished = exporter.next().await;
    assert_eq!((finished.spans[1].ended, finished.spans[1].failed), (None, None), "it ends with the whole");
}

#[test]
fn outside_of_a_trace_nothing_is_asked() {
    let open = span("alone", Kind::Client, || unreachable!("nobody wants it"));
    open.set(|| unreachable!("nobody wants it"));
    open.fail("nobody hears it");
    assert_eq!((current(), traceparent()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_costs_spans_and_the_end_does_not_wait_for_it() {
    // Port 1 is nobody's: a connection is refused at once.
    let (tracer, exporter, metrics) = tracer("jaeger_endpoint = \"http://127.0.0.1:1\"\ninterval = \"10ms\"");
    let stop = tokio_util::sync::CancellationToken::new();
    let running = {
        let (exporter, stop) = (exporter.clone(), stop.clone());
        tokio::spawn(async move { exporter.run(stop).await })
    };
    drop(tracer.begin(Kind::Server, None));
    while !has(&metrics, "trace_spans_dropped_total{reason=\"export_failed\"} 1") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..100 {
        drop(tracer.begin(Kind::Server, None));
    }
    stop.cancel();
    running.await.expect("it ends");
    assert!(has(&metrics, "trace_spans_exported_total 0"));
}
