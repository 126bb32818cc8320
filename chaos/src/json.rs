//! JSON as Go's `encoding/json` reads and writes it, for clients that compare what they get.
//!
//! Reading takes the first value of a body and ignores what follows it; numbers keep their text, so that a reader can
//! tell `1` from `1.0`; nesting is bounded. The messages are Go's. Writing escapes what Go escapes.

use std::fmt::{self, Display, Write};

/// Deeper nesting is refused.
const DEPTH_MAX: usize = 256;

/// One value; the fields of an object stand in the order in which they came, doubles included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Why a body holds no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing but white space.
    #[error("EOF")]
    Empty,
    /// It ends inside of a value.
    #[error("unexpected EOF")]
    Cut,
    #[error("invalid character {} {context}", quoted(.found))]
    Character { found: u8, context: String },
    #[error("exceeded max depth")]
    Deep,
}

impl Json {
    /// The first value of a body.
    pub fn first(body: &[u8]) -> Result<Json, Error> {
        let mut reader = Reader { bytes: body, at: 0 };
        reader.space();
        if reader.peek().is_none() {
            return Err(Error::Empty);
        }
        reader.value(0)
    }

    /// A 32-bit float with as few digits as tell it from its neighbours.
    pub fn float32(value: f32) -> Json {
        Json::Number(shortest(f64::from(value), value.to_string(), format!("{value:e}")))
    }

    /// A 64-bit float with as few digits as tell it from its neighbours.
    pub fn float64(value: f64) -> Json {
        Json::Number(shortest(value, value.to_string(), format!("{value:e}")))
    }

    /// An object with these fields in this order.
    pub fn object<const N: usize>(fields: [(&str, Json); N]) -> Json {
        Json::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Go's word for what a value is, in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "bool",
            Json::Number(_) => "number",
            Json::Text(_) => "string",
            Json::Array(_) => "array",
            Json::Object(_) => "object",
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Json {
        Json::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Json {
        Json::Text(text)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Json {
        Json::Number(value.to_string())
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

fn shortest(value: f64, plain: String, exponent: String) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return plain;
    }
    match exponent.split_once('e') {
        Some((digits, power)) if !power.starts_with('-') => format!("{digits}e+{power}"),
        _ => exponent,
    }
}

impl Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => out.write_str("null"),
            Json::Bool(value) => write!(out, "{value}"),
            Json::Number(text) => out.write_str(text),
            Json::Text(text) => write_text(out, text),
            Json::Array(items) => {
                out.write_char('[')?;
                for (index, item) in items.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(out, "{comma}{item}")?;
                }
                out.write_char(']')
            }
            Json::Object(fields) => {
                out.write_char('{')?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.write_str(if index > 0 { "," } else { "" })?;
                    write_text(out, name)?;
                    write!(out, ":{value}")?;
                }
                out.write_char('}')
            }
        }
    }
}

fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            // What could end a script inside of HTML.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                write!(out, "\\u{:04x}", u32::from(character))?;
            }
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

fn quoted(byte: &u8) -> String {
    let byte = *byte;
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        7 => r"'\a'".to_owned(),
        8 => r"'\b'".to_owned(),
        9 => r"'\t'".to_owned(),
        10 => r"'\n'".to_owned(),
        11 => r"'\v'".to_owned(),
        12 => r"'\f'".to_owned(),
        13 => r"'\r'".to_owned(),
        0..=31 | 127 => format!("'\\x{byte:02x}'"),
        128..=160 | 173 => format!("'\\u{:04x}'", u32::from(byte)),
        _ => format!("'{}'", char::from(byte)),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Error> {
        let byte = self.peek().ok_or(Error::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, Error> {
        if depth > DEPTH_MAX {
            return Err(Error::Deep);
        }
        self.space();
        match self.next()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => Ok(Json::Text(self.text()?)),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            first @ (b'-' | b'0'..=b'9') => self.number(first),
            found => Err(unexpected(found, "looking for beginning of value")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Error> {
        let mut fields = Vec::new();
        loop {
            self.space();
            match self.next()? {
                b'"' => {}
                b'}' if fields.is_empty() => return Ok(Json::Object(fields)),
                found => return Err(unexpected(found, "looking for beginning of object key string")),
            }
            let name = self.text()?;
            self.space();
            match self.next()? {
                b':' => {}
                found => return Err(unexpected(found, "after object key")),
            }
            fields.push((name, self.value(depth)?));
            self.space();
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Json::Object(fields)),
                found => return Err(unexpected(found, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Error> {
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            match self.next()? {
                b',' => {}
                b']' => return Ok(Json::Array(items)),
                found => return Err(unexpected(found, "after array element")),
            }
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, Error> {
        for expected in word.bytes().skip(1) {
            let found = self.next()?;
            if found != expected {
                let context = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(Error::Character { found, context });
            }
        }
        Ok(value)
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn digit(&mut self, context: &str) -> Result<u8, Error> {
        match self.next()? {
            digit if digit.is_ascii_digit() => Ok(digit),
            found => Err(unexpected(found, context)),
        }
    }

    fn number(&mut self, first: u8) -> Result<Json, Error> {
        let start = self.at - 1;
        let leading = if first == b'-' { self.digit("in numeric literal")? } else { first };
        if leading != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(Json::Number(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
    }

    /// The rest of a string whose quote was read.
    fn text(&mut self) -> Result<String, Error> {
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Ok(String::from_utf8_lossy(&text).into_owned()),
                b'\\' => {
                    let character = self.escape()?;
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                found @ 0..=31 => return Err(unexpected(found, "in string literal")),
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        Ok(match self.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            byte @ (b'\\' | b'/' | b'"') => char::from(byte),
            b'u' => {
                let unit = self.hexadecimal()?;
                char::from_u32(unit).or_else(|| self.pair(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            found => return Err(unexpected(found, "in string escape code")),
        })
    }

    fn hexadecimal(&mut self) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..4 {
            let found = self.next()?;
            let digit = char::from(found).to_digit(16);
            value =
                value * 16 + digit.ok_or_else(|| unexpected(found, r"in \u hexadecimal character escape"))?;
        }
        Ok(value)
    }

    /// The character of a surrogate pair whose first half was read; reads the second half only where it fits.
    fn pair(&mut self, high: u32) -> Option<char> {
        let after = self.at;
        if self.bytes.get(after..after + 2) == Some(&br"\u"[..]) {
            self.at += 2;
            let low = self.hexadecimal().ok().filter(|low| (0xdc00..0xe000).contains(low));
            if let Some(low) = low.filter(|_| (0xd800..0xdc00).contains(&high)) {
                return char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
            }
        }
        self.at = after;
        None
    }
}

fn unexpected(found: u8, context: &str) -> Error {
    Error::Character { found, context: context.to_owned() }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
