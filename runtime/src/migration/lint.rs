//! What a migration would break or block, read from its SQL before it runs.
//!
//! [`lint`] is a pure function of the files in the order in which they are applied: rules look at the parse tree, at
//! what the same file created (which nobody uses yet) and at what earlier files did. An exception is a comment with a
//! reason at the statement it is for, and one that excepts nothing is itself a finding.
//! Not seen, on purpose: what functions that a migration calls do, and what the database holds.

mod columns;
mod constraints;
mod directive;
mod drops;
mod expression;
mod file;
pub mod folder;
mod history;
mod indexes;
mod release;
mod rows;
mod rule;
mod session;
mod transactions;

use std::fmt;

use squawk_syntax::SyntaxNode;

use directive::Directive;
use file::{File, Statement};
use history::History;
pub use release::{Release, ReleaseError};
pub use rule::Rule;

/// One file: its name, for findings, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Something to mend. Prints as `file:line:column: rule: what` and a line that says what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, file, line, column, what } = self;
        write!(f, "{file}:{line}:{column}: {}: {what}\n    {}", rule.id(), rule.advice())
    }
}

/// What is to be mended in `sources`, which are in the order in which they are applied; `release` is the one that they
/// ship with.
pub fn lint(sources: &[Source], release: Release) -> Vec<Finding> {
    let mut history = History::default();
    let mut findings = vec![];
    for source in sources {
        let file = File::parse(source);
        let mut report = Report::of_syntax(&file);
        for statement in &file.statements {
            let view = View { file: &file, statement, history: &history, release };
            for judge in JUDGES {
                judge(&view, &mut report);
            }
            history.record(statement);
        }
        transactions::judge_file(&file, &mut report);
        findings.extend(excepted(&file, report));
    }
    findings
}

/// Each looks at one statement.
const JUDGES: [fn(&View<'_>, &mut Report); 7] = [
    columns::judge,
    constraints::judge,
    drops::judge,
    indexes::judge,
    rows::judge,
    session::judge,
    transactions::judge,
];

/// One statement and what there is to know when it runs.
struct View<'a> {
    file: &'a File,
    statement: &'a Statement,
    history: &'a History,
    release: Release,
}

impl View<'_> {
    /// Whether nobody can be using the table, since this file created it.
    fn is_new(&self, table: &str) -> bool {
        self.file.creates_table(table)
    }

    fn directives(&self) -> impl Iterator<Item = &Directive> {
        self.file
            .comments
            .iter()
            .filter(|comment| comment.group == Some(self.statement.group))
            .map(|c| &c.directive)
    }
}

/// A finding before the exceptions: where it is, and the number of its top-level statement in the file.
struct Raw {
    rule: Rule,
    at: usize,
    group: Option<usize>,
    what: String,
}

#[derive(Default)]
struct Report {
    raw: Vec<Raw>,
}

impl Report {
    /// The first place that cannot be read; what the parser says behind it is mostly its consequence.
    fn of_syntax(file: &File) -> Self {
        let mut report = Self::default();
        if let Some((at, what)) = file.errors.iter().min_by_key(|(at, _)| *at) {
            report.in_file(Rule::Syntax, *at, what.clone());
        }
        report
    }

    /// About a part of a statement.
    fn at(&mut self, view: &View<'_>, rule: Rule, node: &SyntaxNode, what: impl Into<String>) {
        let at = view.statement.offset_of(node);
        self.raw.push(Raw { rule, at, group: Some(view.statement.group), what: what.into() });
    }

    /// About the file, which no exception is for.
    fn in_file(&mut self, rule: Rule, at: usize, what: impl Into<String>) {
        self.raw.push(Raw { rule, at, group: None, what: what.into() });
    }
}

/// The findings that no comment excepts, and those about the comments, in the order of the text.
fn excepted(file: &File, report: Report) -> Vec<Finding> {
    let mut used = vec![false; file.comments.len()];
    let mut left = vec![];
    for raw in report.raw {
        let allows = |index: &usize| {
            let comment = &file.comments[*index];
            raw.group.is_some() && comment.group == raw.group && comment.directive.allows(raw.rule)
        };
        match (0..file.comments.len()).find(allows) {
            Some(index) => used[index] = true,
            None => left.push(raw),
        }
    }
    for (comment, used) in file.comments.iter().zip(used) {
        if let Some(what) = comment.directive.problem(used) {
            left.push(Raw { rule: Rule::Exception, at: comment.at, group: None, what });
        }
    }
    left.sort_by_key(|raw| raw.at);
    left.into_iter().map(|raw| located(file, raw)).collect()
}

fn located(file: &File, raw: Raw) -> Finding {
    let before = &file.text[..raw.at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Finding {
        rule: raw.rule,
        file: file.name.clone(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        what: raw.what,
    }
}

#[cfg(test)]
mod tests;
