//! Rows of a schema: values that compare as PostgreSQL compares them, written as SQL, as JSON and as GraphQL.

use std::cmp::Ordering;
use std::fmt::Write as _;

use async_graphql::Value;
use chrono::{DateTime, NaiveDate};
use serde_json::{Number, json};

use super::model::{Column, Kind, Model, Table, WORDS};
use super::tape::Tape;
use super::written::quoted;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    /// A whole number; hundredths of a decimal; seconds of a time; days of a date; the place of an enum's value.
    Whole(i64),
    Float(f64),
    Text(String),
    Json(serde_json::Value),
    List(Vec<Datum>),
}

pub type Row = Vec<Datum>;

/// The rows of every table, and pairs of rows for every table between two.
#[derive(Debug, Clone, Default)]
pub struct Data {
    pub rows: Vec<Vec<Row>>,
    pub pairs: Vec<Vec<(usize, usize)>>,
}

const TEXTS: [&str; 18] = [
    "a",
    "b",
    "ab",
    "B",
    "",
    "aé",
    "%",
    "_",
    "it's",
    "\"",
    "\\",
    "a\nb",
    "😀",
    "' OR 1=1 --",
    "$1",
    "null",
    "A b",
    "{a,\"b\"}",
];
const PATTERNS: [&str; 9] = ["%", "a%", "%b", "_", "A_", "%'%", "\\%", "%\\\\%", "%é"];
/// Seconds of 2026-01-01.
const EPOCH: i64 = 1_767_225_600;

impl Datum {
    /// As PostgreSQL orders values that are not null.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Whole(a), Self::Whole(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            _ => panic!("{self:?} and {other:?} are not compared"),
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        *self == Self::Null
    }
}

/// Any value of a kind; the same ones come often.
pub fn any(tape: &mut Tape<'_>, kind: Kind) -> Datum {
    match kind {
        Kind::Id | Kind::BigInt => {
            let few = [1, 2, 3, 0, -1, 9_007_199_254_740_993, i64::MAX, i64::MIN];
            Datum::Whole(*tape.pick(&few))
        }
        Kind::Int => Datum::Whole(*tape.pick(&[0, 1, 2, 3, -1, i64::from(i32::MAX), i64::from(i32::MIN)])),
        Kind::SmallInt => Datum::Whole(*tape.pick(&[0, 1, 2, -1, i64::from(i16::MAX)])),
        Kind::Float => Datum::Float(*tape.pick(&[0.0, 1.0, 0.1, -2.5, 1e10, 1.5e-7])),
        Kind::Bool => Datum::Bool(tape.chance(50)),
        Kind::Decimal => Datum::Whole(*tape.pick(&[0, 100, 150, 7, -25, 999_999_999_999])),
        Kind::DateTime => Datum::Whole(EPOCH + 3_600 * *tape.pick(&[0, 1, 2, 48, -9_000])),
        Kind::Date => Datum::Whole(EPOCH / 86_400 + *tape.pick(&[0, 1, 2, -400])),
        Kind::Enum | Kind::TextEnum => Datum::Whole(i64::try_from(tape.below(WORDS.len())).expect("few")),
        Kind::Text => Datum::Text((*tape.pick(&TEXTS)).to_owned()),
        Kind::Uuid | Kind::UuidId => {
            let part = tape.below(6);
            Datum::Text(format!("{part}0000000-0000-4000-8000-00000000000{part}"))
        }
        Kind::Json => Datum::Json(
            tape.pick(&[
                json!(1),
                json!("text"),
                json!([1, null, "x"]),
                json!({"a": {"b": [true]}}),
                json!(false),
                json!([]),
            ])
            .clone(),
        ),
    }
}

/// A pattern of LIKE.
pub fn any_pattern(tape: &mut Tape<'_>) -> Datum {
    Datum::Text((*tape.pick(&PATTERNS)).to_owned())
}

/// As an answer has it.
pub fn json_of(kind: Kind, value: &Datum) -> serde_json::Value {
    match (kind, value) {
        (_, Datum::Null) => json!(null),
        (Kind::Id | Kind::BigInt, Datum::Whole(n)) => json!(n.to_string()),
        (Kind::Decimal, Datum::Whole(n)) => json!(decimal(*n)),
        (Kind::DateTime, Datum::Whole(n)) => {
            json!(
                DateTime::from_timestamp(*n, 0)
                    .expect("in range")
                    .format("%Y-%m-%dT%H:%M:%S+00:00")
                    .to_string()
            )
        }
        (Kind::Date, Datum::Whole(n)) => json!(date(*n)),
        (Kind::Enum | Kind::TextEnum, Datum::Whole(n)) => json!(WORDS[usize::try_from(*n).expect("few")].0),
        (_, Datum::Whole(n)) => json!(n),
        (_, Datum::Bool(flag)) => json!(flag),
        (_, Datum::Float(number)) => Number::from_f64(*number).map_or(json!(null), serde_json::Value::Number),
        (_, Datum::Text(text)) => json!(text),
        (_, Datum::Json(document)) => document.clone(),
        (_, Datum::List(items)) => items.iter().map(|item| json_of(kind, item)).collect(),
    }
}

fn decimal(hundredths: i64) -> String {
    let sign = if hundredths < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths.abs() / 100, hundredths.abs() % 100)
}

fn date(days: i64) -> String {
    let from = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    (from + chrono::TimeDelta::days(days)).to_string()
}

/// What a caller's value means for a column of this kind.
pub fn read(kind: Kind, value: &Value) -> Datum {
    let text = match value {
        Value::Null => return Datum::Null,
        Value::Boolean(flag) => return Datum::Bool(*flag),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Enum(name) => name.to_string(),
        other => panic!("{other} is no {kind:?}"),
    };
    let wrong = || panic!("{text} is no {kind:?}");
    match kind {
        Kind::Id | Kind::BigInt | Kind::Int | Kind::SmallInt => {
            Datum::Whole(text.parse().unwrap_or_else(|_| wrong()))
        }
        Kind::Float => Datum::Float(text.parse().unwrap_or_else(|_| panic!("{text} is no number"))),
        Kind::Decimal => {
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let digits = format!("{whole}{fraction:0<2}");
            Datum::Whole(digits.parse().unwrap_or_else(|_| wrong()))
        }
        Kind::DateTime => Datum::Whole(DateTime::parse_from_rfc3339(&text).expect("a time").timestamp()),
        Kind::Date => {
            let from = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
            Datum::Whole((text.parse::<NaiveDate>().expect("a date") - from).num_days())
        }
        Kind::Enum | Kind::TextEnum => {
            let at = WORDS.iter().position(|(name, _)| *name == text).unwrap_or_else(|| panic!("{text}"));
            Datum::Whole(i64::try_from(at).expect("few"))
        }
        Kind::Uuid | Kind::UuidId => Datum::Text(text.to_lowercase()),
        Kind::Text => Datum::Text(text),
        Kind::Json => panic!("documents are not compared"),
        Kind::Bool => panic!("{text} is no boolean"),
    }
}

fn sql(column: &Column, value: &Datum) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let text = match value {
        Datum::Null => return "NULL".to_owned(),
        Datum::List(items) => {
            let of = Column { array: false, ..column.clone() };
            let items: Vec<String> = items.iter().map(|item| sql(&of, item)).collect();
            return format!("ARRAY[{}]::{}[]", items.join(", "), column.kind.sql());
        }
        Datum::Whole(n) if matches!(column.kind, Kind::Enum | Kind::TextEnum) => {
            WORDS[usize::try_from(*n).expect("few")].1.to_owned()
        }
        Datum::Json(document) => document.to_string(),
        value => match json_of(column.kind, value) {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        },
    };
    format!("{}::{}", quote(&text), column.kind.sql())
}

impl Data {
    /// Any rows that fit the schema.
    pub fn any(tape: &mut Tape<'_>, model: &Model) -> Self {
        let mut data = Self::default();
        for (at, table) in model.tables.iter().enumerate() {
            data.rows.push(Vec::new());
            for _ in 0..tape.below(13) {
                let row = data.any_row(tape, model, at);
                if data.fits(table, at, &row) {
                    data.rows[at].push(row);
                }
            }
        }
        for between in &model.betweens {
            let (left, right) = (data.rows[between.left].len(), data.rows[between.right].len());
            let mut pairs = Vec::new();
            for _ in 0..tape.below(25) {
                let pair = (tape.below(left), tape.below(right));
                if left > 0 && right > 0 && !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
            data.pairs.push(pairs);
        }
        data
    }

    fn any_row(&self, tape: &mut Tape<'_>, model: &Model, at: usize) -> Row {
        let table = &model.tables[at];
        let mut row: Row = Vec::new();
        for (index, column) in table.columns.iter().enumerate() {
            let value = if Some(index) == table.discriminator {
                // Now and then one that no type stands for.
                Datum::Text((*tape.pick(&["a", "a", "a", "a", "b", "b", "b", "b", "b", "c"])).to_owned())
            } else if Some(index) == table.soft_delete && tape.chance(70) {
                Datum::Null
            } else if table.key.contains(&index) && column.kind == Kind::Id && tape.chance(80) {
                Datum::Whole(i64::try_from(tape.below(20)).expect("few"))
            } else if column.nullable && tape.chance(30) {
                Datum::Null
            } else if column.array {
                let items = (0..tape.below(4)).map(|_| {
                    let null = tape.chance(if column.items_nullable { 20 } else { 3 });
                    if null { Datum::Null } else { any(tape, column.kind) }
                });
                Datum::List(items.collect())
            } else {
                any(tape, column.kind)
            };
            row.push(value);
        }
        for key in &table.foreign_keys {
            let target = &model.tables[key.target];
            let rows = &self.rows[key.target];
            let chosen = if rows.is_empty() || (key.nullable && tape.chance(25)) {
                None
            } else {
                Some(rows[tape.below(rows.len())].clone())
            };
            for (column, there) in key.columns.iter().zip(&target.key) {
                row[*column] = chosen.as_ref().map_or(Datum::Null, |chosen| chosen[*there].clone());
            }
        }
        row
    }

    /// Whether the constraints of the table take the row.
    fn fits(&self, table: &Table, at: usize, row: &Row) -> bool {
        let rows = &self.rows[at];
        let equal = |columns: &[usize]| {
            let none_null = columns.iter().all(|column| !row[*column].is_null());
            none_null && rows.iter().any(|other| columns.iter().all(|column| other[*column] == row[*column]))
        };
        let unique = table.unique.map(|column| vec![column]);
        let mut keys = vec![table.key.clone()];
        keys.extend(unique);
        keys.extend(table.foreign_keys.iter().filter(|key| key.unique).map(|key| key.columns.clone()));
        let filled = table.columns.iter().zip(row).all(|(column, value)| column.nullable || !value.is_null());
        filled && !keys.iter().any(|key| equal(key))
    }

    /// The statements that write them.
    pub fn dml(&self, model: &Model) -> String {
        let mut text = String::new();
        for (table, rows) in model.tables.iter().zip(&self.rows) {
            for row in rows {
                let values: Vec<String> =
                    table.columns.iter().zip(row).map(|(column, value)| sql(column, value)).collect();
                let _ = writeln!(text, "INSERT INTO {} VALUES ({});", quoted(&table.name), values.join(", "));
            }
        }
        for (between, pairs) in model.betweens.iter().zip(&self.pairs) {
            for (left, right) in pairs {
                let mut values = Vec::new();
                for (at, row) in [(between.left, *left), (between.right, *right)] {
                    let table = &model.tables[at];
                    let keys = table.key.iter();
                    values.extend(keys.map(|key| sql(&table.columns[*key], &self.rows[at][row][*key])));
                }
                let _ = writeln!(text, "INSERT INTO {} VALUES ({});", between.name, values.join(", "));
            }
        }
        text
    }

    /// Without a row, and without those that refer to it.
    pub fn without(&self, model: &Model, table: usize, row: usize) -> Self {
        let mut gone = vec![(table, row)];
        let mut at = 0;
        while at < gone.len() {
            let (table, row) = gone[at];
            let key: Vec<&Datum> =
                model.tables[table].key.iter().map(|key| &self.rows[table][row][*key]).collect();
            for (from, other) in model.tables.iter().enumerate() {
                for foreign in other.foreign_keys.iter().filter(|foreign| foreign.target == table) {
                    for (index, candidate) in self.rows[from].iter().enumerate() {
                        let refers = foreign.columns.iter().zip(&key).all(|(c, key)| candidate[*c] == **key);
                        if refers && !gone.contains(&(from, index)) {
                            gone.push((from, index));
                        }
                    }
                }
            }
            at += 1;
        }
        let kept = |table: usize, row: usize| !gone.contains(&(table, row));
        let place = |table: usize, row: usize| (0..row).filter(|row| kept(table, *row)).count();
        let rows = self.rows.iter().enumerate().map(|(table, rows)| {
            let rows = rows.iter().enumerate().filter(|(row, _)| kept(table, *row));
            rows.map(|(_, row)| row.clone()).collect()
        });
        let pairs = model.betweens.iter().zip(&self.pairs).map(|(between, pairs)| {
            let pairs =
                pairs.iter().filter(|(left, right)| kept(between.left, *left) && kept(between.right, *right));
            pairs.map(|(left, right)| (place(between.left, *left), place(between.right, *right))).collect()
        });
        Self { rows: rows.collect(), pairs: pairs.collect() }
    }
}
