//! The second yardstick: async-graphql as its book shows it, a static schema whose relations are resolved through
//! DataLoaders, with what is known to make it fast: loaders that all requests share, so that they batch across requests;
//! validation in its fast mode; connections without pings.

mod yardstick;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{
    ComplexObject, Context, EmptySubscription, Enum, ID, InputObject, Object, Result, Schema, SimpleObject,
    ValidationMode,
};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use yardstick::order::{self, NewOrder};
use yardstick::pool::Pool;
use yardstick::serve;

/// How long a loader gathers keys. Zero still gathers what is asked for before the task runs.
const GATHER: Duration = Duration::ZERO;

const PRODUCTS: &str = "SELECT id, name, price, stock FROM products ORDER BY id LIMIT $1";
const ORDERS: &str = "SELECT id, status, total, user_id FROM orders ORDER BY id DESC LIMIT $1";
const ORDER: &str = "SELECT id, status, total, user_id FROM orders WHERE id = $1";
const ITEMS: &str =
    "SELECT order_id, product_id, quantity, price FROM order_items WHERE order_id = ANY ($1) ORDER BY id";
const USERS: &str = "SELECT id, name FROM users WHERE id = ANY ($1)";
const PRODUCTS_BY_ID: &str = "SELECT id, name, price, stock FROM products WHERE id = ANY ($1)";
const CREATE_ORDER: &str = place_order!("SELECT id, status, total, user_id FROM placed");

type Shop = Schema<Query, Mutation, EmptySubscription>;
type Tables = DataLoader<Database>;

/// Loads rows by their keys.
struct Database(Arc<Pool>);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct UserId(i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ProductId(i64);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ItemsOf(Uuid);

#[derive(SimpleObject)]
struct Product {
    id: ID,
    name: String,
    price: Decimal,
    stock: i64,
}

#[derive(SimpleObject)]
struct User {
    id: ID,
    name: String,
}

#[derive(SimpleObject)]
#[graphql(complex)]
struct Order {
    id: ID,
    status: OrderStatus,
    total: Decimal,
    #[graphql(skip)]
    key: Uuid,
    #[graphql(skip)]
    user_id: Option<i64>,
}

#[derive(Clone, SimpleObject)]
#[graphql(complex)]
struct OrderItem {
    quantity: i32,
    price: Decimal,
    #[graphql(skip)]
    product_id: i64,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[graphql(rename_items = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
enum OrderStatus {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

#[derive(InputObject)]
struct OrderInput {
    idempotency_key: Option<String>,
    user_id: Option<ID>,
    items: Vec<OrderItemInput>,
    shipping_address: AddressInput,
}

#[derive(InputObject)]
struct OrderItemInput {
    product_id: ID,
    quantity: i32,
}

#[derive(InputObject)]
struct AddressInput {
    street: String,
    city: Option<String>,
    zip: Option<String>,
    country: Option<String>,
}

struct Query;

#[Object]
impl Query {
    async fn products(&self, ctx: &Context<'_>, limit: i32) -> Result<Vec<Product>> {
        let mut lease = ctx.data::<Arc<Pool>>()?.acquire().await?;
        let products = sqlx::query_as(PRODUCTS).bind(i64::from(limit)).fetch_all(lease.connection()).await?;
        lease.give_back();
        Ok(products)
    }

    async fn orders(&self, ctx: &Context<'_>, limit: i32) -> Result<Vec<Order>> {
        let mut lease = ctx.data::<Arc<Pool>>()?.acquire().await?;
        let orders = sqlx::query_as(ORDERS).bind(i64::from(limit)).fetch_all(lease.connection()).await?;
        lease.give_back();
        Ok(orders)
    }

    async fn order(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        read_order(ctx.data::<Arc<Pool>>()?, id.parse().map_err(|_| "an order id is a UUID")?).await
    }
}

struct Mutation;

#[Object]
impl Mutation {
    async fn create_order(&self, ctx: &Context<'_>, input: OrderInput) -> Result<Order> {
        let AddressInput { street, city, zip, country } = input.shipping_address;
        let new = NewOrder::new(
            input.idempotency_key,
            input.user_id.as_deref().map(String::as_str),
            input.items.iter().map(|item| (item.product_id.as_str(), item.quantity)),
            order::Address { street, city, zip, country },
        )?;
        let pool = ctx.data::<Arc<Pool>>()?;
        let mut lease = pool.acquire().await?;
        let placed = new.place(CREATE_ORDER, Uuid::now_v7())?.fetch_optional(lease.connection()).await?;
        if let Some(order) = placed {
            lease.give_back();
            return Ok(order);
        }
        let before: Option<(Uuid,)> = sqlx::query_as(order::PLACED_BEFORE)
            .bind(new.key.as_deref())
            .bind(new.fingerprint()?)
            .fetch_optional(lease.connection())
            .await?;
        lease.give_back();
        let (id,) = before.context("the idempotency key was used with another input")?;
        Ok(read_order(pool, id).await?.context("the order is gone")?)
    }
}

async fn read_order(pool: &Pool, id: Uuid) -> Result<Option<Order>> {
    let mut lease = pool.acquire().await?;
    let order = sqlx::query_as(ORDER).bind(id).fetch_optional(lease.connection()).await?;
    lease.give_back();
    Ok(order)
}

#[ComplexObject]
impl Order {
    async fn user(&self, ctx: &Context<'_>) -> Result<Option<Arc<User>>> {
        let Some(id) = self.user_id else { return Ok(None) };
        Ok(ctx.data::<Tables>()?.load_one(UserId(id)).await?)
    }

    async fn items(&self, ctx: &Context<'_>) -> Result<Vec<OrderItem>> {
        Ok(ctx.data::<Tables>()?.load_one(ItemsOf(self.key)).await?.unwrap_or_default())
    }
}

#[ComplexObject]
impl OrderItem {
    async fn product(&self, ctx: &Context<'_>) -> Result<Arc<Product>> {
        let product = ctx.data::<Tables>()?.load_one(ProductId(self.product_id)).await?;
        Ok(product.context("the product is gone")?)
    }
}

impl Loader<UserId> for Database {
    type Value = Arc<User>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, keys: &[UserId]) -> Result<HashMap<UserId, Arc<User>>, Self::Error> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows: Vec<(i64, String)> = self.rows(USERS, ids).await?;
        let user = |(id, name)| (UserId(id), Arc::new(User { id: id.into(), name }));
        Ok(rows.into_iter().map(user).collect())
    }
}

impl Loader<ProductId> for Database {
    type Value = Arc<Product>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, keys: &[ProductId]) -> Result<HashMap<ProductId, Arc<Product>>, Self::Error> {
        let ids: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let rows: Vec<(i64, String, Decimal, i64)> = self.rows(PRODUCTS_BY_ID, ids).await?;
        let product = |(id, name, price, stock): (i64, _, _, _)| {
            (ProductId(id), Arc::new(Product { id: id.into(), name, price, stock }))
        };
        Ok(rows.into_iter().map(product).collect())
    }
}

impl Loader<ItemsOf> for Database {
    type Value = Vec<OrderItem>;
    type Error = Arc<sqlx::Error>;

    async fn load(&self, keys: &[ItemsOf]) -> Result<HashMap<ItemsOf, Vec<OrderItem>>, Self::Error> {
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let rows: Vec<(Uuid, i64, i32, Decimal)> = self.rows(ITEMS, ids).await?;
        let mut items = HashMap::<ItemsOf, Vec<OrderItem>>::with_capacity(keys.len());
        for (order, product_id, quantity, price) in rows {
            items.entry(ItemsOf(order)).or_default().push(OrderItem { quantity, price, product_id });
        }
        Ok(items)
    }
}

impl Database {
    /// Rows of a statement whose one parameter is an array of keys.
    async fn rows<K, R>(&self, statement: &'static str, keys: Vec<K>) -> Result<Vec<R>, Arc<sqlx::Error>>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
        Vec<K>: for<'q> sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send,
    {
        let mut lease = self.0.acquire().await?;
        let rows = sqlx::query_as(statement).bind(keys).fetch_all(lease.connection()).await?;
        lease.give_back();
        Ok(rows)
    }
}

impl<'r> FromRow<'r, PgRow> for Product {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let id: i64 = row.try_get(0)?;
        Ok(Product { id: id.into(), name: row.try_get(1)?, price: row.try_get(2)?, stock: row.try_get(3)? })
    }
}

impl<'r> FromRow<'r, PgRow> for Order {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let key: Uuid = row.try_get(0)?;
        let (status, total, user_id) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok(Order { id: key.into(), status, total, key, user_id })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (pool, port) = serve::arguments()?;
    let tables = DataLoader::new(Database(pool.clone()), tokio::spawn).delay(GATHER);
    let schema = Schema::build(Query, Mutation, EmptySubscription)
        .validation_mode(ValidationMode::Fast)
        .data(pool)
        .data(tables)
        .finish();
    serve::serve(Router::new().route("/graphql", post(graphql)).with_state(schema), port).await
}

async fn graphql(State(schema): State<Shop>, body: Bytes) -> Response {
    let request: async_graphql::Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let answer = schema.execute(request).await;
    serve::json(serde_json::to_vec(&answer).expect("an answer is plain data"))
}
