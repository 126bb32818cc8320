//! What a fault has to have touched, at the least, to have been a test at all.

use chaos::fault::Evidence;

/// What is counted, the least of it, and where it is found.
type Clause = (&'static str, u64, fn(&Evidence) -> u64);

/// The least a fault has to touch to have been a test at all. Zero asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    pub refused: u64,
    pub unanswered: u64,
    pub reset: u64,
    pub connections: u64,
    pub delayed_bytes: u64,
    pub swallowed_bytes: u64,
    pub forwarded_bytes: u64,
    pub corrupted_bytes: u64,
    pub duplicated_bytes: u64,
    pub processes: u64,
    pub arrivals: u64,
    pub matched: u64,
    pub acted: u64,
}

impl Wanted {
    fn clauses(&self) -> [Clause; 13] {
        [
            ("refused", self.refused, |e| e.refused),
            ("unanswered", self.unanswered, |e| e.unanswered),
            ("reset", self.reset, |e| e.reset),
            ("live connections", self.connections, |e| e.connections),
            ("delayed bytes", self.delayed_bytes, |e| e.delayed_bytes),
            ("swallowed bytes", self.swallowed_bytes, |e| e.swallowed_bytes),
            ("forwarded bytes", self.forwarded_bytes, |e| e.forwarded_bytes),
            ("corrupted bytes", self.corrupted_bytes, |e| e.corrupted_bytes),
            ("duplicated bytes", self.duplicated_bytes, |e| e.duplicated_bytes),
            ("processes", self.processes, |e| e.processes),
            ("arrivals", self.arrivals, |e| e.arrivals),
            ("messages met", self.matched, |e| e.matched),
            ("messages acted on", self.acted, |e| e.acted),
        ]
    }

    /// True when every clause asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Wanted::default()
    }

    /// The clauses for a person: `refused >= 1`.
    pub fn sentences(&self) -> Vec<String> {
        self.clauses().iter().filter(|c| c.1 > 0).map(|(what, min, _)| format!("{what} >= {min}")).collect()
    }

    /// The clauses that `found` does not meet; empty: the fault bit. A link whose proxy does not count is judged by what
    /// exchanges of the harness' own met there.
    pub fn missing(&self, found: &Evidence) -> Vec<String> {
        if found.probes > 0 {
            return vec![];
        }
        self.clauses()
            .iter()
            .filter(|(_, min, of)| of(found) < *min)
            .map(|(what, min, of)| format!("{what} {} of at least {min}", of(found)))
            .collect()
    }
}
