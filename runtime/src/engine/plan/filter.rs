//! Conditions of a filter as SQL. Their structure is the operation's; their values are parameters.

use async_graphql::{Pos, Value};

use super::args::{Arg, Source};
use super::error::Refusal;
use super::read::{Builder, existing, join_on};
use crate::engine::encode::PgType;
use crate::engine::schema::model::{Column, FieldKind, Named, ObjectId, quoted};

impl Builder<'_> {
    /// All conditions of a filter on the rows of `alias`.
    pub(super) fn filter(
        &mut self,
        object: ObjectId,
        alias: &str,
        arg: &Arg,
        path: &str,
        pos: Pos,
    ) -> Result<String, Refusal> {
        let Arg::Object(fields) = arg else {
            return Err(Refusal::input(pos, format!("{path} must be an object of conditions, not null")));
        };
        let mut conditions = Vec::with_capacity(fields.len());
        self.ask_object(object);
        for (name, arg) in fields {
            let path = format!("{path}.{name}");
            let condition = match (name.as_str(), arg) {
                ("and", Arg::List(items)) => {
                    self.combined(object, alias, items, &path, pos, " AND ", "true")?
                }
                ("or", Arg::List(items)) => {
                    self.combined(object, alias, items, &path, pos, " OR ", "false")?
                }
                ("not", Arg::Object(_)) => {
                    format!("NOT coalesce({}, false)", self.filter(object, alias, arg, &path, pos)?)
                }
                (_, Arg::Null) => {
                    let message =
                        format!("{path}: null is no condition: leave it out, or write {{isNull: true}}");
                    return Err(Refusal::input(pos, message));
                }
                _ => self.field_condition(object, alias, name, arg, &path, pos)?,
            };
            conditions.push(condition);
        }
        Ok(match conditions.len() {
            0 => "true".to_owned(),
            1 => conditions.remove(0),
            _ => format!("({})", conditions.join(" AND ")),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the place of a condition and how it is joined")]
    fn combined(
        &mut self,
        object: ObjectId,
        alias: &str,
        items: &[Arg],
        path: &str,
        pos: Pos,
        word: &str,
        empty: &str,
    ) -> Result<String, Refusal> {
        let mut parts = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            parts.push(self.filter(object, alias, item, &format!("{path}.{at}"), pos)?);
        }
        Ok(if parts.is_empty() { empty.to_owned() } else { format!("({})", parts.join(word)) })
    }

    fn field_condition(
        &mut self,
        object: ObjectId,
        alias: &str,
        name: &str,
        arg: &Arg,
        path: &str,
        pos: Pos,
    ) -> Result<String, Refusal> {
        let schema = self.document.schema;
        let Some(field) = schema.object(object).fields.get(name) else {
            return Err(Refusal::input(pos, format!("{path}: there is no such field")));
        };
        match &field.kind {
            FieldKind::Column(column) => {
                self.ask_column(object, &column.name);
                self.comparisons(alias, column, field.ty.named, arg, path, pos)
            }
            FieldKind::ToOne(relation) => {
                self.ask_field(object, field);
                let (target, joined) = (schema.object(relation.target), self.alias());
                self.tables.insert(target.table.name.clone());
                let mut conditions = vec![join_on(alias, &joined, relation)];
                conditions.extend(existing(target, &joined));
                conditions.push(self.filter(relation.target, &joined, arg, path, pos)?);
                let (table, conditions) = (target.table.sql(), conditions.join(" AND "));
                Ok(format!("EXISTS (SELECT FROM {table} {joined} WHERE {conditions})"))
            }
            _ => Err(Refusal::input(pos, format!("{path}: this field cannot be filtered by"))),
        }
    }

    fn comparisons(
        &mut self,
        alias: &str,
        column: &Column,
        named: Named,
        arg: &Arg,
        path: &str,
        pos: Pos,
    ) -> Result<String, Refusal> {
        let Arg::Object(given) = arg else {
            return Err(Refusal::input(pos, format!("{path} must be an object of comparisons")));
        };
        let expression = format!("{alias}.{}", quoted(&column.name));
        let mut conditions = Vec::with_capacity(given.len());
        for (comparison, arg) in given {
            let path = format!("{path}.{comparison}");
            let Arg::Leaf(source) = arg else {
                let message = format!("{path}: nothing compares with null: write {{isNull: true}}");
                return Err(Refusal::input(pos, message));
            };
            conditions.push(self.comparison(
                &expression,
                column,
                named,
                comparison,
                source.clone(),
                &path,
                pos,
            )?);
        }
        Ok(if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") })
    }

    #[expect(clippy::too_many_arguments, reason = "a comparison and its place")]
    fn comparison(
        &mut self,
        expression: &str,
        column: &Column,
        named: Named,
        comparison: &str,
        source: Source,
        path: &str,
        pos: Pos,
    ) -> Result<String, Refusal> {
        let sign = match comparison {
            "eq" => "=",
            "ne" => "<>",
            "lt" => "<",
            "lte" => "<=",
            "gt" => ">",
            "gte" => ">=",
            "like" => "LIKE",
            "ilike" => "ILIKE",
            "contains" => "@>",
            "overlaps" => "&&",
            "in" | "notIn" => {
                let values = self.values(source, path, pos, named, column);
                return Ok(match comparison {
                    "in" => format!("{expression} = ANY ({values})"),
                    _ => format!("{expression} <> ALL ({values})"),
                });
            }
            "isNull" => {
                let null = source.read(self.document.variables) == Value::Boolean(true);
                return Ok(format!("{expression} IS {}NULL", if null { "" } else { "NOT " }));
            }
            _ => return Err(Refusal::input(pos, format!("{path}: there is no such comparison"))),
        };
        if matches!(comparison, "like" | "ilike") && (column.as_text || column.pg != PgType::Text) {
            // LIKE knows nothing but text: what is a String in the schema may be another type here.
            let text = Column { pg: PgType::Text, sql_type: "text".to_owned(), ..column.clone() };
            let value = self.value(source, path, pos, named, &text);
            return Ok(format!("{expression}::text {sign} {value}"));
        }
        let value = self.value(source, path, pos, named, column);
        Ok(format!("{expression} {sign} {value}"))
    }
}
