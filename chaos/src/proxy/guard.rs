//! The guard of a fault: heals when it is dropped, and proves what the fault did.

use std::sync::Arc;

use tokio_util::sync::DropGuard;

use super::probe;
use super::state::Shared;
use crate::fault::{Delays, Direction, Evidence, NetworkFault};
use crate::protocol::rule::Rule;
use crate::toxic::LONGEST;
use crate::toxic::distribution::Distribution;
use crate::toxic::effect::{Effect, Kind};

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

    /// Asks the port at once and then again and again, and counts who is refused and who gets no answer.
    pub(super) async fn probe(&mut self) {
        let Acts::OnBytes(effect) = &self.acts else { return };
        self.probe = Some(probe::begin(&self.shared, effect.touched.clone()).await);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn effect_of(fault: &NetworkFault) -> (Kind, Direction) {
    match *fault {
        NetworkFault::Latency { delay, jitter, direction } => {
            (Kind::Latency { delay: delay.min(LONGEST), jitter: jitter.min(LONGEST) }, direction)
        }
        NetworkFault::LatencyDrawn { ref from, direction } => {
            (Kind::LatencyDrawn(distribution_of(from)), direction)
        }
        NetworkFault::Refuse { .. } => (Kind::Refuse, Direction::Both),
        NetworkFault::ConnectBlackhole {} => (Kind::ConnectBlackhole, Direction::Both),
        NetworkFault::Reset {} => (Kind::Reset, Direction::Both),
        NetworkFault::FailFirst { connections } => (Kind::FailFirst { connections }, Direction::Both),
        NetworkFault::Blackhole { sticky: true, direction } => (Kind::Silence, direction),
        NetworkFault::Blackhole { sticky: false, direction } => (Kind::Hold, direction),
        NetworkFault::Bandwidth { bytes_per_second, shared: true, direction } => {
            (Kind::SharedBandwidth { bytes_per_second }, direction)
        }
        NetworkFault::Bandwidth { bytes_per_second, shared: false, direction } => {
            (Kind::Bandwidth { bytes_per_second }, direction)
        }
        NetworkFault::Stall { after_bytes, lasts, direction } => {
            (Kind::Stall { after: after_bytes, lasts: lasts.map(|lasts| lasts.min(LONGEST)) }, direction)
        }
        NetworkFault::Flap { up, down, direction } => {
            (Kind::Flap { up: up.min(LONGEST), down: down.min(LONGEST) }, direction)
        }
        NetworkFault::Corrupt { rate_ppm, direction } => (Kind::Corrupt { rate_ppm }, direction),
        NetworkFault::Duplicate { rate_ppm, direction } => (Kind::Duplicate { rate_ppm }, direction),
        NetworkFault::Truncate { bytes, direction } => (Kind::Truncate { bytes }, direction),
        NetworkFault::SlowClose { delay, direction } => {
            (Kind::SlowClose { delay: delay.min(LONGEST) }, direction)
        }
        NetworkFault::Slice { average_bytes, variation_bytes, pause, direction } => {
            let (average, variation) = (average_bytes, variation_bytes);
            (Kind::Slicer { average, variation, delay: pause.min(LONGEST) }, direction)
        }
    }
}

fn distribution_of(delays: &Delays) -> Distribution {
    match *delays {
        Delays::Normal { mean, deviation } => {
            Distribution::Normal { mean: mean.min(LONGEST), deviation: deviation.min(LONGEST) }
        }
        Delays::Pareto { minimum, shape } => Distribution::Pareto { minimum: minimum.min(LONGEST), shape },
        Delays::Quantiles { p0, p50, p90, p99, p999, p100 } => {
            Distribution::Quantiles([p0, p50, p90, p99, p999, p100].map(|delay| delay.min(LONGEST)))
        }
    }
}
