//! The SQL of orders. Each change is one statement and so one transaction, acknowledged after its COMMIT: with the
//! idempotency key, the rows, the stock and the event, or with none of them.
//!
//! Locks are taken in one order, so that orders cannot deadlock: key, then products by id; a change of status takes
//! order, then key. `ON CONFLICT DO NOTHING` waits for a transaction that holds the same key, and sees its end.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::input::CheckedOrder;
use super::status::Status;
use super::{Buyer, Error, Item, Order, StatusChange};
use crate::catalog::{Category, Product};
use crate::ids::{CategoryId, EventId, OrderId, OrderItemId, ProductId, UserId};
use crate::storage::postgres::{DatabaseExt, Postgres};

/// The gate is open without a key, or with one that was inserted just now. Behind a closed gate nothing happens.
/// A missing product leaves the price of its item empty, which fails the statement; too little stock fails a CHECK.
const CREATE: &str = "
    WITH key AS (
        INSERT INTO idempotency_keys (key, operation, input_hash, order_id, answer)
        SELECT $2, 'createOrder', sha256($3), $1, jsonb_build_object('status', 'pending')
        WHERE $2::text IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING key
    ), gate AS MATERIALIZED (
        SELECT FROM key UNION ALL SELECT WHERE $2::text IS NULL
    ), wanted AS MATERIALIZED (
        SELECT * FROM unnest($4::bigint[], $5::integer[]) AS wanted (product_id, quantity)
    ), locked AS MATERIALIZED (
        SELECT id, price FROM products
        WHERE id = ANY ($4) AND EXISTS (SELECT FROM gate)
        ORDER BY id FOR NO KEY UPDATE
    ), taken AS (
        UPDATE products SET stock = stock - wanted.quantity
        FROM locked JOIN wanted ON wanted.product_id = locked.id
        WHERE products.id = locked.id
    ), placed AS (
        INSERT INTO orders (id, user_id, status, total, shipping_address, idempotency_key)
        SELECT $1, $6, 'pending', coalesce(sum, 0), $7, $2
        FROM gate, (
            SELECT sum(locked.price * wanted.quantity)
            FROM wanted JOIN locked ON locked.id = wanted.product_id
        ) AS total
        RETURNING id, user_id, status, total, created_at
    ), items AS (
        INSERT INTO order_items (order_id, product_id, quantity, price)
        SELECT placed.id, wanted.product_id, wanted.quantity, locked.price
        FROM placed, wanted LEFT JOIN locked ON locked.id = wanted.product_id
        ORDER BY wanted.product_id
    ), event AS (
        INSERT INTO outbox (id, subject, payload)
        SELECT $8, $9, jsonb_build_object(
            'event_id', $8, 'order_id', id, 'user_id', user_id, 'status', status, 'total', total::text,
            'created_at', created_at)
        FROM placed
    )
    SELECT id, user_id, status, total, created_at FROM placed";

/// The answer that was given when the key was used first.
const CREATED: &str = "
    SELECT o.id, o.user_id, k.answer ->> 'status' AS status, o.total, o.created_at,
           k.operation = 'createOrder' AND k.input_hash = sha256($2) AS same_input
    FROM idempotency_keys k LEFT JOIN orders o ON o.id = k.order_id
    WHERE k.key = $1";

const CHANGE_STATUS: &str = "
    WITH locked AS MATERIALIZED (
        SELECT id, status FROM orders WHERE id = $1 FOR NO KEY UPDATE
    ), allowed AS MATERIALIZED (
        SELECT id, status FROM locked WHERE status = ANY ($4)
    ), key AS (
        INSERT INTO idempotency_keys (key, operation, input_hash, order_id, answer)
        SELECT $2, 'updateOrderStatus', sha256($3), id, jsonb_build_object('status', $5::text)
        FROM allowed WHERE $2::text IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING key
    ), gate AS MATERIALIZED (
        SELECT FROM key UNION ALL SELECT WHERE $2::text IS NULL
    ), changed AS (
        UPDATE orders SET status = $5, updated_at = now()
        FROM allowed, gate
        WHERE orders.id = allowed.id
        RETURNING orders.id, orders.user_id, orders.status, orders.total, orders.created_at,
                  allowed.status AS was
    ), change AS (
        INSERT INTO order_status_changes (id, order_id, status, idempotency_key)
        SELECT $6, id, status, $2 FROM changed
    ), event AS (
        INSERT INTO outbox (id, subject, payload)
        SELECT $6, $7, jsonb_build_object('event_id', $6, 'order_id', id, 'status', status, 'was', was)
        FROM changed
    )
    SELECT id, user_id, status, total, created_at FROM changed";

/// Why nothing was changed: the key was used, the order is missing, or it is in the wrong state.
const UNCHANGED: &str = "
    SELECT o.id, o.user_id, o.status, o.total, o.created_at, k.answer ->> 'status' AS answered,
           k.operation = 'updateOrderStatus' AND k.input_hash = sha256($3) AS same_input
    FROM (SELECT $1::uuid AS id) AS asked
    LEFT JOIN orders o ON o.id = asked.id
    LEFT JOIN idempotency_keys k ON k.key = $2";

/// Binds a key to the order whose invoice it asks for.
const BIND_INVOICE_KEY: &str = "
    WITH wanted AS (
        SELECT id FROM orders WHERE id = $1
    ), key AS (
        INSERT INTO idempotency_keys (key, operation, input_hash, order_id, answer)
        SELECT $2, 'requestInvoice', sha256($3), id, '{}' FROM wanted
        ON CONFLICT DO NOTHING
        RETURNING key
    )
    SELECT EXISTS (SELECT FROM wanted) AS found, EXISTS (SELECT FROM key) AS fresh";

const INVOICE_KEY: &str = "
    SELECT operation = 'requestInvoice' AND input_hash = sha256($2) FROM idempotency_keys WHERE key = $1";

const EXISTS: &str = "SELECT EXISTS (SELECT FROM orders WHERE id = $1)";

const READ: &str = "SELECT id, user_id, status, total, created_at FROM orders WHERE id = $1";

const READ_WHOLE: &str = "
    SELECT o.id, o.user_id, o.status, o.total, o.created_at, u.name AS user_name,
           i.id AS item_id, i.quantity, i.price AS item_price,
           p.id AS product_id, p.name AS product_name, p.price AS product_price, p.stock,
           c.id AS category_id, c.name AS category_name
    FROM orders o
    LEFT JOIN users u ON u.id = o.user_id
    LEFT JOIN order_items i ON i.order_id = o.id
    LEFT JOIN products p ON p.id = i.product_id
    LEFT JOIN categories c ON c.id = p.category_id
    WHERE o.id = $1
    ORDER BY i.id";

#[derive(sqlx::FromRow)]
struct Row {
    id: OrderId,
    user_id: Option<UserId>,
    #[sqlx(try_from = "String")]
    status: Status,
    total: Decimal,
    created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct CreatedRow {
    id: Option<OrderId>,
    user_id: Option<UserId>,
    status: Option<String>,
    total: Option<Decimal>,
    created_at: Option<DateTime<Utc>>,
    same_input: bool,
}

#[derive(sqlx::FromRow)]
struct UnchangedRow {
    id: Option<OrderId>,
    user_id: Option<UserId>,
    status: Option<String>,
    total: Option<Decimal>,
    created_at: Option<DateTime<Utc>>,
    answered: Option<String>,
    same_input: Option<bool>,
}

#[derive(sqlx::FromRow)]
struct WholeRow {
    #[sqlx(flatten)]
    order: Row,
    user_name: Option<String>,
    item_id: Option<OrderItemId>,
    quantity: Option<i32>,
    item_price: Option<Decimal>,
    product_id: Option<ProductId>,
    product_name: Option<String>,
    product_price: Option<Decimal>,
    stock: Option<i64>,
    category_id: Option<CategoryId>,
    category_name: Option<String>,
}

/// Places the order. `None`: the key was used before.
pub(super) async fn create(
    postgres: &Postgres,
    order: &CheckedOrder,
    subject: &str,
) -> Result<Option<Order>, Error> {
    let (products, quantities): (Vec<i64>, Vec<i32>) =
        order.items.iter().map(|(product, quantity)| (product.0, *quantity)).unzip();
    let statement = sqlx::query_as::<_, Row>(CREATE)
        .bind(Uuid::now_v7())
        .bind(order.idempotency_key.as_deref())
        .bind(order.fingerprint())
        .bind(products)
        .bind(quantities)
        .bind(order.user_id)
        .bind(sqlx::types::Json(&order.shipping_address))
        .bind(EventId(Uuid::now_v7()))
        .bind(subject);
    let rows = postgres.write(statement).await.on_constraint(&[
        ("order_items.price", || Error::UnknownProduct),
        ("order_items_product_exists", || Error::UnknownProduct),
        ("products_stock_not_negative", || Error::OutOfStock),
        ("orders_user_exists", || Error::UnknownUser),
    ])?;
    Ok(rows.into_iter().next().map(Order::from))
}

/// The first answer to the order's key, which another transaction has used.
pub(super) async fn created(postgres: &Postgres, key: &str, order: &CheckedOrder) -> Result<Order, Error> {
    let fingerprint = order.fingerprint();
    let rows =
        postgres.read(|| sqlx::query_as::<_, CreatedRow>(CREATED).bind(key).bind(&fingerprint)).await?;
    let row = rows.into_iter().next().ok_or(Error::Contended)?;
    if !row.same_input {
        return Err(Error::KeyReused);
    }
    order_of(row.id, row.user_id, row.status, row.total, row.created_at).ok_or(Error::Contended)
}

/// Moves the order on. `None`: nothing was changed, [`unchanged`] says why.
pub(super) async fn change_status(
    postgres: &Postgres,
    change: &StatusChange,
    subject: &str,
) -> Result<Option<Order>, Error> {
    let from: Vec<&str> = change.to.predecessors().map(Status::as_str).collect();
    let statement = sqlx::query_as::<_, Row>(CHANGE_STATUS)
        .bind(change.order_id)
        .bind(change.idempotency_key.as_deref())
        .bind(change.fingerprint())
        .bind(from)
        .bind(change.to.as_str())
        .bind(EventId(Uuid::now_v7()))
        .bind(subject);
    Ok(postgres.write(statement).await?.into_iter().next().map(Order::from))
}

/// The first answer to the change's key, or why the change is refused.
pub(super) async fn unchanged(postgres: &Postgres, change: &StatusChange) -> Result<Order, Error> {
    let fingerprint = change.fingerprint();
    let key = change.idempotency_key.as_deref();
    let rows = postgres
        .read(|| {
            sqlx::query_as::<_, UnchangedRow>(UNCHANGED).bind(change.order_id).bind(key).bind(&fingerprint)
        })
        .await?;
    let row = rows.into_iter().next().ok_or(Error::Contended)?;
    match row.same_input {
        Some(true) => {
            order_of(row.id, row.user_id, row.answered, row.total, row.created_at).ok_or(Error::Contended)
        }
        Some(false) => Err(Error::KeyReused),
        None => {
            let status = row.status.ok_or(Error::NotFound)?;
            let from: Status = status.parse().map_err(|_| Error::Contended)?;
            if from.can_become(change.to) {
                return Err(Error::Contended);
            }
            Err(Error::Transition { from, to: change.to })
        }
    }
}

/// Binds the key, if there is one, to the order; refuses when the order is missing or the key is another's.
pub(super) async fn bind_invoice(
    postgres: &Postgres,
    order_id: OrderId,
    key: Option<&str>,
) -> Result<(), Error> {
    let Some(key) = key else {
        let rows = postgres.read(|| sqlx::query_as::<_, (bool,)>(EXISTS).bind(order_id)).await?;
        return if rows.first().is_some_and(|row| row.0) { Ok(()) } else { Err(Error::NotFound) };
    };
    let fingerprint = order_id.0.as_bytes().as_slice();
    let bind = sqlx::query_as::<_, (bool, bool)>(BIND_INVOICE_KEY).bind(order_id).bind(key).bind(fingerprint);
    let (found, fresh) = postgres.write(bind).await?.into_iter().next().ok_or(Error::Contended)?;
    if !found {
        return Err(Error::NotFound);
    }
    if fresh {
        return Ok(());
    }
    let rows =
        postgres.read(|| sqlx::query_as::<_, (bool,)>(INVOICE_KEY).bind(key).bind(fingerprint)).await?;
    match rows.first() {
        Some((true,)) => Ok(()),
        Some((false,)) => Err(Error::KeyReused),
        None => Err(Error::Contended),
    }
}

pub(super) async fn read(postgres: &Postgres, id: OrderId) -> Result<Option<Order>, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, Row>(READ).bind(id)).await?;
    Ok(rows.into_iter().next().map(Order::from))
}

/// The order with its buyer, items, products and their categories: one statement, a row for each item.
pub(super) async fn read_whole(postgres: &Postgres, id: OrderId) -> Result<Option<Order>, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, WholeRow>(READ_WHOLE).bind(id)).await?;
    let mut whole: Option<Order> = None;
    for row in rows {
        let item = row.item();
        let buyer = row.order.user_id.zip(row.user_name);
        let order = whole.get_or_insert_with(|| Order::from(row.order));
        order.buyer = buyer.map(|(id, name)| Buyer { id, name });
        order.items.extend(item);
    }
    Ok(whole)
}

fn order_of(
    id: Option<OrderId>,
    user_id: Option<UserId>,
    status: Option<String>,
    total: Option<Decimal>,
    created_at: Option<DateTime<Utc>>,
) -> Option<Order> {
    let row = Row { id: id?, user_id, status: status?.parse().ok()?, total: total?, created_at: created_at? };
    Some(row.into())
}

impl From<Row> for Order {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            status: row.status,
            total: row.total,
            created_at: row.created_at,
            buyer: None,
            items: Vec::new(),
        }
    }
}

impl WholeRow {
    /// `None` for an order without items, whose one row has no item.
    fn item(&self) -> Option<Item> {
        let category = Category { id: self.category_id?, name: self.category_name.clone()? };
        let product = Product {
            id: self.product_id?,
            name: self.product_name.clone()?,
            price: self.product_price?,
            stock: self.stock?,
            category,
        };
        Some(Item { id: self.item_id?, quantity: self.quantity?, price: self.item_price?, product })
    }
}
