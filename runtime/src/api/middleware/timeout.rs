//! A request that takes longer than the limit is given up and answered with 503. What it asked
//! for may have happened.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api::Frame;
use crate::api::error::ApiError;
use crate::error::{Classify, chain};
use crate::resilience::timeout::within;

pub async fn give_up_late(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    match within("answer the request", frame.limits.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(elapsed) => {
            tracing::warn!(error = chain(&elapsed), "request given up");
            ApiError::new(elapsed.kind(), "no answer in time; it may have been done").into_response()
        }
    }
}
