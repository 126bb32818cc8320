//! Answers that need not be computed again: queries whose every root field has `@cacheControl`.
//!
//! Promises: an answer with errors is never kept; one that a mutation of ours made wrong is not given once that mutation
//! was answered; while the database is away an old answer stands in where the schema allows it.
//! A mutation that calls a function or deletes invalidates everything, since nobody here knows what else it changes.

use std::time::Duration;

use async_graphql::parser::types::OperationType;
use bytes::Bytes;
use futures::FutureExt;

use super::execute::Output;
use super::plan::{Action, Plan};
use super::prepare::Planned;
use super::{Inner, Request};
use crate::cache::control::{CacheControl, Scope};
use crate::cache::key::{Audience, Operation};
use crate::cache::respond::{Answer as Kept, Question, Responder};
use crate::cache::versions::Tables;
use crate::error::{Classify, ErrorKind};
use crate::security::guard::Caller;

/// An execution that brought no answer to keep: what to say all the same, and why.
#[derive(Debug, Clone)]
pub(super) struct Unkept {
    output: Output,
    kind: ErrorKind,
}

impl Classify for Unkept {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// The cache in front of an engine.
pub(super) type Front = Responder<Unkept>;

impl Inner {
    /// Runs what was planned, or answers from the cache.
    pub(super) async fn answer(&self, request: &Request, caller: &Caller, planned: Planned) -> Output {
        let Some(front) = &self.front else { return self.run(planned).await };
        match planned.plan.kind {
            OperationType::Query => match control(&planned.plan) {
                Some(control) => self.query(front, request, caller, planned, control).await,
                None => self.run(planned).await,
            },
            OperationType::Mutation => {
                let tables = changed(&planned.plan);
                let output = front.mutate(&tables, || async {
                    let output = self.run(planned).await;
                    // What was refused wholly changed nothing; anything else may have.
                    if output.refused {
                        Err(Unkept { output, kind: ErrorKind::BadInput })
                    } else {
                        Ok(output)
                    }
                });
                output.await.unwrap_or_else(|unkept| unkept.output)
            }
            OperationType::Subscription => self.run(planned).await,
        }
    }

    async fn query(
        &self,
        front: &Front,
        request: &Request,
        caller: &Caller,
        planned: Planned,
        control: CacheControl,
    ) -> Output {
        let variables = serde_json::to_value(&planned.variables).expect("variables are plain data");
        let tables = Tables::of(planned.plan.tables.iter().map(String::as_str));
        let operation = Operation {
            schema: &self.digest,
            text: &request.query,
            name: request.operation_name.as_deref(),
            variables: &variables,
        };
        // Who may not ask was refused before; what is answered depends on nothing but whom a private answer is for.
        let user = caller.identity().map(|identity| identity.id.as_str());
        let audience = Audience { user, ..Audience::default() };
        let question = Question { operation, audience, tables: &tables, control: Some(control) };
        let compute = || {
            async {
                let output = self.run(planned).await;
                if output.away {
                    return Err(Unkept { output, kind: ErrorKind::Unavailable });
                }
                Ok(Kept { data: output.data.into(), errors: output.errors.map(Bytes::from) })
            }
            .boxed()
        };
        match front.query(&question, compute).await {
            Ok((kept, _)) => Output {
                data: kept.data.to_vec(),
                failed: false,
                errors: kept.errors.map(|errors| errors.to_vec()),
                away: false,
                refused: false,
                retry_after: None,
            },
            Err(unkept) => unkept.output,
        }
    }
}

/// How the whole answer may be kept: as its most careful root field says, and not at all if one says nothing.
fn control(plan: &Plan) -> Option<CacheControl> {
    let mut whole: Option<CacheControl> = None;
    for root in &plan.roots {
        let given = root.cache?;
        let control = CacheControl {
            max_age: Duration::from_secs(given.max_age_secs.into()),
            scope: if given.private { Scope::Private } else { Scope::Public },
            stale_if_error: Duration::from_secs(given.stale_if_error_secs.into()),
        };
        whole = Some(whole.map_or(control, |whole| whole.and(control)));
    }
    whole
}

/// The tables that a mutation may change.
fn changed(plan: &Plan) -> Tables {
    fn changes_more(action: &Action) -> bool {
        match action {
            Action::Write(write) => write.changes_more,
            Action::Behind(behind) => changes_more(&behind.off) || changes_more(&behind.on),
            _ => false,
        }
    }
    let unknown = plan.roots.iter().any(|root| changes_more(&root.action));
    if unknown { Tables::everything() } else { Tables::of(plan.tables.iter().map(String::as_str)) }
}
