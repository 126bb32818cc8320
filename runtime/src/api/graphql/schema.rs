//! The schema: which types, over which services, within which bounds.

use async_graphql::{EmptySubscription, Schema};

use super::mutation::Mutation;
use super::query::Query;
use crate::app_state::AppState;

/// Nested levels of an operation at most. The introspection query of common tools needs 13.
const DEPTH_MAX: usize = 20;
/// Fields of an operation at most, each counted once however often it is executed.
const COMPLEXITY_MAX: usize = 2_000;

pub(super) type ShopSchema = Schema<Query, Mutation, EmptySubscription>;

pub(super) fn build(state: &AppState) -> ShopSchema {
    Schema::build(Query, Mutation, EmptySubscription)
        .data(state.catalog.clone())
        .data(state.orders.clone())
        .limit_depth(DEPTH_MAX)
        .limit_complexity(COMPLEXITY_MAX)
        .finish()
}
