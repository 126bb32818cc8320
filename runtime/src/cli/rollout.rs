//! `fraiseql-server rollout`: a feature comes to its users step by step, and goes again.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use fraiseql_runtime::config::Config;
use fraiseql_runtime::feature_flags::cohorts::Cohorts;
use fraiseql_runtime::migration::rollout::metrics::RolloutMetrics;
use fraiseql_runtime::migration::rollout::plan::{OnFailure, ScheduledStep};
use fraiseql_runtime::migration::rollout::report::{Report, SideReport};
use fraiseql_runtime::migration::rollout::{Plan, Rollouts};
use fraiseql_runtime::observability::metrics::Metrics;
use serde_json::json;

use super::{actor, database, print};
use crate::File;

/// What `--help` says at its end.
pub const HELP: &str = "The servers take the steps, one of them at a time; none needs to run for a rollback. docs/rollouts.md has \
                        the whole of it.\n\nExit codes: 0 done, 1 failed or refused, 2 wrong configuration or arguments.";

#[derive(Debug, Args)]
pub struct Rollout {
    #[command(flatten)]
    pub file: File,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Begin, with the flag off.
    Start(Box<Start>),
    /// How it stands, and what its gate sees; of all rollouts without a name.
    Status {
        flag: Option<String>,
        /// As JSON, with the plan and what happened.
        #[arg(long)]
        json: bool,
    },
    /// Go on, where it waits for that: in a manual rollout, after a pause, and when the old code is gone.
    Advance(Named),
    /// Off for everybody, at once. Can be repeated.
    Rollback {
        #[command(flatten)]
        named: Named,
        /// Also when the old code may be gone.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub struct Named {
    flag: String,
    /// Who does it, for the history; without it the user of this machine.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    named: Named,
    /// The plan as JSON; the options change it further.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Migrations that have to be in place: number, name or file, with commas between.
    #[arg(long, value_delimiter = ',')]
    migrations: Option<Vec<String>>,
    /// Callers who get it first, with commas between.
    #[arg(long, value_delimiter = ',')]
    canary: Option<Vec<String>>,
    /// For how long the canary is watched, as 60s.
    #[arg(long, value_parser = humantime::parse_duration)]
    canary_watch: Option<Duration>,
    /// Percentages with how long each is watched, as 10:5m,25:10m,50:30m,100:0s.
    #[arg(long, value_delimiter = ',', value_parser = step)]
    schedule: Option<Vec<ScheduledStep>>,
    /// An error rate above this is unhealthy, 0 to 1.
    #[arg(long)]
    error_threshold: Option<f64>,
    /// A p99 above this is unhealthy, milliseconds.
    #[arg(long)]
    p99_threshold_ms: Option<f64>,
    /// How much worse those with the feature may do than those without.
    #[arg(long)]
    control_factor: Option<f64>,
    /// Fewer requests than this tell nothing.
    #[arg(long)]
    samples_min: Option<u64>,
    /// How often health is looked at.
    #[arg(long, value_parser = humantime::parse_duration)]
    poll_interval: Option<Duration>,
    /// Requests of so long ago are looked at.
    #[arg(long, value_parser = humantime::parse_duration)]
    window: Option<Duration>,
    /// Each step waits for `rollout advance`.
    #[arg(long)]
    manual: bool,
    /// Go back one step and wait, instead of turning the feature off.
    #[arg(long)]
    pause_on_failure: bool,
}

fn step(text: &str) -> Result<ScheduledStep, String> {
    let expected = || format!("{text:?} is no step: one is a percentage and a time, as 10:5m");
    let (percentage, watch) = text.split_once(':').ok_or_else(expected)?;
    let percentage = percentage.trim().parse().map_err(|_| expected())?;
    let watch = humantime::parse_duration(watch.trim()).map_err(|_| expected())?;
    Ok(ScheduledStep { percentage, watch })
}

impl Start {
    fn plan(&self) -> anyhow::Result<Plan> {
        let mut plan = match &self.plan {
            None => Plan { flag: self.named.flag.clone(), ..Plan::default() },
            Some(path) => {
                let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
                Plan::parse(&text).with_context(|| format!("{} is no plan", path.display()))?
            }
        };
        if plan.flag != self.named.flag {
            bail!("flag is {:?} in the plan: it must be {:?}", plan.flag, self.named.flag);
        }
        fn put<T: Clone>(into: &mut T, given: Option<&T>) {
            if let Some(given) = given {
                into.clone_from(given);
            }
        }
        put(&mut plan.db_migrations, self.migrations.as_ref());
        put(&mut plan.canary_users, self.canary.as_ref());
        put(&mut plan.canary_watch, self.canary_watch.as_ref());
        put(&mut plan.schedule, self.schedule.as_ref());
        put(&mut plan.error_threshold, self.error_threshold.as_ref());
        put(&mut plan.p99_threshold_ms, self.p99_threshold_ms.as_ref());
        put(&mut plan.control_factor, self.control_factor.as_ref());
        put(&mut plan.samples_min, self.samples_min.as_ref());
        put(&mut plan.poll_interval, self.poll_interval.as_ref());
        put(&mut plan.window, self.window.as_ref());
        plan.manual |= self.manual;
        if self.pause_on_failure {
            plan.on_failure = OnFailure::Pause;
        }
        Ok(plan)
    }
}

/// Runs the command.
pub async fn run(config: &Config, command: Command) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new().area(RolloutMetrics::register);
    let rollouts = Rollouts::new(&database(config)?, Cohorts::default(), metrics);
    match command {
        Command::Start(start) => {
            let plan = start.plan()?;
            let Named { flag, actor: by, json } = start.named;
            rollouts.start(plan, &actor(by)).await?;
            show(&rollouts.report_of(&flag).await?, json)?;
        }
        Command::Status { flag: Some(flag), json } => {
            let report = rollouts.report_of(&flag).await?;
            let history = rollouts.store.history(&flag).await?;
            if json {
                print(&json!({ "rollout": report, "events": history }));
            } else {
                show(&report, false)?;
                for event in history.iter().rev() {
                    let at = event.at.format("%Y-%m-%d %H:%M:%S");
                    let reason =
                        if event.reason.is_empty() { String::new() } else { format!(": {}", event.reason) };
                    println!(
                        "  {at} UTC {} by {}, {} {} %{reason}",
                        event.event, event.actor, event.phase, event.percentage
                    );
                }
            }
        }
        Command::Status { flag: None, json } => {
            let (reports, leader) = (rollouts.reports().await?, rollouts.store.leader().await?);
            if json {
                print(&json!({ "rollouts": reports, "leader": leader }));
            } else {
                for report in &reports {
                    show(report, false)?;
                }
                eprintln!("{} rollouts", reports.len());
            }
        }
        Command::Advance(Named { flag, actor: by, json }) => {
            rollouts.advance(&flag, &actor(by)).await?;
            show(&rollouts.report_of(&flag).await?, json)?;
        }
        Command::Rollback { named: Named { flag, actor: by, json }, force } => {
            rollouts.rollback(&flag, force, &actor(by)).await?;
            show(&rollouts.report_of(&flag).await?, json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_value(report)?);
        return Ok(());
    }
    let watched = report.step.as_ref().map(|step| {
        let what = if step.to == 0 { "the canary users".to_owned() } else { format!("{} %", step.to) };
        format!(", watching {what} until {} UTC", step.until.format("%Y-%m-%d %H:%M:%S"))
    });
    let reason = if report.reason.is_empty() { String::new() } else { format!(": {}", report.reason) };
    let Report { feature, phase, percentage, status, .. } = report;
    println!("{feature}: {phase}, {percentage} %, {status}{}{reason}", watched.unwrap_or_default());
    for (name, side) in [("on", &report.gate.on), ("off", &report.gate.off)] {
        let SideReport { requests, error_rate, p99_ms } = side;
        let shown = |value: Option<f64>, unit: &str| {
            value.map_or("unknown".to_owned(), |value| format!("{value:.4}{unit}"))
        };
        println!(
            "  with the flag {name}: {requests} requests, error rate {}, p99 {}",
            shown(*error_rate, ""),
            shown(*p99_ms, " ms")
        );
    }
    Ok(())
}
