//! What can be bought.
//!
//! Promises: a list of products is one statement, ordered by id and bounded.

pub mod error;
mod store;

use rust_decimal::Decimal;

pub use self::error::Error;
use crate::ids::{CategoryId, ProductId};
use crate::storage::postgres::Postgres;

/// Products in one answer at most.
pub const LIST_LIMIT_MAX: i32 = 100;

/// A product with its category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Row key.
    pub id: ProductId,
    /// For people.
    pub name: String,
    /// Price of one piece, two decimals.
    pub price: Decimal,
    /// Pieces that can still be ordered.
    pub stock: i64,
    /// Where it belongs.
    pub category: Category,
}

/// A group of products.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Row key.
    pub id: CategoryId,
    /// For people.
    pub name: String,
}

/// Reads the catalogue. Clones share the pool.
#[derive(Clone)]
pub struct CatalogService {
    postgres: Postgres,
}

impl CatalogService {
    /// A service over the database.
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }

    /// The first `limit` products by id; `limit` is 1 to [`LIST_LIMIT_MAX`].
    pub async fn products(&self, limit: i32) -> Result<Vec<Product>, Error> {
        if !(1..=LIST_LIMIT_MAX).contains(&limit) {
            return Err(Error::Limit(limit));
        }
        Ok(store::products(&self.postgres, limit).await?)
    }
}
