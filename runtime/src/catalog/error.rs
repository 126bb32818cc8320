//! What can go wrong with the catalogue.

use super::LIST_LIMIT_MAX;
use crate::error::{Classify, ErrorKind};
use crate::storage::postgres;

/// Errors of the catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for too few or too many.
    #[error("limit must be between 1 and {LIST_LIMIT_MAX}, not {0}")]
    Limit(i32),
    /// The database failed.
    #[error("the catalogue could not be read")]
    Store(#[from] postgres::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Limit(_) => ErrorKind::BadInput,
            Self::Store(error) => error.kind(),
        }
    }
}
