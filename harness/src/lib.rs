//! Starts the runtime and its dependencies, drives load and faults, judges, reports.
//!
//! The runtime is driven from outside, as a process over HTTP; nothing here links to it. A module uses only modules on
//! lower lines. `harness/tests/tidy.rs` reads this block and enforces it.
//!
//! ```text
//! cli
//! bench
//! scenario
//! report
//! load
//! environment
//! observe
//! verdict
//! run
//! ```

pub mod bench;
pub mod cli;
pub mod environment;
pub mod load;
pub mod observe;
pub mod report;
pub mod run;
pub mod scenario;
pub mod verdict;
