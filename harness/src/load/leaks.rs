//! Leak and slow-down tests on the samples and windows of a run.
use std::collections::BTreeMap;
use std::time::Duration;

use super::profile::Profile;
use crate::observe::recorder::Second;
use crate::verdict::Criterion;

/// Placeholder signature.
pub fn judge(
    _profile: &Profile,
    _duration: Duration,
    _samples: &BTreeMap<String, Vec<(u64, f64)>>,
    _windows: &[Second],
    _excluded: &[(u64, u64)],
) -> Vec<Criterion> {
    Vec::new()
}
