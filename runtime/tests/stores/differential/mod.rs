//! The engine against a naive executor in memory, on schemas, rows and operations that nobody has thought of.
//!
//! Promises: every case is made of a seed, so that it comes again; the executor shares nothing with the engine but the
//! parser; a difference is told with the schema, the rows, the operation and both answers, as small as they can be made.
//! Seeds that once found a difference are in `seeds.txt` and are always run.

mod arguments;
pub mod compare;
mod data;
mod list;
mod model;
mod naive;
mod operation;
mod tape;
mod written;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use async_graphql::parser::parse_query;
use fraiseql_runtime::engine::limits::Limits;
use fraiseql_runtime::engine::loader::{Parts, Served, Source};
use fraiseql_runtime::engine::metrics::EngineMetrics;
use fraiseql_runtime::engine::plan_cache::Bounds;
use fraiseql_runtime::engine::{Engine, Gates, Request, Settings};
use fraiseql_runtime::observability::metrics::Metrics;
use fraiseql_runtime::security::guard::Guards;
use fraiseql_runtime::storage::postgres::{self, Postgres};
use proptest::prelude::any;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use self::compare::Cursors;
use self::data::Data;
use self::model::{Link, Model, RootKind};
use self::operation::Operation;
use self::tape::Tape;

/// Numbers that a schema and its rows are made of.
const SCHEMA_WORDS: usize = 2_500;
/// Numbers that an operation is made of, at most.
const OPERATION_WORDS: usize = 400;
/// Attempts to make a difference smaller.
const SHRINK_MAX: usize = 3_000;

/// What a run came to.
#[derive(Debug, Default)]
pub struct Report {
    pub schemas: u64,
    pub cases: u64,
    /// Each told in full.
    pub differences: Vec<String>,
}

/// An engine over one schema and its rows, and what its cursors mean.
struct Bench {
    seed: u64,
    model: Model,
    data: Data,
    engine: Engine,
    cursors: Cursors,
}

/// Runs the operations of each seed against the database, which is emptied; ends at the first difference of a seed.
pub async fn run(url: &str, seeds: impl Iterator<Item = u64>, operations: u64) -> Report {
    let mut report = Report::default();
    for seed in seeds {
        let mut bench = Bench::build(url, seed).await;
        report.schemas += 1;
        if let Err(difference) = bench.run(url, operations, &mut report.cases).await {
            report.differences.push(difference);
        }
    }
    report
}

fn runner(seed: u64, part: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&part.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

impl Bench {
    async fn build(url: &str, seed: u64) -> Self {
        let words = proptest::collection::vec(any::<u32>(), SCHEMA_WORDS);
        let words = words.new_tree(&mut runner(seed, 0)).expect("numbers").current();
        let mut tape = Tape::new(&words);
        let model = Model::any(&mut tape);
        let data = Data::any(&mut tape, &model);
        let reset = "DROP SCHEMA public CASCADE; CREATE SCHEMA public;";
        execute(url, &format!("{reset}\n{}", model.ddl())).await.unwrap_or_else(|error| {
            panic!("seed {seed}: {error}\n{}", model.ddl());
        });
        execute(url, &data.dml(&model)).await.unwrap_or_else(|error| {
            panic!("seed {seed}: {error}\n{}\n{}", model.ddl(), data.dml(&model));
        });
        let engine = serve(url, &model.sdl()).await;
        Self { seed, model, data, engine, cursors: Cursors::default() }
    }

    async fn run(&mut self, url: &str, operations: u64, cases: &mut u64) -> Result<(), String> {
        for operation in self.first_cursors() {
            *cases += 1;
            if let Err(what) = self.check(&operation, true).await {
                return Err(self.told(&operation, &what));
            }
        }
        for part in 1..=operations {
            *cases += 1;
            let words = proptest::collection::vec(any::<u32>(), 0..OPERATION_WORDS);
            let mut tree = words.new_tree(&mut runner(self.seed, part)).expect("numbers");
            let operation = self.operation(&tree.current());
            let Err(mut what) = self.check(&operation, true).await else { continue };
            let mut smallest = operation;
            for _ in 0..SHRINK_MAX {
                let candidate = self.operation(&tree.current());
                let more = match self.check(&candidate, false).await {
                    Err(differs) => {
                        (smallest, what) = (candidate, differs);
                        tree.simplify()
                    }
                    Ok(()) => tree.complicate(),
                };
                if !more {
                    break;
                }
            }
            self.remove_rows(url, &smallest).await;
            // One that does not come again is told as it came.
            let what = self.check(&smallest, false).await.err().unwrap_or(what);
            return Err(self.told(&smallest, &what));
        }
        Ok(())
    }

    /// Leaves out rows while the answers differ all the same. Cursors mean rows by number, so an operation with one
    /// keeps them.
    async fn remove_rows(&mut self, url: &str, operation: &Operation) {
        if operation.query.contains("after")
            || operation.query.contains("before")
            || operation.query.contains("ursor")
        {
            return;
        }
        for table in 0..self.model.tables.len() {
            let mut row = self.data.rows[table].len();
            while row > 0 {
                row = (row - 1).min(self.data.rows[table].len());
                if row == self.data.rows[table].len() {
                    continue;
                }
                let less = self.data.without(&self.model, table, row);
                let before = std::mem::replace(&mut self.data, less);
                self.reload(url).await;
                if self.check(operation, false).await.is_ok() {
                    self.data = before;
                    self.reload(url).await;
                }
            }
        }
    }

    async fn reload(&self, url: &str) {
        let names = self.model.tables.iter().map(|table| written::quoted(&table.name));
        let names: Vec<String> = names.chain(self.model.betweens.iter().map(|b| b.name.clone())).collect();
        let text = format!("TRUNCATE {} CASCADE;\n{}", names.join(", "), self.data.dml(&self.model));
        execute(url, &text).await.expect("the rows were there before");
    }

    fn operation(&self, words: &[u32]) -> Operation {
        operation::any(&mut Tape::new(words), &self.model, &self.data, &self.cursors)
    }

    /// Every cursor of every order of one column.
    fn first_cursors(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for root in &self.model.roots {
            let RootKind::List(list) = &root.kind else { continue };
            if !list.connection {
                continue;
            }
            let of = &self.model.tables[root.table];
            let mut orders = vec![None];
            for field in &self.model.types[of.ty].fields {
                if let Link::Column(column) = field.link
                    && of.columns[column].is_sortable()
                    && list.order.is_some()
                {
                    orders.extend([Some((column, false)), Some((column, true))]);
                }
            }
            all.extend(
                orders
                    .into_iter()
                    .map(|order| operation::all_cursors(&self.model, &root.name, list, order, root.table)),
            );
        }
        all
    }

    /// Whether both answer the same; what they answer, when not.
    async fn check(&mut self, operation: &Operation, learn: bool) -> Result<(), String> {
        let request = Request {
            query: operation.query.clone(),
            operation_name: None,
            variables: serde_json::from_value(Value::Object(operation.variables.clone())).expect("an object"),
        };
        let body = self.engine.execute(&request).await.body;
        let engine: Value = serde_json::from_slice(&body)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&body)))?;
        let naive = std::panic::catch_unwind(AssertUnwindSafe(|| self.naive(operation)))
            .map_err(|_| format!("the naive executor gave up; the engine has {engine}"))?;
        let mut cursors = self.cursors.clone();
        compare::equal(&paths_only(&engine), &naive, &mut cursors)
            .map_err(|what| format!("{what}\nengine: {engine}\nnaive:  {naive}"))?;
        if learn {
            self.cursors = cursors;
        }
        Ok(())
    }

    fn naive(&self, operation: &Operation) -> Value {
        let document = parse_query(&operation.query).expect("an operation");
        let world = naive::World { model: &self.model, data: &self.data, cursors: &self.cursors };
        naive::answer(&world, &document, operation)
    }

    fn told(&self, operation: &Operation, what: &str) -> String {
        let (sdl, ddl, dml) = (self.model.sdl(), self.model.ddl(), self.data.dml(&self.model));
        let operation = operation::shown(operation);
        format!("seed {}\n\n{ddl}\n{dml}\n{sdl}\n{operation}\n{what}\n", self.seed)
    }
}

/// Of errors only where they are: what they say is not the naive executor's to know.
fn paths_only(answer: &Value) -> Value {
    let Value::Object(answer) = answer else { return answer.clone() };
    let mut kept = answer.clone();
    if let Some(errors) = answer.get("errors").and_then(Value::as_array)
        && answer.contains_key("data")
    {
        let paths = errors.iter().map(|error| json!({"path": error["path"]})).collect();
        kept.shift_remove("errors");
        kept.insert("errors".to_owned(), paths);
    }
    Value::Object(kept)
}

async fn execute(url: &str, text: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql("SET client_min_messages = warning").execute(&mut connection).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

async fn serve(url: &str, sdl: &str) -> Engine {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("schema.graphql");
    std::fs::write(&path, sdl).expect("written");
    let limits = postgres::Limits {
        min_connections: 0,
        max_connections: 4,
        connect_timeout: Duration::from_secs(5),
        acquire_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
    };
    let settings = Settings {
        limits: Limits {
            depth_max: 100,
            complexity_max: u64::MAX,
            tokens_max: 1_000_000,
            roots_max: 100,
            aliases_max: 100_000,
        },
        plans: Bounds { entries_max: 100, bytes_max: 1 << 20 },
        introspection: true,
        subject_prefix: "differential".to_owned(),
        guards: Guards::default(),
        behind: Gates::default(),
        gate: fraiseql_runtime::outbox::Gate::default(),
    };
    let postgres = Postgres::new(url, limits, Duration::from_secs(30)).expect("a URL");
    let metrics = Metrics::new().area(EngineMetrics::register);
    let source = Source { path, url: url.to_owned(), database_schemas: Vec::new() };
    let parts = Parts { postgres, queue: None, cache: None, settings, metrics };
    let served = Served::new(source, parts);
    if let Err(error) = served.load().await {
        panic!("{}\n{sdl}", fraiseql_runtime::error::chain(&error));
    }
    served.current().expect("loaded")
}
