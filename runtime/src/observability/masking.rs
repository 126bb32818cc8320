//! Personal data and secrets are masked in everything that leaves as text: each line of the log whatever its form, the
//! texts of traces, the words of a panic.
//!
//! The last line of defence. The first is that values of callers are parameters and no part of messages. What is masked is
//! known by its form (mail addresses, passwords in URLs, bearer tokens, keys of known makes, card numbers, streets with a
//! number, values that PostgreSQL repeats) or by the name before it (`password=…`, `"api_key":"…"`). A name without such a
//! form, as that of a person, is not known here: it must not be written in the first place.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::LazyLock;

use regex::bytes::{Captures, Regex, RegexSet};
use tracing_subscriber::fmt::MakeWriter;

/// What stands where something was.
pub const MASK: &str = "***";

/// Names whose values are never shown. The name may have more before it: `smtp_password`, `shipping_address`.
const SECRET_NAMES: &str = "password|passwd|passphrase|pwd|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|\
                            authorization|cookie|credential|credentials|ssn|iban|phone|email|e[_-]?mail|street|\
                            (?:shipping|billing|home|postal|delivery|customer)[_-]?address";

struct Rule {
    pattern: Regex,
    with: Replace,
}

/// A text in quotes, and one in quotes that stand in a text of JSON themselves. The first has the place where the name is
/// not in quotes: there a quote before a comma or a bracket ends the text that the name is in, and begins none.
const QUOTED_AFTER_BARE: &str = r#""(?:\\.|[^"\\,}\]])(?:\\.|[^"\\])*""#;
const QUOTED: &str = r#""(?:\\.|[^"\\])*""#;
const QUOTED_WITHIN: &str = r#"\\"(?:[^"\\]|\\\\(?:\\\\|\\"|[^"\\]))*\\""#;
const BARE: &str = r#"(?:bearer|basic)\s+[^\s"'\\,}&;]+|[^\s"'\\,}&;\[{(]+"#;

type Replace = fn(&Captures<'_>) -> Vec<u8>;

/// In this order: a URL's password goes before the address that it would be a part of.
fn patterns() -> [(String, Replace); 11] {
    let name = format!("[a-z0-9_-]*(?:{SECRET_NAMES})");
    let after_quoted = format!(r#"(?i-u)({name}\\?["']\s*:\s*)(?:{QUOTED_WITHIN}|{QUOTED}|{BARE})"#);
    let after_bare = format!(r"(?i-u)({name}\s*[:=]\s*)(?:{QUOTED_WITHIN}|{QUOTED_AFTER_BARE}|{BARE})");
    [
        // scheme://user:password@host
        (r#"(?i-u)([a-z][a-z0-9+.-]*://[^\s:/@"'\\]*:)[^\s/"'\\]+@"#.to_owned(), |found| keep(found, "***@")),
        // What PostgreSQL repeats of a value: it may be anything.
        (
            r#"(?i-u)((?:invalid input (?:syntax|value) for (?:type|enum) [a-z0-9_ \[\]().,]{1,80}: |malformed [a-z ]{1,40}: |value |field value out of range: )\\?")(?:[^"\\,}\]]|\\[^"])(?:[^"\\]|\\[^"])*"#
                .to_owned(),
            |found| keep(found, MASK),
        ),
        (r"(?i-u)(Key \([^)]*\)=\()[^\n]*?\)( already| is not| is still| conflicts)".to_owned(), |found| {
            [&found[1], b"***)", &found[2]].concat()
        }),
        (r"(?-u)(Failing row contains \()[^\n]*?\)\.".to_owned(), |found| keep(found, "***).")),
        (after_quoted, named),
        (after_bare, named),
        (r"(?i-u)\b((?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}".to_owned(), |found| keep(found, MASK)),
        // JSON web tokens, and keys whose makers mark them.
        (
            r"(?-u)\b(?:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?|AKIA[A-Z0-9]{12,}|(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abprs]|whsec|fql|key)[_-][A-Za-z0-9_-]{12,})"
                .to_owned(),
            |_| MASK.into(),
        ),
        (r"(?-u)[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+".to_owned(), |_| b"***@***".to_vec()),
        // A number as on a card; with what is before it, since a fraction's digits are none, and a number of JSON is a value.
        (r#"(?-u)(\\?":\s*|\b[0-9]+\.|\b)([0-9](?:[ -]?[0-9]){12,18})\b"#.to_owned(), |found| {
            let before = &found[1];
            if before.ends_with(b".") || !is_card(&found[2]) {
                return found[0].to_vec();
            }
            let quote = bare_quote(before);
            [before, quote, MASK.as_bytes(), quote].concat()
        }),
        // A house number with its street, in two languages.
        (
            r"(?-u)\b(?:[0-9]{1,5} (?:[A-Z][A-Za-z]+ ){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd|Drive|Court|Square)|[A-Z][a-z]+(?:strasse|str\.|weg|platz|gasse) [0-9]{1,4})\b"
                .to_owned(),
            |_| MASK.into(),
        ),
    ]
}

/// A text in quotes stays one, so that a line of JSON stays JSON.
fn named(found: &Captures<'_>) -> Vec<u8> {
    let name = &found[1];
    let value = &found[0][name.len()..];
    let quote = match value {
        [b'"', ..] => &value[..1],
        [b'\\', b'"', ..] => &value[..2],
        _ => bare_quote(name),
    };
    [name, quote, MASK.as_bytes(), quote].concat()
}

/// In JSON a value without quotes is a number or a word of the language; what stands there instead must be a value too.
fn bare_quote(name: &[u8]) -> &'static [u8] {
    let name = name.trim_ascii_end();
    if name.ends_with(b"\\\":") {
        b"\\\""
    } else if name.ends_with(b"\":") {
        b"\""
    } else {
        b""
    }
}

static ANY: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(patterns().map(|(pattern, _)| pattern)).expect("the patterns are written in this file")
});

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |(pattern, with): (String, _)| {
        let pattern = Regex::new(&pattern).expect("the patterns are written in this file");
        Rule { pattern, with }
    };
    patterns().into_iter().map(rule).collect()
});

fn keep(found: &Captures<'_>, mask: &str) -> Vec<u8> {
    [&found[1], mask.as_bytes()].concat()
}

/// Groups as they are printed on cards, and the check digit of ISO/IEC 7812 (Luhn). The last groups of a UUID are longer.
fn is_card(number: &[u8]) -> bool {
    let groups: Vec<&[u8]> = number.split(|byte| matches!(byte, b' ' | b'-')).collect();
    if groups.len() > 1 && groups.iter().any(|group| !(3..=6).contains(&group.len())) {
        return false;
    }
    let digits = number.iter().rev().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| if at % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    sum.is_multiple_of(10)
}

/// The text without personal data and secrets; itself when there are none.
pub fn mask(text: &str) -> Cow<'_, str> {
    match mask_bytes(text.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
    }
}

fn mask_bytes(text: &[u8]) -> Cow<'_, [u8]> {
    if !ANY.is_match(text) {
        return Cow::Borrowed(text);
    }
    let mut masked = text.to_vec();
    for rule in RULES.iter() {
        if let Cow::Owned(changed) =
            rule.pattern.replace_all(&masked, |found: &Captures<'_>| (rule.with)(found))
        {
            masked = changed;
        }
    }
    Cow::Owned(masked)
}

/// A writer of lines that masks each. A line must come in one piece, as the subscriber writes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Masking<W>(pub W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Masking<W> {
    type Writer = Masking<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Masking(self.0.make_writer())
    }

    fn make_writer_for(&'w self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Masking(self.0.make_writer_for(meta))
    }
}

impl<W: Write> Write for Masking<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&mask_bytes(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Masks what a panic says, wherever it happens.
pub fn mask_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        let text = match trace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("{panic}\n{trace}\n"),
            _ => format!("{panic}\n"),
        };
        // Nobody is left to tell when this fails.
        let _ = Masking(io::stderr()).write_all(text.as_bytes());
    }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_must_not_be_read_is_masked() {
        for (text, masked) in [
            ("sent to ann.lee+x@mail.example.com now", "sent to ***@*** now"),
            ("postgres://app:s3cret@db:5432/shop", "postgres://app:***@db:5432/shop"),
            ("redis://:p@ss@cache/0 is away", "redis://:***@cache/0 is away"),
            ("Authorization: Bearer abc.def-123", "Authorization: ***"),
            ("got bearer abcdef123456, refused", "got bearer ***, refused"),
            ("api_key=k-12345 path=/x", "api_key=*** path=/x"),
            ("smtp_password = \"two words\" port=25", "smtp_password = \"***\" port=25"),
            (r#"{"api_key":"k-1","n":1}"#, r#"{"api_key":"***","n":1}"#),
            (r#"{"token":12345}"#, r#"{"token":"***"}"#),
            (r#"{"message":"body {\"password\":\"x y\"}"}"#, r#"{"message":"body {\"password\":\"***\"}"}"#),
            ("card 4111 1111 1111 1111.", "card ***."),
            ("card 4111-1111-1111-1111", "card ***"),
            ("key sk_live_abcdefghijklmnop", "key ***"),
            ("jwt eyJhbGciOiJIUzI1.eyJzdWIiOiIx.c2ln", "jwt ***"),
            ("ship to 12 Main Street, please", "ship to ***, please"),
            ("Hauptstrasse 12", "***"),
            (
                "invalid input syntax for type uuid: \"my name\"",
                "invalid input syntax for type uuid: \"***\"",
            ),
            (
                r#"{"error":"invalid input syntax for type timestamp with time zone: \"Jo Doe\""}"#,
                r#"{"error":"invalid input syntax for type timestamp with time zone: \"***\""}"#,
            ),
            ("Key (name)=(Jo (Doe)) already exists.", "Key (name)=(***) already exists."),
            ("Failing row contains (1, Jo Doe, null).", "Failing row contains (***)."),
            ("shipping_address=Elm 7", "shipping_address=*** 7"),
            (r#"{"message":"no password: ","n":"a"}"#, r#"{"message":"no password: ","n":"a"}"#),
            (r#"{"message":"no value ","n":"a"}"#, r#"{"message":"no value ","n":"a"}"#),
            (r#"{"m":"{\"token\":7}"}"#, r#"{"m":"{\"token\":\"***\"}"}"#),
            (r#"{"n":4111111111111111}"#, r#"{"n":"***"}"#),
            (r#"{"email":"a\"b\\","n":1}"#, r#"{"email":"***","n":1}"#),
        ] {
            assert_eq!(mask(text), masked, "{text}");
            assert_eq!(mask(&mask(text)), masked, "{text}: masked once is masked");
        }
    }

    #[test]
    fn what_operators_need_stays() {
        for text in [
            r#"{"message":"listening","address":"127.0.0.1:8000","version":"0.1.0","pid":12}"#,
            r#"{"span":{"request_id":"018f4e6a-1111-4222-8333-444455556666","path":"/orders/{id}","duration_ms":1.25}}"#,
            "nats://127.0.0.1:4222 is connected, 1234567890123 bytes, max_tokens=15000",
            "the operation asks for 1234567890123456 tokens",
            "2026-11-29T05:50:33.123456Z",
            "SELECT t0.\"id\" FROM orders t0 WHERE t0.\"id\" = $1::uuid",
            r#"{"duration_ms":0.4111111111111111,"n":1.4111111111111111}"#,
            "traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(
                matches!(mask(text), Cow::Borrowed(_)) || mask(text) == text,
                "{text} became {}",
                mask(text)
            );
        }
    }

    #[test]
    fn a_line_is_written_whole_and_masked() {
        let mut writer = Masking(Vec::new());
        assert_eq!(writer.write(b"to a@b.example\n").expect("written"), 15);
        assert_eq!(writer.0, b"to ***@***\n");
    }

    fn planted() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z]{3,8}\\.[a-z]{3,8}@[a-z]{3,8}\\.example",
            "sk_live_[a-zA-Z0-9]{16}",
            "Bearer [a-zA-Z0-9]{16}",
            "eyJ[a-zA-Z0-9]{12}\\.[a-zA-Z0-9]{12}\\.[a-zA-Z0-9]{12}",
        ]
    }

    proptest! {
        #[test]
        fn a_line_of_json_stays_json_and_says_nothing_of_what_was_planted(
            before in "\\PC{0,20}", planted in planted(), after in "( \\PC{0,20})?", name in "[a-z_]{1,12}",
        ) {
            let line = serde_json::json!({ "message": format!("{before} {planted}{after}"), "fields": { name: planted } });
            let masked = mask(&line.to_string()).into_owned();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{}", masked);
            let secret = planted.trim_start_matches("Bearer ");
            prop_assert!(!masked.contains(secret), "{}", masked);
        }

        #[test]
        fn a_named_secret_is_masked_whatever_it_is(
            secret in "[!-~ äß\"\\\\]{4,20}", name in "(db_)?(password|api_key|token|email|shipping_address)",
        ) {
            let secret = format!("Zq{secret}");
            let line = serde_json::json!({ name: secret, "n": 1 }).to_string();
            let masked = mask(&line).into_owned();
            let read: serde_json::Value = serde_json::from_str(&masked).expect("JSON");
            prop_assert_eq!(read.as_object().map(serde_json::Map::len), Some(2));
            prop_assert!(!masked.contains("Zq"), "{}", masked);
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let once = mask_bytes(&bytes).into_owned();
            prop_assert!(once.len() <= bytes.len() * 4 + 16);
        }
    }
}
