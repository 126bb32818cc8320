//! Why a rollout could not be read or changed.

use crate::error::{Classify, ErrorKind, chain};
use crate::feature_flags;
use crate::migration::strategy::MigrationError;
use crate::storage::postgres;

/// What it says is for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

impl Error {
    /// An error of this kind.
    pub fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A rollout that is not there.
    pub fn unknown(feature: &str) -> Self {
        Self::of_kind(ErrorKind::NotFound, format!("there is no rollout of {feature:?}"))
    }

    /// A step that the state does not have.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::of_kind(ErrorKind::InvalidTransition, message)
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        let error = feature_flags::Error::from(error);
        Self { kind: error.kind(), message: error.to_string() }
    }
}

impl From<MigrationError> for Error {
    fn from(error: MigrationError) -> Self {
        let kind = match error {
            MigrationError::Config(_) => ErrorKind::BadInput,
            MigrationError::NotApplied(_)
            | MigrationError::HealthCheckFailed { .. }
            | MigrationError::TooLate { .. }
            | MigrationError::Interrupted => ErrorKind::InvalidTransition,
            MigrationError::FeatureFlag(_) | MigrationError::Metrics(_) => ErrorKind::Unavailable,
        };
        Self { kind, message: chain(&error) }
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}
