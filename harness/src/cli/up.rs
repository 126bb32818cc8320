//! `harness up`: keeps an environment running until Ctrl-C and prints how to reach it.

use std::path::PathBuf;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::environment::{
    BackendChoice, Environment, Error, Request, Server, ServerRequest, ServiceName, Settings, Toxiproxy,
};
use crate::run::Run;

/// Start Postgres, Redis and NATS behind fault proxies and keep them until Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the services come from
    #[arg(long, value_enum, default_value = "auto")]
    pub backend: Backend,
    /// Start fraiseql-server too, migrated and seeded
    #[arg(long)]
    pub with_server: bool,
    /// Server program to use instead of building one
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Send the links through a Toxiproxy (or chaos-proxy) that is running, with the faults that it has
    #[arg(long, value_name = "ADDR", value_parser = super::api_address)]
    pub toxiproxy: Option<String>,
    /// Images, tags, commands and settings
    #[arg(long, value_name = "FILE", default_value = "harness.toml")]
    pub settings: PathBuf,
    /// Folder that gets the run folder
    #[arg(long, value_name = "FOLDER", default_value = "runs")]
    pub runs: PathBuf,
}

/// The word for a backend on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    Auto,
    Container,
    Process,
}

impl From<Backend> for BackendChoice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Container => BackendChoice::Container,
            Backend::Process => BackendChoice::Process,
        }
    }
}

/// Exit code 0, 3 when it cannot run here, 5 when something was left behind.
pub async fn run(args: Args, cancel: CancellationToken) -> anyhow::Result<u8> {
    let settings = Settings::load(&args.settings)?.through(args.toxiproxy.as_deref());
    let id = format!("up-{}", uuid::Uuid::now_v7().simple());
    let run = Run::create(id.clone(), 0, args.runs.join(&id), cancel.clone())?;
    let server = (args.with_server || args.server.is_some())
        .then(|| ServerRequest { binary: args.server, ..ServerRequest::default() });
    let up = async {
        let toxiproxy = Toxiproxy::named_in(&settings).await?;
        let request =
            Request { backend: args.backend.into(), settings, server, toxiproxy, ..Request::default() };
        Environment::up(&run, request).await
    };
    let environment = match up.await {
        Ok(environment) => environment,
        Err(error @ Error::NotPossible { .. }) => {
            eprintln!("not run: {error}");
            return Ok(3);
        }
        Err(Error::Interrupted) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    print!("{}", describe(&run, &environment)?);
    cancel.cancelled().await;
    eprintln!("going down");
    let leftovers = environment.down().await;
    for left in &leftovers {
        eprintln!("left behind: {}: {}", left.kind, left.detail);
    }
    Ok(if leftovers.is_empty() { 0 } else { 5 })
}

fn describe(run: &Run, environment: &Environment) -> anyhow::Result<String> {
    let mut text = format!("backend {} ({})\n", environment.backend().kind, environment.backend().reason);
    let mut exports = String::new();
    for service in environment.services() {
        let variable = match service.name {
            ServiceName::Postgres => "DATABASE_URL",
            ServiceName::Redis => "REDIS_URL",
            ServiceName::Nats => "NATS_URL",
        };
        text += &format!("{} {} ({})\n", service.name, service.version, service.origin);
        text += &format!(
            "  through the proxy  {}\n  direct             {}\n",
            service.proxied_url(),
            service.direct_url()
        );
        exports += &format!("export {variable}={}\n", service.proxied_url());
    }
    match (environment.toxiproxy(), environment.toxiproxy_api()) {
        (Some(server), _) => text += &format!("proxies: on {}\n", server.describe()),
        (None, Some(address)) => text += &format!("Toxiproxy API http://{address}\n"),
        (None, None) => text += "Toxiproxy API not served: its port is taken or it is turned off\n",
    }
    let file = run.folder().join("env.sh");
    std::fs::write(&file, exports).with_context(|| format!("write {}", file.display()))?;
    text += &format!("variables: . {}\n", file.display());
    let config = if environment.has_server() {
        text += &format!("fraiseql-server {}\n", environment.server().base_url());
        environment.server().config_path().to_owned()
    } else {
        Server::write_configuration(&run.folder().join("fraiseql.toml"), &run.folder().join("spool"))?
    };
    text += &format!("configuration: {}\nCtrl-C ends it\n", config.display());
    Ok(text)
}
