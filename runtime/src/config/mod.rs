//! The configuration, shaped like `fraiseql.toml`: one file and one type per table.
//!
//! Each value is the default, unless the file says otherwise, unless the environment does.
//! A `Config` was validated: what is wrong stops the start with all problems at once, each with
//! its place, its value and what is allowed. The environment is read once, here and nowhere else.
//! Connection URLs come from the environment only and never appear in `Debug` output or messages.

pub mod auth;
pub mod cache;
mod check;
pub mod database;
pub mod error;
pub mod feature_flags;
pub mod graphql;
pub mod health;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod nats;
pub mod notifications;
pub mod outbox;
pub mod queue;
pub mod resilience;
pub mod server;
pub mod source;
pub mod tracing;
pub mod units;
pub mod url;
pub mod webhooks;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::check::Checks;
pub use self::error::Error;
use self::error::Problem;
use self::source::{Document, Environment};
use self::url::ConnectionUrl;

/// What the file says: one field per table, all optional in the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tables {
    pub server: server::Server,
    pub database: database::Database,
    pub cache: cache::Cache,
    pub nats: nats::Nats,
    pub outbox: outbox::Outbox,
    pub queue: queue::Queue,
    pub graphql: graphql::GraphQl,
    pub auth: auth::Auth,
    pub feature_flags: feature_flags::FeatureFlags,
    pub resilience: resilience::Resilience,
    pub limits: limits::Limits,
    pub backpressure: limits::Backpressure,
    pub notifications: notifications::Notifications,
    pub webhooks: webhooks::Webhooks,
    pub health: health::Health,
    pub logging: logging::Logging,
    pub metrics: metrics::Metrics,
    pub tracing: tracing::Tracing,
}

/// What the server runs with. Made by [`Config::load`] and [`Config::parse`] alone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    pub server: server::Server,
    pub database: database::Database,
    pub cache: cache::Cache,
    pub nats: nats::Nats,
    pub outbox: outbox::Outbox,
    pub queue: queue::Queue,
    pub graphql: graphql::GraphQl,
    pub auth: auth::Auth,
    pub feature_flags: feature_flags::FeatureFlags,
    pub resilience: resilience::Resilience,
    pub limits: limits::Limits,
    pub backpressure: limits::Backpressure,
    pub notifications: notifications::Notifications,
    pub webhooks: webhooks::Webhooks,
    pub health: health::Health,
    pub logging: logging::Logging,
    pub metrics: metrics::Metrics,
    pub tracing: tracing::Tracing,
    pub urls: Urls,
    /// By which the senders of webhooks are believed, by the webhooks' names.
    pub webhook_secrets: BTreeMap<String, webhooks::Secret>,
    pub mode: Mode,
}

/// Where the dependencies are, from the variables that the tables' `url_env` name.
#[derive(Debug, Clone)]
pub struct Urls {
    pub database: ConnectionUrl,
    /// The database past any pooler: that of `direct_url_env`, else `database` where no pooler lends transactions.
    pub database_direct: Option<ConnectionUrl>,
    pub redis: ConnectionUrl,
    pub nats: ConnectionUrl,
    /// Of the actions that have one, where notifications are enabled.
    pub notifications: NotificationUrls,
}

/// Where notifications go; the URLs hold secrets.
#[derive(Debug, Clone, Default)]
pub struct NotificationUrls {
    pub webhook: Option<ConnectionUrl>,
    pub slack: Option<ConnectionUrl>,
    pub email: Option<ConnectionUrl>,
}

const POSTGRES: [&str; 2] = ["postgres", "postgresql"];

/// `FRAISEQL_ENV`, or `FRAISEQL_MODE` which means the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Development,
    /// As production, with more of its traces kept.
    Staging,
    /// Adds `Strict-Transport-Security` to every answer.
    Production,
}

impl Config {
    /// Reads the file, then lets the environment override it.
    ///
    /// # Errors
    /// [`Error::Read`] when the file cannot be read, [`Error::Invalid`] with every problem found.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, &path.display().to_string(), environment)
    }

    /// As [`Config::load`], of a text; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every problem found.
    pub fn parse(text: &str, name: &str, environment: &Environment) -> Result<Self, Error> {
        let document = Document::parse(text, name)?;
        let mut problems = document.unknown_keys(&Tables::default());
        let tables = document.read::<Tables>(&mut problems);
        let mut tables = match tables {
            Some(tables) if problems.is_empty() => tables,
            _ => return Err(Error::invalid(problems)),
        };
        let mut checks = Checks::default();
        tables.check(&mut checks);
        problems.extend(checks.into_problems(&document));

        let named = Mode::read(environment, &mut problems);
        let mode = named.unwrap_or_default();
        if let Some(mode) = named {
            tables.logging.suit(mode, |key| document.has("logging", key));
        }
        tables.logging.apply(environment, &mut problems);
        let rate_is_written = document.has("tracing", "sample_rate");
        tables.tracing.apply(mode, rate_is_written, environment, &mut problems);
        let urls = Urls::read(&tables, environment, &mut problems);
        let secrets = tables.webhooks.secrets(environment, &mut problems);
        match urls {
            Some(urls) if problems.is_empty() => Ok(Self::assemble(tables, urls, secrets, mode)),
            _ => Err(Error::invalid(problems)),
        }
    }

    fn assemble(
        tables: Tables,
        urls: Urls,
        webhook_secrets: BTreeMap<String, webhooks::Secret>,
        mode: Mode,
    ) -> Self {
        let Tables {
            server,
            database,
            cache,
            nats,
            outbox,
            queue,
            graphql,
            auth,
            feature_flags,
            resilience,
            limits,
            backpressure,
            notifications,
            webhooks,
            health,
            logging,
            metrics,
            tracing,
        } = tables;
        let limits = limits.canonical();
        Self {
            server,
            database,
            cache,
            nats,
            outbox,
            queue,
            graphql,
            auth,
            feature_flags,
            resilience,
            limits,
            backpressure,
            notifications,
            webhooks,
            health,
            logging,
            metrics,
            tracing,
            urls,
            webhook_secrets,
            mode,
        }
    }
}

impl Tables {
    fn check(&self, checks: &mut Checks) {
        self.server.check(&mut checks.table("server"));
        self.database.check(&mut checks.table("database"));
        self.database.migrations.check(&mut checks.table("database.migrations"));
        self.cache.redis.check(&mut checks.table("cache.redis"));
        self.cache.response.check(&mut checks.table("cache.response"));
        self.nats.check(&mut checks.table("nats"));
        self.outbox.check(&mut checks.table("outbox"));
        self.queue.check(&mut checks.table("queue"));
        self.graphql.check(&mut checks.table("graphql"));
        self.graphql.persisted.check(&mut checks.table("graphql.persisted"));
        self.graphql.subscriptions.check(&mut checks.table("graphql.subscriptions"));
        self.auth.check(&mut checks.table("auth"));
        self.feature_flags.check(&mut checks.table("feature_flags"));
        self.resilience.check(checks);
        self.limits.check(&mut checks.table("limits"));
        self.limits.tiers.check(&mut checks.table("limits.tiers"));
        self.limits.checklist.check(&mut checks.table("limits.checklist"));
        self.backpressure.check(&mut checks.table("backpressure"));
        self.notifications.check(checks);
        self.webhooks.check(checks);
        self.health.check(&mut checks.table("health"));
        self.logging.check(&mut checks.table("logging"));
        self.tracing.check(&mut checks.table("tracing"));
    }
}

impl Urls {
    /// The database past any pooler, for what needs a session of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is only a pooler.
    pub fn direct(&self, database: &database::Database) -> Result<&ConnectionUrl, Error> {
        self.database_direct.as_ref().ok_or_else(|| {
            let what =
                "is not set, and database.transaction_pooling is on: a pooler has no session that lasts";
            Error::invalid(vec![Problem::variable(
                &database.direct_url_env,
                what,
                "a URL that leads past the pooler",
            )])
        })
    }

    fn read(tables: &Tables, environment: &Environment, problems: &mut Vec<Problem>) -> Option<Self> {
        let database = [tables.database.url_env.as_str(), "FRAISEQL_DATABASE_URL", "XZEPR__DATABASE__URL"];
        let database = url::read(&database, &POSTGRES, environment, problems);
        let direct = tables.database.direct_url_env.as_str();
        let database_direct = match environment.get(direct) {
            Some(_) => url::read(&[direct], &POSTGRES, environment, problems),
            None if tables.database.transaction_pooling => None,
            None => database.clone(),
        };
        let redis = url::read(
            &[&tables.cache.redis.url_env],
            &["redis", "rediss", "redis+unix"],
            environment,
            problems,
        );
        let nats = url::read(&[&tables.nats.url_env], &["nats", "tls"], environment, problems);
        let notifications = NotificationUrls::read(&tables.notifications, environment, problems);
        Some(Self { database: database?, database_direct, redis: redis?, nats: nats?, notifications })
    }
}

impl NotificationUrls {
    fn read(
        table: &notifications::Notifications,
        environment: &Environment,
        problems: &mut Vec<Problem>,
    ) -> Self {
        use notifications::Action;
        let mut of = |action: Action, schemes: &[&str]| {
            let name = table.url_env(action).filter(|_| table.enabled)?;
            url::read(&[name], schemes, environment, problems)
        };
        Self {
            webhook: of(Action::Webhook, &["https", "http"]),
            slack: of(Action::Slack, &["https", "http"]),
            email: of(Action::Email, &["smtps", "smtp"]),
        }
    }
}

impl Mode {
    /// As it is written in `FRAISEQL_ENV`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// `None` when no variable names one.
    fn read(environment: &Environment, problems: &mut Vec<Problem>) -> Option<Self> {
        const NAMES: [&str; 2] = ["FRAISEQL_ENV", "FRAISEQL_MODE"];
        const ALLOWED: &str = "\"production\", \"staging\" or \"development\"";
        let mut found: Option<(&str, Self)> = None;
        for name in NAMES {
            let Some(value) = environment.get(name) else { continue };
            let modes = [Self::Development, Self::Staging, Self::Production];
            let Some(mode) = modes.into_iter().find(|mode| mode.name() == value) else {
                problems.push(Problem::variable(name, &format!("is {value:?}"), ALLOWED));
                continue;
            };
            match found {
                Some((first, other)) if other != mode => problems.push(Problem::variable(
                    name,
                    &format!("contradicts {first}"),
                    "one of the two, or the same value in both",
                )),
                _ => found = Some((name, mode)),
            }
        }
        found.map(|(_, mode)| mode)
    }
}
