//! Errors as Toxiproxy answers them: JSON under the content type of plain text.

use std::fmt::Display;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::proxy::Error;
use crate::toxic::WireError;

/// Why a request failed, and the status that says so.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: StatusCode,
    pub message: String,
}

impl Failure {
    pub fn body(reason: impl Display) -> Failure {
        Failure { status: StatusCode::BAD_REQUEST, message: format!("bad request body: {reason}") }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match &error {
            Error::Missing(_) | Error::Toxic(_) => StatusCode::BAD_REQUEST,
            Error::ProxyExists | Error::ToxicExists => StatusCode::CONFLICT,
            Error::ProxyNotFound | Error::ToxicNotFound => StatusCode::NOT_FOUND,
            Error::Listen { .. } | Error::Address(_) | Error::Stopped | Error::Protocol { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Failure { status, message: error.to_string() }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Failure {
        Error::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"error": self.message, "status": self.status.as_u16()});
        let mut response = (self.status, format!("{body}\n")).into_response();
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
