//! Runs a plan: the roots of a query at the same time, those of a mutation one after another.

use std::time::Duration;

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field as Given, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::{Positioned, Value, Variables};
use futures::future::join_all;
use sha2::{Digest, Sha256};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::arguments::{self, Call};
use super::encode::{write_null, write_string};
use super::error::{Failure, of_database};
use super::plan::args::Source;
use super::plan::select::Document;
use super::plan::{Absent, Action, Answer as Rows, Job, JobField, RootPlan, Statement, Write};
use super::prepare::Planned;
use super::render::{NullHere, Renderer};
use super::{Answer, Inner, Stage};
use crate::error::ErrorKind;
use crate::observability::trace;

/// What a root field came to: its value's bytes, or that null stands where it may not.
pub(super) struct Done {
    value: Result<Vec<u8>, NullHere>,
    failures: Vec<Failure>,
}

impl Done {
    pub(super) fn failed(failure: Failure, nullable: bool) -> Self {
        let value = if nullable { Ok(b"null".to_vec()) } else { Err(NullHere) };
        Self { value, failures: vec![failure] }
    }
}

impl Inner {
    pub(super) async fn run(&self, planned: Planned) -> Output {
        let plan = planned.plan.clone();
        let done = match plan.kind {
            OperationType::Query => {
                let roots = plan.roots.iter().enumerate().map(|(at, root)| self.root(&planned, at, root));
                join_all(roots).await
            }
            OperationType::Mutation => {
                let mut done = Vec::with_capacity(plan.roots.len());
                for (at, root) in plan.roots.iter().enumerate() {
                    done.push(self.root(&planned, at, root).await);
                }
                done
            }
            OperationType::Subscription => {
                let message =
                    "a subscription needs a connection that stays open: WebSocket or server-sent events";
                let failure = Failure::of_kind(ErrorKind::BadInput, message);
                self.metrics.errors.count(&failure.code);
                return assemble(&[], Vec::new(), vec![failure]);
            }
        };
        for failure in done.iter().flat_map(|done| &done.failures) {
            self.metrics.errors.count(&failure.code);
        }
        assemble(&plan.roots, done, Vec::new())
    }

    async fn root(&self, planned: &Planned, at: usize, root: &RootPlan) -> Done {
        let sizes = &planned.sizes[at];
        let Action::Behind(behind) = &root.action else {
            return self.act(planned, root, &root.action, sizes).await;
        };
        let Some(gate) = self.gates.get(&behind.flag) else {
            return self.act(planned, root, &behind.off, sizes).await;
        };
        let user = planned.caller.identity().map(|identity| identity.id.as_str());
        let mut passage = gate.enter(user);
        let action = if passage.on { &behind.on } else { &behind.off };
        let done = self.act(planned, root, action, sizes).await;
        passage.failed = done.failures.iter().any(|failure| failure.ours);
        done
    }

    async fn act(&self, planned: &Planned, root: &RootPlan, action: &Action, sizes: &[u32]) -> Done {
        let done = match action {
            Action::Constant(text) => Ok(Done { value: Ok(text.to_vec()), failures: Vec::new() }),
            Action::Introspection => self.introspect(planned, root).await,
            Action::Read(statement, answer) => self.read(planned, root, statement, answer, sizes).await,
            Action::Write(write) => self.write(planned, root, write, sizes).await,
            Action::Job(job) => self.job(planned, job).await,
            Action::Subscribe(_) => {
                Err(Failure::of_kind(ErrorKind::BadInput, "only a subscription waits for events"))
            }
            Action::Behind(_) => {
                Err(Failure::of_kind(ErrorKind::Internal, "what is behind a flag has no flag of its own"))
            }
        };
        done.unwrap_or_else(|failure| Done::failed(failure.at(&root.key, root.pos), root.nullable))
    }

    pub(super) async fn rows(
        &self,
        statement: &Statement,
        sizes: &[u32],
        variables: &Variables,
        call: &Call,
        reading: bool,
    ) -> Result<Vec<PgRow>, Failed> {
        let values = arguments::bind(&self.schema, statement, sizes, variables, call)
            .map_err(|refusal| Failed::Refused(Failure::refusal(&refusal)))?;
        let bind = || arguments::encode(statement, &values);
        self.postgres.rows(&statement.sql, reading, &bind).await.map_err(Failed::Database)
    }

    async fn read(
        &self,
        planned: &Planned,
        root: &RootPlan,
        statement: &Statement,
        answer: &Rows,
        sizes: &[u32],
    ) -> Result<Done, Failure> {
        let rows = self.rows(statement, sizes, &planned.variables, &Call::default(), true).await;
        let rows = rows.map_err(|failed| failed.failure(self, false))?;
        Ok(render(root, answer, &rows, sizes))
    }

    async fn write(
        &self,
        planned: &Planned,
        root: &RootPlan,
        write: &Write,
        sizes: &[u32],
    ) -> Result<Done, Failure> {
        let variables = &planned.variables;
        if write.event.is_some() && self.settings.gate.is_shut() {
            let message = "too many events wait to be sent; nothing was done";
            return Err(Failure::of_kind(ErrorKind::ServiceDegraded, message));
        }
        let mut call = self.call(write, variables)?;
        let rows = match self.rows(&write.change, sizes, variables, &call, false).await {
            Ok(rows) => rows,
            Err(failed) => return self.replay_or(planned, root, write, sizes, &call, failed).await,
        };
        if rows.is_empty() && !matches!(write.answer, Rows::Rows(..)) {
            if let Some(done) = self.replay(planned, root, write, sizes, &call).await? {
                return Ok(done);
            }
            return match write.absent {
                Absent::NotFound => Err(Failure::of_kind(ErrorKind::NotFound, "there is no such row")),
                Absent::Null => Ok(render(root, &write.answer, &rows, sizes)),
            };
        }
        let Some(after) = &write.after else { return Ok(render(root, &write.answer, &rows, sizes)) };
        call.row_key = row_key(&rows[0]);
        let rows = self.rows(after, sizes, variables, &call, true).await;
        let rows = rows.map_err(|failed| failed.failure(self, true))?;
        Ok(render(root, &write.answer, &rows, sizes))
    }

    fn call(&self, write: &Write, variables: &Variables) -> Result<Call, Failure> {
        let key = idempotency_key(write.key.as_ref(), variables)?;
        let input_hash = if key.is_some() { input_hash(&write.input, variables) } else { Vec::new() };
        let subject = write.event.as_ref().map(|event| format!("{}.{event}", self.settings.subject_prefix));
        Ok(Call {
            key,
            input_hash,
            operation: write.operation.to_string(),
            event_id: Uuid::now_v7().to_string(),
            subject: subject.unwrap_or_default(),
            traceparent: trace::traceparent(),
            row_key: Vec::new(),
        })
    }

    /// An error with a key may mean that the key was used at the same time: then its answer is the answer.
    async fn replay_or(
        &self,
        planned: &Planned,
        root: &RootPlan,
        write: &Write,
        sizes: &[u32],
        call: &Call,
        failed: Failed,
    ) -> Result<Done, Failure> {
        if let Failed::Database(error) = &failed
            && error.violation().is_some()
            && let Some(done) = self.replay(planned, root, write, sizes, call).await?
        {
            return Ok(done);
        }
        let wrote = !failed.is_refused();
        Err(failed.failure(self, wrote))
    }

    /// The answer that the key got when it was used first; `None` when it was not used.
    async fn replay(
        &self,
        planned: &Planned,
        root: &RootPlan,
        write: &Write,
        sizes: &[u32],
        call: &Call,
    ) -> Result<Option<Done>, Failure> {
        let Some(replay) = write.replay.as_ref().filter(|_| call.key.is_some()) else { return Ok(None) };
        let rows = self.rows(replay, sizes, &planned.variables, call, true).await;
        let rows = rows.map_err(|failed| failed.failure(self, true))?;
        let Some(row) = rows.first() else { return Ok(None) };
        if raw(row, row.len() - 1) != Some(&[1][..]) {
            let message = "the idempotency key was used before with another input";
            return Err(Failure::of_kind(ErrorKind::IdempotencyConflict, message));
        }
        Ok(Some(render(root, &write.answer, &rows, sizes)))
    }

    /// Answers `__schema` and `__type`, as an operation of nothing else.
    async fn introspect(&self, planned: &Planned, root: &RootPlan) -> Result<Done, Failure> {
        let fragments = planned.prepared.fragments();
        let document = Document { schema: &self.schema, fragments, variables: &planned.variables };
        let operation = planned.prepared.operation();
        let selection = document.collect(None, &[&operation.selection_set.node]);
        let selection = selection.map_err(|refusal| Failure::refusal(&refusal))?;
        let Some(selected) = selection.get(&*root.key) else {
            return Err(Failure::of_kind(ErrorKind::Internal, "something went wrong on our side"));
        };
        let items = selected.sets.iter().flat_map(|set| set.items.iter().cloned()).collect();
        let field = Given { selection_set: here(SelectionSet { items }), ..selected.given.clone() };
        let alone = OperationDefinition {
            selection_set: here(SelectionSet { items: vec![here(Selection::Field(here(field)))] }),
            ..operation.clone()
        };
        let mut request = async_graphql::Request::new("").variables(planned.variables.clone());
        request.set_parsed_query(ExecutableDocument {
            operations: DocumentOperations::Single(here(alone)),
            fragments: fragments.clone(),
        });
        let answer = self.graphql.introspect(request).await;
        if let Some(error) = answer.errors.first() {
            return Err(Failure::validation(error));
        }
        let value = match &answer.data {
            Value::Object(fields) => fields.get(&*root.key).cloned().unwrap_or(Value::Null),
            _ => Value::Null,
        };
        let value = serde_json::to_vec(&value).unwrap_or_else(|_| b"null".to_vec());
        Ok(Done { value: Ok(value), failures: Vec::new() })
    }

    /// Queues a job and answers its id.
    async fn job(&self, planned: &Planned, job: &Job) -> Result<Done, Failure> {
        let variables = &planned.variables;
        let key = idempotency_key(job.key.as_ref(), variables)?;
        let Some(queue) = &self.queue else {
            return Err(Failure::of_kind(ErrorKind::Unavailable, "there is no queue for jobs"));
        };
        let id = self.enqueue(queue, job, key, variables).await?;
        let mut out = vec![b'{'];
        for (at, (written_key, field)) in job.fields.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(written_key);
            match field {
                JobField::Constant(text) => out.extend_from_slice(text),
                JobField::Id => write_string(&id.to_string(), &mut out),
                JobField::Arg(source) => {
                    let value = source.read(variables);
                    out.extend(serde_json::to_vec(&value).unwrap_or_else(|_| b"null".to_vec()));
                }
            }
        }
        out.push(b'}');
        Ok(Done { value: Ok(out), failures: Vec::new() })
    }
}

/// Why a statement gave no rows.
pub(super) enum Failed {
    Refused(Failure),
    Database(crate::storage::postgres::Error),
}

impl Failed {
    /// Whether the database was not asked.
    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Database(crate::storage::postgres::Error::Refused(_)))
    }

    pub(super) fn failure(self, inner: &Inner, wrote: bool) -> Failure {
        match self {
            Self::Refused(failure) => failure,
            Self::Database(error) => of_database(&inner.schema, &error, wrote),
        }
    }
}

fn here<T>(node: T) -> Positioned<T> {
    Positioned::new(node, async_graphql::Pos::default())
}

/// The bytes of a column.
fn raw(row: &PgRow, at: usize) -> Option<&[u8]> {
    row.try_get_raw(at).ok()?.as_bytes().ok()
}

fn columns<'r>(row: &'r PgRow, into: &mut Vec<Option<&'r [u8]>>) {
    into.clear();
    into.extend((0..row.len()).map(|at| raw(row, at)));
}

fn row_key(row: &PgRow) -> Vec<Option<String>> {
    (0..row.len()).map(|at| raw(row, at).map(|raw| String::from_utf8_lossy(raw).into_owned())).collect()
}

pub(super) fn render(root: &RootPlan, answer: &Rows, rows: &[PgRow], sizes: &[u32]) -> Done {
    let mut out = Vec::with_capacity(64 + rows.len() * 128);
    let mut renderer = Renderer::new(&mut out, &root.key, sizes);
    let mut row = Vec::new();
    let written = match answer {
        Rows::Row(shape) => match rows.first() {
            Some(first) => {
                columns(first, &mut row);
                renderer.object(shape, &row, root.nullable)
            }
            None => absent(&mut renderer, root.nullable),
        },
        Rows::Value(shape) => match rows.first() {
            Some(first) => {
                columns(first, &mut row);
                renderer.value(shape, &row, root.nullable)
            }
            None => absent(&mut renderer, root.nullable),
        },
        Rows::Page(shape) => match rows.first() {
            Some(first) => {
                columns(first, &mut row);
                renderer.page_or_null(shape, &row, root.nullable)
            }
            None => absent(&mut renderer, root.nullable),
        },
        Rows::Rows(shape, reverse) => {
            let mut order: Vec<&PgRow> = rows.iter().collect();
            if *reverse {
                order.reverse();
            }
            renderer.list_of(order.len(), root.nullable, |renderer, at| {
                columns(order[at], &mut row);
                renderer.object(shape, &row, root.items_nullable)
            })
        }
    };
    let failures = std::mem::take(&mut renderer.errors).into_iter().map(Failure::field).collect();
    let value = written.map(|()| out);
    Done { value, failures }
}

fn absent(renderer: &mut Renderer<'_>, nullable: bool) -> Result<(), NullHere> {
    if nullable {
        write_null(renderer.out);
        return Ok(());
    }
    renderer.fail("there is nothing where something must be");
    Err(NullHere)
}

/// What executing an operation brought.
#[derive(Debug, Clone)]
pub(super) struct Output {
    /// The JSON of `data`.
    pub(super) data: Vec<u8>,
    /// The JSON of `errors`, if there were some.
    pub(super) errors: Option<Vec<u8>>,
    /// Whether one of them is ours.
    pub(super) failed: bool,
    /// Whether the database was away.
    pub(super) away: bool,
    /// Whether every root field was refused, so that nothing was changed.
    pub(super) refused: bool,
    /// Set when nothing was done, since what each root field needs is not asked now: when it may be.
    pub(super) retry_after: Option<Duration>,
}

impl Output {
    /// `{"data":{…},"errors":[…]}`.
    pub(super) fn answer(self) -> Answer {
        let errors = self.errors.as_ref().map_or(0, Vec::len);
        let mut body = Vec::with_capacity(self.data.len() + errors + 24);
        body.extend_from_slice(b"{\"data\":");
        body.extend_from_slice(&self.data);
        if let Some(errors) = &self.errors {
            body.extend_from_slice(b",\"errors\":");
            body.extend_from_slice(errors);
        }
        body.push(b'}');
        Answer { body, stage: Stage::Executed, failed: self.failed, retry_after: self.retry_after }
    }
}

/// Puts the roots together.
pub(super) fn assemble(roots: &[RootPlan], done: Vec<Done>, mut failures: Vec<Failure>) -> Output {
    let bytes: usize = done.iter().map(|done| done.value.as_ref().map_or(4, Vec::len)).sum();
    let mut data = Vec::with_capacity(bytes + 64 * roots.len() + 2);
    if !failures.is_empty() || done.iter().any(|done| done.value.is_err()) {
        write_null(&mut data);
    } else {
        data.push(b'{');
        for (at, (root, done)) in roots.iter().zip(&done).enumerate() {
            if at > 0 {
                data.push(b',');
            }
            data.extend_from_slice(&root.written_key);
            data.extend_from_slice(done.value.as_deref().unwrap_or(b"null"));
        }
        data.push(b'}');
    }
    // The longest wait, if each root field has to wait; one that does not was answered.
    let waits =
        done.iter().map(|done| done.failures.iter().map(|failure| failure.retry_after_ms).max().flatten());
    let retry_after = waits.collect::<Option<Vec<_>>>().and_then(|waits| waits.into_iter().max());
    let retry_after = retry_after.map(|ms| Duration::from_millis(ms.into()));
    let refused = done.iter().all(|done| !done.failures.is_empty() && done.failures.iter().all(|f| !f.ours));
    failures.extend(done.into_iter().flat_map(|done| done.failures));
    let errors = (!failures.is_empty()).then(|| {
        let errors: Vec<_> = failures.iter().map(Failure::json).collect();
        serde_json::to_vec(&errors).unwrap_or_else(|_| b"[]".to_vec())
    });
    let away =
        [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::CircuitBreakerOpen].map(ErrorKind::code);
    Output {
        data,
        errors,
        failed: failures.iter().any(|failure| failure.ours),
        away: failures.iter().any(|failure| away.contains(&&*failure.code)),
        refused,
        retry_after,
    }
}

/// Bytes of an idempotency key at most.
const KEY_BYTES_MAX: usize = 255;

fn idempotency_key(source: Option<&Source>, variables: &Variables) -> Result<Option<String>, Failure> {
    match source.map(|source| source.read(variables)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(key))
            if !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.chars().any(char::is_control) =>
        {
            Ok(Some(key))
        }
        Some(_) => {
            let message =
                format!("idempotencyKey must be 1 to {KEY_BYTES_MAX} bytes without control characters");
            Err(Failure::of_kind(ErrorKind::BadInput, message))
        }
    }
}

/// What a key stands for: the input in one form, with the fields of objects in the order of the schema.
fn input_hash(input: &[(String, Source)], variables: &Variables) -> Vec<u8> {
    let values: Vec<(&str, Value)> =
        input.iter().map(|(name, source)| (name.as_str(), source.read(variables))).collect();
    Sha256::digest(serde_json::to_vec(&values).expect("values are plain data")).to_vec()
}
