//! A provider that only remembers, for tests of what drives flags.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::{Error, FeatureFlagProvider, bucket};

/// Flags in memory: the percentage and the users of each.
#[derive(Debug, Default)]
pub struct MockFeatureFlagProvider {
    /// By name.
    pub flags: Mutex<HashMap<String, (u8, Vec<String>)>>,
}

impl MockFeatureFlagProvider {
    /// Without flags.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more flag.
    #[must_use]
    pub fn with_flag(self, name: &str, percentage: u8) -> Self {
        self.change(name, |(known, _)| *known = percentage);
        self
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut (u8, Vec<String>))) {
        // A test that panicked while it looked has said what is wrong; the map is whole.
        let mut flags = self.flags.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(flags.entry(name.to_owned()).or_default());
    }
}

#[async_trait]
impl FeatureFlagProvider for MockFeatureFlagProvider {
    async fn set_percentage(&self, flag: &str, percentage: u8) -> Result<(), Error> {
        self.change(flag, |(known, _)| *known = percentage.min(100));
        Ok(())
    }

    async fn set_users(&self, flag: &str, users: &[String]) -> Result<(), Error> {
        self.change(flag, |(_, known)| users.clone_into(known));
        Ok(())
    }

    async fn is_enabled(&self, flag: &str, user: Option<&str>) -> Result<bool, Error> {
        let flags = self.flags.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some((percentage, users)) = flags.get(flag) else { return Ok(false) };
        Ok(user
            .is_some_and(|user| users.iter().any(|known| known == user) || bucket(user, flag) < *percentage))
    }
}
