//! The stores that the tests share, and a shop of its own for each test.

pub mod blog;
pub mod bouncer;
pub mod collector;
pub mod http;
pub mod live;
pub mod orders;
mod replica;
mod shop;
pub mod stream;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chaos::fault::NetworkFault;
use chaos::proxy::{Guard, Proxy, ProxyConfig};
use harness::environment::process::binaries::{Other, Search};
use harness::environment::{BackendChoice, Environment, Error, Leftover, Request, ServiceName, Settings};
use harness::run::Run;
use sqlx::{Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use http::Front;
pub use orders::order;
pub use replica::Replica;
pub use shop::{Shop, WEBHOOK_SECRET};

/// How long a condition may take to come true. Generous: it is only waited for in a test that fails.
const EVENTUALLY: Duration = Duration::from_secs(45);

/// Redis databases; each test takes one, since the queue's keys have fixed names.
const REDIS_DATABASES: u32 = 256;

/// Postgres, Redis and NATS.
pub struct Stage {
    environment: Environment,
    taken: AtomicU32,
    /// PgBouncer, or why this machine cannot have it.
    pub bouncer: Result<Other, String>,
}

impl Stage {
    /// Starts the servers, and fetches them where this machine lacks them.
    pub async fn up() -> Result<Self, Error> {
        let mut settings = Settings::default();
        // The API's port is one for the machine, and test binaries run side by side.
        settings.proxy.api = String::new();
        settings.redis.settings.insert("databases".to_owned(), REDIS_DATABASES.to_string());
        // Statements are counted by PostgreSQL itself.
        let preload = ("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned());
        settings.postgres.settings.extend([preload]);
        // One folder for all runs: what a killed one left is swept by the next.
        let id = format!("stores-{}", uuid::Uuid::new_v4().simple());
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores").join(&id);
        let run = Run::create(id, 1, folder, CancellationToken::new())
            .map_err(|error| Error::Start { what: "the run".to_owned(), source: error })?;
        let request = Request { backend: BackendChoice::Process, settings, ..Request::default() };
        let environment = Environment::up(&run, request).await?;
        let bouncer = match Other::find_or_fetch(&Search::of_this_machine(), "pgbouncer", "pgbouncer").await {
            Ok(program) => Ok(program),
            Err(Error::NotPossible { reason, hint }) => Err(format!("{reason}; {hint}")),
            Err(error) => return Err(error),
        };
        Ok(Self { environment, taken: AtomicU32::new(1), bouncer })
    }

    /// Ends the servers; answers what is left of them.
    pub async fn down(self) -> Vec<Leftover> {
        // The last checkpoint writes what the making of each database left dirty: on a busy disk that takes longer than
        // a server may take to end.
        if let Ok(mut admin) = PgConnection::connect(self.url(ServiceName::Postgres).as_str()).await {
            admin.execute("CHECKPOINT").await.expect("everything is written");
        }
        self.environment.down().await
    }

    /// Straight to a server.
    pub fn url(&self, name: ServiceName) -> Url {
        self.environment.service(name).direct_url().parse().expect("a URL")
    }

    /// A number that no other test has.
    pub fn number(&self) -> u32 {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        assert!(number < REDIS_DATABASES, "more tests than Redis databases: raise REDIS_DATABASES");
        number
    }

    /// An empty database of its own.
    pub async fn database(&self, number: u32) -> Url {
        let mut url = self.url(ServiceName::Postgres);
        let mut admin = PgConnection::connect(url.as_str()).await.expect("the server answers");
        let create = format!("CREATE DATABASE test_{number}");
        admin.execute(sqlx::AssertSqlSafe(create)).await.expect("a new database");
        admin.close().await.expect("closed");
        url.set_path(&format!("/test_{number}"));
        url
    }
}

/// A way to a server that can be cut.
pub struct Link {
    /// Past the cut.
    pub direct: Url,
    /// What the services get.
    pub through: Url,
    proxy: Proxy,
}

impl Link {
    /// A new way to the server of `direct`.
    pub async fn to(direct: Url) -> Self {
        let upstream = format!(
            "{}:{}",
            direct.host_str().expect("a host"),
            direct.port().expect("the environment names each port")
        );
        let config = ProxyConfig {
            name: direct.scheme().to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            upstream,
            seed: 1,
            protocol: None,
            udp: None,
            tls: None,
            dial_failure: None,
        };
        let proxy = Proxy::start(config).await.expect("a free port");
        let through = redirected(&direct, proxy.listen_address());
        Self { direct, through, proxy }
    }

    /// Refuses new connections and resets those that are open, until the guard heals.
    pub async fn cut(&self) -> Guard {
        self.inject(NetworkFault::Refuse { existing: chaos::fault::Existing::Reset }).await
    }

    /// Any fault.
    pub async fn inject(&self, fault: NetworkFault) -> Guard {
        self.proxy.inject(fault).await.expect("the proxy runs")
    }

    /// Ends the proxy.
    pub async fn close(&self) {
        self.proxy.stop().await;
    }
}

fn redirected(url: &Url, to: SocketAddr) -> Url {
    let mut url = url.clone();
    url.set_host(Some(&to.ip().to_string())).expect("a host");
    url.set_port(Some(to.port())).expect("a port");
    url
}

/// Asks until the answer is there; fails with what was seen last.
pub async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = tokio::time::Instant::now() + EVENTUALLY;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) if tokio::time::Instant::now() > deadline => panic!("{what}: last seen: {last}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// `Ok` when the two are equal, else what was found; for [`eventually`].
pub fn equal<T: PartialEq + std::fmt::Debug>(found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{found:?}, wanted {wanted:?}")) }
}
