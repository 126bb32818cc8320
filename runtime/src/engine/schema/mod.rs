//! The schema file: read, compiled against what the database has, and turned into what GraphQL clients see.

pub mod catalogue;
pub mod compile;
pub mod graphql;
pub mod import;
pub mod model;
pub mod source;
pub mod store;
