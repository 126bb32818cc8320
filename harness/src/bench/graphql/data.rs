//! The data: one database is migrated and filled, and every subject gets a copy of it in the same server, so that what one
//! subject writes is no work for another.

use anyhow::{Context, ensure};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;
use uuid::Uuid;

use crate::environment::workspace;

/// Where the shop's tables are made, below the workspace.
const MIGRATIONS: &str = "fixtures/schemas/ecommerce/migrations";
const SHOP: &str = include_str!("shop.sql");
const TEMPLATE: &str = "bench_shop";

/// Rows of the tables that an order is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    pub orders: i64,
    pub items: i64,
}

/// The filled database, which nobody may be connected to while copies are made of it.
pub struct Template {
    server_url: String,
    /// Ids of all its orders, in their order.
    pub order_ids: Vec<Uuid>,
}

impl Template {
    /// Makes it on the server that `server_url` leads to.
    pub async fn create(server_url: &str) -> anyhow::Result<Template> {
        execute(server_url, format!("CREATE DATABASE {TEMPLATE}")).await?;
        let url = database(server_url, TEMPLATE)?;
        let folder = workspace()
            .with_context(|| format!("the workspace with {MIGRATIONS} is not here"))?
            .join(MIGRATIONS);
        let migrator =
            Migrator::new(folder.as_path()).await.with_context(|| format!("read {}", folder.display()))?;
        let mut connection = PgConnection::connect(&url).await.context("connect to the new database")?;
        migrator.run(&mut connection).await.context("migrate the new database")?;
        sqlx::raw_sql(SHOP).execute(&mut connection).await.context("fill the new database")?;
        // Frozen, so that no subject pays for the first look at a row.
        sqlx::raw_sql("VACUUM (FREEZE, ANALYZE)").execute(&mut connection).await.context("VACUUM")?;
        let order_ids =
            sqlx::query_scalar("SELECT id FROM orders ORDER BY id").fetch_all(&mut connection).await?;
        connection.close().await.context("close")?;
        Ok(Template { server_url: server_url.to_owned(), order_ids })
    }

    /// A copy of the name `name`, which is a plain word; returns its URL.
    pub async fn copy(&self, name: &str) -> anyhow::Result<String> {
        execute(&self.server_url, format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await?;
        database(&self.server_url, name)
    }
}

/// Writes everything to disk, so that no measurement pays for what was written before it.
pub async fn checkpoint(server_url: &str) -> anyhow::Result<()> {
    execute(server_url, "CHECKPOINT".to_owned()).await
}

/// How many orders and items a database has.
pub async fn count(url: &str) -> anyhow::Result<Orders> {
    let mut connection = PgConnection::connect(url).await.context("connect to count orders")?;
    let (orders, items) =
        sqlx::query_as("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_items)")
            .fetch_one(&mut connection)
            .await
            .context("count orders")?;
    connection.close().await.context("close")?;
    Ok(Orders { orders, items })
}

/// Whether `after` has exactly `placed` orders more than `before`, of three items each.
pub fn assert_placed(before: Orders, after: Orders, placed: u64) -> anyhow::Result<()> {
    let placed = i64::try_from(placed)?;
    let (orders, items) = (after.orders - before.orders, after.items - before.items);
    ensure!(
        orders == placed && items == placed * 3,
        "{placed} orders of three items were acknowledged, and the database has {orders} with {items} items more"
    );
    Ok(())
}

/// Forgets the events of orders: a relay that begins to send them would do so during somebody else's measurement.
pub async fn forget_events(url: &str) -> anyhow::Result<()> {
    execute(
        url,
        "DO $$ BEGIN IF to_regclass('outbox') IS NOT NULL THEN TRUNCATE outbox; END IF; END $$".to_owned(),
    )
    .await
}

async fn execute(url: &str, statement: String) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await.context("connect")?;
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut connection).await;
    done.with_context(|| statement)?;
    connection.close().await.context("close")
}

fn database(server_url: &str, name: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(server_url).context("the server's URL")?;
    url.set_path(name);
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_in_the_path_of_its_url() {
        let url = database("postgres://postgres:x@127.0.0.1:5432/postgres", "bench_a").expect("a URL");
        assert_eq!(url, "postgres://postgres:x@127.0.0.1:5432/bench_a");
    }

    #[test]
    fn an_order_that_was_acknowledged_and_is_not_there_is_an_error() {
        let before = Orders { orders: 20, items: 60 };
        assert_placed(before, Orders { orders: 22, items: 66 }, 2).expect("two orders");
        for after in [(22, 65), (21, 63), (23, 69)] {
            let after = Orders { orders: after.0, items: after.1 };
            assert!(assert_placed(before, after, 2).is_err(), "{after:?}");
        }
    }

    #[test]
    fn the_migrations_are_where_they_are_looked_for() {
        assert!(workspace().expect("the workspace").join(MIGRATIONS).is_dir());
    }
}
