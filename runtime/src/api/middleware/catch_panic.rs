//! A panic in a handler answers 500 and nothing else dies. The panic's words go to the log only.

use std::any::Any;

use axum::response::{IntoResponse, Response};

use crate::api::error::ApiError;
use crate::error::ErrorKind;

pub fn answer(panic: Box<dyn Any + Send + 'static>) -> Response {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = words, "a handler panicked");
    ApiError::new(ErrorKind::Internal, "internal error, see the log under this request id").into_response()
}
