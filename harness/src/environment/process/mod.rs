//! Services as processes of our own: private data folders, free ports of 127.0.0.1, an unprivileged user. Needs no
//! engine and no root; where programs are missing on Debian or Ubuntu they are fetched into a cache folder.

pub(crate) mod account;
pub mod binaries;
pub mod fetch;
pub(crate) mod supervisor;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use chaos::ledger::Holding;
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use super::backend::{Backend, Started};
use super::{
    Control, Error, Leftover, ServiceName, Settings, free_port, log_tail, logs, nats, postgres, redis,
};
use crate::run::Run;
use account::Account;
use binaries::Binaries;
use supervisor::{Launch, Supervised};

const STOP_WITHIN: Duration = Duration::from_secs(10);
const INITDB_WITHIN: Duration = Duration::from_secs(60);

/// The process backend of one run.
pub(crate) struct ProcessBackend {
    run: Run,
    settings: Settings,
    binaries: Binaries,
    account: Option<Account>,
    /// Below the run folder, or in the temporary folder when the account cannot enter the run folder.
    data: PathBuf,
    started: Mutex<BTreeMap<ServiceName, Arc<Supervised>>>,
}

impl ProcessBackend {
    /// Finds the programs (fetching them if need be) and makes the folder for the data.
    pub async fn prepare(run: &Run, settings: &Settings) -> Result<ProcessBackend, Error> {
        let binaries = Binaries::find_or_fetch(&binaries::Search::of_this_machine()).await?;
        let account = account::unprivileged().map_err(|error| Error::NotPossible {
            reason: format!("{error:#}"),
            hint: "start the harness as an ordinary user, or add a user `postgres`".into(),
        })?;
        let data = data_folder(run, account.as_ref(), "services")
            .map_err(|error| Error::start("data folder", error))?;
        Ok(ProcessBackend {
            run: run.clone(),
            settings: settings.clone(),
            binaries,
            account,
            data,
            started: Mutex::default(),
        })
    }

    async fn launch(&self, name: ServiceName) -> anyhow::Result<Started> {
        let port = free_port()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let folder = self.data.join(name.as_str());
        account::make_private(self.account.as_ref(), &folder)?;
        let (program, arguments, url) = match name {
            ServiceName::Postgres => self.postgres(port, &folder).await?,
            ServiceName::Redis => self.redis(port, &folder),
            ServiceName::Nats => self.nats(&address, &folder)?,
        };
        // Postgres' quick and orderly end is SIGINT; SIGTERM waits for clients.
        let stop_signal = if name == ServiceName::Postgres { Signal::SIGINT } else { Signal::SIGTERM };
        let launch = self.program(name.as_str(), &program, arguments, &folder, stop_signal);
        let log = launch.log.clone();
        let supervised = Arc::new(Supervised::spawn(&self.run, launch, Some(address))?);
        self.started.lock().insert(name, supervised.clone());
        Ok(Started {
            address: address.to_string(),
            url,
            origin: program.display().to_string(),
            control: Some(supervised as Arc<dyn Control>),
            log: Some(log),
        })
    }

    fn program(
        &self,
        role: &str,
        program: &Path,
        arguments: Vec<OsString>,
        folder: &Path,
        stop_signal: Signal,
    ) -> Launch {
        Launch {
            role: role.into(),
            program: program.into(),
            arguments,
            environment: self.binaries.environment(program),
            folder: folder.into(),
            log: logs(&self.run).join(format!("{role}.log")),
            error_log: None,
            account: self.account.clone(),
            stop_signal,
        }
    }

    async fn postgres(&self, port: u16, folder: &Path) -> anyhow::Result<(PathBuf, Vec<OsString>, String)> {
        let data = folder.join("data");
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = folder.join("password");
        std::fs::write(&password_file, &password).context("write the password file")?;
        account::give(self.account.as_ref(), &password_file)?;
        let initdb = self.binaries.initdb.clone();
        // Not syncing the fresh cluster is safe: it is only believed in after the server has run on it.
        let words =
            ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--username=postgres"];
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend([
            "--pwfile".into(),
            password_file.clone().into(),
            "--pgdata".into(),
            data.clone().into(),
        ]);
        let launch = self.program("initdb", &initdb, arguments, folder, Signal::SIGTERM);
        let log = launch.log.clone();
        let status = Supervised::spawn(&self.run, launch, None)?.ended(INITDB_WITHIN).await;
        if !status.is_some_and(|status| status.success()) {
            bail!("initdb failed ({status:?}){}", log_tail(&log, 15));
        }
        std::fs::remove_file(&password_file).context("remove the password file")?;
        let port_text = port.to_string();
        let fixed = [
            "-h",
            "127.0.0.1",
            "-p",
            &port_text,
            "-c",
            "unix_socket_directories=",
            "-c",
            "log_line_prefix=%m [%p] ",
        ];
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.into()];
        arguments.extend(fixed.iter().map(OsString::from));
        arguments.extend(postgres::arguments(&self.settings.postgres).into_iter().map(OsString::from));
        let url = postgres::url(&format!("127.0.0.1:{port}"), &password);
        Ok((self.binaries.postgres.clone(), arguments, url))
    }

    fn redis(&self, port: u16, folder: &Path) -> (PathBuf, Vec<OsString>, String) {
        let mut arguments: Vec<OsString> = Vec::new();
        for (key, value) in [("--bind", "127.0.0.1"), ("--port", &port.to_string()), ("--daemonize", "no")] {
            arguments.extend([key.into(), value.into()]);
        }
        arguments.extend(["--dir".into(), folder.into()]);
        arguments.extend(redis::arguments(&self.settings.redis).into_iter().map(OsString::from));
        (self.binaries.redis.clone(), arguments, redis::url(&format!("127.0.0.1:{port}")))
    }

    fn nats(&self, address: &SocketAddr, folder: &Path) -> anyhow::Result<(PathBuf, Vec<OsString>, String)> {
        let file = folder.join("nats.conf");
        let text = nats::configuration(&self.settings.nats, &address.to_string(), &folder.join("jetstream"));
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        account::give(self.account.as_ref(), &file)?;
        Ok((
            self.binaries.nats.clone(),
            vec!["--config".into(), file.into()],
            nats::url(&address.to_string()),
        ))
    }
}

#[async_trait]
impl Backend for ProcessBackend {
    async fn start(&self, name: ServiceName) -> Result<Started, Error> {
        self.launch(name).await.map_err(|error| Error::start(name.as_str(), error))
    }

    async fn stop(&self) -> Vec<Leftover> {
        let started: Vec<_> = std::mem::take(&mut *self.started.lock()).into_iter().collect();
        let ends = started.iter().map(|(name, supervised)| async move {
            match supervised.terminate(STOP_WITHIN).await {
                Ok(true) => None,
                Ok(false) => {
                    supervised.kill_now();
                    Some(format!("{name} did not end within {STOP_WITHIN:?} and was killed"))
                }
                Err(error) => Some(format!("{name}: {error:#}")),
            }
        });
        let late = futures::future::join_all(ends).await.into_iter().flatten();
        let mut leftovers: Vec<Leftover> =
            late.map(|detail| Leftover { kind: "process".into(), detail }).collect();
        if let Err(error) = remove_data(&self.run, &self.data) {
            leftovers.push(Leftover { kind: "folder".into(), detail: format!("{error:#}") });
        }
        leftovers
    }

    fn kill_now(&self) {
        for supervised in std::mem::take(&mut *self.started.lock()).values() {
            supervised.kill_now();
        }
        if let Err(error) = remove_data(&self.run, &self.data) {
            tracing::warn!("data stays behind: {error:#}");
        }
    }
}

/// A folder of that name in the run folder, or below the temporary one when the account cannot get there; in the ledger.
pub(crate) fn data_folder(run: &Run, account: Option<&Account>, name: &str) -> anyhow::Result<PathBuf> {
    let inside = run.folder().join(name);
    let folder = if account::can_enter(account, run.folder()) {
        inside
    } else {
        std::env::temp_dir().canonicalize()?.join(format!(
            "fraiseql-harness-{}-{}-{name}",
            run.id(),
            std::process::id()
        ))
    };
    run.ledger().open(Holding::Folder { path: folder.clone() })?;
    account::make_private(account, &folder)?;
    Ok(folder)
}

pub(crate) fn remove_data(run: &Run, folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("remove {}", folder.display())),
    }
    run.ledger().close(Holding::Folder { path: folder.into() })?;
    Ok(())
}
