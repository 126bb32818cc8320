//! The stores that the runtime talks to, each behind a handle that is cheap to clone.
//!
//! Every call has a deadline of its own, also when the peer is silent and never closes the connection. A handle can
//! be made while its server is away; it connects when the server is there. What a caller may conclude from an error
//! is in the error's [`ErrorKind`](crate::error::ErrorKind).
//! Absent on purpose: SQL of data, scripts and subjects, which belong to the areas that own the data.

pub mod health;
pub mod metrics;
pub mod nats;
pub mod postgres;
pub mod redis;
pub mod replication;
pub mod spool;
