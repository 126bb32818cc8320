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
    place: String,
    what: String,
    allowed: Option<String>,
    meant: Option<String>,
}

impl Problem {
    pub(super) fn new(place: String, what: String) -> Self {
        Self { place, what, allowed: None, meant: None }
    }

    pub(super) fn variable(name: &str, what: &str, allowed: &str) -> Self {
        Self::new("environment".to_owned(), format!("{name} {what}")).allowed(allowed)
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
