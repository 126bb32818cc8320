//! Bodies as Toxiproxy reads and writes them.
//!
//! Reading is as lenient as Go's decoder: keys in any case, of several the last one counts, unknown keys are ignored,
//! null counts as absent. A value of the wrong type is refused with Go's words.

use std::time::Duration;

use super::error::Failure;
use super::tls;
use crate::json::Json;
use crate::protocol::Protocol;
use crate::proxy::{DialFailure, Proxy, ProxyConfig, TlsConfig, udp};
use crate::toxic::clients::Clients;
use crate::toxic::{LONGEST, Number, Toxic, Transport, Type};

/// The fields of an object; `owner` is the name that Toxiproxy's messages give it.
pub(super) struct Fields {
    owner: &'static str,
    fields: Vec<(String, Json)>,
}

impl Fields {
    /// `go_type` is the type that Toxiproxy reads `value` into.
    pub fn of(value: Json, owner: &'static str, go_type: &str) -> Result<Fields, Failure> {
        match value {
            Json::Object(fields) => Ok(Fields { owner, fields }),
            Json::Null => Ok(Fields { owner, fields: Vec::new() }),
            other => Err(Failure::body(format!(
                "json: cannot unmarshal {} into Go value of type {go_type}",
                other.kind()
            ))),
        }
    }

    fn read<T>(
        &self,
        name: &str,
        go_type: &str,
        read: impl Fn(&Json) -> Result<T, String>,
    ) -> Result<Option<T>, Failure> {
        let mut found = None;
        let named =
            self.fields.iter().filter(|(key, value)| key.eq_ignore_ascii_case(name) && *value != Json::Null);
        for (_, value) in named {
            found = Some(read(value).map_err(|what| {
                Failure::body(format!(
                    "json: cannot unmarshal {what} into Go struct field {}.{name} of type {go_type}",
                    self.owner
                ))
            })?);
        }
        Ok(found)
    }

    /// A field of any type.
    pub fn any(&self, name: &str) -> Option<&Json> {
        let named = |(key, value): &&(String, Json)| key.eq_ignore_ascii_case(name) && *value != Json::Null;
        self.fields.iter().rfind(named).map(|(_, value)| value)
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.read(name, "string", |value| match value {
            Json::Text(text) => Ok(text.clone()),
            other => Err(other.kind().to_owned()),
        })
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Failure> {
        self.read(name, "bool", |value| match value {
            Json::Bool(flag) => Ok(*flag),
            other => Err(other.kind().to_owned()),
        })
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>, Failure> {
        self.read(name, "float32", |value| match value {
            Json::Number(text) => match text.parse::<f32>() {
                Ok(value) if value.is_finite() => Ok(value),
                _ => Err(format!("number {text}")),
            },
            other => Err(other.kind().to_owned()),
        })
    }

    pub fn whole(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.read(name, "uint64", |value| match value {
            Json::Number(text) => text.parse().map_err(|_| format!("number {text}")),
            other => Err(other.kind().to_owned()),
        })
    }

    /// What a proxy of datagrams is told of itself, or what is spoken on the connections that are forwarded.
    fn protocol(&self) -> Result<(Option<udp::Config>, Option<Protocol>), Failure> {
        let protocol = self.text("protocol")?.unwrap_or_default().to_ascii_lowercase();
        let idle = self.whole("idle_timeout")?;
        match (protocol.as_str(), idle) {
            ("udp", None) => Ok((Some(udp::Config::default()), None)),
            ("udp", Some(millis)) => {
                let millis = Some(millis).filter(|millis| *millis > 0);
                let idle = millis.map(|millis| Duration::from_millis(millis).min(LONGEST));
                let idle = idle.ok_or_else(|| Failure::body("idle_timeout: at least 1 millisecond"))?;
                Ok((Some(udp::Config { idle, ..udp::Config::default() }), None))
            }
            (_, Some(_)) => Err(Failure::body("idle_timeout: only a udp proxy has one")),
            ("" | "tcp", None) => Ok((None, None)),
            (other, None) => match Protocol::ALL.into_iter().find(|protocol| protocol.name() == other) {
                Some(protocol) => Ok((None, Some(protocol))),
                None => {
                    Err(Failure::body(format!("protocol: `{other}` is none of tcp, udp, pg, redis, nats")))
                }
            },
        }
    }

    /// What becomes of a client whose upstream cannot be reached; `None` where it is not given.
    fn dial_failure(&self) -> Result<Option<DialFailure>, Failure> {
        let Some(word) = self.text("dial_failure")?.filter(|word| !word.is_empty()) else { return Ok(None) };
        let known = DialFailure::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(&word));
        let unknown = || Failure::body(format!("dial_failure: `{word}` is none of close, reset, retry"));
        known.map(Some).ok_or_else(unknown)
    }

    /// Fails when what is given of a proxy's protocol or of its dials is not what it has: it stays as long as the proxy.
    pub fn check_protocol(&self, proxy: &Proxy) -> Result<(), Failure> {
        let fixed = |name| Failure::body(format!("{name}: stays; delete the proxy and create it again"));
        let protocol = self.text("protocol")?;
        if protocol.is_some_and(|given| !given.eq_ignore_ascii_case(protocol_of(proxy))) {
            return Err(fixed("protocol"));
        }
        let idle = self.whole("idle_timeout")?;
        if idle.is_some() && idle != proxy.udp().map(idle_millis) {
            return Err(fixed("idle_timeout"));
        }
        if self.dial_failure()?.is_some_and(|given| given != proxy.dial_failure()) {
            return Err(fixed("dial_failure"));
        }
        Ok(())
    }

    /// The fields of a field; `owner` is the name that messages give it, also as its type.
    pub fn inner(&self, name: &str, owner: &'static str) -> Result<Option<Fields>, Failure> {
        let read = self.read(name, owner, |value| match value {
            Json::Object(fields) => Ok(fields.clone()),
            other => Err(other.kind().to_owned()),
        });
        Ok(read?.map(|fields| Fields { owner, fields }))
    }

    /// The first field that is none of `known`.
    pub fn stranger(&self, known: &[&str]) -> Option<&str> {
        let strange = |name: &&str| !known.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.fields.iter().map(|(name, _)| name.as_str()).find(strange)
    }

    pub fn attributes(&self) -> Result<Vec<(String, Json)>, Failure> {
        let read = self.read("attributes", "toxics.NoopToxic", |value| match value {
            Json::Object(fields) => Ok(fields.clone()),
            other => Err(other.kind().to_owned()),
        });
        Ok(read?.unwrap_or_default())
    }

    /// Addresses and networks of clients; `None` where they are not given.
    pub fn clients(&self) -> Result<Option<Clients>, Failure> {
        let read = self.read("clients", "[]string", |value| match value {
            Json::Array(items) => Ok(items.clone()),
            other => Err(other.kind().to_owned()),
        })?;
        let Some(items) = read else { return Ok(None) };
        let mut texts = Vec::new();
        for item in &items {
            match item {
                Json::Text(text) => texts.push(text.as_str()),
                other => {
                    return Err(Failure::body(format!(
                        "json: cannot unmarshal {} into Go struct field {}.clients of type string",
                        other.kind(),
                        self.owner
                    )));
                }
            }
        }
        let clients = Clients::parse(texts).map_err(|error| Failure::body(format!("clients: {error}")))?;
        Ok(Some(clients))
    }

    fn list(&self, name: &str, go_type: &str) -> Result<Vec<Json>, Failure> {
        let read = self.read(name, go_type, |value| match value {
            Json::Array(items) => Ok(items.clone()),
            other => Err(other.kind().to_owned()),
        });
        Ok(read?.unwrap_or_default())
    }
}

/// A proxy as a client describes it.
#[derive(Debug)]
pub(super) struct Description {
    pub config: ProxyConfig,
    pub enabled: bool,
    /// Toxiproxy knows none here: they act before the first connection is taken.
    pub toxics: Vec<Toxic>,
}

impl Description {
    /// `tls` is what was read of the fields already, `seed` the seed of what is drawn in the proxy.
    pub fn read(fields: &Fields, tls: Option<TlsConfig>, seed: u64) -> Result<Description, Failure> {
        let name = fields.text("name")?.unwrap_or_default();
        let listen = fields.text("listen")?.unwrap_or_default();
        let upstream = fields.text("upstream")?.unwrap_or_default();
        let enabled = fields.flag("enabled")?.unwrap_or(true);
        let (udp, protocol) = fields.protocol()?;
        let dial_failure = fields.dial_failure()?;
        if udp.is_some() && dial_failure.is_some() {
            return Err(Failure::body("dial_failure: a udp proxy dials nobody; leave it out"));
        }
        let transport = if udp.is_some() { Transport::Udp } else { Transport::Tcp };
        let listed = fields.list("toxics", "[]toxics.ToxicWrapper")?;
        let mut toxics: Vec<Toxic> = Vec::new();
        for (index, toxic) in listed.into_iter().enumerate() {
            let toxic =
                described_toxic(toxic, transport, &toxics).map_err(|failure| failure.at("toxic", index))?;
            toxics.push(toxic);
        }
        Ok(Description {
            config: ProxyConfig { name, listen, upstream, seed, protocol, udp, tls, dial_failure },
            enabled,
            toxics,
        })
    }

    /// The first field that is needed and not there.
    pub fn missing(&self) -> Option<&'static str> {
        match &self.config {
            ProxyConfig { name, .. } if name.is_empty() => Some("name"),
            ProxyConfig { upstream, .. } if upstream.is_empty() => Some("upstream"),
            _ => None,
        }
    }
}

fn described_toxic(value: Json, transport: Transport, before: &[Toxic]) -> Result<Toxic, Failure> {
    let fields = toxic_fields(value)?;
    let attributes = fields.attributes()?;
    let mut toxic = toxic(&fields)?;
    toxic.check_transport(transport)?;
    if before.iter().any(|known| known.name == toxic.name) {
        return Err(crate::proxy::Error::ToxicExists.into());
    }
    toxic.merge(&attributes)?;
    Ok(toxic)
}

/// `tcp`, `udp`, or what is spoken there: `pg`, `redis`, `nats`.
fn protocol_of(proxy: &Proxy) -> &'static str {
    proxy.protocol().map_or(proxy.transport().name(), Protocol::name)
}

fn idle_millis(udp: udp::Config) -> u64 {
    u64::try_from(udp.idle.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn toxic_fields(value: Json) -> Result<Fields, Failure> {
    Fields::of(value, "ToxicWrapper", "toxics.ToxicWrapper")
}

/// A toxic as a client asks for it; its attributes are read by the caller, after the name is known to be free.
pub(super) fn toxic(fields: &Fields) -> Result<Toxic, Failure> {
    let given = fields.text("name")?.filter(|name| !name.is_empty());
    let kind = fields.text("type")?.unwrap_or_default();
    let stream = fields.text("stream")?.unwrap_or_else(|| "downstream".into());
    let toxicity = fields.float("toxicity")?.unwrap_or(1.0);
    let mut toxic = Toxic {
        name: String::new(),
        kind: Type::Noop,
        stream,
        toxicity,
        values: Vec::new(),
        clients: fields.clients()?.unwrap_or_default(),
    };
    toxic.direction()?;
    toxic.kind = Type::parse(&kind)?;
    toxic.check_clients()?;
    toxic.name = given.unwrap_or_else(|| format!("{kind}_{}", toxic.stream));
    Ok(toxic)
}

pub(super) fn toxic_json(toxic: &Toxic) -> Json {
    let attributes = toxic.attributes().map(|(name, value)| {
        let value = match value {
            Number::Whole(value) => value.into(),
            Number::Real(value) => Json::float64(value),
        };
        (name.to_owned(), value)
    });
    let mut fields = vec![
        ("attributes".to_owned(), Json::Object(attributes.collect())),
        ("name".to_owned(), toxic.name.as_str().into()),
        ("type".to_owned(), toxic.kind.name().into()),
        ("stream".to_owned(), toxic.stream.as_str().into()),
        ("toxicity".to_owned(), Json::float32(toxic.toxicity)),
    ];
    if !toxic.clients.is_everybody() {
        fields.push(("clients".to_owned(), Json::Array(toxic.clients.texts().map(Json::Text).collect())));
    }
    Json::Object(fields)
}

pub(super) fn toxics_json(proxy: &Proxy) -> Json {
    Json::Array(proxy.toxics().iter().map(toxic_json).collect())
}

pub(super) fn proxy_json(proxy: &Proxy) -> Json {
    let mut fields = vec![
        ("name".to_owned(), proxy.name().into()),
        ("listen".to_owned(), proxy.listen().into()),
        ("upstream".to_owned(), proxy.upstream().into()),
        ("enabled".to_owned(), proxy.enabled().into()),
        ("toxics".to_owned(), toxics_json(proxy)),
    ];
    // Nothing more for plain TCP: Toxiproxy's clients see what they know.
    let protocol = protocol_of(proxy);
    if protocol != Transport::Tcp.name() {
        fields.push(("protocol".to_owned(), protocol.into()));
    }
    if let Some(udp) = proxy.udp() {
        fields.push(("idle_timeout".to_owned(), Json::Number(idle_millis(udp).to_string())));
    }
    if proxy.dial_failure() != DialFailure::default() {
        fields.push(("dial_failure".to_owned(), proxy.dial_failure().name().into()));
    }
    fields.extend(tls::json(&proxy.tls()).map(|tls| ("tls".to_owned(), tls)));
    Json::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::of(Json::first(body.as_bytes()).expect("a value"), "Proxy", "toxiproxy.Proxy")
            .expect("an object")
    }

    #[test]
    fn a_number_beyond_the_type_is_refused() {
        let toxicity = |body: &str| fields(body).float("toxicity");
        assert!(toxicity(r#"{"toxicity":1e300}"#).is_err());
        assert_eq!(toxicity(r#"{"toxicity":-3e38}"#), Ok(Some(-3e38)));
    }

    #[test]
    fn keys_are_read_in_any_case_the_last_one_counts_and_null_is_absent() {
        let fields = fields(r#"{"name":"a","NAME":"b","Name":null,"enabled":null,"Toxicity":0.2}"#);
        assert_eq!(fields.text("name"), Ok(Some("b".into())));
        assert_eq!(fields.flag("enabled"), Ok(None));
        assert_eq!(fields.float("toxicity"), Ok(Some(0.2)));
    }

    #[test]
    fn wrong_types_are_refused_in_gos_words() {
        let fields = fields(r#"{"name":1.5,"enabled":"true","toxicity":1e99,"attributes":[]}"#);
        let prefix = "bad request body: json: cannot unmarshal";
        let message = |failure: Option<Failure>| failure.expect("a failure").message;
        assert_eq!(
            message(fields.text("name").err()),
            format!("{prefix} number into Go struct field Proxy.name of type string")
        );
        assert_eq!(
            message(fields.flag("enabled").err()),
            format!("{prefix} string into Go struct field Proxy.enabled of type bool")
        );
        assert_eq!(
            message(fields.float("toxicity").err()),
            format!("{prefix} number 1e99 into Go struct field Proxy.toxicity of type float32")
        );
        assert_eq!(
            message(Fields::of(Json::Array(Vec::new()), "Proxy", "toxiproxy.Proxy").err()),
            format!("{prefix} array into Go value of type toxiproxy.Proxy")
        );
    }

    #[test]
    fn attributes_are_integers_and_nothing_is_half_applied() {
        let fields = fields(r#"{"type":"latency"}"#);
        let mut toxic = toxic(&fields).expect("a toxic");
        assert_eq!(toxic.name, "latency_downstream");
        for wrong in ["1.5", "1000.0", "1e3", "\"100\"", "true", "9223372036854775808", "{}"] {
            let value = Json::first(wrong.as_bytes()).expect("a value");
            let given = [("jitter".to_owned(), 7_i64.into()), ("latency".to_owned(), value)];
            assert!(toxic.merge(&given).is_err(), "{wrong}");
        }
        let attributes = |toxic: &Toxic| toxic_json(toxic).to_string();
        assert!(attributes(&toxic).starts_with(r#"{"attributes":{"latency":0,"jitter":0},"#));
        let given = [("LATENCY".to_owned(), 7_i64.into()), ("other".to_owned(), "x".into())];
        toxic.merge(&given).expect("an integer");
        assert!(attributes(&toxic).starts_with(r#"{"attributes":{"latency":7,"jitter":0},"#));
    }

    #[test]
    fn packet_loss_has_floats_with_their_own_defaults() {
        let mut toxic = toxic(&fields(r#"{"type":"packet_loss"}"#)).expect("a toxic");
        assert!(toxic_json(&toxic).to_string().contains(r#"{"loss_rate":0.1,"correlation":0}"#));
        let half = [("loss_rate".to_owned(), Json::Number("5e-1".into()))];
        toxic.merge(&half).expect("a float");
        assert!(toxic_json(&toxic).to_string().contains(r#"{"loss_rate":0.5,"correlation":0}"#));
    }
}
