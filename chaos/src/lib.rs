//! Fault proxy, faults, operation histories and checkers.
//!
//! The crate knows nothing of the runtime that is under test: it moves bytes, signals processes, records what was
//! asked and answered, and decides whether the answers fit together. Every decision is a pure function of recorded
//! facts and a seed; sockets and signals live at the rim (`proxy`, `fault`, `api`, `client`).
//!
//! A module uses only modules on lower lines. `harness/tests/tidy.rs` reads this block and enforces it.
//!
//! ```text
//! api client
//! proxy
//! toxic
//! protocol
//! checker
//! history
//! fault ledger
//! json seed sync
//! ```

pub mod api;
pub mod checker;
pub mod client;
pub mod fault;
pub mod history;
pub mod json;
pub mod ledger;
pub mod protocol;
pub mod proxy;
pub mod seed;
mod sync;
pub mod toxic;
