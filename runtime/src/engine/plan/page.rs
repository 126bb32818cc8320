//! Lists: which rows, in which order, how many, from where.
//!
//! Pages go by keys, not by counting: the next page begins behind the last row's keys, so it costs the same however
//! far it is, and rows that come or go meanwhile shift nothing. The key of the table ends every order, so none has ties.

use std::sync::Arc;

use async_graphql::{Pos, Value};

use super::args::{Arg, Source};
use super::bind::{Param, Size};
use super::cost::Cost;
use super::cursor::fingerprint;
use super::error::Refusal;
use super::read::{Builder, Frame, existing, join_on};
use super::select::Selected;
use super::shape::ValueShape;
use super::{Action, Answer, Planned};
use crate::engine::schema::model::{Column, Field, List, ObjectId, Relation, SortKey, qualified, quoted};

/// Rows of a function at most.
pub(super) const ROWS_MAX: u32 = 10_000;

/// As how many rows those of a function count.
pub const FUNCTION_ROWS: u32 = 50;

/// The parts of a list's SQL.
pub(super) struct Rows {
    pub(super) conditions: Vec<String>,
    pub(super) order: String,
    pub(super) limit: String,
    pub(super) size: usize,
    pub(super) sort: Vec<SortKey>,
    pub(super) backwards: bool,
    pub(super) continued: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn root_list(
        mut self,
        field: &'a Field,
        list: &'a List,
        selected: &Selected<'a>,
    ) -> Result<(Action, Planned), Refusal> {
        let target = self.target(field, selected)?;
        if list.connection {
            let mut frame = Frame::default();
            let (shape, cost) = self.page(&mut frame, field, list, target, selected, None, 2)?;
            let sql = format!("SELECT {}", frame.list());
            return Ok((
                Action::Read(self.statement(sql), Answer::Page(Box::new(shape))),
                self.planned(cost),
            ));
        }
        let (alias, mut frame) = (self.alias(), Frame::default());
        let (shape, cost) = self.object(&mut frame, &alias, target, &selected.sets, 2)?;
        let rows = self.rows(field, list, target, &alias, selected)?;
        let object = self.document.schema.object(target);
        let (columns, table, wanted) = (frame.list(), object.table.sql(), clause(&rows.conditions));
        let sql = format!(
            "SELECT {columns} FROM {table} {alias}{}{wanted}{}{}",
            frame.joins, rows.order, rows.limit
        );
        let cost = Cost { fields: 0, lists: vec![(0, rows.size, cost)] };
        Ok((Action::Read(self.statement(sql), Answer::Rows(shape, rows.backwards)), self.planned(cost)))
    }

    fn target(&self, field: &Field, selected: &Selected<'_>) -> Result<ObjectId, Refusal> {
        use crate::engine::schema::model::{Named, ObjectKind};
        let Named::Object(id) = field.ty.named else { return Err(super::unknown(selected)) };
        match self.document.schema.object(id).kind {
            ObjectKind::Connection(target) => Ok(target),
            _ => Ok(id),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a nested list hangs on is what it is")]
    pub(super) fn many(
        &mut self,
        frame: &mut Frame,
        here: &str,
        field: &'a Field,
        relation: &'a Relation,
        list: &'a List,
        selected: &Selected<'a>,
        depth: u32,
    ) -> Result<(ValueShape, Cost), Refusal> {
        if list.connection {
            let tie = Some((here, relation));
            let (page, cost) = self.page(frame, field, list, relation.target, selected, tie, depth + 1)?;
            return Ok((ValueShape::Page(Box::new(page)), cost));
        }
        let (alias, mut inner) = (self.alias(), Frame::default());
        let (shape, cost) = self.object(&mut inner, &alias, relation.target, &selected.sets, depth + 1)?;
        let rows = self.rows(field, list, relation.target, &alias, selected)?;
        let records = self.records(&inner, relation.target, &alias, &rows, Some((here, relation)));
        let at = frame.column(records);
        let cost = Cost { fields: 0, lists: vec![(0, rows.size, cost)] };
        let items_nullable = field.ty.list.unwrap_or_default();
        Ok((ValueShape::List(at, Box::new(shape), items_nullable), cost))
    }

    /// `array(SELECT row(…) FROM …)`.
    pub(super) fn records(
        &mut self,
        inner: &Frame,
        target: ObjectId,
        alias: &str,
        rows: &Rows,
        tie: Option<(&str, &Relation)>,
    ) -> String {
        let (source, tied) = self.source(target, alias, tie);
        let mut conditions = tied;
        conditions.extend(rows.conditions.iter().cloned());
        let (columns, wanted) = (inner.list(), clause(&conditions));
        let query = format!("SELECT row({columns}) FROM {source}{}{wanted}", inner.joins);
        format!("array({query}{}{})", rows.order, rows.limit)
    }

    /// What stands behind FROM, and the conditions that tie it to the row outside.
    pub(super) fn source(
        &mut self,
        target: ObjectId,
        alias: &str,
        tie: Option<(&str, &Relation)>,
    ) -> (String, Vec<String>) {
        let table = self.document.schema.object(target).table.sql();
        let Some((here, relation)) = tie else { return (format!("{table} {alias}"), Vec::new()) };
        let Some(through) = &relation.through else {
            return (format!("{table} {alias}"), vec![join_on(here, alias, relation)]);
        };
        let between = self.alias();
        self.tables.insert(through.table.clone());
        let onward = through
            .on
            .iter()
            .map(|(tie, key)| format!("{alias}.{} = {between}.{}", quoted(key), quoted(tie)));
        let onward = onward.collect::<Vec<_>>().join(" AND ");
        let middle = qualified(&through.schema, &through.table);
        (
            format!("{middle} {between} JOIN {table} {alias} ON {onward}"),
            vec![join_on(here, &between, relation)],
        )
    }

    pub(super) fn rows(
        &mut self,
        field: &Field,
        list: &List,
        target: ObjectId,
        alias: &str,
        selected: &Selected<'_>,
    ) -> Result<Rows, Refusal> {
        let mut conditions = self.conditions(field, list, target, alias, selected)?;
        let mut sort = self.sort(field, list, target, selected)?;
        let (size, backwards) = self.size(field, list, selected)?;
        if backwards {
            sort.iter_mut().for_each(|key| key.descending = !key.descending);
        }
        let (from, to) = if backwards { (&list.before, &list.after) } else { (&list.after, &list.before) };
        let order_name = self.order_name(target, &sort, backwards);
        let mut continued = false;
        for (argument, reverse) in [(from, false), (to, true)] {
            let Some(name) = argument else { continue };
            let Some(Arg::Leaf(source)) = self.arg(field, selected, name) else { continue };
            continued |= !reverse;
            let pos = Self::arg_pos(selected, name);
            if list.connection {
                // Whoever makes up a cursor learns which rows are behind it.
                self.ask_columns(target, sort.iter().map(|key| &key.column));
            }
            let bounds = self.bounds(source, name, pos, &sort, &order_name, list.connection, target);
            if !list.connection && sort.iter().any(|key| key.column.nullable) {
                // Without this, a row that is not there would be taken for one whose columns are null.
                let key = self.document.schema.object(target).table.key.first();
                let at = key.and_then(|key| sort.iter().position(|sorted| sorted.column.name == key.name));
                conditions.extend(at.map(|at| format!("{} IS NOT NULL", bounds[at])));
            }
            conditions.push(beyond(alias, &sort, &bounds, reverse));
        }
        let order = order_by(alias, &sort);
        let limit = self.limit(size, list.connection);
        let offset = self.offset(field, list, selected);
        Ok(Rows { conditions, order, limit: limit + &offset, size, sort, backwards, continued })
    }

    /// Filter, equalities, and that the row is not marked as deleted.
    pub(super) fn conditions(
        &mut self,
        field: &Field,
        list: &List,
        target: ObjectId,
        alias: &str,
        selected: &Selected<'_>,
    ) -> Result<Vec<String>, Refusal> {
        let mut conditions = existing(self.document.schema.object(target), alias);
        for (name, column) in &list.equals {
            if selected.given.get_argument(name).is_some() {
                self.ask_column(target, &column.name);
            }
            let named = field.args[name.as_str()].ty.named;
            match self.arg(field, selected, name) {
                None => {}
                Some(Arg::Leaf(source)) => {
                    let value = self.value(source, name, Self::arg_pos(selected, name), named, column);
                    conditions.push(format!("{alias}.{} = {value}", quoted(&column.name)));
                }
                Some(_) => conditions.push(format!("{alias}.{} IS NULL", quoted(&column.name))),
            }
        }
        if let Some(name) = &list.filter
            && let Some(arg @ Arg::Object(_)) = self.arg(field, selected, name)
        {
            let pos = Self::arg_pos(selected, name);
            let condition = self.filter(target, alias, &arg, name, pos)?;
            conditions.push(condition);
        }
        Ok(conditions)
    }

    fn sort(
        &mut self,
        field: &Field,
        list: &List,
        target: ObjectId,
        selected: &Selected<'_>,
    ) -> Result<Vec<SortKey>, Refusal> {
        let object = self.document.schema.object(target);
        let arg = list.order.as_ref().and_then(|name| self.arg(field, selected, name));
        let pos = list.order.as_ref().map_or(selected.pos, |name| Self::arg_pos(selected, name));
        let wanted = match arg {
            Some(Arg::List(items)) => items,
            Some(object @ Arg::Object(_)) => vec![object],
            _ => Vec::new(),
        };
        let mut sort: Vec<SortKey> = Vec::new();
        for one in &wanted {
            let Arg::Object(fields) = one else { continue };
            let mut given = fields.iter().filter(|(_, arg)| **arg != Arg::Null);
            let (Some((name, Arg::Leaf(source))), None) = (given.next(), given.next()) else {
                let message =
                    "orderBy: each object names one field; write a list for several: [{a: ASC}, {b: DESC}]";
                return Err(Refusal::input(pos, message));
            };
            let descending = match source.read(self.document.variables) {
                Value::Enum(word) => word == "DESC",
                Value::String(word) => word == "DESC",
                _ => false,
            };
            let Some(column) = object.column(name) else {
                return Err(Refusal::input(pos, format!("orderBy: there is no field {name}")));
            };
            self.ask_column(target, &column.name);
            if !sort.iter().any(|key| key.column.name == column.name) {
                sort.push(SortKey { column: column.clone(), descending });
            }
        }
        if sort.is_empty() {
            sort.clone_from(&list.sort);
        }
        for key in &object.table.key {
            if !sort.iter().any(|known| known.column.name == key.name) {
                sort.push(SortKey { column: key.clone(), descending: false });
            }
        }
        Ok(sort)
    }

    /// The list's size, and whether it is counted from the end.
    fn size(
        &mut self,
        field: &Field,
        list: &List,
        selected: &Selected<'_>,
    ) -> Result<(usize, bool), Refusal> {
        let given = |name: &Option<String>| {
            let name = name.as_ref()?;
            match self.arg(field, selected, name)? {
                Arg::Leaf(source) => Some((source, name.clone(), Self::arg_pos(selected, name))),
                _ => None,
            }
        };
        let (first, last) = (given(&list.first), given(&list.last));
        if let (Some(_), Some((_, _, pos))) = (&first, &last) {
            return Err(Refusal::input(*pos, "first and last cannot both be given"));
        }
        let backwards = last.is_some();
        let (source, name, pos) = match first.or(last) {
            Some((source, name, pos)) => (Some(source), name, pos),
            None => (None, list.first.clone().unwrap_or_default(), selected.pos),
        };
        let (default, max) = (list.size_default, list.size_max);
        self.sizes.push(Size { source, name: Arc::from(name), pos, default, max });
        Ok((self.sizes.len() - 1, backwards))
    }

    /// The size of a list that has no argument for it.
    pub(super) fn fixed_size(&mut self, field: &Field, selected: &Selected<'_>) -> usize {
        let name = Arc::from(field.name.as_str());
        self.sizes.push(Size {
            source: None,
            name,
            pos: selected.pos,
            default: FUNCTION_ROWS,
            max: ROWS_MAX,
        });
        self.sizes.len() - 1
    }

    /// A size that stands in the operation stays in the SQL, where PostgreSQL can plan with it.
    fn limit(&mut self, size: usize, one_more: bool) -> String {
        let known = &self.sizes[size];
        let literal = match &known.source {
            None => Some(u64::from(known.default)),
            Some(Source::Constant(Value::Number(number))) => {
                number.as_u64().filter(|n| *n <= u64::from(known.max))
            }
            Some(_) => None,
        };
        match literal {
            Some(literal) => format!(" LIMIT {}", literal + u64::from(one_more)),
            None => format!(" LIMIT {}::bigint", self.param(Param::Size(size, one_more))),
        }
    }

    fn offset(&mut self, field: &Field, list: &List, selected: &Selected<'_>) -> String {
        let Some(name) = &list.offset else { return String::new() };
        match self.arg(field, selected, name) {
            Some(Arg::Leaf(source)) => {
                let pos = Self::arg_pos(selected, name);
                format!(" OFFSET {}::bigint", self.param(Param::Offset(source, pos)))
            }
            _ => String::new(),
        }
    }

    /// What cursors of this order begin with, the same in both directions.
    pub(super) fn order_name(&self, target: ObjectId, sort: &[SortKey], backwards: bool) -> Arc<str> {
        let mut forwards = sort.to_vec();
        if backwards {
            forwards.iter_mut().for_each(|key| key.descending = !key.descending);
        }
        Arc::from(fingerprint(&self.document.schema.object(target).table.name, &forwards))
    }

    /// The keys of the row where a page begins or ends: in a connection from the cursor, in a plain list those of the
    /// row whose key is given.
    #[expect(clippy::too_many_arguments, reason = "a bound is made of all of these")]
    fn bounds(
        &mut self,
        source: Source,
        name: &str,
        pos: Pos,
        sort: &[SortKey],
        order: &Arc<str>,
        connection: bool,
        target: ObjectId,
    ) -> Vec<String> {
        if connection {
            let parts = sort.iter().enumerate().map(|(part, key)| {
                let (source, name, fingerprint) = (source.clone(), Arc::from(name), order.clone());
                let place = self.param(Param::Cursor { source, name, pos, fingerprint, part });
                format!("{place}::text::{}", key.column.sql_type)
            });
            return parts.collect();
        }
        let object = self.document.schema.object(target);
        let Some(key) = object.table.key.first() else { return vec!["NULL".to_owned(); sort.len()] };
        let named = object
            .fields
            .values()
            .find(|field| matches!(&field.kind, crate::engine::schema::model::FieldKind::Column(c) if c.name == key.name))
            .map_or(crate::engine::schema::model::Named::Scalar(crate::engine::encode::Scalar::Id), |f| f.ty.named);
        let value = self.value(source, name, pos, named, key);
        let (table, alias) = (object.table.sql(), self.alias());
        sort.iter()
            .map(|sorted| {
                let column = quoted(&sorted.column.name);
                format!(
                    "(SELECT {alias}.{column} FROM {table} {alias} WHERE {alias}.{} = {value})",
                    quoted(&key.name)
                )
            })
            .collect()
    }
}

pub(super) fn clause(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

fn order_by(alias: &str, sort: &[SortKey]) -> String {
    if sort.is_empty() {
        return String::new();
    }
    let keys = sort.iter().map(|key| {
        let direction = if key.descending { " DESC" } else { "" };
        format!("{alias}.{}{direction}", quoted(&key.column.name))
    });
    format!(" ORDER BY {}", keys.collect::<Vec<_>>().join(", "))
}

/// Rows that come after the bounds in the order; before them with `reverse`. PostgreSQL's order has null last, and
/// first when descending, so null is the largest of all.
fn beyond(alias: &str, sort: &[SortKey], bounds: &[String], reverse: bool) -> String {
    let after = |key: &SortKey| key.descending == reverse;
    let columns = || sort.iter().map(|key| format!("{alias}.{}", quoted(&key.column.name)));
    let uniform = sort.windows(2).all(|pair| pair[0].descending == pair[1].descending);
    if uniform && sort.iter().all(|key| !key.column.nullable) {
        let sign = if sort.first().is_none_or(after) { ">" } else { "<" };
        let columns = columns().collect::<Vec<_>>().join(", ");
        return format!("({columns}) {sign} ({})", bounds.join(", "));
    }
    let mut cases = Vec::with_capacity(sort.len());
    for (at, key) in sort.iter().enumerate() {
        let mut case: Vec<String> = columns()
            .zip(bounds)
            .take(at)
            .zip(sort)
            .map(|((column, bound), key): ((String, &String), &SortKey)| equal(&column, bound, &key.column))
            .collect();
        let (column, bound) = (format!("{alias}.{}", quoted(&key.column.name)), &bounds[at]);
        case.push(match (after(key), key.column.nullable) {
            (true, false) => format!("{column} > {bound}"),
            (false, false) => format!("{column} < {bound}"),
            (true, true) => format!("{bound} IS NOT NULL AND ({column} > {bound} OR {column} IS NULL)"),
            (false, true) => format!("({column} < {bound} OR ({bound} IS NULL AND {column} IS NOT NULL))"),
        });
        cases.push(format!("({})", case.join(" AND ")));
    }
    format!("({})", cases.join(" OR "))
}

fn equal(column: &str, bound: &str, of: &Column) -> String {
    if of.nullable { format!("{column} IS NOT DISTINCT FROM {bound}") } else { format!("{column} = {bound}") }
}
