//! Which fraiseql-server is driven: always a release build, which cargo makes when it is missing or stale.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::environment::Error;

const SERVER: &str = "fraiseql-server";
/// After so long a build is announced; a fresh one is silent.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(2);

/// The root of the workspace: above the current folder, else where the harness was compiled.
pub fn workspace() -> Option<PathBuf> {
    let here = std::env::current_dir().ok();
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let is_root =
        |folder: &Path| folder.join("runtime/Cargo.toml").is_file() && folder.join("harness").is_dir();
    let above = here.as_deref().and_then(|here| here.ancestors().find(|folder| is_root(folder)));
    above.map(Path::to_owned).or(compiled.filter(|root| is_root(root)))
}

/// Where the program comes from.
enum Source {
    Named(PathBuf),
    Built { workspace: PathBuf },
    Beside(PathBuf),
}

/// Named, `FRAISEQL_SERVER`, built, or beside the harness.
fn source(named: Option<PathBuf>) -> Result<Source, Error> {
    if let Some(path) = named.or_else(|| std::env::var_os("FRAISEQL_SERVER").map(PathBuf::from)) {
        return path
            .canonicalize()
            .with_context(|| format!("server program {}", path.display()))
            .map(Source::Named)
            .map_err(|error| Error::start("fraiseql-server", error));
    }
    if let Some(workspace) = workspace().filter(|_| has_cargo()) {
        return Ok(Source::Built { workspace });
    }
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(SERVER));
    beside.filter(|path| path.is_file()).map(Source::Beside).ok_or_else(|| Error::NotPossible {
        reason: "no fraiseql-server: cargo and the workspace are not here, nor is it beside the harness"
            .into(),
        hint: "name one with --server PATH or FRAISEQL_SERVER".into(),
    })
}

/// The program, built if need be.
pub async fn binary(named: Option<PathBuf>) -> Result<PathBuf, Error> {
    match source(named)? {
        Source::Named(path) | Source::Beside(path) => Ok(path),
        Source::Built { workspace } => {
            let target = ["-p", "fraiseql-runtime", "--bin", SERVER];
            let built = build(&workspace, Profile::Release, &target, SERVER).await;
            built.map_err(|error| Error::start("fraiseql-server (cargo build)", error))
        }
    }
}

/// Where a run without `--server` takes the program from, in words; nothing is built.
pub fn server_source() -> Result<String, Error> {
    Ok(match source(None)? {
        Source::Named(path) => format!("FRAISEQL_SERVER: {}", path.display()),
        Source::Built { workspace } => format!("cargo builds it from {}", workspace.display()),
        Source::Beside(path) => path.display().to_string(),
    })
}

fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn has_cargo() -> bool {
    std::process::Command::new(cargo())
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// How a program is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// For figures.
    Release,
    /// For tests, which have most of it compiled already.
    Dev,
}

/// Another program of this workspace as a release build: the target of `package` that `target` (cargo's words) chooses
/// and that is called `name`.
pub async fn release_build(package: &str, target: &[&str], name: &str) -> anyhow::Result<PathBuf> {
    let root = workspace().filter(|_| has_cargo()).context("cargo and the workspace are not here")?;
    build(&root, Profile::Release, &[&["-p", package], target].concat(), name).await
}

/// An example of this workspace. In the dev profile with the features that `cargo test` gives it, which builds it too.
pub async fn example(profile: Profile, package: &str, name: &str) -> anyhow::Result<PathBuf> {
    match profile {
        Profile::Release => release_build(package, &["--example", name], name).await,
        Profile::Dev => {
            let root = workspace().filter(|_| has_cargo()).context("cargo and the workspace are not here")?;
            build(&root, profile, &["--example", name], name).await
        }
    }
}

async fn build(root: &Path, profile: Profile, target: &[&str], name: &str) -> anyhow::Result<PathBuf> {
    let mut child = Command::new(cargo())
        .arg("build")
        .args((profile == Profile::Release).then_some("--release"))
        .args(target)
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("run cargo")?;
    let stdout = child.stdout.take().context("cargo's output")?;
    let mut stderr = child.stderr.take().context("cargo's messages")?;
    let read_messages = async {
        let mut found = None;
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            found = executable(&line, name).or(found);
        }
        anyhow::Ok(found)
    };
    let read_errors = async {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).await?;
        anyhow::Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let announce = async {
        tokio::time::sleep(ANNOUNCE_AFTER).await;
        let form = format!("{profile:?}").to_lowercase();
        tracing::info!("building {name} in {form} form (it is missing or stale); this takes minutes once");
        std::future::pending::<()>().await;
    };
    let work = async { tokio::try_join!(read_messages, read_errors) };
    let (found, messages) = tokio::select! {
        done = work => done?,
        () = announce => bail!("unreachable: the announcement never ends"),
    };
    if !child.wait().await?.success() {
        bail!("cargo build failed:\n{messages}");
    }
    found.context("cargo named no program")
}

/// The program that a line of cargo's JSON names, when it is the one of that name.
fn executable(line: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_ours = message.get("target")?.get("name")? == name;
    message.get("executable").filter(|_| is_ours)?.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_read_from_cargos_messages() {
        let ours = r#"{"reason":"compiler-artifact","target":{"name":"fraiseql-server"},"executable":"/t/fraiseql-server"}"#;
        assert_eq!(executable(ours, SERVER), Some(PathBuf::from("/t/fraiseql-server")));
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"fraiseql_runtime"},"executable":null}"#;
        assert_eq!(executable(library, SERVER), None);
        assert_eq!(executable("Compiling", SERVER), None);
    }

    #[test]
    fn the_workspace_is_found_from_its_tests() {
        assert!(workspace().expect("root").join("Cargo.toml").is_file());
    }
}
