//! What a backend cannot do is known before anything starts. Pure.

use std::collections::BTreeSet;

use super::timeline::Plan;
use crate::environment::BackendChoice;
use crate::environment::link::Dialect;
use crate::environment::stub::StubName;
use crate::verdict::{Criterion, Kind, Outcome};

/// A line for each fault that this run could not have: one on a process that it will not have started (servers of the
/// user's own are reached through proxies and never signalled; the server under test is always the run's own), or one on
/// a link whose proxy is made on a server that does not know it. `proxies` is that server's dialect.
pub fn not_possible(backend: &BackendChoice, proxies: Option<Dialect>, plan: &Plan) -> Vec<Criterion> {
    let mut seen = BTreeSet::new();
    let faults = plan.acts.iter().filter_map(|act| Some((act, reason(backend, proxies, &act.fault)?)));
    faults
        // Once for all rounds of a repeated scenario.
        .filter(|(act, _)| seen.insert((&act.scenario, &act.fault.id)))
        .map(|(act, (short, detail))| Criterion {
            name: format!("fault {}", act.fault.id),
            kind: Kind::Validity,
            outcome: Outcome::NotRun(short),
            detail,
            proof: vec![],
        })
        .collect()
}

/// In short, and with what to do.
fn reason(
    backend: &BackendChoice,
    proxies: Option<Dialect>,
    fault: &super::Fault,
) -> Option<(String, String)> {
    let kind = fault.inject.kind();
    if let Some(on_link) = fault.inject.on_link() {
        let lacks = proxies?.lacks(&on_link)?;
        let detail = format!(
            "`{kind}` on {}: {lacks}; run it through `chaos-proxy`, or without --toxiproxy",
            fault.target
        );
        return Some(("the Toxiproxy server does not have it".into(), detail));
    }
    let ours_in_any_case =
        ["runtime", super::LOAD].contains(&fault.target.as_str()) || StubName::of(&fault.target).is_some();
    let not_ours = matches!(backend, BackendChoice::External(_)) && !ours_in_any_case;
    not_ours.then(|| {
        (
            format!("the harness did not start {}", fault.target),
            format!("`{kind}` needs a process that the harness started; run it with --backend process or container"),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chaos::fault::NetworkFault;

    use super::super::timeline::Act;
    use super::super::{Fault, Inject, Start};
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
        let lines = not_possible(&BackendChoice::External(ExternalUrls::default()), None, &plan());
        let names: Vec<&str> = lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["fault postgres-kill", "fault redis-pause", "fault nats-terminate"]);
        assert_eq!(lines[0].outcome, Outcome::NotRun("the harness did not start postgres".into()));
    }

    #[test]
    fn own_services_take_every_fault() {
        for backend in [BackendChoice::Auto, BackendChoice::Container, BackendChoice::Process] {
            assert_eq!(not_possible(&backend, None, &plan()), vec![]);
            assert_eq!(not_possible(&backend, Some(Dialect::Faults), &plan()), vec![]);
        }
    }

    #[test]
    fn a_server_of_toxics_alone_is_not_asked_for_what_it_does_not_have() {
        let mut plan = plan();
        let delay = Duration::from_millis(100);
        let latency = NetworkFault::Latency { delay, jitter: Duration::ZERO, direction: Default::default() };
        plan.acts.push(act(1, "redis", Inject::Network(latency)));
        let lines = not_possible(&BackendChoice::Process, Some(Dialect::Toxics), &plan);
        let told: Vec<(&str, &str)> = lines.iter().map(|l| (l.name.as_str(), l.detail.as_str())).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, "fault redis-reset");
        assert!(told[0].1.starts_with("`reset` on redis: Toxiproxy's `reset_peer`"), "{told:?}");
    }
}
