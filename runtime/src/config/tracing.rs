//! `[tracing]`: which requests become traces, and where those go.
//!
//! Off until it is switched on: in the file by `enabled`, or by the environment, where naming an endpoint means that
//! traces are wanted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::Mode;
use super::check::TableChecks;
use super::error::Problem;
use super::source::Environment;
use super::units;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// Whether there are traces at all.
    pub enabled: bool,
    /// Where OTLP over gRPC is taken: Jaeger, or any collector. `XZEPR__JAEGER_ENDPOINT` or
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` overrides it and switches traces on.
    pub jaeger_endpoint: String,
    /// `service.name` of every span.
    pub service_name: String,
    /// `service.version`; empty: the version of this build.
    pub service_version: String,
    /// `deployment.environment.name`; empty: the one that `FRAISEQL_ENV` names.
    pub environment: String,
    /// Share of the traces that are exported, 0 to 1; those that failed are exported whatever it says. Left out: 0.1 in
    /// production, 0.5 in staging, 1 else.
    pub sample_rate: f64,
    /// Whether a caller's `traceparent` decides whether his trace is exported, as W3C has it. `false`: his trace id is
    /// kept and `sample_rate` decides.
    pub follow_parent: bool,
    /// What is told of a request.
    pub middleware: Variant,
    /// Traces that wait for the exporter; one more is dropped and counted.
    pub queue: u32,
    /// Spans in one message to the collector at most.
    pub batch: u32,
    /// A span waits so long for others of its batch.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// A collector that has not answered by then is given up with the batch.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

/// What is told of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Method, route, target, status, duration, the id.
    Basic,
    /// Also the caller's id and the size of the answer.
    Enhanced,
    /// No spans: the request has its id and passes the caller's trace context on.
    RequestId,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            enabled: false,
            jaeger_endpoint: "http://jaeger:4317".to_owned(),
            service_name: "fraiseql-server".to_owned(),
            service_version: String::new(),
            environment: String::new(),
            sample_rate: 1.0,
            follow_parent: true,
            middleware: Variant::Basic,
            queue: 2048,
            batch: 512,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
    }
}

const ENDPOINT: &str = "http://host:port or https://host:port, without a password";

impl Tracing {
    pub(super) fn check(&self, checks: &mut TableChecks<'_>) {
        checks.require(
            "jaeger_endpoint",
            &self.jaeger_endpoint,
            is_endpoint(&self.jaeger_endpoint),
            ENDPOINT,
        );
        checks.require("service_name", &self.service_name, !self.service_name.trim().is_empty(), "a name");
        checks.require(
            "sample_rate",
            self.sample_rate,
            (0.0..=1.0).contains(&self.sample_rate),
            "0.0 to 1.0",
        );
        checks.count("queue", self.queue.into(), 1..=1_000_000);
        checks.count("batch", self.batch.into(), 1..=10_000);
        checks.duration("interval", self.interval, "10ms", "1m");
        checks.duration("timeout", self.timeout, "10ms", "1m");
    }

    /// `rate_is_written`: the file has a `sample_rate`.
    pub(super) fn apply(
        &mut self,
        mode: Mode,
        rate_is_written: bool,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) {
        if !rate_is_written {
            self.sample_rate = match mode {
                Mode::Development => 1.0,
                Mode::Staging => 0.5,
                Mode::Production => 0.1,
            };
        }
        if self.environment.is_empty() {
            mode.name().clone_into(&mut self.environment);
        }
        if self.service_version.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut self.service_version);
        }
        for name in ["XZEPR__JAEGER_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            let Some(endpoint) = environment.get(name) else { continue };
            if is_endpoint(endpoint) {
                endpoint.clone_into(&mut self.jaeger_endpoint);
                self.enabled = true;
            } else {
                problems.push(Problem::variable(name, "is no address of a collector", ENDPOINT));
            }
            break;
        }
    }
}

fn is_endpoint(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.password().is_none()
            && url.username().is_empty()
    })
}
