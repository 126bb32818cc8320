//! A fault proxy on each link from the runtime to a service: of this process, with Toxiproxy's API over them, or on a
//! server that the user named.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::Context;
use chaos::proxy::{ProxyConfig, Registry};
use tokio_util::sync::CancellationToken;

use super::link::{Link, Toxiproxy};
use super::settings::ProxySettings;
use super::{Error, ServiceName};
use crate::run::Run;

pub(crate) struct Proxies {
    by_service: BTreeMap<ServiceName, Link>,
    api: Option<SocketAddr>,
    end: CancellationToken,
}

/// A service that is to be reached through a proxy.
pub(crate) struct Upstream<'a> {
    /// `host:port`
    pub address: &'a str,
    pub url: &'a str,
}

type Upstreams<'a> = BTreeMap<ServiceName, Upstream<'a>>;

impl Proxies {
    /// Proxies of this process. The links in `read_along` can take faults on messages. A taken API port is said in the log
    /// and is no error.
    pub async fn start(
        run: &Run,
        upstreams: Upstreams<'_>,
        read_along: &BTreeSet<ServiceName>,
        settings: &ProxySettings,
    ) -> Result<Proxies, Error> {
        let registry = Registry::new(run.seed());
        let mut proxies = Proxies::none();
        for (name, upstream) in upstreams {
            let config = ProxyConfig {
                name: name.to_string(),
                listen: "127.0.0.1:0".into(),
                upstream: upstream.address.into(),
                seed: run.seed(),
                protocol: read_along.contains(&name).then(|| name.protocol()),
                udp: None,
                tls: None,
                dial_failure: None,
            };
            let proxy = registry
                .create(config)
                .await
                .map_err(|error| Error::start(format!("proxy {name}"), error))?;
            proxies.by_service.insert(name, Link::Own(proxy));
        }
        proxies.serve_api(registry, &settings.api).await;
        Ok(proxies)
    }

    /// Proxies on a server.
    pub async fn on(
        server: &Toxiproxy,
        run: &Run,
        upstreams: Upstreams<'_>,
        read_along: &BTreeSet<ServiceName>,
    ) -> Result<Proxies, Error> {
        let mut proxies = Proxies::none();
        for (name, upstream) in upstreams {
            let protocol = read_along.contains(&name).then(|| name.protocol());
            let link = server.open(run, name, &upstream, protocol).await?;
            proxies.by_service.insert(name, Link::Remote(link));
        }
        Ok(proxies)
    }

    fn none() -> Proxies {
        Proxies { by_service: BTreeMap::new(), api: None, end: CancellationToken::new() }
    }

    async fn serve_api(&mut self, registry: Registry, address: &str) {
        if address.is_empty() {
            return;
        }
        let listener = match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!("no Toxiproxy API in this run: {address}: {error}");
                return;
            }
        };
        self.api = listener.local_addr().ok();
        let end = self.end.clone();
        tokio::spawn(async move {
            if let Err(error) = chaos::api::serve(registry, listener, end).await {
                tracing::warn!("the Toxiproxy API ended: {error}");
            }
        });
    }

    pub fn get(&self, name: ServiceName) -> &Link {
        self.by_service.get(&name).expect("every service has its proxy")
    }

    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api
    }

    /// The same URL with the proxy's address.
    pub fn url_through(&self, name: ServiceName, url: &str) -> Result<String, Error> {
        redirect(url, self.get(name).listen_address())
            .map_err(|error| Error::start(format!("proxy {name}"), error))
    }

    /// A proxy that its server does not remove stays in the ledger, and so among the leftovers.
    pub async fn stop(&self, run: &Run) {
        self.end.cancel();
        for link in self.by_service.values() {
            match link {
                Link::Own(proxy) => proxy.stop().await,
                Link::Remote(link) => {
                    let closed = link.close().await.and_then(|()| Ok(run.ledger().close(link.holding())?));
                    if let Err(error) = closed {
                        tracing::warn!("proxy {} stays: {error:#}", link.name());
                    }
                }
            }
        }
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.end.cancel();
        // Proxies outlive their handles; without a runtime they have already ended with it, and those of a server are
        // removed by the ledger.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for link in std::mem::take(&mut self.by_service).into_values() {
            match link {
                Link::Own(proxy) => drop(runtime.spawn(async move { proxy.stop().await })),
                Link::Remote(link) => drop(runtime.spawn(async move { link.close().await })),
            }
        }
    }
}

/// The same URL with another address.
pub(crate) fn redirect(url: &str, to: SocketAddr) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url).context("a service's URL")?;
    if url.set_ip_host(to.ip()).is_err() || url.set_port(Some(to.port())).is_err() {
        anyhow::bail!("{url} cannot have an address");
    }
    Ok(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_a_url_changes() {
        let to = "127.0.0.1:7777".parse().expect("address");
        let url = redirect("postgres://u:p%40@db.example:5432/shop?x=1", to).expect("redirected");
        assert_eq!(url, "postgres://u:p%40@127.0.0.1:7777/shop?x=1");
        let url = redirect("redis://h:1/0", "[::1]:7777".parse().expect("address")).expect("redirected");
        assert_eq!(url, "redis://[::1]:7777/0");
    }
}
