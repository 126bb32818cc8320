//! A fault in the words of Toxiproxy, where it has them: toxics, or a proxy that is disabled. Pure.
//!
//! Only what means the same is translated. A fault that would act otherwise than its name says would make a verdict
//! about something else, so it is refused, with the reason.

use std::time::Duration;

use chaos::client::Toxic;
use chaos::fault::{Direction, Existing, NetworkFault};
use chaos::proxy::LinkFault;
use serde_json::{Map, Value};

/// What is done to a proxy of a server that knows toxics alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Means {
    /// Toxics with names of their own, one for each direction.
    Toxics(Vec<Toxic>),
    /// The proxy is disabled: its port refuses, and open connections end.
    Disable,
}

/// The means to a fault, or why there are none. `name` begins the names of the toxics.
pub(super) fn means(fault: &LinkFault, name: &str) -> Result<Means, String> {
    let fault = match fault {
        LinkFault::Network(fault) => fault,
        LinkFault::Wire(_) => return Err("Toxiproxy reads no messages".into()),
    };
    let toxics = |kind: &str, direction: Direction, attributes: &[(&str, u64)]| {
        let toxic = |stream: &str| Toxic {
            name: format!("{name}-{stream}"),
            kind: kind.into(),
            stream: stream.into(),
            toxicity: 1.0,
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).into(), Value::from(*value)))
                .collect::<Map<_, _>>(),
            clients: vec![],
        };
        Means::Toxics(streams(direction).iter().map(|stream| toxic(stream)).collect())
    };
    match fault {
        NetworkFault::Latency { delay, jitter, direction } => {
            let attributes = [("latency", millis("delay", *delay)?), ("jitter", millis("jitter", *jitter)?)];
            Ok(toxics("latency", *direction, &attributes))
        }
        NetworkFault::Bandwidth { shared: true, .. } => {
            Err("Toxiproxy gives each connection a bandwidth of its own: leave `shared` away".into())
        }
        NetworkFault::Bandwidth { bytes_per_second, direction, .. } => {
            if !bytes_per_second.is_multiple_of(1000) {
                return Err(format!(
                    "`bytes_per_second` is {bytes_per_second}, and Toxiproxy counts in thousands: write a multiple of 1000"
                ));
            }
            Ok(toxics("bandwidth", *direction, &[("rate", bytes_per_second / 1000)]))
        }
        NetworkFault::SlowClose { delay, direction } => {
            Ok(toxics("slow_close", *direction, &[("delay", millis("delay", *delay)?)]))
        }
        NetworkFault::Slice { average_bytes, variation_bytes, pause, direction } => {
            let micros = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
            let attributes =
                [("average_size", *average_bytes), ("size_variation", *variation_bytes), ("delay", micros)];
            Ok(toxics("slicer", *direction, &attributes))
        }
        NetworkFault::Refuse { existing: Existing::Reset } => Ok(Means::Disable),
        NetworkFault::Refuse { existing: Existing::Keep } => {
            Err("Toxiproxy ends open connections when it refuses new ones: leave `existing` away".into())
        }
        NetworkFault::Blackhole { .. } => {
            Err("Toxiproxy's `timeout` closes its connections when it is removed, which a silent network does not".into())
        }
        NetworkFault::Reset {} => {
            Err("Toxiproxy's `reset_peer` ends connections that were open before it by FIN".into())
        }
        other => Err(format!("Toxiproxy has no `{}`", other.kind())),
    }
}

fn streams(direction: Direction) -> &'static [&'static str] {
    match direction {
        Direction::Both => &["upstream", "downstream"],
        Direction::Upstream => &["upstream"],
        Direction::Downstream => &["downstream"],
    }
}

fn millis(field: &str, duration: Duration) -> Result<u64, String> {
    if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(format!("`{field}` is {duration:?}, and Toxiproxy counts whole milliseconds"));
    }
    u64::try_from(duration.as_millis()).map_err(|_| format!("`{field}` is {duration:?}, which is too long"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(fault: Value) -> Result<Means, String> {
        means(&LinkFault::read(fault).expect("a fault"), "f")
    }

    #[test]
    fn both_directions_are_two_toxics_with_names_of_their_own() {
        let Ok(Means::Toxics(toxics)) = of(json!({"latency": {"delay": "40ms", "jitter": "15ms"}})) else {
            panic!("latency is a toxic")
        };
        let seen: Vec<Value> = toxics.iter().map(|toxic| json!(toxic)).collect();
        let attributes = json!({"latency": 40, "jitter": 15});
        let toxic = |stream: &str| json!({"name": format!("f-{stream}"), "type": "latency", "stream": stream, "toxicity": 1.0, "attributes": attributes});
        assert_eq!(seen, [toxic("upstream"), toxic("downstream")]);
    }

    #[test]
    fn what_means_the_same_is_translated() {
        let one = |fault: Value, kind: &str, attributes: Value| {
            let Ok(Means::Toxics(toxics)) = of(fault.clone()) else { panic!("{fault} has a toxic") };
            assert_eq!(toxics.len(), 1, "{fault}");
            assert_eq!((toxics[0].kind.as_str(), json!(toxics[0].attributes)), (kind, attributes), "{fault}");
        };
        one(
            json!({"bandwidth": {"bytes_per_second": 64000, "direction": "downstream"}}),
            "bandwidth",
            json!({"rate": 64}),
        );
        one(
            json!({"slow_close": {"delay": "2s", "direction": "upstream"}}),
            "slow_close",
            json!({"delay": 2000}),
        );
        one(
            json!({"slice": {"average_bytes": 10, "variation_bytes": 3, "pause": "50us", "direction": "upstream"}}),
            "slicer",
            json!({"average_size": 10, "size_variation": 3, "delay": 50}),
        );
        assert_eq!(of(json!({"refuse": {}})), Ok(Means::Disable));
    }

    #[test]
    fn what_would_mean_something_else_is_refused_with_its_reason() {
        for (fault, reason) in [
            (json!({"refuse": {"existing": "keep"}}), "ends open connections"),
            (json!({"blackhole": {}}), "closes its connections when it is removed"),
            (json!({"reset": {}}), "by FIN"),
            (json!({"bandwidth": {"bytes_per_second": 1000, "shared": true}}), "leave `shared` away"),
            (json!({"bandwidth": {"bytes_per_second": 1500}}), "`bytes_per_second` is 1500"),
            (json!({"latency": {"delay": "1500us"}}), "`delay` is 1.5ms"),
            (json!({"flap": {"up": "1s", "down": "1s"}}), "Toxiproxy has no `flap`"),
            (json!({"pg": {"drop-ack": {"match": "COMMIT", "then": "reset"}}}), "reads no messages"),
        ] {
            let told = of(fault.clone()).expect_err("refused");
            assert!(told.contains(reason), "{fault}: {told}");
        }
    }
}
