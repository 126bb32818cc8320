//! What is wrong with a file, where, and what would be right; rendered as rustc does.

use std::fmt::Write as _;
use std::ops::Range;

/// One finding about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `S010`; stable.
    pub code: &'static str,
    pub message: String,
    /// Bytes of the file.
    pub span: Range<usize>,
    /// Short words under the caret.
    pub label: String,
    /// What to do; may be empty.
    pub help: String,
}

impl Diagnostic {
    /// Rendered against the text of the file it was found in, with a final newline.
    pub fn render(&self, path: &str, source: &str) -> String {
        let start = self.span.start.min(source.len());
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let number = source[..line_start].matches('\n').count() + 1;
        let text = &source[line_start..line_end];
        let column = source[line_start..start].chars().count() + 1;
        // A span over several lines is marked on its first.
        let width = source[start..self.span.end.clamp(start, line_end)].chars().count().max(1);
        let gutter = " ".repeat(number.to_string().len());
        let mut out = String::new();
        write!(
            out,
            "error[{}]: {}\n{gutter}--> {path}:{number}:{column}\n{gutter} |\n{number} | {text}\n{gutter} | {}{} {}\n",
            self.code,
            self.message,
            " ".repeat(column - 1),
            "^".repeat(width),
            self.label
        )
        .expect("writing to a String cannot fail");
        if !self.help.is_empty() {
            writeln!(out, "{gutter} = help: {}", self.help).expect("writing to a String cannot fail");
        }
        // A label may be empty; no line ends in a blank.
        out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}
