//! Which type can be written as which scalar, and by whom.
//!
//! | type | `String` and | besides |
//! |---|---|---|
//! | bool | | Boolean |
//! | int2, int4, int8 | | Int, Float, Id, BigInt, Decimal |
//! | float4, float8 | | Float |
//! | numeric | | Float, Id, BigInt, Decimal |
//! | text | yes | Id, Ulid |
//! | uuid | yes | Id, Uuid, Ulid |
//! | timestamptz | yes | DateTime |
//! | timestamp | yes | LocalDateTime |
//! | date | yes | Date |
//! | time, timetz | yes | Time |
//! | interval | yes | Interval |
//! | bytea | yes | Bytes |
//! | json, jsonb | | Json |
//!
//! Every other pair would lose something or promise what the column does not hold.

use super::{Error, PgType, Scalar, calendar, identifier, interval, number, numeric, text};

/// Appends one JSON value, or fails after having appended anything.
type Write = fn(&[u8], &mut Vec<u8>) -> Result<(), Error>;

/// Writes values of one type as one scalar.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    pg: PgType,
    scalar: Scalar,
    write: Write,
}

impl Decoder {
    /// The writer of a pair; none when the pair makes no sense (the table is in this module's source).
    pub const fn new(pg: PgType, scalar: Scalar) -> Option<Self> {
        let Some(write) = writer(pg, scalar) else { return None };
        Some(Self { pg, scalar, write })
    }

    /// The type it reads.
    pub const fn pg_type(self) -> PgType {
        self.pg
    }

    /// The scalar it writes.
    pub const fn scalar(self) -> Scalar {
        self.scalar
    }

    /// Appends exactly one JSON value for `raw`, a value in binary format without its length.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`], [`Error::OutOfRange`] and [`Error::Malformed`]; `out` is then as it was.
    #[inline]
    pub fn write(self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        let written = (self.write)(raw, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

const fn writer(pg: PgType, scalar: Scalar) -> Option<Write> {
    Some(match (pg, scalar) {
        (PgType::Bool, Scalar::Boolean) => number::boolean,

        (PgType::Int2, Scalar::Int | Scalar::Float) => number::int2,
        (PgType::Int4, Scalar::Int | Scalar::Float) => number::int4,
        (PgType::Int8, Scalar::Int) => number::int8_in_32_bits,
        (PgType::Int8, Scalar::Float) => number::int8,
        (PgType::Int2, Scalar::Id | Scalar::BigInt | Scalar::Decimal) => number::int2_quoted,
        (PgType::Int4, Scalar::Id | Scalar::BigInt | Scalar::Decimal) => number::int4_quoted,
        (PgType::Int8, Scalar::Id | Scalar::BigInt | Scalar::Decimal) => number::int8_quoted,

        (PgType::Float4, Scalar::Float) => number::float4,
        (PgType::Float8, Scalar::Float) => number::float8,

        (PgType::Numeric, Scalar::Float) => numeric::number,
        (PgType::Numeric, Scalar::Decimal) => numeric::quoted,
        (PgType::Numeric, Scalar::Id | Scalar::BigInt) => numeric::integer_quoted,

        (PgType::Text, Scalar::String | Scalar::Id) => text::text,
        (PgType::Text, Scalar::Ulid) => identifier::ulid_from_text,

        (PgType::Uuid, Scalar::Uuid | Scalar::String | Scalar::Id) => identifier::uuid,
        (PgType::Uuid, Scalar::Ulid) => identifier::ulid_from_uuid,

        (PgType::TimestampTz, Scalar::DateTime | Scalar::String) => calendar::timestamptz,
        (PgType::Timestamp, Scalar::LocalDateTime | Scalar::String) => calendar::timestamp,
        (PgType::Date, Scalar::Date | Scalar::String) => calendar::date,
        (PgType::Time, Scalar::Time | Scalar::String) => calendar::time,
        (PgType::TimeTz, Scalar::Time | Scalar::String) => calendar::timetz,
        (PgType::Interval, Scalar::Interval | Scalar::String) => interval::interval,

        (PgType::Bytea, Scalar::Bytes | Scalar::String) => text::bytea,
        (PgType::Json, Scalar::Json) => text::json,
        (PgType::Jsonb, Scalar::Json) => text::jsonb,

        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_every_scalar_has_a_partner() {
        for pg in PgType::ALL {
            assert!(Scalar::ALL.iter().any(|scalar| Decoder::new(pg, *scalar).is_some()), "{pg:?}");
        }
        for scalar in Scalar::ALL {
            assert!(PgType::ALL.iter().any(|pg| Decoder::new(*pg, scalar).is_some()), "{scalar:?}");
        }
    }

    #[test]
    fn a_pair_that_would_lose_something_has_no_writer() {
        let senseless = [
            (PgType::Numeric, Scalar::Int),
            (PgType::Float8, Scalar::Decimal),
            (PgType::Timestamp, Scalar::DateTime),
            (PgType::Text, Scalar::Int),
            (PgType::Jsonb, Scalar::String),
            (PgType::Bool, Scalar::Int),
        ];
        for (pg, scalar) in senseless {
            assert!(Decoder::new(pg, scalar).is_none(), "{pg:?} as {scalar:?}");
        }
    }

    #[test]
    fn the_table_in_the_opening_is_the_one_that_is_compiled() {
        let rows = include_str!("decoder.rs").lines().filter_map(|line| line.strip_prefix("//! |")).skip(2);
        let mut stated = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let string = (cells[1] == "yes").then_some("String");
            for scalar in cells[2].split(", ").chain(string) {
                stated.extend(cells[0].split(", ").map(|pg| format!("{pg} {scalar}")));
            }
        }
        let compiled = PgType::ALL.iter().flat_map(|pg| {
            let scalars = Scalar::ALL.iter().filter(|scalar| Decoder::new(*pg, **scalar).is_some());
            scalars.map(move |scalar| format!("{} {scalar:?}", pg.name()))
        });
        let mut compiled: Vec<String> = compiled.collect();
        stated.sort();
        compiled.sort();
        assert_eq!(stated, compiled);
    }

    #[test]
    fn names_of_scalars_and_types_are_told_apart() {
        for scalar in Scalar::ALL {
            assert_eq!(Scalar::from_name(scalar.name()), Some(scalar));
        }
        assert_eq!(Scalar::from_name("Int64"), None);
        let mut names: Vec<&str> = PgType::ALL.iter().map(|pg| pg.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PgType::ALL.len());
    }
}
