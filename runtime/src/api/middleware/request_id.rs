//! Gives every request a name: the caller's `x-request-id` when it is a UUID, else a new one. It
//! is in the log lines of the request and in the answer.

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::ids::RequestId;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names the request.
pub(super) fn assign(request: &mut Request) -> RequestId {
    let given = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| RequestId(Uuid::new_v4()));
    request.extensions_mut().insert(id);
    id
}

/// Tells the caller.
pub(super) fn tell(id: RequestId, response: &mut Response) {
    let mut text = Uuid::encode_buffer();
    let text = id.0.hyphenated().encode_lower(&mut text);
    let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes()));
    response.headers_mut().insert(X_REQUEST_ID, value.expect("a UUID is ASCII"));
}
