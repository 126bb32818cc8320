//! What can go wrong on the way from the outbox to the stream.

use crate::error::{Classify, ErrorKind};
use crate::storage::{nats, postgres};

/// Errors of the outbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rows could not be claimed, marked or counted.
    #[error("the outbox could not be read or marked")]
    Store(#[from] postgres::Error),
    /// The stream did not take an event.
    #[error("the stream did not take an event")]
    Publish(#[from] nats::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Publish(error) => error.kind(),
        }
    }
}
