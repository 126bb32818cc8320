//! PostgreSQL's binary format in, JSON text out: exact, without a tree in between and without allocating.
//!
//! What is written is what `to_json` writes, except where GraphQL asks for another shape: 64-bit integers and decimals
//! are strings, and a number that is not finite is an [`Error`] instead of a string. Bytes are taken as hostile: what is
//! no value of its type is [`Error::Malformed`], never a panic, never invalid JSON or UTF-8. Only the inside of a `json`
//! column is taken as PostgreSQL checked it. On an error the output is left as it was.
//!
//! Pure: knows neither connections nor schemas. A [`Decoder`] is chosen when an operation is planned; rows only run it.

mod array;
mod calendar;
mod decoder;
mod error;
mod identifier;
mod interval;
mod number;
mod numeric;
mod pg_type;
mod reader;
mod scalar;
mod text;

pub use array::{write_array, write_nested_array};
pub use decoder::Decoder;
pub use error::Error;
pub use pg_type::PgType;
pub use reader::{ArrayReader, Column, RecordReader};
pub use scalar::Scalar;
pub use text::{write_key, write_null, write_string};
