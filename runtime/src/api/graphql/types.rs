//! The GraphQL types, made from the services' types field by field.

use async_graphql::{Context, Enum, Error, ID, InputObject, SimpleObject};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::error::bad_input;
use crate::catalog;
use crate::ids::{OrderId, ProductId, UserId};
use crate::orders::input::{Address, NewOrder};
use crate::orders::status::Status;
use crate::orders::{self, Extent};

#[derive(SimpleObject)]
pub(super) struct Product {
    id: ID,
    name: String,
    /// Price of one piece.
    price: Decimal,
    /// Pieces that can still be ordered.
    stock: i64,
    category: Category,
}

#[derive(SimpleObject)]
pub(super) struct Category {
    id: ID,
    name: String,
}

#[derive(SimpleObject)]
pub(super) struct Order {
    id: ID,
    status: OrderStatus,
    total: Decimal,
    created_at: DateTime<Utc>,
    user: Option<User>,
    items: Vec<OrderItem>,
}

#[derive(SimpleObject)]
pub(super) struct User {
    id: ID,
    name: String,
}

#[derive(SimpleObject)]
pub(super) struct OrderItem {
    id: ID,
    quantity: i32,
    /// Price of one piece when the order was placed.
    price: Decimal,
    product: Product,
}

#[derive(SimpleObject)]
pub(super) struct InvoiceRequest {
    job_id: ID,
    order_id: ID,
}

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
#[graphql(rename_items = "lowercase")]
pub(super) enum OrderStatus {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

#[derive(InputObject)]
pub(super) struct OrderInput {
    /// The same key with the same input is the same order, and the same answer.
    idempotency_key: Option<String>,
    user_id: Option<ID>,
    items: Vec<OrderItemInput>,
    shipping_address: AddressInput,
}

#[derive(InputObject)]
pub(super) struct OrderItemInput {
    product_id: ID,
    quantity: i32,
}

#[derive(InputObject)]
pub(super) struct AddressInput {
    street: String,
    city: Option<String>,
    zip: Option<String>,
    country: Option<String>,
}

/// How much of the order that the present field answers is selected.
pub(super) fn extent(ctx: &Context<'_>) -> Extent {
    let selected = ctx.look_ahead();
    if selected.field("items").exists() || selected.field("user").exists() {
        Extent::Whole
    } else {
        Extent::Head
    }
}

/// Reads the id of an order.
pub(super) fn order_id(id: &ID) -> Result<OrderId, Error> {
    id.parse().map_err(|_| bad_input("an order id is a UUID"))
}

impl From<catalog::Product> for Product {
    fn from(product: catalog::Product) -> Self {
        let category = Category { id: product.category.id.into_id(), name: product.category.name };
        let (id, stock) = (product.id.into_id(), product.stock);
        Self { id, name: product.name, price: product.price, stock, category }
    }
}

impl From<orders::Order> for Order {
    fn from(order: orders::Order) -> Self {
        Self {
            id: order.id.into_id(),
            status: order.status.into(),
            total: order.total,
            created_at: order.created_at,
            user: order.buyer.map(|buyer| User { id: buyer.id.into_id(), name: buyer.name }),
            items: order.items.into_iter().map(OrderItem::from).collect(),
        }
    }
}

impl From<orders::Item> for OrderItem {
    fn from(item: orders::Item) -> Self {
        let (id, product) = (item.id.into_id(), item.product.into());
        Self { id, quantity: item.quantity, price: item.price, product }
    }
}

impl From<orders::InvoiceRequest> for InvoiceRequest {
    fn from(request: orders::InvoiceRequest) -> Self {
        Self { job_id: request.job_id.into_id(), order_id: request.order_id.into_id() }
    }
}

impl TryFrom<OrderInput> for NewOrder {
    type Error = Error;

    fn try_from(input: OrderInput) -> Result<Self, Error> {
        let product =
            |id: &ID| id.parse::<ProductId>().map_err(|_| bad_input("productId must be an integer"));
        let items = input.items.iter().map(|item| Ok((product(&item.product_id)?, item.quantity)));
        let user = |id: ID| id.parse::<UserId>().map_err(|_| bad_input("userId must be an integer"));
        let AddressInput { street, city, zip, country } = input.shipping_address;
        Ok(Self {
            idempotency_key: input.idempotency_key,
            user_id: input.user_id.map(user).transpose()?,
            items: items.collect::<Result<_, Error>>()?,
            shipping_address: Address { street, city, zip, country },
        })
    }
}

impl From<Status> for OrderStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Paid => Self::Paid,
            Status::Shipped => Self::Shipped,
            Status::Delivered => Self::Delivered,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

impl From<OrderStatus> for Status {
    fn from(status: OrderStatus) -> Self {
        match status {
            OrderStatus::Pending => Self::Pending,
            OrderStatus::Paid => Self::Paid,
            OrderStatus::Shipped => Self::Shipped,
            OrderStatus::Delivered => Self::Delivered,
            OrderStatus::Cancelled => Self::Cancelled,
        }
    }
}

trait IntoId {
    fn into_id(self) -> ID;
}

impl<T: std::fmt::Display> IntoId for T {
    fn into_id(self) -> ID {
        ID(self.to_string())
    }
}
