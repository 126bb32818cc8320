//! The series of the notifications; those of their breakers and retries are with the others of calls.

use prometheus_client::encoding::EncodeLabelSet;

use super::Action;
use crate::observability::metrics::{Counter, Family, Gauge, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    action: &'static str,
    result: &'static str,
}

/// How a delivery by one action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The target took it.
    Sent,
    /// The target failed; it is tried again.
    Failed,
    /// The target was not called, since its breaker is open or its rate used up; it is tried again.
    Deferred,
    /// It was given up.
    Dead,
}

impl Ended {
    const ALL: [Self; 4] = [Self::Sent, Self::Failed, Self::Deferred, Self::Dead];

    const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Deferred => "deferred",
            Self::Dead => "dead",
        }
    }
}

/// `notifications_total{action,result}` and `notification_stream_followed`.
#[derive(Debug, Clone, Default)]
pub struct NotificationMetrics {
    /// Whether events are followed now.
    pub followed: Gauge,
    deliveries: Family<Labels, Counter>,
}

impl NotificationMetrics {
    /// Registers the family with its series at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for action in Action::ALL {
            for ended in Ended::ALL {
                metrics.of(action, ended).inc_by(0);
            }
        }
        let help = "Deliveries of notifications, by action and how they ended";
        registry.register("notifications", help, metrics.deliveries.clone());
        let help = "Whether the events that are told are followed";
        registry.register("notification_stream_followed", help, metrics.followed.clone());
        metrics
    }

    /// Counts one.
    pub fn count(&self, action: Action, ended: Ended) {
        self.of(action, ended).inc();
    }

    fn of(&self, action: Action, ended: Ended) -> Counter {
        let labels = Labels { action: action.name(), result: ended.label() };
        self.deliveries.get_or_create_owned(&labels)
    }
}
