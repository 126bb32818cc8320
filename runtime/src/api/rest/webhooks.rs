//! `POST /webhooks/{name}`: what others tell us.
//!
//! 200 `{"id": …, "state": …}` when the event is kept and done with, 202 when it is kept and handled later; the sender
//! need not send it again. 400 for what is not signed as it should be, with a code that says why; 404 for a name that is
//! none; 503 with `Retry-After` when it could not be kept.

use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::api::error::ApiError;
use crate::api::middleware::gate::Pass;
use crate::app_state::AppState;
use crate::error::Classify;
use crate::security::monitor::{SecurityEvent, SecurityMonitor};
use crate::webhooks::{Delivery, Error, State as EventState, Webhooks};

const PATH: &str = "/webhooks/{name}";

/// Routes whose series exist from the start.
pub const ROUTES: [(&str, &str); 1] = [("POST", PATH)];

/// When a sender may try again what could not be kept.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

#[derive(Clone)]
struct Shared {
    webhooks: Webhooks,
    monitor: SecurityMonitor,
}

/// The route with its state.
pub fn router(state: &AppState) -> Router {
    let shared = Shared { webhooks: state.webhooks.clone(), monitor: state.monitor.clone() };
    Router::new().route(PATH, post(receive)).with_state(shared)
}

async fn receive(
    State(Shared { webhooks, monitor }): State<Shared>,
    Path(name): Path<String>,
    pass: Option<Extension<Pass>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(names) = webhooks.headers(&name) else {
        return refusal(&Error::Unknown(name));
    };
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let delivery =
        Delivery { signature: text(names.signature), kind: names.kind.and_then(text), body: &body };
    let taken = match webhooks.receive(&name, delivery).await {
        Ok(taken) => taken,
        Err(error) => {
            if matches!(error, Error::Unsigned(_) | Error::Signature(_) | Error::Time(_)) {
                let client = pass.as_ref().map(|Extension(pass)| pass.client());
                monitor.record(SecurityEvent::AuthFailure, client);
            }
            return refusal(&error);
        }
    };
    let status = match taken.state {
        EventState::Waiting => StatusCode::ACCEPTED,
        EventState::Done | EventState::Ignored | EventState::Dead => StatusCode::OK,
    };
    (status, Json(json!({ "id": taken.id, "state": taken.state.name() }))).into_response()
}

fn refusal(error: &Error) -> Response {
    let mut response = ApiError::coded(error.kind(), error.code(), error.to_string()).into_response();
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response
}
