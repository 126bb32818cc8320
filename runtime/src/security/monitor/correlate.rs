//! Which events of a caller are worth a line, and when there are too many of them. Pure: the time is given.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::SecurityEvent;

/// What is older is forgotten.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one caller in a window.
const LINES_MAX: u32 = 5;
/// So many offences in a window are no mistake.
const SUSPICIOUS: u32 = 20;
/// Callers that are kept at most; of more than these the events are counted and not told apart.
const CALLERS_MAX: usize = 10_000;

/// What to say about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing: there were enough lines.
    Nothing,
    /// That it happened.
    Event,
    /// That its caller has gone too far, once in a window.
    Suspicion {
        /// Offences so far.
        events: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Record {
    since: Instant,
    offences: u32,
}

/// The callers of the last minute.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    callers: HashMap<Box<str>, Record>,
    suspicious: usize,
    swept: Option<Instant>,
}

impl Correlator {
    /// An offence of a caller.
    pub(super) fn record(&mut self, _event: SecurityEvent, client: &str, now: Instant) -> Said {
        if self.swept.is_none_or(|swept| now.saturating_duration_since(swept) >= WINDOW) {
            self.forget(now);
        }
        if !self.callers.contains_key(client) {
            if self.callers.len() >= CALLERS_MAX {
                return Said::Nothing;
            }
            self.callers.insert(client.into(), Record { since: now, offences: 0 });
        }
        let Some(record) = self.callers.get_mut(client) else { return Said::Nothing };
        if now.saturating_duration_since(record.since) >= WINDOW {
            self.suspicious -= usize::from(record.offences >= SUSPICIOUS);
            *record = Record { since: now, offences: 0 };
        }
        record.offences = record.offences.saturating_add(1);
        match record.offences {
            SUSPICIOUS => {
                self.suspicious += 1;
                Said::Suspicion { events: SUSPICIOUS }
            }
            few if few <= LINES_MAX => Said::Event,
            _ => Said::Nothing,
        }
    }

    /// Drops whose window is over.
    pub(super) fn forget(&mut self, now: Instant) {
        self.callers.retain(|_, record| now.saturating_duration_since(record.since) < WINDOW);
        self.suspicious = self.callers.values().filter(|record| record.offences >= SUSPICIOUS).count();
        self.swept = Some(now);
    }

    pub(super) fn offenders(&self) -> usize {
        self.callers.len()
    }

    pub(super) fn suspicious(&self) -> usize {
        self.suspicious
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENT: SecurityEvent = SecurityEvent::AuthFailure;

    #[test]
    fn a_caller_has_a_few_lines_and_one_suspicion_in_a_window() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        let said: Vec<Said> = (0..1000).map(|_| correlator.record(EVENT, "a", now)).collect();
        assert_eq!(said.iter().filter(|said| **said == Said::Event).count(), LINES_MAX as usize);
        assert_eq!(said[SUSPICIOUS as usize - 1], Said::Suspicion { events: SUSPICIOUS });
        assert_eq!(said.iter().filter(|said| matches!(said, Said::Suspicion { .. })).count(), 1);
        assert_eq!(correlator.record(EVENT, "b", now), Said::Event);
        assert_eq!((correlator.offenders(), correlator.suspicious()), (2, 1));
        assert_eq!(correlator.record(EVENT, "a", now + WINDOW), Said::Event);
        assert_eq!(correlator.suspicious(), 0);
    }

    #[test]
    fn callers_without_number_do_not_fill_the_memory() {
        let (mut correlator, now) = (Correlator::default(), Instant::now());
        for number in 0..CALLERS_MAX + 500 {
            correlator.record(EVENT, &number.to_string(), now);
        }
        assert_eq!(correlator.offenders(), CALLERS_MAX);
        correlator.record(EVENT, "later", now + WINDOW);
        assert_eq!(correlator.offenders(), 1);
    }

    proptest! {
        #[test]
        fn the_count_of_suspicious_callers_is_right_at_any_time(
            steps in proptest::collection::vec((0u8..4, 0u64..5_000), 0..400),
        ) {
            let (mut correlator, mut now) = (Correlator::default(), Instant::now());
            for (client, wait) in steps {
                now += Duration::from_millis(wait / 10);
                correlator.record(EVENT, &client.to_string(), now);
                let counted = correlator.callers.values().filter(|record| record.offences >= SUSPICIOUS).count();
                prop_assert_eq!(correlator.suspicious(), counted);
            }
        }
    }
}
