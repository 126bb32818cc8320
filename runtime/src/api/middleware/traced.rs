//! What is told of a request to whoever collects traces. Built when the trace is exported, so that every other request
//! pays for a few clones.
//!
//! Names and attributes are those of the seed's tracing middleware (`http.method`, `http.route`, …). The query string is
//! in none of them.

use std::borrow::Cow;

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode};
use tokio::time::Instant;

use super::metrics::{CLIENT_CLOSED_REQUEST, is_ours};
use crate::ids::RequestId;
use crate::observability::logging::millis;
use crate::observability::trace::context::TraceContext;
use crate::observability::trace::{Attribute, Kind, Root, TraceHandle, Tracer, Value};

/// Ends the trace when it is dropped, which is also what happens to a request that nobody waits for.
pub(super) struct Traced {
    root: Option<Root>,
    told: Told,
}

/// What becomes attributes.
struct Told {
    id: RequestId,
    method: Method,
    route: Option<MatchedPath>,
    target: Option<PathAndQuery>,
    host: Option<HeaderValue>,
    started: Instant,
    status: u16,
    /// Bytes, where more is told than of every request.
    size: Option<u64>,
    enhanced: bool,
}

/// Begins the request's part of its trace; `None` costs nothing.
pub(super) fn begin(tracer: &Tracer, id: RequestId, request: &Request) -> Option<Traced> {
    let root = tracer.begin(Kind::Server, TraceContext::of_headers(request.headers()))?;
    let told = Told {
        id,
        method: request.method().clone(),
        route: request.extensions().get().cloned(),
        target: request.uri().path_and_query().cloned(),
        host: request.headers().get(HOST).cloned(),
        started: Instant::now(),
        status: CLIENT_CLOSED_REQUEST,
        size: None,
        enhanced: tracer.is_enhanced(),
    };
    Some(Traced { root: Some(root), told })
}

impl Traced {
    /// The trace, for those who refer to it.
    pub(super) fn handle(&self) -> Option<TraceHandle> {
        self.root.as_ref().map(Root::handle)
    }

    /// The future, whose spans belong to this request.
    pub(super) async fn within<F: Future>(&self, future: F) -> F::Output {
        match &self.root {
            Some(root) => root.within(future).await,
            None => future.await,
        }
    }

    /// There is an answer.
    pub(super) fn answered(&mut self, response: &Response) {
        self.told.status = response.status().as_u16();
        if self.told.enhanced {
            self.told.size = response.body().size_hint().exact();
        }
        if is_ours(response)
            && let Some(root) = &self.root
        {
            root.fail(if response.status() == StatusCode::OK { "GraphQL error" } else { "HTTP 5xx" });
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let (told, Some(root)) = (&self.told, self.root.take()) else { return };
        let trace_id = root.handle();
        root.end(|| told.describe(&trace_id));
    }
}

impl Told {
    fn describe(&self, trace: &TraceHandle) -> (Cow<'static, str>, Vec<Attribute>) {
        let route = super::route_name(self.route.as_ref());
        let path = self.target.as_ref().map_or("/", PathAndQuery::path);
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let mut attributes: Vec<Attribute> = vec![
            ("http.method", self.method.to_string().into()),
            ("http.route", route.to_owned().into()),
            ("http.target", path.to_owned().into()),
            ("http.url", format!("http://{host}{path}").into()),
            ("http.request_id", self.id.0.to_string().into()),
            ("http.trace_id", trace.id().into()),
            ("http.status_code", Value::Int(self.status.into())),
            ("http.duration_ms", Value::Float(millis(self.started.elapsed()))),
        ];
        if let Some(size) = self.size {
            attributes.push(("http.response_size", Value::Int(size.try_into().unwrap_or(i64::MAX))));
        }
        (Cow::Owned(format!("{} {route}", self.method)), attributes)
    }
}
