//! What earlier statements left behind that later ones may lean on: checks that a column is not null.

use std::collections::BTreeMap;

use squawk_syntax::ast::{self, AlterTableAction, AstNode};
use squawk_syntax::{SyntaxKind, SyntaxToken};

use super::file::{Statement, name_of, text_of};

#[derive(Default)]
pub(super) struct History {
    /// By table and constraint.
    checks: BTreeMap<(String, String), NotNull>,
}

struct NotNull {
    columns: Vec<String>,
    valid: bool,
}

impl History {
    /// Whether every row is known to have a value in the column.
    pub(super) fn is_never_null(&self, table: &str, column: &str) -> bool {
        self.checks.iter().any(|((of, _), check)| {
            of == table && check.valid && check.columns.iter().any(|known| known == column)
        })
    }

    pub(super) fn record(&mut self, statement: &Statement) {
        let Some((table, actions)) = statement.table_actions() else { return };
        for action in actions {
            match action {
                AlterTableAction::AddConstraint(add) => {
                    if let Some(constraint) = add.constraint() {
                        self.add(&table, &constraint);
                    }
                }
                AlterTableAction::ValidateConstraint(validate) => {
                    let name = validate.constraint_name_ref().map(|name| name_of(name.syntax()));
                    if let Some(check) = name.and_then(|name| self.checks.get_mut(&(table.clone(), name))) {
                        check.valid = true;
                    }
                }
                AlterTableAction::DropConstraint(drop) => {
                    if let Some(name) = drop.constraint_name_ref().map(|name| name_of(name.syntax())) {
                        self.checks.remove(&(table.clone(), name));
                    }
                }
                _ => {}
            }
        }
    }

    fn add(&mut self, table: &str, constraint: &ast::Constraint) {
        let ast::Constraint::CheckConstraint(check) = constraint else { return };
        let (Some(name), Some(expression)) = (constraint.constraint_name(), check.expr()) else { return };
        let columns = not_null_columns(&expression);
        let check = NotNull { columns, valid: !constraint.is_not_valid() };
        self.checks.insert((table.to_owned(), text_of(name.syntax())), check);
    }
}

/// The columns that are not null wherever the expression holds: those of `a IS NOT NULL AND b IS NOT NULL`.
fn not_null_columns(expression: &ast::Expr) -> Vec<String> {
    let is_code = |token: &SyntaxToken| !matches!(token.kind(), SyntaxKind::WHITESPACE | SyntaxKind::COMMENT);
    let elements = expression.syntax().descendants_with_tokens();
    let tokens: Vec<SyntaxToken> =
        elements.filter_map(|element| element.into_token()).filter(is_code).collect();
    let parts: Vec<&[SyntaxToken]> = tokens.split(|token| token.kind() == SyntaxKind::AND_KW).collect();
    // Anything but the plain form says nothing: brackets and OR among them.
    parts.iter().map(|part| not_null_column(part)).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn not_null_column(tokens: &[SyntaxToken]) -> Option<String> {
    let [name, is, not, null] = tokens else { return None };
    let kinds = [is.kind(), not.kind(), null.kind()];
    (kinds == [SyntaxKind::IS_KW, SyntaxKind::NOT_KW, SyntaxKind::NULL_KW])
        .then(|| name.parent().map(|parent| text_of(&parent)))
        .flatten()
}
