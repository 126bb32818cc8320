//! What can be done to a container. All its processes are counted, as the engine lists them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use futures::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{
    KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions, TopOptions,
};
use tokio::io::AsyncWriteExt;

use crate::environment::{Control, wait};
use crate::observe::process;

const CHANGES_WITHIN: Duration = Duration::from_secs(10);
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct ContainerControl {
    docker: Docker,
    id: String,
    role: String,
    port: u16,
    log: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Ended,
}

impl ContainerControl {
    pub fn new(docker: Docker, id: String, role: String, port: u16, log: PathBuf) -> Self {
        let control = ContainerControl { docker, id, role, port, log };
        control.follow_log();
        control
    }

    async fn state(&self) -> anyhow::Result<State> {
        let answer = self.docker.inspect_container(&self.id, None).await.context("inspect the container")?;
        let state = answer.state.context("the engine gave no state")?;
        Ok(match (state.running, state.paused) {
            (_, Some(true)) => State::Paused,
            (Some(true), _) => State::Running,
            _ => State::Ended,
        })
    }

    async fn processes(&self) -> anyhow::Result<u64> {
        let answer =
            self.docker.top_processes(&self.id, None::<TopOptions>).await.context("list its processes")?;
        Ok(answer.processes.map_or(0, |list| list.len() as u64))
    }

    async fn wait_for(&self, wanted: State, within: Duration) -> anyhow::Result<bool> {
        let reached = wait::until(within, Duration::from_millis(20), || async {
            match self.state().await {
                Ok(state) if state == wanted => Ok(()),
                Ok(state) => Err(format!("{state:?}")),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        Ok(reached.await.is_ok())
    }

    /// Copies the container's output to the log file until the container ends.
    fn follow_log(&self) {
        let (docker, id, log) = (self.docker.clone(), self.id.clone(), self.log.clone());
        tokio::spawn(async move {
            if let Err(error) = copy_log(&docker, &id, &log).await {
                tracing::debug!("log of container {id}: {error:#}");
            }
        });
    }
}

async fn copy_log(docker: &Docker, id: &str, log: &std::path::Path) -> anyhow::Result<()> {
    if let Some(folder) = log.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    // Written from its beginning: the engine keeps what came before a restart.
    let mut file = tokio::fs::File::create(log).await?;
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
    let mut output = docker.logs(id, Some(options)).boxed();
    while let Some(chunk) = output.next().await {
        file.write_all(&chunk?.into_bytes()).await?;
        file.flush().await?;
    }
    Ok(())
}

#[async_trait]
impl Control for ContainerControl {
    async fn kill(&self) -> anyhow::Result<u64> {
        let state = self.state().await?;
        if state == State::Ended {
            return Ok(0);
        }
        if state == State::Paused {
            // Engines on cgroup v1 deliver a signal to frozen processes only after the thaw.
            self.docker.unpause_container(&self.id).await.context("unpause before the kill")?;
        }
        let processes = self.processes().await?;
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        self.docker.kill_container(&self.id, Some(options)).await.context("kill the container")?;
        ensure!(self.wait_for(State::Ended, CHANGES_WITHIN).await?, "{} survived SIGKILL", self.role);
        Ok(processes)
    }

    async fn pause(&self) -> anyhow::Result<u64> {
        let processes = self.processes().await?;
        self.docker.pause_container(&self.id).await.context("pause the container")?;
        ensure!(self.wait_for(State::Paused, CHANGES_WITHIN).await?, "{} did not pause", self.role);
        Ok(processes)
    }

    async fn resume(&self) -> anyhow::Result<u64> {
        if self.state().await? != State::Paused {
            return Ok(0);
        }
        self.docker.unpause_container(&self.id).await.context("unpause the container")?;
        ensure!(self.wait_for(State::Running, CHANGES_WITHIN).await?, "{} did not resume", self.role);
        self.processes().await
    }

    async fn start(&self) -> anyhow::Result<u64> {
        if self.state().await? != State::Ended {
            bail!("{} is running", self.role);
        }
        self.docker
            .start_container(&self.id, None::<StartContainerOptions>)
            .await
            .context("start the container")?;
        self.follow_log();
        let address = ("127.0.0.1", self.port);
        let listens = wait::until(LISTENS_WITHIN, Duration::from_millis(20), || async {
            tokio::net::TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
        });
        if let Err(last) = listens.await {
            bail!("{} does not listen: {last}", self.role);
        }
        Ok(1)
    }

    async fn terminate(&self, grace: Duration) -> anyhow::Result<bool> {
        match self.state().await? {
            State::Ended => return Ok(true),
            State::Paused => drop(self.resume().await?),
            State::Running => {}
        }
        let options = KillContainerOptionsBuilder::new().signal("SIGTERM").build();
        self.docker.kill_container(&self.id, Some(options)).await.context("signal the container")?;
        self.wait_for(State::Ended, grace).await
    }

    async fn alive(&self) -> bool {
        self.state().await.is_ok_and(|state| state != State::Ended)
    }

    async fn host_pids(&self) -> Vec<i32> {
        let Ok(answer) = self.docker.inspect_container(&self.id, None).await else { return vec![] };
        let first = answer.state.and_then(|state| i32::try_from(state.pid?).ok()).filter(|pid| *pid > 0);
        let folder = answer.graph_driver.and_then(|driver| driver.data.get("MergedDir").cloned());
        let helpers = process::with_command(|words| {
            forwards(words, self.port) || folder.as_deref().is_some_and(|folder| mounts(words, folder))
        });
        first.into_iter().chain(helpers).collect()
    }
}

/// True for the engine's own forwarder of a published port.
fn forwards(command: &[&str], port: u16) -> bool {
    let port = port.to_string();
    is_program(command, "docker-proxy") && command.windows(2).any(|two| two == ["-host-port", port.as_str()])
}

/// True for the file system in user space that an engine without the kernel's own mounts a container's root with.
fn mounts(command: &[&str], folder: &str) -> bool {
    is_program(command, "fuse-overlayfs") && command.last() == Some(&folder)
}

fn is_program(command: &[&str], name: &str) -> bool {
    command.first().and_then(|word| word.rsplit('/').next()) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_helpers_are_known_by_port_and_folder() {
        let proxy =
            ["/usr/sbin/docker-proxy", "-proto", "tcp", "-host-port", "49153", "-container-port", "6379"];
        assert!(forwards(&proxy, 49_153));
        assert!(!forwards(&proxy, 6_379) && !forwards(&proxy[1..], 49_153) && !forwards(&[], 1));
        let mount = ["/usr/bin/fuse-overlayfs", "-o", "lowerdir=/a,upperdir=/b", "/layers/7/merged"];
        assert!(mounts(&mount, "/layers/7/merged"));
        assert!(!mounts(&mount, "/layers/8/merged") && !mounts(&proxy, "6379"));
    }
}
