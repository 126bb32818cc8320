//! A schema file and a catalogue in, a [`Schema`] or every problem out.
//!
//! Promises: pure; all problems at once, each with its place and what the database has instead; what compiles refers
//! only to tables, columns, functions and types that the catalogue has, with types that can be read and written.
//! Filters, orders, connections and inputs that the file names and does not define are made here.

mod access;
mod functions;
mod generated;
mod inputs;
mod objects;
mod relations;
mod roots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use async_graphql::Positioned;
use async_graphql::parser::Pos;
use async_graphql::parser::types::{BaseType, Type, TypeKind};
use indexmap::IndexMap;

use super::catalogue::{self, Catalogue};
use super::model::{
    Column, Enum, EnumId, EnumValue, Input, InputId, InputRole, Meaning, Named, Object, ObjectId, ObjectKind,
    Schema, Table, TypeRef,
};
use super::source::{self, Problem, Problems, Source, directive, directives, nearest};
use crate::engine::encode::{PgType, Scalar};

/// Rows of a list when nobody says how many.
const SIZE_DEFAULT: u32 = 50;
/// Rows of a list at most when the schema does not say.
const SIZE_MAX: u32 = 1_000;

/// What a filter combines conditions with; a field of this name cannot be filtered by.
pub(crate) const FILTER_WORDS: [&str; 3] = ["and", "or", "not"];

/// What came of a schema file.
pub struct Compiled {
    /// The schema.
    pub schema: Schema,
    /// Things that will hurt.
    pub warnings: Vec<Problem>,
}

/// Compiles the text of a schema file.
///
/// # Errors
/// Every problem that was found, warnings too, in the order of their places.
pub fn compile(text: &str, catalogue: &Catalogue) -> Result<Compiled, Vec<Problem>> {
    let mut problems = Problems::default();
    let Some(source) = source::read(text, &mut problems) else { return Err(problems.0) };
    let mut compiler = Compiler {
        catalogue,
        source: &source,
        schema: Schema::default(),
        problems,
        pending: Vec::new(),
        tables: HashMap::new(),
    };
    compiler.run();
    let Compiler { schema, mut problems, .. } = compiler;
    problems.0.sort_by_key(|problem| (problem.line, problem.column));
    if problems.has_errors() { Err(problems.0) } else { Ok(Compiled { schema, warnings: problems.0 }) }
}

struct Compiler<'a> {
    catalogue: &'a Catalogue,
    source: &'a Source,
    schema: Schema,
    problems: Problems,
    /// Types that were named and will get their fields when all objects have theirs.
    pending: Vec<generated::Pending>,
    /// The catalogue's entry of each object with a table.
    tables: HashMap<ObjectId, &'a catalogue::Relation>,
}

impl<'a> Compiler<'a> {
    fn run(&mut self) {
        self.declare();
        self.bind_tables();
        self.compile_enums();
        self.compile_objects();
        self.compile_access();
        self.compile_inputs();
        self.compile_roots();
        self.fill_generated();
        self.compile_constraints();
    }

    fn is_root(&self, name: &str) -> bool {
        !name.is_empty()
            && [&self.source.query, &self.source.mutation, &self.source.subscription]
                .iter()
                .any(|root| *root == name)
    }

    /// Gives every type of the file its number.
    fn declare(&mut self) {
        for (name, ty) in &self.source.types {
            let description = ty.node.description.as_ref().map(|text| text.node.clone());
            let named = match &ty.node.kind {
                _ if self.is_root(name) => continue,
                TypeKind::Scalar => match Scalar::from_name(name) {
                    Some(scalar) => Named::Scalar(scalar),
                    None => {
                        let near = nearest(name, Scalar::ALL.iter().map(|scalar| scalar.name()));
                        self.problems.error(ty.pos, format!("there is no scalar {name} here{near}"));
                        continue;
                    }
                },
                TypeKind::Enum(_) => {
                    self.schema.enums.push(Enum { name: name.clone(), description, values: IndexMap::new() });
                    Named::Enum(EnumId(self.schema.enums.len() - 1))
                }
                TypeKind::InputObject(_) => {
                    self.schema.inputs.push(Input {
                        name: name.clone(),
                        description,
                        role: InputRole::Values,
                        fields: IndexMap::new(),
                        columns: HashMap::new(),
                        column_types: HashMap::new(),
                    });
                    Named::Input(InputId(self.schema.inputs.len() - 1))
                }
                TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_) => {
                    Named::Object(self.add_object(name.clone(), description, ObjectKind::Table))
                }
            };
            self.schema.names.insert(name.clone(), named);
        }
    }

    fn add_object(&mut self, name: String, description: Option<String>, kind: ObjectKind) -> ObjectId {
        let (table, fields) = (Table::default(), IndexMap::new());
        let (implements, rules) = (Vec::new(), Vec::new());
        self.schema.objects.push(Object { name, description, kind, table, fields, implements, rules });
        ObjectId(self.schema.objects.len() - 1)
    }

    fn compile_enums(&mut self) {
        for (name, ty) in &self.source.types {
            let (TypeKind::Enum(given), Some(Named::Enum(id))) = (&ty.node.kind, self.schema.names.get(name))
            else {
                continue;
            };
            let mut values = IndexMap::new();
            for value in &given.values {
                let word = value.node.value.node.to_string();
                let text = directive(&value.node.directives, "value")
                    .map_or_else(|| word.clone(), |value| value.required("text", &mut self.problems));
                let deprecated = deprecation(&value.node.directives, &mut self.problems);
                let description = value.node.description.as_ref().map(|text| text.node.clone());
                values.insert(word, EnumValue { description, deprecated, text });
            }
            self.schema.enums[id.0].values = values;
        }
    }

    /// The type that a field or an argument has.
    fn type_ref(&mut self, ty: &Positioned<Type>) -> Option<TypeRef> {
        let (name, list) = match &ty.node.base {
            BaseType::Named(name) => (name, None),
            BaseType::List(inner) => match &inner.base {
                BaseType::Named(name) => (name, Some(inner.nullable)),
                BaseType::List(_) => {
                    self.problems.error(ty.pos, "lists of lists are not supported");
                    return None;
                }
            },
        };
        let named = self.named(name, ty.pos)?;
        Some(TypeRef { named, list, nullable: ty.node.nullable })
    }

    fn named(&mut self, name: &str, pos: Pos) -> Option<Named> {
        if let Some(named) = self.schema.names.get(name) {
            return Some(*named);
        }
        if let Some(scalar) = Scalar::from_name(name) {
            let named = Named::Scalar(scalar);
            self.schema.names.insert(name.to_owned(), named);
            return Some(named);
        }
        if let Some(named) = self.generate(name) {
            return Some(named);
        }
        let near = nearest(name, self.source.types.keys().map(String::as_str));
        self.problems.error(pos, format!("there is no type {name}{near}"));
        None
    }

    fn compile_constraints(&mut self) {
        let mut all: Vec<_> = directives(&self.source.schema, "constraint").collect();
        for ty in self.source.types.values() {
            all.extend(directives(&ty.node.directives, "constraint"));
        }
        for constraint in all {
            let problems = &mut self.problems;
            let name = constraint.required("name", problems);
            let code = constraint.text("code", problems).unwrap_or_else(|| "BAD_USER_INPUT".to_owned());
            let message = constraint.required("message", problems);
            let field = constraint.text("field", problems);
            if self.schema.constraints.insert(name.clone(), Meaning { code, message, field }).is_some() {
                self.problems.error(constraint.0, format!("the constraint {name} has two meanings"));
            }
        }
    }
}

/// A column as the plan needs it.
fn column_of(column: &catalogue::Column) -> Column {
    let known = if column.is_enum { None } else { PgType::from_oid(column.oid) };
    Column {
        name: column.name.clone(),
        pg: known.unwrap_or(PgType::Text),
        sql_type: column.sql_type.clone(),
        array: column.array,
        nullable: !column.not_null,
        as_text: known.is_none(),
    }
}

/// How a type of the database is called in a message.
fn type_name(column: &catalogue::Column) -> String {
    if column.array { format!("{}[]", column.sql_type) } else { column.sql_type.clone() }
}

fn deprecation(
    all: &[Positioned<async_graphql::parser::types::ConstDirective>],
    problems: &mut Problems,
) -> Option<String> {
    let deprecated = directive(all, "deprecated")?;
    Some(deprecated.text("reason", problems).unwrap_or_else(|| "no longer supported".to_owned()))
}
