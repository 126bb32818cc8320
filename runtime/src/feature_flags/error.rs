//! Why flags could not be read or changed.

use crate::error::{Classify, ErrorKind};
use crate::storage::postgres;

/// Flags could not be read or changed. What it says is for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// Something on our side.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::Internal, message)
    }

    /// Something of this kind.
    pub fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A flag that is not there.
    pub fn unknown(name: &str) -> Self {
        Self::of_kind(ErrorKind::NotFound, format!("there is no flag {name:?}"))
    }

    /// Somebody else was faster.
    pub fn changed(name: &str) -> Self {
        let message = format!("flag {name:?} is not in the version that was given: read it again");
        Self::of_kind(ErrorKind::InvalidTransition, message)
    }
}

/// What a missing table or schema means: that nobody has migrated this database since there are flags.
pub const NOT_MIGRATED: &str =
    "the database has no tables for flags and rollouts yet: run `fraiseql-server migrate`";

/// Whether the tables are missing. SQLSTATE 42P01 is an undefined table, 3F000 an invalid schema.
pub fn is_not_migrated(error: &postgres::Error) -> bool {
    let postgres::Error::Statement(sqlx::Error::Database(error)) = error else { return false };
    matches!(error.code().as_deref(), Some("42P01" | "3F000"))
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        if is_not_migrated(&error) {
            return Self::of_kind(ErrorKind::Unavailable, NOT_MIGRATED);
        }
        tracing::warn!(error = %crate::error::chain(&error), "flags could not be read or written");
        let message = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => "the database is not available now",
            _ => "the database refused the statement, its log says why",
        };
        Self::of_kind(error.kind(), message)
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
