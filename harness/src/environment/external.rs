//! Services of the user's own, named by URL. They are never signalled, stopped or configured.

use anyhow::Context;
use async_trait::async_trait;

use super::backend::{Backend, ExternalUrls, Started};
use super::{Error, Leftover, ServiceName};

pub(crate) struct ExternalBackend {
    urls: ExternalUrls,
}

impl ExternalBackend {
    pub fn new(urls: ExternalUrls) -> Self {
        ExternalBackend { urls }
    }
}

#[async_trait]
impl Backend for ExternalBackend {
    async fn start(&self, name: ServiceName) -> Result<Started, Error> {
        let (url, default_port) = match name {
            ServiceName::Postgres => (&self.urls.postgres, 5432),
            ServiceName::Redis => (&self.urls.redis, 6379),
            ServiceName::Nats => (&self.urls.nats, 4222),
        };
        let address = host_and_port(url, default_port).map_err(|error| Error::start(name.as_str(), error))?;
        Ok(Started { address, url: url.clone(), origin: "external".into(), control: None, log: None })
    }

    async fn stop(&self) -> Vec<Leftover> {
        Vec::new()
    }

    fn kill_now(&self) {}
}

fn host_and_port(text: &str, default_port: u16) -> anyhow::Result<String> {
    let url = url::Url::parse(text).with_context(|| format!("{text:?} is not a URL"))?;
    let host = url.host_str().with_context(|| format!("{text:?} names no host"))?;
    Ok(format!("{host}:{}", url.port().unwrap_or(default_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_is_added_where_the_url_has_none() {
        assert_eq!(host_and_port("redis://h/0", 6379).expect("address"), "h:6379");
        assert_eq!(host_and_port("postgres://u:p@h:99/db", 5432).expect("address"), "h:99");
        assert!(host_and_port("nonsense", 1).is_err());
    }
}
