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
    server_program,
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
    by_hand: PathBuf,
    resolvers: PathBuf,
    server: PathBuf,
}

impl Programs {
    /// Builds what is missing or stale. `server` is used as it is; `None`: as in every other run, a release build.
    pub async fn build(profile: Profile, server: Option<PathBuf>) -> Result<Programs, Error> {
        let built = async |name| {
            example(profile, PACKAGE, name)
                .await
                .map_err(|error| Error::start(format!("{name} (cargo build)"), error))
        };
        Ok(Programs {
            by_hand: built(BY_HAND).await?,
            resolvers: built(RESOLVERS).await?,
            server: server_program(server).await?,
        })
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
    Ok(vec![
        yardstick(run, setup, template, "by hand", BY_HAND, &programs.by_hand).await?,
        yardstick(run, setup, template, "async-graphql", RESOLVERS, &programs.resolvers).await?,
        server(run, setup, environment, template).await?,
    ])
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
) -> Result<Subject, Error> {
    let name = "fraiseql-server";
    let database_url = template.copy("bench_server").await.map_err(|error| Error::start(name, error))?;
    let straight = |url: &str| (url.to_owned(), url.to_owned());
    let mut urls: BTreeMap<ServiceName, (String, String)> =
        environment.services().map(|service| (service.name, straight(service.direct_url()))).collect();
    urls.insert(ServiceName::Postgres, straight(&database_url));
    let request = ServerRequest {
        config: setup.server_config(),
        binary: Some(setup.programs.server.clone()),
        migrator: None,
        behind: None,
    };
    let server = Server::start(run, request, &urls, &BTreeMap::new(), &setup.settings.server).await?;
    Ok(Subject { name, database_url, process: Process::Server(Box::new(server)) })
}
