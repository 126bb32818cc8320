//! How any error is treated, in one vocabulary.
//!
//! Each area has its own `thiserror` enum and maps itself to an [`ErrorKind`] in one `match` ([`Classify`]);
//! retries, answers to callers and metrics labels read only the kind. A kind also says whether the thing that
//! was asked for may have happened: "failed" is not "did not happen".
//!
//! [`is_retryable`](ErrorKind::is_retryable) is true of the three that pass by themselves (a timeout, a network or a
//! dependency that is away, a database that is busy) and of no other: not of what is refused for good, and not of what a
//! circuit breaker or a degraded part refuses, since trying again at once is what they are there to prevent.

use std::error::Error;
use std::fmt::Write as _;

/// What an error means to whoever has to act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input is wrong; nothing was done.
    BadInput,
    /// The thing that was named does not exist; nothing was done.
    NotFound,
    /// Nobody known asked, or somebody who may not; nothing was done.
    Unauthorized,
    /// The idempotency key was used before with another input; nothing was done.
    IdempotencyConflict,
    /// The state machine has no such step from the present state; nothing was done.
    InvalidTransition,
    /// The caller has had its share for now and comes back later; nothing was done.
    TooManyRequests,
    /// A deadline passed; it may have been done.
    Timeout,
    /// The network failed, a dependency is away or a bounded queue is full; it may have been done.
    Unavailable,
    /// The database has too much to do just now, or others are in the way; it was not done.
    DatabaseBusy,
    /// A dependency failed so often that it is not asked now; nothing was done.
    CircuitBreakerOpen,
    /// A part of the server works by its fallback, and the fallback does not do this; nothing was done.
    ServiceDegraded,
    /// A defect of ours or an answer of a dependency that we did not expect; it may have been done.
    Internal,
}

impl ErrorKind {
    /// The value of `extensions.code` in a GraphQL error.
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadInput => "BAD_USER_INPUT",
            Self::NotFound => "NOT_FOUND",
            Self::Unauthorized => "UNAUTHENTICATED",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::InvalidTransition => "INVALID_TRANSITION",
            Self::TooManyRequests => "RATE_LIMITED",
            Self::Timeout => "TIMEOUT",
            Self::Unavailable | Self::DatabaseBusy => "UNAVAILABLE",
            Self::CircuitBreakerOpen => "CIRCUIT_OPEN",
            Self::ServiceDegraded => "SERVICE_DEGRADED",
            Self::Internal => "INTERNAL",
        }
    }

    /// The label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::NotFound => "not_found",
            Self::Unauthorized => "unauthorized",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::InvalidTransition => "invalid_transition",
            Self::TooManyRequests => "too_many_requests",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::DatabaseBusy => "database_busy",
            Self::CircuitBreakerOpen => "circuit_breaker_open",
            Self::ServiceDegraded => "service_degraded",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed if it is made again, without a change by the caller.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable | Self::DatabaseBusy)
    }

    /// Whether what was asked for is away for now: whoever can wait or has a substitute may use it.
    pub const fn is_away(self) -> bool {
        self.is_retryable() || matches!(self, Self::CircuitBreakerOpen | Self::ServiceDegraded)
    }

    /// Whether it is of the caller's making; nothing was done.
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::BadInput
                | Self::NotFound
                | Self::Unauthorized
                | Self::IdempotencyConflict
                | Self::InvalidTransition
                | Self::TooManyRequests
        )
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

    /// Every variant: a new one does not compile until it is here.
    fn every_kind() -> Vec<ErrorKind> {
        use ErrorKind::{
            BadInput, CircuitBreakerOpen, DatabaseBusy, IdempotencyConflict, Internal, InvalidTransition,
            NotFound, ServiceDegraded, Timeout, TooManyRequests, Unauthorized, Unavailable,
        };
        let next = |kind| match kind {
            BadInput => Some(NotFound),
            NotFound => Some(Unauthorized),
            Unauthorized => Some(IdempotencyConflict),
            IdempotencyConflict => Some(InvalidTransition),
            InvalidTransition => Some(TooManyRequests),
            TooManyRequests => Some(Timeout),
            Timeout => Some(Unavailable),
            Unavailable => Some(DatabaseBusy),
            DatabaseBusy => Some(CircuitBreakerOpen),
            CircuitBreakerOpen => Some(ServiceDegraded),
            ServiceDegraded => Some(Internal),
            Internal => None,
        };
        std::iter::successors(Some(BadInput), |kind| next(*kind)).collect()
    }

    #[test]
    fn exactly_the_three_transient_kinds_are_retryable() {
        let retryable: Vec<_> = every_kind().into_iter().filter(|kind| kind.is_retryable()).collect();
        assert_eq!(retryable, [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::DatabaseBusy]);
    }

    #[test]
    fn what_is_the_callers_is_not_away_and_what_is_retryable_is() {
        for kind in every_kind() {
            assert!(!(kind.is_refusal() && kind.is_away()), "{kind:?}");
            assert!(!kind.is_retryable() || kind.is_away(), "{kind:?}");
        }
    }

    #[test]
    fn labels_tell_kinds_apart() {
        let labels: std::collections::BTreeSet<_> = every_kind().into_iter().map(ErrorKind::label).collect();
        assert_eq!(labels.len(), every_kind().len());
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
