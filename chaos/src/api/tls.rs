//! `tls` of a proxy in bodies: read and written as the rest of them, but a key that is not known is refused, since a proxy
//! whose encryption was misspelt would pass everything through.

use super::error::Failure;
use super::wire::Fields;
use crate::json::Json;
use crate::proxy::TlsConfig;
use crate::proxy::tls::{HANDSHAKE_TIMEOUT_MS, Originate, Terminate};

/// What stands under `tls` of a proxy; `None` where it is not given.
pub(super) fn read(proxy: &Fields) -> Result<Option<TlsConfig>, Failure> {
    let Some(tls) = proxy.inner("tls", "tls")? else { return Ok(None) };
    known(&tls, "tls", &["terminate", "originate", "handshake_timeout_ms"])?;
    Ok(Some(TlsConfig {
        terminate: tls.inner("terminate", "tls.terminate")?.map(|fields| terminate(&fields)).transpose()?,
        originate: tls.inner("originate", "tls.originate")?.map(|fields| originate(&fields)).transpose()?,
        handshake_timeout_ms: tls.whole("handshake_timeout_ms")?.unwrap_or(HANDSHAKE_TIMEOUT_MS),
    }))
}

fn terminate(fields: &Fields) -> Result<Terminate, Failure> {
    known(fields, "tls.terminate", &["certificate", "key"])?;
    Ok(Terminate {
        certificate: needed(fields.text("certificate")?, "tls.terminate.certificate")?,
        key: needed(fields.text("key")?, "tls.terminate.key")?,
    })
}

fn originate(fields: &Fields) -> Result<Originate, Failure> {
    known(fields, "tls.originate", &["server_name", "ca", "insecure"])?;
    Ok(Originate {
        server_name: needed(fields.text("server_name")?, "tls.originate.server_name")?,
        ca: fields.text("ca")?.filter(|path| !path.is_empty()),
        insecure: fields.flag("insecure")?.unwrap_or(false),
    })
}

fn needed(given: Option<String>, field: &'static str) -> Result<String, Failure> {
    given.filter(|text| !text.is_empty()).ok_or_else(|| crate::proxy::Error::Missing(field).into())
}

fn known(fields: &Fields, owner: &str, names: &[&str]) -> Result<(), Failure> {
    match fields.stranger(names) {
        Some(name) => {
            Err(Failure::body(format!("{owner}: unknown field {name:?}; give {}", names.join(", "))))
        }
        None => Ok(()),
    }
}

/// As it is shown; `None`: there is nothing to show.
pub(super) fn json(tls: &TlsConfig) -> Option<Json> {
    if tls.is_pass_through() {
        return None;
    }
    let mut fields = Vec::new();
    if let Some(Terminate { certificate, key }) = &tls.terminate {
        let shown = [("certificate", certificate.as_str().into()), ("key", key.as_str().into())];
        fields.push(("terminate".to_owned(), Json::object(shown)));
    }
    if let Some(Originate { server_name, ca, insecure }) = &tls.originate {
        let mut shown = vec![("server_name".to_owned(), server_name.as_str().into())];
        shown.extend(ca.as_deref().map(|ca| ("ca".to_owned(), ca.into())));
        shown.extend(insecure.then(|| ("insecure".to_owned(), true.into())));
        fields.push(("originate".to_owned(), Json::Object(shown)));
    }
    if tls.handshake_timeout_ms != HANDSHAKE_TIMEOUT_MS {
        let shown = Json::Number(tls.handshake_timeout_ms.to_string());
        fields.push(("handshake_timeout_ms".to_owned(), shown));
    }
    Some(Json::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(body: &str) -> Result<Option<TlsConfig>, String> {
        let body = Json::first(body.as_bytes()).expect("a value");
        let fields = Fields::of(body, "Proxy", "toxiproxy.Proxy").expect("an object");
        read(&fields).map_err(|failure| failure.message)
    }

    #[test]
    fn what_is_read_is_shown_again_and_a_default_is_not_shown() {
        for shown in [
            r#"{"terminate":{"certificate":"c.pem","key":"k.pem"}}"#,
            r#"{"originate":{"server_name":"db"}}"#,
            r#"{"originate":{"server_name":"db","ca":"ca.pem"},"handshake_timeout_ms":250}"#,
            r#"{"terminate":{"certificate":"c","key":"k"},"originate":{"server_name":"db","insecure":true}}"#,
        ] {
            let read = reading(&format!(r#"{{"tls":{shown}}}"#)).expect("a setting").expect("one is given");
            assert_eq!(json(&read).map(|json| json.to_string()).as_deref(), Some(shown));
            // Rust's own form of it is the same.
            assert_eq!(serde_json::to_string(&read).expect("JSON"), shown);
            assert_eq!(serde_json::from_str::<TlsConfig>(shown).expect("a setting"), read);
        }
        assert_eq!(reading("{}"), Ok(None));
        assert_eq!(reading(r#"{"tls":null}"#), Ok(None));
        let nothing = reading(r#"{"TLS":{"Terminate":null,"originate":null}}"#).expect("a setting");
        assert_eq!(nothing, Some(TlsConfig::default()));
        assert_eq!(json(&TlsConfig::default()), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_named() {
        for (body, message) in [
            (
                r#"{"tls":true}"#,
                "bad request body: json: cannot unmarshal bool into Go struct field Proxy.tls of type tls",
            ),
            (
                r#"{"tls":{"terminate":"c.pem"}}"#,
                "bad request body: json: cannot unmarshal string into Go struct field tls.terminate of type tls.terminate",
            ),
            (
                r#"{"tls":{"originate":{"server_name":7}}}"#,
                "bad request body: json: cannot unmarshal number into Go struct field tls.originate.server_name of type string",
            ),
            (
                r#"{"tls":{"handshake_timeout_ms":-1}}"#,
                "bad request body: json: cannot unmarshal number -1 into Go struct field tls.handshake_timeout_ms of type uint64",
            ),
            (
                r#"{"tls":{"terminat":{}}}"#,
                "bad request body: tls: unknown field \"terminat\"; give terminate, originate, handshake_timeout_ms",
            ),
            (
                r#"{"tls":{"originate":{"server_name":"a","CAs":"x"}}}"#,
                "bad request body: tls.originate: unknown field \"CAs\"; give server_name, ca, insecure",
            ),
            (r#"{"tls":{"terminate":{"key":"k"}}}"#, "missing required field: tls.terminate.certificate"),
            (
                r#"{"tls":{"terminate":{"certificate":"c","key":""}}}"#,
                "missing required field: tls.terminate.key",
            ),
            (r#"{"tls":{"originate":{}}}"#, "missing required field: tls.originate.server_name"),
        ] {
            assert_eq!(reading(body), Err(message.to_owned()), "{body}");
        }
    }
}
