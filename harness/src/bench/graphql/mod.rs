//! `harness bench graphql`: fraiseql-server beside the same four operations by hand and by async-graphql's resolvers.
//!
//! All subjects have the same data in one PostgreSQL, and none is measured before its answers are the same JSON as those
//! of the yardstick. Every operation is measured of every subject in turn in each round, so that ratios are of figures
//! taken next to each other. A subject that cannot answer an operation is *not run* for it, with its own words why; an
//! answer that is wrong, missing or only said to be written ends the bench.

mod client;
pub mod compare;
mod data;
pub mod figures;
pub mod operation;
mod subject;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use uuid::Uuid;

use super::clients::Load;
use crate::environment::{BackendChoice, Environment, Error, Leftover, Request, ServiceName, Settings};
use crate::observe::{process, scrape};
use crate::run::Run;
use data::Template;
use figures::{Cell, Figures, Sample};
use operation::{Feed, Operation};

pub use subject::{Programs, Subject, Variant};

/// What is brought up.
pub struct Setup {
    /// Processes or containers of ours: what a server of the user's uses cannot be seen.
    pub backend: BackendChoice,
    pub settings: Settings,
    pub programs: Programs,
    /// Connections to PostgreSQL that each subject has at most.
    pub database_connections: u16,
    /// Merged over the configuration that fraiseql-server gets.
    pub config: toml::Table,
    /// Servers to be measured beside each other; none: one beside the yardsticks.
    pub variants: Vec<Variant>,
}

/// What is measured and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Each operation of each subject is measured once in each round.
    pub rounds: u32,
    /// Length of one measurement; a quarter of it goes before, unmeasured.
    pub lasts: Duration,
    /// Concurrent connections.
    pub connections: usize,
}

/// The running subjects and their servers.
pub struct Bench {
    environment: Environment,
    settings: Settings,
    subjects: Vec<Subject>,
    order_ids: Arc<[Uuid]>,
}

/// The answers that were compared.
pub struct Agreement {
    cells: BTreeMap<Operation, Vec<Cell>>,
    answer_bytes: BTreeMap<Operation, usize>,
}

impl Setup {
    /// The server's configuration: as many connections as the others, and a relay that does not send the events of
    /// orders during a measurement, since nobody sends those of the yardsticks.
    fn server_config(&self) -> toml::Table {
        let connections = i64::from(self.database_connections);
        let mut table = self.config.clone();
        let mut set = |section: &str, key: &str, value: toml::Value| {
            let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let toml::Value::Table(section) = section {
                section.entry(key).or_insert(value);
            }
        };
        set("database", "max_connections", connections.into());
        set("database", "min_connections", connections.into());
        set("outbox", "poll_interval", "1m".into());
        table
    }
}

impl Bench {
    /// Starts the services, makes and copies the data, starts the subjects.
    pub async fn up(run: &Run, setup: Setup) -> Result<Bench, Error> {
        let request = Request {
            backend: setup.backend.clone(),
            settings: setup.settings.clone(),
            ..Request::default()
        };
        let environment = Environment::up(run, request).await?;
        let postgres = environment.service(ServiceName::Postgres).direct_url();
        let template =
            Template::create(postgres).await.map_err(|error| Error::start("the shop's data", error))?;
        let subjects = subject::start(run, &setup, &environment, &template).await?;
        let order_ids = template.order_ids.into();
        Ok(Bench { environment, settings: setup.settings, subjects, order_ids })
    }

    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Asks every subject for every operation and compares the answers with the first subject's. An error names the
    /// first place where two differ; what a subject refuses is its `NotRun`.
    pub async fn agree(&self) -> anyhow::Result<Agreement> {
        let mut agreement = Agreement { cells: BTreeMap::new(), answer_bytes: BTreeMap::new() };
        for operation in Operation::ALL {
            let body = Feed::new(operation, self.order_ids.clone()).body();
            let mut expected = None;
            for subject in &self.subjects {
                let began = Instant::now();
                let answer = client::ask(subject.address(), &body)
                    .await
                    .with_context(|| format!("ask {} for {operation}", subject.name))?;
                let first_ms = began.elapsed().as_secs_f64() * 1e3;
                let cell = match (answer, &expected) {
                    (Ok(answer), None) => {
                        agreement.answer_bytes.insert(operation, answer.to_string().len());
                        expected = Some(answer);
                        Cell::Run { first_ms, rounds: Vec::new() }
                    }
                    (Ok(answer), Some(expected)) => {
                        if let Some(difference) =
                            compare::first_difference(expected, &answer, operation.own_to_each())
                        {
                            bail!("{} answers {operation} otherwise: {difference}", subject.name);
                        }
                        Cell::Run { first_ms, rounds: Vec::new() }
                    }
                    (Err(reason), None) => bail!("{} cannot answer {operation}: {reason}", subject.name),
                    (Err(reason), Some(_)) => Cell::NotRun(reason),
                };
                agreement.cells.entry(operation).or_default().push(cell);
            }
        }
        Ok(agreement)
    }

    /// Measures what was agreed on, in alternating rounds.
    pub async fn measure(
        &self,
        options: &Options,
        agreement: Agreement,
        progress: impl Fn(&str),
    ) -> anyhow::Result<Figures> {
        let names = self.subjects.iter().map(|subject| subject.name.to_owned()).collect();
        let feeds = Operation::ALL.map(|operation| Feed::new(operation, self.order_ids.clone()));
        let runs =
            |operation, subject: usize| matches!(agreement.cells[&operation][subject], Cell::Run { .. });
        let mut figures = Figures::new(names, agreement.cells.clone());
        for round in 0..options.rounds as usize {
            for feed in &feeds {
                progress(&format!("round {} of {}: {}", round + 1, options.rounds, feed.operation));
                // Another one begins in each round: being the first after a pause is no subject's own.
                for turn in 0..self.subjects.len() {
                    let index = (round + turn) % self.subjects.len();
                    if !runs(feed.operation, index) {
                        continue;
                    }
                    let subject = &self.subjects[index];
                    let answer_bytes = agreement.answer_bytes[&feed.operation];
                    let sample = self
                        .sample(options, subject, feed, answer_bytes)
                        .await
                        .with_context(|| format!("measure {} of {}", feed.operation, subject.name))?;
                    figures.add(feed.operation, index, sample);
                }
            }
        }
        for subject in &self.subjects {
            for (series, value) in of_plans(subject).await? {
                figures.reported.push((subject.name.to_owned(), series, value));
            }
        }
        Ok(figures)
    }

    async fn sample(
        &self,
        options: &Options,
        subject: &Subject,
        feed: &Feed,
        answer_bytes: usize,
    ) -> anyhow::Result<Sample> {
        let writes = feed.operation == Operation::CreateOrder;
        let address = subject.address();
        let load = Load { connections: options.connections, lasts: options.lasts };
        let warm_up = Load { lasts: options.lasts / 4, ..load };
        client::drive(address, warm_up, feed, answer_bytes).await.context("warm up")?;
        if writes {
            data::checkpoint(&subject.database_url).await?;
        }
        let before = if writes { Some(data::count(&subject.database_url).await?) } else { None };
        let pid = subject.pid()?;
        let postgres = self.postgres_pids().await?;
        let cpu = || (process::tree_cpu_seconds(&[pid]), process::tree_cpu_seconds(&postgres));
        let (server_before, postgres_before) = cpu();
        let began = Instant::now();
        // While all connections are busy.
        let memory = async {
            tokio::time::sleep(options.lasts * 3 / 4).await;
            process::sample(pid).context("read the subject's memory")
        };
        let (done, memory) = tokio::join!(client::drive(address, load, feed, answer_bytes), memory);
        let (done, seconds) = (done?, began.elapsed().as_secs_f64());
        let (server_after, postgres_after) = cpu();
        if let Some(before) = before {
            data::assert_placed(before, data::count(&subject.database_url).await?, done.requests)?;
            data::forget_events(&subject.database_url).await?;
        }
        ensure!(done.requests > 0, "no request was answered");
        let each_ms = |from: f64, to: f64| (to - from) * 1e3 / done.requests as f64;
        let quantile_ms = |share: f64| done.latency_us.value_at_quantile(share) as f64 / 1e3;
        Ok(Sample {
            requests_per_second: done.per_second(seconds),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            server_cpu_ms: each_ms(server_before, server_after),
            postgres_cpu_ms: each_ms(postgres_before, postgres_after),
            rss_mb: memory?.rss_bytes as f64 / 1e6,
        })
    }

    async fn postgres_pids(&self) -> anyhow::Result<Vec<i32>> {
        let control =
            self.environment.control(ServiceName::Postgres.as_str()).context("PostgreSQL is not ours")?;
        let pids = control.host_pids().await;
        ensure!(!pids.is_empty(), "PostgreSQL has no process on this machine");
        Ok(pids)
    }

    /// Ends everything; what is still there or did not end as it should is in the result.
    pub async fn down(self) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        for subject in &self.subjects {
            leftovers.extend(subject.stop(self.settings.server.grace_slack).await);
        }
        leftovers.extend(self.environment.down().await);
        leftovers
    }
}

/// What a subject counts of its plans: how many were found or had to be made, and the time that took where it says so.
async fn of_plans(subject: &Subject) -> anyhow::Result<Vec<(String, f64)>> {
    let Some(url) = subject.metrics_url() else { return Ok(Vec::new()) };
    let client = reqwest::Client::new();
    // A server that measures nothing has no such page.
    if client.get(&url).send().await?.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(Vec::new());
    }
    let metrics = scrape::fetch(&client, &url).await?;
    let families = metrics.families.iter().filter(|(name, _)| name.contains("plan"));
    let series = families.flat_map(|(_, family)| &family.series).filter(|series| {
        ["_seconds", "_seconds_sum", "_seconds_count", "_total"].iter().any(|end| series.name.ends_with(end))
    });
    Ok(series.map(|series| (format!("{}{}", series.name, labels(&series.labels)), series.value)).collect())
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}
