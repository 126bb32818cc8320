//! Rollouts that outlive every server: their state is in the database, one server at a time takes their steps, and anybody
//! can take them back.
//!
//! Promises: a step, what it does to the flag and its row in the history are one transaction; only the leader takes steps,
//! known by a lock of the database and, for one that does not know yet that it leads no more, by a token that is compared
//! within each write; a rollback needs no leader, wins over whatever the leader does meanwhile, and can be repeated; nothing
//! goes on without evidence from requests. What is decided when is in [`machine`], without clock and database.

pub mod error;
pub mod leader;
pub mod machine;
pub mod metrics;
pub mod plan;
pub mod report;
pub mod samples;
pub mod service;
pub mod store;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use machine::{Rollout, Status};
pub use plan::Plan;
pub use service::Rollouts;
