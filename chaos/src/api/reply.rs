//! Answers, with the content types that Toxiproxy gives them.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::error::Failure;
use crate::json::Json;

const PLAIN: &str = "text/plain; charset=utf-8";

/// A body that is sent: all of it at once, or as it comes.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Stream(Body),
}

impl Reply {
    pub fn new(status: u16, content_type: &str, body: impl Into<String>) -> Reply {
        Reply {
            status,
            headers: vec![(CONTENT_TYPE, content_type.to_owned())],
            body: Content::Text(body.into()),
        }
    }

    pub fn json(status: u16, body: &Json) -> Reply {
        Reply::new(status, "application/json", body.to_string())
    }

    /// Neither a body nor the type of one.
    pub fn empty(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: Content::Text(String::new()) }
    }

    /// Server-sent events, until `body` ends.
    pub fn event_stream(body: Body) -> Reply {
        Reply { body: Content::Stream(body), ..Reply::new(200, "text/event-stream", "") }
            .with(CACHE_CONTROL, "no-store")
    }

    /// One line of text for people.
    pub fn plain(status: u16, line: &str) -> Reply {
        Reply::new(status, PLAIN, format!("{line}\n")).with(X_CONTENT_TYPE_OPTIONS, "nosniff")
    }

    /// JSON under the content type of plain text, as Toxiproxy has it.
    pub fn failure(failure: &Failure) -> Reply {
        Reply::plain(failure.status, &failure_fields(failure).to_string())
    }

    pub fn moved(location: String) -> Reply {
        Reply::empty(301).with(LOCATION, location)
    }

    pub fn timed_out() -> Reply {
        let body = "<html><head><title>Timeout</title></head><body><h1>Timeout</h1></body></html>";
        Reply::new(503, "text/html; charset=utf-8", body)
    }

    pub fn unauthorised() -> Reply {
        let message = "missing or wrong token: send the header `Authorization: Bearer TOKEN`".to_owned();
        Reply::failure(&Failure { status: 401, message }).with(WWW_AUTHENTICATE, "Bearer")
    }

    pub fn with(mut self, name: HeaderName, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub fn into_response(self) -> Response<Body> {
        let body = match self.body {
            Content::Text(text) => Full::new(Bytes::from(text)).boxed_unsync(),
            Content::Stream(body) => body,
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// `{"error":…,"status":…}`
pub(super) fn failure_fields(failure: &Failure) -> Json {
    Json::object([("error", failure.message.as_str().into()), ("status", i64::from(failure.status).into())])
}
