//! GraphQL over PostgreSQL: an operation is compiled once, runs as one statement a root field, and is answered in bytes.

pub mod coerce;
pub mod encode;
pub mod plan;
pub mod render;
pub mod schema;
