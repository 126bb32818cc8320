//! Rows of tables in use: never all of them in one transaction, and no rewriting of whole tables.

use squawk_syntax::ast::{self, AlterTableAction, AstNode, Stmt};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::file::name_of;
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    match &view.statement.stmt {
        // What a function would do when it is called.
        Stmt::CreateFunction(_) | Stmt::CreateProcedure(_) | Stmt::CreateRule(_) => {}
        Stmt::Truncate(truncate) => judge_truncated(view, report, truncate),
        Stmt::Cluster(cluster) => rewrites(view, report, cluster.syntax(), "CLUSTER"),
        Stmt::Lock(lock) => rewrites(view, report, lock.syntax(), "LOCK"),
        Stmt::Vacuum(vacuum) if has_word(vacuum.syntax(), SyntaxKind::FULL_KW) => {
            rewrites(view, report, vacuum.syntax(), "VACUUM FULL");
        }
        Stmt::AlterTable(_) => judge_table(view, report),
        statement => judge_changes(view, report, statement.syntax()),
    }
}

/// `UPDATE` and `DELETE`, those inside `WITH` too.
fn judge_changes(view: &View<'_>, report: &mut Report, statement: &SyntaxNode) {
    for node in statement.descendants() {
        let (verb, table, has_where) = if let Some(update) = ast::Update::cast(node.clone()) {
            ("UPDATE", update.relation_name(), update.where_clause_or_current_of().is_some())
        } else if let Some(delete) = ast::Delete::cast(node.clone()) {
            ("DELETE", delete.relation_name(), delete.where_clause_or_current_of().is_some())
        } else {
            continue;
        };
        let table = table.map(|table| name_of(table.syntax())).unwrap_or_default();
        if !has_where && !view.is_new(&table) {
            let what = format!("{verb} of every row of {table} in one transaction");
            report.at(view, Rule::UnboundedChange, &node, what);
        }
    }
}

fn judge_truncated(view: &View<'_>, report: &mut Report, truncate: &ast::Truncate) {
    let tables =
        truncate.table_list().map(|list| list.syntax().children().map(|table| name_of(&table)).collect());
    let tables: Vec<String> = tables.unwrap_or_default();
    if let Some(table) = tables.iter().find(|table| !view.is_new(table)) {
        let what = format!("TRUNCATE empties {table}, which servers use");
        report.at(view, Rule::UnboundedChange, truncate.syntax(), what);
    }
}

fn judge_table(view: &View<'_>, report: &mut Report) {
    let Some((table, actions)) = view.statement.table_actions() else { return };
    if view.is_new(&table) {
        return;
    }
    for action in actions {
        let how = match &action {
            AlterTableAction::SetLogged(_) => "SET LOGGED",
            AlterTableAction::SetUnlogged(_) => "SET UNLOGGED",
            AlterTableAction::SetTablespace(_) => "SET TABLESPACE",
            AlterTableAction::SetAccessMethod(_) => "SET ACCESS METHOD",
            _ => continue,
        };
        rewrites(view, report, action.syntax(), how);
    }
}

fn rewrites(view: &View<'_>, report: &mut Report, node: &SyntaxNode, how: &str) {
    report.at(
        view,
        Rule::TableRewrite,
        node,
        format!("{how} keeps everybody out of the table for as long as it takes"),
    );
}

fn has_word(node: &SyntaxNode, word: SyntaxKind) -> bool {
    node.descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .any(|token| token.kind() == word)
}
