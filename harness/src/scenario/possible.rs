//! What a backend cannot do is known before anything starts. Pure.

use std::collections::BTreeSet;

use super::Inject;
use super::timeline::Plan;
use crate::environment::BackendChoice;
use crate::verdict::{Criterion, Kind, Outcome};

/// A line for each fault that needs a process which the run will not have started: servers of the user's own are reached
/// through proxies and never signalled. The server under test is always the run's own.
pub fn not_possible(backend: &BackendChoice, plan: &Plan) -> Vec<Criterion> {
    if !matches!(backend, BackendChoice::External(_)) {
        return vec![];
    }
    let mut seen = BTreeSet::new();
    let line = |fault: &super::Fault| Criterion {
        name: format!("fault {}", fault.id),
        kind: Kind::Validity,
        outcome: Outcome::NotRun(format!("the harness did not start {}", fault.target)),
        detail: format!(
            "`{}` needs a process that the harness started; run it with --backend process or container",
            fault.inject.kind()
        ),
        proof: vec![],
    };
    plan.acts
        .iter()
        .filter(|act| {
            let on_link = matches!(act.fault.inject, Inject::Network(_) | Inject::Wire(_));
            !on_link && act.fault.target != "runtime"
        })
        // Once for all rounds of a repeated scenario.
        .filter(|act| seen.insert((&act.scenario, &act.fault.id)))
        .map(|act| line(&act.fault))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chaos::fault::NetworkFault;

    use super::super::timeline::Act;
    use super::super::{Fault, Start};
    use super::*;
    use crate::environment::ExternalUrls;

    fn act(round: u32, target: &str, inject: Inject) -> Act {
        let fault = Fault {
            id: format!("{target}-{}", inject.kind()),
            target: target.into(),
            inject,
            start: Start::At(Duration::from_secs(1)),
            lasts: Duration::from_secs(1),
            evidence: Default::default(),
        };
        Act {
            id: format!("{}#{round}", fault.id),
            scenario: "s".into(),
            fault,
            inject: Duration::from_secs(1),
            heal: Duration::from_secs(2),
            budget: Duration::from_secs(1),
            stable: Duration::from_secs(1),
        }
    }

    fn plan() -> Plan {
        let restart = Inject::Terminate { grace: Duration::from_secs(1) };
        Plan {
            acts: vec![
                act(1, "postgres", Inject::Kill),
                act(1, "redis", Inject::Pause),
                act(1, "nats", restart),
                act(1, "runtime", Inject::Kill),
                act(1, "redis", Inject::Network(NetworkFault::Reset {})),
                act(2, "postgres", Inject::Kill),
            ],
        }
    }

    #[test]
    fn processes_of_others_are_not_touched_and_links_and_our_own_server_are() {
        let lines = not_possible(&BackendChoice::External(ExternalUrls::default()), &plan());
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["fault postgres-kill", "fault redis-pause", "fault nats-terminate"]);
        assert_eq!(lines[0].outcome, Outcome::NotRun("the harness did not start postgres".into()));
    }

    #[test]
    fn own_services_take_every_fault() {
        for backend in [BackendChoice::Auto, BackendChoice::Container, BackendChoice::Process] {
            assert_eq!(not_possible(&backend, &plan()), vec![]);
        }
    }
}
