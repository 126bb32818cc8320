//! What is measured: two yardsticks and fraiseql-server, each a process of its own on a copy of the same database.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use super::Setup;
use super::data::Template;
use crate::environment::{
    Environment, Error, Leftover, Profile, Program, Server, ServerRequest, ServiceName, example,
    merge_configuration, server_program,
};
use crate::run::Run;

const PACKAGE: &str = "harness";
const BY_HAND: &str = "yardstick_sql";
const RESOLVERS: &str = "yardstick_resolvers";
/// How long a yardstick may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// The programs of the subjects.
#[derive(Debug, Clone)]
pub struct Programs {
    /// By hand, and with resolvers.
    yardsticks: Option<(PathBuf, PathBuf)>,
    server: PathBuf,
}

/// A server among the subjects, and what it has otherwise than the others.
#[derive(Debug, Clone)]
pub struct Variant {
    pub name: &'static str,
    /// Merged over the configuration of all.
    pub config: toml::Table,
}

impl Programs {
    /// Builds what is missing or stale. `server` is used as it is; `None`: as in every other run, a release build.
    pub async fn build(profile: Profile, server: Option<PathBuf>) -> Result<Programs, Error> {
        let built = async |name| {
            example(profile, PACKAGE, name)
                .await
                .map_err(|error| Error::start(format!("{name} (cargo build)"), error))
        };
        let yardsticks = Some((built(BY_HAND).await?, built(RESOLVERS).await?));
        Ok(Programs { yardsticks, server: server_program(server).await? })
    }

    /// fraiseql-server alone, to be measured beside itself.
    pub async fn of_server(server: Option<PathBuf>) -> Result<Programs, Error> {
        Ok(Programs { yardsticks: None, server: server_program(server).await? })
    }
}

enum Process {
    Yardstick(Box<Program>),
    Server(Box<Server>),
}

/// A running subject.
pub struct Subject {
    pub name: &'static str,
    /// Its own database, not through a proxy.
    pub database_url: String,
    process: Process,
}

impl Subject {
    pub fn address(&self) -> SocketAddr {
        match &self.process {
            Process::Yardstick(program) => program.address(),
            Process::Server(server) => server.address(),
        }
    }

    pub fn pid(&self) -> anyhow::Result<i32> {
        let pid = match &self.process {
            Process::Yardstick(program) => program.pid(),
            Process::Server(server) => server.pid(),
        };
        pid.with_context(|| format!("{} has ended", self.name))
    }

    /// Where its metrics are, if it has any.
    pub fn metrics_url(&self) -> Option<String> {
        match &self.process {
            Process::Yardstick(_) => None,
            Process::Server(server) => Some(format!("{}/metrics", server.base_url())),
        }
    }

    pub(super) async fn stop(&self, slack: Duration) -> Option<Leftover> {
        match &self.process {
            Process::Yardstick(program) => program.stop(GRACE).await,
            Process::Server(server) => server.stop(slack).await,
        }
    }
}

/// All of them; the first is the one that the others are compared with.
pub(super) async fn start(
    run: &Run,
    setup: &Setup,
    environment: &Environment,
    template: &Template,
) -> Result<Vec<Subject>, Error> {
    let programs = &setup.programs;
    let mut subjects = Vec::new();
    if let Some((by_hand, resolvers)) = &programs.yardsticks {
        subjects.push(yardstick(run, setup, template, "by hand", BY_HAND, by_hand).await?);
        subjects.push(yardstick(run, setup, template, "async-graphql", RESOLVERS, resolvers).await?);
    }
    if setup.variants.is_empty() {
        let variant = Variant { name: "fraiseql-server", config: toml::Table::new() };
        subjects.push(server(run, setup, environment, template, &variant, "bench_server").await?);
    }
    for (number, variant) in setup.variants.iter().enumerate() {
        // Each has a folder of its own, as its files have one name each.
        let id = format!("{}-{number}", run.id());
        let own = Run::create(id.clone(), 0, run.folder().join(&id), run.cancel().clone());
        let own = own.map_err(|error| Error::start(variant.name, error))?;
        let database = format!("bench_server_{number}");
        subjects.push(server(&own, setup, environment, template, variant, &database).await?);
    }
    Ok(subjects)
}

async fn yardstick(
    run: &Run,
    setup: &Setup,
    template: &Template,
    name: &'static str,
    role: &str,
    program: &Path,
) -> Result<Subject, Error> {
    let start = async {
        let database_url = template.copy(&format!("bench_{role}")).await?;
        let connections = setup.database_connections.to_string();
        let arguments =
            |port: u16| [database_url.clone(), port.to_string(), connections].map(Into::into).into();
        let program = Program::start(run, role, program, arguments).await?;
        anyhow::Ok(Subject { name, database_url, process: Process::Yardstick(Box::new(program)) })
    };
    start.await.map_err(|error| Error::start(role, error))
}

/// Its links lead straight to the services, as the yardsticks' do.
async fn server(
    run: &Run,
    setup: &Setup,
    environment: &Environment,
    template: &Template,
    variant: &Variant,
    database: &str,
) -> Result<Subject, Error> {
    let name = variant.name;
    let database_url = template.copy(database).await.map_err(|error| Error::start(name, error))?;
    let mut config = setup.server_config();
    merge_configuration(&mut config, variant.config.clone());
    let straight = |url: &str| (url.to_owned(), url.to_owned());
    let mut urls: BTreeMap<ServiceName, (String, String)> =
        environment.services().map(|service| (service.name, straight(service.direct_url()))).collect();
    urls.insert(ServiceName::Postgres, straight(&database_url));
    let binary = Some(setup.programs.server.clone());
    let request = ServerRequest { config, binary, migrator: None, behind: None };
    let server = Server::start(run, request, &urls, &BTreeMap::new(), &setup.settings.server).await?;
    Ok(Subject { name, database_url, process: Process::Server(Box::new(server)) })
}
