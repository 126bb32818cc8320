//! What an operation becomes in SQL, and what the database makes of it: for people who write schemas.

use std::fmt::Write as _;
use std::time::Duration;

use async_graphql::Variables;
use async_graphql::parser::parse_query;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::arguments::{self, Call};
use super::coerce;
use super::plan::select::Document;
use super::plan::{Action, Plan, Statement, plan};
use super::schema::graphql::Graphql;
use super::schema::model::Schema;
use crate::storage::postgres::{self, connect_alone};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operation is refused.
    #[error("the operation is refused: {0}")]
    Refused(String),
    /// The database does not take a connection.
    #[error("could not reach the database")]
    Connect(#[from] postgres::Error),
    /// The database refuses.
    #[error("the database does not explain the statement")]
    Database(#[from] sqlx::Error),
}

/// Plans an operation.
///
/// # Errors
/// Every reason to refuse it, a line each.
pub async fn plan_of(
    schema: &Schema,
    graphql: &Graphql,
    operation: &str,
    variables: &Variables,
) -> Result<(Plan, Variables), Error> {
    let answer = graphql.validate(async_graphql::Request::new(operation)).await;
    if !answer.errors.is_empty() {
        let messages: Vec<String> = answer.errors.iter().map(|error| error.message.clone()).collect();
        return Err(Error::Refused(messages.join("\n")));
    }
    let document = parse_query(operation).map_err(|error| Error::Refused(error.to_string()))?;
    let (_, operation) =
        document.operations.iter().next().ok_or_else(|| Error::Refused("there is none".to_owned()))?;
    let variables = coerce::variables(schema, &operation.node, variables).map_err(|problems| {
        Error::Refused(problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n"))
    })?;
    let document = Document { schema, fragments: &document.fragments, variables: &variables };
    let plan = plan(document, &operation.node).map_err(|refusal| Error::Refused(refusal.message))?;
    Ok((plan, variables))
}

/// The statements of a plan, with the name of the root field and what each is for.
pub fn statements(plan: &Plan) -> Vec<(String, &Statement)> {
    let mut all = Vec::new();
    for root in &plan.roots {
        add(&mut all, root.key.to_string(), &root.action);
    }
    all
}

fn add<'p>(all: &mut Vec<(String, &'p Statement)>, name: String, action: &'p Action) {
    match action {
        Action::Read(statement, _) => all.push((name, statement)),
        Action::Write(write) => {
            all.push((name.clone(), &write.change));
            all.extend(write.after.iter().map(|after| (format!("{name}, its answer"), after)));
            all.extend(write.replay.iter().map(|replay| (format!("{name}, a known key"), replay)));
        }
        Action::Subscribe(subscribe) => all.push((name, &subscribe.read)),
        Action::Behind(behind) => {
            add(all, format!("{name}, while {} is off", behind.flag), &behind.off);
            add(all, format!("{name}, while {} is on", behind.flag), &behind.on);
        }
        Action::Constant(_) | Action::Introspection | Action::Job(_) => {}
    }
}

/// The SQL of an operation as text; with a database's URL also its plan.
///
/// # Errors
/// When the operation is refused or the database does not explain it.
pub async fn operation(
    schema: &Schema,
    graphql: &Graphql,
    operation: &str,
    variables: &Variables,
    explain: Option<&str>,
) -> Result<String, Error> {
    let (plan, variables) = plan_of(schema, graphql, operation, variables).await?;
    let mut connection = match explain {
        Some(url) => {
            let mut connection = connect_alone(url, CONNECT_TIMEOUT).await?;
            // One transaction, ended with the connection: behind a pooler it keeps the same session of the database.
            connection.execute("BEGIN READ ONLY").await?;
            Some(connection)
        }
        None => None,
    };
    let mut text = String::new();
    for (name, statement) in statements(&plan) {
        let refused = |refusal: super::plan::error::Refusal| Error::Refused(refusal.message);
        let sizes = arguments::sizes(statement, &variables).map_err(refused)?;
        let call =
            Call { input_hash: vec![0; 32], event_id: uuid::Uuid::nil().to_string(), ..Call::default() };
        let values = arguments::bind(schema, statement, &sizes, &variables, &call).map_err(refused)?;
        let _ = writeln!(text, "-- {name}\n{}", statement.sql);
        for (at, value) in values.iter().enumerate() {
            let _ = writeln!(text, "--   ${} = {value:?}", at + 1);
        }
        if let Some(connection) = &mut connection {
            // Nothing is executed: EXPLAIN without ANALYZE plans only.
            let sql = format!("EXPLAIN {}", statement.sql);
            let arguments = arguments::encode(statement, &values)?;
            let explain = sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false);
            for row in explain.fetch_all(&mut *connection).await? {
                let _ = writeln!(text, "--   {}", row.get::<String, _>(0));
            }
        }
        text.push('\n');
    }
    Ok(text)
}
