//! What administrators ask for and change: `/admin/…`, for callers with the role ADMIN and nobody else.
//!
//! Promises: 401 for nobody, 403 for somebody without the role, whatever else is wrong with the request; every change is kept
//! with who made it. Errors are `{"error": {"code": …, "message": …}}`.

mod flags;
mod rollouts;

use std::sync::Arc;

use axum::Router;
use http::HeaderMap;

use crate::api::error::ApiError;
use crate::api::graphql::caller::caller;
use crate::app_state::AppState;
use crate::feature_flags::stored::StoredFlags;
use crate::migration::rollout::Rollouts;
use crate::security::api_key::ApiKeys;

/// The role.
pub const ADMIN: &str = "ADMIN";

/// Routes whose series exist from the start.
pub const ROUTES: [(&str, &str); 12] = [
    ("GET", flags::ALL),
    ("GET", flags::ONE),
    ("PUT", flags::ONE),
    ("DELETE", flags::ONE),
    ("PUT", flags::PERCENTAGE),
    ("GET", flags::HISTORY),
    ("GET", rollouts::ALL),
    ("POST", rollouts::ALL),
    ("GET", rollouts::ONE),
    ("GET", rollouts::HISTORY),
    ("POST", rollouts::ADVANCE),
    ("POST", rollouts::ROLLBACK),
];

/// What the handlers need.
struct Shared {
    keys: ApiKeys,
    flags: StoredFlags,
    rollouts: Rollouts,
}

impl Shared {
    /// Who asks, if it is an administrator.
    fn admin(&self, headers: &HeaderMap) -> Result<String, ApiError> {
        let caller = caller(&self.keys, headers).ok_or_else(ApiError::unauthenticated)?;
        let identity = caller.identity().ok_or_else(ApiError::unauthenticated)?;
        if identity.roles.contains(ADMIN) { Ok(identity.id.clone()) } else { Err(ApiError::forbidden(ADMIN)) }
    }
}

/// The routes with their state.
pub fn router(state: &AppState) -> Router {
    let shared =
        Shared { keys: state.api_keys.clone(), flags: state.flags.clone(), rollouts: state.rollouts.clone() };
    flags::router().merge(rollouts::router()).with_state(Arc::new(shared))
}
