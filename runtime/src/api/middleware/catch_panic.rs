//! A panic in a handler answers 500 and nothing else dies. The panic's words go to the log only.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::response::{IntoResponse, Response};
use futures::FutureExt;

use crate::api::error::ApiError;
use crate::error::ErrorKind;

/// The answer, or 500 for one that panics.
pub(super) async fn caught(answer: impl Future<Output = Response>) -> Response {
    // What a handler shares with others is behind locks that do not poison, and is whole after each call.
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|panic| answer_to(&*panic))
}

fn answer_to(panic: &(dyn Any + Send)) -> Response {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = words, "a handler panicked");
    ApiError::new(ErrorKind::Internal, "internal error, see the log under this request id").into_response()
}
