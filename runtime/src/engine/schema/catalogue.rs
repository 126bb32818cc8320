//! What a database has: tables, columns, keys, indexes, enums, functions. Plain data, read by
//! [`store`](super::store), so that a schema can be checked against a catalogue that a test has made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything in the schemas that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Catalogue {
    /// Tables and views by (schema, name).
    #[serde(with = "pairs")]
    pub tables: BTreeMap<(String, String), Relation>,
    /// Enums by the name that columns have them by: their labels in order.
    pub enums: BTreeMap<String, Vec<String>>,
    /// Functions by (schema, name); overloads one after another.
    #[serde(with = "pairs")]
    pub functions: BTreeMap<(String, String), Vec<Function>>,
    /// Schemas in which a bare name is looked for, first hit wins.
    pub search_path: Vec<String>,
}

/// A table or a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relation {
    /// Whether it is a view, which has no keys of its own.
    pub view: bool,
    /// In their order.
    pub columns: Vec<Column>,
    /// Sets of columns that identify a row: the primary key first, then unique constraints and unique indexes
    /// without condition or expression.
    pub keys: Vec<Vec<String>>,
    /// Whether the first of `keys` is the primary key.
    pub primary: bool,
    /// References to other tables.
    pub references: Vec<Reference>,
    /// Columns of each valid index that finds equal values, in its order, up to the first expression. Partial ones
    /// only when what they leave out is null in one of these columns.
    pub indexes: Vec<Vec<String>>,
    /// Whatever a violation may be told by: named constraints of any kind, also of domains, and unique indexes.
    pub constraints: Vec<String>,
    /// For people.
    pub comment: Option<String>,
}

/// A column.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The name of its type (of an array: of its elements) as casts take it, domains resolved.
    pub sql_type: String,
    /// The oid of that type; of a domain its base type's.
    pub oid: u32,
    /// Whether it is an array.
    pub array: bool,
    /// Whether the type is an enum.
    pub is_enum: bool,
    /// Whether null is refused, by the column or by its domain. Columns of views are never `not_null`.
    pub not_null: bool,
    /// Whether it gets a value when none is given: default, identity or generated.
    pub has_default: bool,
    /// Whether no value may be given: generated columns, identity always.
    pub generated: bool,
    /// For people.
    pub comment: Option<String>,
}

/// A foreign key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reference {
    /// Its constraint.
    pub name: String,
    /// Columns here.
    pub columns: Vec<String>,
    /// The other table.
    pub table: (String, String),
    /// Columns there.
    pub target: Vec<String>,
}

/// A function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Function {
    /// Parameters in their order.
    pub parameters: Vec<Parameter>,
    /// What it answers.
    pub returns: Returned,
    /// Whether it answers many.
    pub set: bool,
    /// Whether it may change something (`volatile`).
    pub volatile: bool,
    /// For people.
    pub comment: Option<String>,
}

/// A parameter of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameter {
    /// Its name; empty for one that has none and can only be given by its place.
    pub name: String,
    /// Its type.
    pub column: Column,
    /// Whether it may be left out.
    pub has_default: bool,
}

/// What a function answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// A value.
    Value(Column),
    /// Rows of a table.
    Table((String, String)),
    /// Nothing, or something that has no place in a schema.
    Other(String),
}

impl Default for Returned {
    fn default() -> Self {
        Self::Other("void".to_owned())
    }
}

impl Catalogue {
    /// The table that a schema file names, with its real name.
    pub fn find(&self, schema: &str, name: &str) -> Option<(&(String, String), &Relation)> {
        self.places(schema)
            .find_map(|schema| self.tables.get_key_value(&(schema.to_owned(), name.to_owned())))
    }

    /// The schema by which statements name a table that a schema file names: none where the bare name leads there in the
    /// database too, whose search path may have schemas before it that were not read.
    pub fn schema_of_table(&self, schema: &str, name: &str) -> String {
        self.spelled(schema, |place| self.tables.contains_key(&(place.to_owned(), name.to_owned())))
    }

    /// As [`schema_of_table`](Self::schema_of_table), of a function.
    pub fn schema_of_function(&self, schema: &str, name: &str) -> String {
        self.spelled(schema, |place| self.functions.contains_key(&(place.to_owned(), name.to_owned())))
    }

    fn spelled(&self, schema: &str, has: impl Fn(&str) -> bool) -> String {
        let place = self.places(schema).find(|place| has(place)).unwrap_or(schema);
        let first = self.search_path.first().is_some_and(|first| first == place);
        if schema.is_empty() && first { String::new() } else { place.to_owned() }
    }

    /// The functions that a schema file names.
    pub fn find_functions(&self, schema: &str, name: &str) -> Option<&Vec<Function>> {
        self.places(schema).find_map(|schema| self.functions.get(&(schema.to_owned(), name.to_owned())))
    }

    fn places<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = &'a str> {
        let path = self.search_path.iter().map(String::as_str).filter(move |_| schema.is_empty());
        std::iter::once(schema).filter(|schema| !schema.is_empty()).chain(path)
    }
}

impl Relation {
    /// The column.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether `columns`, in any order, contain a key.
    pub fn identifies<'a>(&self, columns: impl IntoIterator<Item = &'a str> + Clone) -> bool {
        self.keys.iter().any(|key| key.iter().all(|part| columns.clone().into_iter().any(|c| c == part)))
    }

    /// Whether an index begins with these columns in any order.
    pub fn is_indexed(&self, columns: &[&str]) -> bool {
        self.indexes.iter().any(|index| {
            index.len() >= columns.len()
                && index[..columns.len()].iter().all(|c| columns.contains(&c.as_str()))
        })
    }
}

impl Column {
    /// Whether values can be compared with the other's without a cast.
    pub fn comparable(&self, other: &Self) -> bool {
        const NUMBERS: [&str; 4] = ["smallint", "integer", "bigint", "numeric"];
        const TEXTS: [&str; 3] = ["text", "character varying", "character"];
        let both =
            |family: &[&str]| [self, other].iter().all(|column| family.contains(&column.sql_type.as_str()));
        self.array == other.array && (self.sql_type == other.sql_type || both(&NUMBERS) || both(&TEXTS))
    }
}

/// A map whose keys are no texts, as a list of pairs: JSON has no other keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    type Map<V> = BTreeMap<(String, String), V>;

    pub(super) fn serialize<V: Serialize, S: Serializer>(map: &Map<V>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Map<V>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
