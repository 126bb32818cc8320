//! The limits that the runner sets: a file may tighten them and not switch them off.

use squawk_syntax::ast::{self, AstNode, Stmt};
use squawk_syntax::{SyntaxKind, SyntaxNode, SyntaxToken};

use super::file::{name_of, text_of};
use super::{Report, Rule, View};

const LIMITS: [&str; 2] = ["lock_timeout", "statement_timeout"];

pub(super) fn judge(view: &View<'_>, report: &mut Report) {
    match &view.statement.stmt {
        Stmt::Set(set) => {
            if let Some(ast::SetTarget::SetConfig(config)) = set.set_target() {
                judge_set(view, report, &config);
            }
        }
        Stmt::Reset(reset) => {
            let what = reset.reset_target();
            let what =
                what.map(|target| target.syntax().text().to_string().to_lowercase()).unwrap_or_default();
            if what == "all" || LIMITS.contains(&what.as_str()) {
                report.at(
                    view,
                    Rule::Timeouts,
                    reset.syntax(),
                    format!("RESET {what} takes the runner's limits away"),
                );
            }
        }
        Stmt::Discard(discard) => {
            report.at(view, Rule::Timeouts, discard.syntax(), "DISCARD takes the runner's limits away");
        }
        Stmt::Select(_) | Stmt::SelectInto(_) => {
            let calls = view.statement.stmt.syntax().descendants().filter_map(ast::CallExpr::cast);
            for call in calls.filter(calls_set_config) {
                report.at(
                    view,
                    Rule::Timeouts,
                    call.syntax(),
                    "set_config sets a limit out of the lint's sight",
                );
            }
        }
        _ => {}
    }
}

fn judge_set(view: &View<'_>, report: &mut Report, config: &ast::SetConfig) {
    let name = config.config_parameter_ref().map(|name| name_of(name.syntax())).unwrap_or_default();
    if !LIMITS.contains(&name.as_str()) {
        return;
    }
    let Some(assignment) = config.config_assignment() else { return };
    let value: Vec<SyntaxToken> = tokens(assignment.syntax()).skip(1).collect();
    if !value.first().is_some_and(ends) {
        let value: String = value.iter().map(|token| token.text()).collect();
        report.at(view, Rule::Timeouts, config.syntax(), format!("{name} = {value} is no limit"));
    }
}

/// Whether it is a number above zero, with or without a unit.
fn ends(value: &SyntaxToken) -> bool {
    let text = value.text().trim_matches('\'').trim();
    text.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && text
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .any(|digit| ('1'..='9').contains(&digit))
}

/// `set_config` of a limit, or of a setting whose name is not written there.
fn calls_set_config(call: &ast::CallExpr) -> bool {
    let Some(ast::Expr::NameRef(name)) = call.expr() else { return false };
    if text_of(name.syntax()) != "set_config" {
        return false;
    }
    let first = call.arg_list().and_then(|list| list.args().next());
    let first = first.map(|setting| setting.syntax().text().to_string()).unwrap_or_default();
    let literal = first.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    literal.is_none_or(|setting| LIMITS.contains(&setting.to_lowercase().as_str()))
}

fn tokens(node: &SyntaxNode) -> impl Iterator<Item = SyntaxToken> {
    node.descendants_with_tokens()
        .filter_map(|element| element.into_token())
        .filter(|token| !matches!(token.kind(), SyntaxKind::WHITESPACE | SyntaxKind::COMMENT))
}
