//! A schema file for a database that is there already.
//!
//! Promises: pure and deterministic; the compiler takes what is proposed without a change; whatever is left out is said
//! in a comment with the reason. It is a beginning: everybody may read and change everything that is in it.

mod columns;
mod links;
mod names;
mod roots;
mod words;
mod write;

use std::collections::BTreeMap;

use self::columns::Field;
use self::links::Link;
use self::names::Names;
use super::catalogue::{Catalogue, Relation};
use super::source::nearest;

/// What is proposed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rows of a list when the caller does not say.
    pub list_default: u32,
    /// Rows of a list at most.
    pub list_max: u32,
    /// Whether rows may be changed.
    pub mutations: bool,
    /// Whether functions may be called.
    pub functions: bool,
    /// Tables that are proposed, `table` or `schema.table`; empty: all.
    pub only: Vec<String>,
    /// Names of tables that are nobody's business, unless they are asked for by `only`.
    pub leave_out: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let leave_out = ["_sqlx_migrations", "idempotency_keys", "outbox"].map(str::to_owned).into();
        Self {
            list_default: 20,
            list_max: 100,
            mutations: true,
            functions: true,
            only: Vec::new(),
            leave_out,
        }
    }
}

impl Options {
    /// Those of `only` that the database does not have, each with what may be meant.
    pub fn unknown(&self, catalogue: &Catalogue) -> Vec<String> {
        let missing = self
            .only
            .iter()
            .filter(|wanted| !catalogue.tables.keys().any(|(schema, table)| is_meant(wanted, schema, table)));
        let known = || catalogue.tables.keys().map(|(_, table)| table.as_str());
        missing.map(|wanted| format!("{wanted}{}", nearest(wanted, known()))).collect()
    }

    fn wants(&self, schema: &str, table: &str) -> bool {
        if self.only.is_empty() {
            return !self.leave_out.iter().any(|name| name == table);
        }
        self.only.iter().any(|wanted| is_meant(wanted, schema, table))
    }
}

/// Whether `table` or `schema.table` names this table; either may have dots of its own.
fn is_meant(wanted: &str, schema: &str, table: &str) -> bool {
    wanted == table
        || wanted
            .strip_prefix(schema)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|rest| rest == table)
}

/// A type that is proposed for a table or view.
struct Type<'a> {
    schema: &'a str,
    table: &'a str,
    relation: &'a Relation,
    name: String,
    /// Columns that identify a row, as the compiler picks them; empty for a view without any.
    key: &'a [String],
    fields: Vec<Field<'a>>,
    links: Vec<Link>,
    /// Whether it only ties two others together.
    between: bool,
    names: Names,
}

/// Tables in their order, so that numbers of types are stable.
struct Proposal<'a> {
    catalogue: &'a Catalogue,
    options: &'a Options,
    types: Vec<Type<'a>>,
    type_names: Names,
    /// Enums that are used: the database's name → that in GraphQL.
    enums: BTreeMap<&'a str, String>,
    /// What is left out, and why.
    left_out: Vec<String>,
}

/// Proposes a schema file.
pub fn propose(catalogue: &Catalogue, options: &Options) -> String {
    let mut proposal = Proposal {
        catalogue,
        options,
        types: Vec::new(),
        type_names: Names::of_types(),
        enums: BTreeMap::new(),
        left_out: Vec::new(),
    };
    proposal.add_types();
    proposal.add_links();
    let roots = proposal.roots();
    proposal.write(&roots)
}

impl<'a> Proposal<'a> {
    /// Gives a type to each table that can have one.
    fn add_types(&mut self) {
        let catalogue = self.catalogue;
        let mut tables: Vec<_> = catalogue.tables.iter().collect();
        // Those that a bare name finds get the short names.
        tables.sort_by_key(|((schema, table), _)| !self.is_found_bare(schema, table));
        let mut named = Vec::new();
        for ((schema, table), relation) in tables {
            if !self.options.wants(schema, table) {
                continue;
            }
            let key = usable_key(relation);
            if key.is_empty() && !relation.view {
                let reason =
                    "it has neither a primary key nor a unique constraint on columns that are never null";
                self.leave_out(schema, table, reason);
                continue;
            }
            let (short, long) = (words::type_name(&words::singular(table)), words::type_name(schema));
            named.push((
                schema,
                table,
                relation,
                key,
                self.type_names.claim_type(&[&short, &(long + &short)]),
            ));
        }
        for (schema, table, relation, key, name) in named {
            let mut names = Names::of_fields();
            let fields = self.fields_of(schema, table, relation, key, &mut names);
            if fields.is_empty() {
                self.leave_out(schema, table, "none of its columns has a type that is known here");
                continue;
            }
            if key.is_empty() {
                let reason = "lookups and pages, since a view has no key: mark the fields that identify a row with @key";
                self.leave_out(schema, table, reason);
            }
            let links = Vec::new();
            self.types.push(Type {
                schema,
                table,
                relation,
                name,
                key,
                fields,
                links,
                between: false,
                names,
            });
        }
    }

    fn leave_out(&mut self, schema: &str, name: &str, reason: &str) {
        self.left_out.push(format!("{}: {reason}", write::plain(&format!("{schema}.{name}"))));
    }

    /// Whether the search path leads a bare name to this table and no other.
    fn is_found_bare(&self, schema: &str, table: &str) -> bool {
        self.catalogue.find("", table).is_some_and(|((found, _), _)| found == schema)
    }

    /// The number of the type of a table.
    fn type_of(&self, (schema, table): &(String, String)) -> Option<usize> {
        self.types.iter().position(|ty| ty.schema == schema && ty.table == table)
    }
}

/// The first key without null.
fn usable_key(relation: &Relation) -> &[String] {
    let filled =
        |column: &String| relation.view || relation.column(column).is_some_and(|column| column.not_null);
    relation.keys.iter().find(|key| key.iter().all(filled)).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
