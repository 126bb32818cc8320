//! What can go wrong with an order.

use super::status::Status;
use crate::error::{Classify, ErrorKind};
use crate::queue;
use crate::storage::postgres;

/// Errors of the order service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input breaks a rule that needs no database.
    #[error("{0}")]
    Input(String),
    /// No such order.
    #[error("no such order")]
    NotFound,
    /// The order names a product that does not exist.
    #[error("the order names a product that does not exist")]
    UnknownProduct,
    /// The order names a user that does not exist.
    #[error("the order names a user that does not exist")]
    UnknownUser,
    /// There is less of a product than the order wants.
    #[error("there is not enough of a product in stock")]
    OutOfStock,
    /// The key was used before with another input.
    #[error("the idempotency key was used before with another input")]
    KeyReused,
    /// The state machine has no such step.
    #[error("an order that is {from} cannot become {to}")]
    Transition {
        /// Where the order is.
        from: Status,
        /// Where the caller wants it.
        to: Status,
    },
    /// A row changed between two statements; the same call again finds it settled.
    #[error("the order was changed at the same time")]
    Contended,
    /// The database failed; what was asked may have been done.
    #[error("the order could not be read or written")]
    Store(#[from] postgres::Error),
    /// The queue failed; the job may have been taken.
    #[error("the job could not be queued")]
    Queue(#[from] queue::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Input(_) | Self::UnknownProduct | Self::UnknownUser | Self::OutOfStock => {
                ErrorKind::BadInput
            }
            Self::NotFound => ErrorKind::NotFound,
            Self::KeyReused => ErrorKind::IdempotencyConflict,
            Self::Transition { .. } => ErrorKind::InvalidTransition,
            Self::Contended => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Queue(error) => error.kind(),
        }
    }
}
