//! fraiseql-server as a process of ours: built in release form, configured in a file, migrated and seeded, started on
//! a port that it keeps across restarts, and ready when /ready says so.

mod build;
mod configuration;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;

use super::behind::Behind;
use super::process::supervisor::{Launch, Supervised};
use super::settings::ServerSettings;
use super::stub::StubName;
use super::{Control, Error, Leftover, ServiceName, free_port, log_tail, logs, postgres, wait};
use crate::run::Run;

pub use configuration::{WEBHOOK_SECRET, WEBHOOK_SECRET_ENV, merge as merge_configuration};

pub use build::{Profile, binary as server_program, example, release_build, server_source, workspace};

const MIGRATE_WITHIN: Duration = Duration::from_secs(60);

/// How the server is wanted.
#[derive(Debug, Clone, Default)]
pub struct ServerRequest {
    /// Merged over the harness's own `fraiseql.toml`, table by table.
    pub config: toml::Table,
    /// Program to use as it is. `None`: `FRAISEQL_SERVER`, else built from the workspace, else beside the harness.
    pub binary: Option<PathBuf>,
    /// Program that migrates the database, where that is another release. `None`: the same.
    pub migrator: Option<PathBuf>,
    /// A field of the shop that is to have a second function behind a flag.
    pub behind: Option<Behind>,
}

/// The server under test.
pub struct Server {
    address: SocketAddr,
    supervised: Arc<Supervised>,
    grace: Duration,
    log: PathBuf,
    error_log: PathBuf,
    config: PathBuf,
    binary: PathBuf,
}

impl Server {
    /// `urls` are (direct, proxied) for each service; the server gets the proxied ones.
    pub(crate) async fn start(
        run: &Run,
        request: ServerRequest,
        urls: &BTreeMap<ServiceName, (String, String)>,
        stubs: &BTreeMap<StubName, String>,
        settings: &ServerSettings,
    ) -> Result<Server, Error> {
        let failed = |error: anyhow::Error| Error::start("fraiseql-server", error);
        let binary = build::binary(request.binary).await?;
        let behind = request.behind.as_ref();
        let prepared = Prepared::new(run, request.config, behind, urls, stubs, binary).map_err(failed)?;
        prepared.migrate(run, request.migrator.as_deref()).await.map_err(failed)?;
        seed(urls, behind, !stubs.is_empty()).await.map_err(failed)?;
        let server = prepared.launch(run).map_err(failed)?;
        server.wait_ready(settings.ready_within).await?;
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `None` while it does not run.
    pub fn pid(&self) -> Option<i32> {
        self.supervised.pid()
    }

    /// Standard output: the JSON log.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Standard error: panics and what came before the log was set up.
    pub fn error_log_path(&self) -> &Path {
        &self.error_log
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Writes a configuration for a server that the user starts: it listens on port 8000 of 127.0.0.1.
    pub fn write_configuration(file: &Path, spool: &Path) -> anyhow::Result<PathBuf> {
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        let table = configuration::table(address, spool, toml::Table::new());
        std::fs::write(file, toml::to_string(&table)?)
            .with_context(|| format!("write {}", file.display()))?;
        Ok(file.to_owned())
    }

    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// What can be done to it.
    pub fn control(&self) -> Arc<dyn Control> {
        self.supervised.clone()
    }

    /// Waits for the first 200 of /ready; the error has the last answer and the end of the logs.
    pub async fn wait_ready(&self, within: Duration) -> Result<(), Error> {
        let url = format!("{}/ready", self.base_url());
        let client = reqwest::Client::new();
        let ready = wait::until(within, Duration::from_millis(25), || async {
            if !self.supervised.alive().await {
                return Ok(Err("it ended".to_owned()));
            }
            let answer = client.get(&url).send().await.map_err(|error| root_cause(&error))?;
            if answer.status() == reqwest::StatusCode::OK {
                return Ok(Ok(()));
            }
            let status = answer.status();
            Err(format!("/ready answers {status}: {}", answer.text().await.unwrap_or_default()))
        })
        .await;
        match ready {
            Ok(Ok(())) => Ok(()),
            Ok(Err(last)) | Err(last) => {
                let log = log_tail(&self.log, 10) + &log_tail(&self.error_log, 10);
                Err(Error::NotReady { what: "fraiseql-server".into(), within, last, log })
            }
        }
    }

    /// SIGTERM, its own grace and `slack` over it; what ignores that is killed and reported.
    pub(crate) async fn stop(&self, slack: Duration) -> Option<Leftover> {
        let allowed = self.grace + slack;
        let detail = match self.supervised.terminate(allowed).await {
            Ok(true) => return None,
            Ok(false) => format!("fraiseql-server ignored SIGTERM for {allowed:?} and was killed"),
            Err(error) => format!("fraiseql-server: {error:#}"),
        };
        self.supervised.kill_now();
        Some(Leftover { kind: "server".into(), detail })
    }

    pub(crate) fn kill_now(&self) {
        self.supervised.kill_now();
    }
}

/// Everything but the running process.
struct Prepared {
    binary: PathBuf,
    address: SocketAddr,
    folder: PathBuf,
    config: PathBuf,
    grace: Duration,
    environment: Vec<(String, OsString)>,
}

impl Prepared {
    fn new(
        run: &Run,
        overrides: toml::Table,
        behind: Option<&Behind>,
        urls: &BTreeMap<ServiceName, (String, String)>,
        stubs: &BTreeMap<StubName, String>,
        binary: PathBuf,
    ) -> anyhow::Result<Prepared> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let folder = run.folder().join("server");
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mut table = configuration::table(address, &folder.join("spool"), overrides);
        if let Some(behind) = behind {
            configuration::change_schema(&mut table, &folder, |schema| behind.in_schema(schema))?;
        }
        let grace = configuration::grace(&table)?;
        let config = folder.join("fraiseql.toml");
        std::fs::write(&config, toml::to_string(&table)?)
            .with_context(|| format!("write {}", config.display()))?;
        let environment = configuration::environment(urls, stubs);
        Ok(Prepared { binary, address, folder, config, grace, environment })
    }

    fn program(&self, run: &Run, role: &str, command: &[&str]) -> Launch {
        let mut arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        arguments.extend(["--config".into(), self.config.clone().into()]);
        Launch {
            role: role.into(),
            program: self.binary.clone(),
            arguments,
            environment: self.environment.clone(),
            folder: self.folder.clone(),
            log: logs(run).join(format!("{role}.log")),
            error_log: Some(logs(run).join(format!("{role}.err.log"))),
            account: None,
            stop_signal: Signal::SIGTERM,
        }
    }

    async fn migrate(&self, run: &Run, migrator: Option<&Path>) -> anyhow::Result<()> {
        let mut launch = self.program(run, "migrate", &["migrate"]);
        if let Some(program) = migrator {
            launch.program = program
                .canonicalize()
                .with_context(|| format!("the program {} that is to migrate", program.display()))?;
        }
        let (log, error_log) = (launch.log.clone(), logs(run).join("migrate.err.log"));
        let status = Supervised::spawn(run, launch, None)?.ended(MIGRATE_WITHIN).await;
        if !status.is_some_and(|status| status.success()) {
            bail!("migrate failed ({status:?}){}{}", log_tail(&log, 10), log_tail(&error_log, 10));
        }
        Ok(())
    }

    fn launch(self, run: &Run) -> anyhow::Result<Server> {
        let launch = self.program(run, "runtime", &[]);
        let (log, error_log) = (launch.log.clone(), logs(run).join("runtime.err.log"));
        let supervised = Arc::new(Supervised::spawn(run, launch, Some(self.address))?);
        let Prepared { address, grace, config, binary, .. } = self;
        Ok(Server { address, supervised, grace, log, error_log, config, binary })
    }
}

/// With `tells`, also what is told of an order that is paid, which is not among the shop's migrations.
async fn seed(
    urls: &BTreeMap<ServiceName, (String, String)>,
    behind: Option<&Behind>,
    tells: bool,
) -> anyhow::Result<()> {
    let root = workspace().context("the workspace with fixtures/schemas/ecommerce/seed.sql is not here")?;
    let (direct, _) = urls.get(&ServiceName::Postgres).context("no Postgres to load the seed into")?;
    if let Some(behind) = behind {
        behind.make(direct).await?;
    }
    if tells {
        postgres::load_seed(direct, &root.join("fixtures/schemas/ecommerce/order_confirmation.sql")).await?;
    }
    postgres::load_seed(direct, &root.join("fixtures/schemas/ecommerce/seed.sql")).await
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
