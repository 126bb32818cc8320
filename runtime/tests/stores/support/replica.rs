//! One more server over the stores of a shop.

use fraiseql_runtime::app_state::AppState;
use fraiseql_runtime::observability::metrics::Metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shop;

/// Its services, without HTTP.
pub struct Replica {
    pub state: AppState,
    pub metrics: Metrics,
    stop: CancellationToken,
    workers: JoinSet<()>,
    _spool: tempfile::TempDir,
}

impl Replica {
    /// Beside the shop's own server.
    pub async fn beside(shop: &Shop) -> Self {
        let spool = tempfile::tempdir().expect("a folder");
        let (state, metrics) = shop.build_beside(spool.path()).await;
        let mut replica =
            Self { state, metrics, stop: CancellationToken::new(), workers: JoinSet::new(), _spool: spool };
        replica.start(&["postgres-pool"]);
        replica
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

    /// The server is gone at once, as if it was killed: nothing that it was about to do is done.
    pub fn kill(mut self) {
        self.workers.abort_all();
    }

    /// Ends the work; a worker that panicked fails the test.
    pub async fn close(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            ended.expect("no worker panics");
        }
    }
}
