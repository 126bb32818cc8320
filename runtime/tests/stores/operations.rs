//! A catalogue of operations of both schemas (`fixtures/schemas/*/operations`): what each becomes, what PostgreSQL makes
//! of it on tables of some size, and that it is as many statements as it has root fields.

mod shape;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_graphql::Variables;
use async_graphql::parser::types::OperationType;
use fraiseql_runtime::engine::explain;
use fraiseql_runtime::engine::plan::{Action, Plan};
use fraiseql_runtime::engine::schema::catalogue::Catalogue;
use fraiseql_runtime::engine::schema::compile::compile;
use fraiseql_runtime::engine::schema::graphql::Graphql;
use fraiseql_runtime::engine::schema::model::Schema;
use sqlx::{Connection, PgConnection};

use crate::support::Stage;
use crate::support::blog::Blog;

/// Rows of orders, of their items, of posts' comments.
const MANY: u32 = 100_000;
/// PostgreSQL's estimate for one statement at most: a page is read in some hundred.
const COST_MAX: f64 = 2_500.0;
/// Tables that a catalogue operation never reads in full.
const LARGE: [&str; 6] = ["orders", "order_items", "users", "posts", "comments", "post_tags"];

/// One of the catalogue.
struct Operation {
    name: String,
    text: String,
    variables: serde_json::Value,
}

impl Operation {
    fn variables(&self) -> Variables {
        serde_json::from_value(self.variables.clone()).expect("variables are an object")
    }
}

fn folder(schema: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/schemas")).join(schema)
}

/// The operations of a schema, by name.
fn catalogue(schema: &str) -> Vec<Operation> {
    let entries = std::fs::read_dir(folder(schema).join("operations")).expect("operations");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("readable");
            let variables = text.lines().find_map(|line| line.strip_prefix("# variables: ")).unwrap_or("{}");
            let variables = serde_json::from_str(variables).expect("variables in JSON");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            Operation { name, text, variables }
        })
        .collect()
}

/// The schema, bound to what its database is known to have.
fn bound(schema: &str) -> (Schema, Graphql) {
    let read = |name: &str| std::fs::read_to_string(folder(schema).join(name)).expect("readable");
    let catalogue: Catalogue = serde_json::from_str(&read("catalogue.json")).expect("a catalogue");
    let compiled = compile(&read("schema.graphql"), &catalogue);
    let schema = compiled.unwrap_or_else(|problems| panic!("{problems:?}")).schema;
    let graphql = Graphql::new(&schema, true).expect("a valid schema");
    (schema, graphql)
}

async fn planned(schema: &Schema, graphql: &Graphql, operation: &Operation) -> Plan {
    let planned = explain::plan_of(schema, graphql, &operation.text, &operation.variables()).await;
    planned.unwrap_or_else(|error| panic!("{}: {error}", operation.name)).0
}

pub async fn each_becomes_the_sql_and_the_shape_of_its_snapshot(_stage: Arc<Stage>) {
    for name in ["ecommerce", "blog"] {
        let (schema, graphql) = bound(name);
        for operation in catalogue(name) {
            let plan = planned(&schema, &graphql, &operation).await;
            let mut text = String::new();
            for (root, statement) in explain::statements(&plan) {
                let _ = writeln!(text, "-- {root}\n{}", statement.sql);
                for place in 1..=statement.params.len() {
                    // A text is prepared once: with another number of parameters it would be refused.
                    let used = statement.sql.contains(&format!("${place}::"));
                    assert!(used, "{name}/{}: ${place} is not used in {}", operation.name, statement.sql);
                }
            }
            text.push_str(&shape::of(&plan));
            insta::with_settings!({
                description => operation.text.trim(),
                omit_expression => true,
                prepend_module_to_snapshot => false,
                snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stores/snapshots"),
            }, {
                insta::assert_snapshot!(format!("{name}__{}", operation.name), text);
            });
        }
    }
}

pub async fn each_reads_no_large_table_in_full(stage: Arc<Stage>) {
    let grow_shop = format!(
        "SET session_replication_role = replica;
         INSERT INTO users (id, name, email) SELECT n, 'User ' || n, 'user' || n || '@example.com'
         FROM generate_series(1001, 20000) AS n;
         INSERT INTO orders (id, user_id, status, total, shipping_address)
         SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1 + n % 20000,
                (ARRAY['pending', 'paid', 'shipped'])[1 + n % 3], n % 1000, '{{}}'
         FROM generate_series(1, {MANY}) AS n;
         INSERT INTO order_items (order_id, product_id, quantity, price)
         SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 1 + n % 1000, 1, 1
         FROM generate_series(1, {MANY}) AS n, generate_series(1, 2);
         ANALYZE;"
    );
    let grow_blog = format!(
        "SET session_replication_role = replica;
         INSERT INTO posts (id, author_id, slug, title, status, published_at) OVERRIDING SYSTEM VALUE
         SELECT n, 1 + n % 2000, 'post-' || n, 'Post ' || n, 'published', timestamptz '2026-01-01' + make_interval(mins => n)
         FROM generate_series(51, {MANY}) AS n;
         INSERT INTO authors (id, handle, name, email) OVERRIDING SYSTEM VALUE
         SELECT n, 'author-' || n, 'Author ' || n, 'author' || n || '@example.com' FROM generate_series(6, 2000) AS n;
         INSERT INTO comments (id, post_id, author_id, parent_id, body)
         SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 1 + n % {MANY}, 1 + n % 2000,
                ('00000000-0000-4000-8000-' || lpad((n - 1)::text, 12, '0'))::uuid, 'Comment ' || n
         FROM generate_series(200, {MANY}) AS n;
         INSERT INTO post_tags (post_id, tag_id) SELECT n, 1 + n % 10 FROM generate_series(51, {MANY}) AS n;
         INSERT INTO tags (id, slug, name) OVERRIDING SYSTEM VALUE
         SELECT n, 'tag-' || n, 'Tag ' || n FROM generate_series(11, 2000) AS n;
         UPDATE post_tags SET tag_id = 1 + post_id % 2000 WHERE post_id > 50;
         ANALYZE;"
    );
    for (name, grow) in [("ecommerce", grow_shop), ("blog", grow_blog)] {
        let (_engine, url) = Blog::open_schema(&stage, name, &[grow]).await;
        let (schema, graphql) = bound(name);
        let mut seen = Vec::new();
        for operation in catalogue(name) {
            let told =
                explain::operation(&schema, &graphql, &operation.text, &operation.variables(), Some(&url))
                    .await;
            let told = told.unwrap_or_else(|error| {
                panic!("{name}/{}: {}", operation.name, fraiseql_runtime::error::chain(&error))
            });
            for (line, table) in told.lines().flat_map(|line| LARGE.map(|table| (line, table))) {
                let whole = line.contains(&format!("Seq Scan on {table} "));
                assert!(!whole, "{name}/{} reads {table} in full:\n{told}", operation.name);
            }
            let most = told.lines().filter_map(cost).fold(0.0, f64::max);
            assert!(most <= COST_MAX, "{name}/{} costs {most}:\n{told}", operation.name);
            seen.push((operation.name, most));
        }
        assert!(seen.iter().any(|(_, cost)| *cost > 0.0), "no cost was read: {seen:?}");
    }
}

/// The estimate for the whole statement, when the line is the first of its plan: a part that a limit cuts off costs less
/// than its line says.
fn cost(line: &str) -> Option<f64> {
    if line.contains("->") {
        return None;
    }
    line.split_once("(cost=")?.1.split_once("..")?.1.split(' ').next()?.parse().ok()
}

pub async fn each_is_as_many_statements_as_it_has_roots(stage: Arc<Stage>) {
    for name in ["ecommerce", "blog"] {
        let extension = "CREATE EXTENSION pg_stat_statements".to_owned();
        let (engine, url) = Blog::open_schema(&stage, name, &[extension]).await;
        let (schema, graphql) = bound(name);
        let mut connection = PgConnection::connect(&url).await.expect("the database answers");
        for operation in catalogue(name) {
            let plan = planned(&schema, &graphql, &operation).await;
            let roots = plan
                .roots
                .iter()
                .filter(|root| !matches!(root.action, Action::Constant(_) | Action::Introspection))
                .count();
            let reset = "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)";
            sqlx::raw_sql(reset).execute(&mut connection).await.expect("counters are set to 0");
            let answer = engine.answer(&operation.text, operation.variables.clone()).await;
            assert_eq!(answer.get("errors"), None, "{name}/{}: {answer}", operation.name);
            let count =
                "SELECT query, calls FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
                         WHERE datname = current_database() AND toplevel AND query !~ 'pg_stat_statements'";
            let counted: Vec<(String, i64)> =
                sqlx::query_as(count).fetch_all(&mut connection).await.expect("counters are read");
            // What a session is set up with is not the operation's.
            let counted: Vec<_> =
                counted.into_iter().filter(|(query, _)| !query.starts_with("SET ")).collect();
            let calls: i64 = counted.iter().map(|(_, calls)| calls).sum();
            // What a function wrote is read by a second statement, in the transaction of the first.
            let wanted = match plan.kind {
                OperationType::Query => roots,
                _ => explain::statements(&plan)
                    .iter()
                    .filter(|(name, _)| !name.ends_with("a known key"))
                    .count(),
            };
            let calls = match plan.kind {
                OperationType::Query => calls,
                _ => {
                    calls
                        - counted
                            .iter()
                            .filter(|(query, _)| is_transaction(query))
                            .map(|(_, n)| n)
                            .sum::<i64>()
                }
            };
            assert_eq!(calls, i64::try_from(wanted).expect("few"), "{name}/{}: {counted:#?}", operation.name);
        }
    }
}

fn is_transaction(query: &str) -> bool {
    ["BEGIN", "COMMIT"].iter().any(|word| query.to_uppercase().starts_with(word))
}
