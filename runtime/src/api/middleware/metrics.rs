//! Counts and times every request, by the matched route.
//!
//! A caller who hangs up before the answer is counted with status 499, so that an overloaded
//! server does not look idle.

use axum::extract::Request;
use axum::response::Response;
use tokio::time::Instant;

use crate::observability::metrics::{HttpMetrics, RequestLabels, RouteLabels};

/// A handler puts this on an answer of 200 that tells of an error of ours, as GraphQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsError;

/// nginx's word for a request whose caller is gone.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts when it is dropped, which is also what happens to a request that nobody waits for.
pub(super) struct Measured<'a> {
    http: &'a HttpMetrics,
    route: RouteLabels,
    started: Instant,
    status: u16,
    ours: bool,
}

/// Begins to measure a request.
pub(super) fn begin<'a>(http: &'a HttpMetrics, request: &Request) -> Measured<'a> {
    let route = RouteLabels { method: super::method(request), path: super::route(request).into() };
    Measured { http, route, started: Instant::now(), status: CLIENT_CLOSED_REQUEST, ours: false }
}

impl Measured<'_> {
    /// There is an answer.
    pub(super) fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        self.ours = is_ours(response);
    }
}

/// Whether the answer tells of an error of ours.
pub(super) fn is_ours(response: &Response) -> bool {
    response.status().is_server_error() || response.extensions().get::<MetricsError>().is_some()
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
