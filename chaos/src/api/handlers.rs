//! What each call does to the proxies, in Toxiproxy's order of checks: the proxy is looked up before the body is read.

use super::error::Failure;
use super::populate::populate_reply;
use super::reply::Reply;
use super::route::Call;
use super::server::{Body, Context};
use super::wire::{self, Description, Fields};
use super::{VERSION, events, faults, metrics, tls};
use crate::json::Json;
use crate::proxy::{Change, Error, Proxy, Registry};

pub(super) type Answer = Result<Reply, Failure>;

pub(super) async fn answer(context: &Context, call: Call, body: Body) -> Reply {
    let registry = &context.registry;
    let answer = match call {
        Call::ListProxies => Ok(list_proxies(registry)),
        Call::CreateProxy => create_proxy(registry, body).await,
        Call::Populate => Ok(populate_reply(registry, body).await),
        Call::ShowProxy(proxy) => show_proxy(registry, &proxy),
        Call::UpdateProxy(proxy) => update_proxy(registry, &proxy, body).await,
        Call::DeleteProxy(proxy) => delete_proxy(registry, &proxy).await,
        Call::ListToxics(proxy) => list_toxics(registry, &proxy),
        Call::CreateToxic(proxy) => create_toxic(registry, &proxy, body).await,
        Call::ShowToxic(proxy, toxic) => show_toxic(registry, &proxy, &toxic),
        Call::UpdateToxic(proxy, toxic) => update_toxic(registry, &proxy, &toxic, body).await,
        Call::DeleteToxic(proxy, toxic) => delete_toxic(registry, &proxy, &toxic).await,
        Call::ListFaults(proxy) => faults::list(registry, &proxy),
        Call::CreateFault(proxy) => faults::create(registry, &proxy, body).await,
        Call::ShowFault(proxy, fault) => faults::show(registry, &proxy, &fault),
        Call::DeleteFault(proxy, fault) => faults::delete(registry, &proxy, &fault).await,
        Call::Reset => reset(registry).await,
        Call::Version => Ok(version()),
        Call::Events => Ok(events::reply(registry, &context.cancel)),
        Call::Metrics => Ok(metrics::reply(registry, &context.options)),
    };
    answer.unwrap_or_else(|failure| Reply::failure(&failure))
}

pub(super) fn find(registry: &Registry, name: &str) -> Result<Proxy, Failure> {
    Ok(registry.get(name).ok_or(Error::ProxyNotFound)?)
}

async fn proxy_fields(body: Body) -> Result<Fields, Failure> {
    Fields::of(body.json().await?, "Proxy", "toxiproxy.Proxy")
}

fn list_proxies(registry: &Registry) -> Reply {
    let listed = registry.list();
    let named = listed.iter().map(|proxy| (proxy.name().to_owned(), wire::proxy_json(proxy)));
    Reply::json(200, &Json::Object(named.collect()))
}

async fn create_proxy(registry: &Registry, body: Body) -> Answer {
    let fields = proxy_fields(body).await?;
    let wanted = Description::read(&fields, tls::read(&fields)?, registry.seed())?;
    if let Some(field) = wanted.missing() {
        return Err(Error::Missing(field).into());
    }
    let tls = wanted.config.load_tls().await?;
    let proxy = registry.create_with(wanted.config, tls, wanted.enabled, wanted.toxics).await?;
    Ok(Reply::json(201, &wire::proxy_json(&proxy)))
}

fn show_proxy(registry: &Registry, name: &str) -> Answer {
    Ok(Reply::json(200, &wire::proxy_json(&find(registry, name)?)))
}

async fn update_proxy(registry: &Registry, name: &str, body: Body) -> Answer {
    let proxy = find(registry, name)?;
    let fields = proxy_fields(body).await?;
    // Ignored, but not of any type.
    fields.text("name")?;
    fields.check_protocol(&proxy)?;
    let change = Change {
        listen: fields.text("listen")?,
        upstream: fields.text("upstream")?,
        enabled: fields.flag("enabled")?,
        tls: tls::read(&fields)?,
    };
    proxy.update(change).await?;
    Ok(Reply::json(200, &wire::proxy_json(&proxy)))
}

async fn delete_proxy(registry: &Registry, name: &str) -> Answer {
    registry.remove(name).await?;
    Ok(Reply::empty(204))
}

fn list_toxics(registry: &Registry, name: &str) -> Answer {
    Ok(Reply::json(200, &wire::toxics_json(&find(registry, name)?)))
}

async fn create_toxic(registry: &Registry, name: &str, body: Body) -> Answer {
    let proxy = find(registry, name)?;
    let fields = wire::toxic_fields(body.json().await?)?;
    let attributes = fields.attributes()?;
    let mut toxic = wire::toxic(&fields)?;
    toxic.check_transport(proxy.transport())?;
    // A name that is taken is told before attributes that are wrong.
    if proxy.toxic(&toxic.name).is_ok() {
        return Err(Error::ToxicExists.into());
    }
    toxic.merge(&attributes)?;
    let answer = wire::toxic_json(&toxic);
    proxy.add_toxic(toxic).await?;
    Ok(Reply::json(200, &answer))
}

fn show_toxic(registry: &Registry, name: &str, toxic: &str) -> Answer {
    Ok(Reply::json(200, &wire::toxic_json(&find(registry, name)?.toxic(toxic)?)))
}

async fn update_toxic(registry: &Registry, name: &str, toxic: &str, body: Body) -> Answer {
    let proxy = find(registry, name)?;
    proxy.toxic(toxic)?;
    let fields = Fields::of(body.json().await?, "", "struct { Attributes interface {}; Toxicity float32 }")?;
    let (attributes, toxicity, clients) =
        (fields.attributes()?, fields.float("toxicity")?, fields.clients()?);
    let updated = proxy.update_toxic(toxic, &attributes, toxicity, clients).await?;
    Ok(Reply::json(200, &wire::toxic_json(&updated)))
}

async fn delete_toxic(registry: &Registry, name: &str, toxic: &str) -> Answer {
    let proxy = find(registry, name)?;
    proxy.remove_toxic(toxic)?;
    proxy.settled().await;
    Ok(Reply::empty(204))
}

/// Every proxy listens and has neither toxics nor faults; those whose guards somebody holds in this process stay.
async fn reset(registry: &Registry) -> Answer {
    for proxy in registry.list() {
        proxy.enable().await?;
        proxy.remove_toxics();
        proxy.remove_faults().await;
        proxy.settled().await;
    }
    Ok(Reply::empty(204))
}

fn version() -> Reply {
    let body = format!("{{\"version\": \"{VERSION}\"}}\n");
    Reply::new(200, "application/json;charset=utf-8", body)
}
