//! Whether a flag is on. Pure.

use chrono::{DateTime, Utc};

use super::FeatureFlag;

/// Buckets of users.
const BUCKETS: u64 = 100;

/// Whether `flag` is on in `environment` for `user` at `now`. In this order: the environment, the time, the denylist, the
/// allowlist, on for everybody, and last the user's bucket, which somebody without a user has not.
pub fn evaluate(flag: &FeatureFlag, environment: &str, user: Option<&str>, now: DateTime<Utc>) -> bool {
    let here = flag.environments.is_empty() || flag.environments.iter().any(|name| name == environment);
    let now = flag.start_time.is_none_or(|start| start <= now) && flag.end_time.is_none_or(|end| now <= end);
    if !here || !now {
        return false;
    }
    if let Some(user) = user {
        if flag.user_denylist.contains(user) {
            return false;
        }
        if flag.user_allowlist.contains(user) {
            return true;
        }
    }
    flag.enabled || user.is_some_and(|user| bucket(user, &flag.name) < flag.percentage)
}

/// The bucket of a user for a flag, 0 to 99.
///
/// FNV-1a (64 bits, Fowler, Noll and Vo) over the user, a zero byte and the flag, then the finalizer of MurmurHash3 (Appleby),
/// since FNV's low bits are uneven for short texts; the remainder of 100. It must never change: a golden table holds it.
pub fn bucket(user: &str, flag: &str) -> u8 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = user.bytes().chain(std::iter::once(0)).chain(flag.bytes());
    let mut hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    u8::try_from(hash % BUCKETS).expect("below a hundred")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn set(names: &[&str]) -> HashSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_default_is_off_for_everybody() {
        let flag = FeatureFlag::default();
        assert_eq!((flag.name.as_str(), flag.description.as_str()), ("", ""));
        for user in [None, Some("a")] {
            assert!(!evaluate(&flag, "production", user, DateTime::UNIX_EPOCH));
        }
    }

    #[test]
    fn buckets_are_those_of_every_other_build() {
        let golden: Vec<String> =
            ["a", "user-1", "user-2", "usér-3", "", "0190f3c2-7b1e-7000-8000-000000000001"]
                .iter()
                .flat_map(|user| {
                    ["", "new_checkout", "rollout"]
                        .map(|flag| format!("{user:?} {flag:?} {}", bucket(user, flag)))
                })
                .collect();
        insta::assert_snapshot!(golden.join("\n"));
    }

    #[test]
    fn buckets_are_even_and_those_of_two_flags_have_nothing_to_do_with_each_other() {
        let (mut counts, mut both) = ([0u32; 100], 0);
        for n in 0..100_000 {
            let user = format!("user-{n}");
            let (one, other) = (bucket(&user, "one"), bucket(&user, "other"));
            counts[usize::from(one)] += 1;
            both += u32::from(one < 50 && other < 50);
        }
        // A thousand in each: five standard deviations are 157. A quarter of all: they are 685.
        assert!(counts.iter().all(|count| count.abs_diff(1_000) < 157), "{counts:?}");
        assert!(both.abs_diff(25_000) < 685, "{both}");
    }

    proptest! {
        #[test]
        fn the_order_of_the_rules_is_as_it_is_told(
            environments in prop::sample::select(vec![&[][..], &["here"], &["there"], &["there", "here"]]),
            start in prop::option::of(-2i64..=2), end in prop::option::of(-2i64..=2),
            denied in any::<bool>(), allowed in any::<bool>(), enabled in any::<bool>(), percentage in 0u8..=110,
            user in prop::option::of("[a-d]{1,3}"),
        ) {
            let now = DateTime::UNIX_EPOCH;
            let at = |offset: Option<i64>| offset.map(|offset| now + TimeDelta::seconds(offset));
            let of_user = |listed: bool| user.as_deref().filter(|_| listed).map_or_else(HashSet::new, |user| set(&[user]));
            let flag = FeatureFlag {
                name: "flag".to_owned(),
                enabled,
                percentage,
                user_allowlist: of_user(allowed),
                user_denylist: of_user(denied),
                start_time: at(start),
                end_time: at(end),
                environments: environments.iter().map(|&name| name.to_owned()).collect(),
                ..FeatureFlag::default()
            };
            let known = user.is_some();
            let expected = if !environments.is_empty() && !environments.contains(&"here")
                || start.is_some_and(|start| start > 0) || end.is_some_and(|end| end < 0)
                || known && denied
            {
                false
            } else if known && allowed || enabled {
                true
            } else {
                user.as_deref().is_some_and(|user| bucket(user, "flag") < percentage)
            };
            prop_assert_eq!(evaluate(&flag, "here", user.as_deref(), now), expected);
        }

        #[test]
        fn a_rollout_that_grows_takes_nobodys_feature_away(user in ".{0,40}", name in "[a-z_]{1,20}", low in 0u8..=100, more in 0u8..=100) {
            let on = |percentage| {
                let flag = FeatureFlag { name: name.clone(), percentage, ..FeatureFlag::default() };
                evaluate(&flag, "here", Some(&user), DateTime::UNIX_EPOCH)
            };
            prop_assert!(!on(low) || on(low.saturating_add(more)));
            prop_assert!(on(100) && !on(0));
        }
    }
}
