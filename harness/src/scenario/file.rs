//! The format of `scenarios/chaos/*.toml`: what was written, with the place of every value that can be wrong.
//!
//! Enums are tagged by the key itself (`inject.refuse = {}`), so that an error points at the value and not at the table
//! around it. Unknown keys are refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::inject::Inject;
use super::{Scenario, lint, suggest};
use crate::environment::behind::Behind;
use crate::load::clients::Clients;

/// Failure to load a scenario; every error of the file is in the message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read scenario {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{rendered}")]
    Invalid { path: String, count: usize, rendered: String },
}

/// Reads and checks one file.
pub fn load(path: &Path) -> Result<Scenario, Error> {
    let name = path.display().to_string();
    let source =
        std::fs::read_to_string(path).map_err(|source| Error::Read { path: name.clone(), source })?;
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    parse(&source, &stem).map_err(|found| Error::Invalid {
        path: name.clone(),
        count: found.len(),
        rendered: found.iter().map(|d| d.render(&name, &source)).collect::<Vec<_>>().join("\n"),
    })
}

/// Checks the text of a file called `stem`.toml; every error that can be found at once is returned.
pub fn parse(source: &str, stem: &str) -> Result<Scenario, Vec<Diagnostic>> {
    let written: Written = toml::from_str(source).map_err(|error| vec![syntax(&error)])?;
    lint::check(&written, stem)
}

fn syntax(error: &toml::de::Error) -> Diagnostic {
    let message = error.message().lines().next().unwrap_or_default().to_owned();
    let words: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.starts_with("unknown ");
    let help = match words.split_first() {
        Some((word, allowed)) if unknown => suggest::help(word, "known here", allowed),
        _ => String::new(),
    };
    let message =
        if unknown { message.split(", expected").next().unwrap_or_default().to_owned() } else { message };
    let label = if unknown { "not known here".to_owned() } else { String::new() };
    Diagnostic { code: "S001", message, span: error.span().unwrap_or(0..0), label, help }
}

/// A duration as people write it: `1500ms`, `15s`, `2m`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Human(#[serde(with = "humantime_serde")] pub(super) Duration);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) schema: Spanned<String>,
    pub(super) id: Spanned<String>,
    pub(super) title: String,
    pub(super) why: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) seed: u64,
    pub(super) budget: Spanned<Human>,
    #[serde(default)]
    pub(super) topology: Topology,
    pub(super) load: Load,
    pub(super) steady_state: SteadyState,
    pub(super) fault: Vec<Fault>,
    #[serde(default)]
    pub(super) expect: Vec<Expect>,
    pub(super) invariants: BTreeMap<Spanned<String>, Invariant>,
    pub(super) recover: Recover,
}

/// What is asked of an invariant beyond that it holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Invariant {
    /// Of `event-at-least-once`: how many repeated deliveries have to be seen for the run to prove anything.
    pub(super) min_repetitions: Option<Spanned<u64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Topology {
    pub(super) backend: Option<Spanned<String>>,
    /// Of webhook, slack and email, those that are stood in for; the server is told where.
    pub(super) stubs: Vec<Spanned<String>>,
    pub(super) runtime: Runtime,
    /// A field that gets a second function behind a flag.
    pub(super) behind: Option<Behind>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Runtime {
    pub(super) config: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    /// `150/s`.
    pub(super) arrival: Spanned<String>,
    pub(super) clients: Spanned<u32>,
    pub(super) lasts: Spanned<Human>,
    /// Clients that only listen to the events of orders.
    #[serde(default)]
    pub(super) subscribers: Option<Spanned<u32>>,
    /// Whose keys the requests show, in turn.
    #[serde(default)]
    pub(super) callers: Option<Spanned<Clients>>,
    /// Refusals are no errors here.
    #[serde(default)]
    pub(super) may_be_refused: bool,
    pub(super) mix: BTreeMap<Spanned<String>, u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SteadyState {
    pub(super) window: Spanned<Human>,
    pub(super) checks: Vec<Spanned<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    pub(super) id: Spanned<String>,
    pub(super) on: Spanned<String>,
    pub(super) inject: Spanned<Inject>,
    pub(super) start: Spanned<Start>,
    #[serde(default)]
    pub(super) stop: Option<Spanned<Stop>>,
    #[serde(default)]
    pub(super) evidence: Option<Spanned<Evidence>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    #[serde(default)]
    pub(super) at: Option<Human>,
    /// `fault:ID`.
    #[serde(default)]
    pub(super) after: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) delay: Option<Human>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    pub(super) lasts: Human,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Evidence {
    pub(super) min_refused: u64,
    pub(super) min_unanswered: u64,
    pub(super) min_reset: u64,
    pub(super) min_connections: u64,
    pub(super) min_delayed_bytes: u64,
    pub(super) min_swallowed_bytes: u64,
    pub(super) min_forwarded_bytes: u64,
    pub(super) min_corrupted_bytes: u64,
    pub(super) min_duplicated_bytes: u64,
    pub(super) min_processes: u64,
    pub(super) min_arrivals: u64,
    pub(super) min_matched: u64,
    pub(super) min_acted: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) window: Spanned<String>,
    pub(super) checks: Vec<Spanned<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) name: String,
    /// `ok_ratio` or `ok_ratio{class=createOrder}`; classes `read` and `write` stand for several.
    #[serde(default)]
    pub(super) metric: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) series: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) http: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) status: Option<u16>,
    /// JSON pointer: `/checks/redis/status`.
    #[serde(default)]
    pub(super) json: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) op: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) value: Option<Spanned<toml::Value>>,
    #[serde(default)]
    pub(super) within: Option<Human>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    pub(super) within: Spanned<Human>,
    pub(super) stable: Human,
    #[serde(default)]
    pub(super) drained: Option<Vec<String>>,
    #[serde(default)]
    pub(super) drained_within: Option<Human>,
}
