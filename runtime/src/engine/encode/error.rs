//! Why a value cannot be written.

use crate::error::{Classify, ErrorKind};

/// Errors of writing one value; the output is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// NaN or an infinity, for which JSON has no number.
    #[error("the number is not finite")]
    NotFinite,
    /// Does not fit the declared scalar: an `Int` beyond 32 bits, a `BigInt` with a fraction.
    #[error("the value is out of the range of the declared scalar")]
    OutOfRange,
    /// A list whose elements are declared non-null holds a null.
    #[error("the list holds a null where none is allowed")]
    NullElement,
    /// An array nests deeper or less deep than its field is declared.
    #[error("the array has {found} dimensions, declared are {declared}")]
    Dimensions {
        /// Dimensions of the array.
        found: usize,
        /// Lists around the scalar in the declared type.
        declared: usize,
    },
    /// The bytes are no value of their type.
    #[error("the database sent what is no {what}")]
    Malformed {
        /// What the bytes should be.
        what: &'static str,
    },
}

impl Error {
    /// The bytes are no `what`.
    pub(super) const fn malformed(what: &'static str) -> Self {
        Self::Malformed { what }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFinite
            | Self::OutOfRange
            | Self::NullElement
            | Self::Dimensions { .. }
            | Self::Malformed { .. } => ErrorKind::Internal,
        }
    }
}
