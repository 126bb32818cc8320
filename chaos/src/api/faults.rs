//! Faults of a proxy: ours, since Toxiproxy has toxics alone. They are written as in scenario files and show what they touched.

use super::error::Failure;
use super::handlers::{Answer, find};
use super::reply::Reply;
use super::server::Body;
use super::wire::Fields;
use crate::json::Json;
use crate::proxy::{LinkFault, NamedFault, Registry};

pub(super) fn list(registry: &Registry, proxy: &str) -> Answer {
    let all = find(registry, proxy)?.faults();
    Ok(Reply::json(200, &Json::Array(all.iter().map(json).collect())))
}

pub(super) async fn create(registry: &Registry, proxy: &str, body: Body) -> Answer {
    let proxy = find(registry, proxy)?;
    let fields = Fields::of(body.json().await?, "fault", "fault")?;
    let fault = fields.any("fault").ok_or(crate::proxy::Error::Missing("fault"))?;
    let text = fault.to_string();
    let value = serde_json::from_str(&text).map_err(|error| Failure::body(format!("fault: {error}")))?;
    let fault = LinkFault::read(value).map_err(|told| Failure::body(format!("fault: {told}")))?;
    let name = fields.text("name")?.filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| fault.kind().to_owned());
    Ok(Reply::json(201, &json(&proxy.add_fault(&name, fault).await?)))
}

pub(super) fn show(registry: &Registry, proxy: &str, name: &str) -> Answer {
    Ok(Reply::json(200, &json(&find(registry, proxy)?.fault(name)?)))
}

/// The evidence is final, so it is told.
pub(super) async fn delete(registry: &Registry, proxy: &str, name: &str) -> Answer {
    Ok(Reply::json(200, &json(&find(registry, proxy)?.remove_fault(name).await?)))
}

fn json(fault: &NamedFault) -> Json {
    Json::object([
        ("name", fault.name.as_str().into()),
        ("fault", of(&fault.fault)),
        ("evidence", of(&fault.evidence)),
    ])
}

fn of(value: &impl serde::Serialize) -> Json {
    let text = serde_json::to_vec(value).expect("faults and evidence are plain data");
    Json::first(&text).expect("what was just written is JSON")
}
