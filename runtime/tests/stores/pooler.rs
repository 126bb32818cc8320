//! Behind PgBouncer in transaction mode: two connections to the database serve many callers, statements of one caller run on
//! whichever is free, and everything is as without it.

use std::sync::Arc;
use std::time::Duration;

use fraiseql_runtime::config::database::Database;
use fraiseql_runtime::engine::loader::{self, Source};
use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::storage::postgres::{Lending, Limits, Postgres};
use futures::future::join_all;
use harness::environment::ServiceName;
use serde_json::json;

use crate::support::bouncer::Bouncer;
use crate::support::orders::NewOrder;
use crate::support::{Shop, Stage, eventually, order};

/// Connections that PgBouncer opens to the database.
const SERVERS: u32 = 2;
const POOLED: &str = "database.transaction_pooling = true\ndatabase.max_connections = 12";

fn limits() -> Limits {
    Limits {
        min_connections: 0,
        max_connections: 12,
        connect_timeout: Duration::from_secs(5),
        acquire_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
    }
}

pub async fn orders_and_lists_are_right_though_every_statement_may_meet_another_connection(
    stage: Arc<Stage>,
) {
    let bouncer = Bouncer::open(&stage, &stage.url(ServiceName::Postgres), SERVERS).await;
    let shop = Shop::open_behind(&stage, POOLED, &bouncer).await;
    // Different texts at the same time: one that ran on another's connection would answer the other's question.
    let placing = (0..48_i64).map(|at| {
        let key = Some(format!("pooled-{}", at / 2));
        shop.place(NewOrder { idempotency_key: key, ..order(&[(1 + at / 2 % 3, 1)]) })
    });
    let names = (1..=48).map(|at| {
        let query = format!("{{ mine{at}: product(id: \"{}\") {{ id }} }}", 1 + at % 3);
        let shop = &shop;
        async move {
            let body = shop.answer(&query).await;
            assert_eq!(
                body,
                json!({"data": {format!("mine{at}"): {"id": (1 + at % 3).to_string()}}}),
                "{query}"
            );
        }
    });
    let (placed, ()) = tokio::join!(join_all(placing), async {
        join_all(names).await;
    });
    for (at, pair) in placed.chunks(2).enumerate() {
        let [first, twin] = pair else { panic!("pairs") };
        let (first, twin) = (first.as_ref().expect("placed"), twin.as_ref().expect("answered"));
        assert_eq!(first, twin, "key {at} is one order");
    }
    assert_eq!(shop.rows("orders").await, 24);
    assert_eq!(shop.rows("outbox").await, 24);
    // The proof that connections were lent: more of ours than there are to the database.
    let ours = shop.metric("db_pool_size{state=\"idle\"}");
    assert!(ours > f64::from(SERVERS), "{ours} connections of ours");
    let servers = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND application_name = 'fraiseql-server'";
    let servers = shop.count(servers).await;
    assert!((1..=i64::from(SERVERS)).contains(&servers), "{servers} connections to the database");
    shop.close().await;
    bouncer.close().await;
}

pub async fn a_refused_statement_leaves_its_connection_usable_and_a_long_one_is_given_up(stage: Arc<Stage>) {
    let database = stage.database(stage.number()).await;
    let bouncer = Bouncer::open(&stage, &database, 1).await;
    let url = bouncer.before(&database);
    let timeout = Duration::from_millis(500);
    let postgres = Postgres::lent(url.as_str(), limits(), timeout, Lending::Transaction).expect("a URL");
    let statement = |text: &'static str| sqlx::query_as::<_, (i32,)>(text);
    for _ in 0..3 {
        let refused = postgres.write(statement("SELECT 1 / 0")).await.expect_err("nobody divides by zero");
        assert_eq!(refused.violation().map(|violation| violation.code).as_deref(), Some("22012"));
        assert_eq!(postgres.read(|| statement("SELECT 7")).await.expect("the next one runs"), [(7,)]);
    }
    // A write that fails at its end is not done.
    postgres
        .execute(sqlx::query("CREATE TABLE once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        .await
        .expect("a table");
    let twice = sqlx::query("INSERT INTO once VALUES (1), (1)");
    let violated = postgres.execute(twice).await.expect_err("it is refused at COMMIT").violation();
    assert_eq!(violated.map(|violation| violation.code).as_deref(), Some("23505"));
    let count = || sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM once");
    assert_eq!(postgres.read(count).await.expect("rows"), [(0,)]);

    let error = postgres.write(statement("SELECT 1 FROM pg_sleep(600)")).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    // With one connection to the database, only its end lets others run: the database's own limit came along.
    eventually("the next statement is served", async || {
        postgres.ping().await.map_err(|error| error.to_string())
    })
    .await;
    bouncer.close().await;
}

pub async fn without_the_switch_the_pooler_refuses_and_catalogue_and_explain_need_none(stage: Arc<Stage>) {
    let bouncer = Bouncer::open(&stage, &stage.url(ServiceName::Postgres), SERVERS).await;
    let shop = Shop::open_behind(&stage, POOLED, &bouncer).await;
    let pooled = bouncer.before(&shop.postgres_direct);
    let plain = Postgres::new(pooled.as_str(), limits(), Duration::from_secs(2)).expect("a URL");
    let refused = plain.ping().await.expect_err("settings at the start of a connection");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");

    let source =
        Source { path: shop.config().graphql.schema, url: pooled.to_string(), database_schemas: Vec::new() };
    // More often than there are connections: nothing that stayed prepared may be in the way.
    let first = loader::catalogue(&source).await.expect("the catalogue");
    for _ in 0..4 {
        assert_eq!(loader::catalogue(&source).await.expect("the catalogue again"), first);
    }
    shop.close().await;
    bouncer.close().await;
}

pub async fn migrations_ask_for_a_way_past_the_pooler(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let mut config = shop.config();
    config.urls.direct(&config.database).expect("without a pooler the URL is direct");
    config.urls.database_direct = None;
    let database = Database { transaction_pooling: true, ..config.database.clone() };
    let error = config.urls.direct(&database).expect_err("a pooler has no session").to_string();
    assert!(error.contains("DATABASE_DIRECT_URL"), "{error}");
    shop.close().await;
}
