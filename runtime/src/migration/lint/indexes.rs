//! Indexes of tables in use: built, rebuilt and dropped beside readers and writers.

use squawk_syntax::ast::{self, AstNode, Stmt};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::file::name_of;
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    match &view.statement.stmt {
        Stmt::CreateIndex(create) => judge_created(view, report, create),
        Stmt::DropIndex(drop) if drop.concurrently_token().is_none() => {
            for index in drop.index_refs() {
                let name = name_of(index.syntax());
                if !view.file.creates_index(&name) {
                    let what =
                        format!("dropping {name} waits for and then blocks everybody who uses its table");
                    report.at(view, Rule::IndexConcurrently, drop.syntax(), what);
                }
            }
        }
        Stmt::Reindex(reindex) if !is_concurrent(reindex.syntax()) => {
            report.at(
                view,
                Rule::IndexConcurrently,
                reindex.syntax(),
                "writers wait while the index is rebuilt",
            );
        }
        _ => {}
    }
}

fn judge_created(view: &View<'_>, report: &mut Report, create: &ast::CreateIndex) {
    let table = create.table_relation_name().map(|table| name_of(table.syntax())).unwrap_or_default();
    if create.concurrently_token().is_none() {
        if !view.is_new(&table) {
            let what = format!("writers of {table} wait while the index is built");
            report.at(view, Rule::IndexConcurrently, create.syntax(), what);
        }
    } else if create.if_not_exists().is_some() {
        report.at(view, Rule::ConcurrentlyIfNotExists, create.syntax(), "CONCURRENTLY with IF NOT EXISTS");
    }
}

/// Whether the word stands in the statement.
pub(super) fn is_concurrent(statement: &SyntaxNode) -> bool {
    let mut tokens = statement.descendants_with_tokens().filter_map(|element| element.into_token());
    tokens.any(|token| token.kind() == SyntaxKind::CONCURRENTLY_KW)
}
