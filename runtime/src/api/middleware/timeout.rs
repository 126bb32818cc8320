//! A request that takes longer than the limit is given up and answered with 503. What it asked
//! for may have happened.

use std::time::Duration;

use axum::response::{IntoResponse, Response};

use crate::api::error::ApiError;
use crate::error::{Classify, chain};
use crate::resilience::timeout::within;

/// The answer, or 503 when there was none within `limit`.
pub(super) async fn give_up_late(limit: Duration, answer: impl Future<Output = Response>) -> Response {
    match within("answer the request", limit, answer).await {
        Ok(response) => response,
        Err(elapsed) => {
            tracing::warn!(error = chain(&elapsed), "request given up");
            ApiError::new(elapsed.kind(), "no answer in time; it may have been done").into_response()
        }
    }
}
