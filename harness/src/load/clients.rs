//! Who sends the load: clients of each tier, told apart by API keys that the seed makes, and the configuration by which the
//! server knows them. Pure.
//!
//! Arrivals take clients in turn, so that each sends the same share whatever the seed: limits for a client can be told from
//! limits for all.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// How many clients of each tier there are. Without any, the load is anonymous and of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Clients without a key: one share of the arrivals each, all of them the same caller to the server.
    pub anonymous: u32,
    /// Clients with a key of the tier `authenticated`.
    pub authenticated: u32,
    /// Clients with a key of the tier `admin`.
    pub admin: u32,
}

/// Clients at most: the server reads each key's hash from its configuration.
pub const CLIENTS_MAX: u32 = 20_000;

impl Clients {
    /// All of them.
    pub fn total(self) -> u32 {
        self.anonymous.saturating_add(self.authenticated).saturating_add(self.admin)
    }

    /// The key that arrival `index` shows.
    pub fn key(self, seed: u64, index: u64) -> Option<String> {
        let turn = u32::try_from(index % u64::from(self.total().max(1))).expect("below a u32");
        let known = turn.checked_sub(self.anonymous)?;
        if known >= self.authenticated + self.admin {
            return None;
        }
        let (tier, number) = match known.checked_sub(self.authenticated) {
            None => ("authenticated", known),
            Some(number) => ("admin", number),
        };
        Some(key(seed, tier, number))
    }

    /// `[[auth.api_keys]]` of the server: each client with its tier. Empty without clients that have keys.
    pub fn configuration(self, seed: u64) -> Table {
        let tiers = [("authenticated", self.authenticated), ("admin", self.admin)];
        let keys = tiers.into_iter().flat_map(|(tier, count)| (0..count).map(move |number| (tier, number)));
        let keys = keys.map(|(tier, number)| {
            let hash = Sha256::digest(key(seed, tier, number));
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut table = Table::new();
            table.insert("id".into(), format!("{tier}-{number}").into());
            table.insert("sha256".into(), hash.into());
            table.insert("tier".into(), tier.into());
            Value::from(table)
        });
        let keys: Vec<Value> = keys.collect();
        let mut configuration = Table::new();
        if !keys.is_empty() {
            let auth = Table::from_iter([("api_keys".to_owned(), Value::from(keys))]);
            configuration.insert("auth".into(), auth.into());
        }
        configuration
    }
}

/// Who may administer the server and read everything back, each within the limits of one.
const OPERATORS: u32 = 8;

/// Adds those who may administer the server, see [`operator_keys`].
pub fn add_operators(configuration: &mut Table, seed: u64) {
    let operator = |(number, key): (usize, String)| {
        let hash = Sha256::digest(key);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Value::from(Table::from_iter([
            ("id".to_owned(), Value::from(format!("operator-{number}"))),
            ("sha256".to_owned(), Value::from(hash)),
            ("tier".to_owned(), Value::from("admin")),
            ("roles".to_owned(), Value::from(vec![Value::from("ADMIN")])),
        ]))
    };
    let auth = configuration.entry("auth").or_insert_with(|| Table::new().into());
    let Value::Table(auth) = auth else { return };
    let keys = auth.entry("api_keys").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(keys) = keys {
        keys.extend(operator_keys(seed).into_iter().enumerate().map(operator));
    }
}

/// The keys of the operators, by which the run asks for what needs an administrator.
pub fn operator_keys(seed: u64) -> Vec<String> {
    (0..OPERATORS).map(|number| key(seed, "operator", number)).collect()
}

/// Good for the server of one run, which knows its hash.
fn key(seed: u64, tier: &str, number: u32) -> String {
    format!("load-{seed:x}-{tier}-{number}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_client_sends_the_same_share_and_the_server_knows_its_key() {
        let clients = Clients { anonymous: 1, authenticated: 3, admin: 2 };
        let mut sent = BTreeMap::<Option<String>, u32>::new();
        (0..600).for_each(|index| *sent.entry(clients.key(7, index)).or_default() += 1);
        assert_eq!(sent.values().copied().collect::<Vec<_>>(), [100; 6]);

        let configuration = clients.configuration(7);
        let known = configuration["auth"]["api_keys"].as_array().expect("keys");
        let hashes: Vec<&str> = known.iter().filter_map(|key| key["sha256"].as_str()).collect();
        for key in sent.keys().flatten() {
            let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(hashes.contains(&hash.as_str()), "{key}");
        }
        assert_eq!(hashes.len(), 5);
        assert_eq!(known.last().and_then(|key| key["tier"].as_str()), Some("admin"));
    }

    #[test]
    fn without_clients_nobody_shows_a_key_and_the_server_knows_none() {
        let clients = Clients::default();
        assert!((0..10).all(|index| clients.key(7, index).is_none()));
        assert!(clients.configuration(7).is_empty());
        let anonymous = Clients { anonymous: 5, ..Clients::default() };
        assert!((0..10).all(|index| anonymous.key(7, index).is_none()));
    }
}
