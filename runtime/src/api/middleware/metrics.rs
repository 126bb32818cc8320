//! Counts and times every request, by the matched route.
//!
//! A caller who hangs up before the answer is counted with status 499, so that an overloaded
//! server does not look idle.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;

use crate::api::Frame;
use crate::observability::metrics::{HttpMetrics, RequestLabels, RouteLabels};

/// A handler puts this on an answer of 200 that tells of an error of ours, as GraphQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsError;

/// nginx's word for a request whose caller is gone.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

pub async fn count(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    let route = RouteLabels { method: super::method(&request), path: super::route(&request).into() };
    let mut measured = Measured {
        http: &frame.http,
        route,
        started: Instant::now(),
        status: CLIENT_CLOSED_REQUEST,
        ours: false,
    };
    let response = next.run(request).await;
    measured.status = response.status().as_u16();
    measured.ours =
        response.status().is_server_error() || response.extensions().get::<MetricsError>().is_some();
    response
}

/// Counts when it is dropped, which is also what happens to a request that nobody waits for.
struct Measured<'a> {
    http: &'a HttpMetrics,
    route: RouteLabels,
    started: Instant,
    status: u16,
    ours: bool,
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let RouteLabels { method, path } = self.route.clone();
        self.http.requests.get_or_create(&RequestLabels { method, path, status: self.status }).inc();
        self.http.duration.get_or_create(&self.route).observe(self.started.elapsed().as_secs_f64());
        if self.ours {
            self.http.errors.get_or_create(&self.route).inc();
        }
    }
}
