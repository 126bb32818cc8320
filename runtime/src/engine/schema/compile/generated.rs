//! Types that a schema file names without defining them: pages, filters, orders and inputs of an object's rows.
//!
//! They are declared when they are first named and get their fields when all objects have theirs.

use std::collections::HashMap;

use async_graphql::Value;
use indexmap::IndexMap;

use super::Compiler;
use crate::engine::encode::Scalar;
use crate::engine::schema::model::{
    Argument, Enum, EnumId, EnumValue, Field, FieldKind, Input, InputId, InputRole, Named, ObjectId,
    ObjectKind, TypeRef,
};

/// A type that still needs its fields.
pub(super) enum Pending {
    Filter(InputId, ObjectId),
    Order(InputId, ObjectId),
    /// Whether values may be left out because the row exists.
    Row(InputId, ObjectId, bool),
}

const fn plain(named: Named, nullable: bool) -> TypeRef {
    TypeRef { named, list: None, nullable }
}

const fn list(named: Named, nullable: bool) -> TypeRef {
    TypeRef { named, list: Some(false), nullable }
}

impl Compiler<'_> {
    /// Declares the type with this name, if it is one that can be made.
    pub(super) fn generate(&mut self, name: &str) -> Option<Named> {
        let named = match name {
            "PageInfo" => Named::Object(self.page_info()),
            "SortDirection" => Named::Enum(self.sort_direction()),
            _ => self.generate_for_object(name).or_else(|| self.generate_comparison(name))?,
        };
        self.schema.names.insert(name.to_owned(), named);
        Some(named)
    }

    fn generate_for_object(&mut self, name: &str) -> Option<Named> {
        let of = |suffix: &str| {
            let base = name.strip_suffix(suffix)?;
            self.schema.object_named(base)
        };
        if let Some(id) = of("Connection") {
            return Some(Named::Object(self.connection(name, id)));
        }
        if let Some(id) = of("Edge") {
            return Some(Named::Object(self.edge(name, id)));
        }
        let (id, role, text) = if let Some(id) = of("Filter") {
            (id, InputRole::Filter(id), "Conditions; all of them must hold.")
        } else if let Some(id) = of("Order") {
            (id, InputRole::Order(id), "One field to order by.")
        } else if let Some(id) = of("Input") {
            (id, InputRole::Values, "A new row.")
        } else {
            (of("Patch")?, InputRole::Values, "New values; what is left out stays as it is.")
        };
        let input = self.add_input(name, role, text);
        self.pending.push(match role {
            InputRole::Filter(_) => Pending::Filter(input, id),
            InputRole::Order(_) => Pending::Order(input, id),
            _ => Pending::Row(input, id, name.ends_with("Patch")),
        });
        Some(Named::Input(input))
    }

    fn add_input(&mut self, name: &str, role: InputRole, description: &str) -> InputId {
        self.schema.inputs.push(Input {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            role,
            fields: IndexMap::new(),
            columns: HashMap::new(),
            column_types: HashMap::new(),
        });
        InputId(self.schema.inputs.len() - 1)
    }

    fn structural(&mut self, id: ObjectId, name: &str, ty: TypeRef, description: &str) {
        let field = Field {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            deprecated: None,
            ty,
            args: IndexMap::new(),
            kind: FieldKind::Structural,
            cache: None,
            rules: Vec::new(),
            behind: None,
        };
        self.schema.objects[id.0].fields.insert(name.to_owned(), field);
    }

    fn page_info(&mut self) -> ObjectId {
        let id = self.add_object(
            "PageInfo".to_owned(),
            Some("Where a page begins and ends.".to_owned()),
            ObjectKind::PageInfo,
        );
        let (boolean, text) = (Named::Scalar(Scalar::Boolean), Named::Scalar(Scalar::String));
        self.structural(id, "hasNextPage", plain(boolean, false), "Whether rows follow.");
        self.structural(id, "hasPreviousPage", plain(boolean, false), "Whether rows come before.");
        self.structural(id, "startCursor", plain(text, true), "Of the first row; null on an empty page.");
        self.structural(id, "endCursor", plain(text, true), "Of the last row; null on an empty page.");
        id
    }

    fn sort_direction(&mut self) -> EnumId {
        let value = |word: &str, text: &str| {
            (
                word.to_owned(),
                EnumValue { description: Some(text.to_owned()), deprecated: None, text: word.to_owned() },
            )
        };
        let values =
            [value("ASC", "Smallest first, null last."), value("DESC", "Largest first, null first.")];
        self.schema.enums.push(Enum {
            name: "SortDirection".to_owned(),
            description: Some("Which way to order.".to_owned()),
            values: values.into_iter().collect(),
        });
        EnumId(self.schema.enums.len() - 1)
    }

    fn connection(&mut self, name: &str, target: ObjectId) -> ObjectId {
        let id = self.add_object(
            name.to_owned(),
            Some("A page of rows.".to_owned()),
            ObjectKind::Connection(target),
        );
        self.schema.names.insert(name.to_owned(), Named::Object(id));
        let edge_name = format!("{}Edge", self.schema.object(target).name);
        let pos = async_graphql::parser::Pos::default();
        let edge = self.named(&edge_name, pos);
        let info = self.named("PageInfo", pos);
        if let (Some(edge), Some(info)) = (edge, info) {
            self.structural(id, "edges", list(edge, false), "The rows with their cursors.");
            self.structural(id, "nodes", list(Named::Object(target), false), "The rows.");
            self.structural(id, "pageInfo", plain(info, false), "Where the page begins and ends.");
        }
        let count = plain(Named::Scalar(Scalar::Int), false);
        self.structural(id, "totalCount", count, "Rows on all pages together.");
        id
    }

    fn edge(&mut self, name: &str, target: ObjectId) -> ObjectId {
        let id =
            self.add_object(name.to_owned(), Some("A row of a page.".to_owned()), ObjectKind::Edge(target));
        self.structural(
            id,
            "cursor",
            plain(Named::Scalar(Scalar::String), false),
            "Where the row is in the order.",
        );
        self.structural(id, "node", plain(Named::Object(target), false), "The row.");
        id
    }

    /// `StringFilter`, `OrderStatusFilter`, and `StringListFilter` for arrays.
    fn generate_comparison(&mut self, name: &str) -> Option<Named> {
        let base = name.strip_suffix("Filter")?;
        let (base, array) = match base.strip_suffix("List") {
            Some(element) => (element, true),
            None => (base, false),
        };
        let named = match self.schema.names.get(base) {
            Some(named @ (Named::Scalar(_) | Named::Enum(_))) => *named,
            Some(_) => return None,
            None => Named::Scalar(Scalar::from_name(base)?),
        };
        self.schema.names.entry(base.to_owned()).or_insert(named);
        let input = self.add_input(name, InputRole::Comparison, "Comparisons; all of them must hold.");
        let boolean = Named::Scalar(Scalar::Boolean);
        let mut fields = Vec::new();
        if array {
            fields.push(("contains", list(named, true), "All of these are in it."));
            fields.push(("overlaps", list(named, true), "At least one of these is in it."));
        } else {
            let scalar = if let Named::Scalar(scalar) = named { Some(scalar) } else { None };
            if scalar != Some(Scalar::Json) {
                fields.push(("eq", plain(named, true), "Equal."));
                fields.push(("ne", plain(named, true), "Not equal; null is not equal to anything."));
                fields.push(("in", list(named, true), "One of these."));
                fields.push(("notIn", list(named, true), "None of these."));
            }
            if scalar.is_some_and(|scalar| !matches!(scalar, Scalar::Boolean | Scalar::Json)) {
                fields.push(("lt", plain(named, true), "Less than."));
                fields.push(("lte", plain(named, true), "Less than or equal."));
                fields.push(("gt", plain(named, true), "Greater than."));
                fields.push(("gte", plain(named, true), "Greater than or equal."));
            }
            if scalar == Some(Scalar::String) {
                fields.push(("like", plain(named, true), "SQL's LIKE: % is any text, _ one letter."));
                fields.push(("ilike", plain(named, true), "LIKE without regard to case."));
            }
        }
        fields.push(("isNull", plain(boolean, true), "Whether it is null."));
        self.schema.inputs[input.0].fields = arguments(fields);
        Some(Named::Input(input))
    }

    /// Gives all types that were named their fields; doing so may name more.
    pub(super) fn fill_generated(&mut self) {
        while let Some(pending) = self.pending.pop() {
            let (input, fields) = match pending {
                Pending::Filter(input, object) => (input, self.filter_fields(input, object)),
                Pending::Order(input, object) => (input, self.order_fields(object)),
                Pending::Row(input, object, patch) => (input, self.row_fields(input, object, patch)),
            };
            self.schema.inputs[input.0].fields = fields;
        }
    }

    fn filter_fields(&mut self, input: InputId, object: ObjectId) -> IndexMap<String, Argument> {
        let this = Named::Input(input);
        let mut fields = vec![
            argument("and", list(this, true), "All of these hold."),
            argument("or", list(this, true), "At least one of these holds."),
            argument("not", plain(this, true), "This does not hold."),
        ];
        let pos = async_graphql::parser::Pos::default();
        for (name, field) in self.schema.object(object).fields.clone() {
            if super::FILTER_WORDS.contains(&name.as_str()) {
                let of = self.schema.object(object).name.clone();
                let place = self.place_of(&of, &name);
                let message =
                    format!("{of}.{name} cannot be filtered by: filters have this word for themselves");
                self.problems.warn(place, message);
                continue;
            }
            let type_name = match (&field.kind, field.ty.named) {
                (FieldKind::Column(column), named) => {
                    let base = self.schema.name_of(named).to_owned();
                    if column.array { format!("{base}ListFilter") } else { format!("{base}Filter") }
                }
                (FieldKind::ToOne(relation), _) => {
                    format!("{}Filter", self.schema.object(relation.target).name)
                }
                _ => continue,
            };
            if let Some(named @ Named::Input(_)) = self.named(&type_name, pos) {
                fields.push(argument(&name, plain(named, true), ""));
            }
        }
        fields.into_iter().map(|argument| (argument.name.clone(), argument)).collect()
    }

    /// Where the file has the field.
    fn place_of(&self, object: &str, field: &str) -> async_graphql::parser::Pos {
        let ty = self.source.types.get(object);
        let found = ty.and_then(|ty| {
            let mut fields = super::objects::fields_of(&ty.node).iter();
            fields.find(|given| given.node.name.node == field).map(|given| given.node.name.pos)
        });
        found.unwrap_or_default()
    }

    fn order_fields(&mut self, object: ObjectId) -> IndexMap<String, Argument> {
        let direction = self.named("SortDirection", async_graphql::parser::Pos::default());
        let Some(direction) = direction else { return IndexMap::new() };
        let object = self.schema.object(object);
        let sortable = object.fields.values().filter(|field| match &field.kind {
            FieldKind::Column(column) => !column.array && field.ty.named != Named::Scalar(Scalar::Json),
            _ => false,
        });
        arguments(sortable.map(|field| (field.name.as_str(), plain(direction, true), "")).collect())
    }

    fn row_fields(&mut self, input: InputId, object: ObjectId, patch: bool) -> IndexMap<String, Argument> {
        let Some(relation) = self.tables.get(&object).copied() else { return IndexMap::new() };
        let mut fields = IndexMap::new();
        let (mut columns, mut column_types) = (HashMap::new(), HashMap::new());
        let key: Vec<String> = self.schema.object(object).table.key.iter().map(|c| c.name.clone()).collect();
        for field in self.schema.object(object).fields.values() {
            let FieldKind::Column(column) = &field.kind else { continue };
            let Some(known) = relation.column(&column.name) else { continue };
            if known.generated || (patch && key.contains(&column.name)) {
                continue;
            }
            let optional = patch || known.has_default || !known.not_null;
            columns.insert(field.name.clone(), column.name.clone());
            column_types.insert(column.name.clone(), column.clone());
            let ty = TypeRef { nullable: optional, ..field.ty };
            fields
                .insert(field.name.clone(), Argument { description: None, ..argument(&field.name, ty, "") });
        }
        self.schema.inputs[input.0].columns = columns;
        self.schema.inputs[input.0].column_types = column_types;
        fields
    }
}

fn argument(name: &str, ty: TypeRef, description: &str) -> Argument {
    let description = Some(description.to_owned()).filter(|text| !text.is_empty());
    Argument { name: name.to_owned(), description, ty, default: None::<Value> }
}

fn arguments(fields: Vec<(&str, TypeRef, &str)>) -> IndexMap<String, Argument> {
    fields.into_iter().map(|(name, ty, text)| (name.to_owned(), argument(name, ty, text))).collect()
}
