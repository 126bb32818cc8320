//! Traces as messages of OTLP. Pure. Texts are masked as those of the log are.

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span as Message, SpanFlags, Status};
use tokio::time::Instant;

use super::Attribute;
use super::record::{Finished, Kind, Span, Value};
use crate::config::tracing::Tracing;
use crate::observability::masking::mask;

/// Who says it.
pub(super) fn resource(config: &Tracing) -> Resource {
    let attributes = [
        ("service.name", &config.service_name),
        ("service.version", &config.service_version),
        ("deployment.environment.name", &config.environment),
    ];
    let attributes = attributes.map(|(key, text)| attribute(&(key, Value::from(text.clone()))));
    Resource { attributes: attributes.into(), ..Resource::default() }
}

/// One message with all spans of these traces.
pub(super) fn request(resource: &Resource, traces: Vec<Finished>) -> ExportTraceServiceRequest {
    let scope =
        InstrumentationScope { name: env!("CARGO_PKG_NAME").to_owned(), ..InstrumentationScope::default() };
    let spans = traces.iter().flat_map(|trace| trace.spans.iter().map(|span| message(trace, span))).collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(resource.clone());
    let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }
}

fn message(trace: &Finished, span: &Span) -> Message {
    let parent = if span.parent == 0 { Vec::new() } else { span.parent.to_be_bytes().to_vec() };
    let status = span.failed.map(|why| Status { message: why.to_owned(), code: StatusCode::Error.into() });
    let sampled = 1;
    let flags = sampled | SpanFlags::ContextHasIsRemoteMask as u32;
    Message {
        trace_id: trace.trace_id.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        trace_state: trace.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: parent,
        flags,
        name: mask(&span.name).into_owned(),
        kind: kind(span.kind).into(),
        start_time_unix_nano: nanos(trace, span.started),
        end_time_unix_nano: nanos(trace, span.ended.unwrap_or(trace.ended)),
        attributes: span.attributes.iter().map(attribute).collect(),
        status: Some(status.unwrap_or_default()),
        ..Message::default()
    }
}

/// A moment by the wall clock: before the end by as much as the monotonic clock says.
fn nanos(trace: &Finished, at: Instant) -> u64 {
    let end = unix_nanos(trace.ended_utc);
    let before = trace.ended.saturating_duration_since(at).as_nanos();
    let after = at.saturating_duration_since(trace.ended).as_nanos();
    u64::try_from(end.saturating_sub(before).saturating_add(after)).unwrap_or(u64::MAX)
}

fn unix_nanos(at: DateTime<Utc>) -> u128 {
    let seconds = u128::try_from(at.timestamp()).unwrap_or_default();
    seconds * 1_000_000_000 + u128::from(at.timestamp_subsec_nanos())
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
    }
}

fn attribute((key, value): &Attribute) -> KeyValue {
    let value = match value {
        Value::Text(text) => any_value::Value::StringValue(mask(text).into_owned()),
        Value::Shared(text) => any_value::Value::StringValue(mask(text).into_owned()),
        Value::Int(number) => any_value::Value::IntValue(*number),
        Value::Float(number) => any_value::Value::DoubleValue(*number),
        Value::Flag(flag) => any_value::Value::BoolValue(*flag),
    };
    KeyValue { key: (*key).to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
