//! JSON as Toxiproxy reads and writes it.
//!
//! Reading is as lenient as Go's decoder: keys in any case, unknown keys ignored, null counts as absent, bytes after
//! the first value are ignored.

use serde_json::{Map, Value, json};

use super::error::Failure;
use crate::proxy::Proxy;
use crate::toxic::{Toxic, Type};

/// The body's first JSON value.
pub(super) fn parse(body: &[u8]) -> Result<Value, Failure> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err(Failure::body("unexpected EOF")),
        Some(Err(error)) => Err(Failure::body(error)),
        None => Err(Failure::body("EOF")),
    }
}

/// An object's fields.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub fn parse(body: &[u8]) -> Result<Fields, Failure> {
        Fields::of(parse(body)?)
    }

    pub fn of(value: Value) -> Result<Fields, Failure> {
        match value {
            Value::Object(fields) => Ok(Fields(fields)),
            Value::Null => Ok(Fields(Map::new())),
            other => Err(Failure::body(format!("json: cannot unmarshal {} into an object", kind(&other)))),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    fn read<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            Failure::body(format!(
                "json: cannot unmarshal {} into field {name} of type {expected}",
                kind(value)
            ))
        })
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        Ok(self.read(name, "string", Value::as_str)?.map(str::to_owned))
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.read(name, "bool", Value::as_bool)
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>, Failure> {
        #[expect(clippy::cast_possible_truncation, reason = "Toxiproxy's toxicity is a 32-bit float")]
        let narrow = |value: f64| value as f32;
        // A number beyond the type is refused and not made infinite.
        self.read(name, "float32", |value| value.as_f64().map(narrow).filter(|number| number.is_finite()))
    }

    pub fn object(&self, name: &str) -> Result<Map<String, Value>, Failure> {
        Ok(self.read(name, "object", Value::as_object)?.cloned().unwrap_or_default())
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A toxic as a client asks for it; its attributes are read by the caller, after the name is known to be free.
pub(super) fn toxic(fields: &Fields) -> Result<Toxic, Failure> {
    let stream = fields.text("stream")?.unwrap_or_else(|| "downstream".into());
    let given = fields.text("name")?.filter(|name| !name.is_empty());
    let toxicity = fields.float("toxicity")?.unwrap_or(1.0);
    let kind = fields.text("type")?.unwrap_or_default();
    let mut toxic = Toxic { name: String::new(), kind: Type::Noop, stream, toxicity, values: Vec::new() };
    toxic.direction()?;
    toxic.kind = Type::parse(&kind)?;
    toxic.name = given.unwrap_or_else(|| format!("{kind}_{}", toxic.stream));
    Ok(toxic)
}

pub(super) fn toxic_json(toxic: &Toxic) -> Value {
    let values = toxic.values.iter().copied().chain(std::iter::repeat(0));
    let attributes: Map<String, Value> = toxic
        .kind
        .attributes()
        .iter()
        .zip(values)
        .map(|(name, value)| ((*name).to_owned(), value.into()))
        .collect();
    json!({
        "attributes": attributes,
        "name": toxic.name,
        "type": toxic.kind.name(),
        "stream": toxic.stream,
        "toxicity": toxicity_json(toxic.toxicity),
    })
}

/// The shortest decimal that means the same 32-bit float, without a fraction where there is none.
fn toxicity_json(toxicity: f32) -> Value {
    if toxicity.fract() == 0.0 && toxicity.abs() < 1e9 {
        #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
        return json!(toxicity as i64);
    }
    toxicity.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

pub(super) fn toxics_json(proxy: &Proxy) -> Value {
    proxy.toxics().iter().map(toxic_json).collect()
}

pub(super) fn proxy_json(proxy: &Proxy) -> Value {
    json!({
        "name": proxy.name(),
        "listen": proxy.listen(),
        "upstream": proxy.upstream(),
        "enabled": proxy.enabled(),
        "toxics": toxics_json(proxy),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_any_case_and_null_is_absent() {
        let fields =
            Fields::parse(br#"{"NAME":"a","enabled":null,"Toxicity":0.2} trailing"#).expect("an object");
        assert_eq!(fields.text("name").expect("text"), Some("a".into()));
        assert_eq!(fields.flag("enabled").expect("absent"), None);
        assert_eq!(fields.float("toxicity").expect("a number"), Some(0.2));
    }

    #[test]
    fn a_number_beyond_the_type_is_refused() {
        let toxicity = |body: &str| Fields::parse(body.as_bytes()).expect("an object").float("toxicity");
        assert!(toxicity(r#"{"toxicity":1e300}"#).is_err());
        assert_eq!(toxicity(r#"{"toxicity":-3e38}"#).expect("a number"), Some(-3e38));
    }

    #[test]
    fn broken_bodies_are_named_as_go_names_them() {
        let message = |body: &[u8]| Fields::parse(body).err().expect("broken").message;
        assert_eq!(message(b""), "bad request body: EOF");
        assert_eq!(message(br#"{"name":"#), "bad request body: unexpected EOF");
        assert!(message(b"[]").starts_with("bad request body: json: cannot unmarshal array"));
    }

    #[test]
    fn toxicity_is_written_as_short_as_it_was_given() {
        assert_eq!(toxicity_json(1.0).to_string(), "1");
        assert_eq!(toxicity_json(0.2).to_string(), "0.2");
        assert_eq!(toxicity_json(-1.5).to_string(), "-1.5");
    }

    #[test]
    fn attributes_must_be_integers() {
        let fields = Fields::parse(br#"{"type":"latency"}"#).expect("an object");
        let mut toxic = toxic(&fields).expect("a toxic");
        assert_eq!(toxic.name, "latency_downstream");
        for wrong in [json!(1.5), json!("100"), json!(1e3), json!(true)] {
            let given = Map::from_iter([("jitter".to_owned(), json!(7)), ("latency".to_owned(), wrong)]);
            assert!(toxic.merge(&given).is_err());
        }
        assert_eq!(
            toxic_json(&toxic)["attributes"],
            json!({"latency": 0, "jitter": 0}),
            "nothing half applied"
        );
        let given = Map::from_iter([("LATENCY".to_owned(), json!(7)), ("other".to_owned(), json!("x"))]);
        toxic.merge(&given).expect("an integer");
        assert_eq!(toxic_json(&toxic)["attributes"], json!({"latency": 7, "jitter": 0}));
    }
}
