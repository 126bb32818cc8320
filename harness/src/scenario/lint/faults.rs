//! Faults: what they act on, when they start and stop, and what they have to touch.

use std::collections::BTreeSet;
use std::time::Duration;

use chaos::fault::NetworkFault;

use super::Lint;
use crate::environment::ServiceName;
use crate::environment::stub::StubName;
use crate::scenario::evidence::Wanted;
use crate::scenario::file;
use crate::scenario::inject::{ChangeFault, Inject as Written, LoadFault, ProcessFault, StubFault};
use crate::scenario::{Fault, Inject, LOAD, Start, TARGETS, suggest};

impl Lint {
    pub(super) fn faults(&mut self, written: &file::Written) -> Vec<Fault> {
        let ids: Vec<&str> = written.fault.iter().map(|f| f.id.get_ref().as_str()).collect();
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        for fault in &written.fault {
            let id = fault.id.get_ref();
            if !seen.insert(id) {
                let message = format!("two faults are called `{id}`");
                self.say("S022", fault.id.span(), message, "used before", String::new());
            }
            self.target(fault, written);
            let (inject, lasts) = self.inject(fault);
            let start = self.start(fault, &ids);
            let evidence = self.evidence(fault, &inject);
            let target = fault.on.get_ref().clone();
            faults.push(Fault { id: id.clone(), target, inject, start, lasts, evidence });
        }
        faults
    }

    fn target(&mut self, fault: &file::Fault, written: &file::Written) {
        let (id, on) = (fault.id.get_ref(), fault.on.get_ref());
        if !TARGETS.contains(&on.as_str()) {
            let message = format!("fault `{id}` acts on `{on}`, which is not part of the topology");
            let help = suggest::help(on, "declared", &TARGETS);
            self.say("S010", fault.on.span(), message, "unknown dependency", help);
        }
        let process = matches!(fault.inject.get_ref(), Written::Process(_));
        let change = matches!(fault.inject.get_ref(), Written::Change(_));
        if change && (on != "runtime" || written.topology.behind.is_none()) {
            let message = format!("fault `{id}` is a rollout of nothing that the server has");
            let help = "write `on = \"runtime\"` and `behind = { field, flag, function, sql }` in [topology]"
                .to_owned();
            self.say("S023", fault.on.span(), message, "no field is behind a flag", help);
        }
        if let Written::Wire(wire) = fault.inject.get_ref()
            && ServiceName::of(wire.protocol()).as_str() != on
        {
            let kind = wire.kind();
            let link = ServiceName::of(wire.protocol());
            let message = format!("fault `{id}` is {kind} and acts on `{on}`, where nobody speaks that");
            let help = format!("write `on = \"{link}\"`, or choose a fault that `{on}` can have");
            self.say("S023", fault.on.span(), message, "other protocol", help);
        }
        if let Written::Network(network) = fault.inject.get_ref()
            && let Some(problem) = network.problem()
        {
            let message = format!("fault `{id}` is {} and cannot be one with its values", network.kind());
            self.say("S024", fault.inject.span(), message, "does nothing sensible", problem);
        }
        let callers = matches!(fault.inject.get_ref(), Written::Load(_));
        if callers != (on == LOAD) {
            let message = format!("fault `{id}` acts on `{on}`: a surge is of the load, and nothing else is");
            let help = "write `on = \"load\"` with `inject.surge`, or choose another fault".to_owned();
            self.say("S023", fault.on.span(), message, "not what it acts on", help);
        }
        let stub = StubName::of(on);
        if matches!(fault.inject.get_ref(), Written::Stub(_)) != stub.is_some() {
            let message =
                format!("fault `{id}` acts on `{on}`: `answer` is what webhook, slack and email do");
            let help = "write `on = \"webhook\"` with `inject.answer`, or choose another fault".to_owned();
            self.say("S023", fault.on.span(), message, "not what it acts on", help);
        } else if stub.is_some() && !written.topology.stubs.iter().any(|name| name.get_ref() == on) {
            let message = format!("fault `{id}` acts on `{on}`, for which nobody stands in");
            let help = format!("add `stubs = [\"{on}\"]` to [topology]");
            self.say("S010", fault.on.span(), message, "not part of the topology", help);
        }
        if let Written::Process(ProcessFault::Memory { used_percent }) = fault.inject.get_ref() {
            if on != "runtime" {
                let message = format!("fault `{id}` makes memory scarce for `{on}`, which may run elsewhere");
                let help = "write `on = \"runtime\"`".to_owned();
                self.say("S023", fault.on.span(), message, "not the run's own process", help);
            }
            if !(1..=100).contains(used_percent) {
                let message = format!("fault `{id}` uses {used_percent} % of the memory");
                let help = "`used_percent` is 1 to 100".to_owned();
                self.say("S024", fault.inject.span(), message, "no share", help);
            }
        }
        if on == "runtime" && !process && !callers && !change {
            let message = format!("fault `{id}` acts on a link, and `runtime` is not behind a proxy");
            let help = "use kill, pause, memory or terminate, or act on postgres, redis or nats".to_owned();
            self.say("S023", fault.on.span(), message, "has no link", help);
        }
    }

    fn inject(&mut self, fault: &file::Fault) -> (Inject, Duration) {
        let stop = fault.stop.as_ref().map(|stop| stop.get_ref().lasts.0);
        let (inject, own) = match fault.inject.get_ref().clone() {
            Written::Network(fault) => (Inject::Network(fault), None),
            Written::Wire(fault) => (Inject::Wire(fault), None),
            Written::Process(ProcessFault::Kill { restart_after }) => (Inject::Kill, Some(restart_after)),
            Written::Process(ProcessFault::Pause {}) => (Inject::Pause, None),
            Written::Process(ProcessFault::Memory { used_percent }) => {
                (Inject::Memory { used_percent }, None)
            }
            Written::Change(ChangeFault::Rollout(plan)) => {
                (Inject::Rollout { plan: serde_json::to_value(plan).unwrap_or_default() }, None)
            }
            Written::Load(LoadFault::Surge { arrival }) => {
                let rate = super::load::rate(&arrival).unwrap_or_else(|| {
                    let message = format!("fault `{}` has no rate in `{arrival}`", fault.id.get_ref());
                    self.say(
                        "S024",
                        fault.inject.span(),
                        message,
                        "not a rate",
                        super::load::RATE.to_owned(),
                    );
                    1.0
                });
                (Inject::Surge { rate }, None)
            }
            Written::Stub(StubFault::Answer { status, at_once }) => {
                if !(400..=599).contains(&status) {
                    let message =
                        format!("fault `{}` answers with {status}, which is no error", fault.id.get_ref());
                    let help = "a status of HTTP or SMTP from 400 to 599".to_owned();
                    self.say("S024", fault.inject.span(), message, "does nothing sensible", help);
                }
                (Inject::Answer { status, at_once }, None)
            }
            Written::Process(ProcessFault::Terminate { grace, restart_after }) => {
                (Inject::Terminate { grace }, Some(restart_after))
            }
        };
        if let (Some(_), Some(stop)) = (own, &fault.stop) {
            let message = format!("fault `{}` says twice when it ends", fault.id.get_ref());
            let help = "`restart_after` is its end; remove `stop`".to_owned();
            self.say("S012", stop.span(), message, "second end", help);
        }
        match own.or(stop) {
            Some(lasts) if !lasts.is_zero() => (inject, lasts),
            _ => {
                let message = format!("fault `{}` never stops", fault.id.get_ref());
                let help = "add `stop = { lasts = \"15s\" }`".to_owned();
                self.say("S012", fault.inject.span(), message, "would act for ever", help);
                (inject, Duration::from_secs(1))
            }
        }
    }

    fn start(&mut self, fault: &file::Fault, ids: &[&str]) -> Start {
        let start = fault.start.get_ref();
        let delay = start.delay.map_or(Duration::ZERO, |d| d.0);
        match (&start.at, &start.after) {
            (Some(at), None) => return Start::At(at.0 + delay),
            (None, Some(after)) => {
                let other = after.get_ref().strip_prefix("fault:").unwrap_or_default();
                let earlier: Vec<&str> =
                    ids.iter().copied().take_while(|id| *id != fault.id.get_ref()).collect();
                if earlier.contains(&other) {
                    return Start::After { fault: other.to_owned(), delay };
                }
                let message = format!(
                    "fault `{}` starts after `{}`, which is no earlier fault",
                    fault.id.get_ref(),
                    after.get_ref()
                );
                let named: Vec<String> = earlier.iter().map(|id| format!("fault:{id}")).collect();
                let named: Vec<&str> = named.iter().map(String::as_str).collect();
                let help = suggest::help(after.get_ref(), "earlier faults", &named);
                self.say("S011", after.span(), message, "not declared above", help);
            }
            _ => {
                let message = format!("fault `{}` needs one start", fault.id.get_ref());
                let help =
                    "write `{ at = \"10s\" }` or `{ after = \"fault:ID\", delay = \"2s\" }`".to_owned();
                self.say("S025", fault.start.span(), message, "either `at` or `after`", help);
            }
        }
        Start::At(Duration::ZERO)
    }

    fn evidence(&mut self, fault: &file::Fault, inject: &Inject) -> Wanted {
        let Some(written) = &fault.evidence else { return default_evidence(inject) };
        let e = written.get_ref();
        let wanted = Wanted {
            refused: e.min_refused,
            unanswered: e.min_unanswered,
            reset: e.min_reset,
            connections: e.min_connections,
            delayed_bytes: e.min_delayed_bytes,
            swallowed_bytes: e.min_swallowed_bytes,
            forwarded_bytes: e.min_forwarded_bytes,
            corrupted_bytes: e.min_corrupted_bytes,
            duplicated_bytes: e.min_duplicated_bytes,
            processes: e.min_processes,
            arrivals: e.min_arrivals,
            matched: e.min_matched,
            acted: e.min_acted,
        };
        if wanted.is_empty() {
            let message = format!("fault `{}` asks for no evidence that it bit", fault.id.get_ref());
            let help = "name what it has to touch (`min_refused = 1`), or remove `evidence` for the default"
                .to_owned();
            self.say("S021", written.span(), message, "proves nothing", help);
        }
        wanted
    }
}

/// The least that shows a fault of this kind was a test.
fn default_evidence(inject: &Inject) -> Wanted {
    let none = Wanted::default();
    match inject {
        Inject::Network(fault) => of_link(fault),
        Inject::Wire(_) | Inject::Answer { .. } => Wanted { acted: 1, ..none },
        Inject::Kill | Inject::Pause | Inject::Memory { .. } | Inject::Terminate { .. } => {
            Wanted { processes: 1, ..none }
        }
        Inject::Surge { .. } => Wanted { arrivals: 1, ..none },
        Inject::Rollout { .. } => Wanted { acted: 1, ..none },
    }
}

fn of_link(fault: &NetworkFault) -> Wanted {
    let none = Wanted::default();
    match fault {
        NetworkFault::Refuse { .. } => Wanted { refused: 1, ..none },
        NetworkFault::ConnectBlackhole {} => Wanted { unanswered: 1, ..none },
        NetworkFault::Reset {} | NetworkFault::FailFirst { .. } => Wanted { reset: 1, ..none },
        NetworkFault::Blackhole { .. } | NetworkFault::Truncate { .. } => {
            Wanted { swallowed_bytes: 1, ..none }
        }
        NetworkFault::Latency { .. }
        | NetworkFault::LatencyDrawn { .. }
        | NetworkFault::Bandwidth { .. }
        | NetworkFault::Stall { .. }
        | NetworkFault::Flap { .. }
        | NetworkFault::Slice { .. } => Wanted { delayed_bytes: 1, ..none },
        NetworkFault::Corrupt { .. } => Wanted { corrupted_bytes: 1, ..none },
        NetworkFault::Duplicate { .. } => Wanted { duplicated_bytes: 1, ..none },
        NetworkFault::SlowClose { .. } => Wanted { connections: 1, ..none },
    }
}
