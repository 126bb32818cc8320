//! Wire protocols, understood far enough to strike at a message: PostgreSQL v3, RESP 2 and 3, NATS.
//!
//! An [`inspector::Inspector`] stands on one connection, sees the bytes of both ways in the order in which they came and
//! says what to do with them; it does no input or output and asks no clock. What no rule concerns leaves byte for byte
//! as it came, however it was cut. Memory is bounded whatever the peers send. Bytes that cannot be understood, because
//! they are encrypted or are not the protocol, make the connection opaque: it passes untouched from there on, and each
//! rule counts that it was blind.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::Direction;

pub mod fault;
pub mod inspector;
mod lane;
mod nats;
pub mod pattern;
mod postgres;
mod resp;
pub mod rule;
mod session;
pub mod text;
pub mod trigger;

/// So much of a message is looked at before it is decided; the rest streams through under that decision. Bytes.
pub const LOOK_BYTES_MAX: usize = 16 * 1024;

/// So many requests of a connection may wait for their replies; a connection with more turns opaque.
pub const REQUESTS_MAX: usize = 16 * 1024;

/// What is spoken on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    #[serde(rename = "pg")]
    Postgres,
    #[serde(rename = "redis")]
    Redis,
    #[serde(rename = "nats")]
    Nats,
}

impl Protocol {
    pub const ALL: [Protocol; 3] = [Protocol::Postgres, Protocol::Redis, Protocol::Nats];

    /// The word for it in scenario files: `pg`, `redis`, `nats`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Postgres => "pg",
            Protocol::Redis => "redis",
            Protocol::Nats => "nats",
        }
    }
}

/// One way of a connection: *upstream* runs from the client to the server, *downstream* back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Upstream,
    Downstream,
}

impl Way {
    pub fn other(self) -> Way {
        match self {
            Way::Upstream => Way::Downstream,
            Way::Downstream => Way::Upstream,
        }
    }

    fn index(self) -> usize {
        match self {
            Way::Upstream => 0,
            Way::Downstream => 1,
        }
    }
}

impl From<Way> for Direction {
    fn from(way: Way) -> Direction {
        match way {
            Way::Upstream => Direction::Upstream,
            Way::Downstream => Direction::Downstream,
        }
    }
}

/// Why nothing more can be seen on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "why", content = "what")]
pub enum Opaque {
    /// TLS or GSS.
    Encrypted,
    /// Not this protocol.
    Malformed(&'static str),
    /// More than is kept for a connection.
    Beyond(&'static str),
    /// Part of the protocol, but not understood here.
    Unsupported(&'static str),
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Opaque::Encrypted => f.write_str("encrypted"),
            Opaque::Malformed(what) => write!(f, "malformed: {what}"),
            Opaque::Beyond(what) => write!(f, "beyond bounds: {what}"),
            Opaque::Unsupported(what) => write!(f, "not understood: {what}"),
        }
    }
}
