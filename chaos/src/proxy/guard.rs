//! The guard of a fault: heals when it is dropped, and proves what the fault did.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::state::Shared;
use crate::fault::{Direction, Evidence, NetworkFault};
use crate::protocol::rule::Rule;
use crate::toxic::LONGEST;
use crate::toxic::effect::{Effect, Kind, Touched};

/// How often a proxy that refuses is asked whether it does.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// A fault that acts. Healing affects what is to come: bytes and connections that are gone stay gone.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
    acts: Acts,
    probe: Option<DropGuard>,
}

/// What heals with the guard.
#[derive(Debug)]
enum Acts {
    OnBytes(Arc<Effect>),
    OnMessages(Arc<Rule>),
}

impl Guard {
    pub(super) fn new(shared: Arc<Shared>, effect: Arc<Effect>) -> Guard {
        Guard { shared, acts: Acts::OnBytes(effect), probe: None }
    }

    pub(super) fn of_rule(shared: Arc<Shared>, rule: Arc<Rule>) -> Guard {
        Guard { shared, acts: Acts::OnMessages(rule), probe: None }
    }

    /// What the fault has touched so far.
    pub fn evidence(&self) -> Evidence {
        match &self.acts {
            Acts::OnBytes(effect) => effect.touched.evidence(),
            Acts::OnMessages(rule) => {
                let counts = rule.counters.read();
                Evidence {
                    matched: counts.matched,
                    acted: counts.acted,
                    missed: counts.missed,
                    blind: counts.blind,
                    swallowed_bytes: counts.swallowed_bytes,
                    ..Evidence::default()
                }
            }
        }
    }

    fn end(&self) {
        match &self.acts {
            Acts::OnBytes(effect) => self.shared.remove_effect(effect.id),
            Acts::OnMessages(rule) => self.shared.remove_rule(rule.id),
        }
    }

    /// Ends the fault. Returns its final evidence when the proxy listens again (unless something else keeps it shut).
    pub async fn heal(mut self) -> Evidence {
        self.probe = None;
        self.end();
        self.shared.wait_for_gate().await;
        self.evidence()
    }

    /// Asks the closed port at once and then again and again, and counts the refusals.
    pub(super) async fn probe(&mut self) {
        let Some(address) = self.shared.plan.borrow().address else { return };
        let Acts::OnBytes(effect) = &self.acts else { return };
        let touched = effect.touched.clone();
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
        self.end();
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
