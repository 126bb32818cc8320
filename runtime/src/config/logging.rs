//! `[logging]`: what is logged, and in which form.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::Mode;
use super::check::TableChecks;
use super::error::Problem;
use super::source::Environment;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// A level, or directives such as `info,sqlx=warn`. `RUST_LOG` overrides it. Left out: `debug` where `FRAISEQL_ENV` is
    /// `development`.
    pub level: String,
    /// `FRAISEQL_LOG_FORMAT` overrides it. Left out: pretty where `FRAISEQL_ENV` is `development`.
    pub format: Format,
    /// Logs statements that took longer than a tenth of `database.query_timeout`.
    /// `FRAISEQL_LOG_SLOW_QUERIES` overrides it.
    pub slow_queries: bool,
    /// Whether a line names the file and line that wrote it.
    pub source_location: bool,
    /// Which requests are a line.
    pub access: Access,
    /// Of the requests that are a line only because `access` is `all`, this share is, 0 to 1, and every one whose trace is
    /// exported. Left out: 0.1 where `FRAISEQL_ENV` is `production`, 0.5 in `staging`, 1 else.
    pub sample_rate: f64,
    /// A request that took at least this long is slow.
    #[serde(with = "units::duration")]
    pub slow_request_threshold: Duration,
    /// Lines that wait until standard output takes them, at most; more are dropped and counted.
    pub buffer_lines: u32,
}

/// Which requests are logged. What happens inside a request is logged by `level` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Every one.
    All,
    /// Status 400 and above, GraphQL answers with an error of ours, callers who did not wait, and what was slow.
    ErrorsAndSlow,
    /// Status 500 and above, and GraphQL answers with an error of ours.
    Failures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Several lines an event, for people.
    Pretty,
    /// One line an event, for people.
    Compact,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: Format::Json,
            slow_queries: false,
            source_location: false,
            access: Access::All,
            sample_rate: 1.0,
            slow_request_threshold: Duration::from_secs(1),
            buffer_lines: 16_384,
        }
    }
}

const LEVELS: &str = "off, error, warn, info, debug, trace, or directives such as \"info,sqlx=warn\"";

impl Logging {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.require("level", &self.level, is_filter(&self.level), LEVELS);
        let is_share = (0.0..=1.0).contains(&self.sample_rate);
        checks.require("sample_rate", self.sample_rate, is_share, "0.0 to 1.0");
        checks.duration("slow_request_threshold", self.slow_request_threshold, "1ms", "1h");
        checks.count("buffer_lines", self.buffer_lines.into(), 16..=1_000_000);
    }

    /// What the file leaves out is as people want it who name this environment; without a name the defaults stand.
    pub(super) fn suit(&mut self, mode: Mode, is_written: impl Fn(&str) -> bool) {
        if !is_written("sample_rate") {
            self.sample_rate = match mode {
                Mode::Development => 1.0,
                Mode::Staging => 0.5,
                Mode::Production => 0.1,
            };
        }
        if mode != Mode::Development {
            return;
        }
        if !is_written("level") {
            "debug".clone_into(&mut self.level);
        }
        if !is_written("format") {
            self.format = Format::Pretty;
        }
        if !is_written("source_location") {
            self.source_location = true;
        }
    }

    pub(super) fn apply(&mut self, environment: &Environment, problems: &mut Vec<Problem>) {
        if let Some(level) = environment.get("RUST_LOG") {
            if is_filter(level) {
                level.clone_into(&mut self.level);
            } else {
                problems.push(Problem::variable("RUST_LOG", &format!("is {level:?}"), LEVELS));
            }
        }
        // Anything that is not one of the first two means compact: so the variable is specified.
        match environment.get("FRAISEQL_LOG_FORMAT") {
            None => {}
            Some("json") => self.format = Format::Json,
            Some("pretty") => self.format = Format::Pretty,
            Some(_) => self.format = Format::Compact,
        }
        match environment.get("FRAISEQL_LOG_SLOW_QUERIES") {
            None => {}
            Some("true" | "1") => self.slow_queries = true,
            Some("false" | "0") => self.slow_queries = false,
            Some(value) => problems.push(Problem::variable(
                "FRAISEQL_LOG_SLOW_QUERIES",
                &format!("is {value:?}"),
                "\"true\" or \"false\"",
            )),
        }
    }
}

/// `EnvFilter` reads an unknown word as the name of a target; a level on its own must be one.
fn is_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |word: &str| word.contains('=') || LEVELS.contains(&word.to_ascii_lowercase().as_str());
    text.split(',').all(|word| known(word.trim())) && EnvFilter::try_new(text).is_ok()
}
