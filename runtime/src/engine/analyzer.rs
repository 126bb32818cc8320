//! What an operation costs, without running it: for tools, gateways and tests.
//!
//! Promises: with the schema that is served the numbers are those that the engine checks its limits against, see
//! [`limits`](super::limits): depth is levels of fields, complexity is fields, each counted as often as the lists around
//! it are long. `__typename`, `cursor`, `totalCount` and the fields of `pageInfo` are fields like others: those of a row
//! count once a row, those of a page once. The time that it takes is bounded by the length of the text and the limit.
//!
//! Without a schema nobody knows which fields are lists. Then a field with `first`, `last` or `limit` is one, as long as
//! that says; any other field counts once, so that lists without such an argument are too cheap. A field that selects
//! `edges`, `nodes`, `pageInfo` or `totalCount` and has such an argument is taken for a page. Of abstract types the
//! fields of all members count, of which the engine takes the most expensive member's.
//!
//! A variable counts with its value where values are given, else with its default; else it is as large as the schema
//! allows, and [`UNKNOWN_LIST`] without a schema. What `@skip` and `@include` leave to a variable without value is counted.

use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{ExecutableDocument, OperationDefinition, OperationType, SelectionSet};
use async_graphql::{Value, Variables};

use super::expansion::{Endless, expansion};
use super::limits;
use super::plan::select::{Document, Selected};
use super::schema::model::{FieldKind, List, Named, ObjectId, ObjectKind, Returns, Schema};

/// Rows of a list whose length is in a variable without value and default, without a schema.
pub const UNKNOWN_LIST: u32 = 50;

/// Rows of a function that has no argument for it, as the engine counts them.
const FUNCTION_ROWS: u64 = super::plan::FUNCTION_ROWS as u64;

/// Says what operations cost, and refuses those that cost too much.
#[derive(Debug, Clone)]
pub struct QueryComplexityAnalyzer {
    max_depth: u32,
    max_complexity: u32,
    schema: Option<Arc<Schema>>,
}

/// What an operation costs; of several in one text each is that of the largest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComplexityReport {
    /// Levels of fields.
    pub depth: u32,
    /// Fields, each counted as often as the lists around it are long. Saturates.
    pub complexity: u32,
}

/// Why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// It has too many levels of fields.
    #[error("Query depth {depth} exceeds maximum {max}")]
    QueryTooDeep {
        /// Its levels; where selections go on beyond what is walked, as many as were seen.
        depth: u32,
        /// The limit.
        max: u32,
    },
    /// It costs too much.
    #[error("Query complexity {complexity} exceeds maximum {max}")]
    QueryTooComplex {
        /// Its cost; of one that cannot be counted field by field, the number of its fields.
        complexity: u32,
        /// The limit.
        max: u32,
    },
    /// It is no operation.
    #[error("the query cannot be read: {0}")]
    Unreadable(String),
}

impl QueryComplexityAnalyzer {
    /// An analyzer that knows no schema.
    pub const fn new(max_depth: u32, max_complexity: u32) -> Self {
        Self { max_depth, max_complexity, schema: None }
    }

    /// Knows the lists of a schema, and so gives the engine's numbers.
    #[must_use]
    pub fn with_schema(mut self, schema: Arc<Schema>) -> Self {
        self.schema = Some(schema);
        self
    }

    /// What the operations of a text cost, whatever their variables are.
    ///
    /// # Errors
    /// When one exceeds a limit or the text cannot be read.
    pub fn analyze(&self, query: &str) -> Result<ComplexityReport, SecurityError> {
        self.report(query, None)
    }

    /// What the operations of a text cost with these variables.
    ///
    /// # Errors
    /// When one exceeds a limit or the text cannot be read.
    pub fn analyze_with(&self, query: &str, given: &Variables) -> Result<ComplexityReport, SecurityError> {
        self.report(query, Some(given))
    }

    fn report(&self, query: &str, given: Option<&Variables>) -> Result<ComplexityReport, SecurityError> {
        let unreadable = |error: &dyn std::fmt::Display| SecurityError::Unreadable(error.to_string());
        // The parser recurses.
        let any = limits::Limits { tokens_max: usize::MAX, aliases_max: usize::MAX, ..Default::default() };
        limits::check_text(query, &any).map_err(|refusal| unreadable(&refusal))?;
        let document = parse_query(query).map_err(|error| unreadable(&error))?;
        let expanded = match expansion(&document) {
            Ok(expanded) => expanded,
            Err(Endless::TooDeep) => {
                return Err(SecurityError::QueryTooDeep { depth: u32::MAX, max: self.max_depth });
            }
            Err(Endless::Cycle) => return Err(unreadable(&Endless::Cycle)),
        };
        if limits::check_expansion(expanded, u64::from(self.max_complexity)).is_err() {
            return Err(self.too_complex(expanded.fields));
        }
        let mut largest = ComplexityReport::default();
        for (_, operation) in document.operations.iter() {
            let (depth, cost) = self.measure(&document, &operation.node, given);
            if depth > self.max_depth {
                return Err(SecurityError::QueryTooDeep { depth, max: self.max_depth });
            }
            if cost > u64::from(self.max_complexity) {
                return Err(self.too_complex(cost));
            }
            largest.depth = largest.depth.max(depth);
            largest.complexity = largest.complexity.max(u32::try_from(cost).unwrap_or(u32::MAX));
        }
        Ok(largest)
    }

    fn too_complex(&self, cost: u64) -> SecurityError {
        let complexity = u32::try_from(cost).unwrap_or(u32::MAX);
        SecurityError::QueryTooComplex { complexity, max: self.max_complexity }
    }

    fn measure(
        &self,
        document: &ExecutableDocument,
        operation: &OperationDefinition,
        given: Option<&Variables>,
    ) -> (u32, u64) {
        let none = Schema::default();
        let mut variables = Variables::default();
        for definition in &operation.variable_definitions {
            let name = &definition.node.name.node;
            let default = definition.node.default_value.as_ref().map(|value| &value.node);
            let value = given.and_then(|given| given.get(name)).or(default);
            if let Some(value) = value {
                variables.insert(name.clone(), value.clone());
            }
        }
        let schema = self.schema.as_deref().unwrap_or(&none);
        let document = Document { schema, fragments: &document.fragments, variables: &variables };
        let mut walk = Walk { document, known: given.is_some(), depth: 0 };
        let sets = [&operation.selection_set.node];
        let cost = match &self.schema {
            Some(schema) => walk.root(operation.ty, schema, &sets),
            None => walk.guess(&sets, 1),
        };
        (walk.depth, cost)
    }
}

/// What is below a field: fields that count once, and what its lists come to, which of an abstract type add up while of
/// the fields the most count.
#[derive(Default)]
struct Below {
    fields: u64,
    lists: u64,
}

impl Below {
    fn total(&self) -> u64 {
        self.fields.saturating_add(self.lists)
    }

    fn rows(length: u64, row: &Self) -> Self {
        Self { fields: 0, lists: length.saturating_mul(row.total()) }
    }

    fn add(&mut self, other: &Self) {
        self.fields = self.fields.saturating_add(other.fields);
        self.lists = self.lists.saturating_add(other.lists);
    }
}

struct Walk<'a> {
    document: Document<'a>,
    /// Whether a variable without a value was left out on purpose.
    known: bool,
    depth: u32,
}

impl<'a> Walk<'a> {
    fn seen(&mut self, depth: u32) {
        self.depth = self.depth.max(depth);
    }

    fn collect(&self, of: Option<ObjectId>, sets: &[&'a SelectionSet]) -> Vec<Selected<'a>> {
        self.document.collect_all(of, sets).into_values().collect()
    }

    fn root(&mut self, kind: OperationType, schema: &'a Schema, sets: &[&'a SelectionSet]) -> u64 {
        let fields = match kind {
            OperationType::Query => &schema.query,
            OperationType::Mutation => &schema.mutation,
            OperationType::Subscription => &schema.subscription,
        };
        let mut cost = 0u64;
        for selected in self.collect(None, sets) {
            self.seen(1);
            let below = match fields.get(selected.given.name.node.as_str()) {
                Some(field) => self.root_field(field, &selected),
                None => Below::default(),
            };
            cost = cost.saturating_add(1).saturating_add(below.total());
        }
        cost
    }

    fn root_field(&mut self, field: &super::schema::model::Field, selected: &Selected<'a>) -> Below {
        let target = match field.ty.named {
            Named::Object(id) => id,
            _ => return Below::default(),
        };
        match &field.kind {
            FieldKind::List(list) => self.list(list, field, target, selected, 2),
            FieldKind::Function(function) if function.returns == Returns::Rows => {
                let row = self.object(target, &selected.sets, 2);
                let reads = !self.document.schema.mutation.contains_key(&field.name);
                if reads { Below::rows(FUNCTION_ROWS, &row) } else { row }
            }
            FieldKind::Event { .. } => Below::default(),
            FieldKind::Job { .. } => {
                self.seen(2);
                Below { fields: self.collect(None, &selected.sets).len() as u64, lists: 0 }
            }
            _ => self.object(target, &selected.sets, 2),
        }
    }

    fn object(&mut self, id: ObjectId, sets: &[&'a SelectionSet], depth: u32) -> Below {
        let ObjectKind::Abstract { members, .. } = &self.document.schema.object(id).kind else {
            return self.fields(id, sets, depth);
        };
        let mut most = Below::default();
        for (_, member) in members {
            let one = self.fields(*member, sets, depth);
            most.fields = most.fields.max(one.fields);
            most.lists = most.lists.saturating_add(one.lists);
        }
        most
    }

    fn fields(&mut self, id: ObjectId, sets: &[&'a SelectionSet], depth: u32) -> Below {
        self.seen(depth);
        let object = self.document.schema.object(id);
        let mut cost = Below::default();
        for selected in self.collect(Some(id), sets) {
            cost.fields += 1;
            let Some(field) = object.fields.get(selected.given.name.node.as_str()) else { continue };
            match &field.kind {
                FieldKind::ToOne(relation) => {
                    cost.add(&self.object(relation.target, &selected.sets, depth + 1));
                }
                FieldKind::ToMany(relation, list) => {
                    cost.add(&self.list(list, field, relation.target, &selected, depth + 1));
                }
                _ => {}
            }
        }
        cost
    }

    fn list(
        &mut self,
        list: &List,
        field: &super::schema::model::Field,
        target: ObjectId,
        selected: &Selected<'a>,
        depth: u32,
    ) -> Below {
        let length = self.length(list, field, selected);
        if !list.connection {
            let row = self.object(target, &selected.sets, depth);
            return Below::rows(length, &row);
        }
        // A root's type is the page, a relation's target is the row.
        let target = match self.document.schema.object(target).kind {
            ObjectKind::Connection(row) => row,
            _ => target,
        };
        let (mut page, mut row) = (Below::default(), Below::default());
        self.seen(depth);
        for chosen in self.collect(None, &selected.sets) {
            page.fields += 1;
            match chosen.given.name.node.as_str() {
                "nodes" => row.add(&self.object(target, &chosen.sets, depth + 1)),
                "pageInfo" => {
                    self.seen(depth + 1);
                    page.fields += self.collect(None, &chosen.sets).len() as u64;
                }
                "edges" => {
                    self.seen(depth + 1);
                    for part in self.collect(None, &chosen.sets) {
                        row.fields += 1;
                        if part.given.name.node == "node" {
                            row.add(&self.object(target, &part.sets, depth + 2));
                        }
                    }
                }
                _ => {}
            }
        }
        page.add(&Below::rows(length, &row));
        page
    }

    /// How long a list is.
    fn length(&self, list: &List, field: &super::schema::model::Field, selected: &Selected<'_>) -> u64 {
        for name in [&list.first, &list.last].into_iter().flatten() {
            let given = selected.given.get_argument(name).map(|value| &value.node);
            if let Some(async_graphql_value::Value::Variable(variable)) = given
                && !self.known
                && !self.document.variables.contains_key(variable)
            {
                return list.size_max.into();
            }
            let value = given.and_then(|value| self.document.resolve(value));
            let default = || field.args.get(name)?.default.clone();
            match value.or_else(default) {
                None | Some(Value::Null) => {}
                Some(value) => return number(&value),
            }
        }
        list.size_default.into()
    }

    /// As [`fields`](Self::fields), without a schema.
    fn guess(&mut self, sets: &[&'a SelectionSet], depth: u32) -> u64 {
        const OF_A_PAGE: [&str; 4] = ["edges", "nodes", "pageInfo", "totalCount"];
        let mut cost = 0u64;
        for selected in self.collect(None, sets) {
            self.seen(depth);
            cost = cost.saturating_add(1);
            let length = self.guess_length(&selected);
            let below = self.collect(None, &selected.sets);
            let is_page = below.iter().any(|below| OF_A_PAGE.contains(&below.given.name.node.as_str()));
            let Some(length) = length.filter(|_| is_page) else {
                let row = self.guess(&selected.sets, depth + 1);
                cost = cost.saturating_add(length.unwrap_or(1).saturating_mul(row));
                continue;
            };
            for part in below {
                self.seen(depth + 1);
                let times =
                    if matches!(part.given.name.node.as_str(), "edges" | "nodes") { length } else { 1 };
                let row = self.guess(&part.sets, depth + 2);
                cost = cost.saturating_add(1).saturating_add(times.saturating_mul(row));
            }
        }
        cost
    }

    fn guess_length(&self, selected: &Selected<'_>) -> Option<u64> {
        ["first", "last", "limit"].iter().find_map(|name| {
            let given = &selected.given.get_argument(name)?.node;
            match self.document.resolve(given) {
                None if self.known => None,
                None => Some(UNKNOWN_LIST.into()),
                Some(Value::Null) => None,
                Some(value) => Some(number(&value)),
            }
        })
    }
}

/// A negative length is refused by the engine; here it is none.
fn number(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
