//! What can go wrong with a cache. A caller treats every one of these as a miss.

use crate::error::{Classify, ErrorKind};
use crate::storage::redis;

/// Errors of a cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis failed; a write may have been done.
    #[error("the cache in redis failed")]
    Redis(#[source] redis::Error),
    /// Redis answered with another number of values than it was asked for.
    #[error("the cache answered something unexpected")]
    Protocol,
    /// The value is not JSON, so it was not stored.
    #[error("could not write a cached value as JSON")]
    Encode(#[source] serde_json::Error),
    /// What the cache holds is not what was stored there, or another version of ours stored it.
    #[error("could not read a cached value")]
    Decode(#[source] serde_json::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Redis(error) => error.kind(),
            Self::Protocol | Self::Encode(_) | Self::Decode(_) => ErrorKind::Internal,
        }
    }
}
