//! Fields that are other rows: each foreign key from both sides, and tables between two others.

use super::{Proposal, Type, words};
use crate::engine::schema::catalogue::{Reference, Relation};

/// A field that is another row or other rows.
pub(super) struct Link {
    pub(super) name: String,
    /// Number of the type of the other rows.
    pub(super) target: usize,
    pub(super) many: bool,
    /// Whether a row is always there.
    pub(super) required: bool,
    /// Inside `@relation(…)`.
    pub(super) relation: String,
}

impl Proposal<'_> {
    /// Adds the links of all types. First what a row refers to, which has the better claim to a name.
    pub(super) fn add_links(&mut self) {
        for at in 0..self.types.len() {
            self.types[at].between = self.ties(at).is_some();
            for (reference, target) in self.references_of(at) {
                self.add_forward(at, &reference, target);
            }
        }
        for at in 0..self.types.len() {
            if let Some([one, other]) = self.ties(at) {
                self.add_through(at, &one, &other);
                self.add_through(at, &other, &one);
                continue;
            }
            let references = self.references_of(at);
            for (reference, target) in &references {
                let alone =
                    references.iter().filter(|(_, other)| other == target).count() == 1 && *target != at;
                self.add_backward(at, reference, *target, alone);
            }
        }
    }

    /// Foreign keys to types that are proposed, of columns that can be compared; two on the same columns are one.
    fn references_of(&self, at: usize) -> Vec<(Reference, usize)> {
        let mut found: Vec<(Reference, usize)> = Vec::new();
        for reference in &self.types[at].relation.references {
            let Some(target) = self.type_of(&reference.table) else { continue };
            let comparable = reference.columns.iter().zip(&reference.target).all(|(one, other)| {
                let columns =
                    (self.types[at].relation.column(one), self.types[target].relation.column(other));
                matches!(columns, (Some(one), Some(other)) if one.comparable(other))
            });
            let same = |(known, to): &(Reference, usize)| known.columns == reference.columns && *to == target;
            if comparable && !found.iter().any(same) {
                found.push((reference.clone(), target));
            }
        }
        found
    }

    /// `user: User!` of `orders.user_id`.
    fn add_forward(&mut self, at: usize, reference: &Reference, target: usize) {
        let to = self.types[target].name.clone();
        let required = all_filled(self.types[at].relation, &reference.columns);
        let of_columns = match &reference.columns[..] {
            [column] => base(column),
            _ => words::field_name(&to),
        };
        let by = format!("{}By{}", words::field_name(&to), by_columns(&reference.columns));
        let relation = format!("columns: {}{}", list(&reference.columns), self.references(reference, target));
        let ty = &mut self.types[at];
        let name = ty.names.claim(&[&of_columns, &format!("{of_columns}{to}"), &by]);
        ty.links.push(Link { name, target, many: false, required, relation });
    }

    /// `orders: [Order!]!` of `orders.user_id`, on the user. `alone`: no other key of the table refers to the same one.
    fn add_backward(&mut self, at: usize, reference: &Reference, target: usize, alone: bool) {
        let from = &self.types[at];
        let many = !from.relation.keys.iter().any(|key| same_columns(key, &reference.columns));
        let word = if many { words::plural(from.table) } else { words::singular(from.table) };
        let short = words::field_name(&word);
        let by = format!("{short}By{}", by_columns(&reference.columns));
        let mut relation =
            format!("columns: {}{}", list(&reference.columns), self.references(reference, target));
        if !many {
            relation += ", inverse: true";
        }
        let ty = &mut self.types[target];
        let name = if alone { ty.names.claim(&[&short, &by]) } else { ty.names.claim(&[&by]) };
        ty.links.push(Link { name, target: at, many, required: many, relation });
    }

    /// `tags: [Tag!]!` of `post_tags`, on the post.
    fn add_through(&mut self, at: usize, own: &(Reference, usize), other: &(Reference, usize)) {
        let table = self.types[at].table;
        let (here, there) = (own.1, other.1);
        let plural = words::field_name(&words::plural(self.types[there].table));
        let of_column = words::field_name(&words::plural(&base(&other.0.columns[0])));
        let short = if here == there && other.0.columns.len() == 1 { of_column } else { plural };
        let long = format!("{short}Through{}", self.types[at].name);
        let (own_columns, targets) = (list(&own.0.columns), list(&other.0.columns));
        let references = self.references(&own.0, here);
        let relation = format!(
            "through: {}, columns: {own_columns}{references}, targets: {targets}",
            super::write::text(table)
        );
        let ty = &mut self.types[here];
        let name = ty.names.claim(&[&short, &long]);
        ty.links.push(Link { name, target: there, many: true, required: true, relation });
    }

    /// The two foreign keys of a table that has hardly anything else: they are its key.
    fn ties(&self, at: usize) -> Option<[(Reference, usize); 2]> {
        let ty = &self.types[at];
        let [one, other] = <[_; 2]>::try_from(self.references_of(at)).ok()?;
        let both: Vec<String> = one.0.columns.iter().chain(&other.0.columns).cloned().collect();
        let apart = one.0.columns.iter().all(|column| !other.0.columns.contains(column));
        let is_key = ty.relation.keys.iter().any(|key| same_columns(key, &both));
        // A time or a number that the database makes is no reason to be more than a tie.
        let nothing_else = ty.relation.columns.iter().all(|c| both.contains(&c.name) || c.has_default);
        let to_keys = [&one, &other].iter().all(|(reference, to)| reference.target == self.types[*to].key);
        let fits = apart && is_key && nothing_else && to_keys && !ty.relation.view;
        (fits && all_filled(ty.relation, &both) && self.is_found_bare(ty.schema, ty.table))
            .then_some([one, other])
    }

    /// Says which columns a key refers to, where they are not the target's key.
    fn references(&self, reference: &Reference, target: usize) -> String {
        let Type { key, .. } = &self.types[target];
        if reference.target == *key {
            String::new()
        } else {
            format!(", references: {}", list(&reference.target))
        }
    }
}

fn all_filled(relation: &Relation, columns: &[String]) -> bool {
    columns.iter().all(|name| relation.column(name).is_some_and(|column| column.not_null))
}

fn same_columns(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().all(|column| other.contains(column))
}

/// `user` of `user_id`.
fn base(column: &str) -> String {
    let ends = ["_id", "_uuid", "_key", "_fk", "Id", "ID"];
    let found = ends.iter().find_map(|end| column.strip_suffix(end)).filter(|rest| !rest.is_empty());
    words::field_name(found.unwrap_or(column))
}

/// `Author` of `author_id`, `PostIdNumber` of both.
fn by_columns(columns: &[String]) -> String {
    match columns {
        [column] => words::type_name(&base(column)),
        _ => columns.iter().map(|column| words::type_name(column)).collect(),
    }
}

/// Columns as a list in a directive.
pub(super) fn list(columns: &[String]) -> String {
    let texts: Vec<String> = columns.iter().map(|column| super::write::text(column)).collect();
    format!("[{}]", texts.join(", "))
}
