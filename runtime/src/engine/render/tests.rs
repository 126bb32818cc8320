//! Null propagation (specification, section 6.4.4) for any shape and any row: against a second writing of the rules.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::engine::encode::{Decoder, PgType, Scalar};
use crate::engine::plan::shape::written_key;

/// A field's type: whether null may stand for it, and what it is.
#[derive(Debug, Clone)]
struct Typed(bool, Type);

#[derive(Debug, Clone)]
enum Type {
    Leaf,
    Object(Vec<Typed>),
    /// Whether null may stand for an item.
    List(bool, Vec<Typed>),
}

/// What the database has; nothing for null.
#[derive(Debug, Clone)]
enum Data {
    Null,
    Number(i32),
    /// Bytes that are no number.
    Bad,
    Object(Vec<Data>),
    List(Vec<Vec<Data>>),
}

fn any_type() -> impl Strategy<Value = Typed> {
    let leaf = any::<bool>().prop_map(|nullable| Typed(nullable, Type::Leaf));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let fields = prop::collection::vec(inner, 1..4);
        prop_oneof![
            (any::<bool>(), fields.clone())
                .prop_map(|(nullable, fields)| Typed(nullable, Type::Object(fields))),
            (any::<bool>(), any::<bool>(), fields)
                .prop_map(|(nullable, items, fields)| Typed(nullable, Type::List(items, fields))),
        ]
    })
}

/// A value of the type, from numbers that are used up.
fn data(of: &Typed, numbers: &mut impl Iterator<Item = u8>) -> Data {
    let number = numbers.next().unwrap_or(100);
    match &of.1 {
        Type::Leaf if number < 15 => Data::Bad,
        _ if number < 40 => Data::Null,
        Type::Leaf => Data::Number(number.into()),
        Type::Object(fields) => Data::Object(row(fields, numbers)),
        Type::List(_, fields) => Data::List((0..number % 4).map(|_| row(fields, numbers)).collect()),
    }
}

fn row(fields: &[Typed], numbers: &mut impl Iterator<Item = u8>) -> Vec<Data> {
    fields.iter().map(|field| data(field, numbers)).collect()
}

/// The shape of an object whose columns begin at `at`.
fn shape(fields: &[Typed], at: &mut usize) -> Vec<FieldShape> {
    let mut shapes = Vec::new();
    for (number, Typed(nullable, ty)) in fields.iter().enumerate() {
        let key = format!("f{number}");
        let here = *at;
        *at += 1;
        let value = match ty {
            Type::Leaf => {
                let decoder = Decoder::new(PgType::Int4, Scalar::Int).expect("a writer");
                ValueShape::Column(here, Leaf::Scalar(decoder))
            }
            Type::Object(fields) => {
                let body = Body::Fields(shape(fields, at));
                ValueShape::Object(Box::new(ObjectShape { presence: Some(here), body }))
            }
            Type::List(items_nullable, fields) => {
                let body = Body::Fields(shape(fields, &mut 0));
                ValueShape::List(here, Box::new(ObjectShape { presence: None, body }), *items_nullable, false)
            }
        };
        let (written_key, key) = (written_key(&key), Arc::from(key));
        shapes.push(FieldShape { written_key, key, nullable: *nullable, value });
    }
    shapes
}

/// The columns of a row in binary, as the shape expects them.
fn columns(fields: &[Typed], row: Option<&[Data]>, into: &mut Vec<Option<Vec<u8>>>) {
    for (at, Typed(_, ty)) in fields.iter().enumerate() {
        let data = row.map_or(&Data::Null, |row| &row[at]);
        match (ty, data) {
            (Type::Object(below), Data::Object(row)) => {
                into.push(Some(vec![1]));
                columns(below, Some(row), into);
            }
            (Type::Object(below), _) => {
                into.push(Some(vec![0]));
                columns(below, None, into);
            }
            (Type::List(_, below), Data::List(rows)) => into.push(Some(array(below, rows))),
            (_, Data::Number(number)) => into.push(Some(number.to_be_bytes().to_vec())),
            (_, Data::Bad) => into.push(Some(vec![1, 2, 3])),
            _ => into.push(None),
        }
    }
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend(i32::try_from(number).expect("a small number").to_be_bytes());
}

/// An array of records in binary.
fn array(fields: &[Typed], rows: &[Vec<Data>]) -> Vec<u8> {
    const RECORD: usize = 2249;
    const INT4: usize = 23;
    let mut out = Vec::new();
    [usize::from(!rows.is_empty()), 0, RECORD].into_iter().for_each(|word| number(&mut out, word));
    if !rows.is_empty() {
        number(&mut out, rows.len());
        number(&mut out, 1);
    }
    for row in rows {
        let mut all = Vec::new();
        columns(fields, Some(row), &mut all);
        let mut record = Vec::new();
        number(&mut record, all.len());
        for column in all {
            number(&mut record, INT4);
            match column {
                Some(column) => {
                    number(&mut record, column.len());
                    record.extend(column);
                }
                None => record.extend((-1i32).to_be_bytes()),
            }
        }
        number(&mut out, record.len());
        out.extend(record);
    }
    out
}

struct Rules {
    path: Vec<Step>,
    errors: Vec<Vec<Step>>,
}

impl Rules {
    /// Null: an error where it may not stand, unless there is one below already.
    fn null(&mut self, nullable: bool, told: bool) -> Result<Value, ()> {
        if !told && !nullable {
            self.errors.push(self.path.clone());
        }
        if nullable { Ok(Value::Null) } else { Err(()) }
    }

    fn fields(&mut self, fields: &[Typed], row: &[Data]) -> Result<Value, ()> {
        let mut object = Map::new();
        for (at, (Typed(nullable, ty), data)) in fields.iter().zip(row).enumerate() {
            self.path.push(Step::Key(format!("f{at}")));
            let value = self.value(*nullable, ty, data);
            self.path.pop();
            object.insert(format!("f{at}"), value?);
        }
        Ok(Value::Object(object))
    }

    fn value(&mut self, nullable: bool, ty: &Type, data: &Data) -> Result<Value, ()> {
        match (ty, data) {
            (Type::Leaf, Data::Number(number)) => Ok(Value::from(*number)),
            (Type::Leaf, Data::Bad) => {
                self.errors.push(self.path.clone());
                self.null(nullable, true)
            }
            (Type::Object(fields), Data::Object(row)) => {
                self.fields(fields, row).or_else(|()| self.null(nullable, true))
            }
            (Type::List(items, fields), Data::List(rows)) => {
                self.list(*items, fields, rows).or_else(|()| self.null(nullable, true))
            }
            _ => self.null(nullable, false),
        }
    }

    fn list(&mut self, items: bool, fields: &[Typed], rows: &[Vec<Data>]) -> Result<Value, ()> {
        let mut list = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            self.path.push(Step::Item(at));
            let value = self.fields(fields, row).or_else(|()| self.null(items, true));
            self.path.pop();
            list.push(value?);
        }
        Ok(Value::Array(list))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn null_goes_up_to_where_it_may_stand(
        fields in prop::collection::vec(any_type(), 1..4),
        numbers in prop::collection::vec(0u8..=255, 0..60),
        nullable: bool,
    ) {
        let row = row(&fields, &mut numbers.into_iter());
        let mut raw = Vec::new();
        columns(&fields, Some(&row), &mut raw);
        let raw: Vec<Option<&[u8]>> = raw.iter().map(Option::as_deref).collect();
        let shape = ObjectShape { presence: None, body: Body::Fields(shape(&fields, &mut 0)) };
        let mut out = b"before".to_vec();
        let mut renderer = Renderer::new(&mut out, "root", &[]);
        let written = renderer.object(&shape, &raw, nullable);
        let errors: Vec<Vec<Step>> =
            std::mem::take(&mut renderer.errors).into_iter().map(|error| error.path).collect();

        let mut rules = Rules { path: vec![Step::Key("root".to_owned())], errors: Vec::new() };
        let expected = rules.fields(&fields, &row).or_else(|()| rules.null(nullable, true));
        prop_assert_eq!(errors, rules.errors);
        prop_assert_eq!(written.is_ok(), expected.is_ok());
        let written = out.strip_prefix(b"before").expect("what was there before");
        match expected {
            Ok(expected) => prop_assert_eq!(serde_json::from_slice::<Value>(written).expect("JSON"), expected),
            Err(()) => prop_assert!(written.is_empty(), "something was left: {:?}", written),
        }
    }
}
