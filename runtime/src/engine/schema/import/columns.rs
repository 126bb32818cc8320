//! Fields that are columns: their names and types.

use super::names::Names;
use super::{Proposal, words};
use crate::engine::encode::{Decoder, PgType, Scalar};
use crate::engine::schema::catalogue::{Column, Relation};
use crate::engine::schema::model::snake_case;

/// Types without a binary format here that read and write as their text.
const LIKE_TEXT: [&str; 7] = ["citext", "cidr", "inet", "ltree", "macaddr", "macaddr8", "xml"];

/// A field that is a column.
pub(super) struct Field<'a> {
    pub(super) name: String,
    pub(super) column: &'a Column,
    /// Without `!`.
    pub(super) ty: String,
    /// Whether rows can be ordered by it.
    pub(super) sorts: bool,
    /// Whether it is a part of a view's key, which nobody else tells.
    pub(super) marked: bool,
}

impl Field<'_> {
    /// Whether the column is found without being named.
    pub(super) fn by_rule(&self) -> bool {
        snake_case(&self.name) == self.column.name
    }

    /// Whether null is never there.
    pub(super) fn required(&self) -> bool {
        self.column.not_null || self.marked
    }
}

impl<'a> Proposal<'a> {
    pub(super) fn fields_of(
        &mut self,
        schema: &str,
        table: &str,
        relation: &'a Relation,
        key: &'a [String],
        names: &mut Names,
    ) -> Vec<Field<'a>> {
        let mut fields = Vec::new();
        for column in &relation.columns {
            let identifies = key == [column.name.clone()] || refers(relation, &column.name);
            let Some((ty, sorts)) = self.type_of_column(column, identifies) else {
                let reason =
                    format!("there is no scalar for its type, {}", super::write::plain(&column.sql_type));
                self.leave_out(schema, &format!("{table}.{}", column.name), &reason);
                continue;
            };
            let short = words::field_name(&column.name);
            let name = names.claim(&[&short, &format!("{short}Column")]);
            let marked = relation.view && key.contains(&column.name);
            fields.push(Field { name, column, ty, sorts, marked });
        }
        fields
    }

    /// What values of the column are in GraphQL, without `!`, and whether they have an order.
    pub(super) fn type_of_column(&mut self, column: &'a Column, identifies: bool) -> Option<(String, bool)> {
        let (element, sorts) = if column.is_enum {
            (self.enum_name(&column.sql_type)?, true)
        } else {
            let scalar = scalar_of(column, identifies)?;
            (scalar.name().to_owned(), scalar != Scalar::Json)
        };
        if column.array {
            return Some((format!("[{element}]"), false));
        }
        Some((element, sorts))
    }

    fn enum_name(&mut self, sql_type: &'a str) -> Option<String> {
        if let Some(name) = self.enums.get(sql_type) {
            return Some(name.clone());
        }
        // An enum without values is none in GraphQL.
        self.catalogue.enums.get(sql_type).filter(|labels| !labels.is_empty())?;
        let own = unqualified(sql_type);
        let short = words::type_name(own);
        let name = self.type_names.claim_type(&[&short, &format!("{short}Enum")]);
        self.enums.insert(sql_type, name.clone());
        Some(name)
    }
}

/// Whether the column is a part of a foreign key.
fn refers(relation: &Relation, column: &str) -> bool {
    relation.references.iter().any(|reference| reference.columns.iter().any(|own| own == column))
}

/// The scalar that says most of a column.
fn scalar_of(column: &Column, identifies: bool) -> Option<Scalar> {
    let Some(pg) = PgType::from_oid(column.oid) else {
        let known = !column.array && LIKE_TEXT.contains(&unqualified(&column.sql_type));
        return known.then_some(Scalar::String);
    };
    if identifies && pg != PgType::Numeric && Decoder::new(pg, Scalar::Id).is_some() {
        return Some(Scalar::Id);
    }
    Some(match pg {
        PgType::Bool => Scalar::Boolean,
        PgType::Int2 | PgType::Int4 => Scalar::Int,
        PgType::Int8 => Scalar::BigInt,
        PgType::Float4 | PgType::Float8 => Scalar::Float,
        PgType::Numeric => Scalar::Decimal,
        PgType::Text => Scalar::String,
        PgType::Uuid => Scalar::Uuid,
        PgType::TimestampTz => Scalar::DateTime,
        PgType::Timestamp => Scalar::LocalDateTime,
        PgType::Date => Scalar::Date,
        PgType::Time | PgType::TimeTz => Scalar::Time,
        PgType::Interval => Scalar::Interval,
        PgType::Bytea => Scalar::Bytes,
        PgType::Json | PgType::Jsonb => Scalar::Json,
    })
}

/// `post_status` of `blog.post_status`, `Odd` of `blog."Odd"`.
fn unqualified(sql_type: &str) -> &str {
    match sql_type.strip_suffix('"') {
        Some(quoted) => quoted.rfind('"').map_or(quoted, |at| &quoted[at + 1..]),
        None => sql_type.rsplit('.').next().unwrap_or(sql_type),
    }
}
