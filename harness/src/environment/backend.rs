//! Where the services come from: containers, own processes, or servers that the user names. `auto` takes containers
//! when an engine answers and every image is local or can be pulled, else processes, and says why.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::container::ContainerBackend;
use super::external::ExternalBackend;
use super::process::ProcessBackend;
use super::{Control, Error, Leftover, Request, ServiceName};
use crate::run::Run;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendChoice {
    #[default]
    Auto,
    Container,
    Process,
    External(ExternalUrls),
}

/// Servers of the user's own; chaos acts on them through the proxies alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExternalUrls {
    pub postgres: String,
    pub redis: String,
    pub nats: String,
}

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Container,
    Process,
    External,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Container => "container",
            Kind::Process => "process",
            Kind::External => "external",
        })
    }
}

/// The backend that runs, and a sentence why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub kind: Kind,
    pub reason: String,
}

/// A service that was started; whether it answers is asked elsewhere.
pub(crate) struct Started {
    /// `host:port`.
    pub address: String,
    pub url: String,
    pub origin: String,
    pub control: Option<Arc<dyn Control>>,
    /// Log to quote when it does not answer.
    pub log: Option<std::path::PathBuf>,
}

/// One way to have services. Dropping a backend does not end them; `stop` and `kill_now` do.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn start(&self, name: ServiceName) -> Result<Started, Error>;
    /// Ends everything in order.
    async fn stop(&self) -> Vec<Leftover>;
    /// Ends everything at once, from a destructor: must not need the caller's async runtime.
    fn kill_now(&self);
}

/// The backend for a request. `auto` never fails because of containers; it falls back to processes with the reason.
pub(crate) async fn choose(run: &Run, request: &Request) -> Result<(Arc<dyn Backend>, Chosen), Error> {
    match &request.backend {
        BackendChoice::External(urls) => {
            let reason = "URLs were given; faults act through the proxies alone".to_owned();
            Ok((Arc::new(ExternalBackend::new(urls.clone())), Chosen { kind: Kind::External, reason }))
        }
        BackendChoice::Process => process(run, request, "asked for".into()).await,
        BackendChoice::Container => {
            let backend = ContainerBackend::prepare(run, &request.settings).await?;
            Ok((Arc::new(backend), Chosen { kind: Kind::Container, reason: "asked for".into() }))
        }
        BackendChoice::Auto => match ContainerBackend::prepare(run, &request.settings).await {
            Ok(backend) => {
                let reason = "a container engine answers and has every image".into();
                Ok((Arc::new(backend), Chosen { kind: Kind::Container, reason }))
            }
            Err(Error::NotPossible { reason, .. }) => {
                process(run, request, format!("no containers: {reason}")).await
            }
            Err(other) => Err(other),
        },
    }
}

async fn process(run: &Run, request: &Request, reason: String) -> Result<(Arc<dyn Backend>, Chosen), Error> {
    let backend = ProcessBackend::prepare(run, &request.settings).await?;
    Ok((Arc::new(backend), Chosen { kind: Kind::Process, reason }))
}
