//! Compresses answers for callers that take gzip. Short ones cost more than they save, and events must leave at once.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use http::header::ACCEPT_ENCODING;
use tower::{Service, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Answers of fewer bytes stay as they are.
const BYTES_MIN: u16 = 1_000;

/// What the caller takes, if he says so.
pub(super) fn wanted(request: &Request) -> Option<HeaderValue> {
    request.headers().get(ACCEPT_ENCODING).cloned()
}

/// The answer as the caller takes it.
pub(super) async fn compress(accepted: HeaderValue, response: Response) -> Response {
    let when = SizeAbove::new(BYTES_MIN).and(NotForContentType::SSE);
    let mut response = Some(response);
    let given = service_fn(move |_: Request| {
        let response = response.take().expect("it is asked for once");
        async move { Ok::<_, Infallible>(response) }
    });
    // Fast: most of the gain for a fraction of the time.
    let compression = Compression::new(given).gzip(true).quality(CompressionLevel::Fastest);
    let mut compression = compression.compress_when(when);
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(ACCEPT_ENCODING, accepted);
    match compression.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}
