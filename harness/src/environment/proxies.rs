//! A fault proxy on each link from the runtime to a service, and Toxiproxy's API over the same proxies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::Context;
use chaos::proxy::{Proxy, ProxyConfig, Registry};
use tokio_util::sync::CancellationToken;

use super::settings::ProxySettings;
use super::{Error, ServiceName};
use crate::run::Run;

pub(crate) struct Proxies {
    by_service: BTreeMap<ServiceName, Proxy>,
    api: Option<SocketAddr>,
    end: CancellationToken,
}

impl Proxies {
    /// `upstreams` are `host:port`; the links in `read_along` can take faults on messages. A taken API port is said in the log and is no error.
    pub async fn start(
        run: &Run,
        upstreams: BTreeMap<ServiceName, String>,
        read_along: &BTreeSet<ServiceName>,
        settings: &ProxySettings,
    ) -> Result<Proxies, Error> {
        let registry = Registry::new(run.seed());
        let mut proxies = Proxies { by_service: BTreeMap::new(), api: None, end: CancellationToken::new() };
        for (name, upstream) in upstreams {
            let config = ProxyConfig {
                name: name.to_string(),
                listen: "127.0.0.1:0".into(),
                upstream,
                seed: run.seed(),
                protocol: read_along.contains(&name).then(|| name.protocol()),
                udp: None,
                tls: None,
            };
            let proxy = registry
                .create(config)
                .await
                .map_err(|error| Error::start(format!("proxy {name}"), error))?;
            proxies.by_service.insert(name, proxy);
        }
        proxies.serve_api(registry, &settings.api).await;
        Ok(proxies)
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

    pub fn get(&self, name: ServiceName) -> &Proxy {
        self.by_service.get(&name).expect("every service has its proxy")
    }

    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api
    }

    /// `url` with the proxy's address in place of the service's.
    pub fn url_through(&self, name: ServiceName, url: &str) -> Result<String, Error> {
        redirect(url, self.get(name).listen_address())
            .map_err(|error| Error::start(format!("proxy {name}"), error))
    }

    pub async fn stop(&self) {
        self.end.cancel();
        for proxy in self.by_service.values() {
            proxy.stop().await;
        }
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.end.cancel();
        // Proxies outlive their handles; without a runtime they have already ended with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for proxy in std::mem::take(&mut self.by_service).into_values() {
                runtime.spawn(async move { proxy.stop().await });
            }
        }
    }
}

fn redirect(url: &str, to: SocketAddr) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url).context("a service's URL")?;
    url.set_host(Some(&to.ip().to_string())).context("set the host")?;
    if url.set_port(Some(to.port())).is_err() {
        anyhow::bail!("{url} cannot have a port");
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
    }
}
