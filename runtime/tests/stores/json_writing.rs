//! What is written of PostgreSQL's binary format, value by value against what `to_json` of the same server says.

mod values;

use std::collections::BTreeSet;
use std::sync::Arc;

use fraiseql_runtime::engine::encode::{
    ArrayReader, Decoder, Error, PgType, RecordReader, Scalar, write_array, write_key, write_nested_array,
    write_null,
};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row, ValueRef};

use crate::support::Stage;
use values::Make;

/// Values of each type and scalar.
const VALUES: usize = 600;

/// What `to_json` depends on in a session.
const SESSION: &str = "
    SET TIME ZONE 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1;
    CREATE TYPE mood AS ENUM ('a \"quoted\" one', 'back\\slash', 'größer', '');
    CREATE DOMAIN price AS numeric(12, 2);
";

type Written = Result<String, Error>;

/// Whether what we wrote is right when `to_json` gave that.
type Agrees = fn(&Written, &str) -> bool;

async fn session(stage: &Stage) -> PgConnection {
    let database = stage.database(stage.number()).await;
    let mut connection = PgConnection::connect(database.as_str()).await.expect("the database answers");
    sqlx::raw_sql(SESSION).execute(&mut connection).await.expect("a session");
    connection
}

async fn rows(connection: &mut PgConnection, statement: String, texts: Vec<Option<String>>) -> Vec<PgRow> {
    let query = sqlx::query(sqlx::AssertSqlSafe(statement.clone())).bind(texts);
    query.fetch_all(connection).await.unwrap_or_else(|error| panic!("{statement}: {error}"))
}

fn raw(row: &PgRow, column: usize) -> Option<&[u8]> {
    let value = row.try_get_raw(column).expect("a column");
    (!value.is_null()).then(|| value.as_bytes().expect("bytes"))
}

fn decoder(pg: PgType, scalar: Scalar) -> Decoder {
    Decoder::new(pg, scalar).unwrap_or_else(|| panic!("{pg:?} as {scalar:?}"))
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>) -> Written {
    let mut out = Vec::new();
    write(&mut out).map(|()| String::from_utf8(out).expect("UTF-8"))
}

/// Writes `VALUES` values of a type, and compares each.
async fn compare(
    connection: &mut PgConnection,
    (sql_type, pg, scalar): (&str, PgType, Scalar),
    make: Make,
    agrees: Agrees,
) {
    let mut random = StdRng::from_os_rng();
    let texts: Vec<String> = (0..VALUES).map(|_| make(&mut random)).collect();
    let statement = format!(
        "SELECT text::{sql_type}, to_json(text::{sql_type})::text FROM unnest($1::text[]) WITH ORDINALITY AS t(text, n)
         ORDER BY n"
    );
    let rows = rows(connection, statement, texts.iter().cloned().map(Some).collect()).await;
    assert_eq!(rows.len(), VALUES);
    let decoder = decoder(pg, scalar);
    for (row, text) in rows.iter().zip(&texts) {
        let theirs: &str = row.get(1);
        let ours = written(|out| decoder.write(raw(row, 0).expect("no NULL"), out));
        assert!(agrees(&ours, theirs), "{sql_type} {text:?} as {scalar:?}: {ours:?}, to_json gives {theirs}");
    }
}

/// The same JSON value.
fn same_value(ours: &Written, theirs: &str) -> bool {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    ours.as_ref().is_ok_and(|ours| parsed(ours) == parsed(theirs))
}

/// The same bytes.
fn same_text(ours: &Written, theirs: &str) -> bool {
    ours.as_deref() == Ok(theirs)
}

/// The number of `to_json` in a string; nothing for what it gives as a string, because it is no number.
fn quoted(ours: &Written, theirs: &str) -> bool {
    if theirs.starts_with('"') {
        *ours == Err(Error::NotFinite)
    } else {
        *ours == Ok(format!("\"{theirs}\""))
    }
}

fn number(ours: &Written, theirs: &str) -> bool {
    if theirs.starts_with('"') { *ours == Err(Error::NotFinite) } else { same_text(ours, theirs) }
}

fn in_32_bits(ours: &Written, theirs: &str) -> bool {
    if theirs.parse::<i32>().is_ok() { same_text(ours, theirs) } else { *ours == Err(Error::OutOfRange) }
}

fn whole_number(ours: &Written, theirs: &str) -> bool {
    let (whole, fraction) = theirs.split_once('.').unwrap_or((theirs, ""));
    if fraction.bytes().all(|digit| digit == b'0') {
        quoted(ours, whole)
    } else {
        *ours == Err(Error::OutOfRange)
    }
}

fn same_float8(ours: &Written, theirs: &str) -> bool {
    let bits = |text: &str| text.parse().map(f64::to_bits).expect("a number");
    if theirs.starts_with('"') {
        return *ours == Err(Error::NotFinite);
    }
    ours.as_ref().is_ok_and(|ours| bits(ours) == bits(theirs))
}

/// The same float by no more digits: not those of the double beside it. Where two are shortest PostgreSQL takes that which
/// is no tie between two floats, and may take one digit more.
fn same_float4(ours: &Written, theirs: &str) -> bool {
    let bits = |text: &str| text.parse().map(f32::to_bits).expect("a number");
    let digits = |text: &str| {
        let (mantissa, _) = text.split_once('e').unwrap_or((text, ""));
        mantissa.replace(['-', '.'], "").trim_matches('0').len()
    };
    if theirs.starts_with('"') {
        return *ours == Err(Error::NotFinite);
    }
    ours.as_ref().is_ok_and(|ours| bits(ours) == bits(theirs) && digits(ours) <= digits(theirs))
}

pub async fn numbers_are_those_of_to_json(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let cases: [(_, PgType, Scalar, Make, Agrees); 16] = [
        ("bool", PgType::Bool, Scalar::Boolean, values::boolean, same_text),
        ("int2", PgType::Int2, Scalar::Int, values::int2, same_text),
        ("int2", PgType::Int2, Scalar::Id, values::int2, quoted),
        ("int4", PgType::Int4, Scalar::Int, values::int4, same_text),
        ("int4", PgType::Int4, Scalar::BigInt, values::int4, quoted),
        ("int8", PgType::Int8, Scalar::Int, values::int8, in_32_bits),
        ("int8", PgType::Int8, Scalar::Float, values::int8, same_text),
        ("int8", PgType::Int8, Scalar::BigInt, values::int8, quoted),
        ("int8", PgType::Int8, Scalar::Decimal, values::int8, quoted),
        ("float4", PgType::Float4, Scalar::Float, values::float4, same_float4),
        ("float8", PgType::Float8, Scalar::Float, values::float8, same_float8),
        ("numeric", PgType::Numeric, Scalar::Decimal, values::numeric, quoted),
        ("numeric", PgType::Numeric, Scalar::Float, values::numeric, number),
        ("numeric", PgType::Numeric, Scalar::BigInt, values::numeric, whole_number),
        ("numeric(1000, -3)", PgType::Numeric, Scalar::Id, values::int8, whole_number),
        ("price", PgType::Numeric, Scalar::Decimal, values::int2, quoted),
    ];
    for (sql_type, pg, scalar, make, agrees) in cases {
        compare(&mut connection, (sql_type, pg, scalar), make, agrees).await;
    }
    connection.close().await.expect("closed");
}

pub async fn strings_and_json_are_those_of_to_json(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let cases: [(_, PgType, Scalar, Make, Agrees); 11] = [
        ("text", PgType::Text, Scalar::String, values::text, same_value),
        ("varchar", PgType::Text, Scalar::String, values::text, same_text),
        ("char(12)", PgType::Text, Scalar::Id, values::short_text, same_value),
        ("name", PgType::Text, Scalar::String, values::short_text, same_value),
        ("uuid", PgType::Uuid, Scalar::Uuid, values::uuid, same_value),
        ("uuid", PgType::Uuid, Scalar::Id, values::uuid, same_value),
        ("bytea", PgType::Bytea, Scalar::Bytes, values::bytea, same_value),
        ("json", PgType::Json, Scalar::Json, values::json, same_text),
        ("jsonb", PgType::Jsonb, Scalar::Json, values::json, same_text),
        ("json", PgType::Json, Scalar::Json, |_| "{\"a\":1e400,\n\"a\":\"\\ud83d\"}".to_owned(), same_text),
        ("mood", PgType::Text, Scalar::String, values::mood, same_value),
    ];
    for (sql_type, pg, scalar, make, agrees) in cases {
        compare(&mut connection, (sql_type, pg, scalar), make, agrees).await;
    }
    connection.close().await.expect("closed");
}

pub async fn dates_and_times_are_those_of_to_json(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let cases: [(_, PgType, Scalar, Make); 7] = [
        ("timestamptz", PgType::TimestampTz, Scalar::DateTime, values::timestamptz),
        ("timestamp", PgType::Timestamp, Scalar::LocalDateTime, values::timestamp),
        ("date", PgType::Date, Scalar::Date, values::date),
        ("time", PgType::Time, Scalar::Time, values::time),
        ("timetz", PgType::TimeTz, Scalar::Time, values::timetz),
        ("interval", PgType::Interval, Scalar::Interval, values::interval),
        ("timestamptz(2)", PgType::TimestampTz, Scalar::String, values::timestamptz),
    ];
    for (sql_type, pg, scalar, make) in cases {
        compare(&mut connection, (sql_type, pg, scalar), make, same_value).await;
    }
    connection.close().await.expect("closed");
}

pub async fn arrays_are_those_of_to_json(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let mut random = StdRng::from_os_rng();
    let cases: [(_, PgType, Scalar, Make); 6] = [
        ("text", PgType::Text, Scalar::String, values::text),
        ("int4", PgType::Int4, Scalar::Int, values::int4),
        ("timestamptz", PgType::TimestampTz, Scalar::DateTime, values::timestamptz),
        ("uuid", PgType::Uuid, Scalar::Uuid, values::uuid),
        ("jsonb", PgType::Jsonb, Scalar::Json, values::json),
        ("mood", PgType::Text, Scalar::String, values::mood),
    ];
    for (sql_type, pg, scalar, make) in cases {
        let decoder = decoder(pg, scalar);
        for length in [0, 1, 2, 7, 100] {
            let texts = (0..length).map(|n| (n % 5 != 3).then(|| make(&mut random))).collect();
            let statement = format!(
                "SELECT a, to_json(a)::text, b, to_json(b)::text FROM (
                     SELECT a, CASE WHEN cardinality(a) > 0 THEN ARRAY[a, a] ELSE '{{}}' END AS b
                     FROM (SELECT $1::text[]::{sql_type}[] AS a) AS one) AS lists"
            );
            let rows = rows(&mut connection, statement, texts).await;
            let list = written(|out| write_array(raw(&rows[0], 0).expect("a list"), decoder, true, out));
            assert!(same_value(&list, rows[0].get(1)), "{sql_type}[{length}]: {list:?}");
            let nested = raw(&rows[0], 2).expect("a list");
            let lists = written(|out| write_nested_array(nested, 2, decoder, true, out));
            assert!(same_value(&lists, rows[0].get(3)), "{sql_type}[2][{length}]: {lists:?}");
            let flat = written(|out| write_array(nested, decoder, true, out));
            assert_eq!(flat.is_ok(), length == 0, "two dimensions are not a list of scalars");
            let strict = written(|out| write_array(raw(&rows[0], 0).expect("a list"), decoder, false, out));
            assert_eq!(strict.is_ok(), length < 4, "a NULL is the fourth element");
        }
    }
    connection.close().await.expect("closed");
}

/// As a planner nests them: a record whose last column is an array of records.
pub async fn nested_records_are_those_of_to_json(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let mut random = StdRng::from_os_rng();
    let texts = (0..50).map(|n| (n % 7 != 3).then(|| values::text(&mut random))).collect();
    let statement = "
        SELECT r, to_json(r)::text FROM (
            SELECT row(o, t, now(), NULL::uuid, o / 3.0, array(
                SELECT row(i, t, NULL::text, (i % 2 = 0)) FROM generate_series(1, o % 5) AS i
            )) AS r FROM unnest($1::text[]) WITH ORDINALITY AS list(t, o)) AS outermost";
    let rows = rows(&mut connection, statement.to_owned(), texts).await;
    assert_eq!(rows.len(), 50);
    for row in &rows {
        let ours = written(|out| write_record(raw(row, 0).expect("a record"), out));
        let theirs: &str = row.get(1);
        // A decimal is a string with us: compared without its quotes.
        let ours = ours
            .expect("every column is understood")
            .replace("\"f5\":\"", "\"f5\":")
            .replace("\",\"f6\":[", ",\"f6\":[");
        assert!(same_value(&Ok(ours.clone()), theirs), "{ours}, to_json gives {theirs}");
    }
    connection.close().await.expect("closed");
}

/// Every column with the scalar that loses nothing.
fn write_record(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    const RECORDS: u32 = 2287;
    let mut columns = RecordReader::new(raw)?;
    let mut index = 0;
    while let Some(column) = columns.next_typed() {
        let column = column?;
        index += 1;
        out.push(if index == 1 { b'{' } else { b',' });
        write_key(&format!("f{index}"), out);
        match (column.value, PgType::from_oid(column.oid)) {
            (None, _) => write_null(out),
            (Some(raw), Some(pg)) => {
                let natural = [
                    Scalar::Boolean,
                    Scalar::Int,
                    Scalar::String,
                    Scalar::Decimal,
                    Scalar::DateTime,
                    Scalar::Uuid,
                ];
                let decoder =
                    natural.into_iter().find_map(|scalar| Decoder::new(pg, scalar)).expect("a scalar");
                decoder.write(raw, out)?;
            }
            (Some(raw), None) => {
                assert_eq!(column.oid, RECORDS);
                out.push(b'[');
                for (n, record) in ArrayReader::new(raw)?.enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    write_record(record?.expect("a record"), out)?;
                }
                out.push(b']');
            }
        }
    }
    out.push(b'}');
    Ok(())
}

pub async fn oids_are_those_of_the_catalogue(stage: Arc<Stage>) {
    let mut connection = session(&stage).await;
    let statement = "
        SELECT oid::int8, typarray::int8, typname::text FROM pg_type
        WHERE typnamespace = 'pg_catalog'::regnamespace AND typcategory <> 'A' AND $1::text[] IS NOT NULL";
    let mut found = BTreeSet::new();
    for row in rows(&mut connection, statement.to_owned(), vec![]).await {
        let [oid, array]: [u32; 2] =
            [0, 1].map(|column| row.get::<i64, _>(column).try_into().expect("an oid"));
        let name: &str = row.get(2);
        let known = PgType::from_oid(oid);
        if array != 0 {
            assert_eq!(PgType::from_array_oid(array), known, "{name}");
        }
        if let Some(known) = known {
            let text = known == PgType::Text && ["varchar", "bpchar", "name"].contains(&name);
            assert!(text || known.name() == name, "{oid} is {name}, not {known:?}");
            found.insert(known.name());
        }
    }
    assert_eq!(found.len(), PgType::ALL.len(), "found are {found:?}");
    connection.close().await.expect("closed");
}
