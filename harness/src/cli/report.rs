//! `harness report FILE`: makes every form again from a `report.json` and shows the terminal page.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::report::{self, json, terminal};
use crate::verdict::EXIT_BAD_FILE;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A report.json, or the run folder that holds it
    pub path: PathBuf,
    /// Where to write; beside the file when not given
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Returns the exit code of the run that the report is about, or the one for a bad file.
pub fn execute(args: &Args) -> anyhow::Result<u8> {
    let file = if args.path.is_dir() { args.path.join("report.json") } else { args.path.clone() };
    let report = match json::read(&file) {
        Ok(report) => report,
        Err(error @ (report::Error::Parse { .. } | report::Error::Schema { .. })) => {
            eprintln!("{:#}", anyhow::Error::from(error));
            return Ok(EXIT_BAD_FILE);
        }
        Err(error) => return Err(error.into()),
    };
    let folder = args.out.as_deref().or_else(|| file.parent()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let written = report::write_all(&report, folder)?;
    print!("{}", terminal::render(&report, std::io::stdout().is_terminal()));
    println!("report   {}", written.html.display());
    Ok(report.verdict.exit_code())
}
