//! The rules by name: what a finding is called, what to do instead.

/// A rule. Its [`id`](Self::id) is what an exception names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    Syntax,
    RequiredColumn,
    RewritingDefault,
    ColumnType,
    SetNotNull,
    DropUnannounced,
    Rename,
    ConstraintNotValid,
    ValidateApart,
    UniqueUsingIndex,
    IndexConcurrently,
    ConcurrentlyIfNotExists,
    NoTransaction,
    TransactionControl,
    Timeouts,
    UnboundedChange,
    TableRewrite,
    OpaqueCode,
    Exception,
}

impl Rule {
    /// Every rule, in the order of the documentation.
    pub const ALL: [Self; 19] = [
        Self::Syntax,
        Self::RequiredColumn,
        Self::RewritingDefault,
        Self::ColumnType,
        Self::SetNotNull,
        Self::DropUnannounced,
        Self::Rename,
        Self::ConstraintNotValid,
        Self::ValidateApart,
        Self::UniqueUsingIndex,
        Self::IndexConcurrently,
        Self::ConcurrentlyIfNotExists,
        Self::NoTransaction,
        Self::TransactionControl,
        Self::Timeouts,
        Self::UnboundedChange,
        Self::TableRewrite,
        Self::OpaqueCode,
        Self::Exception,
    ];

    /// What findings and exceptions call it.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::RequiredColumn => "required-column",
            Self::RewritingDefault => "rewriting-default",
            Self::ColumnType => "column-type",
            Self::SetNotNull => "set-not-null",
            Self::DropUnannounced => "drop-unannounced",
            Self::Rename => "rename",
            Self::ConstraintNotValid => "constraint-not-valid",
            Self::ValidateApart => "validate-apart",
            Self::UniqueUsingIndex => "unique-using-index",
            Self::IndexConcurrently => "index-concurrently",
            Self::ConcurrentlyIfNotExists => "concurrently-if-not-exists",
            Self::NoTransaction => "no-transaction",
            Self::TransactionControl => "transaction-control",
            Self::Timeouts => "timeouts",
            Self::UnboundedChange => "unbounded-change",
            Self::TableRewrite => "table-rewrite",
            Self::OpaqueCode => "opaque-code",
            Self::Exception => "exception",
        }
    }

    /// The rule of that id.
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.id() == id)
    }

    /// Whether a comment can except a statement from it.
    pub const fn has_exceptions(self) -> bool {
        !matches!(self, Self::Syntax | Self::Exception)
    }

    /// What to do instead.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Syntax => "write what PostgreSQL reads; what is behind this place may be misread",
            Self::RequiredColumn => {
                "add it with a constant DEFAULT, or without NOT NULL: servers of the release before do not fill it"
            }
            Self::RewritingDefault => {
                "add the column without it, SET DEFAULT for new rows, then fill the old ones in batches"
            }
            Self::ColumnType => {
                "add a column of the new type, write both, backfill, read the new one, drop the old one"
            }
            Self::SetNotNull => {
                "add CHECK (column IS NOT NULL) NOT VALID, VALIDATE it in a later file, then SET NOT NULL, which then scans nothing"
            }
            Self::DropUnannounced => {
                "remove it after a release whose code does not use it, and name that release above the statement: -- fraiseql: unused-since <release>"
            }
            Self::Rename => {
                "add the new one, write both, backfill, deploy code that reads the new one, then drop the old one"
            }
            Self::ConstraintNotValid => {
                "add it as a table constraint with NOT VALID, and VALIDATE CONSTRAINT in a later file"
            }
            Self::ValidateApart => {
                "validate in a file of its own: in this one the scan runs under the lock that adding took"
            }
            Self::UniqueUsingIndex => {
                "build a UNIQUE INDEX CONCURRENTLY in a file before, then ADD CONSTRAINT ... USING INDEX"
            }
            Self::IndexConcurrently => "say CONCURRENTLY, alone in a file that starts with -- no-transaction",
            Self::ConcurrentlyIfNotExists => {
                "leave IF NOT EXISTS out: it takes the invalid index of a failed build for a good one"
            }
            Self::NoTransaction => "put the statement alone in a file whose first line is -- no-transaction",
            Self::TransactionControl => "leave it out: the runner gives each file its transaction",
            Self::Timeouts => "leave them to the runner, or set a limit that ends",
            Self::UnboundedChange => {
                "change rows in batches that commit: DO with a loop, alone in a file that starts with -- no-transaction"
            }
            Self::TableRewrite => "do it in a maintenance window, or move the rows to a new table in batches",
            Self::OpaqueCode => "write the statements out: what is put together at run time is not checked",
            Self::Exception => {
                "an exception is -- fraiseql: allow(<rule>) <reason>, right above the statement or inside it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_distinct_and_lead_back_to_their_rule() {
        let ids: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(ids.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert_eq!(Rule::of_id(rule.id()), Some(rule));
        }
    }

    #[test]
    fn every_rule_stands_in_the_checklist() {
        let page = include_str!("../../../../docs/migrations.md");
        for rule in Rule::ALL {
            assert!(
                page.contains(&format!("| `{}` |", rule.id())),
                "{} is not in docs/migrations.md",
                rule.id()
            );
        }
    }
}
