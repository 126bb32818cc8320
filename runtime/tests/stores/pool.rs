//! The pool over a real database that is slow, silent or cut: callers get an error, connections and permits come back.

use std::sync::Arc;
use std::time::Duration;

use chaos::fault::{Direction, NetworkFault};
use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::storage::postgres::{Error, Limits, Postgres};
use futures::future::join_all;
use sqlx::Connection;

use crate::support::orders::NewOrder;
use crate::support::{Link, Shop, Stage, equal, eventually, order};

const CONNECTIONS: u32 = 3;

fn pool(link: &Link, query_timeout: Duration) -> Postgres {
    let limits = Limits {
        min_connections: 0,
        max_connections: CONNECTIONS,
        connect_timeout: Duration::from_secs(2),
        acquire_timeout: Duration::from_secs(20),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
    };
    Postgres::new(link.through.as_str(), limits, query_timeout).expect("a URL")
}

async fn sleep(postgres: &Postgres, seconds: f64) -> Result<(), Error> {
    let statement = sqlx::query_as::<_, (i32,)>("SELECT 1 FROM pg_sleep($1)").bind(seconds);
    postgres.write(statement).await.map(drop)
}

pub async fn a_statement_that_takes_too_long_gives_up_its_connection_and_the_pool_lives_on(
    stage: Arc<Stage>,
) {
    let shop = Shop::open(&stage).await;
    let postgres = pool(&shop.postgres, Duration::from_millis(300));
    // More often than there are connections: none may stay away with its permit.
    for _ in 0..2 {
        let sleeping = (0..CONNECTIONS).map(|_| sleep(&postgres, 600.0));
        for answer in join_all(sleeping).await {
            let error = answer.expect_err("ten minutes are too long");
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        }
        assert_eq!(postgres.size().active, 0);
    }
    for answer in join_all((0..CONNECTIONS).map(|_| postgres.ping())).await {
        answer.expect("the pool lives on");
    }
    // The server gives the statements up as well, instead of holding their locks for ten minutes.
    eventually("no abandoned statement runs", async || {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND state = 'active' AND query LIKE '%pg_sleep(%' AND pid <> pg_backend_pid()";
        equal(shop.count(running).await, 0)
    })
    .await;
    shop.close().await;
}

pub async fn an_order_that_timed_out_behind_a_lock_is_placed_once_when_it_is_repeated(stage: Arc<Stage>) {
    let shop = Shop::open_with(&stage, "database.query_timeout = '500ms'").await;
    let mut other = shop.sql().await;
    let mut transaction = other.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM products WHERE id = 1 FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .expect("the lock");
    let wanted = NewOrder { idempotency_key: Some("k".to_owned()), ..order(&[(1, 1)]) };
    let error = shop.place(wanted.clone()).await.expect_err("the product is locked");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(!error.kind().is_refusal(), "it may have been done");
    shop.place(order(&[(2, 1)])).await.expect("others are served meanwhile");
    transaction.rollback().await.expect("the lock is gone");

    let placed = eventually("the repetition is answered", async || {
        shop.place(wanted.clone()).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(shop.place(wanted).await.expect("the same answer"), placed);
    assert_eq!(shop.rows("orders WHERE idempotency_key = 'k'").await, 1);
    assert_eq!(shop.rows("outbox").await, 2);
    shop.close().await;
}

pub async fn a_silent_database_costs_time_and_no_connection(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let postgres = pool(&shop.postgres, Duration::from_millis(300));
    for answer in join_all((0..CONNECTIONS).map(|_| postgres.ping())).await {
        answer.expect("connected");
    }
    let silence = NetworkFault::Blackhole { sticky: true, direction: Direction::Both };
    let guard = shop.postgres.inject(silence).await;
    for answer in join_all((0..CONNECTIONS * 3).map(|_| postgres.ping())).await {
        let error = answer.expect_err("nobody answers");
        assert!(error.kind().is_retryable(), "{error:?}");
    }
    assert_eq!(postgres.size().active, 0, "every permit is back");
    let evidence = guard.heal().await;
    assert!(evidence.swallowed_bytes > 0, "{evidence:?}");
    for answer in join_all((0..CONNECTIONS * 3).map(|_| postgres.ping())).await {
        answer.expect("new connections are made");
    }
    shop.close().await;
}

pub async fn reads_survive_that_every_connection_is_reset(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let postgres = pool(&shop.postgres, Duration::from_secs(5));
    for _ in 0..5 {
        for answer in join_all((0..CONNECTIONS).map(|_| postgres.ping())).await {
            answer.expect("connected");
        }
        let evidence = shop.postgres.cut().await.heal().await;
        assert!(evidence.reset > 0, "{evidence:?}");
        let read = || sqlx::query_as::<_, (i32,)>("SELECT 1");
        for answer in join_all((0..CONNECTIONS).map(|_| postgres.read(read))).await {
            answer.expect("a read is tried again on a fresh connection");
        }
    }
    shop.close().await;
}

pub async fn more_callers_than_connections_all_get_their_turn(stage: Arc<Stage>) {
    let shop = Shop::open(&stage).await;
    let postgres = pool(&shop.postgres, Duration::from_secs(5));
    let seen = |postgres: Postgres| async move {
        sleep(&postgres, 0.01).await.expect("served");
        postgres.size().active
    };
    let busiest = join_all((0..CONNECTIONS * 10).map(|_| seen(postgres.clone()))).await;
    let busiest = busiest.into_iter().max().unwrap_or_default();
    assert!(busiest <= CONNECTIONS as usize, "{busiest} connections in use");
    let size = postgres.size();
    assert!(size.active == 0 && size.idle <= CONNECTIONS as usize, "{size:?}");
    shop.close().await;
}
