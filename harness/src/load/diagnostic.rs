//! Errors in profile files, as people read them: place, line, and what was probably meant.

use std::fmt;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: String,
    /// Counted from 1; the column in characters.
    pub line: usize,
    pub column: usize,
    pub source_line: String,
    pub message: String,
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gutter = " ".repeat(self.line.to_string().len());
        writeln!(f, "{}", self.message)?;
        writeln!(f, "{gutter}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{} | {}", self.line, self.source_line)?;
        write!(f, "{gutter} | {}^", " ".repeat(self.column.saturating_sub(1)))?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "\n{gutter} = help: {}", self.help) }
    }
}

impl Diagnostic {
    /// A mistake at a byte offset.
    pub fn at(file: &str, text: &str, offset: usize, message: String, help: &str) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Diagnostic {
            file: file.into(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            source_line: text[line_start..].lines().next().unwrap_or_default().into(),
            message,
            help: help.into(),
        }
    }

    /// A mistake that several values make together, shown at the first line that starts with `key`.
    pub fn at_key(file: &str, text: &str, key: &str, message: String, help: &str) -> Self {
        let mut offset = 0;
        for line in text.split_inclusive('\n') {
            if line.trim_start().trim_start_matches('[').starts_with(key) {
                return Self::at(file, text, offset, message, help);
            }
            offset += line.len();
        }
        Self::at(file, text, 0, message, help)
    }
}

/// Turns an error of the TOML reader into a diagnostic with a suggestion.
pub fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Diagnostic {
    let offset = error.span().map_or(0, |span| span.start);
    let message = error.message().trim().to_string();
    let help = suggestion(&message).map(|word| format!("did you mean `{word}`?")).unwrap_or_default();
    Diagnostic::at(file, text, offset, message, &help)
}

/// From "unknown field `raet`, expected one of `name`, `rate`" the expected word that is nearest to the written one.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let written = quoted.next().filter(|_| message.starts_with("unknown"))?;
    let near = |word: &&str| strsim::damerau_levenshtein(written, word);
    let best = quoted.min_by_key(near)?;
    (near(&best) <= 2.max(written.len() / 3)).then(|| best.to_string())
}
