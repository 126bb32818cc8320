//! The engine that is served now: loaded from the schema file and the database, loaded again when the file changes or when
//! somebody says `NOTIFY fraiseql_schema`, as every migration does.
//!
//! Promises: a schema that does not fit the database is never served; a broken file leaves the schema in place that was
//! served before, and says so in the log; a database that is away delays the first load and stops nothing; where neither
//! file nor database has changed the engine stays, with its plans.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use sqlx::Connection as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::access::unknown_guards;
use super::metrics::EngineMetrics;
use super::schema::catalogue::Catalogue;
use super::schema::compile::compile;
use super::schema::source::Problem;
use super::schema::store;
use super::{Engine, Settings};
use crate::cache::response::ResponseCache;
use crate::error::{Classify, ErrorKind, chain};
use crate::queue::Queue;
use crate::storage::postgres::{self, Postgres, listen};

/// How often the first load is tried again, and the file is looked at.
const PERIOD: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Whoever has changed the database says so here.
pub const CHANNEL: &str = "fraiseql_schema";

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The schema file cannot be read.
    #[error("could not read the schema {path}")]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database cannot say what it has.
    #[error("could not read what the database has")]
    Catalogue(#[source] store::Error),
    /// The database does not take a connection.
    #[error("could not reach the database")]
    Connect(#[source] postgres::Error),
    /// The schema does not fit the database.
    #[error("the schema {path} does not fit the database:\n{}", list(path, problems))]
    Problems {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problems: Vec<Problem>,
    },
    /// The schema names guards that this server does not have.
    #[error("the schema {path} names guards in @auth that are not registered here: {names}")]
    Guards {
        /// The file.
        path: PathBuf,
        /// Which.
        names: String,
    },
    /// The schema breaks a rule of GraphQL.
    #[error("the schema {path} is no valid schema: {source}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which rule.
        source: async_graphql::dynamic::SchemaError,
    },
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Catalogue(store::Error::Read(error)) => error.kind(),
            Self::Catalogue(_)
            | Self::File { .. }
            | Self::Problems { .. }
            | Self::Guards { .. }
            | Self::Invalid { .. } => ErrorKind::BadInput,
        }
    }
}

fn list(path: &std::path::Path, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{}:{problem}", path.display())).collect();
    lines.join("\n")
}

/// Where a schema comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The schema file.
    pub path: PathBuf,
    /// The database.
    pub url: String,
    /// Its schemas; empty: the search path.
    pub database_schemas: Vec<String>,
}

/// What the database has.
///
/// # Errors
/// When it cannot be reached or read.
pub async fn catalogue(source: &Source) -> Result<Catalogue, Error> {
    let mut connection =
        postgres::connect_alone(&source.url, CONNECT_TIMEOUT).await.map_err(Error::Connect)?;
    let catalogue = store::read(&mut connection, &source.database_schemas).await.map_err(Error::Catalogue)?;
    let _ = connection.close().await;
    Ok(catalogue)
}

/// The engine that is served, when there is one. Clones share it.
#[derive(Clone)]
pub struct Served {
    inner: Arc<Inner>,
}

struct Inner {
    current: RwLock<Option<Current>>,
    asked: Notify,
    source: Source,
    parts: Parts,
}

/// An engine and what it was made of.
struct Current {
    engine: Engine,
    text: String,
    catalogue: Catalogue,
}

/// What an engine is made with.
#[derive(Clone)]
pub struct Parts {
    /// Where statements run.
    pub postgres: Postgres,
    /// Where jobs go.
    pub queue: Option<Queue>,
    /// Where answers are kept.
    pub cache: Option<ResponseCache>,
    /// Limits and caches.
    pub settings: Settings,
    /// What is counted.
    pub metrics: EngineMetrics,
}

impl Served {
    /// Nothing is served until [`load`](Self::load) succeeds.
    pub fn new(source: Source, parts: Parts) -> Self {
        let (current, asked) = (RwLock::new(None), Notify::new());
        Self { inner: Arc::new(Inner { current, asked, source, parts }) }
    }

    /// The engine, if a schema was loaded.
    pub fn current(&self) -> Option<Engine> {
        self.inner.current.read().as_ref().map(|current| current.engine.clone())
    }

    /// Lets [`follow`](Self::follow) look at file and database soon.
    pub fn ask(&self) {
        self.inner.asked.notify_one();
    }

    /// Asks whenever the database says that it was changed. Runs until `cancel`; `url` leads past any pooler.
    pub async fn listen(&self, url: &str, cancel: CancellationToken) {
        let listening = listen::run(url, &[CHANNEL], |_| self.ask(), cancel).await;
        if let Err(error) = listening {
            tracing::error!(error = %chain(&error), "nobody listens for changes of the database");
        }
    }

    /// Reads file and database and serves what they are now.
    ///
    /// # Errors
    /// What is wrong; what was served stays.
    pub async fn load(&self) -> Result<(), Error> {
        let Inner { source, parts, .. } = &*self.inner;
        let path = source.path.clone();
        let text =
            std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let catalogue = catalogue(source).await?;
        let is_served = |current: &Current| current.text == text && current.catalogue == catalogue;
        if self.inner.current.read().as_ref().is_some_and(is_served) {
            tracing::debug!(schema = %path.display(), "the schema is as it was");
            return Ok(());
        }
        let compiled = compile(&text, &catalogue)
            .map_err(|problems| Error::Problems { path: path.clone(), problems })?;
        for warning in &compiled.warnings {
            tracing::warn!(schema = %path.display(), "{warning}");
        }
        let unknown = unknown_guards(&compiled.schema, &parts.settings.guards);
        if !unknown.is_empty() {
            return Err(Error::Guards { path, names: unknown.join(", ") });
        }
        let Parts { postgres, queue, cache, settings, metrics } = parts.clone();
        let engine = Engine::new(compiled.schema, postgres, queue, cache, settings, metrics)
            .map_err(|source| Error::Invalid { path: path.clone(), source })?;
        *self.inner.current.write() = Some(Current { engine, text, catalogue });
        tracing::info!(schema = %path.display(), "the schema is served");
        Ok(())
    }

    /// Loads until it has succeeded, then again when the file has changed and when it is asked to. Runs until `cancel`.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut seen = if self.current().is_some() { self.modified() } else { None };
        let mut asked = false;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.inner.asked.notified() => asked = true,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let modified = self.modified();
            if self.current().is_some() && modified == seen && !asked {
                continue;
            }
            match self.load().await {
                Ok(()) => (seen, asked) = (modified, false),
                // The database may be back at any time; a wrong file stays wrong until it changes.
                Err(error) if error.kind().is_retryable() => {
                    tracing::debug!(error = %chain(&error), "the schema could not be loaded yet");
                }
                Err(error) => {
                    if seen != modified || asked {
                        tracing::error!(error = %chain(&error), "the schema was not loaded, what was served stays");
                    }
                    (seen, asked) = (modified, false);
                }
            }
        }
    }

    fn modified(&self) -> Option<SystemTime> {
        std::fs::metadata(&self.inner.source.path).and_then(|metadata| metadata.modified()).ok()
    }
}
