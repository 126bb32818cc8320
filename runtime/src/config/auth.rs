//! `[auth]`: who may call as somebody.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::check::TableChecks;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Keys that callers show; empty: everybody is anonymous.
    pub api_keys: Vec<ApiKey>,
}

/// A key, known by its hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The caller's name among all callers.
    pub id: String,
    /// SHA-256 of the key in hexadecimal.
    pub sha256: String,
    /// What the caller is.
    #[serde(default)]
    pub roles: Vec<String>,
    /// How much the caller may ask.
    #[serde(default)]
    pub tier: Tier,
}

/// By what a caller's quota is found in `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// `default_rpm` holds.
    #[default]
    Unset,
    /// As somebody who shows no key; the quota is the key's own.
    Anonymous,
    /// Somebody who is known.
    Authenticated,
    /// Who runs the service.
    Admin,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unset, Self::Anonymous, Self::Authenticated, Self::Admin];

    /// The label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Anonymous => "anonymous",
            Self::Authenticated => "authenticated",
            Self::Admin => "admin",
        }
    }
}

impl Auth {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        let (mut ids, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for key in &self.api_keys {
            let named = !key.id.is_empty() && ids.insert(key.id.as_str());
            checks.require("api_keys", format!("id {:?}", key.id), named, "each id once, and none empty");
            // The value is not shown: it may be the key itself, by mistake.
            let value = format!("sha256 of {:?}", key.id);
            let hashed = (key.sha256.len() == 64 && key.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
                && hashes.insert(key.sha256.to_ascii_lowercase());
            checks.require("api_keys", value, hashed, "64 hexadecimal digits, each key once");
        }
    }
}
