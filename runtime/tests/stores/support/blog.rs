//! The blog: the second schema, served by the same engine over a database of its own.

use std::path::Path;
use std::time::Duration;

use fraiseql_runtime::cache::response::ResponseCache;
use fraiseql_runtime::engine::limits::Limits;
use fraiseql_runtime::engine::loader::{Parts, Served, Source};
use fraiseql_runtime::engine::metrics::EngineMetrics;
use fraiseql_runtime::engine::plan_cache::Bounds;
use fraiseql_runtime::engine::{Engine, Gates, Request, Settings};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::security::guard::Guards;
use fraiseql_runtime::storage::postgres::{self, Postgres};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::Stage;

/// An engine over a migrated and seeded blog.
pub struct Blog {
    pub engine: Engine,
}

impl Blog {
    pub async fn open(stage: &Stage) -> Self {
        let url = stage.database(stage.number()).await.to_string();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/blog"));
        let blog = Self::serving(url, &folder.join("schema.graphql"), &files(folder)).await;
        blog.expect("the blog's schema fits its database")
    }

    /// An engine over the migrated and seeded database of any schema of `fixtures/schemas`, after more statements; and
    /// the database.
    pub async fn open_schema(stage: &Stage, name: &str, more: &[String]) -> (Self, String) {
        let url = stage.database(stage.number()).await.to_string();
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas")).join(name);
        let mut statements = files(&folder);
        statements.extend(more.iter().cloned());
        let served = Self::serving(url.clone(), &folder.join("schema.graphql"), &statements).await;
        (served.expect("the schema fits its database"), url)
    }

    /// An engine over a schema of a few lines.
    pub async fn with(stage: &Stage, schema: &str, tables: &str) -> Self {
        let url = stage.database(stage.number()).await.to_string();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("schema.graphql");
        std::fs::write(&path, schema).expect("written");
        Self::serving(url, &path, &[tables.to_owned()]).await.expect("the schema fits its database")
    }

    /// An engine over a database made by these statements.
    pub async fn serving(
        url: String,
        schema: &Path,
        statements: &[String],
    ) -> Result<Self, fraiseql_runtime::engine::loader::Error> {
        let mut connection = PgConnection::connect(&url).await.expect("the database answers");
        for text in statements {
            sqlx::raw_sql(sqlx::AssertSqlSafe(text.clone()))
                .execute(&mut connection)
                .await
                .expect("statements");
        }
        connection.close().await.expect("closed");
        Self::over(Source { path: schema.to_owned(), url, database_schemas: Vec::new() }).await
    }

    /// An engine over a database that is there.
    pub async fn over(source: Source) -> Result<Self, fraiseql_runtime::engine::loader::Error> {
        Self::guarded(source, Guards::default()).await
    }

    /// As [`over`](Self::over), with guards that its schema names.
    pub async fn guarded(
        source: Source,
        guards: Guards,
    ) -> Result<Self, fraiseql_runtime::engine::loader::Error> {
        Self::cached(source, guards, None).await
    }

    /// As [`guarded`](Self::guarded), with a cache of answers.
    pub async fn cached(
        source: Source,
        guards: Guards,
        cache: Option<ResponseCache>,
    ) -> Result<Self, fraiseql_runtime::engine::loader::Error> {
        let limits = postgres::Limits {
            min_connections: 0,
            max_connections: 8,
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(600),
        };
        let settings = Settings {
            limits: Limits::default(),
            plans: Bounds { entries_max: 1_000, bytes_max: 1 << 20 },
            introspection: true,
            subject_prefix: "blog".to_owned(),
            guards,
            behind: Gates::default(),
            gate: fraiseql_runtime::outbox::Gate::default(),
        };
        let postgres = Postgres::new(&source.url, limits, Duration::from_secs(5)).expect("a URL");
        let metrics = Metrics::new().area(EngineMetrics::register);
        let served = Served::new(source, Parts { postgres, queue: None, cache, settings, metrics });
        served.load().await?;
        Ok(Self { engine: served.current().expect("loaded") })
    }

    /// The whole answer.
    pub async fn answer(&self, query: &str, variables: Value) -> Value {
        let variables = serde_json::from_value(variables).expect("variables are an object");
        let request = Request { query: query.to_owned(), operation_name: None, variables };
        let body = self.engine.execute(&request).await.body;
        serde_json::from_slice(&body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&body)))
    }

    /// The data of an answer without errors.
    pub async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.answer(query, variables).await;
        assert_eq!(answer.get("errors"), None, "{query}: {answer}");
        answer["data"].take()
    }

    /// The codes and messages of an answer's errors.
    pub async fn errors(&self, query: &str, variables: Value) -> Vec<(String, String)> {
        let answer = self.answer(query, variables).await;
        let errors = answer["errors"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        errors.iter().map(|error| (text(&error["extensions"]["code"]), text(&error["message"]))).collect()
    }
}

/// The migrations in their order, then the seed.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("migrations")).expect("migrations");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.push(folder.join("seed.sql"));
    paths.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect()
}
