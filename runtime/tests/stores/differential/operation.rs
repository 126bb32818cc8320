//! Operations: any selection of a schema's fields with any arguments, valid by the rules of the specification.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json};

use super::arguments::{Input, input_of};
use super::compare::Cursors;
use super::data::{self, Data};
use super::model::{Field, Link, List, Model, RootKind, Shape};
use super::tape::Tape;

/// Levels of objects at most.
const DEPTH_MAX: usize = 4;
/// Fragments within fragments at most.
const FRAGMENTS_MAX: usize = 4;
/// Fields at most, so that an answer stays small.
const FIELDS_MAX: usize = 60;

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    pub query: String,
    pub variables: Map<String, Json>,
}

/// An operation while it is written.
pub struct Writer<'a, 't> {
    pub tape: &'a mut Tape<'t>,
    pub model: &'a Model,
    pub data: &'a Data,
    pub cursors: &'a Cursors,
    /// Name, type, default.
    pub declared: Vec<(String, String, Option<String>)>,
    pub given: Map<String, Json>,
    /// Name, type, text; complete ones may be used again.
    fragments: Vec<(String, usize, String)>,
    names: usize,
    fields: usize,
    /// Fragments around the present place: a parser takes only so many levels.
    nested: usize,
}

/// Any operation.
pub fn any(tape: &mut Tape<'_>, model: &Model, data: &Data, cursors: &Cursors) -> Operation {
    let mut writer = Writer {
        tape,
        model,
        data,
        cursors,
        declared: Vec::new(),
        given: Map::new(),
        fragments: Vec::new(),
        names: 0,
        fields: 0,
        nested: 0,
    };
    let mut roots = String::new();
    for _ in 0..1 + writer.tape.below(3) {
        writer.root(&mut roots);
    }
    writer.finish(&roots)
}

/// An operation that shows every cursor of a list, so that others can use them.
pub fn all_cursors(
    model: &Model,
    root: &str,
    list: &List,
    order: Option<(usize, bool)>,
    table: usize,
) -> Operation {
    let first = list.first.map_or(String::new(), |first| format!("{first}: {}, ", list.max));
    let order = order.map_or(String::new(), |(column, descending)| {
        let direction = if descending { "DESC" } else { "ASC" };
        format!("orderBy: {{{}: {direction}}}", model.tables[table].columns[column].field)
    });
    let args = if first.is_empty() && order.is_empty() { String::new() } else { format!("({first}{order})") };
    let query = format!("{{ {root}{args} {{ edges {{ cursor node {{ __typename }} }} }} }}");
    Operation { query, variables: Map::new() }
}

impl Writer<'_, '_> {
    fn finish(mut self, roots: &str) -> Operation {
        let mut query = String::new();
        // A condition that was thrown away, since there was one of its name, leaves its variables behind.
        let texts = || self.fragments.iter().map(|(_, _, body)| body.as_str()).chain([roots]);
        let used: Vec<&str> = texts()
            .flat_map(|text| text.split('$').skip(1))
            .map(|rest| rest.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default())
            .collect();
        self.declared.retain(|(name, ..)| used.contains(&name.as_str()));
        self.given.retain(|name, _| used.contains(&name.as_str()));
        if !self.declared.is_empty() {
            let declared: Vec<String> = self
                .declared
                .iter()
                .map(|(name, ty, default)| match default {
                    Some(default) => format!("${name}: {ty} = {default}"),
                    None => format!("${name}: {ty}"),
                })
                .collect();
            let _ = write!(query, "query ({}) ", declared.join(", "));
        }
        let _ = write!(query, "{{{roots} }}");
        for (name, ty, body) in &self.fragments {
            let _ = write!(query, "\nfragment {name} on {} {body}", self.model.types[*ty].name);
        }
        Operation { query, variables: self.given }
    }

    pub fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn root(&mut self, out: &mut String) {
        if self.tape.chance(5) {
            let key = self.name("a");
            let _ = write!(out, " {key}: __typename");
            return;
        }
        let model = self.model;
        // The lists come first, since 0 is the simplest choice and a list shows most.
        let root = &model.roots[model.roots.len() - 1 - self.tape.below(model.roots.len())];
        let args = match &root.kind {
            RootKind::Lookup(by) => self.lookup(root.table, by),
            RootKind::List(list) => self.list_args(list, root.table),
        };
        let ty = model.tables[root.table].ty;
        let connection = matches!(&root.kind, RootKind::List(list) if list.connection);
        self.object_field(out, &root.name, &args, ty, connection, 1);
    }

    fn lookup(&mut self, table: usize, by: &[usize]) -> String {
        let of = &self.model.tables[table];
        let rows = &self.data.rows[table];
        let row =
            (!rows.is_empty() && self.tape.chance(85)).then(|| rows[self.tape.below(rows.len())].clone());
        let mut args = Vec::new();
        for column in by {
            let known = &of.columns[*column];
            let value = match &row {
                Some(row) => row[*column].clone(),
                None => data::any(self.tape, known.kind),
            };
            let input = input_of(known.kind, &value);
            let value = self.argument(&known.graphql(), input);
            args.push(format!("{}: {value}", known.field));
        }
        format!("({})", args.join(", "))
    }

    /// A field whose value has fields: under a key of its own unless it takes no argument, now and then twice.
    fn object_field(
        &mut self,
        out: &mut String,
        name: &str,
        args: &str,
        ty: usize,
        connection: bool,
        depth: usize,
    ) {
        let alias = if args.is_empty() && self.tape.chance(60) && depth > 1 {
            String::new()
        } else {
            format!("{}: ", self.name("a"))
        };
        let times = if self.tape.chance(12) { 2 } else { 1 };
        for _ in 0..times {
            let directive = self.directive();
            let set = if connection { self.page(ty, depth) } else { self.selection(ty, depth) };
            let _ = write!(out, " {alias}{name}{args}{directive} {set}");
        }
    }

    fn directive(&mut self) -> String {
        if !self.tape.chance(8) {
            return String::new();
        }
        let include = self.tape.chance(50);
        let wanted = self.tape.chance(50);
        let value = self.argument("Boolean!", Input::Scalar(Json::Bool(wanted)));
        format!(" @{}(if: {value})", if include { "include" } else { "skip" })
    }

    fn selection(&mut self, ty: usize, depth: usize) -> String {
        let mut out = String::new();
        for _ in 0..1 + self.tape.below(5) {
            self.item(&mut out, ty, depth);
        }
        format!("{{{out} }}")
    }

    fn item(&mut self, out: &mut String, ty: usize, depth: usize) {
        self.fields += 1;
        let model = self.model;
        let fields = &model.types[ty].fields;
        let small = depth >= DEPTH_MAX || self.fields > FIELDS_MAX;
        let choice = self.tape.below(100);
        if fields.is_empty() || choice >= 95 {
            let alias = if self.tape.chance(30) { format!("{}: ", self.name("a")) } else { String::new() };
            let _ = write!(out, " {alias}__typename");
        }
        if fields.is_empty() || (75..95).contains(&choice) {
            if small || self.nested >= FRAGMENTS_MAX {
                let _ = write!(out, " __typename");
            } else {
                self.nested += 1;
                self.fragment(out, ty, depth);
                self.nested -= 1;
            }
            return;
        }
        if choice >= 95 {
            return;
        }
        let mut field = &fields[self.tape.below(fields.len())];
        if small && !matches!(field.link, Link::Column(_)) {
            field = &fields[0];
        }
        self.field(out, field, depth);
    }

    fn field(&mut self, out: &mut String, field: &Field, depth: usize) {
        let model = self.model;
        let target = |table: usize| model.tables[table].ty;
        match &field.link {
            Link::Column(_) => {
                let alias =
                    if self.tape.chance(20) { format!("{}: ", self.name("a")) } else { String::new() };
                let directive = self.directive();
                let _ = write!(out, " {alias}{}{directive}", field.name);
            }
            Link::ToOne { table, .. } | Link::Inverse { table, .. } => {
                self.object_field(out, &field.name, "", target(*table), false, depth + 1);
            }
            Link::ToMany { table, list, .. } => {
                let args = self.list_args(list, *table);
                self.object_field(out, &field.name, &args, target(*table), list.connection, depth + 1);
            }
            Link::Through { between, left, list } => {
                let between = &model.betweens[*between];
                let table = if *left { between.right } else { between.left };
                let args = self.list_args(list, table);
                self.object_field(out, &field.name, &args, target(table), list.connection, depth + 1);
            }
        }
    }

    /// A fragment of the type, of one that holds it, or of a member.
    fn fragment(&mut self, out: &mut String, ty: usize, depth: usize) {
        let model = self.model;
        let holder = model.tables[model.types[ty].table].ty;
        let mut on: Vec<usize> = vec![ty];
        on.extend(model.members(ty).iter().map(|(_, member)| *member));
        if model.types[ty].shape == Shape::Member && model.types[holder].shape != Shape::Member {
            on.push(holder);
        }
        let of = on[self.tape.below(on.len())];
        let directive = self.directive();
        if self.tape.chance(40) {
            let known: Vec<String> =
                self.fragments.iter().filter(|known| known.1 == of).map(|known| known.0.clone()).collect();
            if !known.is_empty() && self.tape.chance(50) {
                let _ = write!(out, " ...{}{directive}", known[self.tape.below(known.len())]);
                return;
            }
            let body = self.selection(of, depth);
            let name = self.name("F");
            let _ = write!(out, " ...{name}{directive}");
            self.fragments.push((name, of, body));
            return;
        }
        let condition = if of == ty && self.tape.chance(40) {
            String::new()
        } else {
            format!(" on {}", model.types[of].name)
        };
        let body = self.selection(of, depth);
        let _ = write!(out, " ...{condition}{directive} {body}");
    }

    fn page(&mut self, ty: usize, depth: usize) -> String {
        let name = &self.model.types[ty].name;
        let mut out = String::new();
        for _ in 0..1 + self.tape.below(3) {
            self.fields += 1;
            match self.tape.below(6) {
                0 => {
                    let set = self.selection(ty, depth);
                    let _ = write!(out, " nodes {set}");
                }
                1 => {
                    let set = self.selection(ty, depth);
                    let typename = if self.tape.chance(20) { " __typename" } else { "" };
                    let more = if self.tape.chance(20) { " c: cursor" } else { "" };
                    let _ = write!(out, " edges {{{typename} cursor node {set}{more} }}");
                }
                2 => {
                    let all = ["hasNextPage", "hasPreviousPage", "startCursor", "endCursor", "__typename"];
                    let chosen: Vec<&str> = all.into_iter().filter(|_| self.tape.chance(60)).collect();
                    let chosen = if chosen.is_empty() { "hasNextPage".to_owned() } else { chosen.join(" ") };
                    let _ = write!(out, " pageInfo {{ {chosen} }}");
                }
                3 => out.push_str(" totalCount"),
                4 => out.push_str(" __typename"),
                _ => {
                    let set = self.selection(ty, depth);
                    let _ = write!(out, " ... on {name}Connection {{ edges {{ node {set} }} }}");
                }
            }
        }
        format!("{{{out} }}")
    }
}

/// The order of a list: what is asked for, else its own; the key ends it.
pub fn full_order(model: &Model, list: &List, table: usize, asked: &[(usize, bool)]) -> Vec<(usize, bool)> {
    let mut order = if asked.is_empty() { list.sort.clone() } else { asked.to_vec() };
    for key in &model.tables[table].key {
        if order.iter().all(|(known, _)| known != key) {
            order.push((*key, false));
        }
    }
    order
}

/// A text as GraphQL writes it, for messages.
pub fn shown(operation: &Operation) -> String {
    let variables = Json::Object(operation.variables.clone());
    format!("{}\nvariables: {variables}\n", operation.query)
}
