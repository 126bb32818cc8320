//! Flags over HTTP. The version of a flag is its `ETag`: a change with `If-Match` is made of that version alone, one with
//! `If-None-Match: *` only where there is none yet.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Shared;
use crate::api::error::ApiError;
use crate::error::{Classify, ErrorKind};
use crate::feature_flags::store::{Expected, Stored};
use crate::feature_flags::{Error, FeatureFlag};

pub(super) const ALL: &str = "/admin/flags";
pub(super) const ONE: &str = "/admin/flags/{name}";
pub(super) const PERCENTAGE: &str = "/admin/flags/{name}/percentage";
pub(super) const HISTORY: &str = "/admin/flags/{name}/history";

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route(ALL, get(all))
        .route(ONE, get(one).put(change).delete(delete))
        .route(PERCENTAGE, put(percentage))
        .route(HISTORY, get(history))
}

async fn all(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    shared.admin(&headers)?;
    let all = shared.flags.store.all().await.map_err(|error| api_error(&error.into()))?;
    Ok(Json(json!({ "flags": all.iter().map(Stored::json).collect::<Vec<_>>() })))
}

async fn one(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    shared.admin(&headers)?;
    let found = shared.flags.store.get(&name).await.map_err(|error| api_error(&error))?;
    let found = found.ok_or_else(|| api_error(&Error::unknown(&name)))?;
    Ok(answer(&found))
}

async fn change(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let actor = shared.admin(&headers)?;
    let (mut flag, version) = flag_of(&body)?;
    if flag.name.is_empty() {
        flag.name.clone_from(&name);
    } else if flag.name != name {
        let message = format!("name is {:?}: it must be {name:?}, as in the path, or left out", flag.name);
        return Err(ApiError::new(ErrorKind::BadInput, message));
    }
    let expected = match (expected(&headers)?, version) {
        (Expected::Any, Some(version)) => Expected::Version(version),
        (expected, _) => expected,
    };
    let stored =
        shared.flags.put(&flag, expected, &actor).await.map_err(|error| refused(&error, expected))?;
    Ok(answer(&stored))
}

async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let actor = shared.admin(&headers)?;
    let expected = expected(&headers)?;
    shared.flags.delete(&name, expected, &actor).await.map_err(|error| refused(&error, expected))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Percentage {
    percentage: u8,
}

/// Of a flag that is there: a misspelt name makes no flag.
async fn percentage(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let actor = shared.admin(&headers)?;
    let Percentage { percentage } = read(&body)?;
    let found = shared.flags.store.get(&name).await.map_err(|error| api_error(&error))?;
    found.ok_or_else(|| api_error(&Error::unknown(&name)))?;
    let stored = shared.flags.edit(&name, &actor, |flag| flag.percentage = percentage).await;
    Ok(answer(&stored.map_err(|error| api_error(&error))?))
}

async fn history(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    shared.admin(&headers)?;
    let changes = shared.flags.store.history(&name).await.map_err(|error| api_error(&error))?;
    let changes = changes.into_iter().map(|change| {
        json!({ "id": change.id, "at": change.at, "actor": change.actor, "before": change.before, "after": change.after })
    });
    Ok(Json(json!({ "changes": changes.collect::<Vec<_>>() })))
}

/// A flag as it may have been read here before: the version that came with it is the one that is changed.
fn flag_of(body: &[u8]) -> Result<(FeatureFlag, Option<i64>), ApiError> {
    let mut value: Value = read(body)?;
    let mut version = None;
    if let Some(fields) = value.as_object_mut() {
        version = fields.remove("version").and_then(|version| version.as_i64());
        fields.remove("changed_at");
        fields.remove("changed_by");
    }
    let flag = serde_json::from_value(value);
    Ok((flag.map_err(|error| ApiError::new(ErrorKind::BadInput, error.to_string()))?, version))
}

fn answer(stored: &Stored) -> Response {
    ([(ETAG, format!("\"{}\"", stored.version))], Json(stored.json())).into_response()
}

/// A body in JSON, or what is wrong with it.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::new(ErrorKind::BadInput, error.to_string()))
}

fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
    let wrong = |message: String| ApiError::new(ErrorKind::BadInput, message);
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(Expected::Any),
        (None, Some("*")) => Ok(Expected::Absent),
        (Some(tag), None) => match tag.trim_matches('"').parse() {
            Ok(version) if version > 0 => Ok(Expected::Version(version)),
            _ => Err(wrong(format!("If-Match is {tag}: it must be the ETag of the flag as it was read"))),
        },
        (None, Some(tag)) => Err(wrong(format!("If-None-Match is {tag}: it must be *"))),
        (Some(_), Some(_)) => Err(wrong("If-Match and If-None-Match exclude each other".to_owned())),
    }
}

fn refused(error: &Error, expected: Expected) -> ApiError {
    if error.kind() == ErrorKind::InvalidTransition && expected != Expected::Any {
        return ApiError::precondition_failed(error.to_string());
    }
    api_error(error)
}

fn api_error(error: &Error) -> ApiError {
    ApiError::new(error.kind(), error.to_string())
}
