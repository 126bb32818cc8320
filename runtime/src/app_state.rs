//! The services of the product, made once from the configuration, with their health checks and background work.
//!
//! Nothing here waits for a dependency: a server whose database, Redis or NATS is away starts all the same, and its
//! health says so.

mod flags;
mod limits;
mod stores;

use std::sync::Arc;

pub use self::limits::HoldSettings;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::cache;
use crate::cache::metrics::CacheMetrics;
use crate::cache::response::ResponseCache;
use crate::clock::{Clock, SystemClock};
use crate::config::cache::Backend;
use crate::config::{self, Config, Mode};
use crate::engine::health::SchemaCheck;
use crate::engine::job::FunctionExecutor;
use crate::engine::limits::Limits;
use crate::engine::loader::{self, Parts, Served, Source};
use crate::engine::metrics::{EngineMetrics, Errors};
use crate::engine::persisted::{self, Persisted, Rules};
use crate::engine::plan_cache::Bounds;
use crate::engine::{Gates, Settings};
use crate::error::{Classify, ErrorKind, chain};
use crate::events::Hub;
use crate::events::metrics::SubscriptionMetrics;
use crate::feature_flags::cohorts::Cohorts;
use crate::feature_flags::stored::StoredFlags;
use crate::migration::rollout::Rollouts;
use crate::migration::rollout::metrics::RolloutMetrics;
use crate::notifications::metrics::NotificationMetrics;
use crate::notifications::worker::Worker as NotificationWorker;
use crate::notifications::{self, Notifier, Targets};
use crate::observability::health::HealthChecker;
use crate::observability::metrics::Metrics;
use crate::observability::trace::Tracer;
use crate::observability::trace::export::Exporter;
use crate::outbox::metrics::OutboxMetrics;
use crate::outbox::{self, Gate, Relay};
use crate::queue::Queue;
use crate::queue::fallback::Fallback;
use crate::queue::metrics::QueueMetrics;
use crate::queue::redis::RedisQueue;
use crate::queue::worker::{self, Worker as JobWorker};
use crate::resilience::admission::Admission;
use crate::resilience::admission::metrics::AdmissionMetrics;
use crate::resilience::degradation::{DegradationMetrics, Registrar};
use crate::resilience::dependency::CallMetrics;
use crate::security::api_key::ApiKeys;
use crate::security::guard::{Caller, Guards};
use crate::security::monitor::SecurityMonitor;
use crate::storage::health::{DatabaseCheck, NatsCheck, RedisCheck};
use crate::storage::metrics::{DependencyMetrics, PoolCollector, ReplicationMetrics};
use crate::storage::nats::{self, Nats};
use crate::storage::postgres::{self, Postgres};
use crate::storage::redis::{self, Redis};
use crate::storage::replication;
use crate::storage::spool;
use crate::webhooks::metrics::WebhookMetrics;
use crate::webhooks::{self, Webhooks};

/// Errors of the start. A dependency that is away is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database's URL cannot be used.
    #[error("could not set up the database")]
    Postgres(#[from] postgres::Error),
    /// Redis' URL cannot be used.
    #[error("could not set up redis")]
    Redis(#[from] redis::Error),
    /// NATS' URL cannot be used.
    #[error("could not set up nats")]
    Nats(#[from] nats::Error),
    /// The spool's folder cannot be used.
    #[error("could not open the spool in {folder}")]
    Spool {
        /// Where it should be.
        folder: std::path::PathBuf,
        /// Why not.
        #[source]
        source: spool::Error,
    },
    /// A target of notifications cannot be used.
    #[error("could not set up notifications")]
    Notifications(#[from] notifications::Error),
    /// A webhook has a handler that the schema does not take.
    #[error(transparent)]
    Webhooks(#[from] webhooks::Unfit),
    /// The schema does not fit the database, or cannot be read.
    #[error(transparent)]
    Schema(#[from] loader::Error),
    /// The operations that callers may name cannot be read.
    #[error(transparent)]
    Persisted(#[from] persisted::Error),
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Postgres(error) => error.kind(),
            Self::Redis(error) => error.kind(),
            Self::Nats(error) => error.kind(),
            Self::Spool { source, .. } => source.kind(),
            Self::Notifications(error) => error.kind(),
            Self::Schema(error) => error.kind(),
            Self::Persisted(_) | Self::Webhooks(_) => ErrorKind::BadInput,
        }
    }
}

/// Starts a background task that ends when its token is cancelled, and only then.
pub type WorkerFactory = Box<dyn Fn(CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// The services.
pub struct AppState {
    /// Answers GraphQL.
    pub served: Served,
    /// Operations that callers name.
    pub persisted: Arc<Persisted>,
    /// Where subscriptions get their events.
    pub hub: Hub,
    /// What subscriptions may take.
    pub subscriptions: config::graphql::Subscriptions,
    /// Whether the page for trying operations is served.
    pub mode: Mode,
    /// Operations in one request; 0 takes no lists of them.
    pub batch_max: usize,
    /// What others tell us.
    pub webhooks: Webhooks,
    /// Whom callers may show to be.
    pub api_keys: ApiKeys,
    /// Where parts of the server tell that they work by their fallback.
    pub degradations: Registrar,
    /// What is on for whom.
    pub flags: StoredFlags,
    /// How features come to their users.
    pub rollouts: Rollouts,
    /// How much callers may ask; `None` where that is not limited.
    pub limits: Option<crate::limits::Limits>,
    /// How many requests are executed at a time.
    pub admission: Admission,
    /// The series of that.
    pub admission_metrics: AdmissionMetrics,
    /// Where the bodies of requests that wait are kept; `None` where they wait for their turn unread.
    pub hold: Option<HoldSettings>,
    /// Counts and logs what callers may not.
    pub monitor: SecurityMonitor,
    /// Counts errors in answers.
    pub errors: Errors,
    /// Begins traces.
    pub tracer: Tracer,
    exporter: Option<Exporter>,
    cache: Option<ResponseCache>,
    postgres: Postgres,
    /// Past any pooler, for what needs a session that lasts.
    direct_url: Option<Arc<str>>,
    redis: Redis,
    nats: Nats,
    relay: Relay,
    notifications: Option<NotificationWorker>,
    jobs: JobWorker,
    job_workers: u32,
    fallback: Option<Fallback>,
    fallback_enabled: bool,
    dependencies: DependencyMetrics,
    replication: ReplicationMetrics,
}

impl AppState {
    /// Makes the services and registers their metrics: once per registry.
    pub async fn build(config: &Config, metrics: &Metrics) -> Result<Self, Error> {
        let (tracer, exporter) = Tracer::new(&config.tracing, metrics);
        let persisted = Arc::new(persisted_operations(config)?);
        let degradations = Registrar::new(metrics.area(DegradationMetrics::register), Arc::new(SystemClock));
        let calls = metrics.area(CallMetrics::register);
        let [for_postgres, for_redis, for_nats] = stores::dependencies(config, &calls);
        let postgres = stores::postgres(config)?.with_dependency(for_postgres);
        let monitor = SecurityMonitor::new(metrics, Arc::new(SystemClock));
        metrics.area(|registry| registry.register_collector(Box::new(PoolCollector::new(postgres.clone()))));
        let redis = stores::redis(config)?.with_dependency(for_redis);
        let nats = stores::nats(config).await?.with_dependency(for_nats);

        let queue_metrics = metrics.area(QueueMetrics::register);
        let fallback_enabled = config.cache.redis.fallback_enabled;
        let fallback = if fallback_enabled {
            Some(stores::fallback(config, &queue_metrics, &degradations)?)
        } else {
            None
        };
        let redis_queue =
            RedisQueue::new(redis.clone(), config.queue.visibility_timeout, config.queue.max_attempts);
        let queue = Queue::new(redis_queue.clone(), fallback.clone(), queue_metrics.clone());
        let cache = response_cache(config, &redis, &degradations, metrics);
        let (flags, cohorts) = (flags::of_database(config, &postgres, metrics), Cohorts::default());
        let rollouts = Rollouts::new(&postgres, cohorts.clone(), metrics.area(RolloutMetrics::register));
        let behind = Gates { flags: flags.service.clone(), cohorts };
        let gate = Gate::default();
        let engine_metrics = metrics.area(EngineMetrics::register);
        let engine_metrics = engine_metrics.knowing(persisted.operation_names()).watched_by(monitor.clone());
        let errors = engine_metrics.errors.clone();
        let served =
            serve(config, &postgres, &queue, cache.clone(), (behind, gate.clone()), engine_metrics).await?;
        let jobs = JobWorker {
            queue: redis_queue,
            executor: Arc::new(FunctionExecutor { postgres: postgres.clone(), served: served.clone() }),
            metrics: queue_metrics,
            poll_interval: config.queue.poll_interval,
            tracer: tracer.clone(),
        };
        let subscriptions = config.graphql.subscriptions.clone();
        let hub = Hub::new(
            nats.clone(),
            subscriptions.buffer as usize,
            metrics.area(SubscriptionMetrics::register),
        );
        let relay = Relay {
            postgres: postgres.clone(),
            nats: nats.clone(),
            metrics: metrics.area(OutboxMetrics::register),
            poll_interval: config.outbox.poll_interval,
            batch: config.outbox.batch,
            degraded: degradations.component("events", "events wait in the outbox"),
            bounds: outbox::Bounds {
                events_max: config.outbox.max_pending.into(),
                bytes_max: config.outbox.max_bytes.as_u64(),
            },
            gate,
            tracer: tracer.clone(),
        };
        let limits = config.limits.enabled.then(|| limits::limits(config, &redis, &degradations, metrics));
        let admission_metrics = metrics.area(AdmissionMetrics::register);
        let admission = limits::admission(config, &postgres, admission_metrics.clone());
        let webhooks = make_webhooks(config, &postgres, &served, metrics);
        Box::pin(webhooks.check()).await?;
        let notifications = make_notifications(config, &postgres, &nats, &calls, (metrics, &tracer))?;
        Ok(Self {
            limits,
            admission,
            admission_metrics,
            hold: limits::hold(config),
            served,
            persisted,
            hub,
            subscriptions,
            mode: config.mode,
            batch_max: config.graphql.max_batch as usize,
            webhooks,
            api_keys: api_keys(config),
            degradations,
            flags,
            rollouts,
            monitor,
            errors,
            tracer,
            exporter,
            cache,
            postgres,
            direct_url: config.urls.database_direct.as_ref().map(|url| url.expose().into()),
            redis,
            nats,
            relay,
            notifications,
            jobs,
            job_workers: config.queue.workers,
            fallback,
            fallback_enabled,
            dependencies: metrics.area(DependencyMetrics::register),
            replication: metrics.area(ReplicationMetrics::register),
        })
    }

    /// Adds the checks `database`, `redis`, `nats` and `schema`.
    pub fn add_health_checks(&self, checker: &mut HealthChecker) {
        let up = |name| self.dependencies.up(name);
        checker.add_check(DatabaseCheck { postgres: self.postgres.clone(), up: up("database") });
        checker.add_check(RedisCheck {
            redis: self.redis.clone(),
            fallback_enabled: self.fallback_enabled,
            up: up("redis"),
        });
        checker.add_check(NatsCheck { nats: self.nats.clone(), up: up("nats") });
        checker.add_check(SchemaCheck { served: self.served.clone() });
    }

    /// Every background task of the services, with its name.
    pub fn workers(&self) -> Vec<(&'static str, WorkerFactory)> {
        let mut workers = vec![
            worker("postgres-pool", self.postgres.clone(), |postgres, stop| async move {
                postgres.maintain(stop).await;
            }),
            worker(
                "replication-gauge",
                (self.postgres.clone(), self.replication.clone()),
                |(postgres, metrics), stop| replication::measure(postgres, metrics, stop),
            ),
            worker("redis-connections", self.redis.clone(), |redis, stop| async move {
                redis.maintain(stop).await;
            }),
            worker("schema", self.served.clone(), |served, stop| async move { served.follow(stop).await }),
            worker("subscriptions", self.hub.clone(), |hub, stop| async move { hub.run(stop).await }),
            worker("outbox-relay", self.relay.clone(), |relay, stop| async move { relay.run(stop).await }),
            worker(
                "outbox-gauge",
                self.relay.clone(),
                |relay, stop| async move { relay.measure(stop).await },
            ),
            worker("queue-gauge", self.jobs.clone(), |jobs, stop| async move {
                worker::measure(jobs.queue, jobs.metrics, stop).await;
            }),
            worker("job-workers", (self.jobs.clone(), self.job_workers), |(jobs, count), stop| async move {
                let running = (0..count).map(|_| jobs.run(stop.clone()));
                futures::future::join_all(running).await;
            }),
        ];
        if !self.webhooks.is_empty() {
            workers.push(worker("webhooks", self.webhooks.clone(), |webhooks, stop| async move {
                webhooks.retry(stop).await;
            }));
            workers.push(worker("webhooks-gauge", self.webhooks.clone(), |webhooks, stop| async move {
                webhooks.measure(stop).await;
            }));
            workers.push(worker("webhooks-pruning", self.webhooks.clone(), |webhooks, stop| async move {
                webhooks.prune(stop).await;
            }));
        }
        workers.extend(flags::workers(&self.flags, &self.rollouts, self.direct_url.as_ref()));
        if let Some(notifications) = &self.notifications {
            workers.push(worker("notifications", notifications.clone(), |worker, stop| async move {
                worker.run(stop).await;
            }));
            workers.push(worker("notifications-pruning", notifications.clone(), |worker, stop| async move {
                worker.prune(stop).await;
            }));
        }
        match &self.direct_url {
            Some(url) => {
                let parts = (self.served.clone(), url.clone());
                workers.push(worker("schema-changes", parts, |(served, url), stop| async move {
                    served.listen(&url, stop).await;
                }));
            }
            None => tracing::warn!(
                "behind a pooler without database.direct_url_env nobody hears NOTIFY {}, restart after a migration; \
                 flags are polled, and this server takes no steps of rollouts",
                loader::CHANNEL
            ),
        }
        if let Some(cache) = &self.cache {
            workers.push(worker("cache-invalidation", cache.clone(), |cache, stop| async move {
                cache.maintain(stop).await;
            }));
        }
        if let Some(exporter) = &self.exporter {
            workers.push(worker("trace-exporter", exporter.clone(), |exporter, stop| async move {
                exporter.run(stop).await;
            }));
        }
        if let Some(fallback) = &self.fallback {
            let parts = (fallback.clone(), self.jobs.queue.clone());
            workers.push(worker("spool-drain", parts, |(fallback, queue), stop| async move {
                fallback.drain(&queue, stop).await;
            }));
        }
        workers
    }
}

/// The operations that callers may name.
fn persisted_operations(config: &Config) -> Result<Persisted, persisted::Error> {
    let table = &config.graphql.persisted;
    let operations = if table.operations.as_os_str().is_empty() {
        Vec::new()
    } else {
        persisted::read(&table.operations)?
    };
    let automatic = table.automatic.then_some(Bounds {
        entries_max: table.automatic_entries as usize,
        bytes_max: table.automatic_bytes as usize,
    });
    let rules = Rules { only: table.only, automatic };
    let persisted = Persisted::new(operations, rules);
    if persisted.listed() > 0 {
        tracing::info!(names = persisted.listed(), only = table.only, "operations are known by name");
    }
    Ok(persisted)
}

/// The keys of the configuration, whose hashes it has checked.
fn api_keys(config: &Config) -> ApiKeys {
    let mut keys = ApiKeys::default();
    for key in &config.auth.api_keys {
        let caller = Caller::known(key.id.as_str(), key.roles.iter().cloned());
        keys = keys.clone().with(&key.sha256, caller).unwrap_or(keys);
    }
    keys
}

/// The cache of answers that the configuration asks for.
fn response_cache(
    config: &Config,
    redis: &Redis,
    degradations: &Registrar,
    metrics: &Metrics,
) -> Option<ResponseCache> {
    let table = &config.cache.response;
    let clock = Arc::new(SystemClock);
    let series = metrics.area(CacheMetrics::register).cache("response");
    let provider = cache::provider(table, redis, clock.clone(), &series)?;
    let cache = ResponseCache::new(provider, table.clone(), clock, series);
    Some(match table.backend {
        Backend::Redis => cache.telling(degradations.component("cache", "answers are computed each time")),
        Backend::Memory => cache,
    })
}

/// The engine, loaded when the database is there. A schema that does not fit it stops the start.
async fn serve(
    config: &Config,
    postgres: &Postgres,
    queue: &Queue,
    cache: Option<ResponseCache>,
    (behind, gate): (Gates, Gate),
    metrics: EngineMetrics,
) -> Result<Served, Error> {
    let table = &config.graphql;
    let settings = Settings {
        limits: Limits {
            depth_max: table.max_depth,
            complexity_max: table.max_complexity.into(),
            tokens_max: table.max_tokens as usize,
            roots_max: table.max_root_fields as usize,
            aliases_max: table.max_aliases as usize,
        },
        plans: Bounds {
            entries_max: table.plan_cache_entries as usize,
            bytes_max: table.plan_cache_bytes as usize,
        },
        introspection: table.introspection,
        subject_prefix: config.nats.subject_prefix.clone(),
        guards: Guards::default(),
        behind,
        gate,
    };
    let source = Source {
        path: table.schema.clone(),
        url: config.urls.database.expose().to_owned(),
        database_schemas: table.database_schemas.clone(),
    };
    let parts = Parts { postgres: postgres.clone(), queue: Some(queue.clone()), cache, settings, metrics };
    let served = Served::new(source, parts);
    match served.load().await {
        Ok(()) => {}
        Err(error) if error.kind().is_retryable() => {
            tracing::warn!(error = %chain(&error), "the schema is loaded when the database is there");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(served)
}

fn worker<S, W, F>(name: &'static str, service: S, run: F) -> (&'static str, WorkerFactory)
where
    S: Clone + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
    F: Fn(S, CancellationToken) -> W + Send + Sync + 'static,
{
    (name, Box::new(move |stop| run(service.clone(), stop).boxed()))
}

/// Who may tell us of events.
fn make_webhooks(config: &Config, postgres: &Postgres, served: &Served, metrics: &Metrics) -> Webhooks {
    let series = metrics.area(|registry| WebhookMetrics::register(registry, &config.webhooks));
    let statement = config.database.acquire_timeout + config.database.query_timeout;
    Webhooks::new(&config.webhooks, &config.webhook_secrets, (postgres, statement), served, series)
}

/// What tells the outside, if it is to be told.
fn make_notifications(
    config: &Config,
    postgres: &Postgres,
    nats: &Nats,
    calls: &CallMetrics,
    (metrics, tracer): (&Metrics, &Tracer),
) -> Result<Option<NotificationWorker>, notifications::Error> {
    let (table, urls) = (&config.notifications, config.urls.notifications.clone());
    if !table.enabled {
        return Ok(None);
    }
    let targets = Targets { webhook: urls.webhook, slack: urls.slack, email: urls.email };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Some(NotificationWorker {
        nats: nats.clone(),
        postgres: postgres.clone(),
        notifier: Notifier::new(table, &targets, &clock, calls)?,
        rules: table.rules.clone().into(),
        consumer: table.consumer.clone(),
        concurrency: table.concurrency as usize,
        max_attempts: table.max_attempts,
        metrics: metrics.area(NotificationMetrics::register),
        tracer: tracer.clone(),
    }))
}
