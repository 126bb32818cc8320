//! Toxics as Toxiproxy's clients write them: type names, attributes and their defaults.
//!
//! Values that Toxiproxy accepts and then crashes on (a negative rate, a slicer without a size) are accepted and
//! harmless: negative counts as 0, a slicer of size 0 does not slice, a probability is cut to 0..=1.

use std::time::Duration;

use super::LONGEST;
use super::effect::Kind;
use crate::fault::Direction;
use crate::json::Json;

/// A toxic of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Toxic {
    /// Unique on its proxy, over both directions.
    pub name: String,
    pub kind: Type,
    /// As the client wrote it; `upstream` or `downstream` in any case.
    pub stream: String,
    pub toxicity: f32,
    /// In the order of [`Type::attributes`]; those that are missing have their default.
    pub values: Vec<Number>,
}

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

/// What is wrong with a toxic; each message is the one of Toxiproxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("stream was invalid, can be either upstream or downstream")]
    Stream,
    #[error("invalid toxic type")]
    Type,
    #[error(
        "bad request body: json: cannot unmarshal {found} into Go struct field {toxic}.attributes.{attribute} of type \
         {expected}"
    )]
    Attribute { toxic: &'static str, attribute: &'static str, found: String, expected: &'static str },
}

/// The types of Toxiproxy 2.12, and `packet_loss`, which came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    Noop,
    Latency,
    Bandwidth,
    SlowClose,
    Timeout,
    ResetPeer,
    Slicer,
    LimitData,
    PacketLoss,
}

const fn whole(name: &'static str) -> Attribute {
    Attribute { name, default: Number::Whole(0) }
}

const fn real(name: &'static str, default: f64) -> Attribute {
    Attribute { name, default: Number::Real(default) }
}

impl Type {
    pub const ALL: [Type; 9] = [
        Type::Noop,
        Type::Latency,
        Type::Bandwidth,
        Type::SlowClose,
        Type::Timeout,
        Type::ResetPeer,
        Type::Slicer,
        Type::LimitData,
        Type::PacketLoss,
    ];

    pub fn parse(name: &str) -> Result<Type, WireError> {
        Type::ALL.into_iter().find(|kind| kind.name() == name).ok_or(WireError::Type)
    }

    pub fn name(self) -> &'static str {
        match self {
            Type::Noop => "noop",
            Type::Latency => "latency",
            Type::Bandwidth => "bandwidth",
            Type::SlowClose => "slow_close",
            Type::Timeout => "timeout",
            Type::ResetPeer => "reset_peer",
            Type::Slicer => "slicer",
            Type::LimitData => "limit_data",
            Type::PacketLoss => "packet_loss",
        }
    }

    /// Toxiproxy's own name for it, which its messages contain.
    fn struct_name(self) -> &'static str {
        match self {
            Type::Noop => "NoopToxic",
            Type::Latency => "LatencyToxic",
            Type::Bandwidth => "BandwidthToxic",
            Type::SlowClose => "SlowCloseToxic",
            Type::Timeout => "TimeoutToxic",
            Type::ResetPeer => "ResetToxic",
            Type::Slicer => "SlicerToxic",
            Type::LimitData => "LimitDataToxic",
            Type::PacketLoss => "PacketLossToxic",
        }
    }

    /// Milliseconds, except bandwidth's `rate` (1000 bytes a second), sizes in bytes, the slicer's `delay`
    /// (microseconds) and the probabilities of `packet_loss` (0 to 1).
    pub fn attributes(self) -> &'static [Attribute] {
        const LATENCY: [Attribute; 2] = [whole("latency"), whole("jitter")];
        const SLICER: [Attribute; 3] = [whole("average_size"), whole("size_variation"), whole("delay")];
        const LOSS: [Attribute; 2] = [real("loss_rate", 0.1), real("correlation", 0.0)];
        match self {
            Type::Noop => &[],
            Type::Latency => &LATENCY,
            Type::Bandwidth => &const { [whole("rate")] },
            Type::SlowClose => &const { [whole("delay")] },
            Type::Timeout | Type::ResetPeer => &const { [whole("timeout")] },
            Type::Slicer => &SLICER,
            Type::LimitData => &const { [whole("bytes")] },
            Type::PacketLoss => &LOSS,
        }
    }
}

impl Number {
    /// Reads a value of the same sort as this one.
    fn like(self, value: &Json) -> Option<Number> {
        let Json::Number(text) = value else { return None };
        match self {
            Number::Whole(_) => text.parse().ok().map(Number::Whole),
            Number::Real(_) => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Number::Real),
        }
    }

    fn go_type(self) -> &'static str {
        match self {
            Number::Whole(_) => "int",
            Number::Real(_) => "float64",
        }
    }

    /// Negative counts as 0.
    fn count(self) -> u64 {
        match self {
            Number::Whole(value) => u64::try_from(value).unwrap_or(0),
            Number::Real(_) => 0,
        }
    }

    fn probability(self) -> f64 {
        match self {
            Number::Whole(_) => 0.0,
            Number::Real(value) => value.clamp(0.0, 1.0),
        }
    }
}

impl Toxic {
    /// The direction that `stream` names.
    pub fn direction(&self) -> Result<Direction, WireError> {
        match self.stream.to_ascii_lowercase().as_str() {
            "upstream" => Ok(Direction::Upstream),
            "downstream" => Ok(Direction::Downstream),
            _ => Err(WireError::Stream),
        }
    }

    /// Each attribute with its value.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, Number)> {
        let given = self.values.iter().copied().map(Some).chain(std::iter::repeat(None));
        self.kind
            .attributes()
            .iter()
            .zip(given)
            .map(|(attribute, value)| (attribute.name, value.unwrap_or(attribute.default)))
    }

    /// Takes over the attributes that are given and leaves the rest; nothing is taken over when one of them is wrong.
    pub fn merge(&mut self, given: &[(String, Json)]) -> Result<(), WireError> {
        let mut values: Vec<Number> = self.attributes().map(|(_, value)| value).collect();
        for (key, value) in given {
            let attributes = self.kind.attributes();
            let Some(index) = attributes.iter().position(|known| known.name.eq_ignore_ascii_case(key)) else {
                continue;
            };
            if *value == Json::Null {
                continue;
            }
            let default = attributes[index].default;
            values[index] = default.like(value).ok_or_else(|| WireError::Attribute {
                toxic: self.kind.struct_name(),
                attribute: attributes[index].name,
                found: found(value),
                expected: default.go_type(),
            })?;
        }
        self.values = values;
        Ok(())
    }

    /// What the toxic does, with every value cut to what is possible.
    pub fn effect(&self) -> Kind {
        let values: Vec<Number> = self.attributes().map(|(_, value)| value).collect();
        let count = |index: usize| values[index].count();
        let millis = |index: usize| Duration::from_millis(count(index)).min(LONGEST);
        match self.kind {
            Type::Noop => Kind::Noop,
            Type::Latency => Kind::Latency { delay: millis(0), jitter: jitter(values[1]) },
            Type::Bandwidth => Kind::Bandwidth { bytes_per_second: count(0).saturating_mul(1000) },
            Type::SlowClose => Kind::SlowClose { delay: millis(0) },
            Type::Timeout => Kind::Timeout { after: (count(0) > 0).then(|| millis(0)) },
            Type::ResetPeer => Kind::ResetPeer { after: millis(0) },
            Type::Slicer => Kind::Slicer {
                average: count(0),
                variation: count(1),
                delay: Duration::from_micros(count(2)).min(LONGEST),
            },
            Type::LimitData => Kind::LimitData { bytes: count(0) },
            Type::PacketLoss => {
                Kind::PacketLoss { rate: values[0].probability(), correlation: values[1].probability() }
            }
        }
    }
}

fn jitter(value: Number) -> Duration {
    match value {
        Number::Whole(value) => Duration::from_millis(value.unsigned_abs()).min(LONGEST),
        Number::Real(_) => Duration::ZERO,
    }
}

/// A value as Go's messages name it: numbers with their text.
fn found(value: &Json) -> String {
    match value {
        Json::Number(text) => format!("number {text}"),
        other => other.kind().to_owned(),
    }
}
