//! Whether a default is one value for all rows that are there, which PostgreSQL stores once instead of in every row.

use squawk_syntax::ast::{self, AstNode};

use super::file::text_of;

/// Functions that do not change within a statement. One that is not here may be another value for each row: to be
/// wrong that way costs an exception with a reason, the other way a rewritten table.
const STABLE: [&str; 22] = [
    "array_fill",
    "concat",
    "date_trunc",
    "daterange",
    "int4range",
    "int8range",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "lower",
    "make_date",
    "make_interval",
    "md5",
    "now",
    "numrange",
    "statement_timestamp",
    "timezone",
    "to_jsonb",
    "to_timestamp",
    "transaction_timestamp",
    "upper",
];

/// Whether a function is called that is not known to answer the same for every row.
pub(super) fn may_differ_by_row(value: &ast::Expr) -> bool {
    value.syntax().descendants().filter_map(ast::CallExpr::cast).any(|call| match call.expr() {
        Some(ast::Expr::NameRef(name)) => !STABLE.contains(&text_of(name.syntax()).as_str()),
        _ => true,
    })
}
