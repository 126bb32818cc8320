//! What the targets share: the shop's schema, and an engine over a database that is not there.
//!
//! Everything up to the statement runs as in the server; the statement itself ends in a refused connection, so that
//! nothing is answered with data unless no database was needed.

use std::time::Duration;

use fraiseql_runtime::engine::limits::Limits;
use fraiseql_runtime::engine::metrics::EngineMetrics;
use fraiseql_runtime::engine::plan_cache::Bounds;
use fraiseql_runtime::engine::schema::catalogue::Catalogue;
use fraiseql_runtime::engine::schema::compile::compile;
use fraiseql_runtime::engine::{Answer, Engine, Gates, Request, Settings};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::security::guard::Guards;
use fraiseql_runtime::storage::postgres::{self, Postgres};
use serde_json::Value;
use tokio::runtime::Runtime;

const SCHEMA: &str = include_str!("../../../fixtures/schemas/ecommerce/schema.graphql");
const CATALOGUE: &str = include_str!("../../../fixtures/schemas/ecommerce/catalogue.json");

/// What the shop's database has.
pub fn catalogue() -> Catalogue {
    serde_json::from_str(CATALOGUE).expect("the catalogue")
}

/// An engine for the shop.
pub struct Shop {
    engine: Engine,
    runtime: Runtime,
}

impl Shop {
    /// Nothing is connected to.
    pub fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let Ok(compiled) = compile(SCHEMA, &catalogue()) else { panic!("the shop's schema compiles") };
        let limits = postgres::Limits {
            min_connections: 0,
            max_connections: 64,
            connect_timeout: Duration::from_secs(1),
            acquire_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(60),
        };
        // Port 1 is nobody's: a connection is refused at once.
        let url = "postgres://nobody@127.0.0.1:1/nothing";
        let postgres = Postgres::new(url, limits, Duration::from_secs(1)).expect("a URL");
        let settings = Settings {
            limits: Limits::default(),
            // A small one: what is thrown out is tried too.
            plans: Bounds { entries_max: 8, bytes_max: 64 * 1024 },
            introspection: true,
            subject_prefix: "shop".to_owned(),
            guards: Guards::default(),
            behind: Gates::default(),
            gate: fraiseql_runtime::outbox::Gate::default(),
        };
        let metrics = Metrics::new().area(EngineMetrics::register);
        let engine = Engine::new(compiled.schema, postgres, None, None, settings, metrics);
        Self { engine: engine.expect("a valid schema"), runtime }
    }

    /// The answer, which is JSON with data or with errors that have a message and a code.
    pub fn answer(&self, request: &Request) -> (Answer, Value) {
        let answer = self.runtime.block_on(self.engine.execute(request));
        let body: Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
        let errors = body["errors"].as_array();
        assert!(body.get("data").is_some() || errors.is_some(), "{body}");
        for error in errors.into_iter().flatten() {
            assert!(error["message"].is_string() && error["extensions"]["code"].is_string(), "{body}");
            assert_ne!(error["extensions"]["code"], "INTERNAL", "{body}");
        }
        (answer, body)
    }
}
