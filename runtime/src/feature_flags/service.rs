//! The flags of this process: a table that is replaced as a whole, so that whoever asks takes no lock. What was answered is
//! counted by flag, relaxed: the counts are right in the end and cost nobody a wait.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use chrono::DateTime;

use super::{Error, FeatureFlag, FeatureFlagProvider, evaluate};
use crate::clock::{Clock, SystemClock};

/// Flags, asked by name. Clones share them.
#[derive(Debug, Clone)]
pub struct FeatureFlagService {
    environment: Arc<str>,
    clock: Arc<dyn Clock>,
    flags: Arc<ArcSwap<Table>>,
}

type Table = HashMap<String, Entry>;

/// A flag and how often it was what. The counts stay when the flag is changed.
#[derive(Debug, Clone)]
struct Entry {
    flag: Arc<FeatureFlag>,
    asked: Arc<[AtomicU64; 2]>,
}

impl Entry {
    fn new(flag: FeatureFlag, before: Option<&Self>) -> Self {
        let asked = before.map_or_else(Arc::default, |entry| entry.asked.clone());
        Self { flag: Arc::new(flag), asked }
    }
}

/// How often a flag was asked for, and answered how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The flag.
    pub flag: String,
    /// Answers "off".
    pub off: u64,
    /// Answers "on".
    pub on: u64,
}

impl FeatureFlagService {
    /// A service of this environment without flags.
    pub fn new(environment: &str) -> Self {
        Self::with_clock(environment, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), by this clock.
    pub fn with_clock(environment: &str, clock: Arc<dyn Clock>) -> Self {
        Self { environment: environment.into(), clock, flags: Arc::default() }
    }

    /// Adds flags, or puts them in the place of those with their names; others stay.
    pub async fn load_flags(&self, flags: Vec<FeatureFlag>) {
        self.change(|table| {
            for flag in &flags {
                let entry = Entry::new(flag.clone(), table.get(&flag.name));
                table.insert(flag.name.clone(), entry);
            }
        });
    }

    /// Has these flags and no others; answers how many differ from those before.
    pub fn replace(&self, flags: Vec<FeatureFlag>) -> usize {
        let before = self.flags.load_full();
        let same = |flag: &FeatureFlag| before.get(&flag.name).is_some_and(|entry| *entry.flag == *flag);
        let new = flags.iter().filter(|flag| !same(flag)).count();
        let names: HashSet<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
        let gone = before.keys().filter(|name| !names.contains(name.as_str())).count();
        if new + gone > 0 {
            self.change(|table| {
                let entry = |flag: &FeatureFlag| Entry::new(flag.clone(), table.get(&flag.name));
                *table = flags.iter().map(|flag| (flag.name.clone(), entry(flag))).collect();
            });
        }
        new + gone
    }

    /// Whether a flag is on, for a user or for nobody. An unknown one is off, and the log says that it is unknown.
    pub async fn is_enabled(&self, flag_name: &str, user_id: Option<&str>) -> bool {
        self.is_on(flag_name, user_id)
    }

    /// As [`is_enabled`](Self::is_enabled), where nobody waits.
    pub fn is_on(&self, flag_name: &str, user_id: Option<&str>) -> bool {
        self.ask(flag_name, user_id).unwrap_or_else(|| {
            tracing::warn!(flag = flag_name, "Unknown feature flag");
            false
        })
    }

    /// As [`is_on`](Self::is_on), and `None` for an unknown flag, of which nothing is logged.
    pub fn ask(&self, flag_name: &str, user_id: Option<&str>) -> Option<bool> {
        let flags = self.flags.load();
        let Entry { flag, asked } = flags.get(flag_name)?;
        let timeless = flag.start_time.is_none() && flag.end_time.is_none();
        let now = if timeless { DateTime::UNIX_EPOCH } else { self.clock.utc() };
        let on = evaluate(flag, &self.environment, user_id, now);
        asked[usize::from(on)].fetch_add(1, Ordering::Relaxed);
        Some(on)
    }

    /// How often each flag was asked for since it is known.
    pub fn asked(&self) -> Vec<Asked> {
        let count = |entry: &Entry, on: bool| entry.asked[usize::from(on)].load(Ordering::Relaxed);
        let asked = |(name, entry): (&String, &Entry)| Asked {
            flag: name.clone(),
            off: count(entry, false),
            on: count(entry, true),
        };
        let mut all: Vec<_> = self.flags.load().iter().map(asked).collect();
        all.sort_unstable_by(|a, b| a.flag.cmp(&b.flag));
        all
    }

    /// A flag as it is now.
    pub fn flag(&self, flag_name: &str) -> Option<FeatureFlag> {
        self.flags.load().get(flag_name).map(|entry| FeatureFlag::clone(&entry.flag))
    }

    /// Every flag, by name.
    pub fn flags(&self) -> Vec<FeatureFlag> {
        let mut flags: Vec<_> =
            self.flags.load().values().map(|entry| FeatureFlag::clone(&entry.flag)).collect();
        flags.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        flags
    }

    /// Sets for how many of a hundred users a flag is on, at most 100; an unknown flag is made.
    pub async fn set_percentage(&self, flag_name: &str, percentage: u8) {
        let percentage = percentage.min(100);
        self.change_flag(flag_name, |flag| flag.percentage = percentage);
        tracing::info!(flag = flag_name, percentage, "Feature flag percentage updated");
    }

    /// Adds users that a flag is on for; an unknown flag is made.
    pub async fn add_users(&self, flag_name: &str, users: &[String]) {
        self.change_flag(flag_name, |flag| flag.user_allowlist.extend(users.iter().cloned()));
    }

    /// There is nothing to empty, since nothing is remembered of who asked: kept for those who call it.
    pub async fn clear_cache(&self) {}

    fn change_flag(&self, name: &str, change: impl Fn(&mut FeatureFlag)) {
        self.change(|table| {
            let known = table.get(name).map(|entry| FeatureFlag::clone(&entry.flag));
            let mut flag =
                known.unwrap_or_else(|| FeatureFlag { name: name.to_owned(), ..FeatureFlag::default() });
            change(&mut flag);
            let entry = Entry::new(flag, table.get(name));
            table.insert(name.to_owned(), entry);
        });
    }

    /// Two who change at the same time both have their change: the later one begins again from the other's.
    fn change(&self, change: impl Fn(&mut Table)) {
        self.flags.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
    }
}

#[async_trait]
impl FeatureFlagProvider for FeatureFlagService {
    async fn set_percentage(&self, flag: &str, percentage: u8) -> Result<(), Error> {
        Self::set_percentage(self, flag, percentage).await;
        Ok(())
    }

    async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), Error> {
        self.change_flag(flag, |flag| flag.user_allowlist = users.iter().cloned().collect());
        Ok(())
    }

    async fn turn_off(&self, flag: &str) -> Result<(), Error> {
        self.change_flag(flag, FeatureFlag::turn_off);
        Ok(())
    }

    async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, Error> {
        Ok(self.is_on(flag, user))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::*;
    use crate::clock::TestClock;

    fn flag(name: &str) -> FeatureFlag {
        FeatureFlag { name: name.to_owned(), enabled: true, ..FeatureFlag::default() }
    }

    #[tokio::test]
    async fn a_flag_ends_when_its_time_is_over_however_often_it_was_asked() {
        let clock = Arc::new(TestClock::default());
        let service = FeatureFlagService::with_clock("production", clock.clone());
        let end_time = Some(DateTime::UNIX_EPOCH + TimeDelta::seconds(60));
        service.load_flags(vec![FeatureFlag { end_time, ..flag("sale") }]).await;
        for seconds in [0, 59, 1] {
            clock.advance(Duration::from_secs(seconds));
            assert!(service.is_enabled("sale", Some("a")).await, "the end itself is within");
        }
        clock.advance(Duration::from_nanos(1));
        assert!(!service.is_enabled("sale", Some("a")).await);
        service.clear_cache().await;
        assert!(!service.is_enabled("sale", Some("a")).await);
    }

    #[tokio::test]
    async fn loading_replaces_by_name_and_keeps_the_others() {
        let service = FeatureFlagService::new("production");
        service.load_flags(vec![flag("a"), flag("b")]).await;
        service.load_flags(vec![FeatureFlag { enabled: false, ..flag("a") }]).await;
        assert!(!service.is_on("a", None) && service.is_on("b", None));
        let names: Vec<String> = service.flags().into_iter().map(|flag| flag.name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[tokio::test]
    async fn users_are_added_by_the_service_and_replaced_by_the_provider() {
        let service = FeatureFlagService::new("production");
        let users = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        service.add_users("beta", &users(&["ada"])).await;
        service.add_users("beta", &users(&["bob"])).await;
        assert!(service.is_on("beta", Some("ada")) && service.is_on("beta", Some("bob")));
        let provider: &dyn FeatureFlagProvider = &service;
        provider.set_users("beta", &users(&["cy"])).await.expect("kept");
        provider.set_percentage("beta", 250).await.expect("kept");
        assert_eq!(service.flag("beta").expect("made").percentage, 100);
        provider.set_percentage("beta", 0).await.expect("kept");
        let on = ["ada", "bob", "cy"].map(|user| service.is_on("beta", Some(user)));
        assert_eq!(on, [false, false, true]);
    }

    #[tokio::test]
    async fn what_replaces_them_all_keeps_the_counts_of_those_that_stay() {
        let service = FeatureFlagService::new("production");
        service.load_flags(vec![flag("a"), flag("b"), flag("c")]).await;
        assert_eq!(
            (service.ask("a", None), service.ask("a", None), service.ask("none", None)),
            (Some(true), Some(true), None)
        );
        assert_eq!(service.replace(vec![flag("c"), flag("b"), flag("a")]), 0, "the order is nothing");
        let changed =
            service.replace(vec![FeatureFlag { enabled: false, ..flag("a") }, flag("c"), flag("d")]);
        assert_eq!(changed, 3, "one changed, one new, one gone");
        assert_eq!(service.ask("a", None), Some(false));
        assert_eq!(service.ask("b", None), None);
        let counts: Vec<_> =
            service.asked().into_iter().map(|asked| (asked.flag, asked.off, asked.on)).collect();
        assert_eq!(counts, [("a".to_owned(), 1, 2), ("c".to_owned(), 0, 0), ("d".to_owned(), 0, 0)]);
    }

    #[tokio::test]
    async fn turned_off_it_is_off_for_everybody_it_was_on_for() {
        let service = FeatureFlagService::new("production");
        let listed = FeatureFlag { percentage: 100, user_allowlist: ["ada".to_owned()].into(), ..flag("a") };
        service.load_flags(vec![listed]).await;
        FeatureFlagProvider::turn_off(&service, "a").await.expect("off");
        FeatureFlagProvider::turn_off(&service, "b").await.expect("made");
        let on = [None, Some("ada"), Some("bob")].map(|user| service.is_on("a", user));
        assert_eq!((on, service.ask("b", None)), ([false; 3], Some(false)));
    }

    #[test]
    fn changes_at_the_same_time_are_all_kept() {
        let service = FeatureFlagService::new("production");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let service = &service;
                scope.spawn(move || {
                    for n in 0..50 {
                        service.change_flag("many", |flag| {
                            flag.user_allowlist.insert(format!("{thread}-{n}"));
                        });
                    }
                });
            }
        });
        assert_eq!(service.flag("many").expect("made").user_allowlist.len(), 200);
    }
}
