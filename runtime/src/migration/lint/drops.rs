//! What goes away: only what a named earlier release had stopped to use, and never by another name.

use squawk_syntax::SyntaxNode;
use squawk_syntax::ast::{AlterTableAction, AlterViewAction, AstNode, Stmt};

use super::directive::Directive;
use super::file::{name_of, text_of};
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    match &view.statement.stmt {
        Stmt::AlterTable(_) => judge_table(view, report),
        Stmt::AlterView(alter) => {
            if let Some(AlterViewAction::RenameColumn(_) | AlterViewAction::ViewRenameTo(_)) = alter.action()
            {
                report.at(view, Rule::Rename, alter.syntax(), "a view or its column gets another name");
            }
        }
        Stmt::DropTable(drop) => {
            for table in drop.table_name_refs() {
                let name = name_of(table.syntax());
                if !view.is_new(&name) {
                    judge_removed(view, report, table.syntax(), &name);
                }
            }
        }
        _ => {}
    }
}

fn judge_table(view: &View<'_>, report: &mut Report) {
    let Some((table, actions)) = view.statement.table_actions() else { return };
    if view.is_new(&table) {
        return;
    }
    for action in actions {
        match action {
            AlterTableAction::DropColumn(drop) => {
                let column = drop.column_name_ref().map(|name| text_of(name.syntax())).unwrap_or_default();
                judge_removed(view, report, drop.syntax(), &format!("{table}.{column}"));
            }
            AlterTableAction::RenameColumn(rename) => {
                let column = rename.column_name_ref().map(|name| text_of(name.syntax())).unwrap_or_default();
                let what =
                    format!("{table}.{column} gets another name, under which running servers do not look");
                report.at(view, Rule::Rename, rename.syntax(), what);
            }
            AlterTableAction::TableRenameTo(rename) => {
                let what = format!("{table} gets another name, under which running servers do not look");
                report.at(view, Rule::Rename, rename.syntax(), what);
            }
            AlterTableAction::SetSchema(set) => {
                let what = format!("{table} moves to another schema, where running servers do not look");
                report.at(view, Rule::Rename, set.syntax(), what);
            }
            _ => {}
        }
    }
}

fn judge_removed(view: &View<'_>, report: &mut Report, node: &SyntaxNode, name: &str) {
    let announced = view.directives().find_map(|directive| match directive {
        Directive::UnusedSince(release) => Some(*release),
        _ => None,
    });
    let what = match announced {
        Some(release) if release < view.release => return,
        Some(release) => {
            format!("{name} is removed, and release {release}, unused since, is not before {}", view.release)
        }
        None => format!("{name} is removed, and no release is named that had stopped to use it"),
    };
    report.at(view, Rule::DropUnannounced, node, what);
}
