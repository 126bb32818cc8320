//! When each fault acts: scenarios placed on the time axis of a load, as one plan of injections and healings. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Fault, Inject, Scenario, Start};
use crate::load::profile::Stage;

/// A fault of one scenario with its times, counted from the start of that scenario's load.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// The fault's id in the file; in a [`Plan`] with the number of the repetition: `redis-refused#2`.
    pub id: String,
    /// Id of the scenario it belongs to.
    pub scenario: String,
    pub fault: Fault,
    pub inject: Duration,
    pub heal: Duration,
    /// Recovery budget after `heal`.
    pub budget: Duration,
    /// How long the steady state then has to hold to count as recovered.
    pub stable: Duration,
}

/// One scenario on the axis of a load.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    pub scenario: &'a Scenario,
    /// When its first fault acts, from the start of the load; `None`: where the file says.
    pub first_fault: Option<Duration>,
    /// Again after this long, as often as it fits.
    pub repeat: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Healing sorts before injecting at the same instant: two faults on one target may follow each other closely.
    Heal,
    Inject,
}

/// One thing to do; `act` is an index into [`Plan::acts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub at: Duration,
    pub action: Action,
    pub act: usize,
}

/// All faults of a run, by time of injection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub acts: Vec<Act>,
}

/// A plan that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("faults `{first}` and `{second}` act at once on {target}, from {at:?}")]
    Overlap { first: String, second: String, target: String, at: Duration },
    #[error(
        "fault `{fault}` heals at {heal:?} and may recover until {until:?}, but the load ends at {lasts:?}"
    )]
    TooLate { fault: String, heal: Duration, until: Duration, lasts: Duration },
    #[error("scenario `{scenario}` has `repeat = {repeat:?}`, shorter than the {span:?} it takes")]
    RepeatTooShort { scenario: String, repeat: Duration, span: Duration },
}

/// The faults of one scenario at the times its file says, in the order of the file.
pub fn acts(scenario: &Scenario) -> Vec<Act> {
    let mut healed: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut acts = Vec::with_capacity(scenario.faults.len());
    for fault in &scenario.faults {
        let inject = match &fault.start {
            Start::At(at) => *at,
            // The lint has refused references to later faults.
            Start::After { fault, delay } => healed.get(fault.as_str()).copied().unwrap_or_default() + *delay,
        };
        let heal = inject + fault.lasts;
        healed.insert(&fault.id, heal);
        acts.push(Act {
            id: fault.id.clone(),
            scenario: scenario.id.clone(),
            fault: fault.clone(),
            inject,
            heal,
            budget: scenario.recover.within,
            stable: scenario.recover.stable,
        });
    }
    acts
}

/// A surge begins so much after it is said to act: what it does must not be seen before that.
const SURGE_AFTER: Duration = Duration::from_millis(1_500);

/// The load of a scenario: its own rate, and while a surge acts, that of the surge.
pub fn stages(scenario: &Scenario) -> Vec<Stage> {
    let stage = |name: &str, rate: f64, duration: Duration, overload: bool| {
        (!duration.is_zero()).then(|| Stage {
            name: name.to_owned(),
            rate,
            to: None,
            duration,
            warm_up: false,
            overload,
        })
    };
    let mut surges: Vec<(Duration, Duration, String, f64)> = Vec::new();
    for act in acts(scenario) {
        if let Inject::Surge { rate } = act.fault.inject {
            surges.push((act.inject + SURGE_AFTER, act.heal, act.id, rate));
        }
    }
    surges.sort_by_key(|surge| surge.0);
    let (rate, lasts) = (scenario.load.rate, scenario.load.lasts);
    let mut stages = Vec::new();
    let mut now = Duration::ZERO;
    for (from, to, id, high) in surges {
        stages.extend(stage("steady", rate, from.saturating_sub(now), false));
        stages.extend(stage(&id, high, to.min(lasts).saturating_sub(from.max(now)), true));
        now = now.max(to);
    }
    stages.extend(stage("steady", rate, lasts.saturating_sub(now), false));
    stages
}

/// Two acts that touch one target at one time.
pub fn collide(a: &Act, b: &Act) -> bool {
    a.fault.target == b.fault.target && a.inject < b.heal && b.inject < a.heal
}

/// Places scenarios on a load that lasts `lasts`. The first round of each has to fit with its recovery; repetitions
/// that do not fit are left out.
pub fn plan(placements: &[Placement<'_>], lasts: Duration) -> Result<Plan, Error> {
    let mut all = Vec::new();
    for placement in placements {
        place(placement, lasts, &mut all)?;
    }
    all.sort_by_key(|act: &Act| (act.inject, act.id.clone()));
    for (i, a) in all.iter().enumerate() {
        // Sorted by injection: who starts after `a` has healed cannot overlap it.
        for b in all[i + 1..].iter().take_while(|b| b.inject < a.heal) {
            if collide(a, b) {
                let (first, second) = (a.id.clone(), b.id.clone());
                return Err(Error::Overlap { first, second, target: a.fault.target.clone(), at: b.inject });
            }
        }
    }
    Ok(Plan { acts: all })
}

fn place(placement: &Placement<'_>, lasts: Duration, all: &mut Vec<Act>) -> Result<(), Error> {
    let own = acts(placement.scenario);
    let Some(first) = own.iter().map(|act| act.inject).min() else { return Ok(()) };
    let until = own.iter().map(|act| act.heal + act.budget + act.stable).max().unwrap_or_default();
    let start = placement.first_fault.unwrap_or(first);
    if let Some(repeat) = placement.repeat
        && repeat < until - first
    {
        let scenario = placement.scenario.id.clone();
        return Err(Error::RepeatTooShort { scenario, repeat, span: until - first });
    }
    let mut offset = start;
    for round in 1.. {
        let shift = |t: Duration| t - first + offset;
        if shift(until) > lasts {
            if round == 1 {
                let last = own.iter().max_by_key(|act| act.heal).expect("there is a first fault");
                let (heal, until) = (shift(last.heal), shift(until));
                return Err(Error::TooLate { fault: last.id.clone(), heal, until, lasts });
            }
            break;
        }
        all.extend(own.iter().map(|act| Act {
            id: format!("{}#{round}", act.id),
            inject: shift(act.inject),
            heal: shift(act.heal),
            ..act.clone()
        }));
        match placement.repeat {
            Some(repeat) => offset += repeat,
            None => break,
        }
    }
    Ok(())
}

impl Plan {
    /// Everything to do, in order of time.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .acts
            .iter()
            .enumerate()
            .flat_map(|(act, a)| {
                [
                    Step { at: a.inject, action: Action::Inject, act },
                    Step { at: a.heal, action: Action::Heal, act },
                ]
            })
            .collect();
        steps.sort();
        steps
    }

    /// Times that general objectives do not read: fault and recovery budget, merged, in nanoseconds from the start of
    /// the load plus `epoch_ns`.
    pub fn excluded(&self, epoch_ns: u64) -> Vec<(u64, u64)> {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for act in &self.acts {
            let (from, to) = (epoch_ns + nanos(act.inject), epoch_ns + nanos(act.heal + act.budget));
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        merged
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::file::parse;
    use super::*;

    fn scenario(id: &str, target: &str, at: u64, lasts: u64, within: u64) -> Scenario {
        let text = format!(
            r#"
            schema = "scenario/v1"
            id = "{id}"
            title = "t"
            why = "w"
            seed = 1
            budget = "1h"
            load = {{ arrival = "10/s", clients = 1, lasts = "50m", mix = {{ createOrder = 1 }} }}
            steady_state = {{ window = "1s", checks = [] }}
            invariants = {{ no-acked-write-lost = {{}} }}
            recover = {{ within = "{within}s", stable = "1s" }}
            [[fault]]
            id = "{id}"
            on = "{target}"
            inject.refuse = {{}}
            start = {{ at = "{at}s" }}
            stop = {{ lasts = "{lasts}s" }}
            "#
        );
        parse(&text, id).expect("a sound scenario")
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_surge_is_a_stage_of_the_load_and_the_rest_keeps_its_rate() {
        let mut calm = scenario("calm", "redis", 10, 15, 5);
        let stages_of = |scenario: &Scenario| -> Vec<(f64, u128, bool)> {
            let stages = stages(scenario).into_iter();
            stages.map(|stage| (stage.rate, stage.duration.as_millis(), stage.overload)).collect()
        };
        assert_eq!(stages_of(&calm), [(10.0, 3_000_000, false)]);
        calm.faults[0].inject = Inject::Surge { rate: 500.0 };
        assert_eq!(
            stages_of(&calm),
            [(10.0, 11_500, false), (500.0, 13_500, true), (10.0, 2_975_000, false)]
        );
        calm.faults[0].start = Start::At(Duration::ZERO);
        assert_eq!(stages_of(&calm), [(10.0, 1_500, false), (500.0, 13_500, true), (10.0, 2_985_000, false)]);
    }

    #[test]
    fn repetitions_that_do_not_fit_are_left_out() {
        let redis = scenario("redis", "redis", 10, 15, 5);
        let slot = Placement { scenario: &redis, first_fault: Some(secs(25)), repeat: Some(secs(60)) };
        let plan = plan(&[slot], secs(120)).expect("fits");
        let times: Vec<_> = plan.acts.iter().map(|a| (a.id.as_str(), a.inject, a.heal)).collect();
        assert_eq!(times, [("redis#1", secs(25), secs(40)), ("redis#2", secs(85), secs(100))]);
        assert_eq!(plan.excluded(0), [(25_000_000_000, 45_000_000_000), (85_000_000_000, 105_000_000_000)]);
    }

    #[test]
    fn a_first_round_that_does_not_fit_is_an_error() {
        let redis = scenario("redis", "redis", 10, 15, 5);
        let slot = Placement { scenario: &redis, first_fault: Some(secs(25)), repeat: None };
        assert!(matches!(plan(&[slot], secs(42)), Err(Error::TooLate { .. })));
    }

    #[test]
    fn two_faults_at_once_on_one_target_are_refused() {
        let (a, b) = (scenario("a", "redis", 10, 15, 5), scenario("b", "redis", 20, 15, 5));
        let own = |scenario| Placement { scenario, first_fault: None, repeat: None };
        assert!(matches!(plan(&[own(&a), own(&b)], secs(100)), Err(Error::Overlap { .. })));
    }

    proptest! {
        #[test]
        fn every_injection_is_healed_once_and_inside_the_load(
            slots in proptest::collection::vec((0u64..200, 1u64..20, 1u64..10, proptest::option::of(40u64..90)), 1..4),
            lasts in 200u64..600,
        ) {
            let targets = ["postgres", "redis", "nats"];
            let scenarios: Vec<Scenario> = slots
                .iter()
                .zip(targets)
                .map(|((_, lasts, within, _), target)| scenario(target, target, 5, *lasts, *within))
                .collect();
            let placements: Vec<Placement<'_>> = scenarios
                .iter()
                .zip(&slots)
                .map(|(scenario, (start, _, _, repeat))| Placement {
                    scenario,
                    first_fault: Some(secs(*start)),
                    repeat: repeat.map(secs),
                })
                .collect();
            let Ok(plan) = plan(&placements, secs(lasts)) else { return Ok(()) };
            let steps = plan.steps();
            prop_assert_eq!(steps.len(), plan.acts.len() * 2);
            prop_assert!(steps.windows(2).all(|pair| pair[0].at <= pair[1].at));
            for (i, act) in plan.acts.iter().enumerate() {
                let own: Vec<Action> = steps.iter().filter(|s| s.act == i).map(|s| s.action).collect();
                prop_assert_eq!(own, vec![Action::Inject, Action::Heal]);
                prop_assert!(act.heal + act.budget <= secs(lasts));
            }
            let excluded = plan.excluded(7);
            prop_assert!(excluded.windows(2).all(|pair| pair[0].1 < pair[1].0));
            for act in &plan.acts {
                let (from, to) = (7 + nanos(act.inject), 7 + nanos(act.heal));
                prop_assert!(excluded.iter().any(|(a, b)| *a <= from && to <= *b));
            }
        }
    }
}
