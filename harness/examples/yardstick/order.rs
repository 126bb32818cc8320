//! Placing an order as fraiseql-server promises it: one statement and so one transaction, with the idempotency key, the
//! rows, the stock and the event, or with none of them.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::{FromRow, Postgres};
use uuid::Uuid;

/// The statement up to its last `SELECT`, which each yardstick writes for itself. Products are locked by id, so that
/// orders cannot deadlock; an unknown product has no price, which fails the statement, and too little stock fails a CHECK.
#[macro_export]
macro_rules! place_order {
    ($answer:literal) => {
        concat!(
            "WITH key AS (
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
                 SELECT id, name, price FROM products
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
                 RETURNING id, product_id, quantity, price
             ), event AS (
                 INSERT INTO outbox (id, subject, payload)
                 SELECT $8, 'orders.created', jsonb_build_object(
                     'event_id', $8, 'order_id', id, 'user_id', user_id, 'status', status, 'total', total::text,
                     'created_at', created_at)
                 FROM placed
             ) ",
            $answer
        )
    };
}

/// The order that a key was used for with the same input.
pub const PLACED_BEFORE: &str = "
    SELECT order_id FROM idempotency_keys
    WHERE key = $1 AND operation = 'createOrder' AND input_hash = sha256($2)";

/// Where an order goes.
#[derive(Debug, Serialize)]
pub struct Address {
    pub street: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// An order as the caller wants it, checked; equal wishes are equal bytes.
#[derive(Debug, Serialize)]
pub struct NewOrder {
    #[serde(skip)]
    pub key: Option<String>,
    user: Option<i64>,
    items: BTreeMap<i64, i32>,
    address: Address,
}

impl NewOrder {
    /// `items` are a product's id in text and how many of it; the same product twice is added up.
    pub fn new<'a>(
        key: Option<String>,
        user: Option<&str>,
        items: impl Iterator<Item = (&'a str, i32)>,
        address: Address,
    ) -> anyhow::Result<NewOrder> {
        let user = user.map(str::parse).transpose().context("userId must be an integer")?;
        let mut sums = BTreeMap::<i64, i32>::new();
        for (product, quantity) in items {
            let sum = sums.entry(product.parse().context("productId must be an integer")?).or_default();
            *sum = sum.saturating_add(quantity);
            ensure!(quantity >= 1 && *sum <= 10_000, "quantity must be between 1 and 10000 for each product");
        }
        ensure!((1..=100).contains(&sums.len()), "an order takes 1 to 100 products");
        Ok(NewOrder { key, user, items: sums, address })
    }

    /// What the key stands for.
    pub fn fingerprint(&self) -> anyhow::Result<Vec<u8>> {
        serde_json::to_vec(self).context("write the input")
    }

    /// `statement`, which is of [`place_order!`], for a new order `id`.
    pub fn place<'q, O>(
        &'q self,
        statement: &'static str,
        id: Uuid,
    ) -> anyhow::Result<QueryAs<'q, Postgres, O, PgArguments>>
    where
        O: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
    {
        let (products, quantities): (Vec<i64>, Vec<i32>) = self.items.iter().unzip();
        Ok(sqlx::query_as(statement)
            .bind(id)
            .bind(self.key.as_deref())
            .bind(self.fingerprint()?)
            .bind(products)
            .bind(quantities)
            .bind(self.user)
            .bind(Json(&self.address))
            .bind(Uuid::now_v7()))
    }
}
