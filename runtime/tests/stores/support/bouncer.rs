//! PgBouncer in front of a database: a connection lasts for a transaction, and neither settings nor prepared statements
//! do.

use std::time::Duration;

use harness::environment::Program;
use harness::run::Run;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Stage, redirected};

/// A running PgBouncer.
pub struct Bouncer {
    program: Program,
    run: Run,
}

impl Bouncer {
    /// Stands before the server of `database` and lends `servers` connections to it.
    pub async fn open(stage: &Stage, database: &Url, servers: u32) -> Self {
        let other = stage.bouncer.as_ref().expect("else the test is not run");
        let id = format!("bouncer-{}", uuid::Uuid::new_v4().simple());
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("stores").join(&id);
        let run = Run::create(id, 1, folder, CancellationToken::new()).expect("a run");
        let (user, password) = (database.username(), database.password().unwrap_or_default());
        let (host, port) = (database.host_str().expect("a host"), database.port().expect("a port"));
        let settings = |own_port: u16| {
            // The least that a stranger would write: no startup parameter is waved through.
            format!(
                "[databases]\n* = host={host} port={port} user={user} password={password}\n\
                 [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own_port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = transaction\ndefault_pool_size = {servers}\n"
            )
        };
        let configure = |folder: &std::path::Path, own_port: u16| {
            let path = folder.join("pgbouncer.ini");
            std::fs::write(&path, settings(own_port))?;
            Ok(vec![path.into()])
        };
        let program = Program::start_other(&run, "pgbouncer", other, configure).await.expect("it starts");
        Self { program, run }
    }

    /// The same database through it.
    pub fn before(&self, database: &Url) -> Url {
        redirected(database, self.program.address())
    }

    /// Ends it.
    pub async fn close(self) {
        if let Some(left) = self.program.stop(Duration::from_secs(10)).await {
            panic!("left behind: {left:?}");
        }
        std::fs::remove_dir_all(self.run.folder()).expect("its folder goes");
    }
}
