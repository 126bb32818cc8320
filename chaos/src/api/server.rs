//! HTTP as Toxiproxy serves it: what holds for every request before and after its call.
//!
//! Browsers are refused (a web page could drive the proxies of whoever looks at it), each call gets an id, and a call
//! that takes too long is answered for. A call runs in a task of its own, so that nothing is left half done.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderName, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::Failure;
use super::reply::{self, Reply};
use super::route::{Routed, route};
use super::{Options, handlers};
use crate::json::Json;
use crate::proxy::Registry;

/// Longest time that a call may take.
const CALL_MAX: Duration = Duration::from_secs(25);
/// Longest time that a body may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(15);
/// Longest time that a connection may stay without a request.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Longest time that calls may go on after the server was told to end.
const GRACE: Duration = Duration::from_secs(30);
/// Pause before accepting again when descriptors have run out.
const RETRY: Duration = Duration::from_millis(20);
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bytes of a body too long that are read and forgotten, so that its sender lives to read the refusal: a socket
/// closed over bytes that nobody read resets the connection, and the answer goes with it.
const DISCARD_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Context {
    pub registry: Registry,
    pub options: Options,
    /// Streams end with it; other calls are finished.
    pub cancel: CancellationToken,
}

/// The two ends of a client's connection: ours first.
type Ends = (SocketAddr, SocketAddr);

/// A body that has not been read.
pub(super) struct Body {
    incoming: Incoming,
    deadline: Instant,
    ends: Ends,
}

impl Body {
    /// Its first JSON value.
    pub async fn json(self) -> Result<Json, Failure> {
        let (server, client) = self.ends;
        let mut incoming = self.incoming;
        let read = Limited::new(&mut incoming, BODY_BYTES_MAX).collect();
        match timeout_at(self.deadline, read).await {
            Ok(Ok(body)) => Json::first(&body.to_bytes()).map_err(Failure::body),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                // Whether the rest came, was too long or took too long: the answer is the same.
                let _ = timeout_at(self.deadline, discard(incoming)).await;
                Err(Failure {
                    status: 413,
                    message: format!(
                        "bad request body: more than {BODY_BYTES_MAX} bytes: send fewer proxies at once"
                    ),
                })
            }
            Ok(Err(_)) => Err(Failure::body("unexpected EOF")),
            Err(_) => Err(Failure::body(format!("read tcp {server}->{client}: i/o timeout"))),
        }
    }
}

/// Reads what is left of a body, no more than `DISCARD_MAX` bytes.
async fn discard(mut incoming: Incoming) {
    let mut left = DISCARD_MAX;
    while let Some(Ok(frame)) = incoming.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len());
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

pub(super) async fn run(
    registry: Registry,
    listener: TcpListener,
    options: Options,
    cancel: CancellationToken,
) -> io::Result<()> {
    let context = Arc::new(Context { registry, options, cancel: cancel.clone() });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((socket, client)) => {
                connections.spawn(connection(context.clone(), socket, client, cancel.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection of the API");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    timeout(GRACE, connections.wait()).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("calls still ran after {} s", GRACE.as_secs()))
    })
}

async fn connection(context: Arc<Context>, socket: TcpStream, client: SocketAddr, cancel: CancellationToken) {
    let Ok(server) = socket.local_addr() else { return };
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a socket could not be set to TCP_NODELAY");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let context = context.clone();
        async move { Ok::<_, Infallible>(respond(context, request, (server, client)).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .title_case_headers(true)
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE_MAX)
            .serve_connection(TokioIo::new(socket), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %client, "a connection of the API ended early");
    }
}

async fn respond(context: Arc<Context>, request: Request<Incoming>, ends: Ends) -> Response<reply::Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let reply = answer(context, request, ends).await;
    let response = reply.into_response();
    tracing::debug!(%method, path, status = response.status().as_u16(), "answered");
    response
}

async fn answer(context: Arc<Context>, request: Request<Incoming>, ends: Ends) -> Reply {
    if !allowed(&context.options, &request) {
        return Reply::unauthorised();
    }
    let metrics = context.options.proxy_metrics || context.options.runtime_metrics;
    let uri = request.uri();
    let call = match route(request.method().as_str(), uri.path(), uri.query(), metrics) {
        Routed::To(call) => call,
        Routed::Moved(location) => return Reply::moved(location),
        Routed::Unknown => return Reply::plain(404, "404 page not found"),
        Routed::WrongMethod => return Reply::empty(405),
        Routed::Malformed => return Reply::new(400, "text/plain; charset=utf-8", "400 Bad Request"),
    };
    let agent = request.headers().get(USER_AGENT);
    let reply = if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        Reply::plain(403, "User agent not allowed")
    } else {
        let body = Body { incoming: request.into_body(), deadline: Instant::now() + BODY_MAX, ends };
        within(CALL_MAX, async move { handlers::answer(&context, call, body).await }).await
    };
    reply.with(HeaderName::from_static("x-toxiproxy-request-id"), request_id())
}

/// The reply of a call, or one that says that it takes longer than `limit`; the call then goes on by itself.
async fn within(limit: Duration, call: impl Future<Output = Reply> + Send + 'static) -> Reply {
    match timeout(limit, tokio::spawn(call)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            tracing::error!(%error, "a call of the API ended without an answer");
            Reply::failure(&Failure {
                status: 500,
                message: "the call failed: see the log of the proxy".into(),
            })
        }
        Err(_) => Reply::timed_out(),
    }
}

fn allowed(options: &Options, request: &Request<Incoming>) -> bool {
    let Some(token) = &options.token else { return true };
    let given = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| {
        let (scheme, rest) = value.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
    });
    given.is_some_and(|given| same(given, token.as_bytes()))
}

/// Takes as long for a wrong token as for a right one.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differences == 0
}

/// Twenty characters, as long as Toxiproxy's: sixty bits drawn once for each server, and a number for each request.
fn request_id() -> String {
    static DRAWN: std::sync::LazyLock<u64> = std::sync::LazyLock::new(rand::random);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let bits = (u128::from(*DRAWN) << 32) | u128::from(NEXT.fetch_add(1, Ordering::Relaxed));
    (0..20).rev().map(|digit| char::from(DIGITS[(bits >> (digit * 5)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_answered_for_and_goes_on() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let call = async {
            tokio::time::sleep(CALL_MAX + Duration::from_secs(1)).await;
            tell.send(()).expect("somebody listens");
            Reply::empty(204)
        };
        let before = Instant::now();
        let response = within(CALL_MAX, call).await.into_response();
        assert_eq!((response.status().as_u16(), before.elapsed()), (503, CALL_MAX));
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes().len(), 77);
        told.await.expect("the call is finished");
    }

    #[tokio::test]
    async fn a_call_that_panics_is_answered_for() {
        async fn broken() -> Reply {
            panic!("as a test")
        }
        let response = within(CALL_MAX, broken()).await.into_response();
        assert_eq!(response.status().as_u16(), 500);
    }

    #[test]
    fn request_ids_are_twenty_characters_and_differ() {
        let ids: std::collections::HashSet<String> = (0..1_000).map(|_| request_id()).collect();
        assert!(ids.len() == 1_000 && ids.iter().all(|id| id.len() == 20));
    }
}
