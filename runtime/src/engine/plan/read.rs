//! Selections as SQL: columns of the row, to-one relations as joins, to-many relations as arrays of records.
//!
//! Why so: rows and records in binary with the JSON made here take a third less of PostgreSQL's time than its own JSON
//! functions, and a join for a to-one relation inside a list is faster than a subselect (docs/benchmarks.md).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use async_graphql::Pos;
use async_graphql::parser::types::SelectionSet;

use super::access::Asking;
use super::args::{Arg, Source, resolve};
use super::bind::{Argument, Given, Param, Size, wire_type};
use super::cost::Cost;
use super::error::Refusal;
use super::select::{Document, Selected};
use super::shape::{Body, EnumTexts, FieldShape, Leaf, ObjectShape, ValueShape, written_key, written_text};
use super::{Action, Answer, Planned, Statement};
use crate::engine::encode::Decoder;
use crate::engine::schema::model::{
    Column, Field, FieldKind, Function, Named, Object, ObjectId, ObjectKind, Relation, Returns, Supplied,
    quoted,
};

/// What one statement is made of.
pub(super) struct Builder<'a> {
    pub(super) document: Document<'a>,
    pub(super) params: Vec<Param>,
    pub(super) sizes: Vec<Size>,
    pub(super) tables: BTreeSet<String>,
    pub(super) asking: Asking,
    aliases: usize,
    depth_max: u32,
}

/// One FROM with what is selected of it.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) columns: Vec<String>,
    pub(super) joins: String,
}

impl Frame {
    /// The position of an expression; equal ones are selected once.
    pub(super) fn column(&mut self, expression: String) -> usize {
        match self.columns.iter().position(|known| *known == expression) {
            Some(at) => at,
            None => {
                self.columns.push(expression);
                self.columns.len() - 1
            }
        }
    }

    /// The select list; never empty, since a row without columns cannot be told from none.
    pub(super) fn list(&self) -> String {
        if self.columns.is_empty() { "true".to_owned() } else { self.columns.join(", ") }
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(document: Document<'a>) -> Self {
        Self {
            document,
            params: Vec::new(),
            sizes: Vec::new(),
            tables: BTreeSet::new(),
            asking: Asking::default(),
            aliases: 0,
            depth_max: 0,
        }
    }

    pub(super) fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("t{}", self.aliases - 1)
    }

    /// Adds a parameter; answers its place in SQL.
    pub(super) fn param(&mut self, param: Param) -> String {
        let known = self.params.iter().position(|known| *known == param);
        let at = known.unwrap_or_else(|| {
            self.params.push(param);
            self.params.len() - 1
        });
        format!("${}", at + 1)
    }

    /// A value of the caller, as SQL of the column's type.
    pub(super) fn value(
        &mut self,
        source: Source,
        name: &str,
        pos: Pos,
        named: Named,
        column: &Column,
    ) -> String {
        self.typed(source, name, pos, named, column, column.array)
    }

    /// As [`value`](Self::value), but a list of values of the column's type.
    pub(super) fn values(
        &mut self,
        source: Source,
        name: &str,
        pos: Pos,
        named: Named,
        column: &Column,
    ) -> String {
        self.typed(source, name, pos, named, column, true)
    }

    fn typed(
        &mut self,
        source: Source,
        name: &str,
        pos: Pos,
        named: Named,
        column: &Column,
        array: bool,
    ) -> String {
        let value = Argument { source, name: Arc::from(name), pos, named, pg: column.pg, array };
        let place = self.param(Param::Value(value));
        let (wire, list) = (wire_type(column.pg, array), if array { "[]" } else { "" });
        let target = format!("{}{list}", column.sql_type);
        if wire == target { format!("{place}::{wire}") } else { format!("{place}::{wire}::{target}") }
    }

    pub(super) fn seen(&mut self, depth: u32) {
        self.depth_max = self.depth_max.max(depth);
    }

    /// What a field's argument is.
    pub(super) fn arg(&self, field: &Field, selected: &Selected<'_>, name: &str) -> Option<Arg> {
        let argument = field.args.get(name)?;
        let given = selected.given.get_argument(name).map(|value| &value.node);
        resolve(self.document.schema, argument, given, self.document.variables)
    }

    /// Where an argument stands, else its field.
    pub(super) fn arg_pos(selected: &Selected<'_>, name: &str) -> Pos {
        selected.given.get_argument(name).map_or(selected.pos, |value| value.pos)
    }

    /// What is selected of an object whose row is `alias`.
    pub(super) fn object(
        &mut self,
        frame: &mut Frame,
        alias: &str,
        id: ObjectId,
        sets: &[&'a SelectionSet],
        depth: u32,
    ) -> Result<(ObjectShape, Cost), Refusal> {
        let schema = self.document.schema;
        let object = schema.object(id);
        self.tables.insert(object.table.name.clone());
        self.ask_object(id);
        let ObjectKind::Abstract { discriminator, members, .. } = &object.kind else {
            let (fields, cost) = self.fields(frame, alias, id, sets, depth)?;
            return Ok((ObjectShape { presence: None, body: Body::Fields(fields) }, cost));
        };
        let discriminator = frame.column(format!("{alias}.{}::text", quoted(discriminator)));
        let mut variants = Vec::with_capacity(members.len());
        let mut most = Cost::default();
        for (text, member) in members {
            let (fields, cost) = self.fields(frame, alias, *member, sets, depth)?;
            variants.push((text.clone(), fields));
            most.fields = most.fields.max(cost.fields);
            most.lists.extend(cost.lists);
        }
        Ok((ObjectShape { presence: None, body: Body::Variants { discriminator, variants } }, most))
    }

    fn fields(
        &mut self,
        frame: &mut Frame,
        alias: &str,
        id: ObjectId,
        sets: &[&'a SelectionSet],
        depth: u32,
    ) -> Result<(Vec<FieldShape>, Cost), Refusal> {
        let schema = self.document.schema;
        let object = schema.object(id);
        let selection = self.document.collect(Some(id), sets)?;
        let mut shapes = Vec::with_capacity(selection.len());
        let mut cost = Cost::default();
        self.seen(depth);
        for (key, selected) in &selection {
            let name = selected.given.name.node.as_str();
            cost.fields += 1;
            let (nullable, value) = if name == "__typename" {
                (false, ValueShape::Constant(written_text(&object.name)))
            } else {
                let field = object.fields.get(name).ok_or_else(|| super::unknown(selected))?;
                self.asking.enter(key, selected);
                self.ask_field(id, field);
                let (value, below) = self.field(frame, alias, field, selected, depth)?;
                self.asking.leave();
                cost.fields += below.fields;
                cost.lists.extend(below.lists);
                (field.ty.nullable, value)
            };
            shapes.push(FieldShape { written_key: written_key(key), key: Arc::from(*key), nullable, value });
        }
        Ok((shapes, cost))
    }

    fn field(
        &mut self,
        frame: &mut Frame,
        alias: &str,
        field: &'a Field,
        selected: &Selected<'a>,
        depth: u32,
    ) -> Result<(ValueShape, Cost), Refusal> {
        match &field.kind {
            FieldKind::Column(column) => {
                let at = frame.column(column_sql(alias, column));
                Ok((leaf(self.document, field, column, at), Cost::default()))
            }
            FieldKind::ToOne(relation) => self.one(frame, alias, relation, selected, depth),
            FieldKind::ToMany(relation, list) => {
                super::check_required(self.document, field, selected)?;
                let (shape, cost) = self.many(frame, alias, field, relation, list, selected, depth)?;
                Ok((shape, cost))
            }
            _ => Err(super::unknown(selected)),
        }
    }

    fn one(
        &mut self,
        frame: &mut Frame,
        alias: &str,
        relation: &Relation,
        selected: &Selected<'a>,
        depth: u32,
    ) -> Result<(ValueShape, Cost), Refusal> {
        let target = self.document.schema.object(relation.target);
        let joined = self.alias();
        let _ = write!(
            frame.joins,
            " LEFT JOIN {} {joined} ON {}",
            target.table.sql(),
            join_on(alias, &joined, relation)
        );
        if let Some(column) = &target.table.soft_delete {
            let _ = write!(frame.joins, " AND {joined}.{} IS NULL", quoted(column));
        }
        let presence = (!relation.required).then(|| {
            let there = relation.on.first().map_or("", |(_, there)| there);
            frame.column(format!("({joined}.{} IS NOT NULL)", quoted(there)))
        });
        let (mut shape, cost) = self.object(frame, &joined, relation.target, &selected.sets, depth + 1)?;
        shape.presence = presence;
        Ok((ValueShape::Object(Box::new(shape)), cost))
    }
}

/// `a."x" = b."y" AND …`.
pub(super) fn join_on(here: &str, there: &str, relation: &Relation) -> String {
    let pairs = relation.on.iter();
    let equal = pairs.map(|(one, other)| format!("{there}.{} = {here}.{}", quoted(other), quoted(one)));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The column as it is selected.
pub(super) fn column_sql(alias: &str, column: &Column) -> String {
    let cast = match (column.as_text, column.array) {
        (true, true) => "::text[]",
        (true, false) => "::text",
        _ => "",
    };
    format!("{alias}.{}{cast}", quoted(&column.name))
}

/// How the value of a column is written as a field of this type.
pub(super) fn leaf(document: Document<'_>, field: &Field, column: &Column, at: usize) -> ValueShape {
    let leaf = match field.ty.named {
        Named::Enum(id) => {
            let values = document.schema.enumeration(id).values.iter();
            let texts: EnumTexts =
                values.map(|(name, value)| (value.text.clone(), written_text(name))).collect();
            Leaf::Enum(texts)
        }
        Named::Scalar(scalar) => match Decoder::new(column.pg, scalar) {
            Some(decoder) => Leaf::Scalar(decoder),
            None => return ValueShape::Constant(Box::from(&b"null"[..])),
        },
        Named::Object(_) | Named::Input(_) => return ValueShape::Constant(Box::from(&b"null"[..])),
    };
    match field.ty.list {
        Some(nullable) => ValueShape::Array(at, leaf, nullable),
        None => ValueShape::Column(at, leaf),
    }
}

/// Conditions that every read of an object's rows has.
pub(super) fn existing(object: &Object, alias: &str) -> Vec<String> {
    object.table.soft_delete.iter().map(|column| format!("{alias}.{} IS NULL", quoted(column))).collect()
}

impl<'a> Builder<'a> {
    /// `a."id" = $1::…` for each argument of a key.
    pub(super) fn key_conditions(
        &mut self,
        alias: &str,
        by: &[(String, Column)],
        field: &Field,
        selected: &Selected<'_>,
    ) -> Result<Vec<String>, Refusal> {
        let mut conditions = Vec::with_capacity(by.len());
        if let Named::Object(target) = field.ty.named {
            self.ask_columns(target, by.iter().map(|(_, column)| column));
        }
        for (name, column) in by {
            // A part of the key that is left out would leave a change with more rows than it names.
            let Some(Arg::Leaf(source)) = self.arg(field, selected, name) else {
                let pos = Self::arg_pos(selected, name);
                return Err(Refusal::input(pos, format!("{name} must not be null")));
            };
            let named = field.args[name.as_str()].ty.named;
            let value = self.value(source, name, Self::arg_pos(selected, name), named, column);
            conditions.push(format!("{alias}.{} = {value}", quoted(&column.name)));
        }
        Ok(conditions)
    }

    pub(super) fn planned(&self, cost: Cost) -> Planned {
        let needs = self.asking.needs.clone();
        Planned { depth: self.depth_max, cost, tables: self.tables.clone(), needs }
    }

    pub(super) fn statement(&self, sql: String) -> Statement {
        Statement { sql: Arc::from(sql), params: self.params.clone(), sizes: self.sizes.clone() }
    }
}

/// Plans a lookup or a list.
pub(super) fn root<'a>(
    document: Document<'a>,
    field: &'a Field,
    selected: &Selected<'a>,
) -> Result<(Action, Planned), Refusal> {
    let mut builder = Builder::new(document);
    builder.seen(1);
    match &field.kind {
        FieldKind::Lookup(by) => {
            let Named::Object(target) = field.ty.named else { return Err(super::unknown(selected)) };
            let (alias, mut frame) = (builder.alias(), Frame::default());
            let (shape, cost) = builder.object(&mut frame, &alias, target, &selected.sets, 2)?;
            let object = document.schema.object(target);
            let mut conditions = builder.key_conditions(&alias, by, field, selected)?;
            conditions.extend(existing(object, &alias));
            let (list, table, conditions) = (frame.list(), object.table.sql(), conditions.join(" AND "));
            let sql = format!("SELECT {list} FROM {table} {alias}{} WHERE {conditions}", frame.joins);
            Ok((Action::Read(builder.statement(sql), Answer::Row(shape)), builder.planned(cost)))
        }
        FieldKind::List(list) => builder.root_list(field, list, selected),
        _ => Err(super::unknown(selected)),
    }
}

/// Plans a function that reads.
pub(super) fn function<'a>(
    document: Document<'a>,
    field: &'a Field,
    function: &Function,
    selected: &Selected<'a>,
) -> Result<(Action, Planned), Refusal> {
    let mut builder = Builder::new(document);
    builder.seen(1);
    let call = builder.call(field, function, selected)?;
    if let Returns::Value(column) = &function.returns {
        let cast = if column.as_text { if column.array { "::text[]" } else { "::text" } } else { "" };
        let shape = leaf(document, field, column, 0);
        let statement = builder.statement(format!("SELECT {call}{cast}"));
        return Ok((Action::Read(statement, Answer::Value(shape)), builder.planned(Cost::default())));
    }
    let Named::Object(target) = field.ty.named else { return Err(super::unknown(selected)) };
    let (alias, mut frame) = (builder.alias(), Frame::default());
    let (shape, cost) = builder.object(&mut frame, &alias, target, &selected.sets, 2)?;
    let conditions = row_there(document.schema.object(target), &alias);
    let (list, joins) = (frame.list(), &frame.joins);
    let sql = format!("SELECT {list} FROM {call} {alias}{joins}{conditions}");
    let (answer, cost) = match function.returns {
        Returns::Rows => {
            let size = builder.fixed_size(field, selected);
            (Answer::Rows(shape, false), Cost { fields: 0, lists: vec![(0, size, cost)] })
        }
        _ => (Answer::Row(shape), cost),
    };
    let sql = match answer {
        Answer::Rows(..) => format!("{sql} LIMIT {}", super::page::ROWS_MAX),
        _ => sql,
    };
    Ok((Action::Read(builder.statement(sql), answer), builder.planned(cost)))
}

/// A function that answers one row answers a row of nulls for none.
pub(super) fn row_there(object: &Object, alias: &str) -> String {
    match object.table.key.first() {
        Some(key) => format!(" WHERE {alias}.{} IS NOT NULL", quoted(&key.name)),
        None => String::new(),
    }
}

impl<'a> Builder<'a> {
    /// `"schema"."name"("parameter" => $1::…, …)`.
    pub(super) fn call(
        &mut self,
        field: &Field,
        function: &Function,
        selected: &Selected<'_>,
    ) -> Result<String, Refusal> {
        let mut args = Vec::with_capacity(function.args.len());
        for (name, parameter) in &function.args {
            let Some(arg) = self.arg(field, selected, name) else { continue };
            let (named, pos) = (field.args[name.as_str()].ty.named, Self::arg_pos(selected, name));
            let value = self.value(arg.source(), name, pos, named, &parameter.column);
            args.push(format!("{} => {value}", quoted(&parameter.name)));
        }
        for (name, supplied) in &function.supplied {
            let (given, wire) = match supplied {
                Supplied::EventId => (Given::EventId, "text::uuid"),
                Supplied::IdempotencyKey => (Given::IdempotencyKey, "text"),
            };
            let place = self.param(Param::Given(given));
            args.push(format!("{} => {place}::{wire}", quoted(name)));
        }
        let name = crate::engine::schema::model::qualified(&function.schema, &function.name);
        Ok(format!("{name}({})", args.join(", ")))
    }
}
