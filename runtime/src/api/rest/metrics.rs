//! `/metrics`: the classic Prometheus text, or OpenMetrics for a scraper that asks for it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::api::Frame;
use crate::observability::exposition::{CLASSIC, OPEN_METRICS};
use crate::observability::metrics::Metrics;

pub(super) fn router() -> Router<Arc<Frame>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], metrics.open_metrics()).into_response()
    } else {
        ([(CONTENT_TYPE, CLASSIC)], metrics.classic()).into_response()
    }
}
