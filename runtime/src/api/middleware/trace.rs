//! The span of a request, which is one log line when it closes. Neither the query string nor the
//! path that the caller typed is in it.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::Instrument;

use crate::ids::RequestId;
use crate::observability::logging::request_span;

pub async fn trace(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
    let endpoint = super::route(&request).to_owned();
    let span = request_span(&id, super::method(&request), &endpoint);
    let started = Instant::now();
    let response = next.run(request).instrument(span.clone()).await;
    let (status, duration_ms) = (response.status().as_u16(), started.elapsed().as_secs_f64() * 1e3);
    span.record("status", status);
    span.record("duration_ms", duration_ms);
    span.in_scope(|| tracing::debug!(endpoint, status, duration = duration_ms, "Request processed"));
    response
}
