//! Identifiers with a type of their own: a bare `Uuid` or `i64` does not travel between areas.
//!
//! All are transparent in SQL and JSON, and read from and print as their bare value.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = <$inner as FromStr>::Err;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// UUIDv7, so that new orders land at the end of the index.
    OrderId(Uuid)
);
id!(
    /// An outbox row and, at the same time, the `Nats-Msg-Id` of its message.
    EventId(Uuid)
);
id!(
    /// A job of the queue: UUIDv5 of the caller's idempotency key, UUIDv7 without one.
    JobId(Uuid)
);
id!(
    /// An event that a webhook told us of: UUIDv5 of the webhook's name and the event's key.
    WebhookEventId(Uuid)
);
id!(
    /// Names one HTTP request in logs and in the `x-request-id` header.
    RequestId(Uuid)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_print() {
        let id = OrderId(Uuid::from_u128(7));
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
