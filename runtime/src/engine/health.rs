//! The health check `schema`: without a schema nothing can be answered.

use tokio::time::Instant;

use super::loader::Served;
use crate::observability::health::{CheckResult, HealthCheck};

/// The name of the check, and what `/ready` says when it fails.
pub const NAME: &str = "schema";

/// Whether a schema was loaded.
pub struct SchemaCheck {
    /// What is served.
    pub served: Served,
}

#[async_trait::async_trait]
impl HealthCheck for SchemaCheck {
    fn name(&self) -> &str {
        NAME
    }

    async fn check(&self) -> CheckResult {
        let started = Instant::now();
        match self.served.current() {
            Some(_) => CheckResult::healthy(started.elapsed()),
            None => CheckResult::unhealthy("schema not loaded", started.elapsed()),
        }
    }
}
