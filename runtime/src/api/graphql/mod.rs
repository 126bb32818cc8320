//! `/graphql`: GraphQL over HTTP, as the specification of that name says (<https://graphql.github.io/graphql-over-http/>).
//!
//! Promises: POST takes JSON and nothing that a browser would send without asking first; GET only reads. An answer is
//! `application/graphql-response+json` for who accepts it, with a status that says whether the operation ran, else
//! `application/json` with 200 for every request that could be read. Both are 503 with `Retry-After` when nothing was done
//! since what every root field needs is not asked now (`CIRCUIT_OPEN`). Each error carries `extensions.code`, and its
//! message tells the caller nothing about SQL or addresses.

pub(in crate::api) mod caller;
mod live;
mod page;
pub mod request;
mod sse;
mod websocket;

use std::ops::Deref;
use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use self::live::Live;
use self::request::{Asked, Media, Posted, Unread};
use super::connection::Connection;
use super::middleware::gate::{Denied, Identified, Pass};
use super::middleware::metrics::MetricsError;
use crate::app_state::AppState;
use crate::config::Mode;
use crate::engine::loader::Served;
use crate::engine::metrics::Errors;
use crate::engine::persisted::{Persisted, Refused};
use crate::engine::{Answer, Engine, Request, Stage};
use crate::error::ErrorKind;
use crate::limits::LetIn;
use crate::observability::trace;
use crate::security::api_key::ApiKeys;
use crate::security::guard::Caller;
use crate::security::monitor::{SecurityEvent, SecurityMonitor};

/// Path of the route and its methods, so that its series exist before the first request.
pub const ROUTES: [(&str, &str); 2] = [("POST", PATH), ("GET", PATH)];

pub(super) const PATH: &str = "/graphql";

/// What a handler needs, and for whom it works.
#[derive(Clone)]
struct Api {
    caller: Caller,
    /// What an operation costs; nothing without a gate.
    pass: Option<Pass>,
    shared: Arc<Shared>,
}

/// What requests of all callers share.
struct Shared {
    keys: ApiKeys,
    monitor: SecurityMonitor,
    /// Errors in answers to what never came to the engine.
    errors: Errors,
    served: Served,
    persisted: Arc<Persisted>,
    /// Operations in one request; 0 takes no lists.
    batch_max: usize,
    live: Live,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// The route with its state.
pub fn router(state: &AppState) -> Router {
    let shared = Arc::new(Shared {
        keys: state.api_keys.clone(),
        monitor: state.monitor.clone(),
        errors: state.errors.clone(),
        served: state.served.clone(),
        persisted: state.persisted.clone(),
        batch_max: state.batch_max,
        live: Live::new(state.hub.clone(), state.subscriptions.clone()),
    });
    let routes = Router::new().route(PATH, get(read).post(execute));
    let routes = if state.mode == Mode::Development { routes.merge(page::router()) } else { routes };
    routes.with_state(shared)
}

/// What the gate has found out about a request.
type Gated = (Option<Extension<Identified>>, Option<Extension<Pass>>);

/// The head of a request: what the caller takes, and over which connection.
struct Head {
    /// `None`: a stream of events and nothing else.
    media: Option<Media>,
    events: bool,
    connection: Connection,
}

impl Head {
    fn read(headers: &HeaderMap, connection: Option<Extension<Connection>>) -> Result<Self, Unread> {
        let accept = headers.get(ACCEPT);
        Ok(Self {
            media: Media::wanted(accept)?,
            events: request::takes_events(accept),
            connection: connection.map_or_else(Connection::detached, |Extension(connection)| connection),
        })
    }

    /// For an answer that is no stream.
    fn plain(&self) -> Media {
        self.media.unwrap_or(Media::Json)
    }

    /// Whether the answer is a stream: nothing else is taken, or it is a subscription.
    async fn streams(&self, api: &Api, asked: &Asked) -> bool {
        if self.media.is_none() || !self.events {
            return self.media.is_none();
        }
        let Some(engine) = api.served.current() else { return false };
        let Ok(request) = asked.clone().resolve(&api.persisted) else { return false };
        engine.kind(&request).await == Some(OperationType::Subscription)
    }
}

async fn execute(
    State(shared): State<Arc<Shared>>,
    (identified, pass): Gated,
    connection: Option<Extension<Connection>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let caller = match shared.identify(identified, &headers) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let api = Api { caller, pass: pass.map(|Extension(pass)| pass), shared };
    let head = match Head::read(&headers, connection) {
        Ok(head) => head,
        Err(unread) => return api.refuse(Media::Json, &unread),
    };
    let media = head.plain();
    let posted = request::content_is_json(headers.get(CONTENT_TYPE))
        .and_then(|()| request::from_body(&body, api.batch_max));
    let posted = match posted {
        Ok(posted) => posted,
        Err(unread) => return api.refuse(media, &unread),
    };
    let Some(engine) = api.served.current() else { return api.not_loaded(media) };
    if let Posted::One(asked) = &posted
        && let Err(denied) = api.pay(&engine, asked, true).await
    {
        return api.deny(media, &denied);
    }
    match posted {
        Posted::One(asked) if head.streams(&api, &asked).await => {
            sse::answer(api, head.connection, asked).await
        }
        Posted::One(asked) => respond(media, api.answer(&engine, asked).await),
        Posted::Batch(batch) => api.answer_all(&engine, media, batch).await,
    }
}

async fn read(
    State(shared): State<Arc<Shared>>,
    (identified, pass): Gated,
    connection: Option<Extension<Connection>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let caller = match shared.identify(identified, &headers) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let api = Api { caller, pass: pass.map(|Extension(pass)| pass), shared };
    if headers.contains_key(UPGRADE) {
        let connection = connection.map_or_else(Connection::detached, |Extension(connection)| connection);
        return match upgrade {
            Ok(upgrade) => websocket::upgrade(api, connection, &headers, upgrade),
            Err(rejection) => rejection.into_response(),
        };
    }
    let head = match Head::read(&headers, connection) {
        Ok(head) => head,
        Err(unread) => return api.refuse(Media::Json, &unread),
    };
    let media = head.plain();
    let asked = match request::from_query(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(unread) => return api.refuse(media, &unread),
    };
    let Some(engine) = api.served.current() else { return api.not_loaded(media) };
    let request = match asked.clone().resolve(&api.persisted) {
        Ok(request) => request,
        Err(refused) => {
            api.errors.count(refused.code());
            return respond(media, Err(refused));
        }
    };
    if engine.kind(&request).await == Some(OperationType::Mutation) {
        let message = "GET only reads: send a mutation with POST";
        let unread = Unread { status: StatusCode::METHOD_NOT_ALLOWED, message: message.to_owned() };
        let mut response = api.refuse(media, &unread);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    if head.streams(&api, &asked).await {
        return sse::answer(api, head.connection, asked).await;
    }
    respond(media, Ok(engine.execute_as(&request, &api.caller).await))
}

impl Shared {
    /// Whom the headers make, counted and watched; more than an unknown caller's time is not spent where there are no keys.
    fn identify(
        &self,
        identified: Option<Extension<Identified>>,
        headers: &HeaderMap,
    ) -> Result<Caller, Box<Response>> {
        if self.keys.is_empty() {
            return Ok(Caller::Anonymous);
        }
        let started = Instant::now();
        let caller = caller::identify(&self.keys, identified, headers);
        self.monitor.checked_within(started.elapsed());
        match &caller {
            Ok(caller) => {
                if let Some(identity) = caller.identity() {
                    let id = identity.id.as_str();
                    self.monitor.record(SecurityEvent::AuthSuccess, Some(id));
                    trace::tell(|| vec![("http.user_id", id.to_owned().into())]);
                }
            }
            Err(_) => {
                self.monitor.record(SecurityEvent::AuthFailure, None);
                self.errors.count("UNAUTHENTICATED");
            }
        }
        caller
    }

    /// A request that is none of GraphQL: its status says so under both media types.
    fn refuse(&self, media: Media, unread: &Unread) -> Response {
        self.monitor.record(SecurityEvent::ValidationError, None);
        let code = ErrorKind::BadInput.code();
        self.errors.count(code);
        send(media, unread.status, errors(&unread.message, code), false)
    }

    /// The database was not there since the start, so nobody knows whether the schema fits it.
    fn not_loaded(&self, media: Media) -> Response {
        let code = ErrorKind::Unavailable.code();
        self.errors.count(code);
        let body = errors("the schema is not loaded yet", code);
        let mut response = send(media, StatusCode::SERVICE_UNAVAILABLE, body, true);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}

impl Api {
    async fn answer(&self, engine: &Engine, asked: Asked) -> Result<Answer, Refused> {
        let resolved = asked.resolve(&self.persisted);
        let request: Request = resolved.inspect_err(|refused| self.errors.count(refused.code()))?;
        Ok(engine.execute_as(&request, &self.caller).await)
    }

    /// Counts an operation towards the limits of its caller, the `first` of a request only as far as it changes something:
    /// the request was counted when it came.
    async fn pay(&self, engine: &Engine, asked: &Asked, first: bool) -> Result<(), Denied> {
        if !first {
            return match self.receive(engine, asked).await? {
                Some(let_in) => let_in.confirm().await.map(drop).map_err(Denied::Limit),
                None => Ok(()),
            };
        }
        match &self.pass {
            Some(pass) if pass.tells_writes_apart() && self.writes(engine, asked).await => {
                pass.writes().await
            }
            _ => Ok(()),
        }
    }

    /// Counts an operation towards the limits of its caller, as far as this replica knows them.
    async fn receive(&self, engine: &Engine, asked: &Asked) -> Result<Option<LetIn>, Denied> {
        let Some(pass) = &self.pass else { return Ok(None) };
        pass.receive(pass.tells_writes_apart() && self.writes(engine, asked).await).await
    }

    /// What a caller reads whose operation does not come in, counted and watched.
    fn denied(&self, denied: &Denied) -> Vec<u8> {
        self.errors.count(denied.code());
        if let (Denied::Limit(_), Some(pass)) = (denied, &self.pass) {
            self.monitor.record(SecurityEvent::RateLimited, Some(pass.client()));
        }
        errors(&denied.message(), denied.code())
    }

    /// Refuses the operation of a request that came in.
    fn deny(&self, media: Media, denied: &Denied) -> Response {
        let mut response = send(media, StatusCode::TOO_MANY_REQUESTS, self.denied(denied), false);
        denied.tell(response.headers_mut());
        response
    }

    /// One that cannot be read changes nothing.
    async fn writes(&self, engine: &Engine, asked: &Asked) -> bool {
        let Ok(request) = asked.clone().resolve(&self.persisted) else { return false };
        engine.kind(&request).await == Some(OperationType::Mutation)
    }

    /// One after another: a mutation in a list may count on those before it.
    async fn answer_all(&self, engine: &Engine, media: Media, batch: Vec<Asked>) -> Response {
        let (mut body, mut failed) = (vec![b'['], false);
        for (at, asked) in batch.into_iter().enumerate() {
            if at > 0 {
                body.push(b',');
            }
            if let Err(denied) = self.pay(engine, &asked, at == 0).await {
                body.extend(self.denied(&denied));
                continue;
            }
            match self.answer(engine, asked).await {
                Ok(answer) => {
                    body.extend_from_slice(&answer.body);
                    failed |= answer.failed;
                }
                Err(refused) => body.extend(errors(&refused.to_string(), refused.code())),
            }
        }
        body.push(b']');
        send(media, StatusCode::OK, body, failed)
    }
}

fn respond(media: Media, answer: Result<Answer, Refused>) -> Response {
    match answer {
        Ok(Answer { body, stage, failed, retry_after: Some(wait) }) => {
            debug_assert_eq!(stage, Stage::Executed);
            let mut response = send(media, StatusCode::SERVICE_UNAVAILABLE, body, failed);
            // Whole seconds, and never none: whoever comes back at once is refused again.
            let seconds = u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX).max(1);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            response
        }
        Ok(Answer { body, stage, failed, retry_after: None }) => {
            let status = match (media, stage) {
                (Media::GraphqlResponse, Stage::Refused) if !failed => StatusCode::BAD_REQUEST,
                (Media::GraphqlResponse, Stage::Refused) => StatusCode::INTERNAL_SERVER_ERROR,
                (Media::GraphqlResponse, Stage::Unauthenticated) => StatusCode::UNAUTHORIZED,
                (Media::GraphqlResponse, Stage::Forbidden) => StatusCode::FORBIDDEN,
                _ => StatusCode::OK,
            };
            send(media, status, body, failed)
        }
        Err(refused) => {
            // A client that registers operations sends the text next, and takes any other status for a failed request.
            let asks_for_text = refused == Refused::NotFound && media == Media::Json;
            let status = if asks_for_text { StatusCode::OK } else { StatusCode::BAD_REQUEST };
            send(media, status, errors(&refused.to_string(), refused.code()), false)
        }
    }
}

fn send(media: Media, status: StatusCode, body: Vec<u8>, failed: bool) -> Response {
    let content_type = HeaderValue::from_static(media.name());
    let mut response = (status, [(CONTENT_TYPE, content_type)], body).into_response();
    if failed {
        response.extensions_mut().insert(MetricsError);
    }
    response
}

/// Refuses a request before it is read.
pub(super) fn refusal(headers: &HeaderMap, status: StatusCode, message: &str, code: &str) -> Response {
    let media = Media::wanted(headers.get(ACCEPT)).ok().flatten().unwrap_or(Media::Json);
    send(media, status, errors(message, code), false)
}

fn errors(message: &str, code: &str) -> Vec<u8> {
    let body = serde_json::json!({ "errors": [{ "message": message, "extensions": { "code": code } }] });
    body.to_string().into_bytes()
}
