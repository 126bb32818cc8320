//! The services of one server, with stores of their own behind links that can be cut.

use std::path::{Path, PathBuf};

use fraiseql_runtime::app_state::AppState;
use fraiseql_runtime::config::Config;
use fraiseql_runtime::config::database::Migrations;
use fraiseql_runtime::config::source::Environment;
use fraiseql_runtime::engine::Request;
use fraiseql_runtime::ids::OrderId;
use fraiseql_runtime::migration::{self, MIGRATIONS};
use fraiseql_runtime::observability::metrics::Metrics;
use harness::environment::ServiceName;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::bouncer::Bouncer;
use super::orders::{self, InvoiceRequest, NewOrder, Order, Refused, StatusChange, order};
use super::{Link, Stage, eventually};

/// The schema that is served.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas/ecommerce/schema.graphql");
/// What the environment has as `TEST_SECRET`, by which senders of webhooks sign.
pub const WEBHOOK_SECRET: &str = "whsec_test";
const SEED: &str = include_str!("../../../../fixtures/schemas/ecommerce/seed.sql");

/// What every shop has; a test says what it wants otherwise.
const SETTINGS: &str = r#"
    database.min_connections = 1
    database.max_connections = 24
    cache.redis.pool_size = 2
    nats.publish_timeout = "1s"
    outbox.poll_interval = "10ms"
    queue.poll_interval = "10ms"
    # Tests of other things ask more in a moment than one client may.
    limits.policy = "load-test"
"#;

/// One server's services, without HTTP.
pub struct Shop {
    pub state: AppState,
    pub postgres: Link,
    /// The database past link and pooler.
    pub postgres_direct: Url,
    pub redis: Link,
    pub nats: Link,
    /// Stream of the events; subjects begin with the same word.
    pub stream: String,
    pub(super) metrics: Metrics,
    settings: toml::Table,
    mode: &'static str,
    folder: tempfile::TempDir,
    own_schema: Option<tempfile::TempDir>,
    stop: CancellationToken,
    workers: JoinSet<()>,
}

impl Shop {
    /// A migrated and seeded database, an empty queue, no stream. Connections are kept up; no other worker runs.
    pub async fn open(stage: &Stage) -> Self {
        Self::open_with(stage, "").await
    }

    /// As [`Shop::open`], with settings of the test's own: dotted keys, one a line. `targets.webhook`, `slack` and `email`
    /// are the values of `WEBHOOK_URL`, `SLACK_URL` and `SMTP_URL`.
    pub async fn open_with(stage: &Stage, settings: &str) -> Self {
        Self::open_as(stage, settings, "development").await
    }

    /// As [`Shop::open`], with a copy of the schema file that a test may change.
    pub async fn with_own_schema(stage: &Stage) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("schema.graphql");
        std::fs::copy(SCHEMA, &path).expect("copied");
        let mut shop = Self::open_with(stage, &format!("graphql.schema = {path:?}")).await;
        shop.own_schema = Some(folder);
        shop
    }

    /// The file that is served.
    pub fn schema_file(&self) -> PathBuf {
        self.config().graphql.schema
    }

    /// As [`Shop::open_with`], in `production` or `development`.
    pub async fn open_as(stage: &Stage, settings: &str, mode: &'static str) -> Self {
        Self::open_over(stage, settings, mode, None).await
    }

    /// As [`Shop::open_with`], with a pooler before the database.
    pub async fn open_behind(stage: &Stage, settings: &str, bouncer: &Bouncer) -> Self {
        Self::open_over(stage, settings, "development", Some(bouncer)).await
    }

    async fn open_over(stage: &Stage, settings: &str, mode: &'static str, bouncer: Option<&Bouncer>) -> Self {
        let number = stage.number();
        let database = stage.database(number).await;
        let limits = Migrations::default();
        let within = std::time::Duration::from_secs(10);
        migration::run::run(database.as_str(), within, &MIGRATIONS, &limits).await.expect("migrated");
        let mut redis = stage.url(ServiceName::Redis);
        redis.set_path(&format!("/{number}"));
        let served = bouncer.map_or_else(|| database.clone(), |bouncer| bouncer.before(&database));
        let (postgres, redis) = (Link::to(served).await, Link::to(redis).await);
        let nats = Link::to(stage.url(ServiceName::Nats)).await;

        let folder = tempfile::tempdir().expect("a folder");
        let stream = format!("events{number}");
        let mut table: toml::Table = toml::from_str(SETTINGS).expect("the usual settings");
        merge(&mut table, toml::from_str(&format!("graphql.schema = {SCHEMA:?}")).expect("a path"));
        merge(&mut table, toml::from_str(settings).expect("the test's settings"));
        let own = format!(
            "nats.stream = {stream:?}\nnats.subject_prefix = {stream:?}\nqueue.spool_dir = {:?}",
            folder.path().display().to_string()
        );
        merge(&mut table, toml::from_str(&own).expect("the shop's own settings"));

        let (state, metrics) =
            build(&table, mode, [&postgres, &redis, &nats], &database).await.expect("the services are made");
        let (stop, workers) = (CancellationToken::new(), JoinSet::new());
        let mut shop = Self {
            state,
            postgres,
            postgres_direct: database,
            redis,
            nats,
            stream,
            metrics,
            settings: table,
            mode,
            folder,
            own_schema: None,
            stop,
            workers,
        };
        shop.run(SEED).await;
        shop.connect().await;
        shop
    }

    /// Starts background work by its names.
    pub fn start(&mut self, names: &[&str]) {
        let mut known = self.state.workers();
        for name in names {
            let at = known.iter().position(|(known, _)| known == name).expect("a worker of that name");
            let (_, start) = known.swap_remove(at);
            self.workers.spawn(start(self.stop.clone()));
        }
    }

    /// Ends the services as a process would end, and starts them again over the same stores, spool and links.
    pub async fn restart(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("no worker panics");
        }
        drop(self.state);
        // The spool's writer ends a moment after its last handle; another process would not be let in before.
        let segments = spool_files(self.folder.path());
        eventually("the spool is let go", async || {
            let lock = std::fs::File::open(self.folder.path().join("lock")).expect("a lock file");
            lock.try_lock().map_err(|error| error.to_string())
        })
        .await;
        if let Some(last) = segments.last() {
            meanwhile(last);
        }
        let links = [&self.postgres, &self.redis, &self.nats];
        let built = build(&self.settings, self.mode, links, &self.postgres_direct).await;
        let (state, metrics) = built.expect("the services are made");
        let (stop, workers) = (CancellationToken::new(), JoinSet::new());
        Self { state, metrics, stop, workers, ..self }
    }

    /// Another server's services over the same stores and links, with a spool of its own.
    pub(super) async fn build_beside(&self, spool: &Path) -> (AppState, Metrics) {
        let mut table = self.settings.clone();
        let own = format!("queue.spool_dir = {:?}", spool.display().to_string());
        merge(&mut table, toml::from_str(&own).expect("a path"));
        let links = [&self.postgres, &self.redis, &self.nats];
        build(&table, self.mode, links, &self.postgres_direct).await.expect("the services are made")
    }

    /// Why a server with these settings besides does not start.
    pub async fn refuses(&self, settings: &str) -> String {
        let mut table = self.settings.clone();
        let spool = tempfile::tempdir().expect("a folder");
        merge(&mut table, toml::from_str(settings).expect("the test's settings"));
        let own = format!("queue.spool_dir = {:?}", spool.path().display().to_string());
        merge(&mut table, toml::from_str(&own).expect("a path"));
        let links = [&self.postgres, &self.redis, &self.nats];
        let built = build(&table, self.mode, links, &self.postgres_direct).await;
        fraiseql_runtime::error::chain(&built.err().expect("it does not start"))
    }

    /// The tables of flags and rollouts.
    pub async fn migrate_own(&self) {
        let within = std::time::Duration::from_secs(10);
        let limits = Migrations::default();
        migration::run::run_own(self.postgres_direct.as_str(), within, &limits).await.expect("migrated");
    }

    /// Starts what keeps the connections up, and waits until NATS is connected too.
    pub async fn connect(&mut self) {
        self.start(&["postgres-pool", "redis-connections"]);
        let mut checks = fraiseql_runtime::observability::health::HealthChecker::new("1");
        self.state.add_health_checks(&mut checks);
        eventually("the stores are connected", async || {
            let report = checks.run().await;
            if report.status == "healthy" { Ok(()) } else { Err(format!("{report:?}")) }
        })
        .await;
    }

    /// What the services were made with.
    pub fn config(&self) -> Config {
        config(&self.settings, self.mode, [&self.postgres, &self.redis, &self.nats], &self.postgres_direct)
    }

    /// Places an order.
    pub async fn place(&self, order: NewOrder) -> Result<Order, Refused> {
        orders::create(&self.state, order).await
    }

    /// Answers an operation of somebody who is not known.
    pub async fn answer(&self, query: &str) -> serde_json::Value {
        let engine = self.state.served.current().expect("a schema is served");
        let answer = engine.execute(&Request { query: query.to_owned(), ..Request::default() }).await;
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// Moves an order on.
    pub async fn change_status(&self, change: StatusChange) -> Result<Order, Refused> {
        orders::change_status(&self.state, change).await
    }

    /// Has an invoice written.
    pub async fn request_invoice(
        &self,
        order: OrderId,
        key: Option<String>,
    ) -> Result<InvoiceRequest, Refused> {
        orders::request_invoice(&self.state, order, key).await
    }

    /// Places so many orders and answers their ids.
    pub async fn place_many(&self, count: usize) -> Vec<OrderId> {
        let mut ids = Vec::with_capacity(count);
        for n in 0..count {
            ids.push(self.place(order(&[(1 + n as i64, 1)])).await.expect("placed").id);
        }
        ids
    }

    /// A connection past link, pooler and pool.
    pub async fn sql(&self) -> PgConnection {
        PgConnection::connect(self.postgres_direct.as_str()).await.expect("the database answers")
    }

    /// Runs statements past the services.
    pub async fn run(&self, statements: &str) {
        let mut connection = self.sql().await;
        let statements = sqlx::AssertSqlSafe(statements.to_owned());
        sqlx::raw_sql(statements).execute(&mut connection).await.expect("statements of the test");
        connection.close().await.expect("closed");
    }

    /// One number from a statement.
    pub async fn count(&self, statement: &str) -> i64 {
        let mut connection = self.sql().await;
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        let found = sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("a count");
        connection.close().await.expect("closed");
        found
    }

    /// Rows of a table.
    pub async fn rows(&self, table: &str) -> i64 {
        self.count(&format!("SELECT count(*) FROM {table}")).await
    }

    /// Sum of a metric's series, if there are any.
    pub fn metric_if_there(&self, name: &str) -> Option<f64> {
        // One look: a series that is there now may be gone at the next.
        let text = self.metrics.classic();
        let of_name = |rest: &&str| name.contains('{') || rest.starts_with([' ', '{']);
        let values = text.lines().filter_map(|line| {
            line.strip_prefix(name).filter(of_name)?.rsplit_once(' ')?.1.parse::<f64>().ok()
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
    }

    /// Sum of a metric's series, which must be there. `name` is a whole one, and may be followed by how the labels begin.
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_if_there(name).unwrap_or_else(|| panic!("there is no series {name}"))
    }

    /// The files of the spool, oldest first.
    pub fn spool_files(&self) -> Vec<PathBuf> {
        spool_files(self.folder.path())
    }

    /// Ends the work and the links; a worker that panicked fails the test.
    pub async fn close(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("no worker panics");
        }
        for link in [&self.postgres, &self.redis, &self.nats] {
            link.close().await;
        }
    }
}

async fn build(
    settings: &toml::Table,
    mode: &str,
    links: [&Link; 3],
    direct: &Url,
) -> Result<(AppState, Metrics), fraiseql_runtime::app_state::Error> {
    let config = config(settings, mode, links, direct);
    let metrics = Metrics::new();
    // A box of its own: many tests hold what this awaits.
    Ok((Box::pin(AppState::build(&config, &metrics)).await?, metrics))
}

fn config(settings: &toml::Table, mode: &str, [postgres, redis, nats]: [&Link; 3], direct: &Url) -> Config {
    let mut settings = settings.clone();
    let targets = settings.remove("targets").unwrap_or_else(|| toml::Table::new().into());
    let target =
        |name: &str| targets.get(name).and_then(toml::Value::as_str).unwrap_or("unset://").to_owned();
    let environment = Environment::from([
        ("WEBHOOK_URL", target("webhook").as_str()),
        ("SLACK_URL", target("slack").as_str()),
        ("SMTP_URL", target("email").as_str()),
        ("TEST_SECRET", WEBHOOK_SECRET),
        ("DATABASE_URL", postgres.through.as_str()),
        ("DATABASE_DIRECT_URL", direct.as_str()),
        ("REDIS_URL", redis.through.as_str()),
        ("NATS_URL", nats.through.as_str()),
        ("FRAISEQL_ENV", mode),
    ]);
    let text = toml::to_string(&settings).expect("TOML");
    Config::parse(&text, "stores.toml", &environment).expect("the shop's configuration is valid")
}

fn spool_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the spool's folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "spool")).collect();
    files.sort();
    files
}

/// Tables are merged, everything else is replaced.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}
