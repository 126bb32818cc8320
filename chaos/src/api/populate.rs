//! A list of proxies, from a request or from the file that the server is started with.

use super::error::Failure;
use super::reply::{Reply, failure_fields};
use super::server::Body;
use super::tls;
use super::wire::{self, Description, Fields};
use crate::json::Json;
use crate::proxy::{Error, Registry};

/// The type that Toxiproxy reads one entry into, in its messages.
const ENTRY: &str = r#"struct { toxiproxy.Proxy; Enabled *bool "json:\"enabled\"" }"#;

/// Creates the proxies of a JSON list with their toxics and returns how many there are. Nothing is created from a list
/// that is wrong; when one cannot listen, those before it stay.
pub async fn populate(registry: &Registry, list: &[u8]) -> Result<usize, String> {
    let mut done = Vec::new();
    let read = Json::first(list).map_err(Failure::body);
    match read {
        Ok(list) => create_all(registry, list, &mut done).await.map_err(|failure| failure.message)?,
        Err(failure) => return Err(failure.message),
    }
    Ok(done.len())
}

/// Answers with the proxies of the list, also with those that were there before the first that failed.
pub(super) async fn populate_reply(registry: &Registry, body: Body) -> Reply {
    let mut done = Vec::new();
    let failed = match body.json().await {
        Ok(list) => create_all(registry, list, &mut done).await.err(),
        Err(failure) => Some(failure),
    };
    let proxies = if done.is_empty() { Json::Null } else { Json::Array(done) };
    let Some(failure) = failed else { return Reply::json(201, &Json::object([("proxies", proxies)])) };
    let Json::Object(mut fields) = failure_fields(&failure) else { return Reply::failure(&failure) };
    fields.push(("proxies".to_owned(), proxies));
    Reply::json(failure.status, &Json::Object(fields))
}

async fn create_all(registry: &Registry, list: Json, done: &mut Vec<Json>) -> Result<(), Failure> {
    let entries = match list {
        Json::Array(entries) => entries,
        Json::Null => Vec::new(),
        other => {
            let reason = format!("json: cannot unmarshal {} into Go value of type []{ENTRY}", other.kind());
            return Err(Failure::body(reason));
        }
    };
    let mut wanted = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let fields = Fields::of(entry, "", ENTRY)?;
        let tls = tls::read(&fields).map_err(|failure| failure.at("proxy", index))?;
        wanted.push(Description::read(&fields, tls, registry.seed()).map_err(|failure| {
            // Toxiproxy's own messages stay as they are; those about toxics are ours.
            if failure.message.contains(" at toxic ") { failure.at("proxy", index) } else { failure }
        })?);
    }
    for (index, proxy) in wanted.iter().enumerate() {
        if let Some(field) = proxy.missing() {
            return Err(Failure::from(Error::Missing(field)).at("proxy", index));
        }
    }
    let mut loaded = Vec::new();
    for (index, proxy) in wanted.iter().enumerate() {
        let tls = proxy.config.load_tls().await;
        loaded.push(tls.map_err(|error| Failure::from(error).at("proxy", index))?);
    }
    for (proxy, tls) in wanted.into_iter().zip(loaded) {
        let made = registry.create_or_replace(proxy.config, tls, proxy.enabled, proxy.toxics).await?;
        done.push(wire::proxy_json(&made));
    }
    Ok(())
}
