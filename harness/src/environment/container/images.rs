//! Which image a service gets: the named one when it is local or can be pulled, else the locally built one.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::CreateImageOptionsBuilder;

use crate::environment::settings::{ServiceSettings, split_image};

/// An image that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// `name:tag`.
    pub name: String,
    /// Its content, for the report.
    pub id: String,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.id.trim_start_matches("sha256:").chars().take(12).collect();
        write!(f, "image {} ({short})", self.name)
    }
}

/// The image if the engine has it.
pub(crate) async fn local(docker: &Docker, name: &str) -> Option<Image> {
    let image = docker.inspect_image(name).await.ok()?;
    Some(Image { name: name.into(), id: image.id.unwrap_or_default() })
}

/// Finds or pulls; the error says what was tried.
pub(crate) async fn resolve(
    docker: &Docker,
    wanted: &ServiceSettings,
    within: Duration,
) -> Result<Image, String> {
    if let Some(image) = local(docker, &wanted.image).await {
        return Ok(image);
    }
    let reason = match pull(docker, &wanted.image, within).await {
        Ok(()) => match local(docker, &wanted.image).await {
            Some(image) => return Ok(image),
            None => "it was pulled and is not there".to_owned(),
        },
        Err(reason) => reason,
    };
    let tried = format!("image {} is not local and cannot be pulled ({reason})", wanted.image);
    if wanted.local.is_empty() {
        return Err(tried);
    }
    match local(docker, &wanted.local).await {
        Some(image) => {
            tracing::info!("{tried}: {} instead", wanted.local);
            Ok(image)
        }
        None => Err(format!("{tried}, and {} is not built", wanted.local)),
    }
}

async fn pull(docker: &Docker, name: &str, within: Duration) -> Result<(), String> {
    let (repository, tag) = split_image(name).ok_or_else(|| format!("{name} is not name:tag"))?;
    let options = CreateImageOptionsBuilder::new().from_image(repository).tag(tag).build();
    tracing::info!("pulling {name}");
    let pull = async {
        let mut progress = docker.create_image(Some(options), None, None).boxed();
        while let Some(step) = progress.next().await {
            step.map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    tokio::time::timeout(within, pull).await.map_err(|_| format!("not within {within:?}"))?
}
