//! Every schedule of what reaches a connection from outside: loom runs the proxy's own source, with its primitives in place
//! of the real ones, through all interleavings and all values that an atomic may be seen to have. A connection that sleeps
//! for ever on an old plan, or on an order to end, is a deadlock to it.

#[path = "../src/proxy/followed.rs"]
mod followed;
#[path = "../src/proxy/signal.rs"]
mod signal;

/// The primitives of `src/sync.rs` by the same names.
mod sync {
    use std::task::Waker;

    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use loom::sync::{MutexGuard, RwLock, RwLockReadGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Mutex<T> {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("nobody panics under the lock")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub fn new() -> AtomicWaker {
            AtomicWaker(loom::future::AtomicWaker::new())
        }

        pub fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub fn wake(&self) {
            self.0.wake();
        }
    }

    #[derive(Debug)]
    pub(crate) struct Watch<T>(RwLock<T>);

    impl<T> Watch<T> {
        pub fn new(value: T) -> Watch<T> {
            Watch(RwLock::new(value))
        }

        pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
            change(&mut *self.0.write().expect("nobody panics under the lock"))
        }

        pub fn borrow(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect("nobody panics under the lock")
        }
    }
}

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use followed::{Followed, Live};
use signal::Signal;

/// What is ordered, and how often the plan was changed.
type Proxy = Followed<u64, &'static str>;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// All schedules with at most so many preemptions: nearly every race shows with two of them (Musuvathi and Qadeer,
/// "Iterative context bounding for systematic testing of multithreaded programs", 2007).
fn every_schedule(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

fn list(proxy: &Proxy, number: u64) -> Arc<Signal<&'static str>> {
    let signal = Arc::new(Signal::default());
    proxy.live.lock().insert(number, Live { signal: signal.clone(), client: CLIENT });
    signal
}

/// The task of a connection: returns when it has seen the plan `until`, having seen every plan no earlier than the one
/// before.
fn follow(proxy: &Proxy, signal: &Signal<&'static str>, until: u64) {
    let (mut followed, mut seen) = (None, 0);
    block_on(poll_fn(|context| {
        assert!(signal.poll_ended(context).is_pending(), "nobody ordered it to end");
        while let Some(plan) = proxy.follow(&mut followed, |plan| *plan) {
            assert!(plan >= seen, "plan {plan} after {seen}");
            assert!(followed.is_some_and(|version| version <= plan), "version {followed:?} of plan {plan}");
            seen = plan;
        }
        if seen == until { Poll::Ready(()) } else { Poll::Pending }
    }));
}

/// Runs on a thread of its own, as a connection and a call of the API do.
fn beside<T: 'static>(proxy: &Arc<Proxy>, task: impl FnOnce(&Proxy) -> T + 'static) -> thread::JoinHandle<T> {
    let proxy = proxy.clone();
    thread::spawn(move || task(&proxy))
}

fn change(proxy: &Arc<Proxy>) -> thread::JoinHandle<()> {
    beside(proxy, |proxy| {
        proxy.change(|plan| {
            *plan += 1;
            true
        });
    })
}

#[test]
fn a_connection_sees_the_last_of_several_changes_whenever_it_was_made() {
    every_schedule(3, || {
        let proxy = Arc::new(Proxy::new(0));
        let connection = beside(&proxy, move |proxy| follow(proxy, &list(proxy, 1), 2));
        for change in [change(&proxy), change(&proxy)] {
            change.join().expect("changed");
        }
        connection.join().expect("saw both");
    });
}

#[test]
fn each_of_several_connections_sees_a_change() {
    every_schedule(2, || {
        let proxy = Arc::new(Proxy::new(0));
        let connections = [1, 2].map(|number| {
            let signal = list(&proxy, number);
            beside(&proxy, move |proxy| follow(proxy, &signal, 1))
        });
        change(&proxy).join().expect("changed");
        for connection in connections {
            connection.join().expect("saw it");
        }
    });
}

#[test]
fn a_connection_that_leaves_holds_nobody_up() {
    every_schedule(3, || {
        let proxy = Arc::new(Proxy::new(0));
        let leaving = beside(&proxy, move |proxy| {
            drop(list(proxy, 1));
            proxy.live.lock().remove(&1);
        });
        let staying = beside(&proxy, move |proxy| follow(proxy, &list(proxy, 2), 1));
        change(&proxy).join().expect("changed");
        leaving.join().expect("left");
        staying.join().expect("saw it");
    });
}

/// As with a toxic that resets what is open and what comes: a connection is listed before it looks, so it is struck in one
/// of the two ways.
#[test]
fn a_change_that_ends_connections_misses_none() {
    every_schedule(3, || {
        let proxy = Arc::new(Proxy::new(0));
        let connection = beside(&proxy, move |proxy| {
            let signal = list(proxy, 1);
            if *proxy.plan.borrow() == 1 {
                return;
            }
            assert_eq!(block_on(signal.ended()), "reset");
        });
        change(&proxy).join().expect("changed");
        let struck = proxy.order_to_end(&"reset", |_, client| client == CLIENT);
        assert!(struck.is_empty() || struck == [1]);
        connection.join().expect("ended");
    });
}

#[test]
fn an_order_to_end_reaches_a_connection_that_follows_a_change() {
    every_schedule(2, || {
        let proxy = Arc::new(Proxy::new(0));
        let signal = list(&proxy, 1);
        let connection = beside(&proxy, move |proxy| {
            let mut followed = None;
            block_on(poll_fn(|context| {
                let ended = signal.poll_ended(context);
                proxy.follow(&mut followed, |plan| *plan);
                ended
            }))
        });
        let changer = change(&proxy);
        assert_eq!(proxy.order_to_end(&"close", |number, _| number == 1), [1]);
        assert_eq!(connection.join().expect("ended"), "close");
        changer.join().expect("changed");
    });
}

/// As when a fault is healed and its guard dropped at once: it is told once.
#[test]
fn of_two_who_want_the_same_change_one_makes_it() {
    every_schedule(3, || {
        let proxy = Arc::new(Proxy::new(0));
        let heal = |proxy: &Proxy| proxy.change(|plan| std::mem::replace(plan, 1) == 0);
        let other = beside(&proxy, move |proxy| heal(proxy));
        let here = heal(&proxy);
        assert!(here != other.join().expect("done"), "both or neither healed it");
        assert_eq!((*proxy.plan.borrow(), proxy.version()), (1, 1));
    });
}
