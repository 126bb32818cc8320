//! The fields of the roots: lookups, lists, functions, changes, jobs and events.

use async_graphql::Positioned;
use async_graphql::parser::types::{FieldDefinition, TypeKind};

use super::Compiler;
use super::access::rules_of;
use crate::engine::schema::model::{
    Behind, Column, Effects, Event, Field, FieldKind, InputId, InputRole, Insert, Named, ObjectId,
    ObjectKind, TypeRef,
};
use crate::engine::schema::source::{directive, nearest};
use crate::feature_flags::{self, FeatureFlag};

#[derive(Clone, Copy, PartialEq)]
enum Root {
    Query,
    Mutation,
    Subscription,
}

impl Root {
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Query => &["lookup", "list", "function"],
            Self::Mutation => &["insert", "update", "upsert", "delete", "function", "job"],
            Self::Subscription => &["subscription"],
        }
    }
}

impl Compiler<'_> {
    pub(super) fn compile_roots(&mut self) {
        let source = self.source;
        let roots = [
            (Root::Query, &source.query),
            (Root::Mutation, &source.mutation),
            (Root::Subscription, &source.subscription),
        ];
        for (root, name) in roots {
            let Some(ty) = source.types.get(name) else { continue };
            let TypeKind::Object(object) = &ty.node.kind else {
                self.problems.error(ty.pos, format!("{name} is a root and must be an object type"));
                continue;
            };
            let rules = rules_of(&ty.node.directives, &mut self.problems);
            for given in &object.fields {
                let Some(mut field) = self.compile_root(root, given) else { continue };
                field.rules.extend(rules.iter().cloned());
                let fields = match root {
                    Root::Query => &mut self.schema.query,
                    Root::Mutation => &mut self.schema.mutation,
                    Root::Subscription => &mut self.schema.subscription,
                };
                fields.insert(field.name.clone(), field);
            }
        }
    }

    fn compile_root(&mut self, root: Root, given: &Positioned<FieldDefinition>) -> Option<Field> {
        let pos = given.node.name.pos;
        let ty = self.type_ref(&given.node.ty)?;
        let args = self.compile_args(&given.node.arguments);
        let all = &given.node.directives;
        let kinds: Vec<&str> =
            root.kinds().iter().copied().filter(|kind| directive(all, kind).is_some()).collect();
        let [kind] = kinds[..] else {
            let all = root.kinds().join(", @");
            self.problems.error(pos, format!("{} needs one of @{all}", given.node.name.node));
            return None;
        };
        let kind = match kind {
            "lookup" => FieldKind::Lookup(self.lookup(given, ty)?),
            "list" => {
                let (target, connection) = self.rows_of(given, ty)?;
                FieldKind::List(self.compile_list(target, given, connection))
            }
            "function" => {
                let function = directive(all, "function")?;
                let name = function.required("name", &mut self.problems);
                let schema = function.text("schema", &mut self.problems).unwrap_or_default();
                FieldKind::Function(self.function(given, ty, &schema, &name, root == Root::Query)?)
            }
            "insert" | "upsert" => FieldKind::Insert(self.insert(given, ty)?),
            "update" => self.update(given, ty)?,
            "delete" => {
                let target = self.row_of(given, ty)?;
                let by = self.key_args(target, given, &[])?;
                FieldKind::Delete { by, effects: self.effects(given, Some(target)) }
            }
            "job" => self.job(given, ty)?,
            _ => FieldKind::Event(self.event_source(given, ty)?),
        };
        if ty.list.is_some() && ["idempotent", "emits"].iter().any(|name| directive(all, name).is_some()) {
            let message = "a change of several rows has neither one answer to keep nor one event to emit";
            self.problems.error(pos, format!("{}: {message}", given.node.name.node));
        }
        let mut field = self.field(given, ty, args, kind);
        field.behind = self.behind(&field, given, ty, root);
        Some(field)
    }

    /// The field with another function, behind a flag.
    fn behind(
        &mut self,
        field: &Field,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
        root: Root,
    ) -> Option<Behind> {
        let behind = directive(&given.node.directives, "behind")?;
        let flag = behind.required("flag", &mut self.problems);
        let name = behind.required("function", &mut self.problems);
        let schema = behind.text("schema", &mut self.problems).unwrap_or_default();
        let named = FeatureFlag { name: flag.clone(), ..FeatureFlag::default() };
        if let Err(problem) = feature_flags::check(&named) {
            self.problems.error(behind.0, problem.replace("name is", "flag is"));
        }
        let FieldKind::Function(_) = &field.kind else {
            let message = format!("{}: @behind stands beside @function alone", field.name);
            self.problems.error(behind.0, message);
            return None;
        };
        if field.cache.is_some() {
            let message = "an answer behind a flag is not kept: leave @cacheControl or @behind out";
            self.problems.error(behind.0, format!("{}: {message}", field.name));
        }
        let kind = FieldKind::Function(self.function(given, ty, &schema, &name, root == Root::Query)?);
        Some(Behind { flag, field: Box::new(Field { kind, ..field.clone() }) })
    }

    /// The object whose rows the field answers; whether in a connection.
    fn rows_of(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<(ObjectId, bool)> {
        if let Named::Object(id) = ty.named {
            match self.schema.object(id).kind {
                ObjectKind::Connection(target) if ty.list.is_none() => return Some((target, true)),
                ObjectKind::Table | ObjectKind::Abstract { .. } if ty.list.is_some() => {
                    return Some((id, false));
                }
                _ => {}
            }
        }
        self.problems
            .error(given.node.ty.pos, "a list answers [X!]! or a connection of an object type with a table");
        None
    }

    pub(super) fn row_of(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<ObjectId> {
        match ty.named {
            Named::Object(id) if ty.list.is_none() && self.tables.contains_key(&id) => Some(id),
            _ => {
                self.problems.error(given.node.ty.pos, "it must answer one object of a type with a table");
                None
            }
        }
    }

    fn lookup(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<Vec<(String, Column)>> {
        let target = self.row_of(given, ty)?;
        if !ty.nullable {
            let message =
                format!("{}: there may be no such row: declare it without `!`", given.node.name.node);
            self.problems.error(given.node.ty.pos, message);
        }
        self.key_args(target, given, &[])
    }

    /// Arguments, but those left out, as columns that together identify a row.
    fn key_args(
        &mut self,
        target: ObjectId,
        given: &Positioned<FieldDefinition>,
        except: &[&str],
    ) -> Option<Vec<(String, Column)>> {
        let mut by = Vec::new();
        for arg in &given.node.arguments {
            let name = arg.node.name.node.to_string();
            if except.contains(&name.as_str()) || name == "idempotencyKey" {
                continue;
            }
            if arg.node.ty.node.nullable {
                let message = format!("{name} is a part of the key and must be declared with `!`");
                self.problems.error(arg.pos, message);
            }
            let column = self.argument_column(target, &name, arg.node.name.pos)?;
            by.push((name, column));
        }
        let relation = self.tables.get(&target).copied()?;
        let object = self.schema.object(target);
        let names = by.iter().map(|(_, column)| column.name.as_str());
        let marked = !object.table.key.is_empty()
            && object.table.key.iter().all(|k| names.clone().any(|n| n == k.name));
        if !relation.identifies(names.clone()) && !marked {
            let keys: Vec<String> = relation.keys.iter().map(|key| format!("({})", key.join(", "))).collect();
            let (table, keys) = (&object.table.name, keys.join(" or "));
            let columns: Vec<&str> = names.collect();
            let message = format!("({}) does not identify a row of {table}: {keys} does", columns.join(", "));
            self.problems.error(given.node.name.pos, message);
            return None;
        }
        Some(by)
    }

    fn insert(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<Insert> {
        let pos = given.node.name.pos;
        let (target, many) = match ty.named {
            Named::Object(id) if self.tables.contains_key(&id) => (id, ty.list.is_some()),
            _ => {
                self.problems.error(given.node.ty.pos, "it must answer an object of a type with a table");
                return None;
            }
        };
        let (name, input, list) = self.input_arg(given)?;
        if many != list {
            self.problems.error(pos, "a list of new rows answers a list, one row answers one");
            return None;
        }
        self.check_row_input_later(input, target, true, pos);
        let conflict = directive(&given.node.directives, "upsert")
            .map(|upsert| (upsert.texts("conflict", &mut self.problems), upsert.0));
        let mut columns = Vec::new();
        if let Some((given, pos)) = conflict {
            let relation = self.tables.get(&target).copied()?;
            let exact = relation
                .keys
                .iter()
                .any(|key| key.len() == given.len() && key.iter().all(|column| given.contains(column)));
            if !exact {
                let keys: Vec<String> =
                    relation.keys.iter().map(|key| format!("({})", key.join(", "))).collect();
                let message =
                    format!("conflict: ({}) is no unique key; {} is", given.join(", "), keys.join(" or "));
                self.problems.error(pos, message);
            }
            columns = given;
        }
        Some(Insert { input: name, conflict: columns, effects: self.effects(given, Some(target)) })
    }

    fn update(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<FieldKind> {
        let target = self.row_of(given, ty)?;
        let (patch, input, list) = self.input_arg(given)?;
        if list {
            self.problems.error(given.node.name.pos, "an update takes one input, not a list");
            return None;
        }
        self.check_row_input_later(input, target, false, given.node.name.pos);
        let by = self.key_args(target, given, &[&patch])?;
        Some(FieldKind::Update { by, patch, effects: self.effects(given, Some(target)) })
    }

    /// Inputs that are generated are right by construction.
    fn check_row_input_later(
        &mut self,
        input: InputId,
        target: ObjectId,
        whole: bool,
        pos: async_graphql::parser::Pos,
    ) {
        if self.source.types.contains_key(&self.schema.input(input).name) {
            self.check_row_input(input, target, whole, pos);
        }
    }

    /// The one argument with an input object for values.
    fn input_arg(&mut self, given: &Positioned<FieldDefinition>) -> Option<(String, InputId, bool)> {
        let mut found = Vec::new();
        for arg in &given.node.arguments {
            let ty = self.type_ref(&arg.node.ty)?;
            if let Named::Input(id) = ty.named
                && self.schema.input(id).role == InputRole::Values
            {
                found.push((arg.node.name.node.to_string(), id, ty.list.is_some()));
            }
        }
        if found.len() != 1 {
            let message = format!("{} needs one argument with an input type", given.node.name.node);
            self.problems.error(given.node.name.pos, message);
            return None;
        }
        found.pop()
    }

    pub(super) fn effects(
        &mut self,
        given: &Positioned<FieldDefinition>,
        target: Option<ObjectId>,
    ) -> Effects {
        let all = &given.node.directives;
        let idempotency_key = directive(all, "idempotent").map(|idempotent| {
            let key =
                idempotent.text("key", &mut self.problems).unwrap_or_else(|| "idempotencyKey".to_owned());
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            if !given.node.arguments.iter().any(|arg| arg.node.name.node == path[0].as_str())
                || path.len() > 2
            {
                let message = format!("key: `{key}` is neither an argument nor a field of an argument");
                self.problems.error(idempotent.0, message);
            }
            path
        });
        let event = directive(all, "emits").map(|emits| {
            let name = emits.required("event", &mut self.problems);
            let pairs = emits.texts("payload", &mut self.problems);
            let payload: Vec<(String, String)> = pairs
                .iter()
                .map(|pair| match pair.split_once(':') {
                    Some((key, column)) => (key.trim().to_owned(), column.trim().to_owned()),
                    None => (pair.trim().to_owned(), pair.trim().to_owned()),
                })
                .collect();
            let relation = target.and_then(|target| self.tables.get(&target).copied());
            let payload = payload.into_iter().map(|(key, column)| {
                let known = relation.and_then(|relation| relation.column(&column));
                if let (Some(relation), None) = (relation, known) {
                    let near = nearest(&column, relation.columns.iter().map(|column| column.name.as_str()));
                    self.problems.error(emits.0, format!("payload: there is no column {column}{near}"));
                }
                let as_text = known.is_some_and(|column| column.sql_type == "numeric");
                (key, column, as_text)
            });
            Event { name, payload: payload.collect() }
        });
        Effects { idempotency_key, event }
    }
}
