//! The deadline of a call: what has not answered by then is given up, and the error says what.

use std::future::Future;
use std::time::Duration;

use crate::error::{Classify, ErrorKind};

/// The call was given up. What it asked for may have happened or may happen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: no answer within {}", humantime::format_duration(*.limit))]
pub struct Elapsed {
    pub what: &'static str,
    pub limit: Duration,
}

impl Classify for Elapsed {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}

/// Runs the call, at most for `limit`. `what` completes the sentence "failed to", as "read the order".
///
/// # Errors
/// [`Elapsed`] at the limit; the future has been dropped then.
pub async fn within<F: Future>(what: &'static str, limit: Duration, call: F) -> Result<F::Output, Elapsed> {
    tokio::time::timeout(limit, call).await.map_err(|_| Elapsed { what, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_ends_at_its_limit() {
        let limit = Duration::from_millis(1500);
        let error = within("ask the oracle", limit, std::future::pending::<()>()).await.expect_err("hangs");
        assert_eq!(error.to_string(), "ask the oracle: no answer within 1s 500ms");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
