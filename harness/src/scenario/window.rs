//! When the phases of a run were, and which stretch of it a window means.

use super::Window;

/// A stretch of time, end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from_ns: u64,
    pub to_ns: u64,
}

impl Span {
    pub fn contains(&self, at_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&at_ns)
    }
}

/// When the phases of a run were, on the run's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phases {
    pub load: Span,
    /// Injected and healed as it really happened, by the id of the file.
    pub faults: Vec<(String, Span)>,
    /// After everything was drained.
    pub end: Span,
}

impl Phases {
    /// The stretch of a window; `None` when its fault never acted.
    pub fn span(&self, window: &Window) -> Option<Span> {
        let first = self.faults.iter().map(|(_, s)| s.from_ns).min().unwrap_or(self.load.to_ns);
        let of = |id: &str| self.faults.iter().find(|(name, _)| same_fault(name, id)).map(|(_, s)| *s);
        match window {
            Window::Before => Some(Span { from_ns: self.load.from_ns, to_ns: first }),
            Window::During(id) => of(id),
            Window::After(id) => of(id).map(|fault| {
                let next = self.faults.iter().map(|(_, s)| s.from_ns).filter(|at| *at >= fault.to_ns).min();
                Span { from_ns: fault.to_ns, to_ns: next.unwrap_or(self.load.to_ns).max(fault.to_ns) }
            }),
            Window::Always => Some(self.load),
            Window::End => Some(self.end),
        }
    }
}

/// `redis-refused#2` is the second round of `redis-refused`.
fn same_fault(instance: &str, id: &str) -> bool {
    instance == id || instance.strip_prefix(id).is_some_and(|rest| rest.starts_with('#'))
}
