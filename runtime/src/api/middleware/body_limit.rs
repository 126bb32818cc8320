//! Refuses a body that says it is too large before a byte of it is read. One that lies or does
//! not say is cut by the extractor's own limit.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_LENGTH;

use crate::api::Frame;
use crate::api::error::ApiError;

pub async fn refuse_large(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    let bytes_max = frame.limits.body_bytes_max;
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse::<usize>().ok()).is_some_and(|length| length > bytes_max) {
        return ApiError::too_large(bytes_max).into_response();
    }
    next.run(request).await
}
