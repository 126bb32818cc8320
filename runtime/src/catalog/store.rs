//! The SQL of the catalogue.

use rust_decimal::Decimal;

use super::{Category, Product};
use crate::ids::{CategoryId, ProductId};
use crate::storage::postgres::{Error, Postgres};

const PRODUCTS: &str = "
    SELECT p.id, p.name, p.price, p.stock, c.id AS category_id, c.name AS category_name
    FROM (SELECT * FROM products ORDER BY id LIMIT $1) AS p
    JOIN categories c ON c.id = p.category_id
    ORDER BY p.id";

#[derive(sqlx::FromRow)]
struct Row {
    id: ProductId,
    name: String,
    price: Decimal,
    stock: i64,
    category_id: CategoryId,
    category_name: String,
}

pub(super) async fn products(postgres: &Postgres, limit: i32) -> Result<Vec<Product>, Error> {
    let rows = postgres.read(|| sqlx::query_as::<_, Row>(PRODUCTS).bind(i64::from(limit))).await?;
    Ok(rows.into_iter().map(Product::from).collect())
}

impl From<Row> for Product {
    fn from(row: Row) -> Self {
        let category = Category { id: row.category_id, name: row.category_name };
        Self { id: row.id, name: row.name, price: row.price, stock: row.stock, category }
    }
}
