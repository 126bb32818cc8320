//! Toxics as Toxiproxy's clients write them: type names, attributes and their defaults.
//!
//! All attributes are integers with the default 0. Values that Toxiproxy accepts and then crashes on (a negative rate,
//! a slicer without a size) are accepted and harmless: negative counts as 0, a slicer of size 0 does not slice.

use std::time::Duration;

use serde_json::{Map, Value};

use super::LONGEST;
use super::effect::Kind;
use crate::fault::Direction;

/// A toxic of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct Toxic {
    /// Unique on its proxy, over both directions.
    pub name: String,
    pub kind: Type,
    /// As the client wrote it; `upstream` or `downstream` in any case.
    pub stream: String,
    pub toxicity: f32,
    /// In the order of [`Type::attributes`].
    pub values: Vec<i64>,
}

/// What is wrong with a toxic; each message is the one of Toxiproxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("stream was invalid, can be either upstream or downstream")]
    Stream,
    #[error("invalid toxic type")]
    Type,
    #[error("bad request body: json: cannot unmarshal {found} into field {attribute} of type int64")]
    Attribute { attribute: String, found: String },
}

/// The types of Toxiproxy 2.12.
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
}

impl Type {
    pub const ALL: [Type; 8] = [
        Type::Noop,
        Type::Latency,
        Type::Bandwidth,
        Type::SlowClose,
        Type::Timeout,
        Type::ResetPeer,
        Type::Slicer,
        Type::LimitData,
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
        }
    }

    /// Names of the attributes. Milliseconds, except bandwidth's `rate` (1000 bytes a second), sizes in bytes and the
    /// slicer's `delay` (microseconds).
    pub fn attributes(self) -> &'static [&'static str] {
        match self {
            Type::Noop => &[],
            Type::Latency => &["latency", "jitter"],
            Type::Bandwidth => &["rate"],
            Type::SlowClose => &["delay"],
            Type::Timeout | Type::ResetPeer => &["timeout"],
            Type::Slicer => &["average_size", "size_variation", "delay"],
            Type::LimitData => &["bytes"],
        }
    }
}

impl Toxic {
    /// The direction that `stream` names.
    pub fn direction(&self) -> Result<Direction, WireError> {
        parse_stream(&self.stream)
    }

    /// Takes over the attributes that are given and leaves the rest; nothing is taken over when one of them is wrong.
    pub fn merge(&mut self, given: &Map<String, Value>) -> Result<(), WireError> {
        let mut values = self.values.clone();
        values.resize(self.kind.attributes().len(), 0);
        for (key, value) in given {
            let known = self.kind.attributes().iter().position(|name| name.eq_ignore_ascii_case(key));
            let Some(index) = known else { continue };
            match value {
                Value::Null => {}
                value => {
                    values[index] = value.as_i64().ok_or_else(|| WireError::Attribute {
                        attribute: key.clone(),
                        found: value.to_string(),
                    })?;
                }
            }
        }
        self.values = values;
        Ok(())
    }

    /// What the toxic does, with every value cut to what is possible.
    pub fn effect(&self) -> Kind {
        let value = |index: usize| self.values.get(index).copied().unwrap_or(0);
        let count = |index: usize| u64::try_from(value(index)).unwrap_or(0);
        let millis = |index: usize| Duration::from_millis(count(index)).min(LONGEST);
        match self.kind {
            Type::Noop => Kind::Noop,
            Type::Latency => Kind::Latency {
                delay: millis(0),
                jitter: Duration::from_millis(value(1).unsigned_abs()).min(LONGEST),
            },
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
        }
    }
}

pub(crate) fn parse_stream(stream: &str) -> Result<Direction, WireError> {
    match stream.to_ascii_lowercase().as_str() {
        "upstream" => Ok(Direction::Upstream),
        "downstream" => Ok(Direction::Downstream),
        _ => Err(WireError::Stream),
    }
}
