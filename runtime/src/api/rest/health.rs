//! `/health` for people and dashboards, `/ready` for load balancers, `/livez` for restarts.
//!
//! All answer from the last round of the health loop, so none can hang. `/health` is 200 when
//! healthy or degraded and 503 when unhealthy, since simple checkers read only the status, and an
//! unhealthy server cannot serve. `/livez` looks at no dependency: restarting every server in a
//! database outage would make it longer.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;

use crate::api::Frame;
use crate::engine;
use crate::observability::health::UNHEALTHY;

#[derive(Debug, Serialize)]
struct Short {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

pub(super) fn router() -> Router<Arc<Frame>> {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).route("/livez", get(livez))
}

async fn health(State(frame): State<Arc<Frame>>) -> Response {
    let status = frame.health.latest();
    let code = if status.is_serving() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(status.public())).into_response()
}

/// A degraded server is ready: it has a fallback for what is away. One that ends is not.
async fn ready(State(frame): State<Arc<Frame>>) -> Response {
    let (code, status, reason) = if frame.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining", None)
    } else {
        let report = frame.health.latest();
        if report.is_serving() {
            (StatusCode::OK, "ready", None)
        } else {
            let schema = report.checks.get(engine::health::NAME);
            let missing = schema.is_some_and(|check| check.status == UNHEALTHY);
            (StatusCode::SERVICE_UNAVAILABLE, "not_ready", missing.then_some("schema not loaded"))
        }
    };
    (code, Json(Short { status, reason })).into_response()
}

async fn livez() -> Json<Short> {
    Json(Short { status: "alive", reason: None })
}
