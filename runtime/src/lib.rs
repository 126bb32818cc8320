//! GraphQL over PostgreSQL, with what a service needs when its dependencies fail.
//!
//! A module uses only modules on lower lines of this block; `harness/tests/tidy.rs` checks it.
//!
//! ```text
//! server
//! api
//! app_state
//! migration webhooks
//! engine
//! cache dataloader events feature_flags limits queue notifications outbox
//! storage
//! security
//! resilience
//! observability
//! error ids clock config
//! ```

pub mod api;
pub mod app_state;
pub mod cache;
pub mod clock;
pub mod config;
pub mod dataloader;
pub mod engine;
pub mod error;
pub mod events;
pub mod feature_flags;
pub mod ids;
pub mod limits;
pub mod migration;
pub mod notifications;
pub mod observability;
pub mod outbox;
pub mod queue;
pub mod resilience;
pub mod security;
pub mod server;
pub mod storage;
pub mod webhooks;
