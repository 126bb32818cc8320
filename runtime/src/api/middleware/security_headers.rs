//! Puts the security headers on every answer; outermost, so that no other layer's answer misses them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::api::Frame;

pub async fn add(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    frame.headers.apply(response.headers_mut());
    response
}
