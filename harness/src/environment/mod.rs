//! Environments: Postgres, Redis, NATS and fraiseql-server, with a fault proxy on each link.
//!
//! Everything is the environment's own: it never touches a server that it did not start. Whatever was started is in
//! the run's ledger before it is used, is gone after [`Environment::down`], and also after a drop (failure, panic,
//! Ctrl-C); what a killed run left is swept when the next environment comes up ([`cleanup`]).
//! A service is ready when a real query, PING or JetStream call answers, never because a log line said so.

mod backend;
pub mod behind;
pub mod cleanup;
mod container;
pub mod control;
mod external;
pub mod link;
mod nats;
mod postgres;
pub mod probe;
pub mod process;
mod program;
mod proxies;
mod redis;
mod server;
pub mod settings;
pub mod stub;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chaos::protocol::Protocol;
use serde::{Deserialize, Serialize};

use crate::run::Run;

pub use backend::{BackendChoice, Chosen, ExternalUrls, Kind};
pub use container::{EngineReport, engine_report};
pub use control::Control;
pub use link::{Link, Toxiproxy};
pub use program::Program;
pub use server::{
    Profile, Server, ServerRequest, WEBHOOK_SECRET, WEBHOOK_SECRET_ENV, example, merge_configuration,
    release_build, server_program, server_source, workspace,
};
pub use settings::Settings;

use stub::{Stub, StubName, Stubs};

use backend::Backend;
use proxies::{Proxies, Upstream};

/// The services that the runtime needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceName {
    Postgres,
    Redis,
    Nats,
}

impl ServiceName {
    pub const ALL: [ServiceName; 3] = [ServiceName::Postgres, ServiceName::Redis, ServiceName::Nats];

    /// The service that speaks this protocol.
    pub fn of(protocol: Protocol) -> ServiceName {
        match protocol {
            Protocol::Postgres => ServiceName::Postgres,
            Protocol::Redis => ServiceName::Redis,
            Protocol::Nats => ServiceName::Nats,
        }
    }

    /// What is spoken on the link to it.
    pub fn protocol(self) -> Protocol {
        match self {
            ServiceName::Postgres => Protocol::Postgres,
            ServiceName::Redis => Protocol::Redis,
            ServiceName::Nats => Protocol::Nats,
        }
    }

    /// The word for it in files, targets and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceName::Postgres => "postgres",
            ServiceName::Redis => "redis",
            ServiceName::Nats => "nats",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to bring up.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub backend: BackendChoice,
    pub settings: Settings,
    /// `None`: services and proxies only.
    pub server: Option<ServerRequest>,
    /// Links whose messages a fault of this run strikes at: their proxies read along from the first byte.
    pub read_along: BTreeSet<ServiceName>,
    /// Where the links' proxies are made; `None`: in this process.
    pub toxiproxy: Option<Toxiproxy>,
    /// Others whom the server calls, stood in for; it is told where.
    pub stubs: BTreeSet<StubName>,
}

/// Why an environment did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is wrong with the product: this machine cannot do it. Becomes `NotRun`.
    #[error("not possible here: {reason}; {hint}")]
    NotPossible { reason: String, hint: String },
    #[error("start {what}")]
    Start { what: String, source: anyhow::Error },
    /// `last` is the last answer or error, `log` the end of its log.
    #[error("{what} was not ready within {}: {last}{log}", humantime::format_duration(*.within))]
    NotReady { what: String, within: Duration, last: String, log: String },
    #[error("interrupted while the environment came up")]
    Interrupted,
}

impl Error {
    pub(crate) fn start(what: impl Into<String>, source: impl Into<anyhow::Error>) -> Self {
        Error::Start { what: what.into(), source: source.into() }
    }
}

/// Something that is still there, or did not end as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leftover {
    /// `process`, `container`, `folder`, `proxy`, `fault`, `server`.
    pub kind: String,
    pub detail: String,
}

/// A running service as reports show it.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    pub name: ServiceName,
    #[serde(skip)]
    direct_url: String,
    #[serde(skip)]
    proxied_url: String,
    /// As the server itself says.
    pub version: String,
    /// Settings in force, read back from the server.
    pub settings: BTreeMap<String, String>,
    /// Binary, image or "external".
    pub origin: String,
}

impl Service {
    /// Straight to the service: for checks that no fault may disturb.
    pub fn direct_url(&self) -> &str {
        &self.direct_url
    }

    /// Through the proxy: what the runtime gets.
    pub fn proxied_url(&self) -> &str {
        &self.proxied_url
    }
}

/// A running environment. Ends in [`Environment::down`]; a drop removes everything too, without questions.
pub struct Environment {
    run: Run,
    chosen: Chosen,
    backend: Arc<dyn Backend>,
    services: BTreeMap<ServiceName, Service>,
    controls: BTreeMap<ServiceName, Arc<dyn Control>>,
    proxies: Option<Proxies>,
    server: Option<Server>,
    settings: Settings,
    read_along: BTreeSet<ServiceName>,
    toxiproxy: Option<Toxiproxy>,
    stubs: Stubs,
    is_down: bool,
}

impl Environment {
    /// Sweeps what dead runs left beside this run's folder, chooses a backend, starts the services side by side, puts
    /// a proxy before each and, if asked, migrates, seeds and starts fraiseql-server.
    pub async fn up(run: &Run, request: Request) -> Result<Environment, Error> {
        let cancel = run.cancel().clone();
        tokio::select! {
            () = cancel.cancelled() => Err(Error::Interrupted),
            environment = Self::bring_up(run, request) => environment,
        }
    }

    async fn bring_up(run: &Run, request: Request) -> Result<Environment, Error> {
        if let Some(runs) = run.folder().parent() {
            for line in cleanup::sweep(runs).await {
                tracing::info!("swept: {line}");
            }
        }
        let (backend, mut chosen) = backend::choose(run, &request).await?;
        if let Some(toxiproxy) = &request.toxiproxy {
            chosen.reason += &format!("; links pass {}", toxiproxy.describe());
        }
        tracing::info!("backend {}: {}", chosen.kind, chosen.reason);
        // From here on the value owns what is started: an early return drops it and so removes everything.
        let mut environment = Environment {
            run: run.clone(),
            chosen,
            backend,
            services: BTreeMap::new(),
            controls: BTreeMap::new(),
            proxies: None,
            server: None,
            settings: request.settings,
            read_along: request.read_along,
            toxiproxy: request.toxiproxy,
            stubs: Stubs::new(),
            is_down: false,
        };
        for name in request.stubs {
            let stub = Stub::start(name).await.map_err(|error| Error::start(name.as_str(), error))?;
            environment.stubs.insert(name, Arc::new(stub));
        }
        environment.start_services().await?;
        if let Some(server) = request.server {
            environment.start_server(server).await?;
        }
        Ok(environment)
    }

    async fn start_services(&mut self) -> Result<(), Error> {
        let within = self.settings.ready_within;
        let started = futures::future::try_join_all(ServiceName::ALL.map(|name| {
            let backend = self.backend.clone();
            async move {
                let started = backend.start(name).await?;
                let facts = probe::wait_ready(name, &started, within).await?;
                Ok::<_, Error>((name, started, facts))
            }
        }))
        .await?;
        let upstreams: BTreeMap<ServiceName, Upstream<'_>> = started
            .iter()
            .map(|(name, started, _)| (*name, Upstream { address: &started.address, url: &started.url }))
            .collect();
        let proxies = match &self.toxiproxy {
            Some(server) => Proxies::on(server, &self.run, upstreams, &self.read_along).await?,
            None => Proxies::start(&self.run, upstreams, &self.read_along, &self.settings.proxy).await?,
        };
        for (name, started, facts) in started {
            let proxied_url = proxies.url_through(name, &started.url)?;
            self.services.insert(
                name,
                Service {
                    name,
                    direct_url: started.url,
                    proxied_url,
                    version: facts.version,
                    settings: facts.settings,
                    origin: started.origin,
                },
            );
            if let Some(control) = started.control {
                self.controls.insert(name, control);
            }
        }
        self.proxies = Some(proxies);
        Ok(())
    }

    async fn start_server(&mut self, request: ServerRequest) -> Result<(), Error> {
        let urls: BTreeMap<ServiceName, (String, String)> = self
            .services
            .iter()
            .map(|(name, service)| (*name, (service.direct_url.clone(), service.proxied_url.clone())))
            .collect();
        let stubs = self.stubs.iter().map(|(name, stub)| (*name, stub.url())).collect();
        self.server = Some(Server::start(&self.run, request, &urls, &stubs, &self.settings.server).await?);
        Ok(())
    }

    /// Which backend runs, and why that one.
    pub fn backend(&self) -> &Chosen {
        &self.chosen
    }

    /// A service.
    pub fn service(&self, name: ServiceName) -> &Service {
        self.services.get(&name).expect("an environment that is up has every service")
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The link between the runtime and a service.
    pub fn link(&self, name: ServiceName) -> &Link {
        self.proxies.as_ref().expect("an environment that is up has its proxies").get(name)
    }

    /// The proxy of this process between the runtime and a service. Panics when the request named a server for them:
    /// asking for one is then a mistake of the caller.
    pub fn proxy(&self, name: ServiceName) -> &chaos::proxy::Proxy {
        match self.link(name) {
            Link::Own(proxy) => proxy,
            Link::Remote(link) => panic!("proxy {} is not of this process", link.name()),
        }
    }

    /// The server that the links' proxies are on, where the user named one.
    pub fn toxiproxy(&self) -> Option<&Toxiproxy> {
        self.toxiproxy.as_ref()
    }

    /// Where Toxiproxy's API over the proxies of this process answers; `None` when its port was taken, it is turned off,
    /// or the proxies are elsewhere.
    pub fn toxiproxy_api(&self) -> Option<SocketAddr> {
        self.proxies.as_ref().and_then(Proxies::api_address)
    }

    /// Every stand-in of the run.
    pub fn stubs(&self) -> &Stubs {
        &self.stubs
    }

    /// The stand-in for `webhook`, `slack` or `email`; `None` where the run has none.
    pub fn stub(&self, target: &str) -> Option<Arc<Stub>> {
        self.stubs.get(&StubName::of(target)?).cloned()
    }

    /// Whether the stand-in for this action (`webhook`, `email`) took a notification of this name; see
    /// [`Stub::notification_sent`].
    pub fn notification_sent(&self, action: &str, name: &str) -> bool {
        self.stub(action).is_some_and(|stub| stub.notification_sent(name))
    }

    /// What can be done to `postgres`, `redis`, `nats` or `runtime`; `None` for a server that is not ours or unknown.
    pub fn control(&self, target: &str) -> Option<Arc<dyn Control>> {
        if target == "runtime" {
            return self.server.as_ref().map(Server::control);
        }
        ServiceName::ALL
            .into_iter()
            .find(|name| name.as_str() == target)
            .and_then(|name| self.controls.get(&name).cloned())
    }

    /// First processes of the services, as this machine counts them: what they and their descendants use is the run's
    /// own doing.
    pub async fn process_roots(&self) -> Vec<i32> {
        let pids = self.controls.values().map(|control| control.host_pids());
        futures::future::join_all(pids).await.into_iter().flatten().collect()
    }

    /// The server under test. Panics when the request had none: asking for it is then a mistake of the caller.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the request asked for a server")
    }

    /// True when the request had a server.
    pub fn has_server(&self) -> bool {
        self.server.is_some()
    }

    /// Ends everything in order (server, services, proxies) and verifies by pid and start time, container id and
    /// folder that nothing is left. A server that ignores SIGTERM beyond its grace is in the result.
    pub async fn down(mut self) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        if let Some(server) = &self.server {
            leftovers.extend(server.stop(self.settings.server.grace_slack).await);
        }
        if let Some(proxies) = &self.proxies {
            proxies.stop(&self.run).await;
        }
        leftovers.extend(self.backend.stop().await);
        self.is_down = true;
        leftovers.extend(cleanup::verify(&self.run).await);
        leftovers
    }

    /// Folder with the services' and the server's logs.
    pub fn logs(&self) -> PathBuf {
        logs(&self.run)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.is_down {
            return;
        }
        if let Some(server) = &self.server {
            server.kill_now();
        }
        self.backend.kill_now();
    }
}

pub(crate) fn logs(run: &Run) -> PathBuf {
    run.folder().join("logs")
}

/// The last `lines` of a log, indented, with a heading; empty when there is no log.
pub(crate) fn log_tail(path: &std::path::Path, lines: usize) -> String {
    let Ok(text) = std::fs::read_to_string(path) else { return String::new() };
    let all: Vec<&str> = text.lines().collect();
    let tail = &all[all.len().saturating_sub(lines)..];
    if tail.is_empty() {
        return String::new();
    }
    format!("\n  end of {}:\n    {}", path.display(), tail.join("\n    "))
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub(crate) fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
