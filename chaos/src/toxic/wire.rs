//! Toxics as Toxiproxy's clients write them, and what they do.
//!
//! Values that Toxiproxy accepts and then crashes on (a negative rate, a slicer without a size) are accepted and
//! harmless: negative counts as 0, a slicer of size 0 does not slice, a probability is cut to 0..=1.

use std::time::Duration;

use super::clients::Clients;
use super::distribution::Distribution;
use super::effect::Kind;
use super::{LONGEST, Number, Transport, Type};
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
    /// Whose connections it acts on.
    pub clients: Clients,
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
    /// Toxiproxy knows no clients.
    #[error(
        "clients: {toxic} acts on the port, which is the same for every client; leave `clients` out, or use reset"
    )]
    ClientsOfPort { toxic: &'static str },
    /// Toxiproxy knows TCP alone.
    #[error("{toxic} has no meaning on a {} proxy; {}", transport.name(), known(*transport))]
    Transport { toxic: &'static str, transport: Transport },
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

    /// Fails when the toxic cannot act on some clients alone.
    pub fn check_clients(&self) -> Result<(), WireError> {
        match self.kind.acts_on_port() && !self.clients.is_everybody() {
            true => Err(WireError::ClientsOfPort { toxic: self.kind.name() }),
            false => Ok(()),
        }
    }

    /// Fails when the toxic means nothing on proxies of this transport.
    pub fn check_transport(&self, transport: Transport) -> Result<(), WireError> {
        match self.kind.acts_on(transport) {
            true => Ok(()),
            false => Err(WireError::Transport { toxic: self.kind.name(), transport }),
        }
    }

    /// True when connections that are open when it is added end by it.
    pub fn resets_existing(&self) -> bool {
        let value = self.attributes().next().map_or(0, |(_, value)| value.count());
        self.kind == Type::Reset || (self.kind == Type::Refuse && value > 0)
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
            Type::Refuse => Kind::Refuse,
            Type::ConnectBlackhole => Kind::ConnectBlackhole,
            Type::Reset => Kind::Reset,
            Type::FailFirst => Kind::FailFirst { connections: count(0) },
            Type::Blackhole if count(0) == 0 => Kind::Hold,
            Type::Blackhole => Kind::Silence,
            Type::Stall => Kind::Stall { after: count(0), lasts: (count(1) > 0).then(|| millis(1)) },
            Type::Flap if count(0) == 0 && count(1) == 0 => Kind::Noop,
            Type::Flap => Kind::Flap { up: millis(0), down: millis(1) },
            Type::Corrupt => Kind::Corrupt { rate_ppm: values[0].ppm() },
            Type::Duplicate => Kind::Duplicate { rate_ppm: values[0].ppm() },
            Type::Reorder => Kind::Reorder { rate_ppm: values[0].ppm(), gap: count(1), hold: millis(2) },
            Type::Truncate => Kind::Truncate { bytes: count(0) },
            Type::SharedBandwidth => {
                Kind::SharedBandwidth { bytes_per_second: count(0).saturating_mul(1000) }
            }
            Type::LatencyNormal => {
                Kind::LatencyDrawn(Distribution::Normal { mean: millis(0), deviation: millis(1) })
            }
            Type::LatencyPareto => {
                let shape = count(1) as f64 / 1000.0;
                Kind::LatencyDrawn(Distribution::Pareto { minimum: millis(0), shape })
            }
            Type::LatencyQuantiles => {
                Kind::LatencyDrawn(Distribution::Quantiles(std::array::from_fn(millis)))
            }
        }
    }
}

fn known(transport: Transport) -> String {
    let names: Vec<&str> =
        Type::ALL.iter().filter(|kind| kind.acts_on(transport)).map(|kind| kind.name()).collect();
    format!("these have: {}", names.join(", "))
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
