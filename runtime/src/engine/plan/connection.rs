//! Connections: pages with cursors, as Relay defines them (<https://relay.dev/graphql/connections.htm>).
//!
//! A page is an array of records, one more than wanted so that it is seen whether more follow, and the number of all rows
//! where it is asked for; what is not selected is not read.

use std::sync::Arc;

use async_graphql::parser::types::SelectionSet;

use super::cost::Cost;
use super::error::Refusal;
use super::page::clause;
use super::read::{Builder, Frame};
use super::select::Selected;
use super::shape::{EdgeField, InfoField, Keyed, PageField, PageShape, written_key, written_text};
use crate::engine::schema::model::{Field, List, ObjectId, Relation, quoted};

impl<'a> Builder<'a> {
    #[expect(clippy::too_many_arguments, reason = "what a page hangs on is what it is")]
    pub(super) fn page(
        &mut self,
        frame: &mut Frame,
        field: &'a Field,
        list: &'a List,
        target: ObjectId,
        selected: &Selected<'a>,
        tie: Option<(&str, &Relation)>,
        depth: u32,
    ) -> Result<(PageShape, Cost), Refusal> {
        let (alias, mut inner) = (self.alias(), Frame::default());
        let mut parts = Parts::default();
        let mut cost = Cost::default();
        let mut fields = Vec::new();
        self.seen(depth);
        self.ask_object(target);
        for (key, chosen) in &self.document.collect(None, &selected.sets)? {
            cost.fields += 1;
            self.asking.enter(key, chosen);
            let field = self.page_field(&mut inner, &alias, target, chosen, depth, &mut parts)?;
            self.asking.leave();
            fields.push((written_key(key), Arc::from(*key), field));
        }
        cost.fields += parts.info;
        let rows = self.rows(field, list, target, &alias, selected)?;
        let cursor = if parts.cursors {
            self.ask_columns(target, rows.sort.iter().map(|key| &key.column));
            rows.sort
                .iter()
                .map(|key| inner.column(format!("{alias}.{}::text", quoted(&key.column.name))))
                .collect()
        } else {
            Vec::new()
        };
        let fingerprint = self.order_name(target, &rows.sort, rows.backwards);
        let at =
            parts.rows.then(|| self.records(&inner, target, &alias, &rows, tie)).map(|sql| frame.column(sql));
        let total = match parts.total {
            true => Some(self.total(frame, field, list, target, selected, tie)?),
            false => None,
        };
        self.tables.insert(self.document.schema.object(target).table.name.clone());
        cost.lists.push((0, rows.size, parts.cost));
        let (size, backwards, continued) = (rows.size, rows.backwards, rows.continued);
        Ok((PageShape { rows: at, total, size, backwards, continued, cursor, fingerprint, fields }, cost))
    }

    fn total(
        &mut self,
        frame: &mut Frame,
        field: &Field,
        list: &List,
        target: ObjectId,
        selected: &Selected<'_>,
        tie: Option<(&str, &Relation)>,
    ) -> Result<usize, Refusal> {
        let alias = self.alias();
        let (source, mut conditions) = self.source(target, &alias, tie);
        conditions.extend(self.conditions(field, list, target, &alias, selected)?);
        Ok(frame.column(format!("(SELECT count(*) FROM {source}{})", clause(&conditions))))
    }

    fn page_field(
        &mut self,
        inner: &mut Frame,
        alias: &str,
        target: ObjectId,
        chosen: &Selected<'a>,
        depth: u32,
        parts: &mut Parts,
    ) -> Result<PageField, Refusal> {
        let target_name = self.document.schema.object(target).name.clone();
        Ok(match chosen.given.name.node.as_str() {
            "__typename" => PageField::Constant(written_text(&format!("{target_name}Connection"))),
            "totalCount" => {
                parts.total = true;
                PageField::Total
            }
            "nodes" => {
                parts.rows = true;
                let (shape, cost) = self.object(inner, alias, target, &chosen.sets, depth + 1)?;
                parts.add(cost);
                PageField::Nodes(shape)
            }
            "edges" => {
                parts.rows = true;
                PageField::Edges(self.edges(inner, alias, target, &chosen.sets, depth + 1, parts)?)
            }
            "pageInfo" => {
                parts.rows = true;
                PageField::Info(self.info(&chosen.sets, depth + 1, parts)?)
            }
            _ => return Err(super::unknown(chosen)),
        })
    }

    fn edges(
        &mut self,
        inner: &mut Frame,
        alias: &str,
        target: ObjectId,
        sets: &[&'a SelectionSet],
        depth: u32,
        parts: &mut Parts,
    ) -> Result<Vec<Keyed<EdgeField>>, Refusal> {
        let target_name = self.document.schema.object(target).name.clone();
        let mut fields = Vec::new();
        self.seen(depth);
        for (key, chosen) in &self.document.collect(None, sets)? {
            parts.cost.fields += 1;
            let field = match chosen.given.name.node.as_str() {
                "__typename" => EdgeField::Constant(written_text(&format!("{target_name}Edge"))),
                "cursor" => {
                    parts.cursors = true;
                    EdgeField::Cursor
                }
                "node" => {
                    self.asking.enter(key, chosen);
                    let (shape, cost) = self.object(inner, alias, target, &chosen.sets, depth + 1)?;
                    self.asking.leave();
                    parts.add(cost);
                    EdgeField::Node(shape)
                }
                _ => return Err(super::unknown(chosen)),
            };
            fields.push((written_key(key), Arc::from(*key), field));
        }
        Ok(fields)
    }

    fn info(
        &mut self,
        sets: &[&'a SelectionSet],
        depth: u32,
        parts: &mut Parts,
    ) -> Result<Vec<Keyed<InfoField>>, Refusal> {
        let mut fields = Vec::new();
        self.seen(depth);
        for (key, chosen) in &self.document.collect(None, sets)? {
            let field = match chosen.given.name.node.as_str() {
                "__typename" => InfoField::Constant(written_text("PageInfo")),
                "hasNextPage" => InfoField::HasNext,
                "hasPreviousPage" => InfoField::HasPrevious,
                "startCursor" => InfoField::Start,
                "endCursor" => InfoField::End,
                _ => return Err(super::unknown(chosen)),
            };
            parts.info += 1;
            parts.cursors |= matches!(field, InfoField::Start | InfoField::End);
            fields.push((written_key(key), Arc::from(*key), field));
        }
        Ok(fields)
    }
}

/// What of a page is selected.
#[derive(Default)]
struct Parts {
    rows: bool,
    cursors: bool,
    total: bool,
    /// Fields of its info, which count once.
    info: u64,
    /// Of one row.
    cost: Cost,
}

impl Parts {
    fn add(&mut self, cost: Cost) {
        self.cost.fields += cost.fields;
        self.cost.lists.extend(cost.lists);
    }
}
