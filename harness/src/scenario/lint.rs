//! What a well-formed scenario can still have wrong, found before anything is started. Codes are stable:
//! S002 name and schema · S010 unknown target · S011 unknown word (invariant, metric, class, fault, window) · S012 fault
//! never stops · S013 two faults at once on one target · S014 fault outside the load · S015 the mix never issues what an
//! invariant needs · S017 no time left to recover · S018 budget · S021 no evidence asked for · S022 id used twice ·
//! S023 a fault that its target cannot have · S025 a check that does not say what to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use chaos::fault::NetworkFault;
use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::file::{self, Written};
use super::timeline;
use super::{
    CLASSES, Check, Expectation, Fault, INVARIANTS, Inject, Load, Metric, Op, Recover, Scenario, Start,
    SteadyState, Subject, TARGETS, Wanted, Window, suggest,
};

pub(super) const SCHEMA: &str = "scenario/v1";
const BACKENDS: [&str; 4] = ["any", "process", "container", "external"];
const READS: [&str; 2] = ["products", "order"];
const WRITES: [&str; 3] = ["createOrder", "updateOrderStatus", "requestInvoice"];

/// The checked scenario, or everything that is wrong with it.
pub(super) fn check(written: &Written, stem: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let mut lint = Lint::default();
    lint.names(written, stem);
    let load = lint.load(written);
    let faults = lint.faults(written);
    let scenario = Scenario {
        id: written.id.get_ref().clone(),
        title: written.title.clone(),
        why: written.why.clone(),
        tags: written.tags.clone(),
        seed: written.seed,
        budget: written.budget.get_ref().0,
        backend: written.topology.backend.as_ref().map_or("any", |b| b.get_ref()).to_owned(),
        server_config: written.topology.runtime.config.clone(),
        steady_state: SteadyState {
            window: written.steady_state.window.get_ref().0,
            checks: written.steady_state.checks.iter().filter_map(|c| lint.check(c)).collect(),
        },
        expectations: lint.expectations(written),
        invariants: lint.invariants(written),
        recover: Recover { within: written.recover.within.get_ref().0, stable: written.recover.stable.0 },
        load,
        faults,
    };
    lint.times(written, &scenario);
    if lint.found.is_empty() { Ok(scenario) } else { Err(lint.found) }
}

#[derive(Default)]
struct Lint {
    found: Vec<Diagnostic>,
}

impl Lint {
    fn say(&mut self, code: &'static str, span: Range<usize>, message: String, label: &str, help: String) {
        self.found.push(Diagnostic { code, message, span, label: label.to_owned(), help });
    }

    /// Refuses a word that is not in a closed set.
    fn one_of(&mut self, code: &'static str, what: &str, word: &Spanned<String>, known: &[&str]) -> bool {
        let name = word.get_ref();
        if known.contains(&name.as_str()) {
            return true;
        }
        let help = suggest::help(name, "known here", known);
        self.say(code, word.span(), format!("unknown {what} `{name}`"), &format!("unknown {what}"), help);
        false
    }

    fn names(&mut self, written: &Written, stem: &str) {
        self.one_of("S002", "schema", &written.schema, &[SCHEMA]);
        let id = written.id.get_ref();
        if id != stem {
            let help = format!("rename the file to {id}.toml or write `id = \"{stem}\"`");
            let message = format!("scenario `{id}` lies in a file called {stem}.toml");
            self.say("S002", written.id.span(), message, "not the file's name", help);
        }
        if let Some(backend) = &written.topology.backend {
            self.one_of("S011", "backend", backend, &BACKENDS);
        }
    }

    fn load(&mut self, written: &Written) -> Load {
        let arrival = &written.load.arrival;
        let rate = arrival.get_ref().strip_suffix("/s").and_then(|n| n.trim().parse::<f64>().ok());
        let rate = rate.filter(|rate| rate.is_finite() && *rate > 0.0).unwrap_or_else(|| {
            let message = format!("`{}` is not a rate", arrival.get_ref());
            self.say("S025", arrival.span(), message, "wanted a rate", "write `150/s`".to_owned());
            1.0
        });
        if *written.load.clients.get_ref() == 0 {
            let span = written.load.clients.span();
            self.say("S025", span, "no client issues the load".to_owned(), "at least 1", String::new());
        }
        let mut mix = BTreeMap::new();
        for (class, weight) in &written.load.mix {
            if self.one_of("S011", "operation class", class, &CLASSES[..5]) {
                mix.insert(class.get_ref().clone(), *weight);
            }
        }
        Load { rate, users: *written.load.clients.get_ref(), lasts: written.load.lasts.get_ref().0, mix }
    }

    fn faults(&mut self, written: &Written) -> Vec<Fault> {
        let ids: Vec<&str> = written.fault.iter().map(|f| f.id.get_ref().as_str()).collect();
        let mut seen = BTreeSet::new();
        let mut faults = Vec::new();
        for fault in &written.fault {
            let id = fault.id.get_ref();
            if !seen.insert(id) {
                let message = format!("two faults are called `{id}`");
                self.say("S022", fault.id.span(), message, "used before", String::new());
            }
            self.target(fault);
            let (inject, lasts) = self.inject(fault);
            let start = self.start(fault, &ids);
            let evidence = self.evidence(fault, &inject);
            let target = fault.on.get_ref().clone();
            faults.push(Fault { id: id.clone(), target, inject, start, lasts, evidence });
        }
        faults
    }

    fn target(&mut self, fault: &file::Fault) {
        let (id, on) = (fault.id.get_ref(), fault.on.get_ref());
        if !TARGETS.contains(&on.as_str()) {
            let message = format!("fault `{id}` acts on `{on}`, which is not part of the topology");
            let help = suggest::help(on, "declared", &TARGETS);
            self.say("S010", fault.on.span(), message, "unknown dependency", help);
        }
        let process = matches!(
            fault.inject.get_ref(),
            file::Inject::Kill { .. } | file::Inject::Pause {} | file::Inject::Terminate { .. }
        );
        if on == "runtime" && !process {
            let message = format!("fault `{id}` acts on a link, and `runtime` is not behind a proxy");
            let help = "use kill, pause or terminate, or act on postgres, redis or nats".to_owned();
            self.say("S023", fault.on.span(), message, "has no link", help);
        }
    }

    fn inject(&mut self, fault: &file::Fault) -> (Inject, Duration) {
        let stop = fault.stop.as_ref().map(|stop| stop.get_ref().lasts.0);
        let (inject, own) = match fault.inject.get_ref().clone() {
            file::Inject::Latency { delay, jitter, direction } => {
                (Inject::Network(NetworkFault::Latency { delay, jitter, direction }), None)
            }
            file::Inject::Refuse { existing } => (Inject::Network(NetworkFault::Refuse { existing }), None),
            file::Inject::Reset {} => (Inject::Network(NetworkFault::Reset {}), None),
            file::Inject::Blackhole { sticky, direction } => {
                (Inject::Network(NetworkFault::Blackhole { sticky, direction }), None)
            }
            file::Inject::Bandwidth { bytes_per_second, direction } => {
                (Inject::Network(NetworkFault::Bandwidth { bytes_per_second, direction }), None)
            }
            file::Inject::Kill { restart_after } => (Inject::Kill, Some(restart_after)),
            file::Inject::Pause {} => (Inject::Pause, None),
            file::Inject::Terminate { grace, restart_after } => {
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
            reset: e.min_reset,
            connections: e.min_connections,
            delayed_bytes: e.min_delayed_bytes,
            swallowed_bytes: e.min_swallowed_bytes,
            forwarded_bytes: e.min_forwarded_bytes,
            processes: e.min_processes,
        };
        if wanted.is_empty() {
            let message = format!("fault `{}` asks for no evidence that it bit", fault.id.get_ref());
            let help = "name what it has to touch (`min_refused = 1`), or remove `evidence` for the default"
                .to_owned();
            self.say("S021", written.span(), message, "proves nothing", help);
        }
        wanted
    }

    fn invariants(&mut self, written: &Written) -> BTreeSet<String> {
        let known: Vec<&str> = INVARIANTS.iter().map(|(name, _)| *name).collect();
        let mut kept = BTreeSet::new();
        for name in written.invariants.keys() {
            if !self.one_of("S011", "invariant", name, &known) {
                continue;
            }
            let class = INVARIANTS.iter().find(|(n, _)| n == name.get_ref()).expect("just found").1;
            let issued = written.load.mix.iter().any(|(c, weight)| c.get_ref() == class && *weight > 0);
            if !issued {
                let message =
                    format!("invariant `{}` needs `{class}`, which the mix never issues", name.get_ref());
                let help = format!("add `{class} = 1` to [load].mix");
                self.say("S015", name.span(), message, "would check nothing", help);
            }
            kept.insert(name.get_ref().clone());
        }
        kept
    }

    fn expectations(&mut self, written: &Written) -> Vec<Expectation> {
        let ids: Vec<&str> = written.fault.iter().map(|f| f.id.get_ref().as_str()).collect();
        let mut known: Vec<String> = ["before", "always", "end"].map(str::to_owned).to_vec();
        known.extend(ids.iter().flat_map(|id| [format!("during:{id}"), format!("after:{id}")]));
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let mut expectations = Vec::new();
        for expect in &written.expect {
            let word = expect.window.get_ref();
            let checks: Vec<Check> = expect.checks.iter().filter_map(|c| self.check(c)).collect();
            if !self.one_of("S011", "window", &expect.window, &known) {
                continue;
            }
            let window = match word.split_once(':') {
                Some(("during", id)) => Window::During(id.to_owned()),
                Some((_, id)) => Window::After(id.to_owned()),
                None if word == "before" => Window::Before,
                None if word == "always" => Window::Always,
                None => Window::End,
            };
            expectations.push(Expectation { window, checks });
        }
        expectations
    }

    fn check(&mut self, spanned: &Spanned<file::Check>) -> Option<Check> {
        let check = spanned.get_ref();
        let subject = match (&check.metric, &check.series, &check.http) {
            (Some(metric), None, None) => self.metric(metric, check, spanned.span())?,
            (None, Some(series), None) => {
                let (op, value) = self.number(check, spanned.span())?;
                Subject::Series { series: series.get_ref().clone(), op, value }
            }
            (None, None, Some(path)) => self.http(path, check, spanned.span())?,
            _ => {
                let message = format!("check `{}` needs one subject", check.name);
                let help = "one of `metric`, `series` and `http`".to_owned();
                self.say("S025", spanned.span(), message, "what is looked at?", help);
                return None;
            }
        };
        Some(Check {
            name: check.name.clone(),
            subject,
            within: check.within.map_or(Duration::ZERO, |w| w.0),
        })
    }

    fn metric(
        &mut self,
        written: &Spanned<String>,
        check: &file::Check,
        span: Range<usize>,
    ) -> Option<Subject> {
        let word = written.get_ref();
        let (name, classes) = match word.split_once('{') {
            None => (word.as_str(), Vec::new()),
            Some((name, selector)) => {
                let class =
                    selector.strip_prefix("class=").and_then(|s| s.strip_suffix('}')).unwrap_or_default();
                let classes: Vec<&str> = match class {
                    "read" => READS.to_vec(),
                    "write" => WRITES.to_vec(),
                    class => CLASSES.iter().copied().filter(|known| *known == class).collect(),
                };
                if classes.is_empty() {
                    let known: Vec<&str> = CLASSES.iter().copied().chain(["read", "write"]).collect();
                    let help =
                        format!("write `{name}{{class=NAME}}`; {}", suggest::help(class, "classes", &known));
                    self.say(
                        "S011",
                        written.span(),
                        format!("`{word}` names no operation class"),
                        "unknown class",
                        help,
                    );
                    return None;
                }
                (name, classes)
            }
        };
        let Some((_, metric)) = Metric::ALL.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = Metric::ALL.iter().map(|(known, _)| *known).collect();
            let help = suggest::help(name, "metrics", &known);
            self.say("S011", written.span(), format!("unknown metric `{name}`"), "unknown metric", help);
            return None;
        };
        let (op, value) = self.number(check, span)?;
        let classes = classes.into_iter().map(str::to_owned).collect();
        Some(Subject::Metric { metric: *metric, classes, op, value })
    }

    fn http(&mut self, path: &Spanned<String>, check: &file::Check, span: Range<usize>) -> Option<Subject> {
        let json = match (&check.json, &check.value) {
            (None, None) => None,
            (Some(pointer), Some(value)) => {
                let op = self.op(check, span.clone())?;
                let value =
                    serde_json::to_value(value.get_ref()).expect("a TOML value is representable as JSON");
                Some((pointer.get_ref().clone(), op, value))
            }
            _ => {
                let message = format!("check `{}` needs both `json` and `value`, or neither", check.name);
                self.say("S025", span, message, "half a comparison", String::new());
                return None;
            }
        };
        if json.is_none() && check.status.is_none() {
            let message = format!("check `{}` compares nothing", check.name);
            let help = "add `status = 200` or `json`, `op` and `value`".to_owned();
            self.say("S025", path.span(), message, "any answer would do", help);
            return None;
        }
        Some(Subject::Http { path: path.get_ref().clone(), status: check.status, json })
    }

    fn op(&mut self, check: &file::Check, span: Range<usize>) -> Option<Op> {
        let Some(op) = &check.op else {
            let message = format!("check `{}` has no `op`", check.name);
            self.say("S025", span, message, "how to compare?", "one of == != < <= > >= increases".to_owned());
            return None;
        };
        let known = Op::ALL.map(|(sign, _)| sign);
        self.one_of("S011", "operator", op, &known)
            .then(|| Op::ALL.iter().find(|(sign, _)| sign == op.get_ref()).expect("just found").1)
    }

    fn number(&mut self, check: &file::Check, span: Range<usize>) -> Option<(Op, f64)> {
        let op = self.op(check, span.clone())?;
        let value = match (&check.value, op) {
            (None, Op::Increases) => Some(1.0),
            (value, _) => value.as_ref().and_then(|v| match v.get_ref() {
                toml::Value::Integer(n) => Some(*n as f64),
                toml::Value::Float(n) => Some(*n),
                _ => None,
            }),
        };
        if value.is_none() {
            let span = check.value.as_ref().map_or(span, Spanned::span);
            self.say(
                "S025",
                span,
                format!("check `{}` needs a number", check.name),
                "wanted `value`",
                String::new(),
            );
        }
        value.map(|value| (op, value))
    }

    fn times(&mut self, written: &Written, scenario: &Scenario) {
        let lasts = scenario.load.lasts;
        if lasts + scenario.recover.within > scenario.budget {
            let message = "the load and the recovery do not fit into the budget".to_owned();
            let help = format!("the load alone lasts {}", humantime::format_duration(lasts));
            self.say("S018", written.budget.span(), message, "too short", help);
        }
        // Positions are meaningless while a start is broken.
        if !self.found.is_empty() {
            return;
        }
        let acts = timeline::acts(scenario);
        for (act, fault) in acts.iter().zip(&written.fault) {
            let id = fault.id.get_ref();
            if act.inject >= lasts {
                let message = format!("fault `{id}` starts after the load is over");
                self.say("S014", fault.start.span(), message, "no traffic to act on", String::new());
            } else if act.heal > lasts {
                let message = format!("fault `{id}` stops after the end of the load");
                let help = format!(
                    "it heals at {} s, the load ends at {} s",
                    act.heal.as_secs_f64(),
                    lasts.as_secs_f64()
                );
                self.say("S012", fault.start.span(), message, "heals too late", help);
            } else if act.heal + scenario.recover.within + scenario.recover.stable > lasts {
                let message = format!("no time is left to see the recovery from fault `{id}`");
                let need = act.heal + scenario.recover.within + scenario.recover.stable;
                let help = format!("let the load last {} at least", humantime::format_duration(need));
                self.say("S017", written.recover.within.span(), message, "longer than what is left", help);
            }
        }
        for (i, fault) in written.fault.iter().enumerate() {
            for j in 0..i {
                if timeline::collide(&acts[i], &acts[j]) {
                    let other = written.fault[j].id.get_ref();
                    let message =
                        format!("faults `{}` and `{other}` act at once on one target", fault.id.get_ref());
                    self.say(
                        "S013",
                        fault.start.span(),
                        message,
                        "overlaps",
                        "one of them would hide the other".to_owned(),
                    );
                }
            }
        }
    }
}

/// The least that shows a fault of this kind was a test.
fn default_evidence(inject: &Inject) -> Wanted {
    let none = Wanted::default();
    match inject {
        Inject::Network(NetworkFault::Latency { .. }) => Wanted { delayed_bytes: 1, ..none },
        Inject::Network(NetworkFault::Refuse { .. }) => Wanted { refused: 1, ..none },
        Inject::Network(NetworkFault::Reset {}) => Wanted { reset: 1, ..none },
        Inject::Network(NetworkFault::Blackhole { .. }) => Wanted { swallowed_bytes: 1, ..none },
        Inject::Network(NetworkFault::Bandwidth { .. }) => Wanted { connections: 1, ..none },
        Inject::Kill | Inject::Pause | Inject::Terminate { .. } => Wanted { processes: 1, ..none },
    }
}
