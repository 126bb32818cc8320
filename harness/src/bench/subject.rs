//! What is measured: nothing in between, our proxy, a naive forwarder, or a proxy that the user names.
//!
//! Ours and the forwarder are release builds in processes of their own, on ports that the system chose; they end with
//! their [`Subject`]. A proxy that the user named is only talked to.

use std::net::SocketAddr;
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::environment::{free_port, release_build};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// A way to the upstream.
#[derive(Debug)]
pub struct Subject {
    pub name: String,
    /// Where clients connect.
    pub address: SocketAddr,
    /// The way to Redis, where there is one.
    pub redis: Option<SocketAddr>,
    /// The process whose memory is read.
    pub pid: Option<i32>,
    /// Killed when dropped.
    _process: Option<Child>,
}

/// A proxy that the user runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// `NAME=api:HOST:PORT`: speaks Toxiproxy's API; its proxies are made for the measurement and removed after it.
    Api { name: String, api: String },
    /// `NAME=HOST:PORT`: forwards to the bench's upstream already.
    Fixed { name: String, address: SocketAddr },
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let wanted = || {
            format!("`{text}`: write NAME=HOST:PORT, or NAME=api:HOST:PORT for a server of Toxiproxy's API")
        };
        let (name, rest) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wanted)?;
        let name = name.to_owned();
        match rest.strip_prefix("api:") {
            Some(api) if api.contains(':') => Ok(Named::Api { name, api: api.to_owned() }),
            Some(_) => Err(wanted()),
            None => Ok(Named::Fixed { name, address: rest.parse().map_err(|_| wanted())? }),
        }
    }
}

/// Where the proxies lead.
#[derive(Debug, Clone, Copy)]
pub struct Targets {
    pub upstream: SocketAddr,
    pub redis: Option<SocketAddr>,
}

impl Subject {
    /// No proxy at all.
    pub fn direct(targets: Targets) -> Subject {
        Subject {
            name: "direct".into(),
            address: targets.upstream,
            redis: targets.redis,
            pid: None,
            _process: None,
        }
    }

    /// `chaos-proxy` in a process of its own, without toxics.
    pub async fn ours(targets: Targets) -> anyhow::Result<Subject> {
        let (child, api) = server().await?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let subject = Subject::through_api("chaos-proxy", &api, targets).await?;
        Ok(Subject { pid, _process: Some(child), ..subject })
    }

    /// A forwarder of thirty lines: what any proxy has to reach.
    pub async fn naive(targets: Targets) -> anyhow::Result<Subject> {
        let program = release_build("chaos", &["--example", "naive_forwarder"], "naive_forwarder").await?;
        let upstreams: Vec<String> = std::iter::once(targets.upstream)
            .chain(targets.redis)
            .map(|address| address.to_string())
            .collect();
        let mut child = spawn(Command::new(program).args(&upstreams))?;
        let mut lines = BufReader::new(child.stdout.take().context("the forwarder's output")?).lines();
        let mut listens = Vec::new();
        for upstream in &upstreams {
            let line = lines.next_line().await.context("read the forwarder's output")?;
            let line = line.context("the forwarder ended at once")?;
            let (listen, to) = line.split_once(' ').context("the forwarder's line")?;
            ensure!(to == upstream, "the forwarder names {to} where {upstream} was meant");
            listens.push(listen.parse::<SocketAddr>().context("the forwarder's address")?);
        }
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let redis = listens.get(1).copied();
        let address = *listens.first().context("the forwarder forwards nothing")?;
        Ok(Subject { name: "naive".into(), address, redis, pid, _process: Some(child) })
    }

    /// The user's proxy.
    pub async fn named(named: &Named, targets: Targets) -> anyhow::Result<Subject> {
        match named {
            Named::Api { name, api } => Subject::through_api(name, api, targets).await,
            Named::Fixed { name, address } => {
                Ok(Subject { name: name.clone(), address: *address, redis: None, pid: None, _process: None })
            }
        }
    }

    async fn through_api(name: &str, api: &str, targets: Targets) -> anyhow::Result<Subject> {
        let address = proxy(api, "bench", targets.upstream).await?;
        let redis = match targets.redis {
            Some(redis) => Some(proxy(api, "bench-redis", redis).await?),
            None => None,
        };
        Ok(Subject { name: name.to_owned(), address, redis, pid: None, _process: None })
    }
}

/// `chaos-proxy` in a process of its own, killed when dropped, and its API's address.
pub async fn server() -> anyhow::Result<(Child, String)> {
    let program = release_build("chaos", &["--bin", "chaos-proxy"], "chaos-proxy").await?;
    let port = free_port().context("find a free port")?;
    let mut child = spawn(Command::new(program).args(["-port", &port.to_string()]))?;
    let api = format!("127.0.0.1:{port}");
    ready(&api, &mut child).await?;
    Ok((child, api))
}

/// Removes what [`Subject::named`] has made on the user's server.
pub async fn clean(named: &Named) -> anyhow::Result<()> {
    let Named::Api { api, .. } = named else { return Ok(()) };
    for name in ["bench", "bench-redis"] {
        let url = format!("http://{api}/proxies/{name}");
        let answer =
            reqwest::Client::new().delete(&url).send().await.with_context(|| format!("DELETE {url}"))?;
        let status = answer.status();
        ensure!(status.is_success() || status.as_u16() == 404, "DELETE {url}: {status}");
    }
    Ok(())
}

async fn proxy(api: &str, name: &str, upstream: SocketAddr) -> anyhow::Result<SocketAddr> {
    let url = format!("http://{api}/proxies");
    let body = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream.to_string()});
    let answer = reqwest::Client::new().post(&url).json(&body).send().await;
    let answer = answer.with_context(|| format!("POST {url}"))?;
    let status = answer.status();
    let answer: Value = answer.json().await.with_context(|| format!("read the answer of POST {url}"))?;
    if !status.is_success() {
        bail!("POST {url}: {status} {answer}");
    }
    let listen = answer["listen"].as_str().context("the new proxy has no `listen`")?;
    listen.parse().with_context(|| format!("the new proxy's address {listen}"))
}

fn spawn(command: &mut Command) -> anyhow::Result<Child> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {:?}", command.as_std().get_program()))
}

async fn ready(api: &str, child: &mut Child) -> anyhow::Result<()> {
    let asked = async {
        while tokio::net::TcpStream::connect(api).await.is_err() {
            if let Some(status) = child.try_wait().context("look after the proxy")? {
                bail!("the proxy ended at once: {status}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(READY_WITHIN, asked).await.with_context(|| format!("no answer from {api}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_proxy_is_an_address_or_an_api() {
        let fixed = "haproxy=127.0.0.1:9000".parse();
        let address = "127.0.0.1:9000".parse().expect("address");
        assert_eq!(fixed, Ok(Named::Fixed { name: "haproxy".into(), address }));
        let api = "toxiproxy=api:127.0.0.1:8474".parse();
        assert_eq!(api, Ok(Named::Api { name: "toxiproxy".into(), api: "127.0.0.1:8474".into() }));
        for wrong in ["127.0.0.1:1", "=127.0.0.1:1", "x=nowhere", "x=api:8474"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
    }
}
