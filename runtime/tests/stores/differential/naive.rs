//! GraphQL over rows in memory, as the specification reads, field by field: what the engine's answers are held against.
//!
//! Promises: nothing is shared with the engine but the parser; no SQL, no plan. What an operation means here is written
//! from the specification (sections 6.2 to 6.4) and docs/schema.md.

use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field as Asked, FragmentDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, Value};
use async_graphql_value::Value as Literal;
use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;

use super::compare::{Cursors, naive_cursor, order_name};
use super::data::{Data, Datum, json_of};
use super::list::{Page, page};
use super::model::{Field, Link, List, Model, RootKind};
use super::operation::Operation;

/// Null that takes what is around it.
pub struct Bubble;

/// What an operation is answered with.
pub struct World<'a> {
    pub model: &'a Model,
    pub data: &'a Data,
    pub cursors: &'a Cursors,
}

type Fragments = HashMap<Name, Positioned<FragmentDefinition>>;

/// A request that is being answered.
pub struct Request<'a> {
    pub world: &'a World<'a>,
    fragments: &'a Fragments,
    variables: HashMap<String, Value>,
    errors: Vec<Json>,
    path: Vec<Json>,
}

/// Fields of one object by their keys: each mention of one.
type Collected<'a> = IndexMap<String, Vec<&'a Asked>>;

/// What a selection is made of.
#[derive(Clone, Copy)]
enum On<'n> {
    /// A type of the schema.
    Type(usize),
    /// The root, a page, an edge or a page info: fragments on it are always of its type.
    Structure(&'n str),
}

/// The whole answer: `data`, and `errors` with their paths alone.
pub fn answer(world: &World<'_>, document: &ExecutableDocument, operation: &Operation) -> Json {
    let (_, asked) = document.operations.iter().next().expect("an operation");
    let mut variables = HashMap::new();
    for definition in &asked.node.variable_definitions {
        let name = definition.node.name.node.as_str();
        let given =
            operation.variables.get(name).map(|json| Value::from_json(json.clone()).expect("a value"));
        if let Some(value) =
            given.or_else(|| definition.node.default_value.as_ref().map(|value| value.node.clone()))
        {
            variables.insert(name.to_owned(), value);
        }
    }
    let mut request =
        Request { world, fragments: &document.fragments, variables, errors: Vec::new(), path: Vec::new() };
    let data = request.roots(&[&asked.node.selection_set.node]).unwrap_or(Json::Null);
    let mut answer = Map::new();
    answer.insert("data".to_owned(), data);
    if !request.errors.is_empty() {
        answer.insert("errors".to_owned(), Json::Array(request.errors));
    }
    Json::Object(answer)
}

impl<'a> Request<'a> {
    /// The value of an argument; `None` when it is not given.
    pub fn argument(&self, field: &Asked, name: &str) -> Option<Value> {
        self.value(&field.get_argument(name)?.node)
    }

    fn value(&self, literal: &Literal) -> Option<Value> {
        Some(match literal {
            Literal::Variable(name) => self.variables.get(name.as_str())?.clone(),
            Literal::List(items) => {
                Value::List(items.iter().map(|item| self.value(item).unwrap_or(Value::Null)).collect())
            }
            Literal::Object(fields) => Value::Object(
                fields.iter().filter_map(|(name, value)| Some((name.clone(), self.value(value)?))).collect(),
            ),
            other => other.clone().into_const()?,
        })
    }

    fn is_left_out(&self, directives: &[Positioned<Directive>]) -> bool {
        directives.iter().any(|directive| {
            let wanted = match directive.node.name.node.as_str() {
                "include" => Value::Boolean(true),
                "skip" => Value::Boolean(false),
                other => panic!("@{other}"),
            };
            let given = directive.node.get_argument("if").and_then(|value| self.value(&value.node));
            given != Some(wanted)
        })
    }

    fn collect(&self, on: On<'_>, sets: &[&'a SelectionSet]) -> Collected<'a> {
        let mut fields = Collected::new();
        let mut visited = Vec::new();
        sets.iter().for_each(|set| self.collect_into(on, set, &mut fields, &mut visited));
        fields
    }

    fn collect_into(
        &self,
        on: On<'_>,
        set: &'a SelectionSet,
        fields: &mut Collected<'a>,
        visited: &mut Vec<Name>,
    ) {
        for item in &set.items {
            if self.is_left_out(item.node.directives()) {
                continue;
            }
            let (condition, inner) = match &item.node {
                Selection::Field(field) => {
                    fields.entry(field.node.response_key().node.to_string()).or_default().push(&field.node);
                    continue;
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if visited.contains(name) {
                        continue;
                    }
                    visited.push(name.clone());
                    let fragment = &self.fragments[name].node;
                    (Some(&fragment.type_condition.node.on.node), &fragment.selection_set.node)
                }
                Selection::InlineFragment(fragment) => {
                    let condition = fragment.node.type_condition.as_ref().map(|on| &on.node.on.node);
                    (condition, &fragment.node.selection_set.node)
                }
            };
            if condition.is_none_or(|name| self.is_of(on, name)) {
                self.collect_into(on, inner, fields, visited);
            }
        }
    }

    fn is_of(&self, on: On<'_>, name: &str) -> bool {
        let model = self.world.model;
        match on {
            On::Structure(known) => known == name,
            On::Type(ty) if model.types[ty].name == name => true,
            On::Type(ty) => {
                let holder = model.tables[model.types[ty].table].ty;
                model.types[holder].name == name
                    && model.members(holder).iter().any(|(_, member)| *member == ty)
            }
        }
    }

    fn at<T>(&mut self, step: Json, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let done = work(self);
        self.path.pop();
        done
    }

    fn fail(&mut self) -> Bubble {
        self.errors.push(json!({"path": self.path}));
        Bubble
    }

    /// The fields of a selection one after another; the first that cannot be null and is ends it.
    fn object(
        &mut self,
        on: On<'_>,
        sets: &[&'a SelectionSet],
        mut value: impl FnMut(&mut Self, &str, &'a Asked, &[&'a SelectionSet]) -> Result<Json, Bubble>,
    ) -> Result<Json, Bubble> {
        let mut object = Map::new();
        for (key, mentions) in self.collect(on, sets) {
            let sets: Vec<&SelectionSet> = mentions.iter().map(|field| &field.selection_set.node).collect();
            let field = mentions[0];
            let name = field.name.node.as_str();
            let written = self.at(json!(key), |this| value(this, name, field, &sets))?;
            object.insert(key, written);
        }
        Ok(Json::Object(object))
    }

    fn roots(&mut self, sets: &[&'a SelectionSet]) -> Result<Json, Bubble> {
        // Roots do not wait for each other: each tells its errors, whatever becomes of the others.
        let mut bubbled = false;
        let answered = self.object(On::Structure("Query"), sets, |this, name, field, sets| {
            let answered = this.root(name, field, sets);
            bubbled |= answered.is_err();
            Ok(answered.unwrap_or(Json::Null))
        });
        if bubbled { Err(Bubble) } else { answered }
    }

    fn root(&mut self, name: &str, field: &'a Asked, sets: &[&'a SelectionSet]) -> Result<Json, Bubble> {
        if name == "__typename" {
            return Ok(json!("Query"));
        }
        let model = self.world.model;
        let root = model.roots.iter().find(|root| root.name == name).expect("a root");
        let rows = &self.world.data.rows[root.table];
        match &root.kind {
            RootKind::List(list) => {
                let all = (0..rows.len()).collect();
                self.list(list, root.table, all, field, sets)
            }
            RootKind::Lookup(by) => {
                let table = &model.tables[root.table];
                let wanted: Vec<Datum> = by
                    .iter()
                    .map(|column| {
                        let known = &table.columns[*column];
                        let value = self.argument(field, &known.field).expect("a key is given");
                        super::data::read(known.kind, &value)
                    })
                    .collect();
                let found = rows
                    .iter()
                    .position(|row| by.iter().zip(&wanted).all(|(column, wanted)| row[*column] == *wanted));
                match found.filter(|row| self.exists(root.table, *row)) {
                    Some(row) => Ok(self.row(root.table, row, sets).unwrap_or(Json::Null)),
                    None => Ok(Json::Null),
                }
            }
        }
    }

    /// Whether a row is not marked as deleted.
    pub fn exists(&self, table: usize, row: usize) -> bool {
        let marked = self.world.model.tables[table].soft_delete;
        marked.is_none_or(|column| self.world.data.rows[table][row][column].is_null())
    }

    fn row(&mut self, table: usize, row: usize, sets: &[&'a SelectionSet]) -> Result<Json, Bubble> {
        let model = self.world.model;
        let of = &model.tables[table];
        let ty = match of.discriminator {
            None => of.ty,
            Some(column) => {
                let Datum::Text(text) = &self.world.data.rows[table][row][column] else { panic!("no text") };
                match model.members(of.ty).iter().find(|(known, _)| known == text) {
                    Some((_, member)) => *member,
                    None => return Err(self.fail()),
                }
            }
        };
        self.object(On::Type(ty), sets, |this, name, asked, sets| {
            if name == "__typename" {
                return Ok(json!(model.types[ty].name));
            }
            let field = model.types[ty].fields.iter().find(|field| field.name == name).expect("a field");
            this.field(table, row, field, asked, sets)
        })
    }

    fn field(
        &mut self,
        table: usize,
        row: usize,
        field: &'a Field,
        asked: &'a Asked,
        sets: &[&'a SelectionSet],
    ) -> Result<Json, Bubble> {
        let (model, data) = (self.world.model, self.world.data);
        let here = &data.rows[table][row];
        let key = |of: usize, row: usize| -> Vec<&Datum> {
            model.tables[of].key.iter().map(|key| &data.rows[of][row][*key]).collect()
        };
        match &field.link {
            Link::Column(column) => self.column(table, *column, &here[*column]),
            Link::ToOne { columns, table: there } => {
                let wanted: Vec<&Datum> = columns.iter().map(|column| &here[*column]).collect();
                let found = self.find(*there, |row| key(*there, row) == wanted && !wanted[0].is_null());
                self.one(*there, found, field.nullable, sets)
            }
            Link::Inverse { table: there, columns } => {
                let mine = key(table, row);
                let found = self.find(*there, |row| {
                    columns.iter().zip(&mine).all(|(column, key)| data.rows[*there][row][*column] == **key)
                });
                self.one(*there, found, field.nullable, sets)
            }
            Link::ToMany { table: there, columns, list } => {
                let mine = key(table, row);
                let tied = |row: &usize| {
                    columns.iter().zip(&mine).all(|(column, key)| data.rows[*there][*row][*column] == **key)
                };
                let rows = (0..data.rows[*there].len()).filter(tied).collect();
                self.list(list, *there, rows, asked, sets)
            }
            Link::Through { between, left, list } => {
                let pairs = data.pairs[*between].iter();
                let rows = pairs.filter_map(|(l, r)| {
                    let (mine, theirs) = if *left { (l, r) } else { (r, l) };
                    (*mine == row).then_some(*theirs)
                });
                let between = &model.betweens[*between];
                let there = if *left { between.right } else { between.left };
                self.list(list, there, rows.collect(), asked, sets)
            }
        }
    }

    fn find(&self, table: usize, is: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.world.data.rows[table].len()).find(|row| is(*row)).filter(|row| self.exists(table, *row))
    }

    fn one(
        &mut self,
        table: usize,
        row: Option<usize>,
        nullable: bool,
        sets: &[&'a SelectionSet],
    ) -> Result<Json, Bubble> {
        let Some(row) = row else {
            return if nullable { Ok(Json::Null) } else { Err(self.fail()) };
        };
        match self.row(table, row, sets) {
            Err(Bubble) if nullable => Ok(Json::Null),
            written => written,
        }
    }

    fn column(&mut self, table: usize, column: usize, value: &Datum) -> Result<Json, Bubble> {
        let column = &self.world.model.tables[table].columns[column];
        let Datum::List(items) = value else { return Ok(json_of(column.kind, value)) };
        let mut written = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if item.is_null() && !column.items_nullable {
                let bubble = self.at(json!(at), Self::fail);
                return if column.nullable { Ok(Json::Null) } else { Err(bubble) };
            }
            written.push(json_of(column.kind, item));
        }
        Ok(Json::Array(written))
    }

    /// A list or a page of these rows; both are never null, nor are their items.
    fn list(
        &mut self,
        list: &'a List,
        table: usize,
        rows: Vec<usize>,
        asked: &'a Asked,
        sets: &[&'a SelectionSet],
    ) -> Result<Json, Bubble> {
        let rows = rows.into_iter().filter(|row| self.exists(table, *row)).collect();
        let page = page(self, list, table, rows, asked);
        if !list.connection {
            return self.rows(table, &page, sets);
        }
        let model = self.world.model;
        let name = &model.types[model.tables[table].ty].name;
        self.object(On::Structure(&format!("{name}Connection")), sets, |this, field, _, sets| match field {
            "__typename" => Ok(json!(format!("{name}Connection"))),
            "totalCount" => Ok(json!(page.total)),
            "nodes" => this.rows(table, &page, sets),
            "edges" => this.items(&page, |this, row| {
                let on = format!("{name}Edge");
                this.object(On::Structure(&on), sets, |this, field, _, sets| match field {
                    "__typename" => Ok(json!(on)),
                    "cursor" => Ok(this.cursor(table, &page, row)),
                    "node" => this.row(table, row, sets),
                    other => panic!("{other} of an edge"),
                })
            }),
            "pageInfo" => this.object(On::Structure("PageInfo"), sets, |this, field, _, _| {
                let cursor =
                    |row: Option<&usize>| row.map_or(Json::Null, |row| this.cursor(table, &page, *row));
                Ok(match field {
                    "__typename" => json!("PageInfo"),
                    "hasNextPage" => json!(page.has_next),
                    "hasPreviousPage" => json!(page.has_previous),
                    "startCursor" => cursor(page.rows.first()),
                    "endCursor" => cursor(page.rows.last()),
                    other => panic!("{other} of a page info"),
                })
            }),
            other => panic!("{other} of a page"),
        })
    }

    fn rows(&mut self, table: usize, page: &Page, sets: &[&'a SelectionSet]) -> Result<Json, Bubble> {
        self.items(page, |this, row| this.row(table, row, sets))
    }

    fn items(
        &mut self,
        page: &Page,
        mut item: impl FnMut(&mut Self, usize) -> Result<Json, Bubble>,
    ) -> Result<Json, Bubble> {
        let mut items = Vec::new();
        for (at, row) in page.rows.iter().enumerate() {
            items.push(self.at(json!(at), |this| item(this, *row))?);
        }
        Ok(Json::Array(items))
    }

    fn cursor(&self, table: usize, page: &Page, row: usize) -> Json {
        json!(naive_cursor(&order_name(self.world.model, table, &page.order), row))
    }
}
