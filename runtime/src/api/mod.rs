//! The only code that knows HTTP: routes, the layers around them, and how an error looks outside.
//!
//! [`middleware::frame`] shows what happens around a request, in its order. Handlers take extractors and call one service; they
//! hold no SQL and no policy. No route asks a dependency how it is: health is a cached report.

pub mod connection;
pub mod error;
pub mod graphql;
pub mod middleware;
pub mod rest;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRef};
use axum::{Router, middleware as layer};
use tokio_util::sync::CancellationToken;

use self::error::ApiError;
use self::middleware::gate::Gate;
use crate::app_state::AppState;
use crate::config::Config;
use crate::config::logging::Access;
use crate::error::ErrorKind;
use crate::observability::health::HealthReport;
use crate::observability::metrics::{HttpMetrics, Metrics};
use crate::observability::trace::Tracer;
use crate::security::headers::SecurityHeaders;

/// What the routes and layers of the frame share.
#[derive(Clone)]
pub struct Frame {
    pub health: HealthReport,
    pub metrics: Metrics,
    pub http: HttpMetrics,
    /// Cancelled when the server has begun to end: `/ready` says so.
    pub draining: CancellationToken,
    pub limits: Limits,
    pub headers: SecurityHeaders,
    pub access_log: AccessLog,
    /// Who comes in; without one everybody does.
    pub gate: Option<Gate>,
    pub tracer: Tracer,
    /// Whether requests are measured, and `/metrics` is there.
    pub measures: bool,
}

/// Which requests are a line in the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AccessLog {
    pub access: Access,
    /// Of those that only [`Access::All`] names.
    pub sample_rate: f64,
    pub slow_request_threshold: Duration,
}

/// What one request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub request_timeout: Duration,
    pub body_bytes_max: usize,
}

impl Frame {
    /// Registers the HTTP families in `metrics`, so one frame per registry.
    pub fn new(config: &Config, metrics: Metrics, health: HealthReport, draining: CancellationToken) -> Self {
        let limits = Limits {
            request_timeout: config.server.request_timeout,
            body_bytes_max: usize::try_from(config.server.max_body.as_u64()).unwrap_or(usize::MAX),
        };
        let access_log = AccessLog {
            access: config.logging.access,
            sample_rate: config.logging.sample_rate,
            slow_request_threshold: config.logging.slow_request_threshold,
        };
        let http = metrics.area(HttpMetrics::register);
        Self {
            health,
            metrics,
            http,
            draining,
            limits,
            headers: SecurityHeaders::new(config.mode),
            access_log,
            gate: None,
            tracer: Tracer::off(),
            measures: config.metrics.enabled,
        }
    }

    /// Requests become traces.
    #[must_use]
    pub fn traced(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// With what decides who comes in.
    #[must_use]
    pub fn with_gate(self, gate: Option<Gate>) -> Self {
        Self { gate, ..self }
    }
}

impl FromRef<Arc<Frame>> for Metrics {
    fn from_ref(frame: &Arc<Frame>) -> Self {
        frame.metrics.clone()
    }
}

/// The routes of the product, with their state.
pub fn product(state: &AppState) -> Router {
    graphql::router(state).merge(rest::admin::router(state)).merge(rest::webhooks::router(state))
}

/// The whole HTTP surface: `routes` of the product, with their state, and the frame's own.
pub fn router(frame: Frame, routes: Router) -> Router {
    let frame = Arc::new(frame);
    let ours = rest::ROUTES.into_iter().chain(rest::admin::ROUTES).chain(rest::webhooks::ROUTES);
    for (method, path) in ours.chain(graphql::ROUTES) {
        frame.http.expect_route(method, path);
    }
    routes
        .merge(rest::router(frame.clone()))
        .fallback(|| async { ApiError::new(ErrorKind::NotFound, "no such route") })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(DefaultBodyLimit::max(frame.limits.body_bytes_max))
        .layer(layer::from_fn_with_state(frame, middleware::frame))
}
