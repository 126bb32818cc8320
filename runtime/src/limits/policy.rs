//! Which rules hold for a request. Pure.
//!
//! A quota of a minute is a sliding window and holds for a client at all replicas together. Every request counts towards
//! `minute`, a mutation towards `writes` too, so that reads go on when writes are used up; a route that has a limit of its
//! own counts for itself. A limit of a second is a token bucket of this instance.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::config::Mode;
use crate::config::auth::Tier;
use crate::config::limits::{Limits, Policy as Name};
use crate::resilience::limiter::bucket::Bucket;
use crate::resilience::limiter::window::Window;
use crate::resilience::limiter::{Ask, Rule};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// What a limit is called in headers, metrics and the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// Requests of a client in a minute.
    Minute,
    /// Mutations of a client in a minute.
    Writes,
    /// Requests of a client in an hour.
    Hour,
    /// Requests of a client at once.
    Burst,
    /// Requests of a client to one route in a minute.
    Endpoint,
    /// Requests of a client in a second, at this instance.
    ClientSecond,
    /// Requests of all in a second, at this instance.
    GlobalSecond,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Minute,
        Self::Writes,
        Self::Hour,
        Self::Burst,
        Self::Endpoint,
        Self::ClientSecond,
        Self::GlobalSecond,
    ];

    /// The label of metrics, and the name of the policy in headers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Writes => "writes",
            Self::Hour => "hour",
            Self::Burst => "burst",
            Self::Endpoint => "endpoint",
            Self::ClientSecond => "client_second",
            Self::GlobalSecond => "global_second",
        }
    }

    const fn id(self) -> u16 {
        self as u16
    }
}

/// Of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The caller's.
    pub tier: Tier,
    /// The matched route.
    pub route: &'a str,
    /// Whether it is known to change something.
    pub writes: bool,
}

/// The rules of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    minute: BTreeMap<Tier, (Rule, Rule)>,
    hour: Option<Rule>,
    burst: Option<Rule>,
    endpoints: BTreeMap<String, (u16, Rule)>,
    client_second: Option<Rule>,
    global_second: Rule,
    queue_for: Duration,
}

impl Policy {
    /// The rules that hold in a mode.
    pub fn new(table: &Limits, mode: Mode) -> Self {
        let name = table.policy(mode);
        let of_tier = |tier| match (name, tier) {
            (Name::LoadTest, _) => None,
            (Name::Checklist, _) => Some(table.checklist.per_minute),
            (Name::Uniform | Name::ByMode, _) | (Name::Tiers, Tier::Unset) => Some(table.default_rpm),
            (Name::Tiers, Tier::Anonymous) => Some(table.tiers.anonymous_rpm),
            (Name::Tiers, Tier::Authenticated) => Some(table.tiers.authenticated_rpm),
            (Name::Tiers, Tier::Admin) => Some(table.tiers.admin_rpm),
        };
        let minutes = |rpm: u32| {
            let writes = u64::from(rpm) * u64::from(table.writes_percent) / 100;
            let writes = u32::try_from(writes).unwrap_or(u32::MAX).max(1);
            (window(rpm, MINUTE), window(writes, MINUTE))
        };
        let minute = Tier::ALL.into_iter().filter_map(|tier| Some((tier, minutes(of_tier(tier)?)))).collect();
        let checklist = (name == Name::Checklist).then_some(&table.checklist);
        let first = Limit::GlobalSecond.id() + 1;
        let endpoints = table.per_endpoint.iter().zip(first..);
        let endpoints = endpoints.map(|((path, rpm), id)| (path.clone(), (id, window(*rpm, MINUTE))));
        let second = |qps| Rule::Bucket(Bucket::new(qps, qps));
        Self {
            minute,
            hour: checklist.map(|list| window(list.per_hour, HOUR)),
            burst: checklist.and_then(|list| burst(list.burst, list.per_minute)),
            endpoints: if name == Name::LoadTest { BTreeMap::new() } else { endpoints.collect() },
            client_second: (name != Name::LoadTest).then(|| second(table.client_max_qps)),
            global_second: match table.global_burst {
                0 => second(table.global_max_qps),
                burst => Rule::Bucket(Bucket::new(burst, table.global_max_qps)),
            },
            queue_for: table.queue_for,
        }
    }

    /// The quotas that all replicas share. Empty: none holds.
    pub fn quotas(&self, request: Request<'_>) -> Vec<(Limit, Ask)> {
        let mut quotas = Vec::with_capacity(4);
        let mut add = |limit: Limit, id, rule| quotas.push((limit, Ask::one(id, rule)));
        if let Some((minute, writes)) = self.minute.get(&request.tier) {
            add(Limit::Minute, Limit::Minute.id(), *minute);
            if request.writes {
                add(Limit::Writes, Limit::Writes.id(), *writes);
            }
        }
        if let Some(rule) = self.hour {
            add(Limit::Hour, Limit::Hour.id(), rule);
        }
        if let Some(rule) = self.burst {
            add(Limit::Burst, Limit::Burst.id(), rule);
        }
        if let Some((id, rule)) = self.endpoints.get(request.route) {
            add(Limit::Endpoint, *id, *rule);
        }
        quotas
    }

    /// What a request costs more when it turns out to change something.
    pub fn writes(&self, tier: Tier) -> Option<(Limit, Ask)> {
        self.minute.get(&tier).map(|(_, writes)| (Limit::Writes, Ask::one(Limit::Writes.id(), *writes)))
    }

    /// What a client may ask of this instance in a second.
    pub fn client_second(&self) -> Option<Ask> {
        let patience = self.queue_for;
        self.client_second.map(|rule| Ask { patience, ..Ask::one(Limit::ClientSecond.id(), rule) })
    }

    /// What all may ask of this instance in a second.
    pub fn global_second(&self) -> Ask {
        Ask { patience: self.queue_for, ..Ask::one(Limit::GlobalSecond.id(), self.global_second) }
    }
}

fn window(limit: u32, length: Duration) -> Rule {
    Rule::Window(Window::new(limit, length))
}

/// So many at once, and the rate of the minute.
fn burst(burst: u32, per_minute: u32) -> Option<Rule> {
    let per_minute = NonZeroU32::new(per_minute)?;
    let interval = MINUTE / per_minute.get();
    Some(Rule::Bucket(Bucket::every(burst, interval)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(policy: &Policy, tier: Tier, route: &str, writes: bool) -> Vec<(&'static str, u32)> {
        let quotas = policy.quotas(Request { tier, route, writes });
        quotas.into_iter().map(|(limit, ask)| (limit.label(), ask.rule.limit())).collect()
    }

    fn policy(name: Name) -> Policy {
        let mut table = Limits::default();
        table.policy = name;
        table.per_endpoint.insert("/admin/flags".to_owned(), 7);
        Policy::new(&table, Mode::Production)
    }

    #[test]
    fn three_identities_have_three_limits() {
        for policy in [policy(Name::Tiers), policy(Name::ByMode)] {
            let of = |tier| limits(&policy, tier, "/graphql", false);
            assert_eq!(of(Tier::Anonymous), [("minute", 10)]);
            assert_eq!(of(Tier::Authenticated), [("minute", 100)]);
            assert_eq!(of(Tier::Admin), [("minute", 1_000)]);
            assert_eq!(of(Tier::Unset), [("minute", 1_000)], "where no tier is set");
        }
    }

    #[test]
    fn the_mode_decides_unless_the_policy_is_named() {
        let development = Policy::new(&Limits::default(), Mode::Development);
        assert_eq!(limits(&development, Tier::Anonymous, "/graphql", false), [("minute", 1_000)]);
    }

    #[test]
    fn the_checklist_is_three_values() {
        let policy = policy(Name::Checklist);
        let told = limits(&policy, Tier::Admin, "/graphql", true);
        assert_eq!(told, [("minute", 100), ("writes", 50), ("hour", 1_000), ("burst", 20)]);
    }

    #[test]
    fn a_load_test_has_the_limits_of_the_instance_alone() {
        let policy = policy(Name::LoadTest);
        assert!(limits(&policy, Tier::Anonymous, "/admin/flags", true).is_empty());
        assert!(policy.writes(Tier::Anonymous).is_none() && policy.client_second().is_none());
        assert_eq!(policy.global_second().rule.limit(), 10_000);
    }

    #[test]
    fn all_together_may_come_at_once_as_many_as_in_a_second_or_as_many_as_is_said() {
        let mut table = Limits::default();
        let bucket = |table: &Limits| Policy::new(table, Mode::Production).global_second().rule;
        assert_eq!(bucket(&table), Rule::Bucket(Bucket::new(10_000, 10_000)));
        table.global_burst = 50;
        assert_eq!(bucket(&table), Rule::Bucket(Bucket::new(50, 10_000)));
    }

    #[test]
    fn a_route_may_have_its_own_limit_and_writes_theirs() {
        let policy = policy(Name::Tiers);
        let told = limits(&policy, Tier::Authenticated, "/admin/flags", true);
        assert_eq!(told, [("minute", 100), ("writes", 50), ("endpoint", 7)]);
        assert_eq!(policy.writes(Tier::Anonymous).map(|(_, ask)| ask.rule.limit()), Some(5));
    }

    #[test]
    fn every_rule_of_a_client_has_its_own_number() {
        let mut table = Limits::default();
        table.policy = Name::Checklist;
        table.per_endpoint.extend([("/a".to_owned(), 1), ("/b".to_owned(), 2)]);
        let policy = Policy::new(&table, Mode::Production);
        let asks = ["/a", "/b"].map(|route| {
            policy
                .quotas(Request { tier: Tier::Admin, route, writes: true })
                .into_iter()
                .map(|(_, ask)| ask.id)
        });
        let mut ids: Vec<u16> = asks.into_iter().flatten().collect();
        ids.extend([policy.global_second().id, policy.client_second().expect("one").id]);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids, [0, 1, 2, 3, 5, 6, 7, 8]);
    }
}
