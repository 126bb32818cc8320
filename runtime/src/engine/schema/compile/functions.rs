//! Functions of the database behind root fields, and jobs: which form is meant, what its parameters take, what it answers.

use async_graphql::Positioned;
use async_graphql::parser::types::{BaseType, FieldDefinition};

use super::{Compiler, column_of, type_name};
use crate::engine::encode::{Decoder, PgType, Scalar};
use crate::engine::schema::catalogue::{self, Returned};
use crate::engine::schema::model::{
    Effects, FieldKind, Function, Named, ObjectId, ObjectKind, Parameter, Returns, Supplied, TypeRef,
    snake_case,
};
use crate::engine::schema::source::{directive, nearest};

impl Compiler<'_> {
    pub(super) fn function(
        &mut self,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
        schema: &str,
        name: &str,
        reading: bool,
    ) -> Option<Function> {
        let pos = given.node.name.pos;
        let Some(candidates) = self.catalogue.find_functions(schema, name) else {
            let near = nearest(name, self.catalogue.functions.keys().map(|(_, name)| name.as_str()));
            self.problems.error(pos, format!("the database has no function {name}{near}"));
            return None;
        };
        let idempotency = directive(&given.node.directives, "idempotent")
            .and_then(|idempotent| idempotent.text("key", &mut self.problems))
            .unwrap_or_else(|| "idempotencyKey".to_owned());
        let args: Vec<String> =
            given.node.arguments.iter().map(|arg| arg.node.name.node.to_string()).collect();
        let passed: Vec<&String> = args.iter().filter(|arg| **arg != idempotency).collect();
        let fitting = |function: &&catalogue::Function| {
            passed.iter().all(|arg| function.parameters.iter().any(|p| p.name == snake_case(arg)))
                && function.parameters.iter().all(|p| {
                    p.has_default
                        || supplied(&p.name).is_some()
                        || passed.iter().any(|arg| snake_case(arg) == p.name)
                })
        };
        // Of several forms that take the arguments, the one that answers what the field answers.
        let answers = |function: &&catalogue::Function| {
            let right = match (&function.returns, ty.named) {
                (Returned::Table(table), Named::Object(id)) => {
                    self.schema.object(id).table.name == table.1 && function.set == ty.list.is_some()
                }
                (Returned::Value(column), Named::Scalar(_) | Named::Enum(_)) => {
                    column.array == ty.list.is_some() && !function.set && fits(Some(ty.named), column)
                }
                _ => false,
            };
            right && !(reading && function.volatile) && self.takes(function, given)
        };
        let best = candidates.iter().filter(fitting).find(answers);
        let Some(function) = best.or_else(|| candidates.iter().find(fitting)) else {
            let forms: Vec<String> = candidates.iter().map(signature).collect();
            self.problems.error(
                pos,
                format!("no form of {name} takes these arguments: there is {}", forms.join(" and ")),
            );
            return None;
        };
        if reading && function.volatile {
            let message = format!("{name} is VOLATILE: a query calls only STABLE and IMMUTABLE functions");
            self.problems.error(pos, message);
        }
        let mut bound = Vec::new();
        for arg in passed {
            let parameter = function.parameters.iter().find(|p| p.name == snake_case(arg))?;
            let column = column_of(&parameter.column);
            let given = given.node.arguments.iter().find(|given| given.node.name.node == arg.as_str())?;
            let arg_ty = self.type_ref(&given.node.ty)?;
            if !super::inputs::is_json(column.clone()) {
                self.check_value_type(arg_ty.named, &parameter.column, name, given.node.ty.pos);
            }
            bound.push((arg.clone(), Parameter { name: parameter.name.clone(), column }));
        }
        let (returns, target) = self.returns(given, ty, name, function)?;
        let effects = self.effects(given, target);
        let unbound = function.parameters.iter().filter(|p| !bound.iter().any(|(_, b)| b.name == p.name));
        let supplied = unbound.filter_map(|p| Some((p.name.clone(), supplied(&p.name)?))).collect();
        Some(Function {
            schema: self.catalogue.schema_of_function(schema, name),
            name: name.to_owned(),
            args: bound,
            supplied,
            returns,
            effects,
        })
    }

    /// Whether the types of a function's parameters are those of the arguments; forms of one name differ in these alone.
    fn takes(&self, function: &catalogue::Function, given: &Positioned<FieldDefinition>) -> bool {
        given.node.arguments.iter().all(|arg| {
            let name = snake_case(&arg.node.name.node);
            let Some(parameter) = function.parameters.iter().find(|p| p.name == name) else { return true };
            let (base, list) = match &arg.node.ty.node.base {
                BaseType::Named(name) => (name, false),
                BaseType::List(inner) => match &inner.base {
                    BaseType::Named(name) => (name, true),
                    BaseType::List(_) => return false,
                },
            };
            let column = &parameter.column;
            let named = self.schema.names.get(base.as_str()).copied();
            let named = named.or_else(|| Scalar::from_name(base).map(Named::Scalar));
            // A document takes lists and objects as they are.
            let document = super::inputs::is_json(column_of(column));
            (list == column.array || document) && fits(named, column)
        })
    }

    fn returns(
        &mut self,
        given: &Positioned<FieldDefinition>,
        ty: TypeRef,
        name: &str,
        function: &catalogue::Function,
    ) -> Option<(Returns, Option<ObjectId>)> {
        let pos = given.node.ty.pos;
        match (&function.returns, ty.named) {
            (Returned::Table(table), Named::Object(id)) if self.schema.object(id).table.name == table.1 => {
                if function.set != ty.list.is_some() {
                    let what = if function.set { "rows" } else { "one row" };
                    self.problems.error(pos, format!("{name} answers {what}"));
                    return None;
                }
                Some((if function.set { Returns::Rows } else { Returns::Row }, Some(id)))
            }
            (Returned::Value(column), Named::Scalar(_) | Named::Enum(_))
                if column.array == ty.list.is_some() =>
            {
                self.check_value_type(ty.named, column, name, pos);
                Some((Returns::Value(column_of(column)), None))
            }
            (returned, _) => {
                let what = match returned {
                    Returned::Value(column) => type_name(column),
                    Returned::Table((_, table)) => format!("rows of {table}"),
                    Returned::Other(what) => what.clone(),
                };
                self.problems.error(pos, format!("{name} answers {what}, which this type cannot be"));
                None
            }
        }
    }

    pub(super) fn job(&mut self, given: &Positioned<FieldDefinition>, ty: TypeRef) -> Option<FieldKind> {
        let pos = given.node.name.pos;
        let job = directive(&given.node.directives, "job")?;
        let is_job = matches!(ty.named, Named::Object(id) if self.schema.object(id).kind == ObjectKind::Job);
        if !is_job || ty.list.is_some() {
            self.problems
                .error(given.node.ty.pos, "a job answers an object type with a field jobId and no table");
            return None;
        }
        let name = job.required("function", &mut self.problems);
        let Some(candidates) = self.catalogue.find_functions("", &name) else {
            let near = nearest(&name, self.catalogue.functions.keys().map(|(_, name)| name.as_str()));
            self.problems.error(pos, format!("the database has no function {name}{near}"));
            return None;
        };
        let effects = self.effects(given, None);
        let key = effects.idempotency_key.as_ref().map(|path| path[0].clone());
        let mut args = Vec::new();
        for arg in &given.node.arguments {
            let arg = arg.node.name.node.to_string();
            if Some(&arg) == key.as_ref() {
                continue;
            }
            let parameter =
                candidates.iter().flat_map(|f| &f.parameters).find(|p| p.name == snake_case(&arg));
            let Some(parameter) = parameter else {
                self.problems.error(pos, format!("{name} has no parameter {}", snake_case(&arg)));
                continue;
            };
            let column = column_of(&parameter.column);
            args.push((arg, Parameter { name: parameter.name.clone(), column }));
        }
        if !candidates.iter().any(|function| function.parameters.iter().any(|p| p.name == "job_id")) {
            self.problems.error(pos, format!("{name} has no parameter job_id, by which a job is done once"));
        }
        let function = Function {
            schema: self.catalogue.schema_of_function("", &name),
            name,
            args,
            supplied: Vec::new(),
            returns: Returns::Row,
            effects: Effects::default(),
        };
        let check = job.text("check", &mut self.problems);
        if let Some(check) = &check
            && self.catalogue.find_functions("", check).is_none()
        {
            let near = nearest(check, self.catalogue.functions.keys().map(|(_, name)| name.as_str()));
            self.problems.error(job.0, format!("the database has no function {check}{near}"));
        }
        Some(FieldKind::Job { function, check, effects })
    }
}

fn supplied(parameter: &str) -> Option<Supplied> {
    match parameter {
        "event_id" => Some(Supplied::EventId),
        "idempotency_key" => Some(Supplied::IdempotencyKey),
        _ => None,
    }
}

/// Whether values of this type can be those of the column.
fn fits(named: Option<Named>, column: &catalogue::Column) -> bool {
    let pg = column_of(column).pg;
    match named {
        Some(Named::Scalar(scalar)) => Decoder::new(pg, scalar).is_some(),
        Some(Named::Enum(_)) => column.is_enum || pg == PgType::Text,
        Some(Named::Input(_)) => super::inputs::is_json(column_of(column)),
        Some(Named::Object(_)) | None => false,
    }
}

fn signature(function: &catalogue::Function) -> String {
    let parameters: Vec<String> =
        function.parameters.iter().map(|p| format!("{} {}", p.name, type_name(&p.column))).collect();
    format!("({})", parameters.join(", "))
}
