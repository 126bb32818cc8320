//! Any fault that a link can have, as scenario files and the API write it: `{"flap": {…}}`, `{"pg": {"drop-ack": {…}}}`.

use serde::Serialize;
use serde_json::Value;

use crate::fault::NetworkFault;
use crate::protocol::fault::WireFault;

/// A fault on the bytes of a link, or on the messages in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum LinkFault {
    Network(NetworkFault),
    Wire(WireFault),
}

/// Words of [`WireFault`].
const PROTOCOLS: [&str; 3] = ["pg", "redis", "nats"];

impl LinkFault {
    /// Reads a fault. The error names the word or field that is wrong and what there is instead.
    pub fn read(value: Value) -> Result<LinkFault, String> {
        let word = match &value {
            Value::Object(fields) if fields.len() == 1 => fields.keys().next().cloned().unwrap_or_default(),
            other => {
                return Err(format!(
                    "`{other}` is not one fault: write one word and its values, {{\"reset\": {{}}}}"
                ));
            }
        };
        let told = |error: serde_json::Error| error.to_string();
        if PROTOCOLS.contains(&word.as_str()) {
            return serde_json::from_value(value).map(LinkFault::Wire).map_err(told);
        }
        if !NetworkFault::KINDS.contains(&word.as_str()) {
            let known = NetworkFault::KINDS.iter().chain(&PROTOCOLS).copied().collect::<Vec<_>>().join(", ");
            return Err(format!("unknown fault `{word}`; there are {known}"));
        }
        let fault: NetworkFault = serde_json::from_value(value).map_err(told)?;
        match fault.problem() {
            Some(problem) => Err(format!("{word}: {problem}")),
            None => Ok(LinkFault::Network(fault)),
        }
    }

    /// The word for it in histories and reports.
    pub fn kind(&self) -> &'static str {
        match self {
            LinkFault::Network(fault) => fault.kind(),
            LinkFault::Wire(fault) => fault.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for value in [
            json!({"reset": {}}),
            json!({"flap": {"up": "1s", "down": "200ms", "direction": "both"}}),
            json!({"blackhole": {"sticky": true, "direction": "upstream"}}),
        ] {
            let fault = LinkFault::read(value.clone()).expect("a fault");
            assert_eq!(serde_json::to_value(&fault).expect("JSON"), value);
        }
        let wire = json!({"pg": {"drop-ack": {"match": "COMMIT", "then": "reset"}}});
        let fault = LinkFault::read(wire).expect("a fault");
        let again = serde_json::to_value(&fault).expect("JSON");
        assert_eq!(LinkFault::read(again), Ok(fault));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, wanted) in [
            (json!([]), "is not one fault"),
            (json!({}), "is not one fault"),
            (json!({"reset": {}, "flap": {}}), "is not one fault"),
            (json!({"rest": {}}), "unknown fault `rest`; there are latency, "),
            (json!({"flap": {"up": "1s", "down": "0s"}}), "flap: `down` is 0"),
            (json!({"flap": {"up": "1s", "dwon": "1s"}}), "unknown field `dwon`"),
            (json!({"pg": {"drop-akc": {}}}), "unknown variant `drop-akc`"),
        ] {
            let told = LinkFault::read(value.clone()).expect_err("wrong");
            assert!(told.contains(wanted), "{value}: {told}");
        }
    }
}
