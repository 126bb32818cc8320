//! `/graphiql`: a page for trying operations, in development alone. It loads nothing from elsewhere, so it works without a
//! network and nobody else learns what is tried.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("script.js");
const STYLE: &str = include_str!("style.css");

/// What of the page may come from where: all of it from here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/graphiql", get(async || part("text/html; charset=utf-8", PAGE)))
        .route("/graphiql/script.js", get(async || part("text/javascript; charset=utf-8", SCRIPT)))
        .route("/graphiql/style.css", get(async || part("text/css; charset=utf-8", STYLE)))
}

fn part(content_type: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, content_type), (CONTENT_SECURITY_POLICY, POLICY)], text).into_response()
}
