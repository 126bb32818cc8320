//! Load profiles: the files `scenarios/load/*.toml`, read strictly, with errors that name file, line, column and what
//! was probably meant. A [`Plan`] is a profile with the command line's overrides applied; applying them is pure.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::checked;
use super::clients::{CLIENTS_MAX, Clients};
use super::diagnostic::{self, Diagnostic};
use super::schedule::{Schedule, Segment};

/// A profile as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One word: `baseline`, `stress` …
    pub name: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub kind: Kind,
    /// Concurrent requests at most: users of goose, each with one request at a time.
    #[serde(deserialize_with = "checked::users")]
    pub users: u32,
    /// An arrival that nobody could start within this time is dropped and counts as failed; without it, arrivals queue
    /// for ever.
    #[serde(default, deserialize_with = "checked::optional_duration", serialize_with = "optional_humantime")]
    pub start_within: Option<Duration>,
    /// Longest wait for an answer, from the moment of sending.
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub timeout: Duration,
    /// A long run repeats its `[[chaos]]` slots with this period.
    #[serde(default, deserialize_with = "checked::optional_duration", serialize_with = "optional_humantime")]
    pub chaos_repeat: Option<Duration>,
    #[serde(default)]
    pub mix: Mix,
    #[serde(default)]
    pub slo: Slo,
    #[serde(default)]
    pub hard: Hard,
    #[serde(default)]
    pub overload: Overload,
    #[serde(default)]
    pub leak: Leak,
    #[serde(default)]
    pub clients: Clients,
    /// Tables of the server's configuration that this load is about: the policy of its limits, what it caches.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub server: toml::Table,
    pub stage: Vec<Stage>,
    #[serde(default)]
    pub request: Vec<Request>,
    #[serde(default)]
    pub chaos: Vec<ChaosSlot>,
}

/// Which verdict a profile asks for, beside its objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One steady rate.
    #[default]
    Sustained,
    /// Beyond what the server can do: degradation must be graceful.
    Stress,
    /// A sudden rise: the limiter must hold, and the server recover.
    Spike,
    /// As much as the machine can do: nothing is refused, and the figure is told.
    Capacity,
}

/// A stretch of the schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub name: String,
    /// Arrivals a second at the start of the stage.
    #[serde(deserialize_with = "checked::rate")]
    pub rate: f64,
    /// Arrivals a second at its end; the rate is constant without it.
    #[serde(default, deserialize_with = "checked::optional_rate")]
    pub to: Option<f64>,
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub duration: Duration,
    /// No objective looks at it, and `--duration` does not stretch it.
    #[serde(default)]
    pub warm_up: bool,
    /// Objectives do not hold in it; the rules of `[overload]` do.
    #[serde(default)]
    pub overload: bool,
}

/// Weights of the operations of the e-commerce schema; 0 leaves one out. Plain requests add their own weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Mix {
    pub products: u32,
    pub order: u32,
    pub create_order: u32,
    pub update_order_status: u32,
    pub request_invoice: u32,
    /// Deliveries of a payment provider to a webhook of the server's, which the harness configures.
    pub payment_webhook: u32,
    /// Share of createOrder arrivals that send two identical requests at the same time.
    #[serde(rename = "twin_share", deserialize_with = "checked::share")]
    pub twin_share: f64,
    /// Share of createOrder requests of unknown outcome that are sent again with the same key.
    #[serde(rename = "retry_share", deserialize_with = "checked::share")]
    pub retry_share: f64,
    /// Seeded users and products are numbered from 1 to these.
    #[serde(rename = "max_user_id")]
    pub max_user_id: u32,
    #[serde(rename = "max_product_id")]
    pub max_product_id: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Mix {
            products: 30,
            order: 30,
            create_order: 25,
            update_order_status: 10,
            request_invoice: 5,
            payment_webhook: 0,
            twin_share: 0.05,
            retry_share: 0.5,
            max_user_id: 100,
            max_product_id: 1_000,
        }
    }
}

impl Mix {
    /// Weights in the order of the operation classes, without the plain requests.
    pub fn weights(&self) -> [u32; 6] {
        [
            self.products,
            self.order,
            self.create_order,
            self.update_order_status,
            self.request_invoice,
            self.payment_webhook,
        ]
    }
}

/// Objectives, judged outside fault windows and their recovery budgets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slo {
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub p95: Duration,
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub p99: Duration,
    /// Largest share of arrivals that fail, are dropped or stay unanswered; 0.001 is 0.1 %.
    #[serde(deserialize_with = "checked::share")]
    pub error_rate: f64,
    /// True: a refusal is no error, it is what the run is about.
    pub may_be_refused: bool,
    /// Smallest share of the schedule that is really sent.
    #[serde(deserialize_with = "checked::share")]
    pub achieved_rate: f64,
}

impl Default for Slo {
    fn default() -> Self {
        Slo {
            p95: Duration::from_millis(100),
            p99: Duration::from_millis(200),
            error_rate: 0.001,
            may_be_refused: false,
            achieved_rate: 0.99,
        }
    }
}

/// Bounds that no run may exceed, whatever its objectives; reported beside them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hard {
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub p50: Duration,
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub p95: Duration,
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub p99: Duration,
}

impl Default for Hard {
    fn default() -> Self {
        Hard {
            p50: Duration::from_millis(100),
            p95: Duration::from_millis(500),
            p99: Duration::from_millis(1_000),
        }
    }
}

/// Rules for stages marked `overload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overload {
    /// Served at the highest rate, as a share of the best second of the run.
    #[serde(deserialize_with = "checked::share")]
    pub served_share: f64,
    /// 99th percentile of refusals.
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub refusal_p99: Duration,
    /// Back inside the objectives this long after the overload ended.
    #[serde(deserialize_with = "checked::duration", serialize_with = "humantime_serde::serialize")]
    pub recovery: Duration,
    /// Requests a second that the limiter under test lets through; 0 when there is none.
    #[serde(deserialize_with = "checked::rate")]
    pub limit: f64,
    /// Requests that it lets through beyond that, once, because little was asked before.
    #[serde(deserialize_with = "checked::rate")]
    pub burst: f64,
}

impl Default for Overload {
    fn default() -> Self {
        Overload {
            served_share: 0.9,
            refusal_p99: Duration::from_millis(50),
            recovery: Duration::from_secs(10),
            limit: 0.0,
            burst: 0.0,
        }
    }
}

/// Leak and slow-down tests; off unless the profile asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Leak {
    pub enabled: bool,
    /// Growth of anonymous memory that is a leak, in MB (10^6 bytes) a minute: in a ten-minute run and in one of two
    /// hours; between them it falls with the length of the run.
    #[serde(deserialize_with = "checked::rate")]
    pub memory_short: f64,
    #[serde(deserialize_with = "checked::rate")]
    pub memory_long: f64,
    /// The same for descriptors, threads, tasks and connections, each a minute.
    #[serde(deserialize_with = "checked::rate")]
    pub count_short: f64,
    #[serde(deserialize_with = "checked::rate")]
    pub count_long: f64,
    /// Growth of p50 and p99 over the run that is a slow-down: 1.5 is half as much again.
    #[serde(deserialize_with = "checked::rate")]
    pub growth_short: f64,
    #[serde(deserialize_with = "checked::rate")]
    pub growth_long: f64,
}

impl Default for Leak {
    fn default() -> Self {
        Leak {
            enabled: false,
            memory_short: 0.5,
            memory_long: 0.05,
            count_short: 0.5,
            count_long: 0.05,
            growth_short: 1.5,
            growth_long: 1.2,
        }
    }
}

/// A plain request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Label in reports; `METHOD path` without it.
    #[serde(default)]
    pub name: String,
    #[serde(default = "get", deserialize_with = "checked::method")]
    pub method: String,
    #[serde(deserialize_with = "checked::path")]
    pub path: String,
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub body: String,
    /// Expected status; any 2xx without it.
    #[serde(default, deserialize_with = "checked::optional_status")]
    pub expect: Option<u16>,
    /// The answer is one of GraphQL: an error in it is an error, though its status is 200.
    #[serde(default)]
    pub graphql: bool,
    #[serde(default = "one")]
    pub weight: u32,
}

impl Request {
    /// `GET /`, what `--target` sends when the profile lists no requests.
    pub fn root() -> Self {
        Request {
            name: String::new(),
            method: get(),
            path: "/".into(),
            headers: std::collections::BTreeMap::new(),
            body: String::new(),
            expect: None,
            graphql: false,
            weight: 1,
        }
    }

    pub fn label(&self) -> String {
        if self.name.is_empty() { format!("{} {}", self.method, self.path) } else { self.name.clone() }
    }
}

fn get() -> String {
    "GET".into()
}

fn one() -> u32 {
    1
}

/// Where in the run a chaos scenario starts; what it does and for how long is in the scenario's own file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChaosSlot {
    /// Name of a file in `scenarios/chaos` without its extension.
    pub scenario: String,
    /// From the first arrival of the schedule, warm-up included.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
}

/// What the command line changes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Overrides {
    /// Length of all stages that are not warm-up; they keep their proportions.
    pub duration: Option<Duration>,
    /// Highest rate, arrivals a second; all rates keep their proportions.
    pub rate: Option<f64>,
    pub no_chaos: bool,
}

/// A profile that is ready to be driven.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub profile: Profile,
    pub schedule: Schedule,
    /// Send only plain requests (`GET /` when the profile lists none), as against a server of which nothing is known.
    pub plain_only: bool,
    /// Processes that belong to the run beside the harness's own descendants (containers): with their descendants they
    /// do not count as neighbours that disturb it.
    pub ours: Vec<i32>,
}

impl Plan {
    pub fn new(profile: Profile, overrides: Overrides) -> Self {
        let profile = profile.with(overrides);
        let schedule = profile.schedule();
        Plan { profile, schedule, plain_only: false, ours: Vec::new() }
    }

    /// Chaos slots in order of their start, repetitions included, and those left out because a fault and its recovery
    /// would not end within the run.
    pub fn chaos_slots(&self) -> (Vec<ChaosSlot>, Vec<ChaosSlot>) {
        let end = self.schedule.duration();
        let mut slots = Vec::new();
        for round in 0_u32.. {
            let offset = self.profile.chaos_repeat.unwrap_or_default() * round;
            if round > 0 && (self.profile.chaos_repeat.is_none() || offset >= end) {
                break;
            }
            slots.extend(
                self.profile
                    .chaos
                    .iter()
                    .map(|slot| ChaosSlot { scenario: slot.scenario.clone(), start: slot.start + offset }),
            );
        }
        slots.sort_by_key(|slot| slot.start);
        let first_round = self.profile.chaos.len();
        let (kept, late): (Vec<_>, Vec<_>) =
            slots.into_iter().partition(|slot| slot.start + SLOT_TAIL <= end);
        // A repetition beyond the end is not missing; a slot of the first round is.
        let late = late.into_iter().take(first_round.saturating_sub(kept.len())).collect();
        (kept, late)
    }
}

/// Room a chaos slot needs before the end of the run: a fault of fifteen seconds and a recovery budget of ten.
const SLOT_TAIL: Duration = Duration::from_secs(25);

impl Profile {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks a profile's text; `file` names it in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let profile: Profile =
            toml::from_str(text).map_err(|error| diagnostic::from_toml(file, text, &error))?;
        profile.check(text, file)?;
        Ok(profile)
    }

    /// The profile that a command of this name uses without `--profile`.
    pub fn built_in(name: &str) -> Option<Result<Self, Error>> {
        let (file, text) = match name {
            "baseline" => ("baseline.toml", include_str!("../../../scenarios/load/baseline.toml")),
            "stress" => ("stress.toml", include_str!("../../../scenarios/load/stress.toml")),
            "spike" => ("spike.toml", include_str!("../../../scenarios/load/spike.toml")),
            "soak" => ("soak.toml", include_str!("../../../scenarios/load/soak.toml")),
            "capacity" => ("capacity.toml", include_str!("../../../scenarios/load/capacity.toml")),
            _ => return None,
        };
        Some(Self::parse(text, &format!("scenarios/load/{file}")))
    }

    /// The same profile with what the command line changes.
    pub fn with(mut self, overrides: Overrides) -> Self {
        if let Some(wanted) = overrides.duration {
            let fixed = self.stage.iter().filter(|stage| !stage.warm_up);
            let length: Duration = fixed.map(|stage| stage.duration).sum();
            let factor = wanted.as_secs_f64() / length.as_secs_f64();
            for stage in self.stage.iter_mut().filter(|stage| !stage.warm_up) {
                stage.duration = Duration::from_secs_f64(stage.duration.as_secs_f64() * factor);
            }
        }
        if let Some(wanted) = overrides.rate {
            let factor = wanted / self.peak_rate();
            for stage in &mut self.stage {
                stage.rate *= factor;
                stage.to = stage.to.map(|to| to * factor);
            }
        }
        if overrides.no_chaos {
            self.chaos.clear();
        }
        self
    }

    /// Highest rate of the schedule, arrivals a second.
    pub fn peak_rate(&self) -> f64 {
        self.stage.iter().flat_map(|stage| [stage.rate, stage.to.unwrap_or(stage.rate)]).fold(0.0, f64::max)
    }

    pub fn schedule(&self) -> Schedule {
        let segments: Vec<Segment> = self
            .stage
            .iter()
            .map(|stage| Segment {
                from: stage.rate,
                to: stage.to.unwrap_or(stage.rate),
                duration: stage.duration,
            })
            .collect();
        Schedule::new(&segments)
    }

    fn check(&self, text: &str, file: &str) -> Result<(), Error> {
        let fail = |key: &str, message: String, help: &str| {
            Err(Error::Invalid(Box::new(Diagnostic::at_key(file, text, key, message, help))))
        };
        if self.peak_rate() <= 0.0 {
            return fail("rate", "no stage has a rate above 0".into(), "give at least one [[stage]] a rate");
        }
        if self.stage.iter().all(|stage| stage.warm_up) {
            return fail("warm_up", "every stage is warm-up".into(), "nothing would be judged; add a stage");
        }
        if let Some(start_within) = self.start_within
            && start_within * 2 > self.timeout
        {
            let message = format!("start_within {start_within:?} is too close to timeout {:?}", self.timeout);
            return fail("start_within", message, "arrivals would be started that are already doomed");
        }
        let weights: u32 =
            self.mix.weights().iter().sum::<u32>() + self.request.iter().map(|r| r.weight).sum::<u32>();
        if weights == 0 {
            return fail("mix", "all weights are 0".into(), "give an operation or a [[request]] a weight");
        }
        if self.clients.total() > CLIENTS_MAX {
            let message = format!("{} clients are too many", self.clients.total());
            return fail("clients", message, "give at most 20000 in all");
        }
        if self.mix.max_user_id == 0 || self.mix.max_product_id == 0 {
            return fail("max_", "ids are counted from 1".into(), "give the largest id of the seeded rows");
        }
        Ok(())
    }
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read profile {path}")]
    Read { path: std::path::PathBuf, source: std::io::Error },
    /// Prints the place in the file, and what was probably meant.
    #[error("{0}")]
    Invalid(Box<Diagnostic>),
}

impl From<Diagnostic> for Error {
    fn from(diagnostic: Diagnostic) -> Self {
        Error::Invalid(Box::new(diagnostic))
    }
}

fn optional_humantime<S: serde::Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    humantime_serde::option::serialize(value, to)
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
