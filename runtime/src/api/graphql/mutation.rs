//! What can be changed. With an idempotency key each of these may be repeated until it is answered.

use async_graphql::{Context, ID, Object, Result};

use super::error::answer;
use super::types::{InvoiceRequest, Order, OrderInput, OrderStatus, extent, order_id};
use crate::orders::{OrderService, StatusChange};

pub(super) struct Mutation;

#[Object]
impl Mutation {
    /// Places an order, which is then `pending`.
    async fn create_order(&self, ctx: &Context<'_>, input: OrderInput) -> Result<Order> {
        let order = input.try_into()?;
        let placed = ctx.data::<OrderService>()?.create(order, extent(ctx)).await.map_err(answer)?;
        Ok(placed.into())
    }

    /// Moves an order on: pending to paid to shipped to delivered, or cancelled before it is shipped.
    async fn update_order_status(
        &self,
        ctx: &Context<'_>,
        id: ID,
        status: OrderStatus,
        idempotency_key: Option<String>,
    ) -> Result<Order> {
        let change = StatusChange { order_id: order_id(&id)?, to: status.into(), idempotency_key };
        let changed = ctx.data::<OrderService>()?.change_status(change, extent(ctx)).await.map_err(answer)?;
        Ok(changed.into())
    }

    /// Has the order's invoice written later; the answer names the job.
    async fn request_invoice(
        &self,
        ctx: &Context<'_>,
        order_id: ID,
        idempotency_key: Option<String>,
    ) -> Result<InvoiceRequest> {
        let order_id = self::order_id(&order_id)?;
        let orders = ctx.data::<OrderService>()?;
        let request = orders.request_invoice(order_id, idempotency_key).await.map_err(answer)?;
        Ok(request.into())
    }
}
