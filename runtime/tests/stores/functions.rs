//! The shop's functions in a real database: the rules of orders as the schema file's mutations use them.

use std::sync::Arc;

use fraiseql_runtime::clock::{Clock, SystemClock};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::catalogue::{database, migrations};
use crate::support::Stage;

const SEED: &str = include_str!("../../../fixtures/schemas/ecommerce/seed.sql");
const SCHEMA: &str = include_str!("../../../fixtures/schemas/ecommerce/schema.graphql");
const STOCK: i64 = 1_000_000_000;

async fn shop(stage: &Stage) -> PgConnection {
    database(stage, &(migrations("ecommerce") + SEED)).await
}

/// An order as the API's input is written: identifiers are texts.
fn order(items: &[(i64, i64)]) -> Value {
    let items: Vec<Value> =
        items.iter().map(|(id, pieces)| json!({ "productId": id.to_string(), "quantity": pieces })).collect();
    json!({ "userId": "1", "items": items, "shippingAddress": { "street": "Main 1", "city": null } })
}

async fn place(connection: &mut PgConnection, input: &Value) -> Result<(Uuid, String, String), sqlx::Error> {
    sqlx::query_as("SELECT id, status, total::text FROM create_order($1)")
        .bind(input)
        .fetch_one(connection)
        .await
}

async fn step(connection: &mut PgConnection, id: Uuid, to: &str) -> Result<Option<String>, sqlx::Error> {
    let call = sqlx::query_scalar("SELECT previous_status FROM update_order_status($1, $2)");
    call.bind(id).bind(to).fetch_one(connection).await
}

async fn count(connection: &mut PgConnection, query: &str) -> i64 {
    let query = sqlx::AssertSqlSafe(query.to_owned());
    sqlx::query_scalar(query).fetch_one(connection).await.expect("a count")
}

/// The name that an error is mapped by, which the schema file has to know.
fn constraint(error: &sqlx::Error) -> String {
    let error = error.as_database_error().unwrap_or_else(|| panic!("{error} is not the database's"));
    let name = error.constraint().unwrap_or_else(|| panic!("{error} names no constraint"));
    assert!(
        SCHEMA.contains(&format!("@constraint(name: \"{name}\"")),
        "the schema file does not know {name}"
    );
    name.to_owned()
}

pub async fn an_order_is_placed_by_one_call(stage: Arc<Stage>) {
    let mut connection = shop(&stage).await;
    let (id, status, total) =
        place(&mut connection, &order(&[(2, 3), (1, 2), (2, 1)])).await.expect("placed");
    assert_eq!(id.get_version_num(), 7);
    // Prices of the seed: 1.37 and 1.74.
    assert_eq!((status.as_str(), total.as_str()), ("pending", "9.70"));
    let items: Vec<(i64, i32, String)> = sqlx::query_as(
        "SELECT product_id, quantity, price::text FROM order_items WHERE order_id = $1 ORDER BY id",
    )
    .bind(id)
    .fetch_all(&mut connection)
    .await
    .expect("the items");
    assert_eq!(items, [(1, 2, "1.37".to_owned()), (2, 4, "1.74".to_owned())], "the same product is added up");
    assert_eq!(count(&mut connection, "SELECT stock FROM products WHERE id = 2").await, STOCK - 4);
    let address: Value = sqlx::query_scalar("SELECT shipping_address FROM orders")
        .fetch_one(&mut connection)
        .await
        .expect("the address");
    assert_eq!(address, json!({ "street": "Main 1" }), "what is null is not there");
    let others = "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM idempotency_keys)";
    assert_eq!(count(&mut connection, others).await, 0, "keys and events are the caller's");
}

pub async fn wrong_orders_are_refused_by_name_and_leave_nothing(stage: Arc<Stage>) {
    let mut connection = shop(&stage).await;
    sqlx::query("UPDATE products SET stock = 4 WHERE id = 2")
        .execute(&mut connection)
        .await
        .expect("updated");
    let with = |path: &str, value: Value| {
        let mut order = order(&[(1, 1)]);
        *order.pointer_mut(path).expect("a place") = value;
        order
    };
    let many: Vec<(i64, i64)> = (1..=101).map(|id| (id, 1)).collect();
    let wrong = [
        (order(&[]), "orders_items_given"),
        (order(&[(1, 0)]), "order_items_quantity_allowed"),
        (order(&[(1, -1), (1, 3)]), "order_items_quantity_allowed"),
        (order(&[(1, 10_000), (1, 1)]), "order_items_quantity_allowed"),
        (order(&[(1, 2_147_483_647), (1, 2_147_483_647)]), "order_items_quantity_allowed"),
        (order(&many), "orders_items_few"),
        (order(&[(1, 1), (999_999, 1)]), "order_items_product_exists"),
        (order(&[(1, 1), (2, 5)]), "products_stock_not_negative"),
        (with("/userId", json!("999999")), "orders_user_exists"),
        (with("/userId", json!("me")), "userId_is_integer"),
        (with("/items/0/productId", json!("x")), "productId_is_integer"),
        (with("/shippingAddress/street", json!(" \n")), "orders_street_given"),
        (with("/shippingAddress/city", json!("ü".repeat(251))), "orders_address_short"),
    ];
    for (input, name) in wrong {
        let error = place(&mut connection, &input).await.expect_err(name);
        assert_eq!(constraint(&error), name, "{input}: {error}");
    }
    let left = "SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM order_items)";
    assert_eq!(count(&mut connection, left).await, 0);
    assert_eq!(count(&mut connection, "SELECT stock FROM products WHERE id = 1").await, STOCK);

    let most: Vec<(i64, i64)> = (1..=101).filter(|id| *id != 2).map(|id| (id, 10_000)).collect();
    place(&mut connection, &order(&most)).await.expect("as much as is allowed");
    place(&mut connection, &with("/userId", Value::Null)).await.expect("an order of nobody");
    place(&mut connection, &with("/shippingAddress/city", json!("ü".repeat(250)))).await.expect("500 bytes");
}

pub async fn orders_placed_at_once_neither_deadlock_nor_oversell(stage: Arc<Stage>) {
    const CALLERS: usize = 8;
    const EACH: usize = 20;
    let url = stage.database(stage.number()).await;
    let mut connection = PgConnection::connect(url.as_str()).await.expect("the database answers");
    let statements = migrations("ecommerce") + SEED + "UPDATE products SET stock = 100 WHERE id <= 3";
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut connection).await.expect("the shop");
    let call = async |caller: usize| {
        let mut connection = PgConnection::connect(url.as_str()).await.expect("the database answers");
        let mut placed = 0;
        for n in 0..EACH {
            // Half of them the other way round.
            let items = if (caller + n).is_multiple_of(2) {
                [(1, 1), (2, 1), (3, 1)]
            } else {
                [(3, 1), (2, 1), (1, 1)]
            };
            match place(&mut connection, &order(&items)).await {
                Ok(_) => placed += 1,
                Err(error) => assert_eq!(constraint(&error), "products_stock_not_negative", "{error}"),
            }
        }
        placed
    };
    let placed: i64 = join_all((0..CALLERS).map(call)).await.into_iter().sum();
    assert_eq!(placed, 100, "of {} orders as many as there is stock", CALLERS * EACH);
    assert_eq!(count(&mut connection, "SELECT sum(stock)::bigint FROM products WHERE id <= 3").await, 0);
    assert_eq!(count(&mut connection, "SELECT count(*) FROM orders").await, 100);
}

pub async fn an_order_takes_the_steps_of_its_life_by_calls(stage: Arc<Stage>) {
    const ALL: [&str; 5] = ["pending", "paid", "shipped", "delivered", "cancelled"];
    let mut connection = shop(&stage).await;
    let mut taken = Vec::new();
    for from in ALL {
        for to in ALL {
            let (id, ..) = place(&mut connection, &order(&[(1, 1)])).await.expect("placed");
            sqlx::query("UPDATE orders SET status = $2 WHERE id = $1")
                .bind(id)
                .bind(from)
                .execute(&mut connection)
                .await
                .expect("the order is there");
            match step(&mut connection, id, to).await {
                Ok(was) => {
                    assert_eq!(was.as_deref(), Some(from));
                    taken.push(format!("{from} {to}"));
                }
                Err(error) => {
                    assert_eq!(constraint(&error), "orders_status_step");
                    let told = error.as_database_error().expect("the database's").message();
                    assert_eq!(told, format!("an order that is {from} cannot become {to}"));
                }
            }
        }
    }
    let steps = ["pending paid", "pending cancelled", "paid shipped", "paid cancelled", "shipped delivered"];
    assert_eq!(taken, steps);
    assert_eq!(
        count(&mut connection, "SELECT count(*) FROM order_status_changes").await,
        5,
        "one for each step"
    );
    let error = step(&mut connection, Uuid::nil(), "paid").await.expect_err("no such order");
    assert_eq!(constraint(&error), "orders_known");

    let (id, ..) = place(&mut connection, &order(&[(1, 1)])).await.expect("placed");
    let event = Uuid::now_v7();
    sqlx::query("SELECT update_order_status($1, 'paid', 'key', $2)")
        .bind(id)
        .bind(event)
        .execute(&mut connection)
        .await
        .expect("a step");
    let kept: (String, Uuid) =
        sqlx::query_as("SELECT idempotency_key, order_id FROM order_status_changes WHERE id = $1")
            .bind(event)
            .fetch_one(&mut connection)
            .await
            .expect("the step has the id of its event");
    assert_eq!(kept, ("key".to_owned(), id));
}

pub async fn an_invoice_is_written_once_for_its_job(stage: Arc<Stage>) {
    let mut connection = shop(&stage).await;
    let (id, _, total) = place(&mut connection, &order(&[(1, 2)])).await.expect("placed");
    let job = Uuid::now_v7();
    let mut write = async |order: Uuid| -> Option<bool> {
        let call = sqlx::query_scalar("SELECT write_invoice($1, $2, 'key')").bind(job).bind(order);
        call.fetch_one(&mut connection).await.expect("an answer")
    };
    assert_eq!(write(Uuid::nil()).await, None, "there is no such order");
    assert_eq!(write(id).await, Some(true));
    assert_eq!(write(id).await, Some(false), "it was there");
    let invoices: Vec<(Uuid, Uuid, String, String)> =
        sqlx::query_as("SELECT job_id, order_id, idempotency_key, amount::text FROM invoices")
            .fetch_all(&mut connection)
            .await
            .expect("the invoices");
    assert_eq!(invoices, [(job, id, "key".to_owned(), total)]);
}

pub async fn identifiers_grow_with_time(stage: Arc<Stage>) {
    let mut connection = database(&stage, &migrations("ecommerce")).await;
    let before = SystemClock.utc();
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT uuid_v7() FROM generate_series(1, 1000)")
        .fetch_all(&mut connection)
        .await
        .expect("identifiers");
    let after = SystemClock.utc();
    for id in &ids {
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122), "{id}");
        let (seconds, nanos) = id.get_timestamp().expect("a time").to_unix();
        let at = i64::try_from(seconds).expect("now") * 1_000 + i64::from(nanos) / 1_000_000;
        let allowed = before.timestamp_millis() - 5..=after.timestamp_millis() + 5;
        assert!(allowed.contains(&at), "{at} is not in {allowed:?}");
    }
    // Beyond a microsecond the order is left to chance.
    let prefix = |id: &Uuid| id.as_u128() >> 64;
    assert!(ids.iter().map(prefix).is_sorted(), "made later, sorted later");
    let distinct: std::collections::BTreeSet<&Uuid> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}
