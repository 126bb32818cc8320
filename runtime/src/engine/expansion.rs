//! How large an operation is with its fragments written out: found in time that grows with its text alone.
//!
//! A fragment that is spread twice by one that is spread twice by a third … is a text of some lines whose fields nobody can
//! count to. Whatever walks the selections of an operation, validation too, would try: so this is looked at before.
//! Every field counts as selected, whatever `@skip` and `@include` say of it.

use std::collections::HashMap;

use async_graphql::parser::types::{ExecutableDocument, FragmentDefinition, Selection, SelectionSet};
use async_graphql::{Name, Positioned};

/// Selections within each other at most, fragments written out: what a walk's stack takes with room to spare, and far
/// more than any limit of depth lets through.
const LEVELS_MAX: u32 = 200;

/// The size of an operation with its fragments written out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expansion {
    /// Levels of fields.
    pub depth: u32,
    /// Fields; saturates.
    pub fields: u64,
}

/// Why an operation has no such size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Endless {
    /// A fragment spreads itself, directly or by others.
    #[error("a fragment spreads itself")]
    Cycle,
    /// Its selections are within each other more often than any limit allows.
    #[error("the operation has more than {LEVELS_MAX} selections within each other")]
    TooDeep,
}

/// The largest of a document's operations.
///
/// # Errors
/// When a fragment spreads itself or selections are too deep within each other.
pub fn expansion(document: &ExecutableDocument) -> Result<Expansion, Endless> {
    let mut walk = Walk { fragments: &document.fragments, known: HashMap::new() };
    let mut largest = Expansion::default();
    for (_, operation) in document.operations.iter() {
        let one = walk.set(&operation.node.selection_set.node, 0)?;
        largest.depth = largest.depth.max(one.depth);
        largest.fields = largest.fields.max(one.fields);
    }
    Ok(largest)
}

struct Walk<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// By fragment; `None` while it is looked at.
    known: HashMap<&'a str, Option<Known>>,
}

/// A fragment's size, and how many selections are within each other in it.
#[derive(Clone, Copy)]
struct Known(Expansion, u32);

impl<'a> Walk<'a> {
    fn set(&mut self, set: &'a SelectionSet, level: u32) -> Result<Expansion, Endless> {
        Ok(self.known_set(set, level)?.0)
    }

    fn known_set(&mut self, set: &'a SelectionSet, level: u32) -> Result<Known, Endless> {
        if level > LEVELS_MAX {
            return Err(Endless::TooDeep);
        }
        let (mut size, mut levels) = (Expansion::default(), 0);
        for item in &set.items {
            let Known(one, below) = match &item.node {
                Selection::Field(field) => {
                    let Known(below, levels) = self.known_set(&field.node.selection_set.node, level + 1)?;
                    Known(
                        Expansion { depth: below.depth + 1, fields: below.fields.saturating_add(1) },
                        levels,
                    )
                }
                Selection::InlineFragment(inline) => {
                    self.known_set(&inline.node.selection_set.node, level + 1)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(spread.node.fragment_name.node.as_str(), level + 1)?
                }
            };
            size.depth = size.depth.max(one.depth);
            size.fields = size.fields.saturating_add(one.fields);
            levels = levels.max(below + 1);
        }
        Ok(Known(size, levels))
    }

    fn fragment(&mut self, name: &str, level: u32) -> Result<Known, Endless> {
        // One that does not exist is told by validation.
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return Ok(Known(Expansion::default(), 0));
        };
        match self.known.get(name.as_str()) {
            Some(None) => Err(Endless::Cycle),
            Some(Some(Known(_, levels))) if level + levels > LEVELS_MAX => Err(Endless::TooDeep),
            Some(Some(known)) => Ok(*known),
            None => {
                self.known.insert(name, None);
                let known = self.known_set(&fragment.node.selection_set.node, level)?;
                self.known.insert(name, Some(known));
                Ok(known)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;

    fn of(text: &str) -> Result<Expansion, Endless> {
        expansion(&parse_query(text).expect("an operation"))
    }

    #[test]
    fn fragments_count_where_they_are_spread() {
        let text = "{ a { ...F } b { c { ...F } ... { x } } ...F } fragment F on T { d { e } }";
        assert_eq!(of(text), Ok(Expansion { depth: 4, fields: 10 }));
        assert_eq!(of("{ ...Missing a }"), Ok(Expansion { depth: 1, fields: 1 }));
    }

    #[test]
    fn a_bomb_of_fragments_is_counted_at_once() {
        let link = |at: u32| format!("fragment F{at} on T {{ a {{ ...F{0} }} b {{ ...F{0} }} }} ", at + 1);
        let bomb: String = (0..90).map(link).collect();
        let text = format!("{{ ...F0 }} {bomb} fragment F90 on T {{ a }}");
        assert_eq!(of(&text), Ok(Expansion { depth: 91, fields: u64::MAX }));
        let bomb: String = (0..5_000).map(link).collect();
        assert_eq!(of(&format!("{{ ...F0 }} {bomb} fragment F5000 on T {{ a }}")), Err(Endless::TooDeep));
    }

    #[test]
    fn a_fragment_that_spreads_itself_is_told() {
        assert_eq!(
            of("{ ...A } fragment A on T { b { ...B } } fragment B on T { ...A }"),
            Err(Endless::Cycle)
        );
        assert_eq!(of("{ a ...A } fragment A on T { ...A }"), Err(Endless::Cycle));
    }
}
