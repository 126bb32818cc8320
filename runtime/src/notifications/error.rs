//! What can go wrong with a notification, and what that says of its target.

use std::time::Duration;

use super::Action;
use crate::error::{Classify, ErrorKind};
use crate::resilience::breaker::Outcome;
use crate::resilience::dependency::Refused;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Errors of a delivery. None holds a target's URL: that of Slack is a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration gives the action no target.
    #[error("{} has no target", .0.name())]
    NotConfigured(Action),
    /// The target cannot be set up.
    #[error("could not set up {what}")]
    Setup {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// The target is not called now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The action has used up its rate for now.
    #[error("{} has used up its rate", .action.name())]
    Limited {
        /// Which.
        action: Action,
        /// When there is some again.
        retry_after: Option<Duration>,
    },
    /// The notification cannot be written in the action's form.
    #[error("could not write the {what}")]
    Unwritable {
        /// Which part.
        what: &'static str,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// No answer in time; it may have arrived.
    #[error("{}: no answer within {}", .action.name(), humantime::format_duration(*.limit))]
    Timeout {
        /// Which.
        action: Action,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection failed; it may have arrived.
    #[error("could not reach the target")]
    Transport(#[source] Cause),
    /// An HTTP status that is no success.
    #[error("the target answered {status}")]
    Http {
        /// The status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// An SMTP reply that is no success.
    #[error("the mail server answered {code}")]
    Smtp {
        /// The reply's code.
        code: u16,
    },
}

impl Error {
    /// When it is worth trying again at the earliest, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refused::Open(open)) => Some(open.retry_after),
            Self::Limited { retry_after, .. } | Self::Http { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the target was left alone, so that it is no attempt.
    pub fn was_not_called(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Limited { .. })
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotConfigured(_) | Self::Unwritable { .. } => ErrorKind::BadInput,
            Self::Setup { .. } => ErrorKind::Internal,
            Self::Refused(refused) => refused.kind(),
            Self::Limited { .. } | Self::Transport(_) => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            // "Too many requests", "too early" and "request timeout" pass by themselves, other refusals do not.
            Self::Http { status: 408 | 504, .. } => ErrorKind::Timeout,
            Self::Http { status: 425 | 429 | 500.., .. } => ErrorKind::Unavailable,
            Self::Http { status: 401 | 403 | 407, .. } => ErrorKind::Unauthorized,
            Self::Http { status: 404 | 410, .. } => ErrorKind::NotFound,
            Self::Http { .. } => ErrorKind::BadInput,
            // RFC 5321, 4.2.1: 4yz passes by itself, 5yz does not; 53z is about authentication (RFC 4954).
            Self::Smtp { code: 400..=499 } => ErrorKind::Unavailable,
            Self::Smtp { code: 530..=539 } => ErrorKind::Unauthorized,
            Self::Smtp { .. } => ErrorKind::BadInput,
        }
    }
}

/// What a result tells of the target: one that refuses what was sent, or asks for patience, is well.
pub(super) fn outcome(result: &Result<(), Error>) -> Outcome {
    let error = match result {
        Ok(()) => return Outcome::Success,
        Err(error) => error,
    };
    match error {
        Error::Timeout { .. } | Error::Transport(_) | Error::Http { status: 500.., .. } => Outcome::Fault,
        // A service that closes, an error in processing, no room: not the mailbox (450) that is busy.
        Error::Smtp { code: 421 | 451 | 452 | 454 } => Outcome::Fault,
        Error::Http { status: 408 | 425 | 429, .. } | Error::Smtp { code: 400..=499 } => Outcome::Unknown,
        Error::Http { .. } | Error::Smtp { .. } => Outcome::Success,
        Error::NotConfigured(_)
        | Error::Setup { .. }
        | Error::Refused(_)
        | Error::Limited { .. }
        | Error::Unwritable { .. } => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again_and_what_does_not_is_not() {
        let http = |status| Error::Http { status, retry_after: None };
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(http(status).kind().is_retryable(), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 405, 410, 413, 422] {
            assert!(!http(status).kind().is_retryable(), "{status}");
        }
        assert!(Error::Smtp { code: 450 }.kind().is_retryable());
        assert!(!Error::Smtp { code: 550 }.kind().is_retryable());
        assert_eq!(Error::Smtp { code: 535 }.kind(), ErrorKind::Unauthorized);
    }

    #[test]
    fn only_the_targets_faults_count_against_it() {
        let http = |status| outcome(&Err(Error::Http { status, retry_after: None }));
        assert_eq!([500, 503].map(http), [Outcome::Fault; 2]);
        assert_eq!([400, 401, 404, 422].map(http), [Outcome::Success; 4]);
        assert_eq!([408, 429].map(http), [Outcome::Unknown; 2]);
        assert_eq!(outcome(&Err(Error::Smtp { code: 421 })), Outcome::Fault);
        assert_eq!(outcome(&Err(Error::Smtp { code: 450 })), Outcome::Unknown);
        assert_eq!(outcome(&Err(Error::Smtp { code: 550 })), Outcome::Success);
    }
}
