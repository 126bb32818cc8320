//! `/graphql`: GraphQL over HTTP, as the specification of that name says (<https://graphql.github.io/graphql-over-http/>).
//!
//! Promises: POST takes JSON and nothing that a browser would send without asking first; GET only reads. An answer is
//! `application/graphql-response+json` for who accepts it, with a status that says whether the operation ran, else
//! `application/json` with 200 for every request that could be read. Each error carries `extensions.code`, and its
//! message tells the caller nothing about SQL or addresses.

mod caller;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, RawQuery, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use self::request::{Media, Unread};
use super::middleware::metrics::MetricsError;
use crate::app_state::AppState;
use crate::engine::loader::Served;
use crate::engine::{Answer, Request, Stage};
use crate::error::ErrorKind;
use crate::security::api_key::ApiKeys;
use crate::security::guard::Caller;

/// Path of the route and its methods, so that its series exist before the first request.
pub const ROUTES: [(&str, &str); 2] = [("POST", PATH), ("GET", PATH)];

const PATH: &str = "/graphql";

/// The route with its state.
pub fn router(state: &AppState) -> Router {
    routes(state.served.clone(), state.api_keys.clone())
}

fn routes(served: Served, keys: ApiKeys) -> Router {
    let identified = from_fn_with_state(Arc::new(keys), caller::identify);
    Router::new().route(PATH, get(read).post(execute)).layer(identified).with_state(served)
}

async fn execute(
    State(served): State<Served>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let media = match Media::wanted(headers.get(ACCEPT)) {
        Ok(media) => media,
        Err(unread) => return refuse(Media::Json, &unread),
    };
    let request =
        request::content_is_json(headers.get(CONTENT_TYPE)).and_then(|()| request::from_body(&body));
    match request {
        Ok(request) => answer(&served, media, &request, &caller).await,
        Err(unread) => refuse(media, &unread),
    }
}

async fn read(
    State(served): State<Served>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let media = match Media::wanted(headers.get(ACCEPT)) {
        Ok(media) => media,
        Err(unread) => return refuse(Media::Json, &unread),
    };
    let request = match request::from_query(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(unread) => return refuse(media, &unread),
    };
    if let Some(engine) = served.current()
        && engine.is_query(&request).await == Some(false)
    {
        let message = "GET only reads: send a mutation with POST";
        let unread = Unread { status: StatusCode::METHOD_NOT_ALLOWED, message: message.to_owned() };
        let mut response = refuse(media, &unread);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    answer(&served, media, &request, &caller).await
}

async fn answer(served: &Served, media: Media, request: &Request, caller: &Caller) -> Response {
    let Some(engine) = served.current() else { return not_loaded(media) };
    let Answer { body, stage, failed } = engine.execute_as(request, caller).await;
    let status = match (media, stage) {
        (Media::GraphqlResponse, Stage::Refused) if !failed => StatusCode::BAD_REQUEST,
        (Media::GraphqlResponse, Stage::Refused) => StatusCode::INTERNAL_SERVER_ERROR,
        (Media::GraphqlResponse, Stage::Unauthenticated) => StatusCode::UNAUTHORIZED,
        (Media::GraphqlResponse, Stage::Forbidden) => StatusCode::FORBIDDEN,
        _ => StatusCode::OK,
    };
    let mut response = respond(media, status, body);
    if failed {
        response.extensions_mut().insert(MetricsError);
    }
    response
}

fn respond(media: Media, status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(media.name()))], body).into_response()
}

/// A request that is none of GraphQL: its status says so under both media types.
fn refuse(media: Media, unread: &Unread) -> Response {
    let code = ErrorKind::BadInput.code();
    respond(media, unread.status, errors(&unread.message, code))
}

/// The database was not there since the start, so nobody knows whether the schema fits it.
fn not_loaded(media: Media) -> Response {
    let body = errors("the schema is not loaded yet", ErrorKind::Unavailable.code());
    let mut response = respond(media, StatusCode::SERVICE_UNAVAILABLE, body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response.extensions_mut().insert(MetricsError);
    response
}

fn errors(message: &str, code: &str) -> Vec<u8> {
    let body = serde_json::json!({ "errors": [{ "message": message, "extensions": { "code": code } }] });
    body.to_string().into_bytes()
}
