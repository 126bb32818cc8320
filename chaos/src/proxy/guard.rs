//! The guard of a fault: heals when it is dropped, and proves what the fault did.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::state::Shared;
use crate::fault::{Direction, Evidence, NetworkFault};
use crate::toxic::LONGEST;
use crate::toxic::effect::{Effect, Kind, Touched};

/// How often a proxy that refuses is asked whether it does.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// A fault that acts. Healing affects what is to come: bytes and connections that are gone stay gone.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    effect: Arc<Effect>,
    probe: Option<DropGuard>,
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, effect: Arc<Effect>) -> Guard {
        Guard { shared, effect, probe: None }
    }

    /// What the fault has touched so far.
    pub fn evidence(&self) -> Evidence {
        self.effect.touched.evidence()
    }

    /// Ends the fault. Returns its final evidence when the proxy listens again (unless something else keeps it shut).
    pub async fn heal(mut self) -> Evidence {
        self.probe = None;
        self.shared.remove_effect(self.effect.id);
        self.shared.wait_for_gate().await;
        self.effect.touched.evidence()
    }

    /// Asks the closed port at once and then again and again, and counts the refusals.
    pub(super) async fn probe(&mut self) {
        let Some(address) = self.shared.plan.borrow().address else { return };
        let touched = self.effect.touched.clone();
        count_refusal(address, &touched).await;
        let cancel = CancellationToken::new();
        self.probe = Some(cancel.clone().drop_guard());
        tokio::spawn(async move {
            let probes = async {
                loop {
                    tokio::time::sleep(PROBE_INTERVAL).await;
                    count_refusal(address, &touched).await;
                }
            };
            cancel.run_until_cancelled(probes).await;
        });
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.remove_effect(self.effect.id);
    }
}

async fn count_refusal(address: std::net::SocketAddr, touched: &Touched) {
    if let Ok(Err(error)) = tokio::time::timeout(PROBE_INTERVAL, TcpStream::connect(address)).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        touched.add_refused();
    }
}

pub(super) fn effect_of(fault: &NetworkFault) -> (Kind, Direction) {
    match *fault {
        NetworkFault::Latency { delay, jitter, direction } => {
            (Kind::Latency { delay: delay.min(LONGEST), jitter: jitter.min(LONGEST) }, direction)
        }
        NetworkFault::Refuse { .. } => (Kind::Refuse, Direction::Both),
        NetworkFault::Reset {} => (Kind::Reset, Direction::Both),
        NetworkFault::Blackhole { sticky: true, direction } => (Kind::Silence, direction),
        NetworkFault::Blackhole { sticky: false, direction } => (Kind::Hold, direction),
        NetworkFault::Bandwidth { bytes_per_second, direction } => {
            (Kind::Bandwidth { bytes_per_second }, direction)
        }
    }
}
