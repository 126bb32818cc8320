//! Which fields an operation selects of a type: fragments, merged fields, `@skip` and `@include`, as the specification's
//! CollectFields and MergeSelectionSets say (sections 6.3.2 and 6.4.3).

use std::collections::{HashMap, HashSet};

use async_graphql::parser::types::{
    Directive, Field as Given, FragmentDefinition, Selection as Item, SelectionSet,
};
use async_graphql::{Name, Pos, Positioned, Value, Variables};
use async_graphql_value::Value as Literal;
use indexmap::IndexMap;

use super::error::Refusal;
use crate::engine::schema::model::{ObjectId, ObjectKind, Schema};

/// A field of the answer: its first mention, and every selection set that mentions of it have.
#[derive(Debug, Clone)]
pub struct Selected<'a> {
    /// The field as it was first written; merged ones have the same name and arguments.
    pub given: &'a Given,
    /// Where it was first written.
    pub pos: Pos,
    /// What is selected of its value.
    pub sets: Vec<&'a SelectionSet>,
}

/// What is selected of a type: response key → field, in the order of the answer.
pub type Selection<'a> = IndexMap<&'a str, Selected<'a>>;

type Included<'d> = &'d dyn Fn(&[Positioned<Directive>]) -> Result<bool, Refusal>;

/// What a selection is read with.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    /// The schema.
    pub schema: &'a Schema,
    /// Fragments by name.
    pub fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// Coerced variables.
    pub variables: &'a Variables,
}

impl<'a> Document<'a> {
    /// The fields that the sets select of an object of this type; of a root with `None`.
    ///
    /// # Errors
    /// When `@skip` or `@include` have no boolean.
    pub fn collect(&self, of: Option<ObjectId>, sets: &[&'a SelectionSet]) -> Result<Selection<'a>, Refusal> {
        self.collect_by(of, sets, &|directives| self.is_included(directives))
    }

    /// As [`collect`](Self::collect), and what `@skip` and `@include` leave to a variable without value is selected.
    pub fn collect_all(&self, of: Option<ObjectId>, sets: &[&'a SelectionSet]) -> Selection<'a> {
        let included =
            |directives: &[Positioned<Directive>]| Ok(self.is_included(directives).unwrap_or(true));
        self.collect_by(of, sets, &included).unwrap_or_default()
    }

    fn collect_by(
        &self,
        of: Option<ObjectId>,
        sets: &[&'a SelectionSet],
        included: Included<'_>,
    ) -> Result<Selection<'a>, Refusal> {
        let mut selection = Selection::new();
        let mut visited = HashSet::new();
        for set in sets {
            self.add(of, set, included, &mut selection, &mut visited)?;
        }
        Ok(selection)
    }

    fn add(
        &self,
        of: Option<ObjectId>,
        set: &'a SelectionSet,
        included: Included<'_>,
        into: &mut Selection<'a>,
        visited: &mut HashSet<&'a str>,
    ) -> Result<(), Refusal> {
        for item in &set.items {
            if !included(item.node.directives())? {
                continue;
            }
            match &item.node {
                Item::Field(field) => {
                    let key = field.node.response_key().node.as_str();
                    let set = &field.node.selection_set.node;
                    let selected = into.entry(key).or_insert_with(|| Selected {
                        given: &field.node,
                        pos: field.pos,
                        sets: Vec::new(),
                    });
                    if !set.items.is_empty() {
                        selected.sets.push(set);
                    }
                }
                Item::FragmentSpread(spread) => {
                    let name = spread.node.fragment_name.node.as_str();
                    let Some((name, fragment)) = self.fragments.get_key_value(name) else { continue };
                    if !visited.insert(name.as_str()) {
                        continue;
                    }
                    if self.applies(&fragment.node.type_condition.node.on.node, of) {
                        self.add(of, &fragment.node.selection_set.node, included, into, visited)?;
                    }
                }
                Item::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref().map(|condition| &condition.node.on.node);
                    if on.is_none_or(|on| self.applies(on, of)) {
                        self.add(of, &fragment.node.selection_set.node, included, into, visited)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether an object of the type is one that the condition names.
    fn applies(&self, on: &str, of: Option<ObjectId>) -> bool {
        let Some(of) = of else { return true };
        let Some(on) = self.schema.object_named(on) else { return false };
        if on == of {
            return true;
        }
        match &self.schema.object(on).kind {
            ObjectKind::Abstract { members, .. } => members.iter().any(|(_, member)| *member == of),
            _ => false,
        }
    }

    fn is_included(&self, directives: &[Positioned<Directive>]) -> Result<bool, Refusal> {
        for directive in directives {
            let wanted = match directive.node.name.node.as_str() {
                "include" => true,
                "skip" => false,
                _ => continue,
            };
            let argument = directive.node.get_argument("if");
            let value = argument.map(|value| self.resolve(&value.node));
            match value {
                Some(Some(Value::Boolean(given))) if given == wanted => {}
                Some(Some(Value::Boolean(_))) => return Ok(false),
                _ => {
                    let message = format!("@{} needs if: true or false", directive.node.name.node);
                    return Err(Refusal::input(directive.pos, message));
                }
            }
        }
        Ok(true)
    }

    /// The value of a literal or a variable; `None` for a variable that was not given.
    pub fn resolve(&self, value: &Literal) -> Option<Value> {
        match value {
            Literal::Variable(name) => self.variables.get(name).cloned(),
            literal => literal.clone().into_const(),
        }
    }
}
