//! Changes: one statement that changes, keeps the idempotency key with its answer, writes the event and answers.
//!
//! All of it is one transaction, the statement's own: the row, the key and the event are there together or not at all.
//! A key that was used before closes the gate, so that nothing happens; two calls at the same time both pass the gate,
//! and the second fails on the key's primary key with everything that it did.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::args::{Arg, Source};
use super::bind::{Given, Param};
use super::by_key::{choose, has_key, select_by_key};
use super::cost::Cost;
use super::error::Refusal;
use super::read::{Builder, existing, leaf, row_there};
use super::select::{Document, Selected};
use super::shape::{written_key, written_text};
use super::{Absent, Action, Answer, Job, JobField, Planned, Statement, Write};
use crate::engine::schema::model::{
    Column, Effects, Event, Field, FieldKind, Function, Input, Insert, Named, ObjectId, Returns, quoted,
};

/// Plans a field of the mutation root.
pub(super) fn root<'a>(
    document: Document<'a>,
    field: &'a Field,
    selected: &Selected<'a>,
) -> Result<(Action, Planned), Refusal> {
    let effects = match &field.kind {
        FieldKind::Insert(insert) => &insert.effects,
        FieldKind::Update { effects, .. } | FieldKind::Delete { effects, .. } => effects,
        FieldKind::Function(function) => &function.effects,
        FieldKind::Job { function, check, effects } => {
            return job(document, field, function, check.clone(), effects, selected);
        }
        _ => return Err(super::unknown(selected)),
    };
    let mut change = Change { builder: Builder::new(document), field, selected, effects };
    change.builder.seen(1);
    change.plan()
}

struct Change<'a, 'b> {
    builder: Builder<'a>,
    field: &'a Field,
    selected: &'b Selected<'a>,
    effects: &'a Effects,
}

impl<'a> Change<'a, '_> {
    fn plan(mut self) -> Result<(Action, Planned), Refusal> {
        if let FieldKind::Function(function) = &self.field.kind
            && let Returns::Value(column) = &function.returns
        {
            return self.value_of(function, column);
        }
        let Named::Object(target) = self.field.ty.named else { return Err(super::unknown(self.selected)) };
        let many = self.field.ty.list.is_some();
        let key = self.key();
        let table = self.builder.document.schema.object(target).table.sql();
        let change = self.change(target, key.is_some())?;
        let chosen = choose(&mut self.builder, "t0", target, &self.selected.sets)?;
        let apart = matches!(self.field.kind, FieldKind::Function(_)) && chosen.relational && !many;
        let columns = if apart { self.key_columns(target) } else { chosen.frame.list() };
        let joins = if apart { "" } else { chosen.frame.joins.as_str() };
        let with = self.with(&change, key.is_some());
        let sql = format!("WITH {with} SELECT {columns} FROM changed t0{joins}");
        let statement = self.builder.statement(sql);
        let after = if apart { Some(self.after(target)?) } else { None };
        let replay = if key.is_some() && !many { Some(self.replay(target, &table)?) } else { None };
        let answer = if many { Answer::Rows(chosen.shape, false) } else { Answer::Row(chosen.shape) };
        let absent = match self.field.kind {
            FieldKind::Update { .. } | FieldKind::Delete { .. } if !self.field.ty.nullable => {
                Absent::NotFound
            }
            _ => Absent::Null,
        };
        let planned = self.builder.planned(chosen.cost);
        let write = Write {
            change: statement,
            answer,
            after,
            replay,
            key,
            input: self.input(),
            event: self.effects.event.as_ref().map(|event| event.name.clone()),
            absent,
            changes_more: matches!(self.field.kind, FieldKind::Function(_) | FieldKind::Delete { .. }),
            operation: Arc::from(self.field.name.as_str()),
        };
        Ok((Action::Write(Box::new(write)), planned))
    }

    /// A function whose answer is no row.
    fn value_of(mut self, function: &'a Function, column: &'a Column) -> Result<(Action, Planned), Refusal> {
        let call = self.builder.call(self.field, function, self.selected)?;
        let cast = match (column.as_text, column.array) {
            (true, true) => "::text[]",
            (true, false) => "::text",
            _ => "",
        };
        let write = Write {
            change: self.builder.statement(format!("SELECT {call}{cast}")),
            answer: Answer::Value(leaf(self.builder.document, self.field, column, 0)),
            after: None,
            replay: None,
            key: None,
            input: self.input(),
            event: None,
            absent: Absent::Null,
            changes_more: true,
            operation: Arc::from(self.field.name.as_str()),
        };
        let planned = self.builder.planned(Cost::default());
        Ok((Action::Write(Box::new(write)), planned))
    }

    /// Where the caller's idempotency key is, if one was given.
    fn key(&self) -> Option<Source> {
        let path = self.effects.idempotency_key.as_ref()?;
        key_of(&self.builder, self.field, self.selected, path)
    }

    /// The arguments without the key.
    fn input(&self) -> Vec<(String, Source)> {
        let path = self.effects.idempotency_key.as_deref();
        input_of(&self.builder, self.field, self.selected, path)
    }

    /// The statement that changes, with RETURNING.
    fn change(&mut self, target: ObjectId, gated: bool) -> Result<String, Refusal> {
        match &self.field.kind {
            FieldKind::Insert(insert) => self.insert(insert, target, gated),
            FieldKind::Update { by, patch, .. } => self.update(by, patch, target, gated),
            FieldKind::Delete { by, .. } => self.delete(by, target, gated),
            FieldKind::Function(function) => {
                let call = self.builder.call(self.field, function, self.selected)?;
                let there = row_there(self.builder.document.schema.object(target), "f");
                let gate = if gated { "gate, LATERAL " } else { "" };
                Ok(format!("SELECT f.* FROM {gate}{call} f{there}"))
            }
            _ => Err(super::unknown(self.selected)),
        }
    }

    fn insert(&mut self, insert: &Insert, target: ObjectId, gated: bool) -> Result<String, Refusal> {
        let table = self.builder.document.schema.object(target).table.sql();
        let arg = self.builder.arg(self.field, self.selected, &insert.input);
        let rows = match arg {
            Some(Arg::List(rows)) => rows,
            Some(row) => vec![row],
            None => Vec::new(),
        };
        let given: Vec<BTreeMap<String, String>> =
            rows.iter().map(|row| self.row_values(&insert.input, row)).collect::<Result<_, _>>()?;
        let mut columns: Vec<&String> = given.iter().flat_map(BTreeMap::keys).collect();
        columns.sort_unstable();
        columns.dedup();
        let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let body = if rows.is_empty() {
            // An empty list of rows inserts nothing.
            return Ok(format!("SELECT * FROM {table} WHERE false"));
        } else if columns.is_empty() {
            format!("INSERT INTO {table} DEFAULT VALUES")
        } else if let ([row], true) = (given.as_slice(), gated) {
            let values: Vec<&str> = columns.iter().map(|column| row[*column].as_str()).collect();
            format!("INSERT INTO {table} ({}) SELECT {} FROM gate", names.join(", "), values.join(", "))
        } else {
            let rows = given.iter().map(|row| {
                let value = |column: &&String| row.get(*column).map_or("DEFAULT", String::as_str);
                format!("({})", columns.iter().map(value).collect::<Vec<_>>().join(", "))
            });
            format!(
                "INSERT INTO {table} ({}) VALUES {}",
                names.join(", "),
                rows.collect::<Vec<_>>().join(", ")
            )
        };
        Ok(format!("{body}{} RETURNING *", on_conflict(insert, &columns)))
    }

    /// Column → value, for the fields of an input that were given.
    fn row_values(&mut self, argument: &str, row: &Arg) -> Result<BTreeMap<String, String>, Refusal> {
        let pos = Builder::arg_pos(self.selected, argument);
        let Arg::Object(fields) = row else {
            return Err(Refusal::input(pos, format!("{argument} must be an object, not null")));
        };
        let schema = self.builder.document.schema;
        let Named::Input(id) = self.field.args[argument].ty.named else { return Ok(BTreeMap::new()) };
        let input: &Input = schema.input(id);
        let path = self.effects.idempotency_key.as_deref();
        let mut values = BTreeMap::new();
        for (name, arg) in fields {
            let is_key = path.is_some_and(|path| path.len() == 2 && path[0] == argument && path[1] == *name);
            let Some(column_name) = input.columns.get(name).filter(|_| !is_key) else { continue };
            let Some(column) = input.column_types.get(column_name) else { continue };
            let path = format!("{argument}.{name}");
            let named = input.fields[name.as_str()].ty.named;
            let value = match arg {
                Arg::Null => "NULL".to_owned(),
                arg => self.builder.value(arg.source(), &path, pos, named, column),
            };
            if let Named::Object(target) = self.field.ty.named {
                self.builder.ask_column(target, column_name);
            }
            values.insert(column_name.clone(), value);
        }
        Ok(values)
    }

    fn update(
        &mut self,
        by: &[(String, Column)],
        patch: &str,
        target: ObjectId,
        gated: bool,
    ) -> Result<String, Refusal> {
        let object = self.builder.document.schema.object(target);
        let arg = self.builder.arg(self.field, self.selected, patch).unwrap_or(Arg::Null);
        let values = self.row_values(patch, &arg)?;
        if values.is_empty() {
            let pos = Builder::arg_pos(self.selected, patch);
            return Err(Refusal::input(pos, format!("{patch} must have at least one field to change")));
        }
        let set: Vec<String> =
            values.iter().map(|(column, value)| format!("{} = {value}", quoted(column))).collect();
        let mut conditions = self.builder.key_conditions("x", by, self.field, self.selected)?;
        conditions.extend(existing(object, "x"));
        let (table, set, conditions) = (object.table.sql(), set.join(", "), conditions.join(" AND "));
        let gate = if gated { " FROM gate" } else { "" };
        Ok(format!("UPDATE {table} x SET {set}{gate} WHERE {conditions} RETURNING x.*"))
    }

    fn delete(&mut self, by: &[(String, Column)], target: ObjectId, gated: bool) -> Result<String, Refusal> {
        let object = self.builder.document.schema.object(target);
        let mut conditions = self.builder.key_conditions("x", by, self.field, self.selected)?;
        conditions.extend(existing(object, "x"));
        let (table, conditions) = (object.table.sql(), conditions.join(" AND "));
        match &object.table.soft_delete {
            Some(column) => {
                let gate = if gated { " FROM gate" } else { "" };
                let column = quoted(column);
                Ok(format!("UPDATE {table} x SET {column} = now(){gate} WHERE {conditions} RETURNING x.*"))
            }
            None => {
                let gate = if gated { " USING gate" } else { "" };
                Ok(format!("DELETE FROM {table} x{gate} WHERE {conditions} RETURNING x.*"))
            }
        }
    }

    /// The change with what is done besides, as common table expressions.
    fn with(&mut self, change: &str, gated: bool) -> String {
        let mut parts = Vec::with_capacity(4);
        if gated {
            let key = self.builder.param(Param::Given(Given::IdempotencyKey));
            parts.push(format!(
                "gate AS MATERIALIZED (SELECT WHERE NOT EXISTS (SELECT FROM idempotency_keys WHERE key = {key}::text))"
            ));
        }
        let materialized = if change.starts_with("SELECT") { " MATERIALIZED" } else { "" };
        parts.push(format!("changed AS{materialized} ({change})"));
        if gated {
            let key = self.builder.param(Param::Given(Given::IdempotencyKey));
            let operation = self.builder.param(Param::Given(Given::Operation));
            let hash = self.builder.param(Param::Given(Given::InputHash));
            parts.push(format!(
                "kept AS (INSERT INTO idempotency_keys (key, operation, input_hash, answer) \
                 SELECT {key}::text, {operation}::text, {hash}::bytea, to_jsonb(c) FROM changed c)"
            ));
        }
        if let Some(event) = &self.effects.event {
            parts.push(self.event(event));
        }
        parts.join(", ")
    }

    fn event(&mut self, event: &Event) -> String {
        let id = self.builder.param(Param::Given(Given::EventId));
        let subject = self.builder.param(Param::Given(Given::Subject));
        let trace = self.builder.param(Param::Given(Given::Traceparent));
        let fields = event.payload.iter().map(|(key, column, as_text)| {
            let cast = if *as_text { "::text" } else { "" };
            format!(", '{}', to_jsonb(c.{}{cast})", key.replace('\'', "''"), quoted(column))
        });
        let payload = format!("jsonb_build_object('event_id', {id}::text{})", fields.collect::<String>());
        format!(
            "emitted AS (INSERT INTO outbox (id, subject, payload, traceparent) SELECT {id}::text::uuid, \
             {subject}::text, {payload}, {trace}::text FROM changed c)"
        )
    }

    fn key_columns(&self, target: ObjectId) -> String {
        let key = &self.builder.document.schema.object(target).table.key;
        key.iter().map(|column| format!("t0.{}::text", quoted(&column.name))).collect::<Vec<_>>().join(", ")
    }

    /// Reads the row that a function has made, by its key, with everything that belongs to it.
    fn after(&self, target: ObjectId) -> Result<Statement, Refusal> {
        let mut builder = Builder::new(self.builder.document);
        let chosen = choose(&mut builder, "t0", target, &self.selected.sets)?;
        let conditions = has_key(&mut builder, target);
        Ok(select_by_key(builder, target, &chosen.frame, &conditions))
    }

    /// Reads the answer that the key got first: the row as it was then, what belongs to it as it is now.
    fn replay(&self, target: ObjectId, table: &str) -> Result<Statement, Refusal> {
        let mut builder = Builder::new(self.builder.document);
        let chosen = choose(&mut builder, "t0", target, &self.selected.sets)?;
        let key = builder.param(Param::Given(Given::IdempotencyKey));
        let operation = builder.param(Param::Given(Given::Operation));
        let hash = builder.param(Param::Given(Given::InputHash));
        let (list, joins) = (chosen.frame.list(), &chosen.frame.joins);
        let sql = format!(
            "SELECT {list}, (k.operation = {operation}::text AND k.input_hash = {hash}::bytea) \
             FROM idempotency_keys k CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, k.answer) t0{joins} \
             WHERE k.key = {key}::text"
        );
        Ok(builder.statement(sql))
    }
}

fn on_conflict(insert: &Insert, columns: &[&String]) -> String {
    if insert.conflict.is_empty() {
        return String::new();
    }
    let target: Vec<String> = insert.conflict.iter().map(|column| quoted(column)).collect();
    let changed = columns.iter().filter(|column| !insert.conflict.contains(column));
    let mut set: Vec<String> = changed.map(|column| format!("{0} = EXCLUDED.{0}", quoted(column))).collect();
    if set.is_empty() {
        // Changes nothing, but answers the row that is there.
        set = target.iter().map(|column| format!("{column} = EXCLUDED.{column}")).collect();
    }
    format!(" ON CONFLICT ({}) DO UPDATE SET {}", target.join(", "), set.join(", "))
}

fn key_of(builder: &Builder<'_>, field: &Field, selected: &Selected<'_>, path: &[String]) -> Option<Source> {
    let arg = builder.arg(field, selected, path.first()?)?;
    let arg = match path.get(1) {
        Some(name) => arg.get(name)?.clone(),
        None => arg,
    };
    match arg {
        Arg::Leaf(source) => Some(source),
        _ => None,
    }
}

fn input_of(
    builder: &Builder<'_>,
    field: &Field,
    selected: &Selected<'_>,
    key: Option<&[String]>,
) -> Vec<(String, Source)> {
    let mut input = Vec::new();
    for name in field.args.keys() {
        let Some(mut arg) = builder.arg(field, selected, name) else { continue };
        match key {
            Some([only]) if only == name => continue,
            Some([first, second]) if first == name => {
                if let Arg::Object(fields) = &mut arg {
                    fields.shift_remove(second.as_str());
                }
            }
            _ => {}
        }
        input.push((name.clone(), arg.source()));
    }
    input
}

fn job<'a>(
    document: Document<'a>,
    field: &'a Field,
    function: &'a Function,
    check: Option<String>,
    effects: &'a Effects,
    selected: &Selected<'a>,
) -> Result<(Action, Planned), Refusal> {
    let builder = Builder::new(document);
    let source = |name: &str| {
        builder
            .arg(field, selected, name)
            .map_or(Source::Constant(async_graphql::Value::Null), |arg| arg.source())
    };
    let args = function
        .args
        .iter()
        .map(|(name, parameter)| (parameter.name.clone(), parameter.column.sql_type.clone(), source(name)))
        .collect();
    let key = effects.idempotency_key.as_ref().and_then(|path| key_of(&builder, field, selected, path));
    let type_name = document.schema.name_of(field.ty.named);
    let mut fields = Vec::new();
    for (key, chosen) in &document.collect(None, &selected.sets)? {
        let value = match chosen.given.name.node.as_str() {
            "__typename" => JobField::Constant(written_text(type_name)),
            "jobId" => JobField::Id,
            name => JobField::Arg(source(name)),
        };
        fields.push((written_key(key), value));
    }
    let cost = Cost { fields: fields.len() as u64, lists: Vec::new() };
    let operation = Arc::from(field.name.as_str());
    let job = Job { function: function.name.clone(), check, args, key, operation, fields };
    Ok((Action::Job(Box::new(job)), Planned { depth: 2, cost, ..Planned::default() }))
}
