//! What a well-formed scenario can still have wrong, found before anything is started. Codes are stable:
//! S002 name and schema · S010 unknown target · S011 unknown word (invariant, metric, class, fault, window) · S012 fault
//! never stops · S013 two faults at once on one target · S014 fault outside the load · S015 the mix never issues what an
//! invariant needs · S017 no time left to recover · S018 budget · S021 no evidence asked for · S022 id used twice ·
//! S023 a fault that its target cannot have · S025 a value that does not say what is meant · S027 an option where it means
//! nothing.

mod checks;
mod faults;
mod load;
mod times;

use std::ops::Range;

use toml::Spanned;

use super::check::Check;
use super::diagnostic::Diagnostic;
use super::file::Written;
use super::{
    Asked, DRAINED, Drain, Expectation, INVARIANTS, Invariants, Load, REPEATS, Recover, SUBSCRIBED, Scenario,
    SteadyState, Window, suggest,
};
use crate::environment::stub::StubName;

pub(super) const SCHEMA: &str = "scenario/v1";
pub(super) const BACKENDS: [&str; 4] = ["any", "process", "container", "external"];

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
        stubs: lint.stubs(written),
        server_config: written.topology.runtime.config.clone(),
        behind: written.topology.behind.clone(),
        steady_state: SteadyState {
            window: written.steady_state.window.get_ref().0,
            checks: written.steady_state.checks.iter().filter_map(|c| lint.check(c)).collect(),
        },
        expectations: lint.expectations(written),
        invariants: lint.invariants(written, &load),
        recover: recover(written),
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

    fn stubs(&mut self, written: &Written) -> Vec<StubName> {
        let known = StubName::ALL.map(StubName::as_str);
        let named = written.topology.stubs.iter().filter_map(|word| {
            self.one_of("S011", "stub", word, &known).then(|| StubName::of(word.get_ref()))?
        });
        named.collect()
    }

    fn invariants(&mut self, written: &Written, load: &Load) -> Invariants {
        let known: Vec<&str> = INVARIANTS.iter().map(|(name, _)| *name).collect();
        let mut kept = Invariants::new();
        for (name, options) in &written.invariants {
            if !self.one_of("S011", "invariant", name, &known) {
                continue;
            }
            let class = INVARIANTS.iter().find(|(n, _)| n == name.get_ref()).expect("just found").1;
            if load.mix.get(class).is_none_or(|weight| *weight == 0) {
                let message =
                    format!("invariant `{}` needs `{class}`, which the mix never issues", name.get_ref());
                let help = format!("add `{class} = 1` to [load].mix");
                self.say("S015", name.span(), message, "would check nothing", help);
            }
            if name.get_ref() == SUBSCRIBED && load.subscribers == 0 {
                let message = format!("invariant `{SUBSCRIBED}` needs subscribers, and there are none");
                let help = "add `subscribers = 4` to [load]".to_owned();
                self.say("S015", name.span(), message, "would check nothing", help);
            }
            if let Some(least) = &options.min_repetitions
                && name.get_ref() != REPEATS
            {
                let message = format!("invariant `{}` knows no repetitions", name.get_ref());
                let help = format!("`min_repetitions` is an option of `{REPEATS}`");
                self.say("S027", least.span(), message, "means nothing here", help);
            }
            let min_repetitions = options.min_repetitions.as_ref().map_or(0, |least| *least.get_ref());
            kept.insert(name.get_ref().clone(), Asked { min_repetitions });
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
}

fn recover(written: &Written) -> Recover {
    let recover = &written.recover;
    let within = recover.within.get_ref().0;
    let drain = Drain {
        series: recover.drained.clone().unwrap_or_else(|| DRAINED.map(str::to_owned).to_vec()),
        named: recover.drained.is_some(),
        within: recover.drained_within.map_or(within, |drained| drained.0),
    };
    Recover { within, stable: recover.stable.0, drain }
}
