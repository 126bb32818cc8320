//! Exchanges of the harness' own through a link whose proxy does not count: what they met is the evidence.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chaos::fault::{Evidence, NetworkFault};
use chaos::proxy::LinkFault;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::ServiceName;
use super::super::probe::ask;

/// How often the link is tried.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long an exchange may take over the delay that it looks for.
const SLACK: Duration = Duration::from_secs(2);

/// What is tried, and what it has to meet.
#[derive(Debug, Clone)]
pub(super) enum Trial {
    /// A connection that is refused.
    Connect(SocketAddr),
    /// An exchange that takes at least this long; before the fault it took less.
    Exchange { service: ServiceName, url: String, at_least: Duration },
}

impl Trial {
    /// `None` where no exchange of ours can tell that the fault acts. Called before the fault is made to act.
    pub(super) async fn of(
        fault: &LinkFault,
        service: ServiceName,
        address: SocketAddr,
        url: &str,
    ) -> Option<Trial> {
        match fault {
            LinkFault::Network(NetworkFault::Refuse { .. }) => Some(Trial::Connect(address)),
            LinkFault::Network(NetworkFault::Latency { delay, jitter, .. }) => {
                let at_least = delay.saturating_sub(*jitter);
                let trial = Trial::Exchange { service, url: url.to_owned(), at_least };
                // A link that is as slow without the fault cannot tell.
                (!trial.meets().await).then_some(trial)
            }
            _ => None,
        }
    }

    async fn meets(&self) -> bool {
        match self {
            Trial::Connect(address) => {
                let answer = tokio::time::timeout(SLACK, TcpStream::connect(address)).await;
                matches!(answer, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
            }
            Trial::Exchange { service, url, at_least } => {
                let began = Instant::now();
                // One that failed says nothing about how long it would have taken.
                let answered = tokio::time::timeout(*at_least * 20 + SLACK, ask(*service, url)).await;
                matches!(answered, Ok(Ok(_))) && began.elapsed() >= *at_least
            }
        }
    }

    fn evidence(&self, met: u64) -> Evidence {
        match self {
            Trial::Connect(_) => Evidence { refused: met, ..Evidence::default() },
            Trial::Exchange { .. } => Evidence { probes: met, ..Evidence::default() },
        }
    }
}

/// Tries again and again until it is dropped.
#[derive(Debug)]
pub(super) struct Probe {
    trial: Trial,
    met: Arc<AtomicU64>,
    _until: DropGuard,
}

impl Probe {
    /// The first trial is over when this returns: a fault that is healed at once has been met or not.
    pub(super) async fn begin(trial: Trial) -> Probe {
        let met = Arc::new(AtomicU64::new(u64::from(trial.meets().await)));
        let cancel = CancellationToken::new();
        let until = cancel.clone().drop_guard();
        let (trying, counting) = (trial.clone(), met.clone());
        tokio::spawn(cancel.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                counting.fetch_add(u64::from(trying.meets().await), Ordering::Relaxed);
            }
        }));
        Probe { trial, met, _until: until }
    }

    pub(super) fn evidence(&self) -> Evidence {
        self.trial.evidence(self.met.load(Ordering::Relaxed))
    }
}
