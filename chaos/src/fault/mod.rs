//! Faults: what can be done to a link or a process, and the proof that it was done.
//!
//! A fault acts until its guard is healed or dropped. It counts what it touched while it acts; a fault whose evidence
//! stays empty proved nothing, and the run that relied on it is inconclusive.

pub mod memory;
pub mod process;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a fault on a link does. Each acts on new and on live connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkFault {
    /// Every byte is delivered `delay` later, give or take `jitter` (uniform); order is kept.
    Latency {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default, with = "humantime_serde")]
        jitter: Duration,
        #[serde(default)]
        direction: Direction,
    },
    /// New connections are refused (the listener is closed: ECONNREFUSED).
    Refuse {
        #[serde(default)]
        existing: Existing,
    },
    /// Live connections, idle ones too, end with a TCP RST at once; connections made while it acts are reset after
    /// they are accepted.
    Reset {},
    /// Bytes vanish and nobody is told: no FIN, no RST, the TCP peer keeps acknowledging.
    Blackhole {
        /// True: connections that were silenced stay silent after the fault is healed, until their peer gives up.
        #[serde(default = "yes")]
        sticky: bool,
        #[serde(default)]
        direction: Direction,
    },
    /// At most so many bytes a second, on each connection and direction, or on all of them together.
    Bandwidth {
        bytes_per_second: u64,
        #[serde(default)]
        shared: bool,
        #[serde(default)]
        direction: Direction,
    },
    /// Every chunk of bytes is delivered after a delay that is drawn for it; order is kept.
    LatencyDrawn {
        from: Delays,
        #[serde(default)]
        direction: Direction,
    },
    /// New connections are not answered: no SYN-ACK, no RST. Those that are open stay.
    ConnectBlackhole {},
    /// The first connections that are made while it acts are reset after they are accepted.
    FailFirst { connections: u64 },
    /// Each connection keeps back what follows its first `after_bytes`, for `lasts`; without it, until the fault is healed.
    Stall {
        #[serde(default)]
        after_bytes: u64,
        #[serde(default, with = "humantime_serde")]
        lasts: Option<Duration>,
        #[serde(default)]
        direction: Direction,
    },
    /// In turns everything passes and everything is kept back; the first turn is `up`.
    Flap {
        #[serde(with = "humantime_serde")]
        up: Duration,
        #[serde(with = "humantime_serde")]
        down: Duration,
        #[serde(default)]
        direction: Direction,
    },
    /// One bit is flipped in so many of a million bytes.
    Corrupt {
        rate_ppm: u32,
        #[serde(default)]
        direction: Direction,
    },
    /// So many of a million chunks, as they arrive, are delivered twice.
    Duplicate {
        rate_ppm: u32,
        #[serde(default)]
        direction: Direction,
    },
    /// What follows the first bytes of a connection vanishes; its end is passed on.
    Truncate {
        bytes: u64,
        #[serde(default)]
        direction: Direction,
    },
    /// The orderly end of a connection is passed on so much later.
    SlowClose {
        #[serde(with = "humantime_serde")]
        delay: Duration,
        #[serde(default)]
        direction: Direction,
    },
    /// Bytes go out in pieces of `average_bytes`, give or take `variation_bytes`, with a pause after each.
    Slice {
        average_bytes: u64,
        #[serde(default)]
        variation_bytes: u64,
        #[serde(default, with = "humantime_serde")]
        pause: Duration,
        #[serde(default)]
        direction: Direction,
    },
}

/// What delays are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Delays {
    /// What would be negative is 0.
    Normal {
        #[serde(with = "humantime_serde")]
        mean: Duration,
        #[serde(with = "humantime_serde")]
        deviation: Duration,
    },
    /// None below `minimum`; the smaller the shape (above 0), the longer the tail.
    Pareto {
        #[serde(with = "humantime_serde")]
        minimum: Duration,
        shape: f64,
    },
    /// Delays that so many of a hundred (or a thousand) do not exceed; between two of them all are equally likely.
    Quantiles {
        #[serde(with = "humantime_serde")]
        p0: Duration,
        #[serde(with = "humantime_serde")]
        p50: Duration,
        #[serde(with = "humantime_serde")]
        p90: Duration,
        #[serde(with = "humantime_serde")]
        p99: Duration,
        #[serde(with = "humantime_serde")]
        p999: Duration,
        #[serde(with = "humantime_serde")]
        p100: Duration,
    },
}

impl NetworkFault {
    /// Every word that [`NetworkFault::kind`] can be.
    pub const KINDS: [&'static str; 15] = [
        "latency",
        "refuse",
        "reset",
        "blackhole",
        "bandwidth",
        "latency_drawn",
        "connect_blackhole",
        "fail_first",
        "stall",
        "flap",
        "corrupt",
        "duplicate",
        "truncate",
        "slow_close",
        "slice",
    ];

    /// The word for it in scenario files, histories and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            NetworkFault::Latency { .. } => "latency",
            NetworkFault::Refuse { .. } => "refuse",
            NetworkFault::Reset {} => "reset",
            NetworkFault::Blackhole { .. } => "blackhole",
            NetworkFault::Bandwidth { .. } => "bandwidth",
            NetworkFault::LatencyDrawn { .. } => "latency_drawn",
            NetworkFault::ConnectBlackhole {} => "connect_blackhole",
            NetworkFault::FailFirst { .. } => "fail_first",
            NetworkFault::Stall { .. } => "stall",
            NetworkFault::Flap { .. } => "flap",
            NetworkFault::Corrupt { .. } => "corrupt",
            NetworkFault::Duplicate { .. } => "duplicate",
            NetworkFault::Truncate { .. } => "truncate",
            NetworkFault::SlowClose { .. } => "slow_close",
            NetworkFault::Slice { .. } => "slice",
        }
    }
}

impl NetworkFault {
    /// Why it would do nothing, or nothing sensible, with its values: the field, the value and what to write instead.
    pub fn problem(&self) -> Option<String> {
        let zero =
            |field: &str| Some(format!("`{field}` is 0, and nothing would happen: write more than that"));
        match self {
            NetworkFault::Latency { delay, jitter, .. } if delay.is_zero() && jitter.is_zero() => {
                zero("delay")
            }
            NetworkFault::LatencyDrawn { from, .. } => from.problem(),
            NetworkFault::FailFirst { connections: 0 } => zero("connections"),
            NetworkFault::Flap { down, .. } if down.is_zero() => zero("down"),
            NetworkFault::Corrupt { rate_ppm: 0, .. } | NetworkFault::Duplicate { rate_ppm: 0, .. } => {
                zero("rate_ppm")
            }
            NetworkFault::Corrupt { rate_ppm, .. } | NetworkFault::Duplicate { rate_ppm, .. }
                if *rate_ppm > 1_000_000 =>
            {
                Some(format!("`rate_ppm` is {rate_ppm}, out of a million: write 1 to 1000000"))
            }
            NetworkFault::SlowClose { delay, .. } if delay.is_zero() => zero("delay"),
            NetworkFault::Slice { average_bytes: 0, .. } => zero("average_bytes"),
            NetworkFault::Slice { average_bytes, variation_bytes, .. }
                if variation_bytes >= average_bytes =>
            {
                Some(format!(
                    "`variation_bytes` is {variation_bytes} and `average_bytes` {average_bytes}: write a smaller variation"
                ))
            }
            _ => None,
        }
    }
}

impl Delays {
    fn problem(&self) -> Option<String> {
        match self {
            Delays::Normal { mean, deviation } if mean.is_zero() && deviation.is_zero() => {
                Some("`mean` is 0, and nothing would happen: write more than that".to_owned())
            }
            Delays::Pareto { shape, .. } if !(shape.is_finite() && *shape > 0.0) => {
                Some(format!("`shape` is {shape}: write a number above 0, such as 1.5"))
            }
            Delays::Quantiles { p0, p50, p90, p99, p999, p100 } => {
                let named =
                    [("p0", p0), ("p50", p50), ("p90", p90), ("p99", p99), ("p999", p999), ("p100", p100)];
                let falls = named.windows(2).find(|pair| pair[1].1 < pair[0].1)?;
                let (field, value) = falls[1];
                let (before, least) = falls[0];
                Some(format!("`{field}` is {value:?}, below `{before}`: write at least {least:?}"))
            }
            _ => None,
        }
    }
}

/// Which way of a link: *upstream* runs from the client to the server, *downstream* back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    #[default]
    Both,
    Upstream,
    Downstream,
}

/// What happens to connections that are open when new ones begin to be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    Keep,
    #[default]
    Reset,
}

/// What a fault touched. All counters only grow while the fault acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Connection attempts that got ECONNREFUSED or were closed at once. A closed listener cannot see attempts; they
    /// are counted from the client side where the harness can (`refused` is then filled by the runner).
    pub refused: u64,
    /// Attempts to connect that got no answer; counted like `refused`.
    pub unanswered: u64,
    /// Connections ended with RST.
    pub reset: u64,
    /// Live connections that the fault acted on.
    pub connections: u64,
    pub delayed_bytes: u64,
    pub swallowed_bytes: u64,
    pub forwarded_bytes: u64,
    pub corrupted_bytes: u64,
    /// Bytes that were delivered a second time.
    pub duplicated_bytes: u64,
    /// Processes that were signalled and seen to change state (ended, stopped).
    pub processes: u64,
    /// Requests that were due while a surge of the load acted.
    pub arrivals: u64,
    /// Messages that a fault on messages was about.
    pub matched: u64,
    /// Messages on which it acted, completely.
    pub acted: u64,
    /// Messages on which it began to act, but which the server failed by itself.
    pub missed: u64,
    /// Connections and messages that it could not see, because they were encrypted or not understood.
    pub blind: u64,
    /// Exchanges of the harness' own that met the fault, on a link whose proxy does not count.
    pub probes: u64,
}

impl Evidence {
    /// True when the fault touched nothing at all.
    pub fn is_empty(&self) -> bool {
        self.refused == 0
            && self.unanswered == 0
            && self.corrupted_bytes == 0
            && self.duplicated_bytes == 0
            && self.reset == 0
            && self.delayed_bytes == 0
            && self.swallowed_bytes == 0
            && self.processes == 0
            && self.arrivals == 0
            && self.acted == 0
            && self.probes == 0
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(toml: &str) -> Option<String> {
        toml::from_str::<NetworkFault>(toml).expect(toml).problem()
    }

    #[test]
    fn values_that_do_nothing_are_told_by_their_field() {
        for (toml, field) in [
            ("latency = { delay = \"0s\" }", "`delay` is 0"),
            ("fail_first = { connections = 0 }", "`connections` is 0"),
            ("flap = { up = \"1s\", down = \"0s\" }", "`down` is 0"),
            ("corrupt = { rate_ppm = 0 }", "`rate_ppm` is 0"),
            ("duplicate = { rate_ppm = 1000001 }", "`rate_ppm` is 1000001"),
            ("slow_close = { delay = \"0s\" }", "`delay` is 0"),
            ("slice = { average_bytes = 0 }", "`average_bytes` is 0"),
            ("slice = { average_bytes = 5, variation_bytes = 5 }", "`variation_bytes` is 5"),
            ("latency_drawn = { from.normal = { mean = \"0s\", deviation = \"0s\" } }", "`mean` is 0"),
            ("latency_drawn = { from.pareto = { minimum = \"1ms\", shape = 0.0 } }", "`shape` is 0"),
            (
                "latency_drawn.from.quantiles = { p0 = \"1ms\", p50 = \"5ms\", p90 = \"4ms\", p99 = \"9ms\", \
                 p999 = \"9ms\", p100 = \"9ms\" }",
                "`p90` is 4ms, below `p50`",
            ),
        ] {
            let told = problem(toml).unwrap_or_else(|| panic!("{toml} is let through"));
            assert!(told.contains(field) && told.contains("write"), "{toml}: {told}");
        }
    }

    #[test]
    fn sensible_values_are_let_through() {
        for toml in [
            "latency = { delay = \"1ms\" }",
            "bandwidth = { bytes_per_second = 0 }",
            "flap = { up = \"0s\", down = \"1s\" }",
            "corrupt = { rate_ppm = 1000000 }",
            "truncate = { bytes = 0 }",
            "slice = { average_bytes = 5, variation_bytes = 4 }",
            "latency_drawn = { from.pareto = { minimum = \"1ms\", shape = 0.5 } }",
        ] {
            assert_eq!(problem(toml), None, "{toml}");
        }
    }
}
