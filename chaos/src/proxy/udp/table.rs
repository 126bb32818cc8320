//! The sessions of one proxy by client address. Pure: the time is passed in.
//!
//! There is one session for an address, and never more of them than the bound: the one that has been idle for longest
//! makes room for a new one.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// With no time at all a busy session would expire again and again.
const SHORTEST: Duration = Duration::from_millis(1);

#[derive(Debug)]
struct Entry<S> {
    number: u64,
    heard: Instant,
    session: S,
}

#[derive(Debug)]
pub(super) struct Table<S> {
    sessions: HashMap<SocketAddr, Entry<S>>,
    /// Clients by when they or their server were last heard of, and the number of their session.
    by_age: BTreeMap<(Instant, u64), SocketAddr>,
    idle: Duration,
    max: usize,
}

impl<S> Table<S> {
    /// Sessions end after `idle`; there are at most `max` of them, and at least room for one.
    pub fn new(idle: Duration, max: usize) -> Table<S> {
        Table { sessions: HashMap::new(), by_age: BTreeMap::new(), idle: idle.max(SHORTEST), max: max.max(1) }
    }

    /// The session of a client that was heard at `now`.
    pub fn hear(&mut self, client: SocketAddr, now: Instant) -> Option<&S> {
        let entry = self.sessions.get_mut(&client)?;
        self.by_age.remove(&(entry.heard, entry.number));
        entry.heard = entry.heard.max(now);
        self.by_age.insert((entry.heard, entry.number), client);
        Some(&entry.session)
    }

    /// The same for a server's answer, if the session has not been replaced meanwhile.
    pub fn answered(&mut self, client: SocketAddr, number: u64, now: Instant) {
        if self.sessions.get(&client).is_some_and(|entry| entry.number == number) {
            self.hear(client, now);
        }
    }

    /// Adds a session that began at `now`; the one that has to make room for it.
    pub fn insert(&mut self, client: SocketAddr, number: u64, session: S, now: Instant) -> Option<S> {
        let replaced = self.take(client);
        let displaced = match self.sessions.len() < self.max {
            true => None,
            false => self.by_age.first_key_value().map(|(_, oldest)| *oldest),
        };
        let displaced = displaced.and_then(|oldest| self.take(oldest));
        self.by_age.insert((now, number), client);
        self.sessions.insert(client, Entry { number, heard: now, session });
        replaced.or(displaced)
    }

    /// Takes out the session that ended by itself, unless another one has its place.
    pub fn remove(&mut self, client: SocketAddr, number: u64) {
        if self.sessions.get(&client).is_some_and(|entry| entry.number == number) {
            self.take(client);
        }
    }

    /// Takes out the sessions that have been idle for too long at `now`. A busy one has datagrams that wait and counts as
    /// heard of.
    pub fn expire(&mut self, now: Instant, busy: impl Fn(&S) -> bool) -> Vec<S> {
        let mut expired = Vec::new();
        while let Some(client) = self.next_expiry().filter(|at| *at <= now).and_then(|_| self.oldest()) {
            match self.sessions.get(&client) {
                Some(entry) if busy(&entry.session) => {
                    self.hear(client, now);
                }
                _ => expired.extend(self.take(client)),
            }
        }
        expired
    }

    /// When the next session expires if nothing is heard.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.by_age.first_key_value().map(|((heard, _), _)| *heard + self.idle)
    }

    fn oldest(&self) -> Option<SocketAddr> {
        self.by_age.first_key_value().map(|(_, client)| *client)
    }

    fn take(&mut self, client: SocketAddr) -> Option<S> {
        let entry = self.sessions.remove(&client)?;
        self.by_age.remove(&(entry.heard, entry.number));
        Some(entry.session)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_session_ends_when_neither_side_was_heard_for_the_idle_time() {
        let (mut table, start) = (Table::new(IDLE, 10), Instant::now());
        assert_eq!(table.insert(client(1), 1, 'a', start), None);
        assert_eq!(table.insert(client(2), 2, 'b', start), None);
        assert_eq!(table.hear(client(1), start + seconds(30)), Some(&'a'));
        assert_eq!(table.expire(start + seconds(59), |_| false), []);
        assert_eq!(table.expire(start + seconds(60), |_| false), ['b']);
        table.answered(client(1), 1, start + seconds(80));
        assert_eq!(table.next_expiry(), Some(start + seconds(140)));
        assert_eq!(table.expire(start + seconds(139), |_| false), []);
        assert_eq!(table.expire(start + seconds(140), |_| false), ['a']);
        assert_eq!((table.next_expiry(), table.hear(client(1), start)), (None, None));
    }

    #[test]
    fn a_busy_session_stays_until_it_has_been_idle_again() {
        let (mut table, start) = (Table::new(IDLE, 10), Instant::now());
        table.insert(client(1), 1, 'a', start);
        assert_eq!(table.expire(start + seconds(60), |_| true), []);
        assert_eq!(table.expire(start + seconds(119), |_| false), []);
        assert_eq!(table.expire(start + seconds(120), |_| false), ['a']);
    }

    #[test]
    fn the_one_that_has_been_idle_for_longest_makes_room() {
        let (mut table, start) = (Table::new(IDLE, 2), Instant::now());
        table.insert(client(1), 1, 'a', start);
        table.insert(client(2), 2, 'b', start + seconds(1));
        table.hear(client(1), start + seconds(2));
        assert_eq!(table.insert(client(3), 3, 'c', start + seconds(3)), Some('b'));
        assert_eq!(table.hear(client(2), start + seconds(4)), None);
    }

    #[test]
    fn a_session_that_was_replaced_neither_answers_nor_removes_the_new_one() {
        let (mut table, start) = (Table::new(IDLE, 2), Instant::now());
        table.insert(client(1), 1, 'a', start);
        table.remove(client(1), 1);
        table.insert(client(1), 2, 'b', start);
        table.answered(client(1), 1, start + seconds(50));
        table.remove(client(1), 1);
        assert_eq!(table.next_expiry(), Some(start + IDLE));
        assert_eq!(table.hear(client(1), start), Some(&'b'));
    }

    proptest! {
        #[test]
        fn there_are_never_too_many_and_each_that_came_is_there_or_was_handed_out(
            max in 1..8_usize,
            steps in prop::collection::vec((0..12_u16, 0..20_u64, 0..4_u8), 1..200),
        ) {
            let mut table = Table::new(IDLE, max);
            let (mut now, mut number, mut inside) = (Instant::now(), 0, Vec::new());
            for (port, pause, what) in steps {
                now += seconds(pause);
                match what {
                    0 => inside.retain(|(number, of)| {
                        let gone = *of == port;
                        if gone { table.remove(client(port), *number); }
                        !gone
                    }),
                    1 => {
                        let expired = table.expire(now, |_| false);
                        inside.retain(|(number, _)| !expired.contains(number));
                    }
                    _ if table.hear(client(port), now).is_none() => {
                        number += 1;
                        let out = table.insert(client(port), number, number, now);
                        inside.retain(|(number, _)| Some(*number) != out);
                        inside.push((number, port));
                    }
                    _ => {}
                }
                prop_assert!(table.sessions.len() <= max);
                prop_assert_eq!(table.by_age.len(), table.sessions.len());
                let mut there: Vec<u64> = table.sessions.values().map(|entry| entry.number).collect();
                there.sort_unstable();
                let wanted: Vec<u64> = inside.iter().map(|(number, _)| *number).collect();
                prop_assert_eq!(there, wanted);
            }
        }
    }
}
