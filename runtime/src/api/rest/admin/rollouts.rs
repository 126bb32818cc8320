//! Rollouts over HTTP, on any server: who takes the steps is no matter here.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::flags::read;
use crate::api::error::ApiError;
use crate::error::Classify;
use crate::migration::rollout::report::Report;
use crate::migration::rollout::{Error, Plan};

pub(super) const ALL: &str = "/admin/rollouts";
pub(super) const ONE: &str = "/admin/rollouts/{feature}";
pub(super) const HISTORY: &str = "/admin/rollouts/{feature}/history";
pub(super) const ADVANCE: &str = "/admin/rollouts/{feature}/advance";
pub(super) const ROLLBACK: &str = "/admin/rollouts/{feature}/rollback";

pub(super) fn router() -> Router<Arc<Shared>> {
    Router::new()
        .route(ALL, get(all).post(start))
        .route(ONE, get(one))
        .route(HISTORY, get(history))
        .route(ADVANCE, post(advance))
        .route(ROLLBACK, post(rollback))
}

async fn all(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    shared.admin(&headers)?;
    let reports = shared.rollouts.reports().await.map_err(api_error)?;
    let leader = shared.rollouts.store.leader().await.map_err(api_error)?;
    Ok(Json(json!({ "rollouts": reports, "leader": leader })))
}

async fn one(
    State(shared): State<Arc<Shared>>,
    Path(feature): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Report>, ApiError> {
    shared.admin(&headers)?;
    shared.rollouts.report_of(&feature).await.map(Json).map_err(api_error)
}

async fn history(
    State(shared): State<Arc<Shared>>,
    Path(feature): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    shared.admin(&headers)?;
    let events = shared.rollouts.store.history(&feature).await.map_err(api_error)?;
    Ok(Json(json!({ "events": events })))
}

async fn start(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let actor = shared.admin(&headers)?;
    let plan = Plan::parse(&body).map_err(api_error)?;
    let feature = plan.flag.clone();
    shared.rollouts.start(plan, &actor).await.map_err(api_error)?;
    shared.flags.load().await;
    let report = shared.rollouts.report_of(&feature).await.map_err(api_error)?;
    Ok((StatusCode::CREATED, Json(report)).into_response())
}

async fn advance(
    State(shared): State<Arc<Shared>>,
    Path(feature): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Report>, ApiError> {
    let actor = shared.admin(&headers)?;
    shared.rollouts.advance(&feature, &actor).await.map_err(api_error)?;
    shared.rollouts.report_of(&feature).await.map(Json).map_err(api_error)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rollback {
    force: bool,
}

async fn rollback(
    State(shared): State<Arc<Shared>>,
    Path(feature): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Report>, ApiError> {
    let actor = shared.admin(&headers)?;
    let Rollback { force } = if body.is_empty() { Rollback::default() } else { read(&body)? };
    shared.rollouts.rollback(&feature, force, &actor).await.map_err(api_error)?;
    shared.flags.load().await;
    shared.rollouts.report_of(&feature).await.map(Json).map_err(api_error)
}

fn api_error(error: Error) -> ApiError {
    ApiError::new(error.kind(), error.to_string())
}
