//! Removes what dead runs left, and verifies that a run left nothing.
//!
//! The ledger of a run is the only source: a process is its pid and start time, a container its id or the run's label,
//! a folder its path. Nothing is ever found by name, and a run whose harness is alive is not touched.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chaos::fault::process::{Error as ProcessError, ProcessHandle};
use chaos::ledger::{self, Contents, Holding, Ledger};
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::{Leftover, container, link};
use crate::run::{Run, process_start_ticks};

/// What to do with a run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Its harness lives.
    Alive,
    /// Its harness is gone and nothing is open.
    Clean,
    /// Its harness is gone and this is open, in order of opening.
    Sweep(Vec<Holding>),
    /// The ledger does not say whose it is: nothing can be concluded.
    Unknown,
}

/// Decides from a ledger. `start_of` gives the start time of a pid that exists.
pub fn decide(contents: &Contents, start_of: impl Fn(i32) -> Option<u64>) -> Decision {
    match contents.owner {
        None => Decision::Unknown,
        Some((pid, start)) if start_of(pid) == Some(start) => Decision::Alive,
        Some(_) if contents.open.is_empty() => Decision::Clean,
        Some(_) => Decision::Sweep(contents.open.clone()),
    }
}

/// Sweeps every run folder below `runs` whose harness is gone: one line for each thing that was removed or could not be.
/// Reports and histories stay.
pub async fn sweep(runs: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in ledgers(runs) {
        let contents = match ledger::read(&path) {
            Ok(contents) => contents,
            Err(error) => {
                lines.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        if let Decision::Sweep(open) = decide(&contents, process_start_ticks) {
            lines.extend(sweep_run(&path, &contents, open).await);
        }
    }
    lines
}

fn ledgers(runs: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(runs)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("ledger.jsonl")))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

async fn sweep_run(path: &Path, contents: &Contents, open: Vec<Holding>) -> Vec<String> {
    // The ledger keeps its dead owner: a run that is swept twice at a time stays a dead run.
    let (pid, start) = contents.owner.unwrap_or_default();
    let ledger = match Ledger::create(path, &contents.run, pid, start) {
        Ok(ledger) => ledger,
        Err(error) => return vec![format!("{}: {error}", path.display())],
    };
    let mut lines = Vec::new();
    // Processes first: a folder is not removed under a server that still writes to it.
    let (processes, rest): (Vec<_>, Vec<_>) =
        open.into_iter().partition(|holding| matches!(holding, Holding::Process { .. }));
    for holding in processes.into_iter().chain(rest) {
        let name = describe(&holding);
        match remove(&holding).await.and_then(|()| Ok(ledger.close(holding)?)) {
            Ok(()) => lines.push(format!("{}: {name}", contents.run)),
            Err(error) => lines.push(format!("{}: {name} stays: {error:#}", contents.run)),
        }
    }
    lines
}

async fn remove(holding: &Holding) -> anyhow::Result<()> {
    match holding {
        Holding::Process { pid, start_ticks, .. } => {
            let handle = ProcessHandle { pid: *pid, start_ticks: *start_ticks };
            match tokio::task::spawn_blocking(move || handle.kill_tree()).await? {
                // Its pid has gone to another process, which is left alone.
                Ok(_) | Err(ProcessError::NotTheProcess { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Holding::Container { id, label } => {
            let docker = container::engine().await.map_err(anyhow::Error::msg)?;
            if id.is_empty() {
                container::remove_labelled(&docker, label).await?;
                return Ok(());
            }
            if !exists(&docker, id).await? {
                return Ok(());
            }
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            docker.remove_container(id, Some(options)).await.context("remove the container")
        }
        Holding::Folder { path } => match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        Holding::Proxy { api, name } => link::remove(api, name).await,
        // A fault acted in a proxy of the dead harness, or on processes or proxies that are swept themselves.
        Holding::Fault { .. } => Ok(()),
    }
}

async fn exists(docker: &Docker, id: &str) -> anyhow::Result<bool> {
    use testcontainers::bollard::errors::Error::DockerResponseServerError;
    match docker.inspect_container(id, None).await {
        Ok(_) => Ok(true),
        Err(DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(error).context("inspect the container"),
    }
}

/// What a run's ledger still has open and is really there. An entry of something that is gone counts for nothing.
pub async fn verify(run: &Run) -> Vec<Leftover> {
    let contents = match ledger::read(run.ledger().path()) {
        Ok(contents) => contents,
        Err(error) => return vec![Leftover { kind: "ledger".into(), detail: error.to_string() }],
    };
    let mut leftovers = Vec::new();
    for holding in contents.open {
        let kind = match &holding {
            Holding::Process { pid, start_ticks, .. } => {
                let handle = ProcessHandle { pid: *pid, start_ticks: *start_ticks };
                handle.alive().then_some("process")
            }
            Holding::Container { id, label } => container_is_there(id, label).await.then_some("container"),
            Holding::Folder { path } => path.exists().then_some("folder"),
            Holding::Proxy { api, name } => link::is_there(api, name).await.then_some("proxy"),
            Holding::Fault { .. } => Some("fault"),
        };
        if let Some(kind) = kind {
            leftovers.push(Leftover { kind: kind.into(), detail: describe(&holding) });
        }
    }
    leftovers
}

/// When the engine does not say, it is there: what cannot be verified is not gone.
async fn container_is_there(id: &str, label: &str) -> bool {
    let Ok(docker) = container::engine().await else { return true };
    if id.is_empty() {
        return container::labelled(&docker, label).await.map_or(true, |ids| !ids.is_empty());
    }
    exists(&docker, id).await.unwrap_or(true)
}

fn describe(holding: &Holding) -> String {
    match holding {
        Holding::Process { pid, role, .. } => format!("process {pid} ({role})"),
        Holding::Container { id, label } if id.is_empty() => format!("containers labelled {label}"),
        Holding::Container { id, .. } => format!("container {}", id.get(..12).unwrap_or(id)),
        Holding::Folder { path } => format!("folder {}", path.display()),
        Holding::Proxy { api, name } => format!("proxy {name} on {api}"),
        Holding::Fault { id, kind, target } => format!("fault {id} ({kind} on {target})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(owner: Option<(i32, u64)>, open: Vec<Holding>) -> Contents {
        Contents { run: "r".into(), owner, open, ..Contents::default() }
    }

    fn folder() -> Holding {
        Holding::Folder { path: "/x".into() }
    }

    #[test]
    fn a_run_whose_harness_lives_is_not_touched() {
        let contents = contents(Some((7, 70)), vec![folder()]);
        assert_eq!(decide(&contents, |_| Some(70)), Decision::Alive);
    }

    #[test]
    fn a_recycled_pid_does_not_keep_a_dead_run_alive() {
        let contents = contents(Some((7, 70)), vec![folder()]);
        assert_eq!(decide(&contents, |_| Some(71)), Decision::Sweep(vec![folder()]));
        assert_eq!(decide(&contents, |_| None), Decision::Sweep(vec![folder()]));
    }

    #[test]
    fn a_dead_run_with_nothing_open_is_clean_and_one_without_owner_is_left_alone() {
        assert_eq!(decide(&contents(Some((7, 70)), vec![]), |_| None), Decision::Clean);
        assert_eq!(decide(&contents(None, vec![folder()]), |_| None), Decision::Unknown);
    }
}
