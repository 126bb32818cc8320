//! Who comes in: first the limits of callers as this replica knows them, then a place among the requests that are executed, waited for if
//! there is none, then the quotas that all replicas share.
//!
//! Promises: every route has it but those that tell how the server is; a refusal says why in its code, when to come back in
//! `Retry-After`, and how a quota stands in `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), as
//! do answers that a quota let through. A place is held until the answer begins: what streams, and a WebSocket, holds
//! none. What administrators do is limited and never waits, since it may be what ends an overload. In an overload a refusal costs
//! nothing but itself.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_LENGTH, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::hold::{self, Hold};
use crate::api::connection::Connection;
use crate::api::error::ApiError;
use crate::api::graphql;
use crate::api::graphql::caller::caller;
use crate::app_state::AppState;
use crate::config::auth::Tier;
use crate::engine::metrics::Errors;
use crate::error::ErrorKind;
use crate::limits::client::Client;
use crate::limits::{LetIn, Limits, Refusal, Ticket, Told, seconds};
use crate::resilience::admission::{Admission, Permit, Reason, Received, Rejected};
use crate::security::api_key::ApiKeys;
use crate::security::guard::Caller;
use crate::security::monitor::{SecurityEvent, SecurityMonitor};

/// Those that tell how the server is: an overloaded one must be able to say so.
const EXEMPT: [&str; 4] = ["/livez", "/health", "/ready", "/metrics"];
/// Behind it no request waits for a place.
const ADMIN: &str = "/admin/";
/// A refused body up to this size is read and thrown away, because a caller who is still sending would see a reset
/// connection instead of the answer.
const DRAINED_BYTES_MAX: u64 = 64 << 10;
const DRAIN_WITHIN: Duration = Duration::from_millis(100);

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What decides who comes in. Clones share it.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    keys: ApiKeys,
    limits: Option<Limits>,
    admission: Admission,
    hold: Option<Hold>,
    monitor: SecurityMonitor,
    errors: Errors,
}

/// Whom the headers made; nobody for a key that is not known. In the extensions of a request that passed the gate.
#[derive(Clone)]
pub struct Identified(pub Option<Caller>);

/// What a request that passed may still have to pay, and connections that stay open for each operation. In its extensions.
#[derive(Clone)]
pub struct Pass {
    limits: Option<(Limits, Ticket)>,
    admission: Admission,
    client: Arc<str>,
    route: &'static str,
}

/// Why a request does not come in.
#[derive(Debug, Clone, Copy)]
pub enum Denied {
    /// The caller is over a limit.
    Limit(Refusal),
    /// There is too much to do.
    Busy(Rejected),
}

impl Gate {
    /// The gate of the services.
    pub fn new(state: &AppState) -> Self {
        let hold = state.hold.clone().map(|settings| Hold::new(settings, state.admission_metrics.clone()));
        let shared = Shared {
            keys: state.api_keys.clone(),
            limits: state.limits.clone(),
            admission: state.admission.clone(),
            hold,
            monitor: state.monitor.clone(),
            errors: state.errors.clone(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers the request by `answer` if it comes in.
    pub(super) async fn run<F>(&self, mut request: Request, answer: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let route = super::route_name(matched.as_ref());
        if EXEMPT.contains(&route) {
            return answer(request).await;
        }
        // Before anything is asked of anybody.
        if !route.starts_with(ADMIN)
            && let Some(rejected) = self.shared.admission.is_too_much()
        {
            return self.refuse(request, route, Denied::Busy(rejected)).await;
        }
        let (client, let_in) = match self.limit(&mut request, route).await {
            Ok(received) => received,
            Err(refusal) => return self.refuse(request, route, Denied::Limit(refusal)).await,
        };
        let (permit, request) = if route.starts_with(ADMIN) {
            (None, request)
        } else {
            match self.place(request, route, &client).await {
                ControlFlow::Continue((permit, request)) => (Some(permit), request),
                ControlFlow::Break(refused) => return refused,
            }
        };
        let confirmed = match let_in {
            Some(let_in) => let_in.confirm().await,
            None => Ok(None),
        };
        let told = match confirmed {
            Ok(told) => told,
            Err(refusal) => {
                drop(permit);
                self.shared.monitor.record(SecurityEvent::RateLimited, Some(&client));
                return self.refuse(request, route, Denied::Limit(refusal)).await;
            }
        };
        let mut response = answer(request).await;
        drop(permit);
        // A limit that was met later says more.
        if let Some(told) = told
            && !response.headers().contains_key(&RATE_LIMIT)
        {
            tell(&told, response.headers_mut());
        }
        response
    }

    /// Whose request it is, and that this replica would let it in.
    async fn limit(&self, request: &mut Request, route: &str) -> Result<(Arc<str>, Option<LetIn>), Refusal> {
        let Shared { keys, limits, admission, monitor, .. } = &*self.shared;
        let caller = caller(keys, request.headers());
        let peer = request.extensions().get::<Connection>().and_then(|connection| connection.peer);
        let client = client(limits.as_ref(), caller.as_ref(), peer, request.headers());
        let let_in = match limits {
            Some(limits) => {
                let received = limits.receive(&client, route, writes(request.method(), route)).await;
                let refused = |_: &Refusal| monitor.record(SecurityEvent::RateLimited, Some(&client.key));
                Some(received.inspect_err(refused)?)
            }
            None => None,
        };
        let limits = limits.as_ref().map(|limits| (limits.clone(), limits.ticket(&client, route)));
        let route = if route == graphql::PATH { graphql::PATH } else { "" };
        let pass = Pass { limits, admission: admission.clone(), client: client.key.clone(), route };
        request.extensions_mut().insert(Identified(caller));
        request.extensions_mut().insert(pass);
        Ok((client.key, let_in))
    }

    /// A place for the request, or the answer that there is none. What was read of the request meanwhile is in it.
    async fn place(
        &self,
        request: Request,
        route: &str,
        client: &Arc<str>,
    ) -> ControlFlow<Response, (Permit, Request)> {
        let Shared { admission, hold, .. } = &*self.shared;
        let waiting = match admission.receive(client) {
            Ok(Received::Enters(permit)) => return ControlFlow::Continue((permit, request)),
            Ok(Received::Waits(waiting)) => waiting,
            Err(rejected) => {
                return ControlFlow::Break(self.refuse(request, route, Denied::Busy(rejected)).await);
            }
        };
        let hold = hold
            .as_ref()
            .filter(|_| !request.body().is_end_stream() && !request.headers().contains_key(UPGRADE));
        let Some(hold) = hold else {
            return match waiting.turn().await {
                Ok(permit) => ControlFlow::Continue((permit, request)),
                Err(rejected) => {
                    ControlFlow::Break(self.refuse(request, route, Denied::Busy(rejected)).await)
                }
            };
        };
        let (parts, body) = request.into_parts();
        let mut turn = pin!(waiting.turn());
        let mut read = pin!(hold.read(body));
        let (turn, held) = tokio::select! {
            biased;
            turn = turn.as_mut() => (turn, None),
            held = read.as_mut() => match held {
                Ok(held) => (turn.await, Some(held)),
                Err(error) => return ControlFlow::Break(self.not_held(&parts.headers, route, error)),
            },
        };
        let permit = match turn {
            Ok(permit) => permit,
            Err(rejected) => {
                return ControlFlow::Break(self.denied(route, &parts.headers, Denied::Busy(rejected)));
            }
        };
        let held = match held {
            Some(held) => Ok(held),
            // It is its turn, and the body is on its way.
            None => read.await,
        };
        match held {
            Ok(held) => ControlFlow::Continue((permit, Request::from_parts(parts, held.into_body()))),
            Err(error) => ControlFlow::Break(self.not_held(&parts.headers, route, error)),
        }
    }

    fn not_held(&self, headers: &HeaderMap, route: &str, error: hold::Error) -> Response {
        match error {
            hold::Error::TooLarge(bytes_max) => ApiError::too_large(bytes_max).into_response(),
            hold::Error::Body => {
                ApiError::new(ErrorKind::BadInput, "the body could not be read").into_response()
            }
            hold::Error::Full => {
                self.denied(route, headers, Denied::Busy(self.shared.admission.reject(Reason::QueueFull)))
            }
        }
    }

    async fn refuse(&self, request: Request, route: &str, why: Denied) -> Response {
        let (parts, body) = request.into_parts();
        drain(&parts.headers, body).await;
        self.denied(route, &parts.headers, why)
    }

    fn denied(&self, route: &str, headers: &HeaderMap, why: Denied) -> Response {
        let mut response = if route == graphql::PATH {
            self.shared.errors.count(why.code());
            graphql::refusal(headers, StatusCode::TOO_MANY_REQUESTS, &why.message(), why.code())
        } else {
            ApiError::too_many(why.code(), why.message()).into_response()
        };
        why.tell(response.headers_mut());
        response
    }
}

impl Pass {
    /// The request turned out to change something.
    ///
    /// # Errors
    /// When that is over a limit.
    pub async fn writes(&self) -> Result<(), Denied> {
        match &self.limits {
            Some((_, ticket)) => ticket.writes().await.map_err(Denied::Limit),
            None => Ok(()),
        }
    }

    /// Whether it matters that it does.
    pub fn tells_writes_apart(&self) -> bool {
        self.limits.as_ref().is_some_and(|(_, ticket)| ticket.tells_writes_apart())
    }

    /// One more operation, of a list or over a connection. What it says lets it in when it is confirmed.
    ///
    /// # Errors
    /// When it is over a limit of this replica, or over a quota here already.
    pub async fn receive(&self, writes: bool) -> Result<Option<LetIn>, Denied> {
        match &self.limits {
            Some((_, ticket)) => ticket.receive(writes).await.map(Some).map_err(Denied::Limit),
            None => Ok(None),
        }
    }

    /// A place for an operation of a connection that holds none.
    ///
    /// # Errors
    /// When there is too much to do.
    pub async fn enter(&self) -> Result<Permit, Denied> {
        self.admission.enter(&self.client).await.map_err(Denied::Busy)
    }

    /// Whose it is.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The connection's caller has shown who it is.
    #[must_use]
    pub fn of(&self, caller: &Caller) -> Self {
        if caller.identity().is_none() {
            return self.clone();
        }
        let known =
            client(self.limits.as_ref().map(|(limits, _)| limits), Some(caller), None, &HeaderMap::new());
        let limits = self.limits.as_ref();
        let limits = limits.map(|(limits, _)| (limits.clone(), limits.ticket(&known, self.route)));
        Self { limits, admission: self.admission.clone(), client: known.key, route: self.route }
    }
}

impl Denied {
    /// The value of `extensions.code`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Limit(_) => ErrorKind::TooManyRequests.code(),
            Self::Busy(rejected) => rejected.reason.code(),
        }
    }

    /// What the caller reads.
    pub fn message(&self) -> String {
        let why = match self {
            Self::Limit(refusal) => match refusal.told.limit.label() {
                "writes" => "too many mutations",
                "global_second" => "the server has too many requests",
                _ => "too many requests",
            },
            Self::Busy(Rejected { reason, .. }) => match reason {
                Reason::ClientBusy => "too many requests at the same time",
                Reason::OutOfMemory => "the server is short of memory",
                Reason::PoolSaturated => "the database has too much to do",
                Reason::QueueFull | Reason::Overloaded | Reason::QueueTimeout => {
                    "the server has too much to do"
                }
            },
        };
        format!("{why}: try again later")
    }

    /// Adds what the headers say of it.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let retry_after = match self {
            Self::Limit(refusal) => refusal.retry_after,
            Self::Busy(rejected) => rejected.retry_after,
        };
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds(retry_after).max(1)));
        if let Self::Limit(refusal) = self {
            tell(&refusal.told, headers);
        }
    }
}

fn client(
    limits: Option<&Limits>,
    caller: Option<&Caller>,
    peer: Option<IpAddr>,
    headers: &HeaderMap,
) -> Client {
    let caller = caller.unwrap_or(&Caller::Anonymous);
    match limits {
        Some(limits) => limits.client(caller, peer, headers),
        None => Client::new(caller, Tier::default(), peer),
    }
}

/// Of GraphQL it is known when the operation has been read.
fn writes(method: &Method, route: &str) -> bool {
    route != graphql::PATH && !method.is_safe()
}

async fn drain(headers: &HeaderMap, body: Body) {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| (1..=DRAINED_BYTES_MAX).contains(&length)) {
        let read = axum::body::to_bytes(body, usize::try_from(DRAINED_BYTES_MAX).unwrap_or(usize::MAX));
        drop(tokio::time::timeout(DRAIN_WITHIN, read).await);
    }
}

fn tell(told: &Told, headers: &mut HeaderMap) {
    let Told { limit, remaining, reset, .. } = told;
    let name = limit.label();
    let (quota, window) = told.in_seconds();
    let policy = format!("\"{name}\";q={quota};w={window}");
    let standing = format!("\"{name}\";r={remaining};t={}", seconds(*reset));
    for (header, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, standing)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header, value);
        }
    }
}
