//! The differential test for as long as wanted: `cargo run --release --example differential -- --cases 1000000`.
//!
//! Starts a Postgres of its own unless `--url` names a database, which is emptied. Prints cases, seconds and differences;
//! each difference in full. The exit code is not zero when there is one.

#[path = "../tests/stores/differential/mod.rs"]
mod differential;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use harness::environment::{BackendChoice, Environment, Request, ServiceName, Settings};
use harness::run::Run;
use sqlx::{Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

/// Compares the engine with a naive executor on generated schemas, rows and operations.
#[derive(Parser)]
struct Options {
    /// How many operations.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// The first seed; each schema takes the next.
    #[arg(long, default_value_t = 1_000_000)]
    seed: u64,
    /// Operations for each schema.
    #[arg(long, default_value_t = 500)]
    operations: u64,
    /// Schemas that are tried at the same time.
    #[arg(long, default_value_t = 2)]
    workers: u64,
    /// A database for each worker, which is emptied: `{}` stands for its number.
    #[arg(long)]
    url: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let started = Instant::now();
    let environment = match &options.url {
        Some(_) => None,
        None => Some(environment().await),
    };
    let mut urls = Vec::new();
    for worker in 0..options.workers.max(1) {
        urls.push(match (&options.url, &environment) {
            (Some(url), _) => url.replace("{}", &worker.to_string()),
            (None, Some(environment)) => database(environment, worker).await,
            (None, None) => unreachable!("one of both"),
        });
    }
    let mut tasks = Vec::new();
    let workers = urls.len() as u64;
    for (worker, url) in (0u64..).zip(urls) {
        let (seed, operations) = (options.seed, options.operations);
        let wanted = options.cases.div_ceil(workers);
        tasks.push(tokio::spawn(async move {
            let (mut schemas, mut cases, mut differences, mut next) = (0, 0, 0, seed + worker);
            while cases < wanted {
                let report = differential::run(&url, std::iter::once(next), operations).await;
                schemas += report.schemas;
                cases += report.cases;
                next += workers;
                for difference in &report.differences {
                    println!("{difference}");
                }
                differences += report.differences.len();
            }
            (schemas, cases, differences)
        }));
    }
    let (mut schemas, mut cases, mut differences) = (0, 0, 0);
    for task in tasks {
        let (made, some, wrong) = task.await.expect("a worker ends");
        schemas += made;
        cases += some;
        differences += wrong;
    }
    println!(
        "{cases} cases on {schemas} schemas, {} seconds, {differences} differences",
        started.elapsed().as_secs()
    );
    if let Some(environment) = environment {
        for leftover in environment.down().await {
            eprintln!("left behind: {leftover:?}");
        }
    }
    if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn environment() -> Environment {
    let mut settings = Settings::default();
    settings.proxy.api = String::new();
    // Nothing here is to survive.
    settings.postgres.settings.insert("fsync".to_owned(), "off".to_owned());
    settings.postgres.settings.insert("synchronous_commit".to_owned(), "off".to_owned());
    let id = format!("differential-{}", uuid::Uuid::new_v4().simple());
    let folder = std::env::temp_dir().join(&id);
    let run = Run::create(id, 1, folder, CancellationToken::new()).expect("a folder for the run");
    let request = Request { backend: BackendChoice::Process, settings, ..Request::default() };
    Environment::up(&run, request).await.unwrap_or_else(|error| panic!("no Postgres: {error}"))
}

async fn database(environment: &Environment, worker: u64) -> String {
    let mut url: url::Url = environment.service(ServiceName::Postgres).direct_url().parse().expect("a URL");
    let mut admin = PgConnection::connect(url.as_str()).await.expect("the server answers");
    let create = format!("CREATE DATABASE differential_{worker}");
    admin.execute(sqlx::AssertSqlSafe(create)).await.expect("a new database");
    admin.close().await.expect("closed");
    url.set_path(&format!("/differential_{worker}"));
    url.into()
}
