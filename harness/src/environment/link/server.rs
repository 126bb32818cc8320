//! A server of Toxiproxy's API that the user named: what it can do, and proxies of a run on it.
//!
//! A proxy has the run's id in its name and is in the run's ledger before it is made, so that a later run can remove what
//! a killed one left; nothing else on the server is touched.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use chaos::client::{Client, Error as ApiError, Extras};
use chaos::ledger::Holding;
use chaos::protocol::Protocol;
use chaos::proxy::LinkFault;

use super::super::proxies::{Upstream, redirect};
use super::super::{Error, ServiceName, Settings};
use super::remote::RemoteLink;
use super::toxics;
use crate::run::Run;

/// Token of the server's API, where it demands one: the variable that `chaos-proxy` reads as well.
const TOKEN: &str = "CHAOS_PROXY_TOKEN";

/// What a server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `chaos-proxy`: every fault by its name, each with what it touched.
    Faults,
    /// Toxiproxy and its like: toxics, which count nothing.
    Toxics,
}

impl Dialect {
    /// Why a server of this dialect cannot do `fault`; `None`: it can.
    pub fn lacks(self, fault: &LinkFault) -> Option<String> {
        match self {
            Dialect::Faults => None,
            Dialect::Toxics => toxics::means(fault, "").err(),
        }
    }
}

/// A server that answered.
#[derive(Debug, Clone)]
pub struct Toxiproxy {
    client: Client,
    version: String,
    dialect: Dialect,
}

impl Toxiproxy {
    /// The server that the settings name, if they do.
    pub async fn named_in(settings: &Settings) -> Result<Option<Toxiproxy>, Error> {
        match settings.proxy.toxiproxy.as_str() {
            "" => Ok(None),
            address => Toxiproxy::reach(address).await.map(Some),
        }
    }

    /// Asks the server at `address` (`http://HOST:PORT`, or without the scheme) what it is. One that does not answer is
    /// [`Error::NotPossible`].
    pub async fn reach(address: &str) -> Result<Toxiproxy, Error> {
        let no = |error: ApiError| {
            let mut reason = format!("no Toxiproxy at {address}: {error}");
            if matches!(error, ApiError::Refused { status: 401, .. }) {
                reason += &format!("; {TOKEN} has to hold its token");
            }
            Error::NotPossible { reason, hint: "start one (`chaos-proxy`), or leave --toxiproxy away".into() }
        };
        let client = client(address).map_err(no)?;
        let version = client.version().await.map_err(no)?;
        let dialect = if client.has_faults().await.map_err(no)? { Dialect::Faults } else { Dialect::Toxics };
        Ok(Toxiproxy { client, version, dialect })
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// For people: what it is and where.
    pub fn describe(&self) -> String {
        let (authority, version) = (self.client.authority(), &self.version);
        match self.dialect {
            Dialect::Faults => format!("chaos-proxy (as Toxiproxy {version}) at {authority}"),
            Dialect::Toxics => format!("Toxiproxy {version} at {authority}"),
        }
    }

    /// A proxy before `upstream`; with a protocol its connections are read along.
    pub(crate) async fn open(
        &self,
        run: &Run,
        service: ServiceName,
        upstream: &Upstream<'_>,
        protocol: Option<Protocol>,
    ) -> Result<RemoteLink, Error> {
        let name = format!("{}-{service}", run.id());
        let failed = |error| Error::start(format!("proxy {name} on {}", self.describe()), error);
        let listen = self.make(run, &name, upstream.address, protocol).await.map_err(failed)?;
        let url = redirect(upstream.url, listen).map_err(failed)?;
        let client = self.client.clone();
        Ok(RemoteLink {
            client,
            dialect: self.dialect,
            service,
            name,
            listen,
            url,
            injected: AtomicU64::new(0),
        })
    }

    async fn make(
        &self,
        run: &Run,
        name: &str,
        upstream: &str,
        protocol: Option<Protocol>,
    ) -> anyhow::Result<SocketAddr> {
        run.ledger().open(holding(&self.client, name)).context("write the proxy into the ledger")?;
        // The server's own machine is where it listens, under the name that the user reaches it by.
        let (host, _) = self.client.authority().rsplit_once(':').context("an address has a port")?;
        let listen = format!("{host}:0");
        let extras = Extras { protocol, ..Extras::default() };
        let proxy = self.client.create_with(name, &listen, upstream, &extras).await?;
        let told: SocketAddr = proxy
            .listen
            .parse()
            .with_context(|| format!("the server says it listens at {:?}", proxy.listen))?;
        if !told.ip().is_unspecified() {
            return Ok(told);
        }
        let mut resolved = tokio::net::lookup_host((host.trim_matches(['[', ']']), told.port())).await?;
        resolved.next().with_context(|| format!("{host} has no address"))
    }
}

pub(crate) fn holding(client: &Client, name: &str) -> Holding {
    Holding::Proxy { api: client.authority().to_owned(), name: name.to_owned() }
}

/// Removes a proxy. One that the server does not know is gone, and so is one whose server has ended: it lived in its
/// memory.
pub(crate) async fn remove(api: &str, name: &str) -> anyhow::Result<()> {
    match client(api)?.delete(name).await {
        Ok(()) => Ok(()),
        Err(error) if means_gone(&error) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("delete proxy {name} on {api}")),
    }
}

/// Whether a proxy is there. When the server does not say, it is: what cannot be verified is not gone.
pub(crate) async fn is_there(api: &str, name: &str) -> bool {
    let Ok(client) = client(api) else { return true };
    !client.proxy(name).await.is_err_and(|error| means_gone(&error))
}

fn means_gone(error: &ApiError) -> bool {
    match error {
        ApiError::Refused { status: 404, .. } => true,
        ApiError::Connect { source, .. } => source.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

fn client(address: &str) -> Result<Client, ApiError> {
    let token = std::env::var_os(TOKEN).and_then(|token| token.into_string().ok());
    let token = token.filter(|token| !token.is_empty());
    Ok(Client::new(address)?.with_token(token))
}
