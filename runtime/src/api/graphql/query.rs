//! What can be read.

use async_graphql::{Context, ID, Object, Result};

use super::error::answer;
use super::types::{Order, Product, extent, order_id};
use crate::catalog::CatalogService;
use crate::orders::OrderService;

pub(super) struct Query;

#[Object]
impl Query {
    /// The first products by id; `limit` is 1 to 100.
    async fn products(&self, ctx: &Context<'_>, limit: i32) -> Result<Vec<Product>> {
        let products = ctx.data::<CatalogService>()?.products(limit).await.map_err(answer)?;
        Ok(products.into_iter().map(Product::from).collect())
    }

    /// One order; null when there is none with this id.
    async fn order(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Order>> {
        let order = ctx.data::<OrderService>()?.order(order_id(&id)?, extent(ctx)).await.map_err(answer)?;
        Ok(order.map(Order::from))
    }
}
