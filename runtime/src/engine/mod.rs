//! GraphQL over PostgreSQL: an operation is compiled once, runs as one statement a root field, and is answered in bytes.
//!
//! Promises: values of callers travel as parameters, never as text of a statement; the number of statements of a query
//! is that of its root fields, however deep it is; a mutation is one transaction with its idempotency key and its event;
//! limits are checked before anything runs; an answer is valid JSON of the selected shape or an error that says where.
//!
//! `schema` binds a schema file to a database, `plan` turns an operation into SQL and a shape, `execute` runs it,
//! `render` and `encode` write the answer.

mod access;
pub mod analyzer;
pub mod arguments;
mod cached;
pub mod coerce;
pub mod encode;
pub mod error;
mod execute;
pub mod expansion;
pub mod explain;
pub mod health;
pub mod job;
pub mod limits;
pub mod loader;
pub mod metrics;
pub mod persisted;
pub mod plan;
pub mod plan_cache;
mod prepare;
pub mod render;
pub mod schema;
pub mod subscription;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Variables;
use async_graphql::parser::types::OperationType;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use self::error::Failure;
use self::limits::Limits;
use self::metrics::{EngineMetrics, OutcomeLabel, TypeLabel};
use self::plan_cache::{Bounds, TextCache};
use self::prepare::{Planned, Prepared};
use self::schema::graphql::Graphql;
use self::schema::model::Schema;
use crate::cache::response::ResponseCache;
use crate::feature_flags::FeatureFlagService;
use crate::feature_flags::cohorts::{Cohorts, Gate};
use crate::observability::trace::{self, Attribute, Kind};
use crate::outbox;
use crate::queue::Queue;
use crate::security::guard::{Caller, Guards};
use crate::security::monitor::SecurityEvent;
use crate::storage::postgres::Postgres;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What one operation may ask for.
    pub limits: Limits,
    /// How many plans are kept.
    pub plans: Bounds,
    /// Whether `__schema` and `__type` are answered.
    pub introspection: bool,
    /// Events go to `<prefix>.<name>`.
    pub subject_prefix: String,
    /// Guards that the schema may name.
    pub guards: Guards,
    /// Flags that the schema may name.
    pub behind: Gates,
    /// Whether a mutation may add an event.
    pub gate: outbox::Gate,
}

/// What decides for fields behind flags, and counts them.
#[derive(Debug, Clone)]
pub struct Gates {
    /// What is on for whom.
    pub flags: FeatureFlagService,
    /// Where requests are counted.
    pub cohorts: Cohorts,
}

impl Default for Gates {
    /// Every flag is off.
    fn default() -> Self {
        Self { flags: FeatureFlagService::new(""), cohorts: Cohorts::default() }
    }
}

/// A request in GraphQL.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The text.
    pub query: String,
    /// Which of its operations.
    pub operation_name: Option<String>,
    /// As the caller gave them.
    pub variables: Variables,
}

/// How far a request came, which decides the status of an answer over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was refused before it ran: syntax, validation, variables, limits.
    Refused,
    /// It was refused since nobody knows who asks.
    Unauthenticated,
    /// It was refused since this caller may not.
    Forbidden,
    /// It ran; `data` is there.
    Executed,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// JSON.
    pub body: Vec<u8>,
    /// How far it came.
    pub stage: Stage,
    /// Whether one of its errors is ours.
    pub failed: bool,
    /// Nothing of it was done, since what it needs is not asked now; after this time it may be.
    pub retry_after: Option<Duration>,
}

/// The engine. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    postgres: Postgres,
    queue: Option<Queue>,
    schema: Arc<Schema>,
    graphql: Graphql,
    prepared: TextCache<Prepared>,
    /// Names the schema in keys of the cache.
    digest: String,
    front: Option<cached::Front>,
    /// Of each flag that the schema names, so that a request takes no lock.
    gates: HashMap<String, Gate>,
    settings: Settings,
    metrics: EngineMetrics,
}

impl Engine {
    /// An engine for a compiled schema.
    ///
    /// # Errors
    /// What the specification of GraphQL forbids in a schema.
    pub fn new(
        schema: Schema,
        postgres: Postgres,
        queue: Option<Queue>,
        cache: Option<ResponseCache>,
        settings: Settings,
        metrics: EngineMetrics,
    ) -> Result<Self, async_graphql::dynamic::SchemaError> {
        let graphql = Graphql::new(&schema, settings.introspection)?;
        let prepared = TextCache::new(settings.plans);
        let Gates { flags, cohorts } = &settings.behind;
        let gate = |flag: &str| (flag.to_owned(), cohorts.gate(flags, flag));
        let gates = schema.flags().into_iter().map(gate).collect();
        let schema = Arc::new(schema);
        let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(graphql.sdl()));
        let front = cache.map(cached::Front::new);
        let metrics = metrics.of_schema(&schema);
        let inner =
            Inner { postgres, queue, schema, graphql, prepared, digest, front, gates, settings, metrics };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The compiled schema.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.inner.schema
    }

    /// The schema in GraphQL's own language.
    pub fn sdl(&self) -> String {
        self.inner.graphql.sdl()
    }

    /// What the request's operation is; `None` when it cannot be read at all.
    pub async fn kind(&self, request: &Request) -> Option<OperationType> {
        Some(self.inner.prepare(request).await.ok()?.kind())
    }

    /// Whether the schema takes an operation, which is not run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn check(&self, query: &str) -> Result<(), String> {
        let request = Request { query: query.to_owned(), ..Request::default() };
        let told = |failures: Vec<Failure>| {
            let messages: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
            messages.join("; ")
        };
        self.inner.prepare(&request).await.map(drop).map_err(told)
    }

    /// Answers a request of somebody who is not known.
    pub async fn execute(&self, request: &Request) -> Answer {
        self.execute_as(request, &Caller::Anonymous).await
    }

    /// Answers a request of this caller.
    pub async fn execute_as(&self, request: &Request, caller: &Caller) -> Answer {
        let span = trace::span("graphql.operation", Kind::Internal, Vec::new);
        let (answer, prepared) = span.within(self.answer(request, caller)).await;
        let kind = prepared.as_ref().map_or(TypeLabel::unknown, |prepared| prepared.kind().into());
        let name = prepared.as_ref().and_then(|prepared| prepared.name());
        self.inner.metrics.count_operation(
            kind,
            name,
            match (answer.failed, answer.stage) {
                (true, _) => OutcomeLabel::failed,
                (false, Stage::Refused | Stage::Unauthenticated | Stage::Forbidden) => OutcomeLabel::refused,
                (false, Stage::Executed) => OutcomeLabel::ok,
            },
        );
        span.set(|| {
            let mut attributes: Vec<Attribute> = vec![("graphql.operation.type", kind.name().into())];
            attributes.extend(name.map(|name| ("graphql.operation.name", short(name).into())));
            attributes
        });
        if answer.failed {
            span.fail("an error of ours");
        }
        answer
    }

    async fn answer(&self, request: &Request, caller: &Caller) -> (Answer, Option<Arc<Prepared>>) {
        let planned = self.inner.plan(request).await.and_then(|planned| {
            self.inner.let_in(&planned.plan, caller)?;
            Ok(Planned { caller: caller.clone(), ..planned })
        });
        match planned {
            Ok(planned) => {
                let prepared = planned.prepared.clone();
                (self.inner.answer(request, caller, planned).await.answer(), Some(prepared))
            }
            Err(failures) => {
                self.inner.tell_of(&failures, caller);
                (refused(&failures), None)
            }
        }
    }
}

impl Inner {
    /// Counts what was refused, and tells whoever watches over callers.
    fn tell_of(&self, failures: &[Failure], caller: &Caller) {
        for failure in failures {
            self.metrics.errors.count(&failure.code);
        }
        let (Some(monitor), Some(first)) = (&self.metrics.monitor, failures.first()) else { return };
        let event = match &*first.code {
            "LIMIT_EXCEEDED" => SecurityEvent::ComplexityViolation,
            access::UNAUTHENTICATED | access::FORBIDDEN => SecurityEvent::AccessDenied,
            _ if first.ours => return,
            _ => SecurityEvent::ValidationError,
        };
        monitor.record(event, caller.identity().map(|identity| identity.id.as_str()));
    }
}

/// A name of a caller's choice, cut to what is worth reading.
fn short(name: &str) -> String {
    name[..name.floor_char_boundary(64)].to_owned()
}

/// The answer to a request that did not run.
fn refused(failures: &[Failure]) -> Answer {
    let mut body = b"{\"errors\":".to_vec();
    let errors: Vec<_> = failures.iter().map(Failure::json).collect();
    body.extend(serde_json::to_vec(&errors).unwrap_or_else(|_| b"[]".to_vec()));
    body.push(b'}');
    let any = |code: &str| failures.iter().any(|failure| &*failure.code == code);
    let stage = if any(access::UNAUTHENTICATED) {
        Stage::Unauthenticated
    } else if any(access::FORBIDDEN) {
        Stage::Forbidden
    } else {
        Stage::Refused
    };
    Answer { body, stage, failed: failures.iter().any(|failure| failure.ours), retry_after: None }
}
