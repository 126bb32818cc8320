//! What callers did that they may not, in one place: each event is counted, logged, and set beside the others of its caller.
//!
//! Promises: counting never waits and never allocates for callers who are known; what is kept of callers is bounded, however
//! many there are; a caller who does the same wrong thing a thousand times fills a few lines of the log and not a thousand.
//! The log names callers by a digest, so that lines belong together and no name or address is in them.

mod correlate;
pub mod metrics;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use self::correlate::{Correlator, Said};
use self::metrics::{ActiveUsers, MonitorMetrics, Users};
use crate::clock::Clock;
use crate::observability::metrics::Metrics;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecurityEvent {
    /// Somebody showed a key that nobody has.
    AuthFailure,
    /// Somebody showed who they are.
    AuthSuccess,
    /// Somebody asked for what they may not have.
    AccessDenied,
    /// Somebody called more often than they may.
    RateLimited,
    /// A page of another origin called.
    CorsViolation,
    /// A request that could not be read, or was none that the schema allows.
    ValidationError,
    /// An operation that asks for too much.
    ComplexityViolation,
}

impl SecurityEvent {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::AuthFailure,
        Self::AuthSuccess,
        Self::AccessDenied,
        Self::RateLimited,
        Self::CorsViolation,
        Self::ValidationError,
        Self::ComplexityViolation,
    ];

    /// The label of metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::AuthFailure => "auth_failure",
            Self::AuthSuccess => "auth_success",
            Self::AccessDenied => "access_denied",
            Self::RateLimited => "rate_limited",
            Self::CorsViolation => "cors_violation",
            Self::ValidationError => "validation_error",
            Self::ComplexityViolation => "complexity_violation",
        }
    }

    /// Whether it says something against the caller.
    const fn is_offence(self) -> bool {
        !matches!(self, Self::AuthSuccess)
    }
}

/// How callers behave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Callers with an offence in the last minute.
    pub offenders: usize,
    /// Those of them with so many that it is no mistake any more.
    pub suspicious: usize,
    /// Callers who were known by their key in the last five minutes.
    pub active_users: usize,
}

/// The monitor. Clones share it.
#[derive(Clone)]
pub struct SecurityMonitor {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: MonitorMetrics,
    correlator: Mutex<Correlator>,
    users: Arc<Users>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SecurityMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecurityMonitor").field("summary", &self.summary()).finish()
    }
}

impl SecurityMonitor {
    /// Registers its families: once per registry.
    pub fn new(metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        let users = Arc::new(Users::new(clock.clone()));
        let collected = ActiveUsers::new(users.clone());
        let metrics = metrics.area(|registry| {
            registry.register_collector(Box::new(collected));
            MonitorMetrics::register(registry)
        });
        let correlator = Mutex::new(Correlator::default());
        Self { inner: Arc::new(Inner { metrics, correlator, users, clock }) }
    }

    /// Counts an event, and logs it unless its caller fills the log. `client`: an identity or an address, `None` for who is
    /// not known.
    pub fn record(&self, event: SecurityEvent, client: Option<&str>) {
        self.inner.metrics.count(event);
        if !event.is_offence() {
            if let Some(client) = client {
                self.inner.users.seen(client);
            }
            return;
        }
        let (said, suspicious) = {
            let mut correlator = self.inner.correlator.lock();
            let said = correlator.record(event, client.unwrap_or_default(), self.inner.clock.now());
            (said, correlator.suspicious())
        };
        self.inner.metrics.suspicious.set(i64::try_from(suspicious).unwrap_or(i64::MAX));
        match said {
            Said::Nothing => {}
            Said::Event => {
                tracing::warn!(event = event.label(), client = digest(client), "security event");
            }
            Said::Suspicion { events } => {
                let seconds = correlate::WINDOW.as_secs();
                let client = digest(client);
                tracing::warn!(
                    event = event.label(),
                    client,
                    events,
                    seconds,
                    "many security events of one caller"
                );
            }
        }
    }

    /// How long a check of a caller took.
    pub fn checked_within(&self, took: Duration) {
        self.inner.metrics.check_duration.observe(took.as_secs_f64());
    }

    /// How callers behave now.
    pub fn summary(&self) -> Summary {
        let mut correlator = self.inner.correlator.lock();
        correlator.forget(self.inner.clock.now());
        Summary {
            offenders: correlator.offenders(),
            suspicious: correlator.suspicious(),
            active_users: self.inner.users.active(),
        }
    }
}

/// Enough to see that two lines are of the same caller.
fn digest(client: Option<&str>) -> String {
    use std::fmt::Write as _;
    let Some(client) = client else { return "anonymous".to_owned() };
    let mut text = String::with_capacity(12);
    for byte in &Sha256::digest(client.as_bytes())[..6] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    #[test]
    fn every_kind_of_event_has_its_series_from_the_start() {
        let metrics = Metrics::new();
        let monitor = SecurityMonitor::new(&metrics, Arc::new(TestClock::default()));
        let value = |line: &str, text: &str| text.lines().any(|told| told == line);
        let names = [
            "xzepr_auth_failures_total",
            "xzepr_auth_success_total",
            "xzepr_cors_violations_total",
            "xzepr_validation_errors_total",
            "xzepr_graphql_complexity_violations_total",
        ];
        let text = metrics.classic();
        for name in names {
            assert!(value(&format!("{name} 0"), &text), "{name} is missing:\n{text}");
        }
        for event in SecurityEvent::ALL {
            monitor.record(event, Some("ci"));
        }
        let text = metrics.classic();
        for name in names {
            assert!(value(&format!("{name} 1"), &text), "{name}:\n{text}");
        }
        for event in SecurityEvent::ALL {
            let line = format!("security_events_total{{event=\"{}\"}} 1", event.label());
            assert!(value(&line, &text), "{line}:\n{text}");
        }
        assert!(value("active_users 1", &text), "{text}");
    }

    #[test]
    fn a_user_is_active_for_five_minutes() {
        let clock = Arc::new(TestClock::default());
        let monitor = SecurityMonitor::new(&Metrics::new(), clock.clone());
        monitor.record(SecurityEvent::AuthSuccess, Some("ann"));
        clock.advance(Duration::from_secs(200));
        monitor.record(SecurityEvent::AuthSuccess, Some("bob"));
        assert_eq!(monitor.summary().active_users, 2);
        clock.advance(Duration::from_secs(200));
        assert_eq!(monitor.summary(), Summary { offenders: 0, suspicious: 0, active_users: 1 });
    }

    #[test]
    fn callers_are_told_apart_without_their_names() {
        assert_ne!(digest(Some("10.0.0.1")), digest(Some("10.0.0.2")));
        assert!(!digest(Some("ann@mail.example")).contains("ann"));
    }
}
