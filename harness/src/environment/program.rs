//! A program of ours that runs beside an environment, in the run's ledger like everything that a run starts.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;

use super::process::supervisor::{Launch, Supervised};
use super::{Control, Leftover, free_port, logs};
use crate::run::Run;

/// A running program that listens; it is killed when dropped.
pub struct Program {
    role: String,
    address: SocketAddr,
    supervised: Supervised,
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
        let supervised = Supervised::spawn(run, launch, Some(address))?;
        supervised.wait_until_it_listens().await?;
        Ok(Program { role: role.to_owned(), address, supervised })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `None` when it has ended.
    pub fn pid(&self) -> Option<i32> {
        self.supervised.pid()
    }

    /// SIGTERM and `grace`; what ignores that is killed and reported.
    pub async fn stop(&self, grace: Duration) -> Option<Leftover> {
        let role = &self.role;
        let detail = match self.supervised.terminate(grace).await {
            Ok(true) => return None,
            Ok(false) => format!("{role} ignored SIGTERM for {grace:?} and was killed"),
            Err(error) => format!("{role}: {error:#}"),
        };
        self.supervised.kill_now();
        Some(Leftover { kind: "server".into(), detail })
    }
}
