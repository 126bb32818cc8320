//! Counts and times every request, by the matched route.
//!
//! A caller who hangs up before the answer is counted with status 499, so that an overloaded
//! server does not look idle.

use axum::extract::Request;
use axum::response::Response;
use tokio::time::Instant;

use crate::observability::metrics::{ExemplarLabels, HttpMetrics, RequestLabels, RouteLabels};
use crate::observability::trace::TraceHandle;

/// A handler puts this on an answer of 200 that tells of an error of ours, as GraphQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsError;

/// nginx's word for a request whose caller is gone.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Counts when it is dropped, which is also what happens to a request that nobody waits for.
pub struct Measured<'a> {
    http: &'a HttpMetrics,
    route: RouteLabels,
    trace: Option<TraceHandle>,
    started: Instant,
    status: u16,
    ours: bool,
}

/// Begins to measure a request.
pub fn begin<'a>(http: &'a HttpMetrics, trace: Option<TraceHandle>, request: &Request) -> Measured<'a> {
    let route = RouteLabels { method: super::method(request), path: super::route(request).into() };
    Measured { http, route, trace, started: Instant::now(), status: CLIENT_CLOSED_REQUEST, ours: false }
}

impl Measured<'_> {
    /// There is an answer.
    pub fn answered(&mut self, response: &Response) {
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
        let exemplar = self.trace.as_ref().filter(|trace| self.ours || trace.is_kept());
        let exemplar = exemplar.map(|trace| ExemplarLabels { trace_id: trace.id() });
        let took = self.started.elapsed().as_secs_f64();
        self.http.duration.get_or_create(&self.route).observe(took, exemplar, None);
        if self.ours {
            self.http.errors.get_or_create(&self.route).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::response::IntoResponse;
    use http::{Method, StatusCode};

    use super::*;
    use crate::observability::metrics::Metrics;

    fn request(method: &str) -> Request {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        Request::builder().method(method).uri("/typed/by/the/caller").body(Body::empty()).expect("a request")
    }

    fn measure(method: &str, answer: Option<Response>) -> String {
        let metrics = Metrics::new();
        let http = metrics.area(HttpMetrics::register);
        let mut measured = begin(&http, None, &request(method));
        if let Some(answer) = answer {
            measured.answered(&answer);
        }
        drop(measured);
        metrics.classic()
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|told| told == line)
    }

    const LABELS: &str = "method=\"GET\",path=\"unmatched\"";

    #[test]
    fn an_answer_is_counted_once_under_its_status() {
        let text = measure("GET", Some(StatusCode::NOT_FOUND.into_response()));
        assert!(has(&text, &format!("http_requests_total{{{LABELS},status=\"404\"}} 1")), "{text}");
        assert_eq!(text.matches("\nhttp_requests_total{").count(), 1);
    }

    #[test]
    fn its_duration_is_counted_once() {
        let text = measure("GET", Some("fine".into_response()));
        assert!(has(&text, &format!("http_request_duration_seconds_count{{{LABELS}}} 1")), "{text}");
    }

    #[test]
    fn a_caller_who_left_is_499_and_no_error_of_ours() {
        let text = measure("GET", None);
        assert!(has(&text, &format!("http_requests_total{{{LABELS},status=\"499\"}} 1")), "{text}");
        assert!(!text.contains("\nfraiseql_errors_total{"), "{text}");
    }

    #[test]
    fn a_5xx_is_an_error_of_ours_and_a_4xx_is_not() {
        let text = measure("GET", Some(StatusCode::BAD_GATEWAY.into_response()));
        assert!(has(&text, &format!("fraiseql_errors_total{{{LABELS}}} 1")), "{text}");
        let text = measure("GET", Some(StatusCode::BAD_REQUEST.into_response()));
        assert!(!text.contains("\nfraiseql_errors_total{"), "{text}");
    }

    #[test]
    fn an_answer_of_200_may_tell_of_an_error_of_ours() {
        let mut answer = "{\"errors\":[]}".into_response();
        answer.extensions_mut().insert(MetricsError);
        let text = measure("GET", Some(answer));
        assert!(has(&text, &format!("fraiseql_errors_total{{{LABELS}}} 1")), "{text}");
    }

    #[test]
    fn neither_the_path_nor_an_invented_method_is_a_label() {
        let text = measure("BREW", Some("tea".into_response()));
        assert!(!text.contains("typed") && !text.contains("BREW"), "{text}");
        assert!(
            has(&text, "http_requests_total{method=\"other\",path=\"unmatched\",status=\"200\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn every_alias_shows_the_same() {
        let text = measure("GET", Some("fine".into_response()));
        let of = |name: &str| {
            let lines = text.lines().filter_map(|line| line.strip_prefix(name));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        for alias in ["fraiseql_requests_total", "xzepr_http_requests_total"] {
            assert_eq!(of(alias), of("http_requests_total"));
        }
        for alias in ["fraiseql_request_duration_seconds", "xzepr_http_request_duration_seconds"] {
            assert_eq!(of(alias), of("http_request_duration_seconds"));
        }
        assert_eq!(of("xzepr_active_connections"), of("http_connections_active"));
        assert!(of("http_requests_total").len() == 1 && of("http_request_duration_seconds").len() > 14);
    }
}
