//! Claim: writing JSON from PostgreSQL's binary format costs less than reading it into structs that serde_json writes,
//! and a string costs no more than with serde_json, from twenty bytes on much less.
//!
//! Pages are those of the query benchmark: 20 products; 10 orders with their user, and items with their product.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fraiseql_runtime::engine::encode::{
    ArrayReader, Decoder, Error, PgType, RecordReader, Scalar, write_key, write_string,
};
use rust_decimal::Decimal;
use serde::Serialize;

const INT8: u32 = 20;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const NUMERIC: u32 = 1700;
const RECORD: u32 = 2249;
const RECORDS: u32 = 2287;

/// What the two sides have in common: how a column looks in binary.
mod sent {
    use super::{INT4, INT8, NUMERIC, RECORD, RECORDS, TEXT};

    pub type Column = (u32, Vec<u8>);

    pub fn int8(value: i64) -> Column {
        (INT8, value.to_be_bytes().to_vec())
    }

    pub fn int4(value: i32) -> Column {
        (INT4, value.to_be_bytes().to_vec())
    }

    pub fn text(value: &str) -> Column {
        (TEXT, value.as_bytes().to_vec())
    }

    /// With two digits after the point.
    pub fn money(cents: u16) -> Column {
        let words = [2, 0, 0, 2, cents / 100, cents % 100 * 100];
        (NUMERIC, words.into_iter().flat_map(u16::to_be_bytes).collect())
    }

    pub fn record(columns: &[Column]) -> Column {
        let mut raw = (columns.len() as u32).to_be_bytes().to_vec();
        for (oid, value) in columns {
            raw.extend(oid.to_be_bytes());
            raw.extend((value.len() as u32).to_be_bytes());
            raw.extend(value);
        }
        (RECORD, raw)
    }

    pub fn list(records: &[Column]) -> Column {
        let head = [1, 0, RECORD, records.len() as u32, 1];
        let mut raw: Vec<u8> = head.into_iter().flat_map(u32::to_be_bytes).collect();
        for (_, record) in records {
            raw.extend((record.len() as u32).to_be_bytes());
            raw.extend(record);
        }
        (RECORDS, raw)
    }
}

/// What a planner would have made of a selection.
enum Shape {
    Scalar(Decoder),
    Object(Vec<(Vec<u8>, Shape)>),
    List(Box<Shape>),
}

impl Shape {
    fn scalar(pg: PgType, scalar: Scalar) -> Self {
        Self::Scalar(Decoder::new(pg, scalar).expect("a pair that makes sense"))
    }

    fn object(fields: Vec<(&str, Self)>) -> Self {
        let key = |name: &str| {
            let mut key = Vec::new();
            write_key(name, &mut key);
            key
        };
        Self::Object(fields.into_iter().map(|(name, shape)| (key(name), shape)).collect())
    }

    fn write(&self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Self::Scalar(decoder) => return decoder.write(raw, out),
            Self::Object(fields) => {
                out.push(b'{');
                for (n, ((key, shape), column)) in fields.iter().zip(RecordReader::new(raw)?).enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(key);
                    shape.write(column?.expect("no NULL"), out)?;
                }
                out.push(b'}');
            }
            Self::List(element) => {
                out.push(b'[');
                for (n, raw) in ArrayReader::new(raw)?.enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    element.write(raw?.expect("no NULL"), out)?;
                }
                out.push(b']');
            }
        }
        Ok(())
    }
}

/// The same by hand: a struct for each type, read as a driver reads it, and serde_json.
mod by_hand {
    use super::{ArrayReader, Decimal, RecordReader, Serialize};

    #[derive(Serialize)]
    pub struct Product {
        id: String,
        name: String,
        price: Decimal,
        #[serde(skip_serializing_if = "Option::is_none")]
        stock: Option<i32>,
    }

    #[derive(Serialize)]
    pub struct User {
        id: String,
        name: String,
    }

    #[derive(Serialize)]
    pub struct Item {
        quantity: i32,
        price: Decimal,
        product: Product,
    }

    #[derive(Serialize)]
    pub struct Order {
        id: String,
        status: String,
        total: Decimal,
        user: User,
        items: Vec<Item>,
    }

    struct Columns<'a>(RecordReader<'a>);

    impl<'a> Columns<'a> {
        fn of(raw: &'a [u8]) -> Self {
            Self(RecordReader::new(raw).expect("a record"))
        }

        fn raw(&mut self) -> Option<&'a [u8]> {
            self.0.next().map(|column| column.expect("a column").expect("no NULL"))
        }

        fn next(&mut self) -> &'a [u8] {
            self.raw().expect("another column")
        }

        fn id(&mut self) -> String {
            i64::from_be_bytes(self.next().try_into().expect("int8")).to_string()
        }

        fn text(&mut self) -> String {
            String::from_utf8(self.next().to_vec()).expect("UTF-8")
        }

        fn int(&mut self) -> i32 {
            i32::from_be_bytes(self.next().try_into().expect("int4"))
        }

        /// Of the two groups that `sent::money` makes.
        fn money(&mut self) -> Decimal {
            let raw = self.next();
            let group = |at: usize| i64::from(u16::from_be_bytes([raw[at], raw[at + 1]]));
            Decimal::new(group(8) * 100 + group(10) / 100, 2)
        }
    }

    pub fn list<T>(raw: &[u8], element: fn(&[u8]) -> T) -> Vec<T> {
        let elements = ArrayReader::new(raw).expect("an array");
        elements.map(|raw| element(raw.expect("an element").expect("no NULL"))).collect()
    }

    pub fn product(raw: &[u8]) -> Product {
        let mut columns = Columns::of(raw);
        let (id, name, price) = (columns.id(), columns.text(), columns.money());
        let stock = columns.raw().map(|raw| i32::from_be_bytes(raw.try_into().expect("int4")));
        Product { id, name, price, stock }
    }

    fn user(raw: &[u8]) -> User {
        let mut columns = Columns::of(raw);
        User { id: columns.id(), name: columns.text() }
    }

    fn item(raw: &[u8]) -> Item {
        let mut columns = Columns::of(raw);
        Item { quantity: columns.int(), price: columns.money(), product: product(columns.next()) }
    }

    pub fn order(raw: &[u8]) -> Order {
        let mut columns = Columns::of(raw);
        Order {
            id: columns.id(),
            status: columns.text(),
            total: columns.money(),
            user: user(columns.next()),
            items: list(columns.next(), item),
        }
    }
}

fn product(n: u16, with_stock: bool) -> sent::Column {
    let name = format!("Product {n}: a thing of use");
    let mut columns = vec![sent::int8(i64::from(n)), sent::text(&name), sent::money(n * 7 + 99)];
    if with_stock {
        columns.push(sent::int4(i32::from(n) * 3));
    }
    sent::record(&columns)
}

fn products() -> (Vec<u8>, Shape) {
    let rows: Vec<_> = (1..=20).map(|n| product(n, true)).collect();
    let shape = Shape::object(vec![
        ("id", Shape::scalar(PgType::Int8, Scalar::Id)),
        ("name", Shape::scalar(PgType::Text, Scalar::String)),
        ("price", Shape::scalar(PgType::Numeric, Scalar::Decimal)),
        ("stock", Shape::scalar(PgType::Int4, Scalar::Int)),
    ]);
    (sent::list(&rows).1, Shape::List(Box::new(shape)))
}

fn orders() -> (Vec<u8>, Shape) {
    let item = |n: u16| sent::record(&[sent::int4(i32::from(n)), sent::money(n * 11), product(n, false)]);
    let row = |n: u16| {
        let items: Vec<_> = (1..=3).map(|m| item(n * 3 + m)).collect();
        let user = sent::record(&[sent::int8(i64::from(n)), sent::text("Grace Hopper")]);
        sent::record(&[
            sent::int8(i64::from(n)),
            sent::text("shipped"),
            sent::money(9_999),
            user,
            sent::list(&items),
        ])
    };
    let rows: Vec<_> = (1..=10).map(row).collect();
    let id = || ("id", Shape::scalar(PgType::Int8, Scalar::Id));
    let name = || ("name", Shape::scalar(PgType::Text, Scalar::String));
    let price = || ("price", Shape::scalar(PgType::Numeric, Scalar::Decimal));
    let item = Shape::object(vec![
        ("quantity", Shape::scalar(PgType::Int4, Scalar::Int)),
        price(),
        ("product", Shape::object(vec![id(), name(), price()])),
    ]);
    let shape = Shape::object(vec![
        id(),
        ("status", Shape::scalar(PgType::Text, Scalar::String)),
        ("total", Shape::scalar(PgType::Numeric, Scalar::Decimal)),
        ("user", Shape::object(vec![id(), name()])),
        ("items", Shape::List(Box::new(item))),
    ]);
    (sent::list(&rows).1, Shape::List(Box::new(shape)))
}

fn page<T: Serialize>(
    criterion: &mut Criterion,
    name: &str,
    (raw, shape): (Vec<u8>, Shape),
    element: fn(&[u8]) -> T,
) {
    let ours = |out: &mut Vec<u8>| shape.write(&raw, out).expect("written");
    let theirs = |out: &mut Vec<u8>| {
        serde_json::to_writer(out, &by_hand::list(&raw, element)).expect("written");
    };
    let mut written = [Vec::new(), Vec::new()];
    ours(&mut written[0]);
    theirs(&mut written[1]);
    assert_eq!(String::from_utf8_lossy(&written[0]), String::from_utf8_lossy(&written[1]), "the same JSON");

    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(written[0].len() as u64));
    let mut out = Vec::with_capacity(written[0].len());
    group.bench_function("encode", |bench| {
        bench.iter(|| {
            out.clear();
            ours(black_box(&mut out));
        });
    });
    group.bench_function("serde_json", |bench| {
        bench.iter(|| {
            out.clear();
            theirs(black_box(&mut out));
        });
    });
    group.finish();
}

fn pages(criterion: &mut Criterion) {
    page(criterion, "products", products(), by_hand::product);
    page(criterion, "orders", orders(), by_hand::order);
}

fn strings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("string");
    let decoder = Decoder::new(PgType::Text, Scalar::String).expect("a pair that makes sense");
    for length in [10, 100, 1_000] {
        let plain: String = "The quick brown fox ".chars().cycle().take(length).collect();
        let accents: String = "Zwölf große Boxer, ".chars().cycle().take(length).collect();
        let escapes: String = "one \"line\"\n".chars().cycle().take(length).collect();
        for (kind, text) in [("plain", plain), ("accents", accents), ("escapes", escapes)] {
            let mut out = Vec::with_capacity(text.len() * 2 + 2);
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(format!("write_string/{kind}"), length), |bench| {
                bench.iter(|| {
                    out.clear();
                    write_string(black_box(&text), &mut out);
                });
            });
            group.bench_function(BenchmarkId::new(format!("decoder/{kind}"), length), |bench| {
                bench.iter(|| {
                    out.clear();
                    decoder.write(black_box(text.as_bytes()), &mut out).expect("written");
                });
            });
            group.bench_function(BenchmarkId::new(format!("serde_json/{kind}"), length), |bench| {
                bench.iter(|| {
                    out.clear();
                    serde_json::to_writer(&mut out, black_box(&text)).expect("written");
                });
            });
        }
    }
    group.finish();
}

fn scalars(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scalar");
    let values: [(PgType, Scalar, Vec<u8>); 7] = [
        (PgType::Int4, Scalar::Int, 1_234_567_i32.to_be_bytes().to_vec()),
        (PgType::Int8, Scalar::Id, 1_234_567_i64.to_be_bytes().to_vec()),
        (PgType::Float8, Scalar::Float, 1_234.567_f64.to_be_bytes().to_vec()),
        (PgType::Numeric, Scalar::Decimal, sent::money(9_999).1),
        (PgType::Uuid, Scalar::Uuid, vec![0xa7; 16]),
        (PgType::TimestampTz, Scalar::DateTime, 848_566_800_123_456_i64.to_be_bytes().to_vec()),
        (PgType::Bytea, Scalar::Bytes, vec![0xa7; 100]),
    ];
    let mut out = Vec::with_capacity(256);
    for (pg, scalar, raw) in values {
        let decoder = Decoder::new(pg, scalar).expect("a pair that makes sense");
        group.bench_function(pg.name(), |bench| {
            bench.iter(|| {
                out.clear();
                decoder.write(black_box(&raw), &mut out).expect("written");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pages, strings, scalars);
criterion_main!(benches);
