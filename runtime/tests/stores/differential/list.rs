//! Which rows a list has, as docs/schema.md says: filter, order with the key at its end, bounds, size.

use std::cmp::Ordering;

use async_graphql::Value;
use async_graphql::parser::types::Field as Asked;

use super::compare::order_name;
use super::data::{Datum, read};
use super::model::{Kind, Link, List, WORDS};
use super::naive::Request;
use super::operation::full_order;
use super::written::equals_name;

/// The rows of a list, in their order.
pub struct Page {
    pub rows: Vec<usize>,
    pub has_next: bool,
    pub has_previous: bool,
    /// Rows on all pages together.
    pub total: usize,
    pub order: Vec<(usize, bool)>,
}

/// A value that stands for a list of it, or the list.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::List(items) => items,
        single => vec![single],
    }
}

/// The page of these rows that is asked for.
pub fn page(request: &Request<'_>, list: &List, table: usize, rows: Vec<usize>, asked: &Asked) -> Page {
    let (model, data) = (request.world.model, request.world.data);
    let of = &model.tables[table];
    let given = |name: &str| request.argument(asked, name).filter(|value| *value != Value::Null);
    let mut rows = rows;
    for column in &list.equals {
        let known = &of.columns[*column];
        if let Some(value) = request.argument(asked, equals_name(known)) {
            let wanted = read(known.kind, &value);
            rows.retain(|row| data.rows[table][*row][*column] == wanted);
        }
    }
    if let Some(filter) = list.filter.and_then(given) {
        rows.retain(|row| holds(request, of.ty, table, *row, &filter) == Some(true));
    }
    let total = rows.len();

    let mut sort: Vec<(usize, bool)> = Vec::new();
    for one in list.order.and(given("orderBy")).map_or_else(Vec::new, items) {
        let Value::Object(fields) = one else { panic!("{one} is no order") };
        let (name, direction) = fields.first().expect("one field");
        let column = of.columns.iter().position(|column| column.field == name.as_str()).expect("a column");
        let descending = match direction {
            Value::Enum(word) => word.as_str() == "DESC",
            Value::String(word) => word == "DESC",
            other => panic!("{other} is no direction"),
        };
        if sort.iter().all(|(known, _)| *known != column) {
            sort.push((column, descending));
        }
    }
    let order = full_order(model, list, table, &sort);
    let compare = |a: usize, b: usize| {
        order.iter().fold(Ordering::Equal, |so_far, (column, descending)| {
            let kind = of.columns[*column].kind;
            let (a, b) =
                (sorted(kind, &data.rows[table][a][*column]), sorted(kind, &data.rows[table][b][*column]));
            // Null is the largest of all.
            let ordering = match (a.is_null(), b.is_null()) {
                (false, false) => a.order(&b),
                (a, b) => a.cmp(&b),
            };
            so_far.then(if *descending { ordering.reverse() } else { ordering })
        })
    };
    rows.sort_by(|a, b| compare(*a, *b));

    let bound = |name: &str| -> Option<Option<usize>> {
        let value = given(name)?;
        if list.connection {
            let Value::String(text) = &value else { panic!("{value} is no cursor") };
            let (known, row) = request.world.cursors.meaning(text).expect("a cursor of the engine");
            assert_eq!(known, order_name(model, table, &order), "a cursor of another order");
            return Some(Some(row));
        }
        let key = of.key[0];
        let wanted = read(of.columns[key].kind, &value);
        Some(data.rows[table].iter().position(|row| row[key] == wanted))
    };
    let (after, before) = (bound("after"), bound("before"));
    for (bound, side) in [(after, Ordering::Greater), (before, Ordering::Less)] {
        if let Some(bound) = bound {
            rows.retain(|row| bound.is_some_and(|bound| compare(*row, bound) == side));
        }
    }

    let number = |name: &str| match given(name)? {
        Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
        other => panic!("{other} is no number"),
    };
    let (first, last) = (list.first.and_then(number), list.last.then(|| number("last")).flatten());
    let offset = if list.offset { number("offset").unwrap_or_default() } else { 0 };
    let size = last.or(first).unwrap_or(list.default);
    let (has_next, has_previous);
    if last.is_some() {
        rows.truncate(rows.len().saturating_sub(offset));
        has_next = before.is_some();
        has_previous = rows.len() > size;
        rows.drain(..rows.len().saturating_sub(size));
    } else {
        rows.drain(..offset.min(rows.len()));
        has_next = rows.len() > size;
        has_previous = after.is_some();
        rows.truncate(size);
    }
    Page { rows, has_next, has_previous, total, order }
}

/// What a value is sorted by: an enum of the schema alone by its text.
fn sorted(kind: Kind, value: &Datum) -> Datum {
    match (kind, value) {
        (Kind::TextEnum, Datum::Whole(at)) => {
            Datum::Text(WORDS[usize::try_from(*at).expect("few")].1.to_owned())
        }
        (_, value) => value.clone(),
    }
}

fn all(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut open = false;
    for part in parts {
        match part {
            Some(true) => {}
            Some(false) => return Some(false),
            None => open = true,
        }
    }
    (!open).then_some(true)
}

fn some(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all(parts.map(|part| part.map(|holds| !holds))).map(|none| !none)
}

/// Whether a filter holds of a row; `None` when null leaves it open.
fn holds(request: &Request<'_>, ty: usize, table: usize, row: usize, filter: &Value) -> Option<bool> {
    let Value::Object(fields) = filter else { panic!("{filter} is no filter") };
    let (model, data) = (request.world.model, request.world.data);
    all(fields.iter().map(|(name, value)| match name.as_str() {
        "and" => all(items(value.clone()).iter().map(|item| holds(request, ty, table, row, item))),
        "or" => some(items(value.clone()).iter().map(|item| holds(request, ty, table, row, item))),
        "not" => Some(holds(request, ty, table, row, value) != Some(true)),
        name => {
            let field = model.types[ty].fields.iter().find(|field| field.name == name).expect("a field");
            let here = &data.rows[table][row];
            let (there, found) = match &field.link {
                Link::Column(column) => {
                    let known = &model.tables[table].columns[*column];
                    return compares(known.kind, &here[*column], value);
                }
                Link::ToOne { columns, table: there } => {
                    let keys = &model.tables[*there].key;
                    let found = data.rows[*there].iter().position(|other| {
                        columns
                            .iter()
                            .zip(keys)
                            .all(|(c, key)| !here[*c].is_null() && other[*key] == here[*c])
                    });
                    (*there, found)
                }
                Link::Inverse { table: there, columns } => {
                    let keys = &model.tables[table].key;
                    let found = data.rows[*there]
                        .iter()
                        .position(|other| columns.iter().zip(keys).all(|(c, key)| other[*c] == here[*key]));
                    (*there, found)
                }
                other => panic!("{other:?} is not filtered by"),
            };
            let found = found.filter(|found| request.exists(there, *found));
            let ty = model.tables[there].ty;
            Some(found.is_some_and(|found| holds(request, ty, there, found, value) == Some(true)))
        }
    }))
}

fn compares(kind: Kind, value: &Datum, comparisons: &Value) -> Option<bool> {
    let Value::Object(comparisons) = comparisons else { panic!("{comparisons} are no comparisons") };
    all(comparisons.iter().map(|(word, operand)| {
        let operands = || items(operand.clone()).iter().map(|item| read(kind, item)).collect::<Vec<_>>();
        match word.as_str() {
            "isNull" => return Some(value.is_null() == (*operand == Value::Boolean(true))),
            "in" if operands().is_empty() => return Some(false),
            "notIn" if operands().is_empty() => return Some(true),
            _ if value.is_null() => return None,
            "in" => return Some(operands().contains(value)),
            "notIn" => return Some(!operands().contains(value)),
            _ => {}
        }
        if let Datum::List(has) = value {
            return Some(match word.as_str() {
                "contains" => operands().iter().all(|operand| has.contains(operand)),
                "overlaps" => operands().iter().any(|operand| has.contains(operand)),
                other => panic!("{other} of a list"),
            });
        }
        let operand = read(kind, operand);
        if let ("like" | "ilike", Datum::Text(text), Datum::Text(pattern)) = (word.as_str(), value, &operand)
        {
            let fold = |text: &str| if word == "ilike" { text.to_ascii_lowercase() } else { text.to_owned() };
            let (text, pattern): (Vec<char>, Vec<char>) =
                (fold(text).chars().collect(), fold(pattern).chars().collect());
            return Some(like(&text, &pattern));
        }
        let ordering = if matches!(kind, Kind::Enum | Kind::TextEnum | Kind::Bool) && *value != operand {
            Ordering::Less
        } else {
            value.order(&operand)
        };
        Some(match word.as_str() {
            "eq" => ordering.is_eq(),
            "ne" => ordering.is_ne(),
            "lt" => ordering.is_lt(),
            "lte" => ordering.is_le(),
            "gt" => ordering.is_gt(),
            "gte" => ordering.is_ge(),
            other => panic!("there is no comparison {other}"),
        })
    }))
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern {
        [] => text.is_empty(),
        ['%', rest @ ..] => (0..=text.len()).any(|from| like(&text[from..], rest)),
        ['_', rest @ ..] => !text.is_empty() && like(&text[1..], rest),
        ['\\', letter, rest @ ..] | [letter, rest @ ..] => {
            text.first() == Some(letter) && like(&text[1..], rest)
        }
    }
}
