//! A collector of traces: takes OTLP over gRPC, decodes it and keeps every span.

use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span as Message;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::eventually;

/// A span as it came over the wire.
#[derive(Debug, Clone)]
pub struct Span {
    /// Hexadecimal, as the other ids.
    pub trace: String,
    pub id: String,
    /// Empty for one without a parent.
    pub parent: String,
    pub name: String,
    pub kind: i32,
    pub attributes: Map<String, Value>,
    /// What went wrong.
    pub error: Option<String>,
    pub start: u64,
    pub end: u64,
}

/// The collector.
pub struct Collector {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Seen {
    spans: Vec<Span>,
    resources: Vec<Map<String, Value>>,
}

struct Service(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock();
        for of_resource in request.into_inner().resource_spans {
            seen.resources.push(attributes(&of_resource.resource.unwrap_or_default().attributes));
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.spans.extend(spans.map(read));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), CancellationToken::new());
        let service = TraceServiceServer::new(Service(seen.clone()));
        let end = stop.clone();
        tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            let incoming = TcpIncoming::from(listener);
            server.serve_with_incoming_shutdown(incoming, async move { end.cancelled().await }).await
        });
        Self { address, seen, stop }
    }

    /// The settings of a server that sends its traces here.
    pub fn settings(&self, more: &str) -> String {
        let address = self.address;
        format!(
            "tracing.enabled = true\ntracing.jaeger_endpoint = \"http://{address}\"\ntracing.interval = \"10ms\"\n{more}"
        )
    }

    pub fn spans(&self) -> Vec<Span> {
        self.seen.lock().spans.clone()
    }

    /// What the senders say about themselves.
    pub fn resources(&self) -> Vec<Map<String, Value>> {
        self.seen.lock().resources.clone()
    }

    /// The spans of a trace, once `is_there` is content with them.
    pub async fn trace(&self, trace: &str, is_there: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        eventually("the trace arrives", async || {
            let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            if is_there(&spans) {
                return Ok(spans);
            }
            Err(format!("{:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>()))
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Span {
    /// For people.
    pub fn json(&self) -> Value {
        let kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"];
        json!({
            "traceId": self.trace,
            "spanId": self.id,
            "parentSpanId": self.parent,
            "name": self.name,
            "kind": kinds.get(usize::try_from(self.kind).unwrap_or_default()),
            "startTimeUnixNano": self.start.to_string(),
            "durationMicros": (self.end - self.start) / 1000,
            "attributes": self.attributes,
            "error": self.error,
        })
    }

    pub fn text(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).and_then(Value::as_str).unwrap_or_default()
    }
}

fn read(span: Message) -> Span {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let status = span.status.unwrap_or_default();
    Span {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind: span.kind,
        attributes: attributes(&span.attributes),
        error: (status.code == 2).then_some(status.message),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
    }
}

fn attributes(given: &[KeyValue]) -> Map<String, Value> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::DoubleValue(number)) => json!(number),
        Some(any_value::Value::BoolValue(flag)) => json!(flag),
        other => panic!("{} has a value that nobody sends: {other:?}", attribute.key),
    };
    given.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}
