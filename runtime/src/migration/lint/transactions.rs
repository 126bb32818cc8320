//! One transaction for each file, but for the statements that PostgreSQL runs in none; and code that is put together
//! at run time, which no rule sees.

use squawk_syntax::ast::{self, AstNode, Stmt};

use super::file::{File, NO_TRANSACTION};
use super::indexes::is_concurrent;
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    let stmt = &view.statement.stmt;
    match stmt {
        Stmt::Begin(_)
        | Stmt::Commit(_)
        | Stmt::Rollback(_)
        | Stmt::SavepointCreate(_)
        | Stmt::ReleaseSavepoint(_)
        | Stmt::PrepareTransaction(_)
            if !view.statement.is_nested() =>
        {
            report.at(
                view,
                Rule::TransactionControl,
                stmt.syntax(),
                "a transaction begins or ends in the file",
            );
        }
        Stmt::Do(block) => judge_block(view, report, block),
        Stmt::CreateIndex(_) | Stmt::DropIndex(_) | Stmt::Reindex(_) | Stmt::AlterTable(_)
            if is_concurrent(stmt.syntax()) && !view.file.no_transaction =>
        {
            report.at(view, Rule::NoTransaction, stmt.syntax(), "CONCURRENTLY does not run in a transaction");
        }
        Stmt::Vacuum(vacuum) if !view.file.no_transaction => {
            report.at(view, Rule::NoTransaction, vacuum.syntax(), "VACUUM does not run in a transaction");
        }
        _ => {}
    }
}

fn judge_block(view: &View<'_>, report: &mut Report, block: &ast::Do) {
    let Some(body) = block.plpgsql() else {
        return report.at(
            view,
            Rule::OpaqueCode,
            block.syntax(),
            "the language of the block is not PL/pgSQL",
        );
    };
    if let Some(error) = body.errors().first() {
        let what = format!("the block is not read in full: {}", error.message());
        report.at(view, Rule::OpaqueCode, block.syntax(), what);
    }
    let is_dynamic =
        |node| ast::PlpgsqlDynExecuteStmt::can_cast(node) || ast::PlpgsqlForDynStmt::can_cast(node);
    if body.syntax().descendants().any(|node| is_dynamic(node.kind())) {
        report.at(view, Rule::OpaqueCode, block.syntax(), "EXECUTE runs what no rule has seen");
    }
}

/// What is wrong with the file as a whole.
pub(super) fn judge_file(file: &File, report: &mut Report) {
    if file.no_transaction {
        if let Some(second) = file.top_level().nth(1) {
            let at = second.offset_of(second.stmt.syntax());
            report.in_file(
                Rule::NoTransaction,
                at,
                "a second statement: when it fails, the first has been done",
            );
        }
    } else if let Some(at) = misplaced_mark(file) {
        report.in_file(Rule::NoTransaction, at, "the mark is not the first line, where alone it is seen");
    }
}

fn misplaced_mark(file: &File) -> Option<usize> {
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        if line.trim() == NO_TRANSACTION {
            return Some(at);
        }
        at += line.len();
    }
    None
}
