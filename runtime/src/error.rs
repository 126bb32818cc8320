//! How any error is treated, in one vocabulary.
//!
//! Each area has its own `thiserror` enum and maps itself to an [`ErrorKind`] in one `match` ([`Classify`]);
//! retries, answers to callers and metrics labels read only the kind. A kind also says whether the thing that
//! was asked for may have happened: "failed" is not "did not happen".

use std::error::Error;
use std::fmt::Write as _;

/// What an error means to whoever has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input is wrong; nothing was done.
    BadInput,
    /// The thing that was named does not exist; nothing was done.
    NotFound,
    /// The idempotency key was used before with another input; nothing was done.
    IdempotencyConflict,
    /// The state machine has no such step from the present state; nothing was done.
    InvalidTransition,
    /// A deadline passed; it may have been done.
    Timeout,
    /// A dependency is away or a bounded queue is full; it may have been done.
    Unavailable,
    /// A defect of ours or an answer of a dependency that we did not expect; it may have been done.
    Internal,
}

impl ErrorKind {
    /// The value of `extensions.code` in a GraphQL error.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadInput => "BAD_USER_INPUT",
            Self::NotFound => "NOT_FOUND",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::InvalidTransition => "INVALID_TRANSITION",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
        }
    }

    /// The label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::NotFound => "not_found",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::InvalidTransition => "invalid_transition",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later without a change by the caller.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable)
    }

    /// Whether the caller may rely on nothing having been done.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Self::BadInput | Self::NotFound | Self::IdempotencyConflict | Self::InvalidTransition)
    }
}

/// An error that knows its kind.
pub trait Classify {
    /// The kind by which this error is retried, answered and counted.
    fn kind(&self) -> ErrorKind;
}

/// The whole chain of an error on one line, causes after colons, for the log.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("writing to a string does not fail");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_promise_that_nothing_was_done() {
        let kinds = [
            (ErrorKind::BadInput, true),
            (ErrorKind::NotFound, true),
            (ErrorKind::IdempotencyConflict, true),
            (ErrorKind::InvalidTransition, true),
            (ErrorKind::Timeout, false),
            (ErrorKind::Unavailable, false),
            (ErrorKind::Internal, false),
        ];
        for (kind, refusal) in kinds {
            assert_eq!(kind.is_refusal(), refusal, "{kind:?}");
            assert!(!(kind.is_refusal() && kind.is_retryable()), "{kind:?}");
        }
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not load the order")]
        struct Outer(#[source] std::io::Error);

        let error = Outer(std::io::Error::other("connection reset"));
        assert_eq!(chain(&error), "could not load the order: connection reset");
    }
}
