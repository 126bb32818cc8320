//! `[graphql]`: which schema is served, and what one operation may ask for. `[graphql.persisted]`: operations that are
//! known before they are asked for. `[graphql.subscriptions]`: what stays open.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;
use super::units;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphQl {
    /// The schema file, relative to the working directory.
    pub schema: PathBuf,
    /// Schemas of the database that it is checked against; empty: the search path.
    pub database_schemas: Vec<String>,
    /// Levels of fields in one operation.
    pub max_depth: u32,
    /// Fields of one operation, each counted as often as the lists around it are long.
    pub max_complexity: u32,
    /// Words and signs in the text of one operation.
    pub max_tokens: u32,
    /// Fields of the root in one operation.
    pub max_root_fields: u32,
    /// Fields with an alias in one operation.
    pub max_aliases: u32,
    /// Operations whose plans are kept.
    pub plan_cache_entries: u32,
    /// Bytes of their texts.
    pub plan_cache_bytes: u32,
    /// Whether clients may ask for the schema.
    pub introspection: bool,
    /// Operations in one request; 0 refuses a list of them.
    pub max_batch: u32,
    pub persisted: Persisted,
    pub subscriptions: Subscriptions,
}

/// Operations that callers name instead of sending them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Persisted {
    /// A JSON file of ids and texts, or a folder of `.graphql` files; empty: none.
    pub operations: PathBuf,
    /// Whether nothing else may be executed.
    pub only: bool,
    /// Whether callers may register operations by sending text and hash together.
    pub automatic: bool,
    /// Operations that were registered so.
    pub automatic_entries: u32,
    /// Bytes of their texts.
    pub automatic_bytes: u32,
}

/// What subscriptions may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Subscriptions {
    /// Connections with subscriptions, WebSocket and server-sent events together.
    pub max_connections: u32,
    /// Operations at the same time on one WebSocket.
    pub max_per_connection: u32,
    /// Events that wait for one subscription; one more, and its connection is closed as too slow.
    pub buffer: u32,
    /// A WebSocket that was not initialised by then is closed.
    #[serde(with = "units::duration")]
    pub init_timeout: Duration,
    /// How often a connection is asked whether it lives.
    #[serde(with = "units::duration")]
    pub keep_alive: Duration,
}

impl Default for Persisted {
    fn default() -> Self {
        Self {
            operations: PathBuf::new(),
            only: false,
            automatic: false,
            automatic_entries: 1_000,
            automatic_bytes: 4 * 1024 * 1024,
        }
    }
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            max_connections: 1_000,
            max_per_connection: 50,
            buffer: 256,
            init_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(15),
        }
    }
}

impl Default for GraphQl {
    fn default() -> Self {
        Self {
            schema: PathBuf::from("schema.graphql"),
            database_schemas: Vec::new(),
            max_depth: 15,
            max_complexity: 50_000,
            max_tokens: 5_000,
            max_root_fields: 50,
            max_aliases: 100,
            plan_cache_entries: 1_000,
            plan_cache_bytes: 4 * 1024 * 1024,
            introspection: true,
            max_batch: 0,
            persisted: Persisted::default(),
            subscriptions: Subscriptions::default(),
        }
    }
}

impl GraphQl {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("max_depth", u64::from(self.max_depth), 1..=100);
        checks.count("max_complexity", u64::from(self.max_complexity), 1..=1_000_000_000);
        checks.count("max_tokens", u64::from(self.max_tokens), 10..=1_000_000);
        checks.count("max_root_fields", u64::from(self.max_root_fields), 1..=1_000);
        checks.count("max_aliases", u64::from(self.max_aliases), 0..=100_000);
        checks.count("plan_cache_entries", u64::from(self.plan_cache_entries), 0..=1_000_000);
        checks.count("plan_cache_bytes", u64::from(self.plan_cache_bytes), 0..=1_073_741_824);
        checks.count("max_batch", u64::from(self.max_batch), 0..=1_000);
    }
}

impl Persisted {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("automatic_entries", u64::from(self.automatic_entries), 0..=1_000_000);
        checks.count("automatic_bytes", u64::from(self.automatic_bytes), 0..=1_073_741_824);
        let named = !self.only || !self.operations.as_os_str().is_empty();
        checks.require("only", self.only, named, "false, or operations to allow");
        let open = !(self.only && self.automatic);
        checks.require("automatic", self.automatic, open, "false when only what is listed is allowed");
    }
}

impl Subscriptions {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.count("max_connections", u64::from(self.max_connections), 0..=1_000_000);
        checks.count("max_per_connection", u64::from(self.max_per_connection), 1..=10_000);
        checks.count("buffer", u64::from(self.buffer), 1..=100_000);
        checks.duration("init_timeout", self.init_timeout, "10ms", "5m");
        checks.duration("keep_alive", self.keep_alive, "10ms", "1h");
    }
}
