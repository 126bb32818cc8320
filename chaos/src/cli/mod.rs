//! The command line: Toxiproxy's flags of the server, and verbs like those of its command-line client.

mod faults;
mod table;
mod tls;
mod top;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use chaos::client;
use chaos::proxy::DialFailure;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use verbs::run;

/// Fault proxy with Toxiproxy's HTTP API; with a verb, a client of any such server.
#[derive(Debug, Parser)]
#[command(name = "chaos-proxy", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub shared: Shared,
    #[command(flatten)]
    pub server: ServerArguments,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 refused by the API, or the server could not run; 2 wrong arguments; 3 no answer from the API.
The token may also stand in CHAOS_PROXY_TOKEN, the API's address in TOXIPROXY_URL, how much is logged in LOG_LEVEL.";

/// What the server and its client both take.
#[derive(Debug, Args)]
pub struct Shared {
    /// Server: host to listen on [default: 127.0.0.1]. Verbs: address of the API [default: http://localhost:8474].
    #[arg(long, global = true)]
    pub host: Option<String>,
    /// Server: token that every request has to carry. Verbs: token to send.
    #[arg(long, global = true)]
    token: Option<String>,
}

impl Shared {
    /// The token of the arguments, else of the environment; an empty one is none.
    pub fn token(&self) -> Option<String> {
        self.token.clone().or_else(|| variable("CHAOS_PROXY_TOKEN")).filter(|token| !token.is_empty())
    }
}

/// What only the server takes.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Port that the API listens on.
    #[arg(long, default_value_t = 8474)]
    pub port: u16,
    /// JSON file with the proxies to create at the start, as for POST /populate.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Seed of everything that is drawn (jitter, toxicity); the same seed draws the same.
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub seed: Seed,
    /// Counters of the proxies under /metrics.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
        action = ArgAction::Set)]
    pub proxy_metrics: bool,
    /// Figures of this process under /metrics.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
        action = ArgAction::Set)]
    pub runtime_metrics: bool,
}

/// Toxiproxy's seeds are signed, ours are not: a negative one stands for its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Seed, String> {
        let signed = |_| text.parse::<i64>().map(i64::cast_unsigned);
        text.parse().or_else(signed).map(Seed).map_err(|_| "a seed is an integer of 64 bits".to_owned())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Tcp,
    Udp,
    /// PostgreSQL's.
    Pg,
    Redis,
    Nats,
}

impl Protocol {
    /// What is spoken on connections; `None` where nothing is read along.
    pub fn spoken(self) -> Option<chaos::protocol::Protocol> {
        match self {
            Protocol::Tcp | Protocol::Udp => None,
            Protocol::Pg => Some(chaos::protocol::Protocol::Postgres),
            Protocol::Redis => Some(chaos::protocol::Protocol::Redis),
            Protocol::Nats => Some(chaos::protocol::Protocol::Nats),
        }
    }
}

/// What can be asked of a server.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show all proxies.
    #[command(visible_aliases = ["l", "li", "ls"])]
    List,
    /// Show a proxy and its toxics.
    #[command(visible_aliases = ["i", "ins"])]
    Inspect { name: String },
    /// Create a proxy.
    #[command(visible_aliases = ["c", "new"])]
    Create {
        name: String,
        /// Address that clients connect to, host:port.
        #[arg(short, long)]
        listen: String,
        /// Address that is forwarded to, host:port.
        #[arg(short, long)]
        upstream: String,
        /// What is forwarded: datagrams, connections, or connections whose messages are read along for faults on them.
        #[arg(long, default_value = "tcp")]
        protocol: Protocol,
        /// With udp: how long a session lasts in which nothing is said, such as 30s [default: the server's, 60s].
        #[arg(long, value_parser = idle)]
        idle_timeout: Option<std::time::Duration>,
        /// What becomes of a client whose upstream cannot be reached: its connection is closed (the default) or reset, or it
        /// waits while the upstream is dialled again for 30 s; not with udp, and only on our own server.
        #[arg(long, value_name = "close|reset|retry", value_parser = dial_failure)]
        dial_failure: Option<DialFailure>,
        #[command(flatten)]
        tls: tls::TlsArguments,
    },
    /// Disable an enabled proxy, enable a disabled one.
    #[command(visible_aliases = ["tog"])]
    Toggle { name: String },
    /// Delete a proxy.
    #[command(visible_aliases = ["d"])]
    Delete { name: String },
    /// Show proxies, connections, rates and toxics again and again. The server has to be started with --proxy-metrics.
    Top {
        /// Time between two pages.
        #[arg(long, default_value = "1s", value_parser = interval)]
        interval: std::time::Duration,
        /// Number of pages [default: no end on a terminal, else one].
        #[arg(long)]
        times: Option<u64>,
    },
    /// Add, show or remove a fault, with what it touched; only on our own server.
    #[command(subcommand, visible_aliases = ["f"])]
    Fault(faults::FaultVerb),
    /// Add, update or remove a toxic.
    #[command(subcommand, visible_aliases = ["t"])]
    Toxic(ToxicVerb),
}

#[derive(Debug, Subcommand)]
pub enum ToxicVerb {
    /// Add a toxic to a proxy.
    #[command(visible_aliases = ["a"])]
    Add {
        proxy: String,
        /// Type, such as latency, bandwidth, timeout, reset_peer, packet_loss, or one of our own: refuse,
        /// connect_blackhole, reset, fail_first, blackhole, stall, flap, corrupt, duplicate, truncate, shared_bandwidth,
        /// latency_normal, latency_pareto, latency_quantiles, and on datagrams reorder.
        #[arg(short = 't', long = "type")]
        kind: String,
        /// Name [default: the type, an underscore and the stream].
        #[arg(short = 'n', long = "toxicName", visible_alias = "name")]
        name: Option<String>,
        /// Probability, 0 to 1, that a connection is affected.
        #[arg(long, visible_alias = "tox", default_value = "1", value_parser = toxicity)]
        toxicity: f32,
        /// key=value; may be given more than once.
        #[arg(short, long = "attribute", value_parser = attribute)]
        attributes: Vec<(String, serde_json::Value)>,
        /// Act only on connections from this address or network; may be given more than once.
        #[arg(long = "client", value_name = "ADDRESS")]
        clients: Vec<String>,
        /// Act on what clients send.
        #[arg(short, long, conflicts_with = "downstream")]
        upstream: bool,
        /// Act on what the server sends (the default).
        #[arg(short, long)]
        downstream: bool,
    },
    /// Change attributes of a toxic; what is not named stays.
    #[command(visible_aliases = ["u"])]
    Update {
        proxy: String,
        #[arg(short = 'n', long = "toxicName", visible_alias = "name")]
        name: String,
        /// Probability, 0 to 1, that a connection is affected.
        #[arg(long, visible_alias = "tox", value_parser = toxicity)]
        toxicity: Option<f32>,
        /// key=value; may be given more than once.
        #[arg(short, long = "attribute", value_parser = attribute)]
        attributes: Vec<(String, serde_json::Value)>,
    },
    /// Remove a toxic.
    #[command(visible_aliases = ["r", "delete", "d"])]
    Remove {
        proxy: String,
        #[arg(short = 'n', long = "toxicName", visible_alias = "name")]
        name: String,
    },
}

/// Go's flags have one dash (`-port 8474`, `-port=8474`).
pub fn two_dashes((index, argument): (usize, String)) -> String {
    const LONG: [&str; 26] = [
        "host",
        "port",
        "config",
        "seed",
        "proxy-metrics",
        "runtime-metrics",
        "version",
        "help",
        "token",
        "listen",
        "upstream",
        "protocol",
        "idle-timeout",
        "dial-failure",
        "downstream",
        "toxicName",
        "type",
        "toxicity",
        "tox",
        "attribute",
        "tls-certificate",
        "tls-key",
        "tls-originate",
        "tls-ca",
        "tls-insecure",
        "tls-handshake-timeout",
    ];
    let name = argument.strip_prefix('-').unwrap_or("").split('=').next().unwrap_or("");
    if index > 0 && LONG.contains(&name) { format!("-{argument}") } else { argument }
}

fn toxicity(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "toxicity is a number from 0 to 1".to_owned())
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    let value = humantime::parse_duration(text).ok().filter(|value| value.as_millis() >= 100);
    value.ok_or_else(|| "an interval is at least 100ms, such as 1s".to_owned())
}

fn idle(text: &str) -> Result<std::time::Duration, String> {
    let value = humantime::parse_duration(text).ok().filter(|value| value.as_millis() > 0);
    value.ok_or_else(|| "a time is at least 1ms, such as 30s".to_owned())
}

fn dial_failure(text: &str) -> Result<DialFailure, String> {
    let known = DialFailure::ALL.into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| "what becomes of the client is close, reset or retry".to_owned())
}

fn attribute(text: &str) -> Result<(String, serde_json::Value), String> {
    let (key, value) = text.split_once('=').ok_or("an attribute is written key=value")?;
    let number = serde_json::from_str::<serde_json::Number>(value).map(serde_json::Value::Number);
    Ok((key.to_owned(), number.unwrap_or_else(|_| value.into())))
}

/// A variable of the environment, where it is set.
pub fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the command line is where the environment is read")]
    std::env::var(name).ok()
}

/// Why the program ends with an error.
#[derive(Debug)]
pub enum Failure {
    Server(anyhow::Error),
    Call(client::Error),
    /// Arguments that do not fit together.
    Arguments(&'static str),
}

impl Failure {
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Server(_) | Failure::Call(client::Error::Refused { .. }) => 1,
            Failure::Call(client::Error::Address { .. }) | Failure::Arguments(_) => 2,
            Failure::Call(_) => 3,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Server(error) => write!(out, "{error:#}"),
            Failure::Call(error) => write!(out, "{error}"),
            Failure::Arguments(reason) => out.write_str(reason),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Server(error)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        Failure::Call(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Arguments {
        let words = std::iter::once("chaos-proxy").chain(line.split_whitespace()).map(str::to_owned);
        Arguments::try_parse_from(words.enumerate().map(two_dashes)).expect("arguments")
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn gos_flags_are_understood() {
        let arguments =
            parse("-host 0.0.0.0 -port=1 -seed -5 -proxy-metrics -runtime-metrics=false -config x.json");
        assert_eq!(arguments.shared.host.as_deref(), Some("0.0.0.0"));
        assert_eq!((arguments.server.port, arguments.server.seed), (1, Seed(u64::MAX - 4)));
        assert!(arguments.server.proxy_metrics && !arguments.server.runtime_metrics);
        assert_eq!(arguments.server.config, Some("x.json".into()));
        assert!(arguments.verb.is_none());
    }

    #[test]
    fn the_clients_short_flags_are_understood_and_the_host_stands_anywhere() {
        let arguments =
            parse("toxic add -t latency -n slow -a latency=100 -a jitter=0.5 -u -tox 0.5 redis --host h:1");
        assert_eq!(arguments.shared.host.as_deref(), Some("h:1"));
        let Some(Verb::Toxic(ToxicVerb::Add { proxy, kind, name, toxicity, attributes, upstream, .. })) =
            arguments.verb
        else {
            panic!("another verb: {:?}", arguments.verb)
        };
        assert_eq!((proxy.as_str(), kind.as_str(), name.as_deref()), ("redis", "latency", Some("slow")));
        assert!(upstream && (toxicity - 0.5).abs() < f32::EPSILON);
        assert_eq!(attributes, [("latency".to_owned(), 100.into()), ("jitter".to_owned(), 0.5.into())]);
    }
}
