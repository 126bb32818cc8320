//! Fields whose value is another row or other rows: `@relation`, derived from the foreign keys where it says nothing.

use async_graphql::Positioned;
use async_graphql::parser::Pos;
use async_graphql::parser::types::FieldDefinition;

use super::{Compiler, SIZE_DEFAULT, SIZE_MAX, column_of, type_name};
use crate::engine::schema::model::{
    FieldKind, List, Named, ObjectId, ObjectKind, Relation, SortKey, Through, TypeRef,
};
use crate::engine::schema::source::{Directive, directive, nearest};

type Pairs = Vec<(String, String)>;

impl Compiler<'_> {
    pub(super) fn compile_relation(
        &mut self,
        here: ObjectId,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
    ) -> Option<FieldKind> {
        let Named::Object(named) = ty.named else { return None };
        let (target, connection) = match self.schema.object(named).kind {
            ObjectKind::Connection(target) => (target, true),
            _ => (named, false),
        };
        let many = connection || ty.list.is_some();
        let relation = directive(&given.node.directives, "relation");
        if !many {
            let relation = self.one(here, target, given, relation.as_ref(), ty.nullable)?;
            return Some(FieldKind::ToOne(relation));
        }
        let tied = self.many(here, target, given, relation.as_ref())?;
        let list = self.compile_list(target, given, connection);
        Some(FieldKind::ToMany(tied, list))
    }

    fn one(
        &mut self,
        here: ObjectId,
        target: ObjectId,
        given: &Positioned<FieldDefinition>,
        relation: Option<&Directive<'_>>,
        nullable: bool,
    ) -> Option<Relation> {
        let pos = given.node.name.pos;
        let inverse = relation.is_some_and(|relation| relation.flag("inverse", &mut self.problems));
        let on = match relation {
            Some(relation) if inverse => {
                let there = relation.texts("columns", &mut self.problems);
                let references = relation.texts("references", &mut self.problems);
                let here = self.or_key(references, here);
                self.pair(here, there, relation.0)?
            }
            Some(relation) => {
                let here = relation.texts("columns", &mut self.problems);
                let references = relation.texts("references", &mut self.problems);
                let there = self.or_key(references, target);
                self.pair(here, there, relation.0)?
            }
            None => self.only_reference(here, target, pos)?,
        };
        self.check_pairs(here, target, &on, pos)?;
        let (from, to) = (self.tables.get(&here).copied()?, self.tables.get(&target).copied()?);
        let to_name = self.schema.object(target).table.name.clone();
        if !to.view && !to.identifies(on.iter().map(|(_, there)| there.as_str())) {
            let there: Vec<&str> = on.iter().map(|(_, there)| there.as_str()).collect();
            let message = format!(
                "{to_name} can have many rows with one ({}): it needs a unique key",
                there.join(", ")
            );
            self.problems.error(pos, message);
        }
        let never_null =
            on.iter().all(|(column, _)| from.column(column).is_some_and(|column| column.not_null));
        if !nullable && (inverse || !never_null) {
            let message = format!("there may be no row of {to_name}: declare the field without `!`");
            self.problems.error(given.node.ty.pos, message);
        }
        let target_columns: Vec<&str> = on.iter().map(|(_, there)| there.as_str()).collect();
        let guarded = from.references.iter().any(|reference| {
            reference.table.1 == to_name
                && reference.target.iter().all(|column| target_columns.contains(&column.as_str()))
        });
        let soft = self.schema.object(target).table.soft_delete.is_some();
        let required = !inverse && never_null && guarded && !soft;
        if !nullable && !required && !inverse && never_null {
            let message = format!("no foreign key makes sure that there is a row of {to_name}");
            self.problems.warn(given.node.ty.pos, message);
        }
        Some(Relation { target, on, through: None, required })
    }

    fn many(
        &mut self,
        here: ObjectId,
        target: ObjectId,
        given: &Positioned<FieldDefinition>,
        relation: Option<&Directive<'_>>,
    ) -> Option<Relation> {
        let pos = given.node.name.pos;
        let Some(relation) = relation else {
            let on: Pairs = self
                .only_reference(target, here, pos)?
                .into_iter()
                .map(|(there, here)| (here, there))
                .collect();
            self.warn_unindexed(target, &on, pos);
            return Some(Relation { target, on, through: None, required: true });
        };
        let columns = relation.texts("columns", &mut self.problems);
        let references = relation.texts("references", &mut self.problems);
        let keys = self.or_key(references, here);
        let Some(between) = relation.text("through", &mut self.problems) else {
            let on = self.pair(keys, columns, relation.0)?;
            self.check_pairs(here, target, &on, pos)?;
            self.warn_unindexed(target, &on, pos);
            return Some(Relation { target, on, through: None, required: true });
        };
        let on = self.pair(keys, columns, relation.0)?;
        let targets = relation.texts("targets", &mut self.problems);
        let target_key = self.or_key(Vec::new(), target);
        let onward = self.pair(targets, target_key, relation.0)?;
        // It is where the table is that it ties, unless the search path has it.
        let schema = self.schema.object(here).table.schema.clone();
        let found = [schema, String::new()].into_iter().find_map(|schema| {
            let (_, table) = self.catalogue.find(&schema, &between)?;
            Some((self.catalogue.schema_of_table(&schema, &between), table))
        });
        let Some((schema, table)) = found else {
            let near = nearest(&between, self.catalogue.tables.keys().map(|(_, name)| name.as_str()));
            self.problems.error(relation.0, format!("the database has no table {between}{near}"));
            return None;
        };
        for column in on.iter().map(|(_, column)| column).chain(onward.iter().map(|(column, _)| column)) {
            if table.column(column).is_none() {
                let near = nearest(column, table.columns.iter().map(|column| column.name.as_str()));
                self.problems.error(relation.0, format!("{between} has no column {column}{near}"));
            }
        }
        let ties: Vec<&str> = on.iter().map(|(_, column)| column.as_str()).collect();
        if !table.is_indexed(&ties) {
            self.problems.warn(pos, format!("{between} has no index that begins with ({})", ties.join(", ")));
        }
        let through = Some(Through { schema, table: between, on: onward });
        Some(Relation { target, on, through, required: true })
    }

    fn or_key(&self, given: Vec<String>, of: ObjectId) -> Vec<String> {
        if !given.is_empty() {
            return given;
        }
        self.schema.object(of).table.key.iter().map(|column| column.name.clone()).collect()
    }

    fn pair(&mut self, one: Vec<String>, other: Vec<String>, pos: Pos) -> Option<Pairs> {
        if one.len() != other.len() || one.is_empty() {
            let (one, other) = (one.join(", "), other.join(", "));
            self.problems
                .error(pos, format!("as many columns as keys are needed, not ({one}) and ({other})"));
            return None;
        }
        Some(one.into_iter().zip(other).collect())
    }

    /// The columns of the one foreign key from a table to another.
    fn only_reference(&mut self, from: ObjectId, to: ObjectId, pos: Pos) -> Option<Pairs> {
        let (table, target) = (self.tables.get(&from).copied()?, self.schema.object(to).table.name.clone());
        let from_name = &self.schema.object(from).table.name;
        let all: Vec<_> = table.references.iter().filter(|reference| reference.table.1 == target).collect();
        if let [reference] = all[..] {
            return Some(reference.columns.iter().cloned().zip(reference.target.iter().cloned()).collect());
        }
        let names: Vec<String> = all.iter().map(|reference| reference.columns.join(", ")).collect();
        let message = if all.is_empty() {
            format!("{from_name} has no foreign key to {target}: say @relation(columns: […])")
        } else {
            format!(
                "{from_name} refers to {target} by {}: say which in @relation(columns: […])",
                names.join(" and by ")
            )
        };
        self.problems.error(pos, message);
        None
    }

    fn check_pairs(&mut self, here: ObjectId, there: ObjectId, on: &Pairs, pos: Pos) -> Option<()> {
        let (from, to) = (self.tables.get(&here).copied()?, self.tables.get(&there).copied()?);
        let mut fine = true;
        for (one, other) in on {
            let sides = [(here, from, one), (there, to, other)];
            for (id, table, column) in sides {
                if table.column(column).is_none() {
                    let near = nearest(column, table.columns.iter().map(|column| column.name.as_str()));
                    let name = &self.schema.object(id).table.name;
                    self.problems.error(pos, format!("{name} has no column {column}{near}"));
                    fine = false;
                }
            }
            if let (Some(a), Some(b)) = (from.column(one), to.column(other))
                && !a.comparable(b)
            {
                let message = format!("{one} is {} and {other} is {}", type_name(a), type_name(b));
                self.problems.error(pos, format!("the columns of a relation must be of one type: {message}"));
                fine = false;
            }
        }
        fine.then_some(())
    }

    fn warn_unindexed(&mut self, target: ObjectId, on: &Pairs, pos: Pos) {
        let columns: Vec<&str> = on.iter().map(|(_, there)| there.as_str()).collect();
        if let Some(table) = self.tables.get(&target)
            && !table.view
            && !table.is_indexed(&columns)
        {
            let name = &self.schema.object(target).table.name;
            let message = format!("{name} has no index that begins with ({})", columns.join(", "));
            self.problems.warn(pos, format!("{message}: each row here reads the whole table"));
        }
    }

    /// What a list takes, known by the names of its arguments.
    pub(super) fn compile_list(
        &mut self,
        target: ObjectId,
        given: &Positioned<FieldDefinition>,
        connection: bool,
    ) -> List {
        let options = directive(&given.node.directives, "list");
        let problems = &mut self.problems;
        let size_max = options.as_ref().and_then(|o| o.count("max", problems)).unwrap_or(SIZE_MAX);
        let size_default = options.as_ref().and_then(|o| o.count("default", problems));
        let mut order = options.as_ref().and_then(|o| o.text("order", problems));
        if let Some(relation) = directive(&given.node.directives, "relation") {
            order = order.or(relation.text("order", problems));
        }
        let sort = order.map_or_else(Vec::new, |order| self.sort_keys(target, &order, given.node.name.pos));
        let mut list = List {
            connection,
            filter: None,
            order: None,
            first: None,
            last: None,
            after: None,
            before: None,
            offset: None,
            equals: Vec::new(),
            size_default: size_default.unwrap_or(SIZE_DEFAULT).min(size_max),
            size_max,
            sort,
        };
        for arg in &given.node.arguments {
            let name = arg.node.name.node.to_string();
            let place = match name.as_str() {
                "where" | "filter" => &mut list.filter,
                "orderBy" => &mut list.order,
                "first" | "limit" => &mut list.first,
                "last" => &mut list.last,
                "after" => &mut list.after,
                "before" => &mut list.before,
                "offset" => &mut list.offset,
                _ => {
                    match self.argument_column(target, &name, arg.node.name.pos) {
                        Some(column) => list.equals.push((name, column)),
                        None => continue,
                    }
                    continue;
                }
            };
            *place = Some(name);
        }
        if !connection
            && (list.after.is_some() || list.before.is_some())
            && self.schema.object(target).table.key.len() != 1
        {
            let message =
                "in a plain list `after` and `before` are a key of one column: answer a connection instead";
            self.problems.error(given.node.name.pos, message);
        }
        if self.schema.object(target).table.key.is_empty() && (connection || list.offset.is_some()) {
            let message = "pages need an order without ties: mark the fields that identify a row with @key";
            self.problems.error(given.node.name.pos, message);
        }
        list
    }

    /// The column that an argument stands for: that of the field with its name, else the one with its name.
    pub(super) fn argument_column(
        &mut self,
        target: ObjectId,
        name: &str,
        pos: Pos,
    ) -> Option<crate::engine::schema::model::Column> {
        let relation = self.tables.get(&target).copied()?;
        let column = self.field_column_name(target, name);
        let Some(column) = relation.column(&column) else {
            let table = &self.schema.object(target).table.name;
            let near = nearest(&column, relation.columns.iter().map(|column| column.name.as_str()));
            self.problems.error(pos, format!("{name}: {table} has no column {column}{near}"));
            return None;
        };
        Some(column_of(column))
    }

    fn sort_keys(&mut self, target: ObjectId, order: &str, pos: Pos) -> Vec<SortKey> {
        let Some(relation) = self.tables.get(&target).copied() else { return Vec::new() };
        let mut keys = Vec::new();
        for part in order.split(',').map(str::trim) {
            let mut words = part.split_whitespace();
            let (name, direction) =
                (words.next().unwrap_or_default(), words.next().map(str::to_ascii_lowercase));
            let descending = match (direction.as_deref(), words.next()) {
                (None | Some("asc"), None) => false,
                (Some("desc"), None) => true,
                _ => {
                    self.problems.error(
                        pos,
                        format!("order: `{part}` is not `column`, `column ASC` or `column DESC`"),
                    );
                    continue;
                }
            };
            match relation.column(name) {
                Some(column) => keys.push(SortKey { column: column_of(column), descending }),
                None => {
                    let near = nearest(name, relation.columns.iter().map(|column| column.name.as_str()));
                    let table = &self.schema.object(target).table.name;
                    self.problems.error(pos, format!("order: {table} has no column {name}{near}"));
                }
            }
        }
        keys
    }
}
