//! What one operation may ask for. Counted before it is parsed (tokens, nesting) and when it is planned.
//!
//! The text is scanned once without recursion before a parser sees it, since a parser that recurses would end the
//! process on a text of nothing but brackets.

use async_graphql::Pos;
use async_graphql::parser::types::SelectionSet;

use super::expansion::Expansion;
use super::plan::error::Refusal;
use super::plan::select::Document;

/// Brackets within brackets at most, whatever the configuration says: what the parser's stack takes with room to spare.
const NESTING_MAX: usize = 100;

/// Fields that are always walked, whatever the configuration says: they cost no time worth a word.
const EXPANDED_MAX: u64 = 10_000;
/// Lists of introspection within each other: tools ask for the fields of all types, and for no types of those.
const INTROSPECTION_LISTS_MAX: usize = 2;

/// Bounds of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Levels of fields.
    pub depth_max: u32,
    /// Fields, each counted as often as the lists around it are long.
    pub complexity_max: u64,
    /// Words and signs of the text.
    pub tokens_max: usize,
    /// Fields of the root.
    pub roots_max: usize,
    /// Fields with an alias.
    pub aliases_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: 15, complexity_max: 50_000, tokens_max: 5_000, roots_max: 50, aliases_max: 100 }
    }
}

/// Looks at the text of an operation before it is parsed.
///
/// # Errors
/// When it has too many words or is nested too deep.
pub fn check_text(text: &str, limits: &Limits) -> Result<(), Refusal> {
    let scan = Scan { bytes: text.as_bytes(), at: 0 };
    let (mut tokens, mut nesting, mut aliases) = (0usize, 0usize, 0usize);
    let mut before_colon = false;
    let mut brackets = Vec::new();
    for token in scan {
        tokens += 1;
        if tokens > limits.tokens_max {
            return Err(refuse(format!("the operation has more than {} tokens", limits.tokens_max)));
        }
        match token {
            b'{' | b'[' | b'(' => {
                nesting += 1;
                brackets.push(token);
                if nesting > NESTING_MAX {
                    return Err(refuse(format!(
                        "the operation has more than {NESTING_MAX} brackets within each other"
                    )));
                }
            }
            b'}' | b']' | b')' => {
                nesting = nesting.saturating_sub(1);
                brackets.pop();
            }
            // A name and a colon in a selection, where no argument list is open.
            b':' if before_colon && brackets.last() == Some(&b'{') && !brackets.contains(&b'(') => {
                aliases += 1
            }
            _ => {}
        }
        before_colon = token == b'a';
    }
    if aliases > limits.aliases_max {
        return Err(refuse(format!("the operation has {aliases} aliases, more than {}", limits.aliases_max)));
    }
    Ok(())
}

/// Levels of fields.
///
/// # Errors
/// When there are too many.
pub fn check_depth(depth: u32, limits: &Limits) -> Result<(), Refusal> {
    if depth <= limits.depth_max {
        return Ok(());
    }
    Err(refuse(format!("Query depth {depth} exceeds maximum {}", limits.depth_max)))
}

/// What it costs.
///
/// # Errors
/// When it is too much.
pub fn check_complexity(complexity: u64, limits: &Limits) -> Result<(), Refusal> {
    if complexity <= limits.complexity_max {
        return Ok(());
    }
    Err(refuse(format!("Query complexity {complexity} exceeds maximum {}", limits.complexity_max)))
}

/// How many fields the root has.
///
/// # Errors
/// When there are too many.
pub fn check_roots(roots: usize, limits: &Limits) -> Result<(), Refusal> {
    if roots <= limits.roots_max {
        return Ok(());
    }
    Err(refuse(format!("the operation has {roots} root fields, more than {}", limits.roots_max)))
}

/// How large the operation is with its fragments written out, before anything walks it so.
///
/// # Errors
/// When it has more fields than could cost as little as is allowed, or more than can be walked in a moment.
pub fn check_expansion(expansion: Expansion, complexity_max: u64) -> Result<(), Refusal> {
    let max = complexity_max.max(EXPANDED_MAX);
    if expansion.fields <= max {
        return Ok(());
    }
    Err(refuse(format!("the operation has more than {max} fields when its fragments are written out")))
}

/// How lists of the schema's own description are within each other: types have fields, which have types, which have
/// fields …, so that a few levels are as long as the schema to the power of them.
///
/// # Errors
/// When there are too many.
pub fn check_introspection<'a>(document: &Document<'a>, sets: &[&'a SelectionSet]) -> Result<(), Refusal> {
    check_lists(document, sets, 0)
}

fn check_lists<'a>(document: &Document<'a>, sets: &[&'a SelectionSet], lists: usize) -> Result<(), Refusal> {
    for (name, selected) in document.collect_all(None, sets) {
        let is_list = ["fields", "inputFields", "interfaces", "possibleTypes"]
            .contains(&selected.given.name.node.as_str());
        let lists = lists + usize::from(is_list);
        if lists > INTROSPECTION_LISTS_MAX {
            let max = INTROSPECTION_LISTS_MAX;
            return Err(refuse(format!("{name}: more than {max} lists of introspection within each other")));
        }
        check_lists(document, &selected.sets, lists)?;
    }
    Ok(())
}

fn refuse(message: String) -> Refusal {
    Refusal { pos: Pos::default(), code: "LIMIT_EXCEEDED", message }
}

/// Tokens of GraphQL's language, as coarse as counting needs it: a sign is itself, a name `a`, a number `0`, a text `"`.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Scan<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let byte = *self.bytes.get(self.at)?;
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | 0xEF | 0xBB | 0xBF => self.at += 1,
                b'#' => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                b'"' => {
                    self.text();
                    return Some(b'"');
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    self.skip_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                    return Some(b'a');
                }
                b'0'..=b'9' | b'-' => {
                    self.at += 1;
                    self.skip_while(|byte| {
                        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')
                    });
                    return Some(b'0');
                }
                sign => {
                    self.at += 1;
                    return Some(sign);
                }
            }
        }
    }
}

impl Scan<'_> {
    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.bytes.get(self.at).is_some_and(|byte| keep(*byte)) {
            self.at += 1;
        }
    }

    /// Passes a text, `"…"` or `"""…"""`; one without an end takes the rest.
    fn text(&mut self) {
        let block = self.bytes[self.at..].starts_with(b"\"\"\"");
        self.at += if block { 3 } else { 1 };
        while let Some(byte) = self.bytes.get(self.at) {
            let rest = &self.bytes[self.at..];
            match byte {
                b'\\' if block => self.at += if rest.starts_with(b"\\\"\"\"") { 4 } else { 1 },
                b'\\' => self.at += 2,
                b'"' if block && rest.starts_with(b"\"\"\"") => {
                    self.at += 3;
                    return;
                }
                b'"' if !block => {
                    self.at += 1;
                    return;
                }
                b'\n' if !block => return,
                _ => self.at += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(tokens_max: usize, aliases_max: usize) -> Limits {
        Limits { tokens_max, aliases_max, ..Limits::default() }
    }

    #[test]
    fn words_and_signs_are_counted_and_texts_are_one() {
        let text = r#"query Q($a: Int = -1.5e3) { b(c: "x { { {", d: """ " { """) # {{{ 
            }"#;
        assert!(check_text(text, &limits(23, 0)).is_ok());
        assert!(check_text(text, &limits(10, 0)).is_err());
    }

    #[test]
    fn aliases_are_counted_and_arguments_are_none() {
        let text = "{ a: x(b: {c: 1}) { d: y e } f: z }";
        assert!(check_text(text, &limits(100, 3)).is_ok());
        assert!(check_text(text, &limits(100, 2)).is_err());
    }

    #[test]
    fn a_text_of_brackets_is_refused_before_it_is_parsed() {
        for bracket in ["{", "[", "(", "{a"] {
            assert!(check_text(&bracket.repeat(10_000), &limits(1_000_000, 10)).is_err(), "{bracket}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_scanned_to_its_end(text in ".{0,300}") {
            let _ = check_text(&text, &limits(usize::MAX, usize::MAX));
        }
    }
}
