//! What a plan asks of whoever wants it executed. Found while it is planned, checked for each caller: a plan is kept for
//! everybody, a decision for nobody.
//!
//! Promises: whatever way leads to a guarded type or column is one that asks: selections at any depth, fragments, members
//! of interfaces and unions, filters through relations, orders, arguments that a column must equal, keys, cursors (they
//! hold the keys of their order), counts, and new values.

use std::sync::Arc;

use async_graphql::Pos;

use super::read::Builder;
use super::select::Selected;
use crate::engine::schema::model::{Column, Field, FieldKind, ObjectId, ObjectKind, Rules};
use crate::security::guard::Rule;

/// What is asked of the caller, and where the operation wants it.
#[derive(Debug, Clone)]
pub struct Need {
    /// What is asked.
    pub rule: Arc<Rule>,
    /// The type.
    pub object: String,
    /// Its field; `None` for the type as a whole.
    pub field: Option<String>,
    /// Response keys from the root.
    pub path: Vec<Arc<str>>,
    /// Where the field stands in the operation.
    pub pos: Pos,
}

impl Need {
    /// Of a root field.
    pub(super) fn of_root(root: &str, field: &Field, key: &Arc<str>, pos: Pos) -> Vec<Self> {
        let need = |rule: &Arc<Rule>| Self {
            rule: rule.clone(),
            object: root.to_owned(),
            field: Some(field.name.clone()),
            path: vec![key.clone()],
            pos,
        };
        field.rules.iter().map(need).collect()
    }

    /// Below a root field.
    pub(super) fn below(mut self, key: &Arc<str>, pos: Pos) -> Self {
        if self.path.is_empty() {
            self.pos = pos;
        }
        self.path.insert(0, key.clone());
        self
    }
}

/// Everything that was asked so far, each once, and the way to where the planner is.
#[derive(Default)]
pub(super) struct Asking {
    pub(super) needs: Vec<Need>,
    path: Vec<(Arc<str>, Pos)>,
}

impl Asking {
    pub(super) fn enter(&mut self, key: &str, selected: &Selected<'_>) {
        self.path.push((Arc::from(key), selected.pos));
    }

    pub(super) fn leave(&mut self) {
        self.path.pop();
    }

    fn ask(&mut self, rules: &Rules, object: &str, field: Option<&str>) {
        for rule in rules {
            let same = |need: &Need| {
                Arc::ptr_eq(&need.rule, rule) && need.object == object && need.field.as_deref() == field
            };
            if self.needs.iter().any(same) {
                continue;
            }
            self.needs.push(Need {
                rule: rule.clone(),
                object: object.to_owned(),
                field: field.map(str::to_owned),
                path: self.path.iter().map(|(key, _)| key.clone()).collect(),
                pos: self.path.last().map(|(_, pos)| *pos).unwrap_or_default(),
            });
        }
    }
}

impl Builder<'_> {
    /// Rows of the type are seen, or counted.
    pub(super) fn ask_object(&mut self, id: ObjectId) {
        for id in self.family(id) {
            let object = self.document.schema.object(id);
            self.asking.ask(&object.rules, &object.name, None);
        }
    }

    /// A field is selected, or its relation is followed.
    pub(super) fn ask_field(&mut self, id: ObjectId, field: &Field) {
        self.asking.ask(&field.rules, &self.document.schema.object(id).name, Some(&field.name));
    }

    /// A column decides which rows are seen or in which order, or gets a value.
    pub(super) fn ask_column(&mut self, id: ObjectId, column: &str) {
        for id in self.family(id) {
            let object = self.document.schema.object(id);
            for field in object.fields.values().filter(|field| !field.rules.is_empty()) {
                if matches!(&field.kind, FieldKind::Column(known) if known.name == column) {
                    self.asking.ask(&field.rules, &object.name, Some(&field.name));
                }
            }
        }
    }

    pub(super) fn ask_columns<'c>(&mut self, id: ObjectId, columns: impl IntoIterator<Item = &'c Column>) {
        columns.into_iter().for_each(|column| self.ask_column(id, &column.name));
    }

    /// The type, and what its rows may be.
    fn family(&self, id: ObjectId) -> Vec<ObjectId> {
        let members = match &self.document.schema.object(id).kind {
            ObjectKind::Abstract { members, .. } => members.as_slice(),
            _ => &[],
        };
        std::iter::once(id).chain(members.iter().map(|(_, member)| *member)).collect()
    }
}
