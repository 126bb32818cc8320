//! Constraints on tables in use: added without looking at the rows, validated apart, unique by an index that is there.

use squawk_syntax::ast::{self, AlterTableAction, AstNode, Constraint, ConstraintOption};

use super::file::{name_of, text_of};
use super::{Report, Rule, View};

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    let Some((table, actions)) = view.statement.table_actions() else { return };
    if view.is_new(&table) {
        return;
    }
    for action in actions {
        match action {
            AlterTableAction::AddConstraint(add) => {
                if let Some(constraint) = add.constraint() {
                    judge_added(view, report, &table, &constraint);
                }
            }
            AlterTableAction::AddColumn(add) => judge_inline(view, report, &table, &add),
            AlterTableAction::ValidateConstraint(validate) => {
                judge_validated(view, report, &table, &validate);
            }
            _ => {}
        }
    }
}

fn judge_added(view: &View<'_>, report: &mut Report, table: &str, constraint: &Constraint) {
    let kind = match constraint {
        Constraint::ForeignKeyConstraint(_) => "FOREIGN KEY",
        Constraint::CheckConstraint(_) => "CHECK",
        Constraint::NotNullConstraint(_) => "NOT NULL",
        Constraint::UniqueConstraint(unique) if unique.using_index().is_none() => {
            return not_by_index(view, report, constraint, format!("UNIQUE on {table}"));
        }
        Constraint::PrimaryKeyConstraint(key) if key.using_index().is_none() => {
            return not_by_index(view, report, constraint, format!("PRIMARY KEY of {table}"));
        }
        Constraint::ExcludeConstraint(_) => {
            return not_by_index(view, report, constraint, format!("EXCLUDE on {table}"));
        }
        _ => return,
    };
    if !constraint.is_not_valid() && !is_not_enforced(constraint) {
        let what = format!("{kind} on {table} reads every row while writers wait");
        report.at(view, Rule::ConstraintNotValid, constraint.syntax(), what);
    }
}

fn is_not_enforced(constraint: &Constraint) -> bool {
    constraint.constraint_options().any(|option| matches!(option, ConstraintOption::NotEnforced(_)))
}

fn not_by_index(view: &View<'_>, report: &mut Report, constraint: &Constraint, which: String) {
    let what = format!("{which} builds its index while readers and writers wait");
    report.at(view, Rule::UniqueUsingIndex, constraint.syntax(), what);
}

/// Constraints in the definition of a new column.
fn judge_inline(view: &View<'_>, report: &mut Report, table: &str, add: &ast::AddColumn) {
    let column = add.column_name().map(|name| text_of(name.syntax())).unwrap_or_default();
    let has_default = add.constraints().any(|c| matches!(c, Constraint::DefaultConstraint(_)));
    for constraint in add.constraints() {
        match &constraint {
            Constraint::CheckConstraint(_) => {
                let what = format!("CHECK of {table}.{column} reads every row while everybody waits");
                report.at(view, Rule::ConstraintNotValid, constraint.syntax(), what);
            }
            // Without a default every row is null there, which PostgreSQL knows without looking.
            Constraint::ReferencesConstraint(_) if has_default => {
                let what = format!("REFERENCES of {table}.{column} looks up the default of every row");
                report.at(view, Rule::ConstraintNotValid, constraint.syntax(), what);
            }
            Constraint::UniqueConstraint(_) | Constraint::PrimaryKeyConstraint(_) => {
                not_by_index(view, report, &constraint, format!("the unique {table}.{column}"));
            }
            _ => {}
        }
    }
}

fn judge_validated(view: &View<'_>, report: &mut Report, table: &str, validate: &ast::ValidateConstraint) {
    let Some(name) = validate.constraint_name_ref().map(|name| name_of(name.syntax())) else { return };
    if view.file.adds_constraint(table, &name) {
        let what = format!("{name} of {table} is added and validated in one file");
        report.at(view, Rule::ValidateApart, validate.syntax(), what);
    }
}
