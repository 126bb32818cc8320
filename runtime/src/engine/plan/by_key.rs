//! One row by the key that something else tells: the change before, or an event.

use async_graphql::parser::types::SelectionSet;

use super::Statement;
use super::bind::{Given, Param};
use super::cost::Cost;
use super::error::Refusal;
use super::read::{Builder, Frame};
use super::shape::ObjectShape;
use crate::engine::schema::model::{ObjectId, quoted};

/// What is selected of a row.
pub(super) struct Chosen {
    pub(super) frame: Frame,
    pub(super) shape: ObjectShape,
    pub(super) cost: Cost,
    /// Whether other rows than this one are.
    pub(super) relational: bool,
}

/// Selects of the row `alias`, always in the same order, so that one shape reads the columns of several statements.
pub(super) fn choose<'a>(
    builder: &mut Builder<'a>,
    alias: &str,
    target: ObjectId,
    sets: &[&'a SelectionSet],
) -> Result<Chosen, Refusal> {
    // The row's own alias is taken.
    let _ = builder.alias();
    let mut frame = Frame::default();
    let (shape, cost) = builder.object(&mut frame, alias, target, sets, 2)?;
    let relational = !frame.joins.is_empty() || frame.columns.iter().any(|column| !column.starts_with(alias));
    Ok(Chosen { frame, shape, cost, relational })
}

/// That the row `t0` is the one with the key of the call.
pub(super) fn has_key(builder: &mut Builder<'_>, target: ObjectId) -> Vec<String> {
    let key = &builder.document.schema.object(target).table.key;
    let mut conditions = Vec::with_capacity(key.len());
    for (part, column) in key.iter().enumerate() {
        let place = builder.param(Param::Given(Given::Key(part)));
        conditions.push(format!("t0.{} = {place}::text::{}", quoted(&column.name), column.sql_type));
    }
    conditions
}

/// Reads the row `t0`.
pub(super) fn select_by_key(
    builder: Builder<'_>,
    target: ObjectId,
    frame: &Frame,
    conditions: &[String],
) -> Statement {
    let table = builder.document.schema.object(target).table.sql();
    let (list, joins, conditions) = (frame.list(), &frame.joins, conditions.join(" AND "));
    builder.statement(format!("SELECT {list} FROM {table} t0{joins} WHERE {conditions}"))
}
