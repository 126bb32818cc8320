//! `harness.toml`: images, tags, commands and settings of the services, and where things listen. Every key has a
//! default, so the file may be absent; an unknown key is an error that names the file, line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ServiceName;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub postgres: ServiceSettings,
    pub redis: ServiceSettings,
    pub nats: ServiceSettings,
    pub server: ServerSettings,
    pub proxy: ProxySettings,
    /// How long a service may take from its start to its first real answer.
    #[serde(with = "humantime_serde")]
    pub ready_within: Duration,
    /// How long an image may take to be pulled.
    #[serde(with = "humantime_serde")]
    pub pull_within: Duration,
}

/// One service. `settings` are the server's own parameters, by their own names; what is really in force is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// `name:tag` of the image for the container backend.
    pub image: String,
    /// Image that is used when `image` is neither local nor can be pulled; `ci/images/build.sh` makes it.
    #[serde(default)]
    pub local: String,
    /// First words of the container's command; the settings follow in the service's own form.
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// fraiseql-server as the harness starts it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// From the start of the process to the first 200 of /ready.
    #[serde(with = "humantime_serde")]
    pub ready_within: Duration,
    /// How long the server may take over its own grace to end after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub grace_slack: Duration,
}

/// The proxies' control surface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxySettings {
    /// Where Toxiproxy's API is served, if the port is free.
    pub api: String,
    /// A server of that API that the links pass, `http://HOST:PORT`; empty: proxies of the harness itself.
    pub toxiproxy: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            postgres: ServiceSettings {
                image: "postgres:17".into(),
                local: "fraiseql-local/postgres:15".into(),
                command: vec!["postgres".into()],
                settings: pairs(&[
                    ("fsync", "on"),
                    ("full_page_writes", "on"),
                    ("synchronous_commit", "on"),
                    ("max_connections", "200"),
                    ("shared_buffers", "128MB"),
                ]),
            },
            redis: ServiceSettings {
                image: "redis:8".into(),
                local: "fraiseql-local/redis:7".into(),
                command: vec!["redis-server".into()],
                settings: pairs(&[
                    ("appendonly", "yes"),
                    ("appendfsync", "everysec"),
                    ("maxmemory-policy", "noeviction"),
                ]),
            },
            nats: ServiceSettings {
                image: "nats:2.11".into(),
                local: "fraiseql-local/nats:2.9".into(),
                command: Vec::new(),
                settings: pairs(&[("max_payload", "1048576")]),
            },
            server: ServerSettings::default(),
            proxy: ProxySettings::default(),
            ready_within: Duration::from_secs(60),
            pull_within: Duration::from_secs(180),
        }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        ServerSettings { ready_within: Duration::from_secs(30), grace_slack: Duration::from_secs(2) }
    }
}

impl Default for ProxySettings {
    fn default() -> Self {
        ProxySettings { api: "127.0.0.1:8474".into(), toxiproxy: String::new() }
    }
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A `harness.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    /// `detail` is the parser's own text with line, column and the line itself.
    #[error("{path}: {detail}")]
    Wrong { path: PathBuf, detail: String },
}

impl Settings {
    /// Reads `path`; a file that is absent gives the defaults.
    pub fn load(path: &Path) -> Result<Settings, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => Settings::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Settings::default()),
            Err(source) => Err(Error::Read { path: path.into(), source }),
        }
    }

    /// The same with the proxies' server that was given on the command line, if one was.
    pub fn through(mut self, toxiproxy: Option<&str>) -> Settings {
        if let Some(address) = toxiproxy {
            self.proxy.toxiproxy = address.to_owned();
        }
        self
    }

    /// Parses the text of a file; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Settings, Error> {
        let wrong = |detail: String| Error::Wrong { path: path.into(), detail };
        let settings: Settings = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for name in ServiceName::ALL {
            let image = &settings.of(name).image;
            if split_image(image).is_none() {
                return Err(wrong(format!("{name}.image = {image:?}: wanted name:tag, such as postgres:17")));
            }
        }
        if settings.proxy.api.parse::<std::net::SocketAddr>().is_err_and(|_| !settings.proxy.api.is_empty()) {
            return Err(wrong(format!("proxy.api = {:?}: wanted address:port", settings.proxy.api)));
        }
        if !settings.proxy.toxiproxy.is_empty()
            && let Err(error) = chaos::client::Client::new(&settings.proxy.toxiproxy)
        {
            return Err(wrong(format!("proxy.toxiproxy: {error}")));
        }
        Ok(settings)
    }

    /// The settings of one service.
    pub fn of(&self, name: ServiceName) -> &ServiceSettings {
        match name {
            ServiceName::Postgres => &self.postgres,
            ServiceName::Redis => &self.redis,
            ServiceName::Nats => &self.nats,
        }
    }
}

/// `name:tag` of an image; the colon of a registry's port belongs to the name.
pub(crate) fn split_image(image: &str) -> Option<(&str, &str)> {
    let (name, tag) = image.rsplit_once(':')?;
    (!name.is_empty() && !tag.is_empty() && !tag.contains('/')).then_some((name, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Error> {
        Settings::parse(text, Path::new("harness.toml"))
    }

    #[test]
    fn an_absent_file_gives_the_defaults() {
        let missing = Path::new("no-such-folder/harness.toml");
        assert_eq!(Settings::load(missing).expect("defaults"), Settings::default());
        assert_eq!(parse("").expect("empty file"), Settings::default());
    }

    #[test]
    fn the_committed_file_says_what_the_defaults_say() {
        let text = include_str!("../../../harness.toml");
        assert_eq!(parse(text).expect("harness.toml"), Settings::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("[postgres]\nimage = \"postgres:17\"\nimgae = \"x\"\n").expect_err("unknown key");
        let text = error.to_string();
        assert!(text.contains("imgae") && text.contains("line 3"), "{text}");
    }

    #[test]
    fn an_image_without_a_tag_is_refused() {
        let error = parse("[redis]\nimage = \"registry:5000/redis\"\n").expect_err("no tag");
        assert!(error.to_string().contains("redis.image"), "{error}");
    }

    #[test]
    fn an_address_of_a_proxy_server_that_is_none_is_refused() {
        let error = parse("[proxy]\ntoxiproxy = \"https://a:1\"\n").expect_err("TLS");
        assert!(error.to_string().contains("proxy.toxiproxy: \"https://a:1\""), "{error}");
        let settings = parse("[proxy]\ntoxiproxy = \"localhost:8474\"\n").expect("an address");
        assert_eq!(settings.proxy.toxiproxy, "localhost:8474");
    }

    #[test]
    fn the_port_of_a_registry_is_no_tag() {
        assert_eq!(split_image("host:5000/redis:8"), Some(("host:5000/redis", "8")));
        assert_eq!(split_image("host:5000/redis"), None);
        assert_eq!(split_image("redis"), None);
    }
}
