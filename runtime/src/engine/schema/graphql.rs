//! The compiled schema as async-graphql's: for validation, introspection and SDL. It executes nothing of ours.
//!
//! One source: whatever a client can ask for here is what the planner can plan, since both come from [`Schema`].

use std::sync::Arc;

use async_graphql::dynamic::{self, FieldFuture, FieldValue, InputValue, SchemaBuilder, SchemaError};
use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute};
use async_graphql::{Response, ValidationMode};

use super::model::{Argument, Field, Named, Object, ObjectKind, Schema, TypeRef};

/// What async-graphql does for us.
#[derive(Clone)]
pub struct Graphql {
    /// Validates by every rule of the specification and stops there.
    validating: dynamic::Schema,
    /// Answers introspection; the operation was validated before.
    introspecting: dynamic::Schema,
}

impl Graphql {
    /// Makes both from the compiled schema.
    ///
    /// # Errors
    /// What the specification forbids and compiling did not notice: an interface that is not fulfilled.
    pub fn new(schema: &Schema, introspection: bool) -> Result<Self, SchemaError> {
        let validating = build(schema).extension(StopAfterValidation);
        let validating = if introspection { validating } else { validating.disable_introspection() };
        Ok(Self {
            validating: validating.finish()?,
            introspecting: build(schema).validation_mode(ValidationMode::Fast).finish()?,
        })
    }

    /// Validates a request; errors in the answer when it is wrong.
    pub async fn validate(&self, request: async_graphql::Request) -> Response {
        self.validating.execute(request).await
    }

    /// Answers an operation of `__schema` and `__type` alone.
    pub async fn introspect(&self, request: async_graphql::Request) -> Response {
        self.introspecting.execute(request).await
    }

    /// The schema in GraphQL's own language.
    pub fn sdl(&self) -> String {
        self.introspecting.sdl()
    }
}

struct StopAfterValidation;

impl ExtensionFactory for StopAfterValidation {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait::async_trait]
impl Extension for StopAfterValidation {
    async fn execute(
        &self,
        _ctx: &ExtensionContext<'_>,
        _operation_name: Option<&str>,
        _next: NextExecute<'_>,
    ) -> Response {
        Response::default()
    }
}

fn build(schema: &Schema) -> SchemaBuilder {
    let root = |name: &'static str, some: bool| some.then_some(name);
    let mutation = root("Mutation", !schema.mutation.is_empty());
    let subscription = root("Subscription", !schema.subscription.is_empty());
    let mut builder = dynamic::Schema::build("Query", mutation, subscription).register(root_object(
        schema,
        "Query",
        schema.query.values(),
    ));
    if mutation.is_some() {
        builder = builder.register(root_object(schema, "Mutation", schema.mutation.values()));
    }
    if subscription.is_some() {
        builder = builder.register(subscription_root(schema));
    }
    for named in schema.names.values() {
        if let Named::Scalar(scalar) = named
            && !matches!(scalar.name(), "Int" | "Float" | "String" | "Boolean" | "ID")
        {
            builder = builder.register(dynamic::Scalar::new(scalar.name()));
        }
    }
    for enumeration in &schema.enums {
        let mut ty =
            described(dynamic::Enum::new(&enumeration.name), &enumeration.description, |ty, text| {
                ty.description(text)
            });
        for (name, value) in &enumeration.values {
            let item = described(dynamic::EnumItem::new(name), &value.description, |item, text| {
                item.description(text)
            });
            ty = ty.item(match &value.deprecated {
                Some(reason) => item.deprecation(Some(reason.as_str())),
                None => item,
            });
        }
        builder = builder.register(ty);
    }
    for input in &schema.inputs {
        let ty = dynamic::InputObject::new(&input.name);
        let mut ty = described(ty, &input.description, |ty, text| ty.description(text));
        for field in input.fields.values() {
            ty = ty.field(input_value(schema, field));
        }
        builder = builder.register(ty);
    }
    for object in &schema.objects {
        builder = match &object.kind {
            ObjectKind::Abstract { union: true, members, .. } => {
                let union = dynamic::Union::new(&object.name);
                let union = described(union, &object.description, |ty, text| ty.description(text));
                let members = members.iter().map(|(_, member)| schema.object(*member).name.as_str());
                builder.register(members.fold(union, dynamic::Union::possible_type))
            }
            ObjectKind::Abstract { union: false, .. } => builder.register(interface(schema, object)),
            _ => builder.register(object_type(schema, object)),
        };
    }
    builder
}

fn described<T>(ty: T, text: &Option<String>, describe: impl FnOnce(T, &str) -> T) -> T {
    match text {
        Some(text) => describe(ty, text),
        None => ty,
    }
}

fn type_ref(schema: &Schema, ty: TypeRef) -> dynamic::TypeRef {
    let named = dynamic::TypeRef::named(schema.name_of(ty.named));
    let inner = match ty.list {
        None => named,
        Some(true) => dynamic::TypeRef::List(Box::new(named)),
        Some(false) => dynamic::TypeRef::List(Box::new(dynamic::TypeRef::NonNull(Box::new(named)))),
    };
    if ty.nullable { inner } else { dynamic::TypeRef::NonNull(Box::new(inner)) }
}

fn input_value(schema: &Schema, argument: &Argument) -> InputValue {
    let value = InputValue::new(&argument.name, type_ref(schema, argument.ty));
    let value = described(value, &argument.description, |value, text| value.description(text));
    match &argument.default {
        Some(default) => value.default_value(default.clone()),
        None => value,
    }
}

fn field(schema: &Schema, field: &Field) -> dynamic::Field {
    // Never called: validation stops before, and introspection has no such field.
    let ty = dynamic::Field::new(&field.name, type_ref(schema, field.ty), |_| {
        FieldFuture::new(async { Ok(None::<FieldValue<'_>>) })
    });
    let mut ty = described(ty, &field.description, |ty, text| ty.description(text));
    for argument in field.args.values() {
        ty = ty.argument(input_value(schema, argument));
    }
    match &field.deprecated {
        Some(reason) => ty.deprecation(Some(reason.as_str())),
        None => ty,
    }
}

fn root_object<'a>(schema: &Schema, name: &str, fields: impl Iterator<Item = &'a Field>) -> dynamic::Object {
    fields.fold(dynamic::Object::new(name), |root, given| root.field(field(schema, given)))
}

fn object_type(schema: &Schema, object: &Object) -> dynamic::Object {
    let ty = dynamic::Object::new(&object.name);
    let mut ty = described(ty, &object.description, |ty, text| ty.description(text));
    for interface in &object.implements {
        ty = ty.implement(&schema.object(*interface).name);
    }
    object.fields.values().fold(ty, |ty, given| ty.field(field(schema, given)))
}

fn interface(schema: &Schema, object: &Object) -> dynamic::Interface {
    let ty = dynamic::Interface::new(&object.name);
    let mut ty = described(ty, &object.description, |ty, text| ty.description(text));
    for given in object.fields.values() {
        let field = dynamic::InterfaceField::new(&given.name, type_ref(schema, given.ty));
        let mut field = described(field, &given.description, |field, text| field.description(text));
        for argument in given.args.values() {
            field = field.argument(input_value(schema, argument));
        }
        ty = ty.field(field);
    }
    ty
}

fn subscription_root(schema: &Schema) -> dynamic::Subscription {
    let mut root = dynamic::Subscription::new("Subscription");
    for given in schema.subscription.values() {
        let field = dynamic::SubscriptionField::new(&given.name, type_ref(schema, given.ty), |_| {
            dynamic::SubscriptionFieldFuture::new(async {
                Ok(futures::stream::empty::<async_graphql::Result<FieldValue<'_>>>())
            })
        });
        let mut field = described(field, &given.description, |field, text| field.description(text));
        for argument in given.args.values() {
            field = field.argument(input_value(schema, argument));
        }
        root = root.field(field);
    }
    root
}
