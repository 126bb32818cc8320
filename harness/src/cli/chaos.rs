//! `harness chaos list|lint|run`: scenario files on the command line. Every file is checked before the first one runs.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::scenario::{Scenario, file};
use crate::verdict::EXIT_BAD_FILE;

/// Where the shipped scenarios lie, from the root of the workspace.
pub const FOLDER: &str = "scenarios/chaos";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Name every scenario of a folder, one a line
    List {
        #[arg(default_value = FOLDER)]
        folder: PathBuf,
    },
    /// Check scenario files and say what is wrong, with line and column
    Lint {
        /// Files; all of the shipped ones when none is named
        files: Vec<PathBuf>,
    },
    /// Run scenarios one after the other and judge each
    Run(RunArgs),
}

#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Scenario files
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// In place of the seed that each file names
    #[arg(long)]
    pub seed: Option<u64>,
    /// auto, container, process or external
    #[arg(long, default_value = "auto")]
    pub backend: String,
    /// The server to run instead of the workspace's own
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Send the links through a Toxiproxy (or chaos-proxy) that is running, with the faults that it has
    #[arg(long, value_name = "ADDR", value_parser = super::api_address)]
    pub toxiproxy: Option<String>,
}

/// Does what was asked and returns the exit code. `run` gets the scenarios of `chaos run`, all of them checked, and
/// returns the code of its worst verdict.
pub async fn execute(
    args: &Args,
    run: impl AsyncFnOnce(&RunArgs, Vec<Scenario>) -> anyhow::Result<u8>,
) -> anyhow::Result<u8> {
    match &args.action {
        Action::List { folder } => list(folder),
        Action::Lint { files } if files.is_empty() => lint(&toml_files(Path::new(FOLDER))?),
        Action::Lint { files } => lint(files),
        Action::Run(asked) => match load(&asked.files)? {
            Some(scenarios) => run(asked, scenarios).await,
            None => Ok(EXIT_BAD_FILE),
        },
    }
}

fn list(folder: &Path) -> anyhow::Result<u8> {
    let Some(scenarios) = load(&toml_files(folder)?)? else { return Ok(EXIT_BAD_FILE) };
    for s in scenarios {
        println!("{:<28} {:<24} {}", s.id, s.tags.join(","), s.title);
    }
    Ok(0)
}

fn lint(files: &[PathBuf]) -> anyhow::Result<u8> {
    let Some(scenarios) = load(files)? else { return Ok(EXIT_BAD_FILE) };
    for (path, scenario) in files.iter().zip(scenarios) {
        println!(
            "ok {} ({} faults, {} invariants)",
            path.display(),
            scenario.faults.len(),
            scenario.invariants.len()
        );
    }
    Ok(0)
}

/// All scenarios, or `None` after every error of every file was printed to stderr.
fn load(files: &[PathBuf]) -> anyhow::Result<Option<Vec<Scenario>>> {
    let mut scenarios = Vec::new();
    let mut errors = 0;
    for path in files {
        match file::load(path) {
            Ok(scenario) => scenarios.push(scenario),
            Err(file::Error::Invalid { count, rendered, .. }) => {
                errors += count;
                eprintln!("{rendered}");
            }
            Err(error @ file::Error::Read { .. }) => return Err(error.into()),
        }
    }
    if errors > 0 {
        eprintln!("{errors} errors in {} files", files.len());
        return Ok(None);
    }
    Ok(Some(scenarios))
}

fn toml_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read folder {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no scenario in {}", folder.display());
    Ok(files)
}
