//! What rules are matched with: statements by text or expression, keys by glob, subjects with NATS wildcards.
//!
//! Matching is linear in the input, and patterns from outside have a bounded size.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Longest pattern of any kind, in bytes.
const PATTERN_BYTES_MAX: usize = 1024;
/// Bound of a compiled expression, in bytes.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a pattern must not be empty")]
    Empty,
    #[error("a pattern has at most {PATTERN_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("`{pattern}` is not a regular expression: {reason}")]
    Expression { pattern: String, reason: String },
    #[error(
        "`{0}` is not a subject: tokens are separated by single dots, `*` stands for a token, `>` for the rest"
    )]
    Subject(String),
}

fn bounded(text: &str) -> Result<(), PatternError> {
    match text.len() {
        0 => Err(PatternError::Empty),
        size if size > PATTERN_BYTES_MAX => Err(PatternError::TooLong(size)),
        _ => Ok(()),
    }
}

/// Matches statements. `/…/` is a regular expression; anything else is text that occurs in the statement as whole
/// words. Both ignore the case of ASCII letters; any white space in text matches any other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    written: String,
    program: Regex,
}

impl Pattern {
    pub fn matches(&self, statement: &[u8]) -> bool {
        self.program.is_match(statement)
    }

    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Matches statements that begin with these words.
    pub fn keyword(words: &str) -> Result<Pattern, PatternError> {
        bounded(words)?;
        compile(words.to_owned(), &format!(r"^[\s;(]*{}", literal(words)))
    }

    /// COMMIT in all its spellings.
    pub fn commit() -> Pattern {
        Pattern::from_str(r"/^\s*(?:COMMIT|END)\b/").expect("a correct pattern")
    }

    /// Every statement.
    pub fn any() -> Pattern {
        Pattern::from_str("/^/").expect("a correct pattern")
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        bounded(text)?;
        match text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            Some(expression) => compile(text.to_owned(), expression),
            None => compile(text.to_owned(), &literal(text)),
        }
    }
}

fn literal(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(regex::escape).collect();
    let edge = |byte: Option<&u8>| match byte {
        Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'_' => r"\b",
        _ => "",
    };
    let trimmed = text.trim().as_bytes();
    format!("{}{}{}", edge(trimmed.first()), words.join(r"\s+"), edge(trimmed.last()))
}

fn compile(written: String, expression: &str) -> Result<Pattern, PatternError> {
    let program = RegexBuilder::new(expression)
        .unicode(false)
        .case_insensitive(true)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            PatternError::Expression { pattern: written.clone(), reason }
        })?;
    Ok(Pattern { written, program })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.program.as_str() == other.program.as_str()
    }
}

/// Matches keys: `*` stands for any bytes, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(String);

impl Glob {
    pub fn any() -> Glob {
        Glob("*".into())
    }

    pub fn is_any(&self) -> bool {
        self.0 == "*"
    }

    pub fn matches(&self, key: &[u8]) -> bool {
        let pattern = self.0.as_bytes();
        let (mut p, mut k) = (0, 0);
        // Where to go on when the last star has to take one byte more.
        let mut retry: Option<(usize, usize)> = None;
        while k < key.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p, k));
                    p += 1;
                }
                Some(byte) if *byte == b'?' || *byte == key[k] => {
                    p += 1;
                    k += 1;
                }
                _ => {
                    let Some((star, taken)) = retry else { return false };
                    retry = Some((star, taken + 1));
                    p = star + 1;
                    k = taken + 1;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for Glob {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Glob, PatternError> {
        bounded(text)?;
        Ok(Glob(text.to_owned()))
    }
}

/// Matches NATS subjects: `*` stands for one token, `>` at the end for one or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Subject {
    pub fn any() -> Subject {
        Subject(">".into())
    }

    pub fn matches(&self, subject: &[u8]) -> bool {
        let mut tokens = subject.split(|byte| *byte == b'.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted.as_bytes() == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl FromStr for Subject {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Subject, PatternError> {
        bounded(text)?;
        let tokens: Vec<&str> = text.split('.').collect();
        let last = tokens.len() - 1;
        let wrong = |(index, token): (usize, &&str)| {
            token.is_empty()
                || token.contains(|c: char| c.is_whitespace() || c.is_control())
                || (token.len() > 1 && token.contains(['*', '>']))
                || (*token == ">" && index != last)
        };
        if tokens.iter().enumerate().any(wrong) {
            return Err(PatternError::Subject(text.to_owned()));
        }
        Ok(Subject(text.to_owned()))
    }
}

macro_rules! written_as_text {
    ($($kind:ident: $field:tt),*) => {$(
        impl TryFrom<String> for $kind {
            type Error = PatternError;

            fn try_from(text: String) -> Result<$kind, PatternError> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(pattern: $kind) -> String {
                pattern.$field
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.$field)
            }
        }
    )*};
}

written_as_text!(Pattern: written, Glob: 0, Subject: 0);

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(pattern: &str, text: &str) -> bool {
        pattern.parse::<Pattern>().expect("a pattern").matches(text.as_bytes())
    }

    #[test]
    fn text_matches_whole_words_whatever_their_case() {
        assert!(statement("COMMIT", "commit"));
        assert!(statement("COMMIT", "  Commit;"));
        assert!(!statement("COMMIT", "SELECT commit_ts FROM log"));
        assert!(statement("update stock", "UPDATE\n  stock SET n = n - 1"));
        assert!(statement("a.b(", "select a.b(1)"));
        assert!(!statement("a.b(", "select axb(1)"));
    }

    #[test]
    fn slashes_make_an_expression() {
        assert!(statement("/^insert into (a|b)\\b/", "INSERT INTO b VALUES (1)"));
        assert!(!statement("/^insert into (a|b)\\b/", "INSERT INTO bb VALUES (1)"));
    }

    #[test]
    fn keywords_stand_at_the_beginning() {
        let begin = Pattern::keyword("COMMIT").expect("a pattern");
        assert!(begin.matches(b" commit work"));
        assert!(!begin.matches(b"select 'commit'"));
    }

    #[test]
    fn wrong_patterns_say_what_is_wrong() {
        let wrong = |text: &str| text.parse::<Pattern>().expect_err("wrong").to_string();
        assert_eq!(wrong(""), "a pattern must not be empty");
        assert_eq!(wrong("/a(/"), "`/a(/` is not a regular expression: unclosed group");
        assert_eq!(wrong(&"x".repeat(2000)), "a pattern has at most 1024 bytes, this one has 2000");
        assert!(wrong("/(a{1000}){1000}/").contains("exceeds size limit"));
    }

    #[test]
    fn globs_match_keys() {
        let glob =
            |pattern: &str, key: &str| pattern.parse::<Glob>().expect("a glob").matches(key.as_bytes());
        assert!(glob("session:*", "session:"));
        assert!(glob("session:*:x", "session:a:x:x"));
        assert!(!glob("session:*:x", "session:a:x:y"));
        assert!(glob("a?c", "abc"));
        assert!(!glob("a?c", "ac"));
        assert!(glob("*", ""));
    }

    #[test]
    fn subjects_match_as_nats_has_it() {
        let hit =
            |pattern: &str, of: &str| pattern.parse::<Subject>().expect("a subject").matches(of.as_bytes());
        assert!(hit("orders.>", "orders.created"));
        assert!(hit("orders.>", "orders.created.eu"));
        assert!(!hit("orders.>", "orders"));
        assert!(hit("orders.*", "orders.created"));
        assert!(!hit("orders.*", "orders.created.eu"));
        assert!(hit("*.created", "orders.created"));
        assert!(hit(">", "orders"));
        for wrong in ["orders..x", "orders.>.x", "a b", "ord*", "."] {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }
}
