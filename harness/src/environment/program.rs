//! A program that runs beside an environment, in the run's ledger like everything that a run starts: one of ours, or one
//! that Debian has, as an ordinary user.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::process::binaries::Other;
use super::process::supervisor::{Launch, Supervised};
use super::process::{account, data_folder, remove_data};
use super::{Control, Leftover, free_port, logs};
use crate::run::Run;

/// A running program that listens; it is killed when dropped.
pub struct Program {
    role: String,
    address: SocketAddr,
    supervised: Supervised,
    /// What goes with it.
    data: Option<(Run, PathBuf)>,
}

impl Program {
    /// Starts `program`, whose arguments follow from the port that it shall listen on, and waits until it does. `role`
    /// is the word for it in the ledger and the name of its log.
    pub async fn start(
        run: &Run,
        role: &str,
        program: &Path,
        arguments: impl FnOnce(u16) -> Vec<OsString>,
    ) -> anyhow::Result<Program> {
        let port = free_port().context("find a free port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let launch = Launch {
            role: role.to_owned(),
            program: program.to_owned(),
            arguments: arguments(port),
            environment: Vec::new(),
            folder: run.folder().to_owned(),
            log: logs(run).join(format!("{role}.log")),
            error_log: None,
            account: None,
            stop_signal: Signal::SIGTERM,
        };
        Program::launch(run, launch, address, None).await
    }

    /// Starts a program that `other` found. `configure` writes into the folder that is its own what it reads, and answers
    /// its arguments.
    pub async fn start_other(
        run: &Run,
        role: &str,
        other: &Other,
        configure: impl FnOnce(&Path, u16) -> anyhow::Result<Vec<OsString>>,
    ) -> anyhow::Result<Program> {
        let port = free_port().context("find a free port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let account = account::unprivileged()?;
        let folder = data_folder(run, account.as_ref(), role)?;
        let arguments = configure(&folder, port)?;
        account::give_all(account.as_ref(), &folder)?;
        let launch = Launch {
            role: role.to_owned(),
            program: other.path.clone(),
            arguments,
            environment: other.environment.clone(),
            folder: folder.clone(),
            log: logs(run).join(format!("{role}.log")),
            error_log: None,
            account,
            stop_signal: Signal::SIGTERM,
        };
        Program::launch(run, launch, address, Some((run.clone(), folder))).await
    }

    async fn launch(
        run: &Run,
        launch: Launch,
        address: SocketAddr,
        data: Option<(Run, PathBuf)>,
    ) -> anyhow::Result<Program> {
        let role = launch.role.clone();
        let supervised = Supervised::spawn(run, launch, Some(address))?;
        supervised.wait_until_it_listens().await?;
        Ok(Program { role, address, supervised, data })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `None` when it has ended.
    pub fn pid(&self) -> Option<i32> {
        self.supervised.pid()
    }

    /// SIGKILL; returns when it is gone. What it left on disk goes with [`stop`](Self::stop).
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.supervised.kill().await.map(drop)
    }

    /// SIGTERM and `grace`; what ignores that is killed and reported.
    pub async fn stop(&self, grace: Duration) -> Option<Leftover> {
        let role = &self.role;
        let detail = match self.supervised.terminate(grace).await {
            Ok(true) => return self.remove_data(),
            Ok(false) => format!("{role} ignored SIGTERM for {grace:?} and was killed"),
            Err(error) => format!("{role}: {error:#}"),
        };
        self.supervised.kill_now();
        Some(Leftover { kind: "server".into(), detail })
    }

    fn remove_data(&self) -> Option<Leftover> {
        let (run, folder) = self.data.as_ref()?;
        let error = remove_data(run, folder).err()?;
        Some(Leftover { kind: "folder".into(), detail: format!("{error:#}") })
    }
}
