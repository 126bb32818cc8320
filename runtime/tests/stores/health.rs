//! Health over real stores that go and come back.

use std::sync::Arc;
use std::time::Duration;

use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::observability::health::{HealthChecker, HealthStatus};

use crate::support::{Link, Shop, Stage, equal, eventually};

const NAMES: [&str; 3] = ["database", "redis", "nats"];

fn checker(shop: &Shop) -> HealthChecker {
    let mut checker = HealthChecker::new("1").with_timeout(Duration::from_secs(1));
    shop.state.add_health_checks(&mut checker);
    checker
}

fn link<'a>(shop: &'a Shop, name: &str) -> &'a Link {
    match name {
        "database" => &shop.postgres,
        "redis" => &shop.redis,
        _ => &shop.nats,
    }
}

/// The whole and each check, with the gauge that tells the same.
async fn becomes(shop: &Shop, checker: &HealthChecker, whole: &str, away: Option<&str>) -> HealthStatus {
    let what = format!("{whole} with {away:?} away");
    eventually(&what, async || {
        let report = checker.run().await;
        for name in NAMES {
            let expected = if Some(name) == away { "unhealthy" } else { "healthy" };
            let check = &report.checks[name];
            equal(check.status.as_str(), expected)
                .map_err(|error| format!("{name}: {error} in {report:?}"))?;
            let up = shop.metric(&format!("dependency_up{{dependency=\"{name}\"}}")) as i64;
            equal(up, i64::from(Some(name) != away))
                .map_err(|error| format!("dependency_up of {name}: {error}"))?;
        }
        equal(report.status.as_str(), whole)?;
        Ok(report)
    })
    .await
}

pub async fn each_dependency_is_seen_to_go_and_to_come_back(stage: Arc<Stage>) {
    for (fallback, redis_away) in [(true, "degraded"), (false, "unhealthy")] {
        let settings = format!("cache.redis.fallback_enabled = {fallback}");
        let shop = Shop::open_with(&stage, &settings).await;
        let checker = checker(&shop);
        becomes(&shop, &checker, "healthy", None).await;
        for (name, whole) in [("database", "unhealthy"), ("redis", redis_away), ("nats", "degraded")] {
            let cut = link(&shop, name).cut().await;
            let report = becomes(&shop, &checker, whole, Some(name)).await;
            assert!(report.checks[name].message.is_some(), "{report:?}");
            cut.heal().await;
            becomes(&shop, &checker, "healthy", None).await;
        }
        shop.close().await;
    }
}

pub async fn a_silent_dependency_is_unhealthy_within_the_limit(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let checker = checker(&shop);
    becomes(&shop, &checker, "healthy", None).await;
    for (name, whole) in [("database", "unhealthy"), ("redis", "degraded"), ("nats", "degraded")] {
        let silence = NetworkFault::Blackhole { sticky: true, direction: Direction::Both };
        let guard = link(&shop, name).inject(silence).await;
        becomes(&shop, &checker, whole, Some(name)).await;
        guard.heal().await;
        becomes(&shop, &checker, "healthy", None).await;
    }
    shop.close().await;
}
