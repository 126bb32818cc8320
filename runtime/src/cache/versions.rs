//! Which state of each table an answer shows, and so whether a mutation has made it wrong.
//!
//! A table's version is a random token in the cache itself, where every replica sees it. Invalidating deletes the
//! token; whoever misses it next makes another. An answer is kept together with the tokens that were there *before* it
//! was computed, and is valid only while all of them are still there. So an answer that was computed before an
//! invalidation and stored after it is never found, whatever the order in which the messages arrive. A counter would
//! not do: a cache that forgot it would count the same numbers again and revive old answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What keys of versions begin with.
pub const PREFIX: &str = "response-version:";

/// The name under which every answer is made, whatever it read.
const EVERYTHING: &str = "*";

/// A token that was not needed for so long makes room; losing one only costs misses.
pub(super) const TTL: Duration = Duration::from_secs(86_400);

/// Invalidations that are owed at a time; beyond, everything is invalidated instead.
const OWED_MAX: usize = 1_000;

/// A set of tables, with their keys. A plan makes it once; clones share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables(Arc<[Table]>);

#[derive(Debug, PartialEq, Eq)]
struct Table {
    name: Arc<str>,
    key: String,
}

impl Table {
    fn new(name: &str) -> Self {
        Self { name: name.into(), key: format!("{PREFIX}{name}") }
    }
}

impl Tables {
    /// The tables of these names, in any order. A name may be narrower than a table (`orders@acme`), as long as
    /// readers and mutations agree on it.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tables: Vec<_> = names.into_iter().map(Table::new).collect();
        tables.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        tables.dedup();
        Self(tables.into())
    }

    /// All there are, to invalidate every answer: when a new schema is in force, or data came in some other way.
    pub fn everything() -> Self {
        Self::of([EVERYTHING])
    }

    /// Keys of the versions to delete.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|table| table.key.as_str()).collect()
    }

    /// What an answer that reads these tables depends on: them, and [`everything`](Self::everything).
    pub(super) fn as_read(&self) -> Self {
        Self::of(self.0.iter().map(|table| &*table.name).chain([EVERYTHING]))
    }
}

/// The versions that an answer was computed under, by table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Versions(BTreeMap<String, String>);

impl Versions {
    /// From the tokens of the tables, in their order; `None` when one is not a token of ours.
    pub(super) fn of(tables: &Tables, tokens: &[Bytes]) -> Option<Self> {
        let text = |token: &Bytes| std::str::from_utf8(token).ok().map(str::to_owned);
        let pairs = tables.0.iter().zip(tokens);
        pairs
            .map(|(table, token)| Some((table.name.to_string(), text(token)?)))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// A token that nobody else has.
pub(super) fn token() -> Bytes {
    format!("{:032x}", rand::random::<u128>()).into()
}

/// Invalidations that the cache has not confirmed yet. Until it has, answers about those tables are not to be used.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// By name, with the number of the last time it was added.
    tables: HashMap<Arc<str>, u64>,
    added: u64,
}

/// What was owed at some moment.
pub(super) struct Claim {
    pub(super) tables: Tables,
    numbers: Vec<u64>,
}

impl Owed {
    pub(super) fn add(&mut self, tables: &Tables) {
        self.added += 1;
        for table in tables.0.iter() {
            self.tables.insert(table.name.clone(), self.added);
        }
        if self.tables.len() > OWED_MAX {
            self.tables.clear();
            self.tables.insert(EVERYTHING.into(), self.added);
        }
    }

    pub(super) fn touches(&self, tables: &Tables) -> bool {
        !self.tables.is_empty() && tables.0.iter().any(|table| self.tables.contains_key(&table.name))
    }

    /// All that is owed; `None` when nothing is.
    pub(super) fn claim(&self) -> Option<Claim> {
        let tables = Tables::of(self.tables.keys().map(|name| &**name));
        let numbers = tables.0.iter().filter_map(|table| self.tables.get(&table.name).copied()).collect();
        (!self.tables.is_empty()).then_some(Claim { tables, numbers })
    }

    /// Takes off what was confirmed, unless it was added again meanwhile.
    pub(super) fn settle(&mut self, claim: &Claim) {
        for (table, number) in claim.tables.0.iter().zip(&claim.numbers) {
            if self.tables.get(&table.name) == Some(number) {
                self.tables.remove(&table.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_a_set_and_each_answer_depends_on_everything_too() {
        let tables = Tables::of(["orders", "items", "orders"]);
        assert_eq!(tables, Tables::of(["items", "orders"]));
        assert_eq!(tables.keys(), ["response-version:items", "response-version:orders"]);
        let everything = Tables::everything().keys()[0].to_owned();
        assert_eq!(tables.as_read().keys()[0], everything);
        assert_eq!(tables.as_read().as_read(), tables.as_read());
        assert_eq!(Tables::of([]).as_read().keys(), [everything]);
    }

    #[test]
    fn one_other_token_makes_other_versions() {
        let tables = Tables::of(["a", "b"]);
        let tokens = [token(), token()];
        assert_ne!(tokens[0], tokens[1]);
        let versions = Versions::of(&tables, &tokens).expect("tokens");
        assert_eq!(Versions::of(&tables, &tokens), Some(versions.clone()));
        assert_ne!(Versions::of(&tables, &[tokens[0].clone(), token()]), Some(versions));
        assert_eq!(Versions::of(&tables, &[tokens[0].clone(), Bytes::from_static(b"\xff")]), None);
    }

    #[test]
    fn what_is_added_again_while_it_is_being_settled_stays_owed() {
        let (a, b) = (Tables::of(["a"]), Tables::of(["b"]));
        let mut owed = Owed::default();
        assert!(owed.claim().is_none());
        owed.add(&a);
        owed.add(&b);
        let claim = owed.claim().expect("two are owed");
        assert_eq!(claim.tables, Tables::of(["a", "b"]));
        owed.add(&a);
        owed.settle(&claim);
        assert!(owed.touches(&a) && !owed.touches(&b));
        owed.settle(&owed.claim().expect("one is owed"));
        assert!(!owed.touches(&a) && owed.claim().is_none());
    }

    #[test]
    fn too_much_owed_is_everything_owed() {
        let mut owed = Owed::default();
        for n in 0..=OWED_MAX {
            owed.add(&Tables::of([format!("table{n}").as_str()]));
        }
        assert_eq!(owed.claim().expect("owed").tables, Tables::everything());
        assert!(owed.touches(&Tables::of(["any"]).as_read()));
    }
}
