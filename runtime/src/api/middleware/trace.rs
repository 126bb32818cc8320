//! The span of a request, and its line in the log. Neither the query string nor the path that the caller typed is in
//! it.
//!
//! The line is written when the request has ended, for those that the setting names, and called `close`: it is what the
//! subscriber writes of a span that closes.

use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use tokio::time::Instant;
use tracing::{Span, record_all};
use uuid::Uuid;

use super::metrics::{CLIENT_CLOSED_REQUEST, is_ours};
use crate::api::AccessLog;
use crate::config::logging::Access;
use crate::ids::RequestId;
use crate::observability::logging::{millis, request_span};
use crate::observability::trace::{TraceHandle, is_drawn};

/// Ends the span when it is dropped, which is also what happens to a request that nobody waits for.
pub(super) struct Ending {
    log: AccessLog,
    id: RequestId,
    span: Span,
    trace: Option<TraceHandle>,
    route: Option<MatchedPath>,
    started: Instant,
    status: u16,
    ours: bool,
}

/// Begins the span of a request.
pub(super) fn begin(log: AccessLog, id: RequestId, trace: Option<TraceHandle>, request: &Request) -> Ending {
    let mut text = Uuid::encode_buffer();
    let span = request_span(
        id.0.hyphenated().encode_lower(&mut text),
        super::method(request),
        super::route(request),
    );
    let route = request.extensions().get().cloned();
    Ending {
        log,
        id,
        span,
        trace,
        route,
        started: Instant::now(),
        status: CLIENT_CLOSED_REQUEST,
        ours: false,
    }
}

impl Ending {
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// There is an answer.
    pub(super) fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        self.ours = is_ours(response);
        let (endpoint, duration) = (super::route_name(self.route.as_ref()), millis(self.started.elapsed()));
        tracing::debug!(endpoint, status = self.status, duration, "Request processed");
    }
}

impl Ending {
    /// Whether the request is one of the share that is a line. A trace that is exported has its line.
    fn is_sampled(&self) -> bool {
        let id = self.trace.as_ref().map_or_else(|| self.id.0.as_u128(), TraceHandle::trace_id);
        self.log.access == Access::All
            && (is_drawn(id, self.log.sample_rate) || self.trace.as_ref().is_some_and(TraceHandle::is_kept))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if is_logged(self.log, self.status, self.ours, took) || self.is_sampled() {
            match &self.trace {
                Some(trace) => {
                    record_all!(
                        self.span,
                        status = self.status,
                        duration_ms = millis(took),
                        trace_id = trace.id()
                    );
                }
                None => record_all!(self.span, status = self.status, duration_ms = millis(took)),
            }
            self.span.in_scope(|| tracing::info!("close"));
        }
    }
}

/// Whether the request is one that the setting names, whatever share of the others is a line.
fn is_logged(log: AccessLog, status: u16, ours: bool, took: Duration) -> bool {
    match log.access {
        Access::All | Access::ErrorsAndSlow => ours || status >= 400 || took >= log.slow_request_threshold,
        Access::Failures => ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_names_the_requests_that_are_logged() {
        let (quick, slow) = (Duration::from_millis(999), Duration::from_secs(1));
        let logged = |access, status, ours, took| {
            let log = AccessLog { access, sample_rate: 0.0, slow_request_threshold: slow };
            is_logged(log, status, ours, took)
        };
        for (status, ours, took, errors_and_slow, failures) in [
            (200, false, quick, false, false),
            (200, false, slow, true, false),
            (200, true, quick, true, true),
            (404, false, quick, true, false),
            (CLIENT_CLOSED_REQUEST, false, quick, true, false),
            (503, true, quick, true, true),
        ] {
            for access in [Access::All, Access::ErrorsAndSlow] {
                assert_eq!(logged(access, status, ours, took), errors_and_slow, "{status} {took:?}");
            }
            assert_eq!(logged(Access::Failures, status, ours, took), failures, "{status} {took:?}");
        }
    }
}
