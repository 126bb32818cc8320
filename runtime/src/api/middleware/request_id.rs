//! Gives every request a name: the caller's `x-request-id` when it is a UUID, else a new one. It
//! is in the log lines of the request and in the answer.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::ids::RequestId;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub async fn assign(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| RequestId(Uuid::new_v4()));
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is ASCII");
    response.headers_mut().insert(X_REQUEST_ID, value);
    response
}
