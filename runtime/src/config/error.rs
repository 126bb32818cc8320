//! What is wrong with a configuration, said so that a person can mend it without the source.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Never empty.
    #[error("{}", list(.0))]
    Invalid(Vec<Problem>),
}

/// One thing to mend. Prints as `place: what`, then one indented line each for what is allowed
/// and what was perhaps meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, for the order; zero where there is no file.
    at: (usize, usize),
    place: String,
    what: String,
    allowed: Option<String>,
    meant: Option<String>,
}

impl Problem {
    pub(super) fn in_file(name: &str, at: (usize, usize), what: String) -> Self {
        let place = format!("{name}:{}:{}", at.0, at.1);
        Self { at, place, what, allowed: None, meant: None }
    }

    pub(super) fn variable(name: &str, what: &str, allowed: &str) -> Self {
        let (place, what) = ("environment".to_owned(), format!("{name} {what}"));
        Self { at: (0, 0), place, what, allowed: Some(allowed.to_owned()), meant: None }
    }

    pub(super) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Suggests the known word nearest to `word`, when one is near enough to be meant.
    pub(super) fn suggest<'w>(mut self, word: &str, known: impl IntoIterator<Item = &'w str>) -> Self {
        self.meant = known
            .into_iter()
            .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate.to_owned());
        self
    }
}

impl Error {
    /// Problems in the order of the file, those of the environment first.
    pub(super) fn invalid(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at);
        Self::Invalid(problems)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if let Some(allowed) = &self.allowed {
            write!(f, "\n    allowed: {allowed}")?;
        }
        if let Some(meant) = &self.meant {
            write!(f, "\n    did you mean `{meant}`?")?;
        }
        Ok(())
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
