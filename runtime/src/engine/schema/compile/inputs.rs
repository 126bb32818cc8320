//! Input objects of the file, and which column each field of one stands for when it becomes a row.

use async_graphql::parser::Pos;
use async_graphql::parser::types::TypeKind;

use super::objects::fields_of;
use super::{Compiler, column_of};
use crate::engine::schema::model::{Column, InputId, Named, ObjectId, snake_case};
use crate::engine::schema::source::{directive, nearest};

impl Compiler<'_> {
    pub(super) fn compile_inputs(&mut self) {
        let source = self.source;
        for (name, ty) in &source.types {
            let (TypeKind::InputObject(given), Some(Named::Input(id))) =
                (&ty.node.kind, self.schema.names.get(name).copied())
            else {
                continue;
            };
            let args = self.compile_args(&given.fields);
            for field in &given.fields {
                if let Some(column) = directive(&field.node.directives, "column") {
                    let column = column.required("name", &mut self.problems);
                    self.schema.inputs[id.0].columns.insert(field.node.name.node.to_string(), column);
                }
            }
            self.schema.inputs[id.0].fields = args;
        }
    }

    /// The name of the column that a field of the object with this name has.
    pub(super) fn field_column_name(&mut self, object: ObjectId, field: &str) -> String {
        let name = &self.schema.object(object).name;
        let definition = self.source.types.get(name).map(|ty| fields_of(&ty.node)).unwrap_or_default();
        match definition.iter().find(|given| given.node.name.node == field) {
            Some(given) => self.column_name(&given.node),
            None => snake_case(field),
        }
    }

    /// Checks that every field of the input is a column of the object's table that takes a value.
    pub(super) fn check_row_input(&mut self, input: InputId, object: ObjectId, whole: bool, pos: Pos) {
        let Some(relation) = self.tables.get(&object).copied() else { return };
        let given = self.schema.input(input).clone();
        let table = self.schema.object(object).table.name.clone();
        let mut covered = Vec::new();
        for (name, field) in &given.fields {
            let column_name =
                given.columns.get(name).cloned().unwrap_or_else(|| self.field_column_name(object, name));
            let Some(column) = relation.column(&column_name) else {
                let near = nearest(&column_name, relation.columns.iter().map(|column| column.name.as_str()));
                let message = format!("{}.{name}: {table} has no column {column_name}{near}", given.name);
                self.problems.error(pos, message);
                continue;
            };
            if column.generated {
                let message = format!("{}.{name}: {table}.{column_name} is made by the database", given.name);
                self.problems.error(pos, message);
            }
            if column.array == field.ty.list.is_some() || is_json(column_of(column)) {
                self.check_input_type(field.ty.named, column, &table, pos);
            } else {
                let message =
                    format!("{}.{name} and {table}.{column_name} differ in being a list", given.name);
                self.problems.error(pos, message);
            }
            covered.push((column_name.clone(), field.ty.nullable && field.default.is_none()));
            self.schema.inputs[input.0].column_types.insert(column_name.clone(), column_of(column));
            self.schema.inputs[input.0].columns.insert(name.clone(), column_name);
        }
        if whole {
            self.check_required_columns(&given.name, object, &covered, pos);
        }
    }

    fn check_input_type(
        &mut self,
        named: Named,
        column: &crate::engine::schema::catalogue::Column,
        table: &str,
        pos: Pos,
    ) {
        // A document takes any input as it is written.
        if !(is_json(column_of(column)) && matches!(named, Named::Input(_))) {
            self.check_value_type(named, column, table, pos);
        }
    }

    fn check_required_columns(
        &mut self,
        input: &str,
        object: ObjectId,
        covered: &[(String, bool)],
        pos: Pos,
    ) {
        let Some(relation) = self.tables.get(&object).copied() else { return };
        let table = self.schema.object(object).table.name.clone();
        for column in relation.columns.iter().filter(|column| column.not_null && !column.has_default) {
            match covered.iter().find(|(name, _)| *name == column.name) {
                None => {
                    let message =
                        format!("{input}: {table}.{} needs a value and has no default", column.name);
                    self.problems.error(pos, message);
                }
                Some((_, true)) => {
                    let message =
                        format!("{input}: {table}.{} needs a value, so its field needs `!`", column.name);
                    self.problems.error(pos, message);
                }
                Some((_, false)) => {}
            }
        }
    }
}

pub(super) fn is_json(column: Column) -> bool {
    use crate::engine::encode::PgType;
    matches!(column.pg, PgType::Json | PgType::Jsonb)
}
