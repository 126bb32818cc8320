//! The span of a request, and its line in the log. Neither the query string nor the path that the caller typed is in
//! it.
//!
//! With `logging.access = "all"` the line is written when the span closes; else only for the requests that the setting
//! names, by an event that reads the same.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::metrics::{CLIENT_CLOSED_REQUEST, MetricsError};
use crate::api::{AccessLog, Frame};
use crate::config::logging::Access;
use crate::ids::RequestId;
use crate::observability::logging::request_span;

pub async fn trace(State(frame): State<Arc<Frame>>, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
    let endpoint = super::route(&request).to_owned();
    let span = request_span(&id, super::method(&request), &endpoint);
    let log = frame.access_log;
    let mut ending =
        Ending { log, span, started: Instant::now(), status: CLIENT_CLOSED_REQUEST, ours: false };
    let response = next.run(request).instrument(ending.span.clone()).await;
    ending.status = response.status().as_u16();
    ending.ours =
        response.status().is_server_error() || response.extensions().get::<MetricsError>().is_some();
    ending.span.in_scope(|| {
        let duration_ms = millis(ending.started.elapsed());
        tracing::debug!(endpoint, status = ending.status, duration = duration_ms, "Request processed");
    });
    response
}

/// Ends the span when it is dropped, which is also what happens to a request that nobody waits for.
struct Ending {
    log: AccessLog,
    span: Span,
    started: Instant,
    status: u16,
    ours: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.span.record("status", self.status);
        self.span.record("duration_ms", millis(took));
        if writes_own_line(self.log, self.status, self.ours, took) {
            self.span.in_scope(|| tracing::info!("close"));
        }
    }
}

/// Whether the request is one that the setting names; with `all` the closing span is the line.
fn writes_own_line(log: AccessLog, status: u16, ours: bool, took: Duration) -> bool {
    match log.access {
        Access::All => false,
        Access::ErrorsAndSlow => ours || status >= 400 || took >= log.slow_request_threshold,
        Access::Failures => ours,
    }
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_names_the_requests_that_are_logged() {
        let (quick, slow) = (Duration::from_millis(999), Duration::from_secs(1));
        let logged = |access, status, ours, took| {
            writes_own_line(AccessLog { access, slow_request_threshold: slow }, status, ours, took)
        };
        for (status, ours, took, errors_and_slow, failures) in [
            (200, false, quick, false, false),
            (200, false, slow, true, false),
            (200, true, quick, true, true),
            (404, false, quick, true, false),
            (CLIENT_CLOSED_REQUEST, false, quick, true, false),
            (503, true, quick, true, true),
        ] {
            assert!(!logged(Access::All, status, ours, took), "the span is the line");
            assert_eq!(
                logged(Access::ErrorsAndSlow, status, ours, took),
                errors_and_slow,
                "{status} {took:?}"
            );
            assert_eq!(logged(Access::Failures, status, ours, took), failures, "{status} {took:?}");
        }
    }
}
