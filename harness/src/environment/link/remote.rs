//! A link through a proxy on a server of Toxiproxy's API.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, ensure};
use chaos::client::{Client, Error as ApiError, ProxyChange};
use chaos::fault::Evidence;
use chaos::ledger::Holding;
use chaos::proxy::LinkFault;

use super::super::ServiceName;
use super::probe::{Probe, Trial};
use super::server::{Dialect, holding, remove};
use super::toxics::{Means, means};

/// A proxy that was made for this run. It outlives this value until [`RemoteLink::close`].
#[derive(Debug)]
pub struct RemoteLink {
    pub(super) client: Client,
    pub(super) dialect: Dialect,
    pub(super) service: ServiceName,
    /// Of the proxy.
    pub(super) name: String,
    pub(super) listen: SocketAddr,
    /// Through the proxy.
    pub(super) url: String,
    /// How many faults so far.
    pub(super) injected: AtomicU64,
}

impl RemoteLink {
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn holding(&self) -> Holding {
        holding(&self.client, &self.name)
    }

    /// Removes the proxy from the server, with what acts on it.
    pub(crate) async fn close(&self) -> anyhow::Result<()> {
        remove(self.client.authority(), &self.name).await
    }

    pub(super) async fn inject(&self, fault: &LinkFault) -> anyhow::Result<Acting> {
        let number = self.injected.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("{}-{number}", fault.kind());
        // From here on the value owns what is done: an early return drops it and so undoes it.
        let mut acting =
            Acting { client: self.client.clone(), proxy: self.name.clone(), undo: vec![], probe: None };
        match self.dialect {
            Dialect::Faults => {
                acting.undo.push(Undo::Fault(name.clone()));
                let fault = serde_json::to_value(fault).context("write the fault as JSON")?;
                self.client.add_fault(&self.name, Some(&name), &fault).await?;
            }
            Dialect::Toxics => {
                let means = means(fault, &name).map_err(anyhow::Error::msg)?;
                let trial = Trial::of(fault, self.service, self.listen, &self.url).await;
                self.apply(&means, &mut acting.undo).await?;
                if let Some(trial) = trial {
                    acting.probe = Some(Probe::begin(trial).await);
                }
            }
        }
        Ok(acting)
    }

    async fn apply(&self, means: &Means, undo: &mut Vec<Undo>) -> anyhow::Result<()> {
        match means {
            Means::Disable => {
                undo.push(Undo::Enable);
                let change = ProxyChange { enabled: Some(false), ..ProxyChange::default() };
                self.client.update(&self.name, &change).await?;
            }
            Means::Toxics(toxics) => {
                for toxic in toxics {
                    undo.push(Undo::Toxic(toxic.name.clone()));
                    self.client.add_toxic(&self.name, toxic).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn verify_healed(&self) -> anyhow::Result<()> {
        let proxy = self.client.proxy(&self.name).await?;
        let mut acting: Vec<String> = proxy.toxics.into_iter().map(|toxic| toxic.name).collect();
        if self.dialect == Dialect::Faults {
            acting.extend(self.client.faults(&self.name).await?.into_iter().map(|fault| fault.name));
        }
        let (name, server) = (&self.name, self.client.authority());
        ensure!(proxy.enabled, "proxy {name} on {server} is disabled");
        ensure!(acting.is_empty(), "on proxy {name} on {server} still act: {}", acting.join(", "));
        Ok(())
    }
}

/// A fault that acts on the server until it is healed or dropped.
#[derive(Debug)]
pub struct Acting {
    client: Client,
    proxy: String,
    undo: Vec<Undo>,
    /// Where the server does not count, and an exchange of ours can tell.
    probe: Option<Probe>,
}

/// How one thing that was done is undone.
#[derive(Debug, Clone)]
enum Undo {
    Fault(String),
    Toxic(String),
    Enable,
}

impl Acting {
    pub(super) fn counts(&self) -> bool {
        self.probe.is_some() || matches!(self.undo.as_slice(), [Undo::Fault(_)])
    }

    pub(super) async fn evidence(&self) -> anyhow::Result<Evidence> {
        if let [Undo::Fault(name)] = self.undo.as_slice() {
            let faults = self.client.faults(&self.proxy).await?;
            let found = faults.into_iter().find(|fault| fault.name == *name);
            return Ok(found
                .with_context(|| format!("fault {name} is not on the server any more"))?
                .evidence);
        }
        Ok(self.probe.as_ref().map(Probe::evidence).unwrap_or_default())
    }

    pub(super) async fn heal(mut self) -> anyhow::Result<Evidence> {
        // Read before anything ends: what is seen from here on is not the fault's doing.
        let probed = self.probe.take().map(|probe| probe.evidence());
        let mut evidence = probed.unwrap_or_default();
        while let Some(undo) = self.undo.last().cloned() {
            if let Some(told) = undo.perform(&self.client, &self.proxy).await? {
                evidence = told;
            }
            // What failed is tried again by the drop.
            self.undo.pop();
        }
        Ok(evidence)
    }
}

impl Undo {
    /// The evidence of a server that counts.
    async fn perform(&self, client: &Client, proxy: &str) -> Result<Option<Evidence>, ApiError> {
        match self {
            Undo::Fault(name) => client.remove_fault(proxy, name).await.map(|fault| Some(fault.evidence)),
            Undo::Toxic(name) => client.remove_toxic(proxy, name).await.map(|()| None),
            Undo::Enable => {
                let change = ProxyChange { enabled: Some(true), ..ProxyChange::default() };
                client.update(proxy, &change).await.map(|_| None)
            }
        }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        let (client, proxy, undo) = (self.client.clone(), self.proxy.clone(), std::mem::take(&mut self.undo));
        // Without a runtime the proxy is removed as a whole, by its entry in the ledger.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for undo in undo.iter().rev() {
                    if let Err(error) = undo.perform(&client, &proxy).await {
                        tracing::debug!("{proxy}: {undo:?}: {error}");
                    }
                }
            });
        }
    }
}
