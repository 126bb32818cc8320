//! What the listener, the connections and the handles of one proxy share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::{Events, What};
use super::faults::Held;
use super::followed::Followed;
use super::signal;
use super::tls::Tls;
use super::toxics::Entry;
use super::udp::Udp;
use super::{DialFailure, ProxyConfig};
use crate::fault::Direction;
use crate::protocol::Protocol;
use crate::protocol::rule::Rule;
use crate::toxic::clients::Clients;
use crate::toxic::effect::{Common, Effect, Kind, Touched};
use crate::toxic::pipeline::Finish;

/// What is to be: every listener and link follows it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub enabled: bool,
    pub address: Option<SocketAddr>,
    pub effects: Arc<Vec<Arc<Effect>>>,
    /// On the messages of links whose protocol is known.
    pub rules: Arc<Vec<Arc<Rule>>>,
}

/// How the port meets those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// They are refused.
    Closed,
    /// They get no answer.
    Deaf,
}

impl Plan {
    /// How the port is to be.
    pub fn gate(&self) -> Gate {
        let acts = |kind| self.effects.iter().any(|effect| effect.kind == kind && effect.toxicity > 0.0);
        match () {
            () if !self.enabled || acts(Kind::Refuse) => Gate::Closed,
            () if acts(Kind::ConnectBlackhole) => Gate::Deaf,
            () => Gate::Open,
        }
    }
}

/// An order to a connection to end.
#[derive(Debug, Clone)]
pub(super) struct Kill {
    pub finish: Finish,
    pub touched: Option<Arc<Touched>>,
}

pub(super) type Signal = signal::Signal<Kill>;

#[derive(Debug)]
pub(super) struct Settings {
    pub listen: String,
    pub upstream: String,
    /// `None`: what is encrypted is passed through.
    pub tls: Option<Arc<Tls>>,
}

#[derive(Debug, Default)]
pub(super) struct Totals {
    pub accepted: AtomicU64,
    pub refused_dials: AtomicU64,
    pub failed_handshakes: AtomicU64,
    pub reset: AtomicU64,
    pub bytes_upstream: AtomicU64,
    pub bytes_downstream: AtomicU64,
    pub received_upstream: AtomicU64,
    pub received_downstream: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub name: Arc<str>,
    pub events: Events,
    pub seed: u64,
    /// What is spoken here, where somebody said so: connections are then read along.
    pub protocol: Option<Protocol>,
    /// What becomes of a client whose upstream cannot be reached.
    pub dial_failure: DialFailure,
    /// Set where datagrams are forwarded and not connections.
    pub udp: Option<Udp>,
    pub settings: Mutex<Settings>,
    pub followed: Followed<Plan, Kill>,
    /// How the port is, where the plan says how it is to be.
    pub gate: watch::Sender<Gate>,
    /// A bound listener for the listener task, from a caller that wanted to see binding fail.
    pub handover: Mutex<Option<TcpListener>>,
    pub totals: Totals,
    /// Told whenever a connection is not live any more.
    pub ended: Notify,
    pub toxics: Mutex<Vec<Entry>>,
    /// Faults that have a name.
    pub faults: Mutex<Vec<Held>>,
    pub stopped: CancellationToken,
    /// Held by whoever enables, disables, moves or stops the proxy.
    pub change: tokio::sync::Mutex<()>,
    next_effect: AtomicU64,
}

impl Shared {
    /// `tls` is what the setting of `config` was read into.
    pub fn new(config: ProxyConfig, tls: Option<Arc<Tls>>, events: Events) -> Arc<Shared> {
        Arc::new(Shared {
            name: config.name.into(),
            events,
            seed: config.seed,
            // Messages are read from streams alone.
            protocol: config.protocol.filter(|_| config.udp.is_none()),
            dial_failure: config.dial_failure.unwrap_or_default(),
            udp: config.udp.map(Udp::new),
            settings: Mutex::new(Settings { listen: config.listen, upstream: config.upstream, tls }),
            followed: Followed::new(Plan {
                enabled: false,
                address: None,
                effects: Arc::default(),
                rules: Arc::default(),
            }),
            gate: watch::Sender::new(Gate::Closed),
            handover: Mutex::new(None),
            totals: Totals::default(),
            ended: Notify::new(),
            toxics: Mutex::default(),
            faults: Mutex::default(),
            stopped: CancellationToken::new(),
            change: tokio::sync::Mutex::default(),
            next_effect: AtomicU64::new(1),
        })
    }

    pub fn add_effect(&self, kind: Kind, direction: Direction) -> Arc<Effect> {
        let id = self.next_effect.fetch_add(1, Ordering::Relaxed);
        let effect = Arc::new(Effect {
            id,
            generation: 0,
            kind,
            direction,
            toxicity: f32::INFINITY,
            clients: Clients::default(),
            common: Arc::new(Common::new(Instant::now())),
            touched: Arc::default(),
        });
        self.put_effect(effect.clone());
        effect
    }

    /// Adds the effect, or replaces the one with its id.
    pub fn put_effect(&self, effect: Arc<Effect>) {
        let began = What::began(&effect);
        self.followed.change(|plan| {
            let effects = Arc::make_mut(&mut plan.effects);
            match effects.iter_mut().find(|known| known.id == effect.id) {
                Some(known) => *known = effect,
                None => effects.push(effect),
            }
            true
        });
        self.say(None, || began);
    }

    /// `kind` is the word for it in events.
    pub fn add_rule(&self, rule: Arc<Rule>, kind: &'static str) {
        let fault = rule.id;
        self.followed.change(|plan| {
            Arc::make_mut(&mut plan.rules).push(rule);
            true
        });
        self.say(None, || What::Began { fault, kind, direction: Direction::Both });
    }

    /// Does nothing when it is gone already, as after a healing whose guard is dropped.
    pub fn remove_rule(&self, id: u64) {
        if self.followed.change(|plan| take_out(&mut plan.rules, |rule| rule.id == id)) {
            self.say(None, || What::Healed { fault: id });
        }
    }

    /// Tells the event stream.
    pub fn say(&self, connection: Option<u64>, what: impl FnOnce() -> What) {
        self.events.say(&self.name, connection, what);
    }

    pub fn new_effect_id(&self) -> u64 {
        self.next_effect.fetch_add(1, Ordering::Relaxed)
    }

    /// Does nothing when it is gone already, as after a healing whose guard is dropped.
    pub fn remove_effect(&self, id: u64) {
        if self.followed.change(|plan| take_out(&mut plan.effects, |effect| effect.id == id)) {
            self.say(None, || What::Healed { fault: id });
        }
    }

    /// Waits until the port is as the plan wants it, however the plan changes meanwhile.
    pub async fn wait_for_gate(&self) {
        let mut gate = self.gate.subscribe();
        let mut plan = self.followed.plan.subscribe();
        loop {
            let wanted = plan.borrow_and_update().gate();
            let is = *gate.borrow_and_update();
            // A stopped proxy never opens again, so only its closing is waited for.
            if wanted == is || (wanted != Gate::Closed && self.stopped.is_cancelled()) {
                return;
            }
            tokio::select! {
                changed = gate.changed() => changed.expect("the gate's sender lives in self"),
                changed = plan.changed() => changed.expect("the plan's sender lives in self"),
            }
        }
    }

    /// Ends every connection that is live now and returns when they have ended.
    pub async fn end_all(&self, finish: Finish, touched: Option<Arc<Touched>>) {
        self.end_those(finish, touched, |_, _| true).await;
    }

    /// Ends the live connections whose number and client are chosen and returns when they have ended.
    pub async fn end_those(
        &self,
        finish: Finish,
        touched: Option<Arc<Touched>>,
        chosen: impl Fn(u64, IpAddr) -> bool,
    ) {
        let mut ending = self.followed.order_to_end(&Kill { finish, touched }, chosen);
        loop {
            let ended = self.ended.notified();
            {
                let live = self.followed.live.lock();
                ending.retain(|number| live.contains_key(number));
            }
            if ending.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// False when there was none.
fn take_out<T>(list: &mut Arc<Vec<Arc<T>>>, is_it: impl Fn(&T) -> bool) -> bool {
    let is_there = list.iter().any(|one| is_it(one));
    if is_there {
        Arc::make_mut(list).retain(|one| !is_it(one));
    }
    is_there
}
