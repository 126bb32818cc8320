//! Why a delivery is not taken.

use super::signature::SignatureError;
use crate::error::{Classify, ErrorKind};
use crate::storage::postgres;

/// Nothing was kept of it, except perhaps where the database failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No webhook has this name.
    #[error("there is no webhook {0:?}")]
    Unknown(String),
    /// It is not signed.
    #[error("the header {0} is missing")]
    Unsigned(&'static str),
    /// The signature is not that of the body with our secret.
    #[error("the signature in {0} is not that of this body")]
    Signature(&'static str),
    /// The signature is right and its time is not.
    #[error(transparent)]
    Time(#[from] SignatureError),
    /// It is signed and cannot be read.
    #[error("{0}")]
    Malformed(&'static str),
    /// It could not be kept. It may have been.
    #[error("the event could not be kept")]
    Store(#[from] postgres::Error),
}

impl Error {
    /// The label of metrics and logs; `None` where there is no webhook to count it for.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Unknown(_) => None,
            Self::Unsigned(_) => Some("unsigned"),
            Self::Signature(_) => Some("bad_signature"),
            Self::Time(_) => Some("expired"),
            Self::Malformed(_) => Some("malformed"),
            Self::Store(_) => Some("not_kept"),
        }
    }

    /// The code in the answer, which tells the reasons apart.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "SIGNATURE_MISSING",
            Self::Signature(_) => "SIGNATURE_INVALID",
            Self::Time(_) => "SIGNATURE_EXPIRED",
            Self::Unknown(_) | Self::Malformed(_) | Self::Store(_) => self.kind().code(),
        }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown(_) => ErrorKind::NotFound,
            Self::Unsigned(_) | Self::Signature(_) | Self::Time(_) | Self::Malformed(_) => {
                ErrorKind::BadInput
            }
            Self::Store(error) => error.kind(),
        }
    }
}
