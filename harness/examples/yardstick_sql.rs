//! The yardstick: what an engineer writes who knows which four operations come. One prepared statement each, nested lists
//! as arrays of rows in binary, and JSON written from structs. It reads no GraphQL: an operation is known by its name.

mod yardstick;

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use yardstick::order::{self, NewOrder};
use yardstick::pool::Pool;
use yardstick::serve;

const PRODUCTS: &str = "SELECT id, name, price, stock FROM products ORDER BY id LIMIT 20";

macro_rules! orders {
    ($which:literal) => {
        concat!(
            "SELECT o.id, o.status, o.total, u.id AS user_id, u.name AS user_name, ARRAY(
                 SELECT ROW(i.quantity, i.price, p.id, p.name)
                 FROM order_items i JOIN products p ON p.id = i.product_id
                 WHERE i.order_id = o.id ORDER BY i.id
             ) AS items
             FROM orders o LEFT JOIN users u ON u.id = o.user_id ",
            $which
        )
    };
}

const ORDERS: &str = orders!("ORDER BY o.id DESC LIMIT 10");
const ORDER: &str = orders!("WHERE o.id = $1");
const CREATE_ORDER: &str = place_order!(
    "SELECT placed.id, status, total, u.id AS user_id, u.name AS user_name, ARRAY(
         SELECT ROW(items.quantity, items.price, locked.id, locked.name)
         FROM items JOIN locked ON locked.id = items.product_id ORDER BY items.id
     ) AS items
     FROM placed LEFT JOIN users u ON u.id = placed.user_id"
);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    operation_name: Cow<'a, str>,
    #[serde(borrow, default)]
    variables: Variables<'a>,
}

#[derive(Default, Deserialize)]
struct Variables<'a> {
    id: Option<Uuid>,
    #[serde(borrow)]
    input: Option<Input<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    idempotency_key: Option<String>,
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    items: Vec<InputItem<'a>>,
    shipping_address: InputAddress,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputItem<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    quantity: i32,
}

#[derive(Deserialize)]
struct InputAddress {
    street: String,
    city: Option<String>,
    zip: Option<String>,
    country: Option<String>,
}

#[derive(sqlx::FromRow, Serialize)]
struct Product {
    #[serde(serialize_with = "as_text")]
    id: i64,
    name: String,
    price: Decimal,
    stock: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    status: String,
    total: Decimal,
    user_id: Option<i64>,
    user_name: Option<String>,
    items: Vec<(i32, Decimal, i64, String)>,
}

#[derive(Serialize)]
struct Order {
    id: Uuid,
    status: String,
    total: Decimal,
    user: Option<Named>,
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Named {
    #[serde(serialize_with = "as_text")]
    id: i64,
    name: String,
}

#[derive(Serialize)]
struct Item {
    quantity: i32,
    price: Decimal,
    product: Named,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Data {
    Products(Vec<Product>),
    Orders(Vec<Order>),
    Order(Option<Order>),
    CreateOrder(Order),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (pool, port) = serve::arguments()?;
    serve::serve(Router::new().route("/graphql", post(graphql)).with_state(pool), port).await
}

async fn graphql(State(pool): State<Arc<Pool>>, body: Bytes) -> Response {
    #[derive(Serialize)]
    struct Answer {
        data: Data,
    }
    let written = match answer(&pool, &body).await {
        Ok(data) => serde_json::to_vec(&Answer { data }),
        Err(error) => serde_json::to_vec(
            &serde_json::json!({"data": null, "errors": [{"message": format!("{error:#}")}]}),
        ),
    };
    serve::json(written.expect("an answer is plain data"))
}

async fn answer(pool: &Pool, body: &[u8]) -> anyhow::Result<Data> {
    let request: Request<'_> = serde_json::from_slice(body).context("read the request")?;
    match &*request.operation_name {
        "Products" => products(pool).await.map(Data::Products),
        "Orders" => orders(pool).await.map(Data::Orders),
        "Order" => order(pool, request.variables.id.context("$id")?).await.map(Data::Order),
        "CreateOrder" => {
            create_order(pool, request.variables.input.context("$input")?).await.map(Data::CreateOrder)
        }
        other => bail!("there is no operation {other} here"),
    }
}

async fn products(pool: &Pool) -> anyhow::Result<Vec<Product>> {
    let mut lease = pool.acquire().await?;
    let products = sqlx::query_as(PRODUCTS).fetch_all(lease.connection()).await?;
    lease.give_back();
    Ok(products)
}

async fn orders(pool: &Pool) -> anyhow::Result<Vec<Order>> {
    let mut lease = pool.acquire().await?;
    let rows: Vec<Row> = sqlx::query_as(ORDERS).fetch_all(lease.connection()).await?;
    lease.give_back();
    Ok(rows.into_iter().map(Order::from).collect())
}

async fn order(pool: &Pool, id: Uuid) -> anyhow::Result<Option<Order>> {
    let mut lease = pool.acquire().await?;
    let row: Option<Row> = sqlx::query_as(ORDER).bind(id).fetch_optional(lease.connection()).await?;
    lease.give_back();
    Ok(row.map(Order::from))
}

async fn create_order(pool: &Pool, input: Input<'_>) -> anyhow::Result<Order> {
    let InputAddress { street, city, zip, country } = input.shipping_address;
    let new = NewOrder::new(
        input.idempotency_key,
        input.user_id.as_deref(),
        input.items.iter().map(|item| (&*item.product_id, item.quantity)),
        order::Address { street, city, zip, country },
    )?;
    let mut lease = pool.acquire().await?;
    let placed: Option<Row> =
        new.place(CREATE_ORDER, Uuid::now_v7())?.fetch_optional(lease.connection()).await?;
    if let Some(row) = placed {
        lease.give_back();
        return Ok(row.into());
    }
    let before: Option<(Uuid,)> = sqlx::query_as(order::PLACED_BEFORE)
        .bind(new.key.as_deref())
        .bind(new.fingerprint()?)
        .fetch_optional(lease.connection())
        .await?;
    lease.give_back();
    let (id,) = before.context("the idempotency key was used with another input")?;
    order(pool, id).await?.context("the order is gone")
}

impl From<Row> for Order {
    fn from(row: Row) -> Self {
        let item = |(quantity, price, id, name)| Item { quantity, price, product: Named { id, name } };
        Order {
            id: row.id,
            status: row.status,
            total: row.total,
            user: row.user_id.zip(row.user_name).map(|(id, name)| Named { id, name }),
            items: row.items.into_iter().map(item).collect(),
        }
    }
}

/// Ids are text in GraphQL.
fn as_text<S: Serializer>(id: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
