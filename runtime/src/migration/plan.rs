//! How one migration runs: which limits it has, and what a failed attempt may have left behind.
//!
//! A statement that readers and writers do not wait for may take long; one that they queue behind may not. Building an
//! index concurrently waits for every transaction that is older than itself, which a lock timeout would count as
//! waiting for a lock: it has none, and the limit of the statement instead.

use std::time::Duration;

use squawk_syntax::SourceFile;
use squawk_syntax::ast::{AlterTableAction, AstNode, CreateIndex, Stmt};

use crate::config::database::Migrations;

/// Limits of one migration. Zero is none, as PostgreSQL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub lock_timeout: Duration,
    pub statement_timeout: Duration,
    /// The index that it builds concurrently, as SQL writes its name. A failed attempt leaves it behind, invalid.
    pub builds: Option<String>,
}

/// What the migration's text asks for.
pub fn plan(sql: &str, no_transaction: bool, limits: &Migrations) -> Plan {
    let stmts = SourceFile::parse(sql).tree().stmts();
    let stmts: Vec<Stmt> = stmts.filter(|stmt| !matches!(stmt, Stmt::EmptyStmt(_))).collect();
    let is_concurrent = no_transaction && stmts.iter().any(is_concurrent);
    let is_online = no_transaction || (!stmts.is_empty() && stmts.iter().all(only_validates));
    Plan {
        lock_timeout: if is_concurrent { Duration::ZERO } else { limits.lock_timeout },
        statement_timeout: if is_online { limits.online_statement_timeout } else { limits.statement_timeout },
        builds: stmts.iter().find_map(index_built).filter(|_| is_concurrent),
    }
}

fn is_concurrent(stmt: &Stmt) -> bool {
    match stmt {
        Stmt::CreateIndex(create) => create.concurrently_token().is_some(),
        Stmt::DropIndex(drop) => drop.concurrently_token().is_some(),
        _ => false,
    }
}

fn only_validates(stmt: &Stmt) -> bool {
    let Stmt::AlterTable(alter) = stmt else { return false };
    alter.actions().all(|action| matches!(action, AlterTableAction::ValidateConstraint(_)))
}

/// With the schema of its table, in which it lies.
fn index_built(stmt: &Stmt) -> Option<String> {
    let Stmt::CreateIndex(create) = stmt else { return None };
    let name = create.index()?.syntax().text().to_string();
    Some(match schema(create) {
        Some(schema) => format!("{schema}.{name}"),
        None => name,
    })
}

fn schema(create: &CreateIndex) -> Option<String> {
    let table = create.table_relation_name()?.table_name_ref()?.path_ref()?;
    Some(table.qualifier()?.syntax().text().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Migrations {
        Migrations {
            lock_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(2),
            online_statement_timeout: Duration::from_secs(3),
            ..Migrations::default()
        }
    }

    #[test]
    fn what_blocks_nobody_may_take_long() {
        let of = |sql: &str, no_transaction| {
            let plan = plan(sql, no_transaction, &limits());
            (plan.lock_timeout.as_secs(), plan.statement_timeout.as_secs(), plan.builds)
        };
        assert_eq!(of("ALTER TABLE t ADD COLUMN a int;", false), (1, 2, None));
        assert_eq!(of("ALTER TABLE t VALIDATE CONSTRAINT c;", false), (1, 3, None));
        assert_eq!(of("ALTER TABLE t VALIDATE CONSTRAINT c, ADD COLUMN a int;", false), (1, 2, None));
        assert_eq!(of("DO $$ BEGIN NULL; END $$;", true), (1, 3, None));
        assert_eq!(of("", false), (1, 2, None), "an empty file is like any other");
        assert_eq!(of("DROP INDEX CONCURRENTLY i;", true), (0, 3, None));
        let build = "CREATE INDEX CONCURRENTLY \"I\" ON t (a);";
        assert_eq!(of(build, true), (0, 3, Some("\"I\"".to_owned())));
        let build = "CREATE UNIQUE INDEX CONCURRENTLY i ON shop.t (a);";
        assert_eq!(of(build, true), (0, 3, Some("shop.i".to_owned())));
    }
}
