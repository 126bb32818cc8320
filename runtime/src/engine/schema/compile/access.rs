//! `@auth`: what a schema asks of callers, and that no other way leads to what is guarded.
//!
//! What an interface asks, of itself or of a field, its members ask too, since a fragment on a member reaches the same
//! column. A column that one field guards and another field shows is warned of.

use std::sync::Arc;

use async_graphql::Positioned;
use async_graphql::parser::types::ConstDirective;

use super::Compiler;
use super::objects::fields_of;
use crate::engine::schema::model::{FieldKind, ObjectId, ObjectKind, Rules};
use crate::engine::schema::source::{Problems, directive, directives};
use crate::security::guard::Rule;

/// The rules of a type or a field.
pub(super) fn rules_of(all: &[Positioned<ConstDirective>], problems: &mut Problems) -> Rules {
    directives(all, "auth")
        .map(|auth| {
            let (roles, guards) = (auth.texts("requires", problems), auth.texts("guards", problems));
            // An empty list would ask for less than was meant.
            if roles.is_empty() && auth.has("requires") || guards.is_empty() && auth.has("guards") {
                problems.error(auth.0, "@auth: an empty list lets nobody through: leave it out");
            }
            Arc::new(Rule { roles, guards })
        })
        .collect()
}

impl Compiler<'_> {
    pub(super) fn compile_access(&mut self) {
        let source = self.source;
        for (name, ty) in &source.types {
            let Some(id) = self.schema.object_named(name) else {
                if !self.is_root(name) && directive(&ty.node.directives, "auth").is_some() {
                    let message = format!("@auth has no meaning on {name}, which has no rows: guard fields");
                    self.problems.error(ty.node.name.pos, message);
                }
                continue;
            };
            let rules = rules_of(&ty.node.directives, &mut self.problems);
            let object = &mut self.schema.objects[id.0];
            object.rules = rules;
            let guarded =
                !object.rules.is_empty() || object.fields.values().any(|field| !field.rules.is_empty());
            if guarded && object.kind == ObjectKind::Job {
                let message =
                    format!("@auth has no meaning on {name}, the answer of a job: guard the root field");
                self.problems.error(ty.node.name.pos, message);
            }
        }
        for at in 0..self.schema.objects.len() {
            for interface in self.schema.objects[at].implements.clone() {
                self.inherit(ObjectId(at), interface);
            }
        }
        for (name, ty) in &source.types {
            let Some(id) = self.schema.object_named(name) else { continue };
            for field in fields_of(&ty.node) {
                self.warn_shown(id, &field.node.name);
            }
        }
    }

    fn inherit(&mut self, member: ObjectId, interface: ObjectId) {
        let from = self.schema.object(interface).clone();
        let object = &mut self.schema.objects[member.0];
        object.rules.extend(from.rules);
        for (name, field) in from.fields {
            if let Some(own) = object.fields.get_mut(&name) {
                own.rules.extend(field.rules);
            }
        }
    }

    /// Warns when another field of the type guards the column of this one.
    fn warn_shown(&mut self, id: ObjectId, field: &Positioned<async_graphql::Name>) {
        let object = self.schema.object(id);
        let Some(column) = object.column(&field.node) else { return };
        if !object.fields[field.node.as_str()].rules.is_empty() {
            return;
        }
        let guarded = object.fields.values().find(|other| {
            !other.rules.is_empty() && matches!(&other.kind, FieldKind::Column(c) if c.name == column.name)
        });
        if let Some(guarded) = guarded {
            let (table, column) = (&object.table.name, &column.name);
            let message = format!("{} shows {table}.{column}, which {} guards", field.node, guarded.name);
            self.problems.warn(field.pos, message);
        }
    }
}
