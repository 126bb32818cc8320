//! The types of toxics: their names, attributes and defaults.
//!
//! Attributes of our own types are whole numbers, since Toxiproxy's clients read them so.

use super::WireError;
use crate::json::Json;

/// Value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Whole(i64),
    Real(f64),
}

/// An attribute and the value that it has when none is given, which also says what it may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribute {
    pub name: &'static str,
    pub default: Number,
}

/// What a proxy forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// Declares the types: a word for clients, Toxiproxy's own name for its messages, attributes.
macro_rules! types {
    ($($(#[$doc:meta])* $kind:ident $name:literal $go:literal [$($attribute:expr),*];)*) => {
        /// The types of Toxiproxy 2.12, `packet_loss`, which came after it, and ours.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Type {
            $($(#[$doc])* $kind,)*
        }

        impl Type {
            pub const ALL: &'static [Type] = &[$(Type::$kind,)*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Type::$kind => $name,)*
                }
            }

            /// Toxiproxy's own name for it, which its messages contain.
            pub(super) fn struct_name(self) -> &'static str {
                match self {
                    $(Type::$kind => $go,)*
                }
            }

            pub fn attributes(self) -> &'static [Attribute] {
                match self {
                    $(Type::$kind => &const { [$($attribute),*] },)*
                }
            }
        }
    };
}

types! {
    Noop "noop" "NoopToxic" [];
    /// Milliseconds.
    Latency "latency" "LatencyToxic" [whole("latency", 0), whole("jitter", 0)];
    /// 1000 bytes a second.
    Bandwidth "bandwidth" "BandwidthToxic" [whole("rate", 0)];
    /// Milliseconds.
    SlowClose "slow_close" "SlowCloseToxic" [whole("delay", 0)];
    /// Milliseconds; 0: never.
    Timeout "timeout" "TimeoutToxic" [whole("timeout", 0)];
    /// Milliseconds.
    ResetPeer "reset_peer" "ResetToxic" [whole("timeout", 0)];
    /// Bytes, bytes, microseconds.
    Slicer "slicer" "SlicerToxic" [whole("average_size", 0), whole("size_variation", 0), whole("delay", 0)];
    /// Bytes.
    LimitData "limit_data" "LimitDataToxic" [whole("bytes", 0)];
    /// Probabilities from 0 to 1.
    PacketLoss "packet_loss" "PacketLossToxic" [real("loss_rate", 0.1), real("correlation", 0.0)];
    /// Not 0: connections that are open when it is added are reset.
    Refuse "refuse" "RefuseToxic" [whole("reset_existing", 0)];
    ConnectBlackhole "connect_blackhole" "ConnectBlackholeToxic" [];
    Reset "reset" "ResetConnectionsToxic" [];
    /// How many.
    FailFirst "fail_first" "FailFirstToxic" [whole("connections", 1)];
    /// Not 0: connections that it silenced stay silent. 0: what was kept back is delivered when it is removed.
    Blackhole "blackhole" "BlackholeToxic" [whole("sticky", 1)];
    /// Bytes that pass before, and milliseconds; 0: until it is removed.
    Stall "stall" "StallToxic" [whole("after", 0), whole("duration", 0)];
    /// Milliseconds.
    Flap "flap" "FlapToxic" [whole("up", 1000), whole("down", 1000)];
    /// Millionths of the bytes.
    Corrupt "corrupt" "CorruptToxic" [whole("rate", 1000)];
    /// Millionths of the chunks or datagrams.
    Duplicate "duplicate" "DuplicateToxic" [whole("rate", 10_000)];
    /// Bytes.
    Truncate "truncate" "TruncateToxic" [whole("bytes", 0)];
    /// 1000 bytes a second.
    SharedBandwidth "shared_bandwidth" "SharedBandwidthToxic" [whole("rate", 0)];
    /// Millionths of the datagrams, how many pass first, and milliseconds that one waits for them at most.
    Reorder "reorder" "ReorderToxic" [whole("rate", 10_000), whole("gap", 1), whole("hold", 100)];
    /// Milliseconds.
    LatencyNormal "latency_normal" "LatencyNormalToxic" [whole("mean", 0), whole("deviation", 0)];
    /// Milliseconds, and thousandths.
    LatencyPareto "latency_pareto" "LatencyParetoToxic" [whole("minimum", 0), whole("shape", 3000)];
    /// Milliseconds.
    LatencyQuantiles "latency_quantiles" "LatencyQuantilesToxic" [
        whole("p0", 0), whole("p50", 0), whole("p90", 0), whole("p99", 0), whole("p999", 0), whole("p100", 0)
    ];
}

const fn whole(name: &'static str, default: i64) -> Attribute {
    Attribute { name, default: Number::Whole(default) }
}

const fn real(name: &'static str, default: f64) -> Attribute {
    Attribute { name, default: Number::Real(default) }
}

impl Type {
    pub fn parse(name: &str) -> Result<Type, WireError> {
        Type::ALL.iter().copied().find(|kind| kind.name() == name).ok_or(WireError::Type)
    }

    /// False when it means nothing on proxies of this transport, which then refuse it.
    pub fn acts_on(self, transport: Transport) -> bool {
        match transport {
            Transport::Tcp => self != Type::Reorder,
            Transport::Udp => matches!(
                self,
                Type::Noop
                    | Type::Latency
                    | Type::LatencyNormal
                    | Type::LatencyPareto
                    | Type::LatencyQuantiles
                    | Type::Bandwidth
                    | Type::PacketLoss
                    | Type::Corrupt
                    | Type::Duplicate
                    | Type::Reorder
            ),
        }
    }

    /// True when it acts on the port and so on all clients alike.
    pub fn acts_on_port(self) -> bool {
        matches!(self, Type::Refuse | Type::ConnectBlackhole)
    }
}

impl Number {
    /// Reads a value of the same sort as this one.
    pub(super) fn like(self, value: &Json) -> Option<Number> {
        let Json::Number(text) = value else { return None };
        match self {
            Number::Whole(_) => text.parse().ok().map(Number::Whole),
            Number::Real(_) => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Real),
        }
    }

    pub(super) fn go_type(self) -> &'static str {
        match self {
            Number::Whole(_) => "int",
            Number::Real(_) => "float64",
        }
    }

    /// Negative counts as 0.
    pub(super) fn count(self) -> u64 {
        match self {
            Number::Whole(value) => u64::try_from(value).unwrap_or(0),
            Number::Real(_) => 0,
        }
    }

    /// Millionths of a probability.
    pub(super) fn ppm(self) -> u32 {
        u32::try_from(self.count().min(1_000_000)).unwrap_or(0)
    }

    pub(super) fn probability(self) -> f64 {
        match self {
            Number::Whole(_) => 0.0,
            Number::Real(value) => value.clamp(0.0, 1.0),
        }
    }
}
