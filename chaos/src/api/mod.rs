//! Toxiproxy's HTTP API.
//!
//! The same proxies that the harness holds, for clients of Toxiproxy 2.12: routes, bodies, status codes and messages
//! are the same wherever a client can see them. Different on purpose: an empty `listen` means the loopback interface
//! and not all of them, attributes that crash Toxiproxy do nothing, and an update of a toxic that fails changes nothing.

mod error;
mod wire;

use std::io;

use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::proxy::{Error, Proxy, ProxyConfig, Registry};
use error::Failure;
use wire::Fields;

/// The version of Toxiproxy that clients are told, since they decide by it what they may ask for.
pub const VERSION: &str = "2.12.0";

type Answer = Result<Response, Failure>;

/// Serves until `cancel`; requests that have begun are answered.
pub async fn serve(registry: Registry, listener: TcpListener, cancel: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router(registry)).with_graceful_shutdown(cancel.cancelled_owned()).await
}

fn router(registry: Registry) -> Router {
    Router::new()
        .route("/proxies", get(list_proxies).post(create_proxy))
        .route("/populate", post(populate_proxies))
        .route(
            "/proxies/{proxy}",
            get(show_proxy).post(update_proxy).patch(update_proxy).delete(delete_proxy),
        )
        .route("/proxies/{proxy}/toxics", get(list_toxics).post(create_toxic))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(show_toxic).post(update_toxic).patch(update_toxic).delete(delete_toxic),
        )
        .route("/reset", post(reset))
        .route("/version", get(version))
        .method_not_allowed_fallback(async || StatusCode::METHOD_NOT_ALLOWED)
        .route_layer(middleware::from_fn(matched))
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"))
        .with_state(registry)
}

/// What every known route does: no browsers (a web page could drive the proxies of whoever looks at it), no HEAD, and
/// an id for each request.
async fn matched(request: Request, next: Next) -> Response {
    let agent = request.headers().get(header::USER_AGENT);
    let mut response = if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        (StatusCode::FORBIDDEN, "User agent not allowed\n").into_response()
    } else if request.method() == Method::HEAD {
        StatusCode::METHOD_NOT_ALLOWED.into_response()
    } else {
        next.run(request).await
    };
    // As long as Toxiproxy's, which nobody reads for more than being there and being different.
    let id = format!("{:020x}", rand::random::<u64>());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("x-toxiproxy-request-id"), id);
    }
    response
}

fn find(registry: &Registry, name: &str) -> Result<Proxy, Failure> {
    Ok(registry.get(name).ok_or(Error::ProxyNotFound)?)
}

async fn list_proxies(State(registry): State<Registry>) -> Json<Value> {
    let proxies: Map<String, Value> =
        registry.list().iter().map(|proxy| (proxy.name().to_owned(), wire::proxy_json(proxy))).collect();
    Json(proxies.into())
}

/// A proxy as a client describes it, with the reason why it cannot be.
fn described(registry: &Registry, fields: &Fields) -> Result<(ProxyConfig, bool), Failure> {
    let name = fields.text("name")?.unwrap_or_default();
    let upstream = fields.text("upstream")?.unwrap_or_default();
    let listen = fields.text("listen")?.unwrap_or_default();
    let enabled = fields.flag("enabled")?.unwrap_or(true);
    Ok((ProxyConfig { name, listen, upstream, seed: registry.seed(), protocol: None }, enabled))
}

fn missing(config: &ProxyConfig) -> Option<&'static str> {
    match config {
        ProxyConfig { name, .. } if name.is_empty() => Some("name"),
        ProxyConfig { upstream, .. } if upstream.is_empty() => Some("upstream"),
        _ => None,
    }
}

async fn create_proxy(State(registry): State<Registry>, body: Bytes) -> Answer {
    let (config, enabled) = described(&registry, &Fields::parse(&body)?)?;
    if let Some(field) = missing(&config) {
        return Err(Error::Missing(field).into());
    }
    let proxy = registry.create_with(config, enabled).await?;
    Ok((StatusCode::CREATED, Json(wire::proxy_json(&proxy))).into_response())
}

/// Creates the proxies of a list, and answers which were created before the first that failed.
pub async fn populate(registry: &Registry, body: &[u8]) -> (StatusCode, Value) {
    let mut done = Vec::new();
    let failed = populate_into(registry, body, &mut done).await.err();
    let proxies = if done.is_empty() { Value::Null } else { Value::Array(done) };
    match failed {
        None => (StatusCode::CREATED, json!({"proxies": proxies})),
        Some(failure) => {
            let status = failure.status.as_u16();
            (failure.status, json!({"error": failure.message, "status": status, "proxies": proxies}))
        }
    }
}

async fn populate_into(registry: &Registry, body: &[u8], done: &mut Vec<Value>) -> Result<(), Failure> {
    let entries = match wire::parse(body)? {
        Value::Array(entries) => entries,
        Value::Null => Vec::new(),
        _ => return Err(Failure::body("json: cannot unmarshal into an array of proxies")),
    };
    let mut configs = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let (config, enabled) = described(registry, &Fields::of(entry)?)?;
        if let Some(field) = missing(&config) {
            let message = format!("missing required field: {field} at proxy {}", index + 1);
            return Err(Failure { status: StatusCode::BAD_REQUEST, message });
        }
        configs.push((config, enabled));
    }
    for (config, enabled) in configs {
        done.push(wire::proxy_json(&registry.create_or_replace(config, enabled).await?));
    }
    Ok(())
}

async fn populate_proxies(State(registry): State<Registry>, body: Bytes) -> Response {
    let (status, answer) = populate(&registry, &body).await;
    (status, Json(answer)).into_response()
}

async fn show_proxy(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    Ok(Json(wire::proxy_json(&find(&registry, &name)?)).into_response())
}

async fn update_proxy(State(registry): State<Registry>, Path(name): Path<String>, body: Bytes) -> Answer {
    let proxy = find(&registry, &name)?;
    let fields = Fields::parse(&body)?;
    let listen = fields.text("listen")?.filter(|listen| !listen.is_empty());
    proxy.update(listen, fields.text("upstream")?, fields.flag("enabled")?).await?;
    Ok(Json(wire::proxy_json(&proxy)).into_response())
}

async fn delete_proxy(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    registry.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn list_toxics(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    Ok(Json(wire::toxics_json(&find(&registry, &name)?)).into_response())
}

async fn create_toxic(State(registry): State<Registry>, Path(name): Path<String>, body: Bytes) -> Answer {
    let proxy = find(&registry, &name)?;
    let fields = Fields::parse(&body)?;
    let mut toxic = wire::toxic(&fields)?;
    // A name that is taken is told before attributes that are wrong.
    if proxy.toxic(&toxic.name).is_ok() {
        return Err(Error::ToxicExists.into());
    }
    toxic.merge(&fields.object("attributes")?)?;
    let answer = wire::toxic_json(&toxic);
    proxy.add_toxic(toxic)?;
    Ok(Json(answer).into_response())
}

async fn show_toxic(State(registry): State<Registry>, Path((name, toxic)): Path<(String, String)>) -> Answer {
    Ok(Json(wire::toxic_json(&find(&registry, &name)?.toxic(&toxic)?)).into_response())
}

async fn update_toxic(
    State(registry): State<Registry>,
    Path((name, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let proxy = find(&registry, &name)?;
    proxy.toxic(&toxic)?;
    let fields = Fields::parse(&body)?;
    let updated = proxy.update_toxic(&toxic, &fields.object("attributes")?, fields.float("toxicity")?)?;
    Ok(Json(wire::toxic_json(&updated)).into_response())
}

async fn delete_toxic(
    State(registry): State<Registry>,
    Path((name, toxic)): Path<(String, String)>,
) -> Answer {
    find(&registry, &name)?.remove_toxic(&toxic)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Every proxy listens and has no toxics; faults that the harness injected stay.
async fn reset(State(registry): State<Registry>) -> Answer {
    for proxy in registry.list() {
        proxy.enable().await?;
        proxy.remove_toxics();
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn version() -> Response {
    let body = format!("{{\"version\": \"{VERSION}\"}}\n");
    ([(header::CONTENT_TYPE, "application/json;charset=utf-8")], body).into_response()
}
