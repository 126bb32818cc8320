//! Rules that all replicas share: one script and one round trip a request, by Redis' own clock.
//!
//! The script checks and takes in one step, so that no number of replicas gets more than a rule gives. All keys of a client
//! have one hash tag, so that a cluster has them in one place, and each expires when it says nothing any more. A script
//! that the server has forgotten is loaded again.

use std::sync::Arc;
use std::time::Duration;

use redis::{Script, ScriptInvocation};

use crate::error::{Classify, ErrorKind};
use crate::resilience::limiter::{Answer, Ask, Refused, Rule};
use crate::resilience::timeout::{Elapsed, within};
use crate::storage::redis::{self as storage, Redis};

/// Why Redis did not decide.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The call failed.
    #[error("could not ask redis for the limits")]
    Redis(#[source] storage::Error),
    /// It took longer than a limit may add to a request. The tokens may have been taken.
    #[error("redis took too long for the limits")]
    Slow(#[source] Elapsed),
    /// The answer is none of the script's.
    #[error("redis answered the limits with something else")]
    Protocol,
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Redis(error) => error.kind(),
            Self::Slow(elapsed) => elapsed.kind(),
            Self::Protocol => ErrorKind::Unavailable,
        }
    }
}

/// The store. Clones share the connections.
#[derive(Clone)]
pub struct Shared {
    redis: Redis,
    script: Arc<Script>,
    timeout: Duration,
}

impl Shared {
    /// Over the handle's connections; no question takes longer than `timeout`.
    pub fn new(redis: Redis, timeout: Duration) -> Self {
        Self { redis, script: Arc::new(Script::new(include_str!("take.lua"))), timeout }
    }

    /// Takes all that is asked, or nothing. There is no patience here: who has to wait is refused.
    ///
    /// # Errors
    /// When Redis did not decide.
    pub async fn take(&self, client: &str, asks: &[Ask]) -> Result<Answer, Error> {
        let call = self.call(client, asks);
        let answer = within("ask redis for the limits", self.timeout, self.redis.invoke(&call)).await;
        let answer: (u8, usize, u32, u64, i64) = answer.map_err(Error::Slow)?.map_err(Error::Redis)?;
        let (taken, at, remaining, reset, retry) = answer;
        if at >= asks.len() {
            return Err(Error::Protocol);
        }
        let retry_after = u64::try_from(retry).ok().map(Duration::from_micros);
        let taken = if taken == 1 { Ok(Duration::ZERO) } else { Err(Refused { retry_after }) };
        Ok(Answer { at, remaining, reset: Duration::from_micros(reset), taken })
    }

    fn call(&self, client: &str, asks: &[Ask]) -> ScriptInvocation<'_> {
        let mut call = self.script.prepare_invoke();
        for ask in asks {
            call.key(key(client, ask.id));
            let (kind, unit) = match ask.rule {
                Rule::Window(window) => ("w", window.slot()),
                Rule::Bucket(bucket) => ("b", bucket.interval()),
            };
            // Rounded up: never faster than the rule.
            call.arg(kind).arg(ask.rule.limit()).arg(unit.div_ceil(1_000).max(1)).arg(ask.tokens);
        }
        call
    }
}

/// The rule comes last and is a number, so that no client's name makes another's key.
fn key(client: &str, rule: u16) -> String {
    format!("{{fraiseql:limit:{client}}}:{rule}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rules_of_a_client_are_in_one_place_and_apart() {
        let tag = |key: &str| key[1..key.find('}').expect("a tag")].to_owned();
        for client in ["u:alice", "a:10.0.0.1", "u:}odd{"] {
            let (one, other) = (key(client, 0), key(client, 1));
            assert_ne!(one, other);
            assert_eq!(tag(&one), tag(&other));
            assert!(!tag(&one).is_empty());
        }
        assert_ne!(key("u:a}:1", 0), key("u:a", 1));
    }
}
