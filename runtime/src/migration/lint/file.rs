//! One file, parsed: its statements, those inside `DO` too, what it creates, and the comments for the lint.

use std::collections::BTreeSet;
use std::rc::Rc;

use squawk_syntax::ast::{self, AstNode, Stmt};
use squawk_syntax::plpgsql::Plpgsql;
use squawk_syntax::{SourceFile, SyntaxKind, SyntaxNode};

use super::Source;
use super::directive::Directive;

/// The first line by which sqlx knows a file that is not to run in a transaction.
pub(super) const NO_TRANSACTION: &str = "-- no-transaction";

pub(super) struct File {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) statements: Vec<Statement>,
    pub(super) comments: Vec<Comment>,
    /// Places in the text that could not be read, and why.
    pub(super) errors: Vec<(usize, String)>,
    /// Whether sqlx runs it without a transaction.
    pub(super) no_transaction: bool,
    tables: BTreeSet<String>,
    indexes: BTreeSet<String>,
    /// Table and constraint, of `ADD CONSTRAINT`.
    constraints: BTreeSet<(String, String)>,
}

/// A statement of the file, or one in the body of a `DO`.
pub(super) struct Statement {
    pub(super) stmt: Stmt,
    /// The number of the top-level statement that it is or is in.
    pub(super) group: usize,
    body: Option<Rc<Plpgsql>>,
}

/// A comment for the lint.
pub(super) struct Comment {
    pub(super) directive: Directive,
    pub(super) at: usize,
    /// The top-level statement that it is for: the one it is in, behind on the same line, or else above.
    pub(super) group: Option<usize>,
}

impl Statement {
    /// Where a part of it starts in the file's text.
    pub(super) fn offset_of(&self, node: &SyntaxNode) -> usize {
        let range = node.text_range();
        let range = self.body.as_ref().map_or(range, |body| body.source_range(range));
        range.start().into()
    }

    pub(super) fn is_nested(&self) -> bool {
        self.body.is_some()
    }

    /// The changes and the table's name, of an `ALTER TABLE`.
    pub(super) fn table_actions(&self) -> Option<(String, Vec<ast::AlterTableAction>)> {
        let Stmt::AlterTable(alter) = &self.stmt else { return None };
        Some((name_of(alter.table_relation_name()?.syntax()), alter.actions().collect()))
    }
}

impl File {
    pub(super) fn parse(source: &Source) -> Self {
        let parse = SourceFile::parse(&source.text);
        let mut file = Self {
            name: source.name.clone(),
            text: source.text.clone(),
            statements: vec![],
            comments: vec![],
            errors: vec![],
            no_transaction: source.text.starts_with(NO_TRANSACTION),
            tables: BTreeSet::new(),
            indexes: BTreeSet::new(),
            constraints: BTreeSet::new(),
        };
        for error in parse.errors() {
            file.errors.push((error.range().start().into(), error.message().to_owned()));
        }
        let top: Vec<Stmt> =
            parse.tree().stmts().filter(|stmt| !matches!(stmt, Stmt::EmptyStmt(_))).collect();
        file.comments = comments(&source.text, parse.tree().syntax(), &top);
        for (group, stmt) in top.into_iter().enumerate() {
            file.add(stmt, group);
        }
        file.note_what_is_created();
        file
    }

    fn add(&mut self, stmt: Stmt, group: usize) {
        let body = if let Stmt::Do(block) = &stmt { block.plpgsql().map(Rc::new) } else { None };
        self.statements.push(Statement { stmt, group, body: None });
        let Some(body) = body else { return };
        let nested: Vec<Stmt> = body.syntax().descendants().filter_map(Stmt::cast).collect();
        for stmt in nested {
            self.statements.push(Statement { stmt, group, body: Some(body.clone()) });
        }
    }

    fn note_what_is_created(&mut self) {
        for statement in &self.statements {
            match &statement.stmt {
                Stmt::CreateTable(create) => {
                    self.tables.extend(create.table_name().map(|name| name_of(name.syntax())))
                }
                Stmt::CreateTableAs(create) => {
                    self.tables.extend(create.table_name().map(|name| name_of(name.syntax())));
                }
                Stmt::CreateIndex(create) => {
                    self.indexes.extend(create.index().map(|index| name_of(index.syntax())));
                }
                Stmt::AlterTable(_) => {
                    let (table, actions) = statement.table_actions().unwrap_or_default();
                    let added = actions.iter().filter_map(added_constraint);
                    self.constraints.extend(added.map(|name| (table.clone(), name)));
                }
                _ => {}
            }
        }
    }

    pub(super) fn creates_table(&self, table: &str) -> bool {
        self.tables.contains(table)
    }

    pub(super) fn creates_index(&self, index: &str) -> bool {
        self.indexes.contains(index)
    }

    pub(super) fn adds_constraint(&self, table: &str, name: &str) -> bool {
        self.constraints.contains(&(table.to_owned(), name.to_owned()))
    }

    /// The statements that are not inside another.
    pub(super) fn top_level(&self) -> impl Iterator<Item = &Statement> {
        self.statements.iter().filter(|statement| !statement.is_nested())
    }
}

/// The name of the constraint that an action adds.
pub(super) fn added_constraint(action: &ast::AlterTableAction) -> Option<String> {
    let ast::AlterTableAction::AddConstraint(add) = action else { return None };
    Some(text_of(add.constraint()?.constraint_name()?.syntax()))
}

/// A name with its schema, as the database spells it; `public` is left out, so that both ways to write it are one.
pub(super) fn name_of(node: &SyntaxNode) -> String {
    let segment = |node: SyntaxNode| match node.kind() {
        SyntaxKind::PATH_SEGMENT | SyntaxKind::PATH_SEGMENT_REF => Some(text_of(&node)),
        _ => None,
    };
    let name = node.descendants().filter_map(segment).collect::<Vec<_>>().join(".");
    name.strip_prefix("public.").map(str::to_owned).unwrap_or(name)
}

/// One name without a schema, as the database spells it.
pub(super) fn text_of(node: &SyntaxNode) -> String {
    ast::normalize_name_node(node)
}

fn comments(text: &str, tree: &SyntaxNode, top: &[Stmt]) -> Vec<Comment> {
    let tokens = tree.descendants_with_tokens().filter_map(|element| element.into_token());
    tokens
        .filter(|token| token.kind() == SyntaxKind::COMMENT)
        .filter_map(|token| {
            let at = usize::from(token.text_range().start());
            Some(Comment { directive: Directive::parse(token.text())?, at, group: group_of(text, at, top) })
        })
        .collect()
}

fn group_of(text: &str, at: usize, top: &[Stmt]) -> Option<usize> {
    let end = |index: usize| usize::from(top[index].syntax().text_range().end());
    let next = (0..top.len()).find(|index| at < end(*index));
    let before = next.unwrap_or(top.len()).checked_sub(1);
    match before {
        Some(before) if !text[end(before)..at].contains('\n') => Some(before),
        _ => next,
    }
}
