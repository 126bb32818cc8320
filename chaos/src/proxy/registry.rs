//! Proxies by name, shared between the harness and the HTTP API.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::event::Events;
use super::tls::Tls;
use super::{Error, Event, Proxy, ProxyConfig, address};
use crate::toxic::Toxic;

/// Handle of a set of proxies; clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    seed: u64,
    events: Events,
    proxies: Mutex<BTreeMap<String, Proxy>>,
    /// Held by whoever creates, replaces or removes, so that a name is never taken twice.
    change: tokio::sync::Mutex<()>,
}

impl Registry {
    /// `seed` is the seed of the proxies that the HTTP API makes.
    pub fn new(seed: u64) -> Registry {
        Registry {
            inner: Arc::new(Inner {
                seed,
                events: Events::default(),
                proxies: Mutex::default(),
                change: tokio::sync::Mutex::default(),
            }),
        }
    }

    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// What happens on all proxies from now on. A reader that falls more than [`super::event::KEPT`] events behind loses
    /// the oldest and is told how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Starts a proxy under its name. Fails when the name or the address is taken, or when the files for TLS cannot be
    /// used.
    pub async fn create(&self, config: ProxyConfig) -> Result<Proxy, Error> {
        let tls = config.load_tls().await?;
        self.create_with(config, tls, true, Vec::new()).await
    }

    /// Makes a proxy; its toxics act before it takes the first connection. `tls` is what the setting of `config` was read
    /// into. Nothing is left when that fails.
    pub(crate) async fn create_with(
        &self,
        mut config: ProxyConfig,
        tls: Option<Arc<Tls>>,
        enabled: bool,
        toxics: Vec<Toxic>,
    ) -> Result<Proxy, Error> {
        // Before the lock: nobody else has to wait for a name server.
        let resolved = if enabled { Some(address::resolve(&config.listen).await) } else { None };
        let _change = self.inner.change.lock().await;
        if self.get(&config.name).is_some() {
            return Err(Error::ProxyExists);
        }
        if let Some(resolved) = resolved {
            let unresolved = if config.udp.is_some() { Error::UnresolvedUdp } else { Error::Unresolved };
            config.listen = resolved.map_err(unresolved)?.to_string();
        }
        self.start(config, tls, enabled, toxics).await
    }

    async fn start(
        &self,
        config: ProxyConfig,
        tls: Option<Arc<Tls>>,
        enabled: bool,
        toxics: Vec<Toxic>,
    ) -> Result<Proxy, Error> {
        let proxy = Proxy::disabled(config, tls, self.inner.events.clone());
        if let Err(error) = prepare(&proxy, enabled, toxics).await {
            proxy.stop().await;
            return Err(error);
        }
        self.inner.proxies.lock().insert(proxy.name().to_owned(), proxy.clone());
        Ok(proxy)
    }

    /// The proxy of that name as it is when its addresses are the given ones, and its TLS where any is given, else a new
    /// one in its place. `tls` is what the setting of `config` was read into.
    pub(crate) async fn create_or_replace(
        &self,
        config: ProxyConfig,
        tls: Option<Arc<Tls>>,
        enabled: bool,
        toxics: Vec<Toxic>,
    ) -> Result<Proxy, Error> {
        let resolved = address::resolve(&config.listen).await;
        let _change = self.inner.change.lock().await;
        let Some(known) = self.get(&config.name) else {
            return self.start(config, tls, enabled, toxics).await;
        };
        if known.udp() == config.udp
            && known.protocol() == config.protocol
            && config.dial_failure.is_none_or(|given| given == known.dial_failure())
            && !known.differs(resolved.map_err(Error::Address)?, &config.upstream, config.tls.as_ref())
        {
            return Ok(known);
        }
        known.disable().await;
        let proxy = self.start(config, tls, enabled, toxics).await?;
        known.stop().await;
        Ok(proxy)
    }

    pub fn get(&self, name: &str) -> Option<Proxy> {
        self.inner.proxies.lock().get(name).cloned()
    }

    /// All proxies, by name.
    pub fn list(&self) -> Vec<Proxy> {
        self.inner.proxies.lock().values().cloned().collect()
    }

    /// Stops a proxy and forgets it.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let _change = self.inner.change.lock().await;
        let proxy = self.inner.proxies.lock().remove(name).ok_or(Error::ProxyNotFound)?;
        proxy.stop().await;
        Ok(())
    }

    /// Stops all proxies and forgets them.
    pub async fn clear(&self) {
        let _change = self.inner.change.lock().await;
        let proxies = std::mem::take(&mut *self.inner.proxies.lock());
        for proxy in proxies.into_values() {
            proxy.stop().await;
        }
    }
}

async fn prepare(proxy: &Proxy, enabled: bool, toxics: Vec<Toxic>) -> Result<(), Error> {
    for toxic in toxics {
        proxy.add_toxic(toxic).await?;
    }
    if enabled { proxy.enable().await } else { Ok(()) }
}
