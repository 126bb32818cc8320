//! Object types, interfaces and unions: which table each stands for, and what its fields are there.

use async_graphql::Positioned;
use async_graphql::parser::types::{
    ConstDirective, FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind,
};
use indexmap::IndexMap;

use super::access::rules_of;
use super::{Compiler, column_of, deprecation, type_name};
use crate::engine::encode::{Decoder, Scalar};
use crate::engine::schema::catalogue;
use crate::engine::schema::model::{
    Argument, CacheControl, Column, EnumId, Field, FieldKind, Named, ObjectId, ObjectKind, Table, TypeRef,
    snake_case,
};
use crate::engine::schema::source::{Directive, directive, nearest};

impl Compiler<'_> {
    /// Finds the table of every object; members of an interface or union have that one's.
    pub(super) fn bind_tables(&mut self) {
        let source = self.source;
        for (name, ty) in &source.types {
            if let Some(id) = self.schema.object_named(name)
                && directive(&ty.node.directives, "table").is_some()
            {
                self.bind_table(id, &ty.node);
            }
        }
        for (name, ty) in &source.types {
            if let Some(id) = self.schema.object_named(name) {
                self.bind_members(id, name, ty);
            }
        }
        for (name, ty) in &source.types {
            if let Some(id) = self.schema.object_named(name)
                && !self.tables.contains_key(&id)
                && !self.is_job(ty)
            {
                let hint =
                    "it needs @table(name: \"…\"), or to be a member of an interface or union that has one";
                self.problems.error(ty.node.name.pos, format!("{name} has no table: {hint}"));
            }
        }
    }

    /// A type without table whose fields are what a job answers: its id and the job's arguments.
    fn is_job(&mut self, ty: &Positioned<TypeDefinition>) -> bool {
        let TypeKind::Object(object) = &ty.node.kind else { return false };
        let is_job = object.fields.iter().any(|field| field.node.name.node == "jobId");
        if is_job && let Some(id) = self.schema.object_named(&ty.node.name.node) {
            self.schema.objects[id.0].kind = ObjectKind::Job;
        }
        is_job
    }

    fn bind_table(&mut self, id: ObjectId, ty: &TypeDefinition) {
        let Some(table) = directive(&ty.directives, "table") else { return };
        let schema = table.text("schema", &mut self.problems).unwrap_or_default();
        let name = table.required("name", &mut self.problems);
        let Some((_, relation)) = self.catalogue.find(&schema, &name) else {
            let near = nearest(&name, self.catalogue.tables.keys().map(|(_, name)| name.as_str()));
            self.problems.error(table.0, format!("the database has no table or view {name}{near}"));
            return;
        };
        let soft_delete = table.text("softDelete", &mut self.problems);
        if let Some(column) = &soft_delete
            && relation.column(column).is_none_or(|column| column.not_null)
        {
            self.problems
                .error(table.0, format!("softDelete: {name} has no column {column} that can be null"));
        }
        let key = self.key_of(ty, relation);
        if key.is_empty() && !relation.view {
            self.problems.error(table.0, format!("{name} has neither a primary key nor a unique constraint"));
        }
        self.tables.insert(id, relation);
        let schema = self.catalogue.schema_of_table(&schema, &name);
        self.schema.objects[id.0].table = Table { schema, name, key, soft_delete };
    }

    /// The primary key, else the first unique one that is never null, else the fields marked with `@key`.
    fn key_of(&mut self, ty: &TypeDefinition, relation: &catalogue::Relation) -> Vec<Column> {
        let marked: Vec<String> = fields_of(ty)
            .iter()
            .filter(|field| directive(&field.node.directives, "key").is_some())
            .map(|field| self.column_name(&field.node))
            .collect();
        // The columns of a view are never declared NOT NULL; a materialized one can have unique indexes all the same.
        let usable = |key: &&Vec<String>| {
            relation.view
                || key.iter().all(|part| relation.column(part).is_some_and(|column| column.not_null))
        };
        let names = relation.keys.iter().find(usable).unwrap_or(&marked);
        names.iter().filter_map(|name| relation.column(name)).map(column_of).collect()
    }

    fn bind_members(&mut self, id: ObjectId, name: &str, ty: &Positioned<TypeDefinition>) {
        let members: Vec<String> = match &ty.node.kind {
            TypeKind::Union(union) => union.members.iter().map(|member| member.node.to_string()).collect(),
            TypeKind::Interface(_) => {
                let members = self.source.types.iter().filter(|(_, ty)| implements(ty, name));
                members.map(|(name, _)| name.clone()).collect()
            }
            TypeKind::Object(_) => return self.bind_interfaces(id, ty),
            _ => return,
        };
        let Some(discriminator) = directive(&ty.node.directives, "discriminator") else {
            self.problems.error(ty.node.name.pos, format!("{name} needs @discriminator(column: \"…\")"));
            return;
        };
        let column = discriminator.required("column", &mut self.problems);
        let Some(relation) = self.tables.get(&id).copied() else { return };
        if relation.column(&column).is_none() {
            let near = nearest(&column, relation.columns.iter().map(|column| column.name.as_str()));
            let table = &self.schema.object(id).table.name;
            self.problems.error(discriminator.0, format!("{table} has no column {column}{near}"));
        }
        let mut values = Vec::new();
        for member in members {
            let Some(member_id) = self.schema.object_named(&member) else {
                self.problems.error(ty.pos, format!("{name}: there is no type {member}"));
                continue;
            };
            let definition = &self.source.types[&member];
            match directive(&definition.node.directives, "variant") {
                Some(variant) => values.push((variant.required("value", &mut self.problems), member_id)),
                None => {
                    let message = format!("{member} is a member of {name} and needs @variant(value: \"…\")");
                    self.problems.error(definition.node.name.pos, message);
                }
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = self.tables.entry(member_id) {
                entry.insert(relation);
                self.schema.objects[member_id.0].table = self.schema.objects[id.0].table.clone();
            }
        }
        let union = matches!(ty.node.kind, TypeKind::Union(_));
        self.schema.objects[id.0].kind =
            ObjectKind::Abstract { union, discriminator: column, members: values };
    }

    fn bind_interfaces(&mut self, id: ObjectId, ty: &Positioned<TypeDefinition>) {
        let TypeKind::Object(object) = &ty.node.kind else { return };
        for name in &object.implements {
            match self.schema.object_named(&name.node) {
                Some(interface) => self.schema.objects[id.0].implements.push(interface),
                None => self.problems.error(name.pos, format!("there is no interface {}", name.node)),
            }
        }
    }

    pub(super) fn compile_objects(&mut self) {
        let source = self.source;
        for (name, ty) in &source.types {
            let Some(id) = self.schema.object_named(name) else { continue };
            let mut fields = IndexMap::new();
            for field in fields_of(&ty.node) {
                if let Some(field) = self.compile_field(id, field) {
                    fields.insert(field.name.clone(), field);
                }
            }
            self.schema.objects[id.0].fields = fields;
        }
    }

    fn compile_field(&mut self, id: ObjectId, given: &Positioned<FieldDefinition>) -> Option<Field> {
        let ty = self.type_ref(&given.node.ty)?;
        let args = self.compile_args(&given.node.arguments);
        if let Some(behind) = directive(&given.node.directives, "behind") {
            let message = format!("{}: @behind stands beside @function alone", given.node.name.node);
            self.problems.error(behind.0, message);
        }
        let kind = match ty.named {
            _ if self.schema.object(id).kind == ObjectKind::Job => FieldKind::Structural,
            Named::Object(_) => self.compile_relation(id, given, ty)?,
            Named::Scalar(_) | Named::Enum(_) => {
                if let Some(arg) = given.node.arguments.first() {
                    let message = format!("{} is a column and takes no argument", given.node.name.node);
                    self.problems.error(arg.pos, message);
                }
                FieldKind::Column(self.compile_column(id, given, ty)?)
            }
            Named::Input(_) => {
                let message = format!("{} cannot answer an input type", given.node.name.node);
                self.problems.error(given.node.ty.pos, message);
                return None;
            }
        };
        Some(self.field(given, ty, args, kind))
    }

    /// The field with what is said about it for people.
    pub(super) fn field(
        &mut self,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
        args: IndexMap<String, Argument>,
        kind: FieldKind,
    ) -> Field {
        let directives: &[Positioned<ConstDirective>] = &given.node.directives;
        let cache = directive(directives, "cacheControl").map(|control| CacheControl {
            max_age_secs: self.max_age(&control),
            private: self.is_private(&control),
            stale_if_error_secs: control.seconds("staleIfError", &mut self.problems).unwrap_or_default(),
        });
        Field {
            name: given.node.name.node.to_string(),
            description: given.node.description.as_ref().map(|text| text.node.clone()),
            deprecated: deprecation(directives, &mut self.problems),
            ty,
            args,
            kind,
            cache,
            rules: rules_of(directives, &mut self.problems),
            behind: None,
        }
    }

    /// Who shares an answer; without a word nobody does.
    fn is_private(&mut self, control: &Directive<'_>) -> bool {
        match control.text("scope", &mut self.problems).as_deref() {
            Some("PUBLIC") => false,
            None | Some("PRIVATE") => true,
            Some(other) => {
                self.problems.error(control.0, format!("scope must be PUBLIC or PRIVATE, not {other}"));
                true
            }
        }
    }

    fn max_age(&mut self, control: &Directive<'_>) -> u32 {
        control.seconds("maxAge", &mut self.problems).unwrap_or_else(|| {
            self.problems
                .error(control.0, "@cacheControl needs maxAge: seconds for which an answer may be kept");
            0
        })
    }

    pub(super) fn compile_args(
        &mut self,
        given: &[Positioned<InputValueDefinition>],
    ) -> IndexMap<String, Argument> {
        let mut args = IndexMap::new();
        for arg in given {
            if let Some(arg) = self.compile_arg(arg) {
                args.insert(arg.name.clone(), arg);
            }
        }
        args
    }

    pub(super) fn compile_arg(&mut self, given: &Positioned<InputValueDefinition>) -> Option<Argument> {
        let ty = self.type_ref(&given.node.ty)?;
        let name = given.node.name.node.to_string();
        if matches!(ty.named, Named::Object(_)) {
            let message = format!("{name} must have a scalar, enum or input type");
            self.problems.error(given.node.ty.pos, message);
            return None;
        }
        let description = given.node.description.as_ref().map(|text| text.node.clone());
        let default = given.node.default_value.as_ref().map(|value| value.node.clone());
        Some(Argument { name, description, ty, default })
    }

    /// The name of a field's column.
    pub(super) fn column_name(&mut self, field: &FieldDefinition) -> String {
        directive(&field.directives, "column").map_or_else(
            || snake_case(&field.name.node),
            |column| column.required("name", &mut self.problems),
        )
    }

    fn compile_column(
        &mut self,
        id: ObjectId,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
    ) -> Option<Column> {
        let relation = self.tables.get(&id).copied()?;
        let name = self.column_name(&given.node);
        let table = self.schema.object(id).table.name.clone();
        let pos = given.node.name.pos;
        let Some(column) = relation.column(&name) else {
            let near = nearest(&name, relation.columns.iter().map(|column| column.name.as_str()));
            self.problems.error(pos, format!("{table} has no column {name}{near}"));
            return None;
        };
        if column.array != ty.list.is_some() {
            let message = format!("{table}.{name} has the type {}", type_name(column));
            self.problems
                .error(given.node.ty.pos, format!("{message}, which is {}a list", not(column.array)));
            return None;
        }
        self.check_value_type(ty.named, column, &table, given.node.ty.pos);
        if !ty.nullable && !column.not_null && !relation.view {
            let message =
                format!("{table}.{name} can be null: declare the field without `!`, or the column NOT NULL");
            self.problems.error(given.node.ty.pos, message);
        }
        Some(column_of(column))
    }

    /// Whether values of the column can be what the schema says.
    pub(super) fn check_value_type(
        &mut self,
        named: Named,
        column: &catalogue::Column,
        table: &str,
        pos: async_graphql::parser::Pos,
    ) -> bool {
        let fits = match named {
            Named::Scalar(scalar) => Decoder::new(column_of(column).pg, scalar).is_some(),
            Named::Enum(id) => return self.check_enum(id, column, table, pos),
            Named::Object(_) | Named::Input(_) => false,
        };
        if !fits {
            let fitting: Vec<&str> = Scalar::ALL
                .iter()
                .filter(|scalar| Decoder::new(column_of(column).pg, **scalar).is_some())
                .map(|scalar| scalar.name())
                .collect();
            let (name, has) = (&column.name, type_name(column));
            let message = format!("{table}.{name} has the type {has}, which can be {}", fitting.join(", "));
            self.problems.error(pos, message);
        }
        fits
    }

    fn check_enum(
        &mut self,
        id: EnumId,
        column: &catalogue::Column,
        table: &str,
        pos: async_graphql::parser::Pos,
    ) -> bool {
        let (name, has) = (&column.name, type_name(column));
        let given = self.schema.enumeration(id);
        if !column.is_enum {
            let is_text = Decoder::new(column_of(column).pg, Scalar::String).is_some();
            if !is_text {
                let message =
                    format!("{table}.{name} has the type {has}, which cannot be the enum {}", given.name);
                self.problems.error(pos, message);
            }
            return is_text;
        }
        let Some(labels) = self.catalogue.enums.get(&column.sql_type) else { return true };
        let texts: Vec<&str> = given.values.values().map(|value| value.text.as_str()).collect();
        let unknown: Vec<&str> =
            texts.iter().copied().filter(|text| !labels.iter().any(|l| l == text)).collect();
        let missing: Vec<&str> = labels.iter().map(String::as_str).filter(|l| !texts.contains(l)).collect();
        let enum_name = given.name.clone();
        if !unknown.is_empty() {
            let (unknown, labels) = (unknown.join(", "), labels.join(", "));
            self.problems.error(pos, format!("{enum_name}: {has} has no {unknown}, only {labels}"));
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            self.problems
                .warn(pos, format!("{enum_name}: {has} also has {missing}, rows with it cannot be answered"));
        }
        true
    }
}

fn not(really: bool) -> &'static str {
    if really { "" } else { "not " }
}

fn implements(ty: &Positioned<TypeDefinition>, interface: &str) -> bool {
    matches!(&ty.node.kind, TypeKind::Object(object) if object.implements.iter().any(|name| name.node == interface))
}

/// The fields of an object or an interface.
pub(super) fn fields_of(ty: &TypeDefinition) -> &[Positioned<FieldDefinition>] {
    match &ty.kind {
        TypeKind::Object(object) => &object.fields,
        TypeKind::Interface(interface) => &interface.fields,
        _ => &[],
    }
}
