//! Refuses a body that says it is too large before a byte of it is read. One that lies or does
//! not say is cut by the extractor's own limit.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_LENGTH;

use crate::api::error::ApiError;

/// The refusal of a body of more than `bytes_max` bytes.
pub(super) fn refuse_large(bytes_max: usize, request: &Request) -> Option<Response> {
    let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse::<usize>().ok()?;
    (length > bytes_max).then(|| ApiError::too_large(bytes_max).into_response())
}
