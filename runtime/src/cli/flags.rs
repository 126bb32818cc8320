//! `fraiseql-server flags`: what is on for whom.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use fraiseql_runtime::config::Config;
use fraiseql_runtime::feature_flags::FeatureFlag;
use fraiseql_runtime::feature_flags::store::{Expected, FlagStore, Stored};
use serde_json::json;

use super::{actor, database, print};
use crate::File;

/// What `--help` says at its end.
pub const HELP: &str = "Servers see a change at once where they hear NOTIFY, and within feature_flags.poll_interval in any case. \
                        docs/rollouts.md has the whole of it.\n\nExit codes: 0 done, 1 failed, 2 wrong configuration or arguments.";

#[derive(Debug, Args)]
pub struct Flags {
    #[command(flatten)]
    pub file: File,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every flag.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One flag; exit code 1 when there is none.
    Get {
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// What happened to a flag, the last change first, as JSON.
    History { name: String },
    /// Change a flag, or make it. What is not said stays as it is.
    Set(Box<Set>),
    /// On for everybody, also for callers without a key.
    Enable(Named),
    /// Off for everybody: not enabled, 0 %, and nobody in the allowlist.
    Disable(Named),
    /// Forget a flag: it is off for everybody.
    Delete(Named),
}

#[derive(Debug, Args)]
pub struct Named {
    name: String,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Change {
    /// Only if the flag is in this version.
    #[arg(long, value_name = "VERSION")]
    if_version: Option<i64>,
    /// Who does it, for the history; without it the user of this machine.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Change {
    fn expected(&self) -> Expected {
        self.if_version.map_or(Expected::Any, Expected::Version)
    }
}

#[derive(Debug, Args)]
pub struct Set {
    name: String,
    /// For people.
    #[arg(long)]
    description: Option<String>,
    /// Whether it is on for everybody.
    #[arg(long)]
    enabled: Option<bool>,
    /// On for so many of a hundred callers with a key, 0 to 100.
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=100))]
    percentage: Option<u8>,
    /// Callers it is on for in any case, with commas between; empty for nobody.
    #[arg(long, value_delimiter = ',')]
    allow: Option<Vec<String>>,
    /// Callers it is off for in any case, with commas between; empty for nobody.
    #[arg(long, value_delimiter = ',')]
    deny: Option<Vec<String>>,
    /// Environments it can be on in, with commas between; empty for all.
    #[arg(long, value_delimiter = ',')]
    environments: Option<Vec<String>>,
    /// Off before, as 2026-12-24T18:00:00Z; `none` for always.
    #[arg(long, value_parser = time)]
    start_time: Option<Time>,
    /// Off after; `none` for never.
    #[arg(long, value_parser = time)]
    end_time: Option<Time>,
    /// The whole flag as JSON, from a file or `-`; the options change it further.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    #[command(flatten)]
    change: Change,
}

/// A time, or none on purpose.
#[derive(Debug, Clone, Copy)]
struct Time(Option<chrono::DateTime<chrono::Utc>>);

fn time(text: &str) -> Result<Time, String> {
    if text == "none" {
        return Ok(Time(None));
    }
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| Time(Some(time.to_utc())))
        .map_err(|error| format!("{error}; a time is 2026-12-24T18:00:00Z, or none"))
}

/// Runs the command.
pub async fn run(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    let store = FlagStore::new(database(config)?);
    match command {
        Command::List { json } => {
            let all = store.all().await.map_err(fraiseql_runtime::feature_flags::Error::from)?;
            if json {
                print(&json!({ "flags": all.iter().map(Stored::json).collect::<Vec<_>>() }));
            } else {
                all.iter().for_each(|stored| println!("{}", line(stored)));
                eprintln!("{} flags", all.len());
            }
        }
        Command::Get { name, json } => {
            let Some(stored) = store.get(&name).await? else {
                bail!("there is no flag {name:?}: see flags list")
            };
            show(&stored, json);
        }
        Command::History { name } => {
            let changes = store.history(&name).await?;
            let changes = changes.into_iter().map(|change| {
                let (before, after) = (change.before, change.after);
                json!({ "id": change.id, "at": change.at, "actor": change.actor, "before": before, "after": after })
            });
            print(&json!({ "changes": changes.collect::<Vec<_>>() }));
        }
        Command::Set(set) => self::set(&store, *set).await?,
        Command::Enable(named) => {
            edit(&store, &named.name, &named.change, |flag| flag.enabled = true).await?;
        }
        Command::Disable(named) => edit(&store, &named.name, &named.change, FeatureFlag::turn_off).await?,
        Command::Delete(Named { name, change }) => {
            store.delete(&name, change.expected(), &actor(change.actor)).await?;
            if change.json {
                print(&json!({ "deleted": name }));
            } else {
                eprintln!("{name} is deleted");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(store: &FlagStore, set: Set) -> anyhow::Result<()> {
    let whole: Option<FeatureFlag> = match &set.from {
        None => None,
        Some(path) => {
            let mut text = String::new();
            if path.as_os_str() == "-" {
                std::io::stdin().read_to_string(&mut text)?;
            } else {
                text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            }
            let flag = serde_json::from_str::<FeatureFlag>(&text);
            Some(flag.with_context(|| format!("{} is no flag in JSON", path.display()))?)
        }
    };
    if let Some(whole) = whole.as_ref().filter(|whole| !whole.name.is_empty() && whole.name != set.name) {
        bail!("name is {:?} in the file: it must be {:?}, or left out", whole.name, set.name);
    }
    let words =
        |words: &Vec<String>| words.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>();
    let change = |flag: &mut FeatureFlag| {
        if let Some(whole) = &whole {
            *flag = FeatureFlag { name: flag.name.clone(), ..whole.clone() };
        }
        if let Some(description) = &set.description {
            flag.description.clone_from(description);
        }
        flag.enabled = set.enabled.unwrap_or(flag.enabled);
        flag.percentage = set.percentage.unwrap_or(flag.percentage);
        if let Some(allow) = &set.allow {
            flag.user_allowlist = words(allow).into_iter().collect();
        }
        if let Some(deny) = &set.deny {
            flag.user_denylist = words(deny).into_iter().collect();
        }
        if let Some(environments) = &set.environments {
            flag.environments = words(environments);
        }
        if let Some(Time(time)) = set.start_time {
            flag.start_time = time;
        }
        if let Some(Time(time)) = set.end_time {
            flag.end_time = time;
        }
    };
    edit(store, &set.name, &set.change, change).await
}

async fn edit(
    store: &FlagStore,
    name: &str,
    change: &Change,
    edit: impl Fn(&mut FeatureFlag),
) -> anyhow::Result<()> {
    let actor = actor(change.actor.clone());
    let stored = match change.if_version {
        None => store.edit(name, &actor, edit).await?,
        Some(_) => {
            let Some(stored) = store.get(name).await? else {
                bail!("there is no flag {name:?}: see flags list")
            };
            let mut flag = stored.flag;
            edit(&mut flag);
            store.put(&flag, change.expected(), &actor).await?
        }
    };
    show(&stored, change.json);
    Ok(())
}

fn show(stored: &Stored, json: bool) {
    if json { print(&stored.json()) } else { println!("{}", line(stored)) }
}

/// One line for people.
fn line(stored: &Stored) -> String {
    let flag = &stored.flag;
    let mut parts =
        vec![if flag.enabled { "on for everybody".to_owned() } else { format!("{} %", flag.percentage) }];
    let counted = [("allowed", flag.user_allowlist.len()), ("denied", flag.user_denylist.len())];
    parts.extend(
        counted.iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")),
    );
    if !flag.environments.is_empty() {
        parts.push(format!("in {}", flag.environments.join(", ")));
    }
    parts.extend(flag.start_time.map(|time| format!("from {}", time.to_rfc3339())));
    parts.extend(flag.end_time.map(|time| format!("until {}", time.to_rfc3339())));
    let (at, by) = (stored.changed_at.format("%Y-%m-%d %H:%M:%S"), &stored.changed_by);
    format!("{}: {} (version {}, {at} UTC by {by})", flag.name, parts.join(", "), stored.version)
}
