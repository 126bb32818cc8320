//! The routes that are not GraphQL; one resource per file, each with its own `router`.

pub mod admin;
pub mod health;
pub mod metrics;
pub mod webhooks;

use std::sync::Arc;

use axum::Router;

use super::Frame;

/// Routes whose series exist from the start. A test compares it with what the router answers.
pub(super) const ROUTES: [(&str, &str); 5] =
    [("GET", "/health"), ("GET", "/livez"), ("GET", "/metrics"), ("GET", "/ready"), ("POST", "/graphql")];

pub(super) fn router(frame: Arc<Frame>) -> Router {
    let routes = Router::new().merge(health::router());
    let routes = if frame.measures { routes.merge(metrics::router()) } else { routes };
    routes.with_state(frame)
}
