//! A root field of the shop that gets a second function behind a flag, for scenarios that bring one to its callers. Pure but
//! for the statements, which the database gets before the server starts.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};

/// What stands behind the flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    /// The root field.
    pub field: String,
    /// The flag.
    pub flag: String,
    /// What is called while it is on.
    pub function: String,
    /// Makes the function.
    pub sql: String,
}

impl Behind {
    /// The schema file with the directive at the field.
    pub fn in_schema(&self, schema: &str) -> anyhow::Result<String> {
        let Self { field, flag, function, .. } = self;
        let begin = schema
            .find(&format!("\n  {field}("))
            .with_context(|| format!("the schema has no field {field}"))?;
        let rest = &schema[begin..];
        let call = rest.find("@function(").with_context(|| format!("{field} calls no function"))?;
        let end =
            call + rest[call..].find(')').with_context(|| format!("@function of {field} has no end"))? + 1;
        let directive = format!(" @behind(flag: {flag:?}, function: {function:?})");
        Ok(format!("{}{directive}{}", &schema[..begin + end], &schema[begin + end..]))
    }

    /// Makes the function.
    pub(super) async fn make(&self, url: &str) -> anyhow::Result<()> {
        let mut connection =
            PgConnection::connect(url).await.context("connect to make the second function")?;
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(self.sql.clone()));
        statements.execute(&mut connection).await.with_context(|| format!("make {}", self.function))?;
        connection.close().await.context("close")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directive_stands_at_the_field_and_nowhere_else() {
        let shop = include_str!("../../../fixtures/schemas/ecommerce/schema.graphql");
        let behind = |field: &str| Behind {
            field: field.into(),
            flag: "new_checkout".into(),
            function: "create_order_v2".into(),
            sql: String::new(),
        };
        let changed = behind("createOrder").in_schema(shop).expect("there is one");
        let wanted = "@function(name: \"create_order\") @behind(flag: \"new_checkout\", function: \"create_order_v2\")\n";
        assert_eq!(changed.matches(wanted).count(), 1);
        assert_eq!(changed.replace(wanted, "@function(name: \"create_order\")\n"), shop);
        behind("createOrders").in_schema(shop).expect_err("there is none");
    }
}
