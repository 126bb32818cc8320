//! How an error looks to an HTTP caller: the only `IntoResponse` of an error.
//!
//! The body is `{"error":{"code":…,"message":…}}`. The message is written for the caller; what
//! happened inside goes to the log at the place where it happened.

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::error::ErrorKind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: status(kind), code: kind.code(), message: message.into() }
    }

    /// With a code that says more than the kind does.
    pub fn coded(kind: ErrorKind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: status(kind), code, message: message.into() }
    }

    pub fn method_not_allowed() -> Self {
        let message = "the route exists, with another method".into();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "METHOD_NOT_ALLOWED", message }
    }

    /// Nobody knows who asks.
    pub fn unauthenticated() -> Self {
        let message = "a key is needed: Authorization: Bearer … or X-API-Key: …".into();
        Self { status: StatusCode::UNAUTHORIZED, code: "UNAUTHENTICATED", message }
    }

    /// Who asks may not.
    pub fn forbidden(role: &str) -> Self {
        let message = format!("the role {role} is needed").into();
        Self { status: StatusCode::FORBIDDEN, code: "FORBIDDEN", message }
    }

    /// What was to be changed is not in the version that the caller knows.
    pub fn precondition_failed(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::PRECONDITION_FAILED, code: "PRECONDITION_FAILED", message: message.into() }
    }

    /// `code` says of what there is too much.
    pub fn too_many(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::TOO_MANY_REQUESTS, code, message: message.into() }
    }

    pub fn too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes").into();
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, code: ErrorKind::BadInput.code(), message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The status of an answer that failed so.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::BadInput => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::IdempotencyConflict | ErrorKind::InvalidTransition => StatusCode::CONFLICT,
        ErrorKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Timeout
        | ErrorKind::Unavailable
        | ErrorKind::DatabaseBusy
        | ErrorKind::CircuitBreakerOpen
        | ErrorKind::ServiceDegraded => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_callers_status_and_everything_else_is_ours() {
        use ErrorKind::{
            BadInput, CircuitBreakerOpen, DatabaseBusy, IdempotencyConflict, Internal, InvalidTransition,
            NotFound, ServiceDegraded, Timeout, TooManyRequests, Unauthorized, Unavailable,
        };
        for kind in [
            BadInput,
            NotFound,
            Unauthorized,
            IdempotencyConflict,
            InvalidTransition,
            TooManyRequests,
            Timeout,
            Unavailable,
            DatabaseBusy,
            CircuitBreakerOpen,
            ServiceDegraded,
            Internal,
        ] {
            assert_eq!(status(kind).is_client_error(), kind.is_refusal(), "{kind:?}");
        }
    }
}
