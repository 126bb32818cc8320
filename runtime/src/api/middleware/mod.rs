//! What happens around every request, one concern a file, in the order that [`frame`] shows.
//!
//! One layer and not nine: each of axum's costs a boxed future and a copy of the service below it, a fifth of what a short
//! query costs the server.

pub mod body_limit;
pub mod catch_panic;
pub mod compression;
pub mod gate;
mod hold;
pub mod metrics;
pub mod request_id;
pub mod timeout;
pub mod trace;
pub mod traced;

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::future::Either;
use tracing::Instrument;

use self::traced::Traced;
use super::Frame;

/// From the outside in: security headers, request id, trace, span and its line in the log, metrics, panics, compression, the
/// size limit, the gate, the time limit, the route. So each answer has the headers and the id, and is traced, logged and counted,
/// whatever made it.
pub async fn frame(State(frame): State<Arc<Frame>>, mut request: Request, next: Next) -> Response {
    let id = request_id::assign(&mut request);
    let mut traced = traced::begin(&frame.tracer, id, &request);
    let handle = traced.as_ref().and_then(Traced::handle);
    let mut ending = trace::begin(frame.access_log, id, handle.clone(), &request);
    let span = ending.span().clone();
    let work = async {
        let mut measured = frame.measures.then(|| metrics::begin(&frame.http, handle, &request));
        let encoding = compression::wanted(&request);
        let answer = async {
            match body_limit::refuse_large(frame.limits.body_bytes_max, &request) {
                Some(refused) => refused,
                None => {
                    let answer =
                        |request| timeout::give_up_late(frame.limits.request_timeout, next.run(request));
                    match &frame.gate {
                        Some(gate) => gate.run(request, answer).await,
                        None => answer(request).await,
                    }
                }
            }
        };
        let mut response = catch_panic::caught(answer).await;
        if let Some(encoding) = encoding {
            response = compression::compress(encoding, response).await;
        }
        if let Some(measured) = &mut measured {
            measured.answered(&response);
        }
        ending.answered(&response);
        response
    };
    // One box: moved as it is, the work would be in this future twice, and that is large.
    let work = Box::pin(work.instrument(span));
    let mut response = match &traced {
        Some(traced) => Either::Left(traced.within(work)),
        None => Either::Right(work),
    }
    .await;
    if let Some(traced) = &mut traced {
        traced.answered(&response);
    }
    request_id::tell(id, &mut response);
    frame.headers.apply(response.headers_mut());
    response
}

/// The route as it is written in the router: a set that callers cannot extend.
fn route(request: &Request) -> &str {
    route_name(request.extensions().get())
}

fn route_name(route: Option<&MatchedPath>) -> &str {
    route.map_or("unmatched", MatchedPath::as_str)
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
