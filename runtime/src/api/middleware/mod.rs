//! One layer per file; their order is in [`super::router`].

pub mod body_limit;
pub mod catch_panic;
pub mod compression;
pub mod metrics;
pub mod request_id;
pub mod security_headers;
pub mod timeout;
pub mod trace;

use axum::extract::{MatchedPath, Request};

/// The route as it is written in the router: a set that callers cannot extend.
fn route(request: &Request) -> &str {
    request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str)
}

/// The method as a label: callers may invent methods, labels may not grow.
fn method(request: &Request) -> &'static str {
    match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
