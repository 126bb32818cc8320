//! `[graphql]`: which schema is served, and what one operation may ask for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;

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
    }
}
