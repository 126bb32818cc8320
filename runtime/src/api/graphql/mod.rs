//! `POST /graphql`: the schema of the shop, thin over the services.
//!
//! Promises: an operation that was read is answered with HTTP 200, errors included; each error carries
//! `extensions.code`, and its message tells the caller nothing about SQL or addresses. A body that is no GraphQL
//! request is answered with 400. Depth and complexity of an operation are bounded.

mod error;
mod mutation;
mod query;
mod schema;
mod types;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;

use self::error::{is_ours, name_code};
use self::schema::ShopSchema;
use super::error::ApiError;
use super::middleware::metrics::MetricsError;
use crate::app_state::AppState;
use crate::error::ErrorKind;

/// Method and path of the route, so that its series exist before the first request.
pub const ROUTE: (&str, &str) = ("POST", "/graphql");

/// The route with its state.
pub fn router(state: &AppState) -> Router {
    Router::new().route(ROUTE.1, post(execute)).with_state(schema::build(state))
}

/// The schema in GraphQL's own language.
pub fn sdl(state: &AppState) -> String {
    schema::build(state).sdl()
}

async fn execute(State(schema): State<ShopSchema>, body: Bytes) -> Result<Response, ApiError> {
    let request = read(&body)?;
    let mut answer = schema.execute(request).await;
    answer.errors.iter_mut().for_each(name_code);
    let ours = answer.errors.iter().any(is_ours);
    let mut response = Json(answer).into_response();
    if ours {
        response.extensions_mut().insert(MetricsError);
    }
    Ok(response)
}

fn read(body: &[u8]) -> Result<async_graphql::Request, ApiError> {
    let bad = |message: String| ApiError::new(ErrorKind::BadInput, message);
    let request: async_graphql::Request = serde_json::from_slice(body).map_err(|error| {
        bad(format!("the body is no JSON object with query, variables, operationName: {error}"))
    })?;
    if request.query.trim().is_empty() {
        return Err(bad("the body has no query".to_owned()));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_without_a_query_is_refused_with_a_reason() {
        for body in ["", "[]", "{", "{}", r#"{"query":"  "}"#, r#"{"query":7}"#] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let body = br#"{"query":"query A($n: Int!) { products(limit: $n) { id } }","variables":{"n":1},"operationName":"A"}"#;
        let request = read(body).expect("a request");
        assert_eq!(request.operation_name.as_deref(), Some("A"));
    }
}
