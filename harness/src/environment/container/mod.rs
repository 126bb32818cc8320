//! Services as containers, through testcontainers. Images and commands come from `harness.toml`; each container has a
//! fixed port of 127.0.0.1, so that it comes back at its address after a kill, and carries the run's id as a label.

mod control;
mod images;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use chaos::ledger::Holding;
use parking_lot::Mutex;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::PortBinding;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::backend::{Backend, Started};
use super::settings::split_image;
use super::{Control, Error, Leftover, ServiceName, Settings, free_port, logs, nats, postgres, redis};
use crate::run::Run;
use control::ContainerControl;
use images::Image;

/// Label with the run's id.
pub(crate) const LABEL: &str = "fraiseql.harness.run";

const ENGINE_ANSWERS_WITHIN: Duration = Duration::from_secs(3);
const STOP_SECONDS: i32 = 10;

/// The container backend of one run.
pub(crate) struct ContainerBackend {
    run: Run,
    settings: Settings,
    docker: Docker,
    images: BTreeMap<ServiceName, Image>,
    started: Mutex<Vec<ContainerAsync<GenericImage>>>,
}

/// The engine, if one answers; else why not.
pub(crate) async fn engine() -> Result<Docker, String> {
    let docker = testcontainers::core::client::docker_client_instance()
        .await
        .map_err(|error| format!("no container engine: {error}"))?;
    match tokio::time::timeout(ENGINE_ANSWERS_WITHIN, docker.ping()).await {
        Ok(Ok(_)) => Ok(docker),
        Ok(Err(error)) => Err(format!("the container engine does not answer: {error}")),
        Err(_) => Err(format!("the container engine does not answer within {ENGINE_ANSWERS_WITHIN:?}")),
    }
}

/// What an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineReport {
    pub version: String,
    /// Each image that was asked about, and whether the engine has it.
    pub images: Vec<(String, bool)>,
    /// Those that it has.
    pub local: Vec<String>,
}

/// Asks the engine for its version and for images, without pulling; the error says why there is none.
pub async fn engine_report(wanted: &[String]) -> Result<EngineReport, String> {
    let docker = engine().await?;
    let version = docker.version().await.map_err(|error| error.to_string())?;
    let mut images = Vec::new();
    for name in wanted.iter().filter(|name| !name.is_empty()) {
        images.push((name.clone(), images::local(&docker, name).await.is_some()));
    }
    let local = images.iter().filter(|(_, is_local)| *is_local).map(|(name, _)| name.clone()).collect();
    Ok(EngineReport { version: version.version.unwrap_or_default(), images, local })
}

impl ContainerBackend {
    /// Asks the engine and makes sure that every image is there.
    pub async fn prepare(run: &Run, settings: &Settings) -> Result<ContainerBackend, Error> {
        let not_possible = |reason: String, hint: &str| Error::NotPossible { reason, hint: hint.into() };
        let docker = engine()
            .await
            .map_err(|reason| not_possible(reason, "start an engine, or use --backend process"))?;
        let resolve = |name| images::resolve(&docker, settings.of(name), settings.pull_within);
        let found = futures::future::join_all(ServiceName::ALL.map(resolve)).await;
        let mut all = BTreeMap::new();
        for (name, image) in ServiceName::ALL.into_iter().zip(found) {
            let image = image.map_err(|reason| {
                not_possible(
                    reason,
                    "pull the images, build local ones with ci/images/build.sh, or use --backend process",
                )
            })?;
            all.insert(name, image);
        }
        let (run, settings) = (run.clone(), settings.clone());
        Ok(ContainerBackend { run, settings, docker, images: all, started: Mutex::default() })
    }

    async fn launch(&self, name: ServiceName) -> anyhow::Result<Started> {
        let image = self.images.get(&name).expect("prepare looked for every image").clone();
        let port = free_port()?;
        let (inside, url, environment) = match name {
            ServiceName::Postgres => {
                let password = uuid::Uuid::new_v4().simple().to_string();
                let url = postgres::url(&format!("127.0.0.1:{port}"), &password);
                (5432_u16, url, vec![("POSTGRES_PASSWORD", password)])
            }
            ServiceName::Redis => (6379, redis::url(&format!("127.0.0.1:{port}")), vec![]),
            ServiceName::Nats => (4222, nats::url(&format!("127.0.0.1:{port}")), vec![]),
        };
        let (repository, tag) = split_image(&image.name).context("an image is name:tag")?;
        let mut request = GenericImage::new(repository, tag)
            .with_exposed_port(inside.tcp())
            .with_wait_for(WaitFor::Nothing)
            .with_label(LABEL, self.run.id())
            .with_cmd(self.command(name))
            .with_startup_timeout(self.settings.ready_within)
            .with_host_config_modifier(move |host| {
                let binding =
                    PortBinding { host_ip: Some("127.0.0.1".into()), host_port: Some(port.to_string()) };
                host.publish_all_ports = Some(false);
                host.port_bindings = Some([(format!("{inside}/tcp"), Some(vec![binding]))].into());
            });
        if name == ServiceName::Nats {
            let text = nats::configuration(&self.settings.nats, "0.0.0.0:4222", Path::new("/data"));
            request = request.with_copy_to(nats::CONTAINER_CONFIGURATION, text.into_bytes());
        }
        for (key, value) in environment {
            request = request.with_env_var(key, value);
        }
        // The id is not known before the container exists: until then the label alone finds it.
        self.run.ledger().open(self.holding(""))?;
        let container = request.start().await.context("start the container")?;
        let id = container.id().to_owned();
        self.run.ledger().open(self.holding(&id))?;
        self.started.lock().push(container);
        let log = logs(&self.run).join(format!("{name}.log"));
        let control = ContainerControl::new(self.docker.clone(), id, name.to_string(), port, log.clone());
        Ok(Started {
            address: format!("127.0.0.1:{port}"),
            url,
            origin: image.to_string(),
            control: Some(Arc::new(control) as Arc<dyn Control>),
            log: Some(log),
        })
    }

    fn holding(&self, id: &str) -> Holding {
        Holding::Container { id: id.into(), label: self.run.id().into() }
    }

    fn command(&self, name: ServiceName) -> Vec<String> {
        let settings = self.settings.of(name);
        let mut words = settings.command.clone();
        match name {
            ServiceName::Postgres => words.extend(postgres::arguments(settings)),
            ServiceName::Redis => {
                // Clients come from outside the container's loopback; only this machine reaches the published port.
                words.extend(["--protected-mode", "no"].map(str::to_owned));
                words.extend(redis::arguments(settings));
            }
            ServiceName::Nats => words.extend(["--config", nats::CONTAINER_CONFIGURATION].map(str::to_owned)),
        }
        words
    }

    async fn remove_all(&self) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        let containers = std::mem::take(&mut *self.started.lock());
        for container in containers {
            let id = container.id().to_owned();
            if let Err(error) = container.rm().await {
                leftovers.push(Leftover { kind: "container".into(), detail: format!("{id}: {error}") });
                continue;
            }
            if let Err(error) = self.run.ledger().close(self.holding(&id)) {
                leftovers.push(Leftover { kind: "container".into(), detail: error.to_string() });
            }
        }
        // A start that was broken off may have made one that never got a handle.
        match remove_labelled(&self.docker, self.run.id()).await {
            Ok(_) => {
                if let Err(error) = self.run.ledger().close(self.holding("")) {
                    leftovers.push(Leftover { kind: "container".into(), detail: error.to_string() });
                }
            }
            Err(error) => leftovers.push(Leftover { kind: "container".into(), detail: format!("{error:#}") }),
        }
        leftovers
    }
}

#[async_trait]
impl Backend for ContainerBackend {
    async fn start(&self, name: ServiceName) -> Result<Started, Error> {
        self.launch(name).await.map_err(|error| Error::start(name.as_str(), error))
    }

    async fn stop(&self) -> Vec<Leftover> {
        let ids: Vec<String> =
            self.started.lock().iter().map(|container| container.id().to_owned()).collect();
        let stops = ids.iter().map(|id| async move {
            let options = StopContainerOptionsBuilder::new().t(STOP_SECONDS).build();
            // Removal below is forced: an orderly end is a courtesy to the log, and its failure changes nothing.
            if let Err(error) = self.docker.stop_container(id, Some(options)).await {
                tracing::debug!("stop container {id}: {error}");
            }
        });
        futures::future::join_all(stops).await;
        self.remove_all().await
    }

    fn kill_now(&self) {
        // A runtime of its own on a thread of its own: a destructor may run on a runtime that is blocked or gone.
        let removed = std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok::<_, std::io::Error>(runtime.block_on(self.remove_all()))
            });
            work.join()
        });
        match removed {
            Ok(Ok(leftovers)) => {
                leftovers.iter().for_each(|left| tracing::warn!("{}: {}", left.kind, left.detail))
            }
            Ok(Err(error)) => tracing::warn!("containers stay behind: {error}"),
            Err(_) => tracing::warn!("containers stay behind: their removal panicked"),
        }
    }
}

/// Ids of the containers with a run's label.
pub(crate) async fn labelled(docker: &Docker, run: &str) -> anyhow::Result<Vec<String>> {
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![format!("{LABEL}={run}")])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker.list_containers(Some(options)).await.context("list containers")?;
    Ok(containers.into_iter().filter_map(|container| container.id).collect())
}

/// Removes the containers with a run's label; how many.
pub(crate) async fn remove_labelled(docker: &Docker, run: &str) -> anyhow::Result<usize> {
    let ids = labelled(docker, run).await?;
    for id in &ids {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        docker.remove_container(id, Some(options)).await.with_context(|| format!("remove container {id}"))?;
    }
    Ok(ids.len())
}
