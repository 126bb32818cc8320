//! What can go wrong with the queue.

use crate::error::{Classify, ErrorKind};
use crate::storage::{postgres, redis, spool};

/// Errors of the job queue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither Redis nor the spool took the job; Redis may have it all the same.
    #[error("neither the queue nor its spool took the job")]
    NotTaken(#[source] spool::Error),
    /// Redis did not take the job, and the spool is switched off; Redis may have it all the same.
    #[error("the queue did not take the job")]
    NoFallback(#[source] redis::Error),
    /// Redis failed while jobs were claimed or acknowledged.
    #[error("the queue failed")]
    Redis(#[source] redis::Error),
    /// The spool failed while it was drained.
    #[error("the spool of the queue failed")]
    Spool(#[source] spool::Error),
    /// The database failed a job's effect.
    #[error("the effect of a job failed")]
    Effect(#[source] postgres::Error),
    /// The queue answered what no script of ours answers.
    #[error("the queue answered something unexpected")]
    Protocol,
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotTaken(error) | Self::Spool(error) => error.kind(),
            Self::NoFallback(error) | Self::Redis(error) => error.kind(),
            Self::Effect(error) => error.kind(),
            Self::Protocol => ErrorKind::Internal,
        }
    }
}
