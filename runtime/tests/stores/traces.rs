//! Traces as a collector gets them: whole, with right parents, over the borders of processes, and no more than asked for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::collector::{Collector, Span};
use crate::support::http::{Front, read};
use crate::support::stream::messages;
use crate::support::{Shop, Stage, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

const CREATE: &str = "mutation PlaceOrder($input: OrderInput!) { createOrder(input: $input) { id status items { quantity product { name } } } }";

fn order() -> Value {
    json!({
        "userId": "1",
        "items": [{ "productId": "1", "quantity": 1 }],
        "shippingAddress": { "street": "Elm 1" },
    })
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn one<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    match named(spans, name)[..] {
        [span] => span,
        ref other => panic!("{} spans {name} in {spans:#?}", other.len()),
    }
}

/// A post with a `traceparent` whose trace is sampled or not.
async fn post(front: &Front, body: &Value, sampled: bool) -> Value {
    let traceparent = format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled));
    let request = front.client.post(format!("{}?token=s3cret", front.url())).json(body);
    read(request.header("traceparent", traceparent).header("tracestate", "vendor=1")).await.body
}

pub async fn a_created_order_is_one_trace_from_the_caller_to_the_stream(stage: Arc<Stage>) {
    let collector = Collector::start().await;
    let mut shop = Shop::open_with(&stage, &collector.settings("")).await;
    shop.start(&["trace-exporter", "outbox-relay"]);
    let front = Front::of(&shop).await;
    let body = post(&front, &json!({ "query": CREATE, "variables": { "input": order() } }), true).await;
    assert_eq!(body["data"]["createOrder"]["status"], "pending", "{body}");
    let is_whole = |spans: &[Span]| {
        !named(spans, "POST /graphql").is_empty() && !named(spans, "outbox.publish").is_empty()
    };
    let spans = collector.trace(TRACE, is_whole).await;

    let request = one(&spans, "POST /graphql");
    assert_eq!((request.parent.as_str(), request.kind), (PARENT, 2), "below the caller's span, a server");
    let operation = one(&spans, "graphql.operation");
    assert_eq!(operation.parent, request.id);
    assert_eq!(operation.text("graphql.operation.type"), "mutation");
    assert_eq!(operation.text("graphql.operation.name"), "PlaceOrder");
    let statements = named(&spans, "db.query");
    assert!((1..=2).contains(&statements.len()), "the change, and what is read after it: {spans:#?}");
    for statement in &statements {
        assert_eq!((statement.parent.as_str(), statement.kind), (operation.id.as_str(), 3), "a client");
        assert_eq!(statement.text("db.system.name"), "postgresql");
    }
    assert!(statements[0].text("db.query.text").contains("create_order"));
    let publish = one(&spans, "outbox.publish");
    assert_eq!((publish.parent.as_str(), publish.kind), (operation.id.as_str(), 4), "a producer");
    assert!(publish.text("messaging.destination.name").ends_with(".created"));
    assert_eq!(spans.len(), 3 + statements.len(), "{spans:#?}");
    for span in &spans {
        assert!(span.error.is_none() && span.start <= span.end, "{span:?}");
        assert!(!format!("{span:?}").contains("s3cret"), "{span:?}");
    }
    for (attribute, value) in [
        ("http.method", json!("POST")),
        ("http.route", json!("/graphql")),
        ("http.target", json!("/graphql")),
        ("http.url", json!(front.url())),
        ("http.status_code", json!(200)),
        ("http.trace_id", json!(TRACE)),
    ] {
        assert_eq!(request.attributes.get(attribute), Some(&value), "{attribute}");
    }
    assert!(request.text("http.request_id").parse::<uuid::Uuid>().is_ok());
    assert!(request.attributes["http.duration_ms"].as_f64().is_some_and(|duration| duration > 0.0));
    assert!(!request.attributes.contains_key("http.response_size"), "that is for the enhanced variant");
    let resource = collector.resources().remove(0);
    assert_eq!(resource["service.name"], "fraiseql-server");
    assert_eq!(resource["deployment.environment.name"], "development");

    let message = messages(&shop.nats.direct, &shop.stream).await.remove(0);
    let told = message.header("traceparent").expect("the event has the context");
    assert_eq!(told, format!("00-{TRACE}-{}-01", publish.id), "its readers go on below the publishing span");

    let text = serde_json::to_string_pretty(&spans.iter().map(Span::json).collect::<Vec<_>>()).expect("JSON");
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/create_order_trace.json");
    std::fs::write(path, text).expect("written for docs/create_order_trace.json");
    front.ended().await;
    shop.close().await;
}

pub async fn a_job_is_executed_in_the_trace_of_who_left_it(stage: Arc<Stage>) {
    let collector = Collector::start().await;
    let mut shop = Shop::open_with(&stage, &collector.settings("")).await;
    let order = shop.place_many(1).await.remove(0);
    shop.start(&["trace-exporter", "job-workers"]);
    let front = Front::of(&shop).await;
    let query = format!("mutation {{ requestInvoice(orderId: \"{order}\") {{ jobId }} }}");
    let body = post(&front, &json!({ "query": query }), true).await;
    let job = body["data"]["requestInvoice"]["jobId"].as_str().expect("a job").to_owned();
    let is_whole =
        |spans: &[Span]| !named(spans, "POST /graphql").is_empty() && !named(spans, "job.execute").is_empty();
    let spans = collector.trace(TRACE, is_whole).await;
    let enqueue = one(&spans, "queue.enqueue");
    assert_eq!(enqueue.parent, one(&spans, "graphql.operation").id);
    assert_eq!((enqueue.text("job.id"), enqueue.text("queue.backend")), (job.as_str(), "redis"));
    let execute = one(&spans, "job.execute");
    assert_eq!((execute.parent.as_str(), execute.kind), (enqueue.id.as_str(), 5), "a consumer");
    assert_eq!((execute.text("job.id"), &execute.attributes["job.attempt"]), (job.as_str(), &json!(1)));
    let effects: Vec<_> =
        named(&spans, "db.query").into_iter().filter(|span| span.parent == execute.id).collect();
    assert_eq!(effects.len(), 1, "the function that did it: {spans:#?}");
    front.ended().await;
    shop.close().await;
}

pub async fn the_share_that_was_asked_for_is_exported_and_every_failure(stage: Arc<Stage>) {
    const REQUESTS: usize = 400;
    let collector = Collector::start().await;
    let mut shop = Shop::open_with(&stage, &collector.settings("tracing.sample_rate = 0.25")).await;
    shop.start(&["trace-exporter"]);
    let front = Front::of(&shop).await;
    for _ in 0..REQUESTS {
        front.post("application/json", &json!({ "query": "{ __typename }" })).await;
    }
    let kept = |reason: &str| shop.metric(&format!("trace_kept_total{{reason=\"{reason}\"}}")) as usize;
    let sampled = kept("sampled");
    // Six standard deviations of the binomial distribution: 400 times a quarter, give or take 8.7.
    assert!((48..=152).contains(&sampled), "{sampled} of {REQUESTS}");
    assert_eq!(kept("failed"), 0);

    shop.run("ALTER TABLE products RENAME TO products_away").await;
    let body = json!({ "query": "query Broken { products(limit: 1) { id } }" });
    for _ in 0..5 {
        let answer = front.post("application/json", &body).await.body;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{answer}");
        let answer = post(&front, &body, false).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{answer}");
    }
    let broken = || {
        let spans = collector.spans();
        let named = spans.into_iter().filter(|span| span.text("graphql.operation.name") == "Broken");
        named.collect::<Vec<_>>()
    };
    eventually("every failure arrives", async || {
        let found = broken().len();
        if found == 10 { Ok(()) } else { Err(format!("{found} of 10")) }
    })
    .await;
    assert!(broken().iter().all(|span| span.error.is_some()), "{:#?}", broken());
    assert_eq!(kept("sampled") - sampled + kept("failed"), 10);
    assert!(kept("failed") >= 5, "who began their trace did not want it, and it failed");
    let failed: Vec<Span> = collector.spans().into_iter().filter(|span| span.error.is_some()).collect();
    assert!(failed.iter().any(|span| span.name == "db.query" && span.error.as_deref() == Some("internal")));
    front.ended().await;
    shop.close().await;
}

pub async fn the_enhanced_variant_says_who_called_and_how_much_they_got(stage: Arc<Stage>) {
    let collector = Collector::start().await;
    // The hash of "secret".
    let keys = "auth.api_keys = [{ id = \"ci\", sha256 = \
                \"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\", roles = [] }]";
    let settings = collector.settings(&format!("tracing.middleware = \"enhanced\"\n{keys}"));
    let mut shop = Shop::open_with(&stage, &settings).await;
    shop.start(&["trace-exporter"]);
    let front = Front::of(&shop).await;
    let request = front.client.post(front.url()).json(&json!({ "query": "{ __typename }" }));
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let request = request.header("x-api-key", "secret").header("traceparent", traceparent);
    assert_eq!(read(request).await.status, 200);
    let spans = collector.trace(TRACE, |spans| !named(spans, "POST /graphql").is_empty()).await;
    let request = one(&spans, "POST /graphql");
    assert_eq!(request.text("http.user_id"), "ci");
    let size = r#"{"data":{"__typename":"Query"}}"#.len();
    assert_eq!(request.attributes["http.response_size"], json!(size));
    assert!(!format!("{spans:?}").contains("secret"), "{spans:?}");
    front.ended().await;
    shop.close().await;
}
