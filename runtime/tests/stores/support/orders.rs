//! The shop's operations in GraphQL, with types of the tests' own: what a client of the shop would write.

use std::fmt;

use fraiseql_runtime::app_state::AppState;
use fraiseql_runtime::engine::Request;
use fraiseql_runtime::error::{Classify, ErrorKind};
use fraiseql_runtime::ids::{JobId, OrderId};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The steps of an order's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    pub fn can_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Paid | Self::Cancelled)
                | (Self::Paid, Self::Shipped | Self::Cancelled)
                | (Self::Shipped, Self::Delivered)
        )
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        })
    }
}

/// An order as a test wants it.
#[derive(Debug, Clone)]
pub struct NewOrder {
    pub idempotency_key: Option<String>,
    pub user_id: Option<i64>,
    pub items: Vec<(i64, i32)>,
}

/// An order of user 1 for `(product, pieces)`.
pub fn order(items: &[(i64, i32)]) -> NewOrder {
    NewOrder { idempotency_key: None, user_id: Some(1), items: items.to_vec() }
}

/// An order as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub id: OrderId,
    pub status: Status,
    pub total: Decimal,
    pub created_at: String,
    #[serde(default)]
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Item {
    pub quantity: i32,
    pub price: Decimal,
}

/// A job as it was answered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvoiceRequest {
    pub job_id: JobId,
    pub order_id: OrderId,
}

/// A step that a test wants an order to take.
#[derive(Debug, Clone)]
pub struct StatusChange {
    pub order_id: OrderId,
    pub to: Status,
    pub idempotency_key: Option<String>,
}

/// The first error of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: String,
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Classify for Refused {
    fn kind(&self) -> ErrorKind {
        let kinds = [
            ErrorKind::BadInput,
            ErrorKind::NotFound,
            ErrorKind::IdempotencyConflict,
            ErrorKind::InvalidTransition,
            ErrorKind::Timeout,
            ErrorKind::Unavailable,
            ErrorKind::CircuitBreakerOpen,
            ErrorKind::ServiceDegraded,
            ErrorKind::Internal,
        ];
        let kind = kinds.into_iter().find(|kind| kind.code() == self.code);
        kind.unwrap_or_else(|| panic!("a code that nobody knows: {self:?}"))
    }
}

/// Executes an operation with one root field and reads that field.
pub async fn run<T: DeserializeOwned>(state: &AppState, query: &str, variables: Value) -> Result<T, Refused> {
    let engine = state.served.current().expect("the schema is loaded");
    let variables = serde_json::from_value(variables).expect("variables are an object");
    let request = Request { query: query.to_owned(), operation_name: None, variables };
    let body = engine.execute(&request).await.body;
    let answer: Value = serde_json::from_slice(&body).expect("an answer is JSON");
    if let Some(error) = answer["errors"].get(0) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return Err(Refused { code: text(&error["extensions"]["code"]), message: text(&error["message"]) });
    }
    let fields = answer["data"].as_object().expect("data");
    let (_, value) = fields.iter().next().expect("a root field");
    Ok(serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}")))
}

/// Places an order and reads it with its items.
pub async fn create(state: &AppState, order: NewOrder) -> Result<Order, Refused> {
    let query = "mutation ($input: OrderInput!) {
        createOrder(input: $input) { id status total createdAt items { quantity price } }
    }";
    let items: Vec<Value> = order
        .items
        .iter()
        .map(|(product, pieces)| json!({"productId": product, "quantity": pieces}))
        .collect();
    let input = json!({
        "idempotencyKey": order.idempotency_key,
        "userId": order.user_id,
        "items": items,
        "shippingAddress": {"street": "Main 1"},
    });
    run(state, query, json!({ "input": input })).await
}

/// Moves an order on.
pub async fn change_status(state: &AppState, change: StatusChange) -> Result<Order, Refused> {
    let query = "mutation ($id: ID!, $status: OrderStatus!, $key: String) {
        updateOrderStatus(id: $id, status: $status, idempotencyKey: $key) { id status total createdAt }
    }";
    let variables = json!({
        "id": change.order_id, "status": change.to.to_string(), "key": change.idempotency_key,
    });
    run(state, query, variables).await
}

/// Has an invoice written.
pub async fn request_invoice(
    state: &AppState,
    order_id: OrderId,
    key: Option<String>,
) -> Result<InvoiceRequest, Refused> {
    let query = "mutation ($id: ID!, $key: String) {
        requestInvoice(orderId: $id, idempotencyKey: $key) { jobId orderId }
    }";
    run(state, query, json!({ "id": order_id, "key": key })).await
}
