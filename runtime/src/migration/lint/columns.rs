//! Columns: added so that servers of the release before can go on inserting, and without rewriting the table.

use squawk_syntax::ast::{self, AlterColumnOption, AlterTableAction, AstNode, Constraint};
use squawk_syntax::{SyntaxKind, SyntaxNode};

use super::expression::may_differ_by_row;
use super::file::text_of;
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    let Some((table, actions)) = view.statement.table_actions() else { return };
    if view.is_new(&table) {
        return;
    }
    for action in actions {
        match action {
            AlterTableAction::AddColumn(add) => judge_added(view, report, &table, &add),
            AlterTableAction::AlterColumn(alter) => judge_altered(view, report, &table, &alter),
            _ => {}
        }
    }
}

fn judge_added(view: &View<'_>, report: &mut Report, table: &str, add: &ast::AddColumn) {
    let column = add.column_name().map(|name| text_of(name.syntax())).unwrap_or_default();
    let constraints: Vec<Constraint> = add.constraints().collect();
    let needs_value = constraints.iter().any(|constraint| {
        matches!(constraint, Constraint::NotNullConstraint(_) | Constraint::PrimaryKeyConstraint(_))
    });
    let is_generated = constraints.iter().any(|c| matches!(c, Constraint::GeneratedConstraint(_)));
    let is_serial = add.ty().is_some_and(|ty| SERIAL.contains(&spelling(ty.syntax()).as_str()));
    let default = constraints.iter().find_map(default_value);
    if needs_value && default.is_none() && !is_generated && !is_serial {
        let what = format!("{table}.{column} is NOT NULL and has no DEFAULT");
        report.at(view, Rule::RequiredColumn, add.syntax(), what);
    }
    if is_serial {
        let what = format!("the default of {table}.{column} is a sequence, so that every row is rewritten");
        report.at(view, Rule::RewritingDefault, add.syntax(), what);
    }
    if let Some(default) = default.filter(may_differ_by_row) {
        let what = format!(
            "the default of {table}.{column} may be another for each row, so that every row is rewritten"
        );
        report.at(view, Rule::RewritingDefault, default.syntax(), what);
    }
    for constraint in constraints.iter().filter(|constraint| stores_generated(constraint)) {
        let what = format!("{table}.{column} is generated, so that every row is rewritten");
        report.at(view, Rule::RewritingDefault, constraint.syntax(), what);
    }
}

const SERIAL: [&str; 6] = ["serial", "bigserial", "smallserial", "serial2", "serial4", "serial8"];

/// The value that rows get; `DEFAULT NULL` is none.
fn default_value(constraint: &Constraint) -> Option<ast::Expr> {
    let Constraint::DefaultConstraint(default) = constraint else { return None };
    default.expr().filter(|value| spelling(value.syntax()) != "null")
}

/// An identity or a stored expression, as against a virtual one, which is computed when it is read.
fn stores_generated(constraint: &Constraint) -> bool {
    let Constraint::GeneratedConstraint(generated) = constraint else { return false };
    let mut tokens = generated.syntax().descendants_with_tokens().filter_map(|element| element.into_token());
    tokens.any(|token| matches!(token.kind(), SyntaxKind::STORED_KW | SyntaxKind::IDENTITY_KW))
}

fn judge_altered(view: &View<'_>, report: &mut Report, table: &str, alter: &ast::AlterColumn) {
    let column = alter.column_name_ref().map(|name| text_of(name.syntax())).unwrap_or_default();
    match alter.option() {
        Some(AlterColumnOption::SetType(change)) => {
            let to = change.ty().map(|ty| spelling(ty.syntax())).unwrap_or_default();
            let what =
                format!("{table}.{column} becomes {to}, which may rewrite the table under an exclusive lock");
            report.at(view, Rule::ColumnType, alter.syntax(), what);
        }
        Some(AlterColumnOption::SetNotNull(_)) if !view.history.is_never_null(table, &column) => {
            let what =
                format!("no validated CHECK of an earlier statement says that {table}.{column} is not null");
            report.at(view, Rule::SetNotNull, alter.syntax(), what);
        }
        Some(AlterColumnOption::AddGenerated(_) | AlterColumnOption::SetExpression(_)) => {
            let what = format!("{table}.{column} becomes generated, which may rewrite the table");
            report.at(view, Rule::ColumnType, alter.syntax(), what);
        }
        _ => {}
    }
}

fn spelling(node: &SyntaxNode) -> String {
    node.text().to_string().to_lowercase()
}
