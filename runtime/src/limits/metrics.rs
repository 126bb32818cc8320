//! The series of the limits.

use prometheus_client::encoding::EncodeLabelSet;

use super::policy::Limit;
use crate::config::auth::Tier;
use crate::observability::metrics::{Counter, Family, Registry};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    limit: &'static str,
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Store {
    store: &'static str,
}

/// What limits count.
#[derive(Debug, Clone)]
pub struct LimitMetrics {
    rejections: Counter,
    by_limit: Family<Labels, Counter>,
    decisions: Family<Store, Counter>,
    delayed: Counter,
}

impl LimitMetrics {
    /// Registers the families.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            rejections: Counter::default(),
            by_limit: Family::default(),
            decisions: Family::default(),
            delayed: Counter::default(),
        };
        registry.register(
            "xzepr_rate_limit_rejections",
            "Requests refused because a limit was used up",
            metrics.rejections.clone(),
        );
        registry.register(
            "rate_limit_rejections",
            "The same by limit and by the tier of the caller",
            metrics.by_limit.clone(),
        );
        registry.register(
            "rate_limit_decisions",
            "Questions about quotas by the store that decided them",
            metrics.decisions.clone(),
        );
        registry.register(
            "rate_limit_delayed",
            "Requests that waited for their turn instead of being refused",
            metrics.delayed.clone(),
        );
        for limit in Limit::ALL {
            for tier in Tier::ALL {
                drop(metrics.by_limit.get_or_create(&labels(limit, tier)));
            }
        }
        for store in ["memory", "redis"] {
            drop(metrics.decisions.get_or_create(&Store { store }));
        }
        metrics
    }

    pub(super) fn refused(&self, limit: Limit, tier: Tier) {
        self.rejections.inc();
        self.by_limit.get_or_create(&labels(limit, tier)).inc();
    }

    pub(super) fn decided_by_redis(&self) {
        self.decisions.get_or_create(&Store { store: "redis" }).inc();
    }

    pub(super) fn decided_in_memory(&self) {
        self.decisions.get_or_create(&Store { store: "memory" }).inc();
    }

    pub(super) fn delayed(&self) {
        self.delayed.inc();
    }
}

fn labels(limit: Limit, tier: Tier) -> Labels {
    Labels { limit: limit.label(), tier: tier.label() }
}
