//! `fraiseql-server`: arguments in, exit code out.
//!
//! 0 when it ended as asked, 2 when the configuration, the arguments or what is to be checked cannot be read, 1 for
//! all else, among it findings of `migrate lint`.

mod cli;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use fraiseql_runtime::api;
use fraiseql_runtime::api::middleware::gate::Gate;
use fraiseql_runtime::app_state::AppState;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::config::{Config, Error as ConfigError};
use fraiseql_runtime::engine::explain;
use fraiseql_runtime::engine::loader::{self, Source};
use fraiseql_runtime::engine::schema::compile::compile;
use fraiseql_runtime::engine::schema::graphql::Graphql;
use fraiseql_runtime::engine::schema::import;
use fraiseql_runtime::migration::lint::{self, Release, Rule, folder};
use fraiseql_runtime::migration::{self, MIGRATIONS};
use fraiseql_runtime::observability::health::HealthChecker;
use fraiseql_runtime::observability::logging::{LogMetrics, init_logging};
use fraiseql_runtime::observability::masking::mask;
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::server;
use fraiseql_runtime::server::workers::Workers;
use sqlx::migrate::Migrator;

const EXIT_CODES: &str = "Exit codes: 0 ended as asked, 1 failed, 2 wrong configuration or arguments.";

const LINT_HELP: &str = "The rules are in docs/migrations.md. An exception is a comment at the statement: \
                         -- fraiseql: allow(<rule>) <reason>.\n\n\
                         Exit codes: 0 nothing found, 1 findings, 2 a file cannot be read or is not SQL.";

/// Serves GraphQL over PostgreSQL. Without a command it runs the server.
#[derive(Debug, Parser)]
#[command(name = "fraiseql-server", version, after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    file: File,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct File {
    /// The configuration, see fixtures/config/fraiseql.toml for every key.
    #[arg(long, value_name = "FILE", default_value = "fraiseql.toml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the database's schema up to date, then exit.
    #[command(args_conflicts_with_subcommands = true)]
    Migrate {
        #[command(flatten)]
        file: File,
        /// Folder with the migrations; without it, those of this build (the shop of fixtures/schemas/ecommerce).
        #[arg(long, value_name = "FOLDER")]
        folder: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<MigrateCommand>,
    },
    /// Work with the schema file.
    Schema {
        #[command(subcommand)]
        command: SchemaCommand,
    },
    /// Say what is on for whom, and change it.
    #[command(after_help = cli::flags::HELP)]
    Flags(cli::flags::Flags),
    /// Bring a feature to its users step by step, and take it back.
    #[command(after_help = cli::rollout::HELP)]
    Rollout(cli::rollout::Rollout),
    /// Work with the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Ask a running server on this machine how it is; exit code 0 when it serves.
    Healthcheck {
        /// Where it listens.
        #[arg(long, default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)))]
        address: SocketAddr,
    },
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Say what migrations would break or block, without a database.
    #[command(after_help = LINT_HELP)]
    Lint {
        /// Folders with migrations, or single files, in the order in which they are applied; without one, the
        /// migrations of this build.
        folders: Vec<PathBuf>,
        /// The release that the migrations ship with.
        #[arg(long, default_value_t = Release::own())]
        release: Release,
    },
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Say whether the schema fits the database; exit code 1 with every problem when it does not.
    Check(File),
    /// Print the schema as clients see it.
    Print(File),
    /// Propose a schema file for a database that is there already. What is left out is said in it, with the reason.
    Import {
        #[command(flatten)]
        file: File,
        /// Schemas of the database whose tables are proposed; without one those of the configuration.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        schema: Vec<String>,
        /// Tables and views that are proposed, as `table` or `schema.table`; without one all of them.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        tables: Vec<String>,
        /// Propose no mutations.
        #[arg(long)]
        read_only: bool,
        /// Where the file goes; without it to standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Overwrite a file that is there.
        #[arg(long, requires = "output")]
        force: bool,
    },
    /// Print the SQL of an operation, with the database's plan for it.
    Sql {
        #[command(flatten)]
        file: File,
        /// The operation's text; `-` reads it from standard input.
        operation: String,
        /// Its variables, as JSON.
        #[arg(long, default_value = "{}")]
        variables: String,
        /// Leave the database's plan out.
        #[arg(long)]
        no_explain: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the server would start with this file and environment.
    Check(File),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", mask(&format!("{error:#}")));
            let unreadable = error.is::<ConfigError>() || error.is::<folder::ReadError>();
            ExitCode::from(if unreadable { 2 } else { 1 })
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => serve(&load(&cli.file)?),
        Some(Command::Migrate { file, folder, command: None }) => migrate(&load(&file)?, folder.as_deref()),
        Some(Command::Migrate { command: Some(MigrateCommand::Lint { folders, release }), .. }) => {
            lint_migrations(&folders, release)
        }
        Some(Command::Schema {
            command: SchemaCommand::Import { file, schema, tables, read_only, output, force },
        }) => {
            let options =
                import::Options { only: tables, mutations: !read_only, ..import::Options::default() };
            import_schema(&load(&file)?, schema, &options, output.as_deref(), force)
        }
        Some(Command::Schema { command }) => schema(command),
        Some(Command::Flags(flags)) => {
            let config = load(&flags.file)?;
            block_on(cli::flags::run(&config, flags.command))
        }
        Some(Command::Rollout(rollout)) => {
            let config = load(&rollout.file)?;
            block_on(cli::rollout::run(&config, rollout.command))
        }
        Some(Command::Config { command: ConfigCommand::Check(file) }) => {
            let config = load(&file)?;
            println!("{} is valid: {config:#?}", file.config.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Healthcheck { address }) => healthcheck(address),
    }
}

fn load(file: &File) -> Result<Config, ConfigError> {
    Config::load(&file.config, &Environment::of_process())
}

fn serve(config: &Config) -> anyhow::Result<ExitCode> {
    let log = init_logging(&config.logging).context("start the log")?;
    block_on(async {
        let metrics = Metrics::new();
        // It ends with the process: what is dropped while the server ends is told as well.
        tokio::spawn(log.watch(metrics.area(LogMetrics::register)));
        let application = application(config, &metrics).await?;
        let ended = server::run(config, metrics, application).await?;
        Ok(if ended.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn application(config: &Config, metrics: &Metrics) -> anyhow::Result<server::Application> {
    let state = AppState::build(config, metrics).await?;
    let degradations = Arc::new(state.degradations.clone());
    let mut health = HealthChecker::new(env!("CARGO_PKG_VERSION")).with_degradations(degradations);
    state.add_health_checks(&mut health);
    let mut workers = Workers::default();
    for (name, start) in state.workers() {
        workers.add(name, start);
    }
    let gate = Some(Gate::new(&state));
    Ok(server::Application {
        routes: api::product(&state),
        health,
        workers,
        gate,
        tracer: state.tracer.clone(),
    })
}

fn migrate(config: &Config, folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    let _log = init_logging(&config.logging).context("start the log")?;
    let database = &config.database;
    let url = config.urls.direct(database)?.expose();
    block_on(async {
        let own;
        let migrator = match folder {
            None => &MIGRATIONS,
            Some(folder) => {
                own = Migrator::new(folder).await.with_context(|| format!("read {}", folder.display()))?;
                if own.iter().next().is_none() {
                    bail!(
                        "{} has no migrations: files are called 20261128100000_what_it_does.sql",
                        folder.display()
                    );
                }
                &own
            }
        };
        migration::run::run_own(url, database.connect_timeout, &database.migrations).await?;
        migration::run::run(url, database.connect_timeout, migrator, &database.migrations).await?;
        tracing::info!(database = %config.urls.database, "the schema is up to date");
        Ok(ExitCode::SUCCESS)
    })
}

fn lint_migrations(folders: &[PathBuf], release: Release) -> anyhow::Result<ExitCode> {
    let sources = if folders.is_empty() { migration::built_in() } else { folder::read(folders)? };
    let findings = lint::lint(&sources, release);
    for finding in &findings {
        println!("{finding}");
    }
    eprintln!("{} migrations, {} findings", sources.len(), findings.len());
    Ok(if findings.iter().any(|finding| finding.rule == Rule::Syntax) {
        ExitCode::from(2)
    } else if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("start the async runtime")?;
    let result = runtime.block_on(work);
    // A blocking call that hangs, as a name lookup, must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn schema(command: SchemaCommand) -> anyhow::Result<ExitCode> {
    let (SchemaCommand::Check(file)
    | SchemaCommand::Print(file)
    | SchemaCommand::Sql { file, .. }
    | SchemaCommand::Import { file, .. }) = &command;
    let config = load(file)?;
    let path = config.graphql.schema.clone();
    let source = source(&config);
    block_on(async move {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read the schema {}", path.display()))?;
        let catalogue = loader::catalogue(&source).await?;
        let compiled = match compile(&text, &catalogue) {
            Ok(compiled) => compiled,
            Err(problems) => {
                for problem in &problems {
                    eprintln!("{}:{problem}", path.display());
                }
                let errors = problems.iter().filter(|problem| !problem.warning).count();
                bail!("{errors} errors in {}", path.display());
            }
        };
        for warning in &compiled.warnings {
            eprintln!("{}:{warning}", path.display());
        }
        let graphql = Graphql::new(&compiled.schema, true).context("the schema breaks a rule of GraphQL")?;
        match command {
            SchemaCommand::Check(_) | SchemaCommand::Import { .. } => {
                println!("{} fits the database", path.display());
            }
            SchemaCommand::Print(_) => print!("{}", graphql.sdl()),
            SchemaCommand::Sql { operation, variables, no_explain, .. } => {
                let operation =
                    if operation == "-" { std::io::read_to_string(std::io::stdin())? } else { operation };
                let variables = serde_json::from_str(&variables).context("--variables is no JSON object")?;
                let explain = (!no_explain).then_some(source.url.as_str());
                print!(
                    "{}",
                    explain::operation(&compiled.schema, &graphql, &operation, &variables, explain).await?
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn source(config: &Config) -> Source {
    Source {
        path: config.graphql.schema.clone(),
        url: config.urls.database.expose().to_owned(),
        database_schemas: config.graphql.database_schemas.clone(),
    }
}

fn import_schema(
    config: &Config,
    schemas: Vec<String>,
    options: &import::Options,
    output: Option<&Path>,
    force: bool,
) -> anyhow::Result<ExitCode> {
    let mut source = source(config);
    if !schemas.is_empty() && schemas != source.database_schemas {
        eprintln!(
            "note: for this file graphql.database_schemas must be {schemas:?}, unless the search path has them"
        );
        source.database_schemas = schemas;
    }
    block_on(async move {
        let catalogue = loader::catalogue(&source).await?;
        let unknown = options.unknown(&catalogue);
        if !unknown.is_empty() {
            bail!("the database has no table or view {}", unknown.join("; no "));
        }
        let text = import::propose(&catalogue, options);
        match output {
            None => print!("{text}"),
            Some(path) => {
                // Opened so that a file that is there is never cut short before it is known that it may be.
                let mut open = std::fs::OpenOptions::new();
                open.write(true);
                if force {
                    open.create(true).truncate(true)
                } else {
                    open.create_new(true)
                };
                let mut file = open.open(path).with_context(|| match path.exists() && !force {
                    true => format!("{} is there already; --force overwrites it", path.display()),
                    false => format!("write {}", path.display()),
                })?;
                file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
                eprintln!("wrote {}", path.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Without a client library: it runs every few seconds beside the server.
fn healthcheck(address: SocketAddr) -> anyhow::Result<ExitCode> {
    const LIMIT: Duration = Duration::from_secs(4);
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).context("read the answer of /health")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    println!("{body}");
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(ExitCode::SUCCESS),
        _ => bail!("the server does not serve: {}", head.lines().next().unwrap_or_default()),
    }
}
