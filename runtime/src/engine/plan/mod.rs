//! An operation in, SQL and the shape of its answer out.
//!
//! Promises: pure; one statement for each root field of a query, however deep the selection is; values of the caller
//! are parameters, never text of a statement; the same operation and the same structure of arguments give the same plan.

mod access;
pub mod args;
pub mod bind;
mod by_key;
mod connection;
pub mod cost;
pub mod cursor;
pub mod error;
mod filter;
mod page;
mod read;
pub mod select;
pub mod shape;
mod subscribe;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_graphql::parser::types::{OperationDefinition, OperationType};
use async_graphql::{Pos, Variables};

pub use self::access::Need;
use self::args::{Arg, Source, has_forbidden_null, resolve};
use self::bind::{Param, Size};
use self::cost::Cost;
use self::error::Refusal;
pub use self::page::FUNCTION_ROWS;
use self::select::{Document, Selected};
use self::shape::{ObjectShape, PageShape, ValueShape, written_key, written_text};
use crate::engine::schema::model::{CacheControl, FieldKind, Named};
use crate::engine::{arguments, limits};

/// A compiled operation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether it reads or changes.
    pub kind: OperationType,
    /// Its root fields in their order.
    pub roots: Vec<RootPlan>,
    /// Levels of fields.
    pub depth: u32,
    /// What it costs, given the sizes of its lists.
    pub cost: Cost,
    /// The tables that it reads or changes.
    pub tables: BTreeSet<String>,
    /// What is asked of whoever wants it executed.
    pub needs: Vec<Need>,
}

impl Plan {
    /// The lengths of the lists of each root's statement.
    ///
    /// # Errors
    /// When a caller asks for more than allowed.
    pub fn sizes(&self, variables: &Variables) -> Result<Vec<Vec<u32>>, Refusal> {
        self.roots.iter().map(|root| root.action.sizes(variables)).collect()
    }

    /// What it costs with lists of these lengths.
    pub fn complexity(&self, sizes: &[Vec<u32>]) -> u64 {
        let length = |root: usize, size: usize| {
            sizes.get(root).and_then(|sizes| sizes.get(size)).copied().unwrap_or(1).into()
        };
        self.cost.total(&length)
    }
}

/// A root field.
#[derive(Debug, Clone)]
pub struct RootPlan {
    /// `"key":`.
    pub written_key: Box<[u8]>,
    /// The response key.
    pub key: Arc<str>,
    /// Where it stands in the operation.
    pub pos: Pos,
    /// Whether it may be null.
    pub nullable: bool,
    /// Whether an item may be null, of a list.
    pub items_nullable: bool,
    /// What it does.
    pub action: Action,
    /// How long its answer may be kept.
    pub cache: Option<CacheControl>,
}

/// What a root field does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Nothing: `__typename`.
    Constant(Box<[u8]>),
    /// `__schema` and `__type`: answered from the schema.
    Introspection,
    /// Reads.
    Read(Statement, Answer),
    /// Changes.
    Write(Box<Write>),
    /// Queues a job.
    Job(Box<Job>),
    /// Waits for events.
    Subscribe(Box<Subscribe>),
    /// One of two, as a flag says for the caller.
    Behind(Box<Behind>),
}

impl Action {
    fn sizes(&self, variables: &Variables) -> Result<Vec<u32>, Refusal> {
        match self {
            Self::Read(statement, _) => arguments::sizes(statement, variables),
            Self::Write(write) => arguments::sizes(&write.change, variables),
            Self::Subscribe(subscribe) => arguments::sizes(&subscribe.read, variables),
            // Both call a function with the same arguments and answer the same selection.
            Self::Behind(behind) => behind.off.sizes(variables),
            Self::Constant(_) | Self::Introspection | Self::Job(_) => Ok(Vec::new()),
        }
    }
}

/// What a field does behind a flag. Both are planned, so that the choice costs a request nothing more.
#[derive(Debug, Clone)]
pub struct Behind {
    /// The flag.
    pub flag: String,
    /// While it is off.
    pub off: Action,
    /// While it is on.
    pub on: Action,
}

/// A subscription: which events, and what is answered to each.
#[derive(Debug, Clone)]
pub struct Subscribe {
    /// The subject's last part.
    pub event: String,
    /// Keys of the payload with what each must be, and its type; null asks for nothing.
    pub filter: Vec<(String, Source, Named)>,
    /// Keys of the payload that are the row's key.
    pub key: Vec<String>,
    /// Reads the row by that key.
    pub read: Statement,
    /// What its columns are.
    pub answer: Answer,
}

/// A job that is queued.
#[derive(Debug, Clone)]
pub struct Job {
    /// The function that does it.
    pub function: String,
    /// A function with the same arguments that refuses by an exception.
    pub check: Option<String>,
    /// Parameter, its type in SQL, its value.
    pub args: Vec<(String, String, Source)>,
    /// Where the idempotency key comes from.
    pub key: Option<Source>,
    /// The name of the field, by which idempotency keys are kept apart.
    pub operation: Arc<str>,
    /// Key of the answer → what stands there.
    pub fields: Vec<(Box<[u8]>, JobField)>,
}

/// A field of what a job answers.
#[derive(Debug, Clone)]
pub enum JobField {
    /// `__typename`.
    Constant(Box<[u8]>),
    /// `jobId`.
    Id,
    /// An argument of the call.
    Arg(Source),
}

/// SQL with its parameters.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The text, the same for equal plans, so that it is prepared once per connection.
    pub sql: Arc<str>,
    /// `$1`, `$2`, ….
    pub params: Vec<Param>,
    /// Sizes of its lists, which parameters and pages refer to.
    pub sizes: Vec<Size>,
}

/// What the rows of a root's statement are.
#[derive(Debug, Clone)]
pub enum Answer {
    /// One row or none.
    Row(ObjectShape),
    /// A row for each item; whether they come in the wrong order.
    Rows(ObjectShape, bool),
    /// One row that holds a page.
    Page(Box<PageShape>),
    /// One row with one value.
    Value(ValueShape),
}

/// A change.
#[derive(Debug, Clone)]
pub struct Write {
    /// Changes, and answers unless `after` does.
    pub change: Statement,
    /// What the change answers.
    pub answer: Answer,
    /// Reads the answer by the key of the row that the change answered: what a function wrote is not seen by the
    /// statement that calls it.
    pub after: Option<Statement>,
    /// Reads the answer that was given when the idempotency key was used first. Its last column says whether the
    /// input is the same.
    pub replay: Option<Statement>,
    /// Where the idempotency key comes from.
    pub key: Option<Source>,
    /// The input without the key: what a key stands for.
    pub input: Vec<(String, Source)>,
    /// The name of the event that it emits.
    pub event: Option<String>,
    /// What no row means.
    pub absent: Absent,
    /// Whether it may change other tables than those that it names: a function, or a delete that cascades.
    pub changes_more: bool,
    /// The name of the field, by which idempotency keys are kept apart.
    pub operation: Arc<str>,
}

/// What it means that a change answered no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// The row that should be changed does not exist.
    NotFound,
    /// Null.
    Null,
}

/// Plans an operation.
///
/// # Errors
/// What a caller must change, with its place.
pub fn plan(document: Document<'_>, operation: &OperationDefinition) -> Result<Plan, Refusal> {
    let schema = document.schema;
    let fields = match operation.ty {
        OperationType::Query => &schema.query,
        OperationType::Mutation => &schema.mutation,
        OperationType::Subscription => &schema.subscription,
    };
    let selection = document.collect(None, &[&operation.selection_set.node])?;
    if operation.ty == OperationType::Subscription {
        subscribe::check_root(operation, &selection)?;
    }
    let mut plan = Plan {
        kind: operation.ty,
        roots: Vec::new(),
        depth: 0,
        cost: Cost::default(),
        tables: BTreeSet::new(),
        needs: Vec::new(),
    };
    for (key, selected) in &selection {
        let name = selected.given.name.node.as_str();
        let key: Arc<str> = Arc::from(*key);
        let root = match operation.ty {
            OperationType::Query => "Query",
            OperationType::Mutation => "Mutation",
            OperationType::Subscription => "Subscription",
        };
        let (action, (nullable, items_nullable), cache, planned) = match name {
            "__typename" => (
                Action::Constant(written_text(root)),
                (false, false),
                None,
                Planned { depth: 1, ..Planned::default() },
            ),
            "__schema" | "__type" => {
                limits::check_introspection(&document, &selected.sets)?;
                let depth = 1;
                (
                    Action::Introspection,
                    (name == "__type", false),
                    None,
                    Planned { depth, ..Planned::default() },
                )
            }
            _ => {
                let field = fields.get(name).ok_or_else(|| unknown(selected))?;
                plan.needs.extend(Need::of_root(root, field, &key, selected.pos));
                let (action, planned) = plan_root(document, field, selected)?;
                (action, (field.ty.nullable, field.ty.list.unwrap_or_default()), field.cache, planned)
            }
        };
        plan.depth = plan.depth.max(planned.depth);
        plan.cost.fields += 1;
        plan.cost.add(planned.cost, plan.roots.len());
        plan.tables.extend(planned.tables);
        plan.needs.extend(planned.needs.into_iter().map(|need| need.below(&key, selected.pos)));
        plan.roots.push(RootPlan {
            written_key: written_key(&key),
            key,
            pos: selected.pos,
            nullable,
            items_nullable,
            action,
            cache,
        });
    }
    Ok(plan)
}

/// What planning a root has found out besides the action.
#[derive(Debug, Default)]
struct Planned {
    depth: u32,
    cost: Cost,
    tables: BTreeSet<String>,
    needs: Vec<Need>,
}

fn plan_root(
    document: Document<'_>,
    field: &crate::engine::schema::model::Field,
    selected: &Selected<'_>,
) -> Result<(Action, Planned), Refusal> {
    check_required(document, field, selected)?;
    let (off, mut planned) = plan_kind(document, field, selected)?;
    let Some(behind) = &field.behind else { return Ok((off, planned)) };
    let (on, more) = plan_kind(document, &behind.field, selected)?;
    planned.tables.extend(more.tables);
    Ok((Action::Behind(Box::new(Behind { flag: behind.flag.clone(), off, on })), planned))
}

fn plan_kind(
    document: Document<'_>,
    field: &crate::engine::schema::model::Field,
    selected: &Selected<'_>,
) -> Result<(Action, Planned), Refusal> {
    match &field.kind {
        FieldKind::Event(source) => subscribe::root(document, field, source, selected),
        FieldKind::Lookup(_) | FieldKind::List(_) => read::root(document, field, selected),
        FieldKind::Function(function) if !document.schema.mutation.contains_key(&field.name) => {
            read::function(document, field, function, selected)
        }
        _ => write::root(document, field, selected),
    }
}

/// Refuses null for an argument that takes none, and for a part of one: a variable that may be null passes validation
/// where it has a default, and a caller can give null for it all the same (specification, section 5.8.5).
fn check_required(
    document: Document<'_>,
    field: &crate::engine::schema::model::Field,
    selected: &Selected<'_>,
) -> Result<(), Refusal> {
    for (name, argument) in field.args.iter().filter(|(_, argument)| !argument.ty.nullable) {
        let given = selected.given.get_argument(name);
        let arg = resolve(document.schema, argument, given.map(|value| &value.node), document.variables);
        if matches!(arg, None | Some(Arg::Null)) {
            let pos = given.map_or(selected.pos, |value| value.pos);
            return Err(Refusal::input(pos, format!("{name} must not be null")));
        }
    }
    for (name, value) in &selected.given.arguments {
        let Some(argument) = field.args.get(name.node.as_str()) else { continue };
        let mut path = name.node.to_string();
        if has_forbidden_null(document.schema, argument.ty, &value.node, document.variables, &mut path) {
            return Err(Refusal::input(value.pos, format!("{path} must not be null")));
        }
    }
    Ok(())
}

fn unknown(selected: &Selected<'_>) -> Refusal {
    Refusal::input(selected.pos, format!("there is no field {}", selected.given.name.node))
}
