//! `harness gc`: removes what killed runs left, by their ledgers; reports and histories stay.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::environment::cleanup;

/// Remove what killed runs left: processes, containers and folders in their ledgers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the run folders
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
}

/// Exit code 0 when nothing is left, 5 when something could not be removed.
pub async fn run(args: Args, cancel: CancellationToken) -> anyhow::Result<u8> {
    let lines = tokio::select! {
        lines = cleanup::sweep(&args.runs) => lines,
        () = cancel.cancelled() => anyhow::bail!("interrupted"),
    };
    for line in &lines {
        println!("{line}");
    }
    if lines.is_empty() {
        println!("nothing was left behind in {}", args.runs.display());
    }
    let stays = lines.iter().any(|line| line.contains(" stays: "));
    Ok(if stays { 5 } else { 0 })
}
