//! Who is executed, who waits and who is refused. Pure: the time comes from outside.
//!
//! Promises: never more are executed than the bounds, in all and of one client; while a place is free nobody waits who could
//! have it; whoever waits hears exactly once how it ends. The one that came first goes first, unless the queue has not
//! been empty for a while: then the newest goes first and nobody waits longer than the target, since work for callers
//! who have given up helps no one; that needs nobody to come or leave, only that the machine is asked when it says ([`Machine::due`]). An overload that comes back soon is the same one: it is not waited for the while again, else
//! those who come in between would wait that long to be refused. After Maurer, "Fail at Scale" (ACM Queue, 2015), and Nichols and Jacobson,
//! "Controlling Queue Delay" (2012).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Executed at a time; at least 1.
    pub executing_max: usize,
    /// Executed at a time of one client; as many more may wait. At least 1.
    pub client_max: usize,
    /// Nobody waits longer.
    pub timeout: Duration,
    /// Nobody waits longer when there is too much.
    pub target: Duration,
    /// There is too much when somebody has been waiting at every moment for so long; for [`REMEMBERED`] intervals after that
    /// the target is long enough.
    pub interval: Duration,
}

/// Intervals after which an overload that comes back is another one. CoDel takes its drop rate up where it was for 16; a load
/// that is too much for a server comes in waves of seconds.
pub const REMEMBERED: u32 = 40;

/// Of those that are executed this part may wait in an overload before others are refused as they come: enough to have somebody
/// for each place that becomes free.
const FEW: usize = 16;

/// The finest that a timer tells apart.
const TICK: Duration = Duration::from_millis(1);

/// Why somebody is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// As many wait as may.
    QueueFull,
    /// As many of this client are executed and wait as may.
    ClientBusy,
    /// There is too much to do, for longer than a moment.
    Overloaded,
    /// It has waited for as long as anybody may.
    QueueTimeout,
    /// This process has used the memory that it may.
    OutOfMemory,
    /// No connection to the database is free.
    PoolSaturated,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::QueueFull,
        Self::ClientBusy,
        Self::Overloaded,
        Self::QueueTimeout,
        Self::OutOfMemory,
        Self::PoolSaturated,
    ];

    /// The value of `extensions.code`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::QueueFull => "QUEUE_FULL",
            Self::ClientBusy => "TOO_MANY_CONCURRENT_REQUESTS",
            Self::Overloaded => "OVERLOADED",
            Self::QueueTimeout => "QUEUE_TIMEOUT",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::PoolSaturated => "POOL_SATURATED",
        }
    }

    /// The label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::ClientBusy => "client_busy",
            Self::Overloaded => "overloaded",
            Self::QueueTimeout => "queue_timeout",
            Self::OutOfMemory => "out_of_memory",
            Self::PoolSaturated => "pool_saturated",
        }
    }
}

/// Somebody who waits.
pub type Id = u64;

/// How an arrival is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is executed; to be given to [`Machine::leave`] once.
    Enters,
    /// It waits.
    Waits(Id),
    /// It is neither.
    Refused(Reason),
}

/// What happens to somebody who waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is executed; to be given to [`Machine::leave`] once.
    Enters(Id, Arc<str>),
    /// It waits no more.
    Shed(Id, Reason),
}

#[derive(Debug, Clone)]
struct Waiter {
    id: Id,
    client: Arc<str>,
    since: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Load {
    executing: usize,
    waiting: usize,
}

/// The state.
#[derive(Debug, Clone)]
pub struct Machine {
    settings: Settings,
    executing: usize,
    /// Clients with something under way, and no others.
    clients: HashMap<Arc<str>, Load>,
    /// In the order of arrival.
    queue: VecDeque<Waiter>,
    next: Id,
    /// When somebody could last have entered at once.
    relaxed: Instant,
    overload: Option<Overload>,
}

/// A time of too much, with its gaps.
#[derive(Debug, Clone, Copy)]
struct Overload {
    began: Instant,
    last: Instant,
}

impl Machine {
    /// Nobody is there.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let (clients, queue) = (HashMap::new(), VecDeque::new());
        Self { settings, executing: 0, clients, queue, next: 0, relaxed: now, overload: None }
    }

    /// How many are executed.
    pub fn executing(&self) -> usize {
        self.executing
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// For how long there has been too much; zero when there is not.
    pub fn overloaded_for(&self, now: Instant) -> Duration {
        let standing = now.saturating_duration_since(self.relaxed);
        let Settings { target, interval, .. } = self.settings;
        let (enough, began) = match self.remembered(now) {
            Some(overload) => (target.min(interval), overload.began),
            None => (interval, self.relaxed),
        };
        let overloaded = !self.is_relaxed() && standing > enough;
        if overloaded { now.saturating_duration_since(began) } else { Duration::ZERO }
    }

    /// Whether who comes now would wait for nothing: there is too much, and before the target is over it is others who get the
    /// places that become free.
    pub fn is_full(&self, now: Instant) -> bool {
        !self.overloaded_for(now).is_zero() && self.queue.len() >= (self.settings.executing_max / FEW).max(1)
    }

    fn remembered(&self, now: Instant) -> Option<Overload> {
        self.overload.filter(|overload| now < overload.last + self.settings.interval * REMEMBERED)
    }

    /// Somebody comes. At most `depth_max` wait, if there is such a bound. What happens to others is added to `events`.
    pub fn arrive(
        &mut self,
        client: &Arc<str>,
        depth_max: Option<usize>,
        now: Instant,
        events: &mut Vec<Event>,
    ) -> Arrival {
        self.begin(now);
        let overloaded = !self.overloaded_for(now).is_zero();
        self.shed(overloaded, now, events);
        let load = self.clients.get(client).copied().unwrap_or_default();
        if self.executing < self.settings.executing_max && load.executing < self.settings.client_max {
            self.enter(client.clone());
            return Arrival::Enters;
        }
        if load.waiting >= self.settings.client_max {
            return Arrival::Refused(Reason::ClientBusy);
        }
        if depth_max.is_some_and(|most| self.queue.len() >= most) {
            return Arrival::Refused(Reason::QueueFull);
        }
        let id = self.next;
        self.next += 1;
        self.clients.entry(client.clone()).or_default().waiting += 1;
        self.queue.push_back(Waiter { id, client: client.clone(), since: now });
        Arrival::Waits(id)
    }

    /// Somebody who was executed is done.
    pub fn leave(&mut self, client: &Arc<str>, now: Instant, events: &mut Vec<Event>) {
        self.begin(now);
        // As it was before there was a free place.
        let overloaded = !self.overloaded_for(now).is_zero();
        self.executing -= 1;
        self.change(client, |load| load.executing -= 1);
        self.shed(false, now, events);
        self.fill(overloaded, events);
        // Only now: a place that is free is worth more than a rule about who has waited too long for it.
        if overloaded {
            self.shed(true, now, events);
        }
        self.begin(now);
    }

    /// Refuses who has waited too long by now.
    pub fn tick(&mut self, now: Instant, events: &mut Vec<Event>) {
        self.begin(now);
        let overloaded = !self.overloaded_for(now).is_zero();
        self.shed(overloaded, now, events);
        self.begin(now);
    }

    /// When [`Machine::tick`] may refuse somebody who has waited since then, if nobody comes or leaves before; after `now`.
    pub fn due(&self, since: Instant, now: Instant) -> Instant {
        let Settings { timeout, target, interval, .. } = self.settings;
        let enough = if self.remembered(now).is_some() { target.min(interval) } else { interval };
        // There is too much when it lasts longer than that, and not yet when it lasts as long.
        let overloaded = self.relaxed + enough + TICK;
        (since + target).max(overloaded).min(since + timeout).max(now + TICK)
    }

    /// Somebody stops waiting, for nobody waits for its answer; false when it was decided before.
    pub fn give_up(&mut self, id: Id, now: Instant) -> bool {
        self.begin(now);
        // Ids grow along the queue.
        let Ok(at) = self.queue.binary_search_by_key(&id, |waiter| waiter.id) else { return false };
        self.remove(at);
        self.begin(now);
        true
    }

    fn is_relaxed(&self) -> bool {
        self.queue.is_empty() || self.executing < self.settings.executing_max
    }

    /// What held since the last event held until now.
    fn begin(&mut self, now: Instant) {
        if !self.overloaded_for(now).is_zero() {
            let began = self.remembered(now).map_or(self.relaxed, |overload| overload.began);
            self.overload = Some(Overload { began, last: now });
        }
        if self.is_relaxed() {
            self.relaxed = self.relaxed.max(now);
        }
    }

    /// Refuses who has waited too long, the oldest first.
    fn shed(&mut self, overloaded: bool, now: Instant, events: &mut Vec<Event>) {
        let (most, reason) = if overloaded {
            (self.settings.target, Reason::Overloaded)
        } else {
            (self.settings.timeout, Reason::QueueTimeout)
        };
        while let Some(oldest) = self.queue.front() {
            if now.saturating_duration_since(oldest.since) < most {
                break;
            }
            let shed = self.remove(0);
            events.push(Event::Shed(shed.id, reason));
        }
    }

    fn fill(&mut self, newest_first: bool, events: &mut Vec<Event>) {
        while self.executing < self.settings.executing_max {
            let may = |waiter: &Waiter| {
                self.clients.get(&waiter.client).is_none_or(|load| load.executing < self.settings.client_max)
            };
            let at =
                if newest_first { self.queue.iter().rposition(may) } else { self.queue.iter().position(may) };
            let Some(at) = at else { return };
            let Waiter { id, client, .. } = self.remove(at);
            self.enter(client.clone());
            events.push(Event::Enters(id, client));
        }
    }

    fn enter(&mut self, client: Arc<str>) {
        self.executing += 1;
        self.clients.entry(client).or_default().executing += 1;
    }

    fn remove(&mut self, at: usize) -> Waiter {
        let waiter = self.queue.remove(at).expect("the caller has found it");
        self.change(&waiter.client, |load| load.waiting -= 1);
        waiter
    }

    fn change(&mut self, client: &Arc<str>, change: impl FnOnce(&mut Load)) {
        if let Some(load) = self.clients.get_mut(client) {
            change(load);
            if load.executing == 0 && load.waiting == 0 {
                self.clients.remove(client);
            }
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
