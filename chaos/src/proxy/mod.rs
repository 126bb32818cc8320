//! Proxies that forward until told otherwise: connections here, datagrams in [`udp`].
//!
//! Each connection is a task of its own: a slow or silent upstream delays nobody else. A half close is forwarded for
//! its direction, a reset as a reset, `TCP_NODELAY` is on at both sides, and what a connection may hold in memory is
//! bounded. Faults and toxics act on live connections at once, idle ones too, and all of them go through the one
//! pipeline of [`crate::toxic::pipeline`]. A proxy runs until [`Proxy::stop`]; dropping its handles does not end it.

mod address;
mod admission;
mod alarm;
mod change;
mod connection;
mod deaf;
mod dial;
mod error;
pub mod event;
mod faults;
mod followed;
mod forward;
mod guard;
mod link;
mod link_fault;
mod listener;
mod probe;
mod registry;
mod side;
mod signal;
mod state;
pub mod tls;
mod toxics;
pub mod udp;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::broadcast;

pub(crate) use change::Change;
pub use dial::DialFailure;
pub use error::Error;
pub use event::Event;
pub use faults::NamedFault;
pub use guard::Guard;
pub use link_fault::LinkFault;
pub use registry::Registry;
pub use tls::TlsConfig;

use crate::fault::{Existing, NetworkFault};
use crate::protocol::Protocol;
use crate::protocol::fault::WireFault;
use crate::toxic::pipeline::Finish;
use crate::toxic::{Transport, Type};
use event::Events;
use state::Shared;
use tls::Tls;
use udp::Udp;

/// Time that a dial to the upstream may take before the client is told that there is none.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What a proxy is started with.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    pub name: String,
    /// `host:port`; port 0 takes a free one. An empty string means `127.0.0.1:0`.
    pub listen: String,
    /// `host:port`, looked up for each connection.
    pub upstream: String,
    /// Together with the name, the seed of all that is drawn here.
    pub seed: u64,
    /// What is spoken on the link. Where it is given, every connection is read along from its first byte, which faults on
    /// messages need and which costs time; `None` for all else.
    pub protocol: Option<Protocol>,
    /// Given: a proxy of datagrams, which takes no connections.
    pub udp: Option<udp::Config>,
    /// Which sides are encrypted; `None` where nothing is said: what is encrypted is passed through.
    pub tls: Option<TlsConfig>,
    /// What becomes of a client whose upstream cannot be reached; `None`: the default.
    pub dial_failure: Option<DialFailure>,
}

impl ProxyConfig {
    /// Reads the files that `tls` names.
    pub(crate) async fn load_tls(&self) -> Result<Option<Arc<Tls>>, Error> {
        tls::load(self.tls.as_ref(), self.udp.is_some()).await
    }
}

/// What a proxy has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections taken, or sessions begun.
    pub accepted: u64,
    /// Connections that are open now.
    pub active: u64,
    /// Dials to the upstream that failed or took too long.
    pub refused_dials: u64,
    /// TLS handshakes, with clients or the upstream, that failed or took too long.
    pub failed_handshakes: u64,
    /// Connections that a fault or a toxic ended with RST.
    pub reset: u64,
    /// Bytes written to the server.
    pub bytes_upstream: u64,
    /// Bytes written to the client.
    pub bytes_downstream: u64,
    /// Bytes read from the client.
    pub received_upstream: u64,
    /// Bytes read from the server.
    pub received_downstream: u64,
    /// All 0 where connections are forwarded.
    pub datagrams: udp::Counters,
}

/// Handle of a running proxy; clones share it.
#[derive(Debug, Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens and forwards. Fails when the address is malformed or taken, or when the files for TLS cannot be used.
    pub async fn start(config: ProxyConfig) -> Result<Proxy, Error> {
        let tls = config.load_tls().await?;
        let proxy = Proxy::disabled(config, tls, Events::default());
        proxy.enable().await?;
        Ok(proxy)
    }

    /// A proxy that does not listen until it is enabled; its address is not looked at before.
    fn disabled(config: ProxyConfig, tls: Option<Arc<Tls>>, events: Events) -> Proxy {
        let shared = Shared::new(config, tls, events);
        match shared.udp {
            None => tokio::spawn(listener::run(shared.clone())),
            Some(_) => tokio::spawn(udp::run(shared.clone())),
        };
        Proxy { shared }
    }

    /// What the proxy of datagrams was started with; `None`: it forwards connections.
    pub fn udp(&self) -> Option<udp::Config> {
        self.shared.udp.as_ref().map(|udp| udp.config)
    }

    /// What was said to be spoken on the link.
    pub fn protocol(&self) -> Option<Protocol> {
        self.shared.protocol
    }

    /// What becomes of a client whose upstream cannot be reached.
    pub fn dial_failure(&self) -> DialFailure {
        self.shared.dial_failure
    }

    pub fn transport(&self) -> Transport {
        if self.shared.udp.is_some() { Transport::Udp } else { Transport::Tcp }
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where clients connect; stays the same while connections are refused. Unspecified and port 0 before the first
    /// listen of a proxy that was made disabled.
    pub fn listen_address(&self) -> SocketAddr {
        self.shared.followed.plan.borrow().address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The address as Toxiproxy shows it: resolved while the proxy is enabled, else as it was given.
    pub(crate) fn listen(&self) -> String {
        self.shared.settings.lock().listen.clone()
    }

    pub fn upstream(&self) -> String {
        self.shared.settings.lock().upstream.clone()
    }

    /// Which sides are encrypted.
    pub fn tls(&self) -> TlsConfig {
        let settings = self.shared.settings.lock();
        settings.tls.as_ref().map(|tls| tls.config().clone()).unwrap_or_default()
    }

    /// Dials `upstream` (`host:port`) for connections that are made from now on.
    pub fn set_upstream(&self, upstream: String) {
        self.shared.settings.lock().upstream = upstream;
    }

    pub fn enabled(&self) -> bool {
        self.shared.followed.plan.borrow().enabled
    }

    /// Makes a fault act, on live connections too, until its guard is healed or dropped. Returns when it does: the
    /// listener is closed, the connections that are to be reset have ended.
    pub async fn inject(&self, fault: NetworkFault) -> Result<Guard, Error> {
        if self.shared.stopped.is_cancelled() {
            return Err(Error::Stopped);
        }
        let (kind, direction) = guard::effect_of(&fault);
        let acts = Type::parse(kind.name()).is_ok_and(|of| of.acts_on(self.transport()));
        if !acts && self.shared.udp.is_some() {
            return Err(Error::FaultOfTcp { fault: fault.kind() });
        }
        let effect = self.shared.add_effect(kind, direction);
        let mut guard = Guard::new(self.shared.clone(), effect.clone());
        let resets = match fault {
            NetworkFault::Refuse { existing } => {
                self.shared.wait_for_gate().await;
                guard.probe().await;
                existing == Existing::Reset
            }
            NetworkFault::ConnectBlackhole {} => {
                self.shared.wait_for_gate().await;
                guard.probe().await;
                false
            }
            NetworkFault::Reset {} => true,
            _ => false,
        };
        if resets {
            self.shared.end_all(Finish::Reset, Some(effect.touched.clone())).await;
        }
        Ok(guard)
    }

    /// Makes a fault act on the messages of this link, on live connections too, until its guard is healed or dropped.
    /// Fails when the proxy was not started with the fault's protocol.
    pub fn inject_wire(&self, fault: &WireFault) -> Result<Guard, Error> {
        if self.shared.stopped.is_cancelled() {
            return Err(Error::Stopped);
        }
        if self.shared.protocol != Some(fault.protocol()) {
            return Err(Error::Protocol { wanted: fault.protocol(), spoken: self.shared.protocol });
        }
        let rule = fault.rule(self.shared.new_effect_id());
        self.shared.add_rule(rule.clone(), fault.kind());
        Ok(Guard::of_rule(self.shared.clone(), rule))
    }

    /// What happens from now on, here and on the other proxies of the same registry. A reader that falls more than
    /// [`event::KEPT`] events behind loses the oldest and is told how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    pub fn counters(&self) -> Counters {
        let totals = &self.shared.totals;
        Counters {
            accepted: totals.accepted.load(Ordering::Relaxed),
            active: self.shared.followed.live.lock().len() as u64,
            refused_dials: totals.refused_dials.load(Ordering::Relaxed),
            failed_handshakes: totals.failed_handshakes.load(Ordering::Relaxed),
            reset: totals.reset.load(Ordering::Relaxed),
            bytes_upstream: totals.bytes_upstream.load(Ordering::Relaxed),
            bytes_downstream: totals.bytes_downstream.load(Ordering::Relaxed),
            received_upstream: totals.received_upstream.load(Ordering::Relaxed),
            received_downstream: totals.received_downstream.load(Ordering::Relaxed),
            datagrams: self.shared.udp.as_ref().map(Udp::counters).unwrap_or_default(),
        }
    }

    /// Faults and toxics that act now.
    pub fn active_faults(&self) -> usize {
        let plan = self.shared.followed.plan.borrow();
        plan.effects.len() + plan.rules.len()
    }

    /// Waits until the port is as the faults and toxics of now want it.
    pub async fn settled(&self) {
        self.shared.wait_for_gate().await;
    }

    /// Closes the listener and every connection, for good. Guards that are still held heal nothing any more.
    pub async fn stop(&self) {
        let _change = self.shared.change.lock().await;
        self.shared.stopped.cancel();
        drop(self.take_faults());
        self.shared.followed.plan.send_modify(|plan| plan.enabled = false);
        self.shared.wait_for_gate().await;
        self.shared.end_all(Finish::Close, None).await;
    }
}
