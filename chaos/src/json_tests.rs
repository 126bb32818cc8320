//! Reading and writing JSON as Go does.

use proptest::prelude::*;

use super::*;

fn message(body: &str) -> String {
    Json::first(body.as_bytes()).expect_err("a broken body").to_string()
}

#[test]
fn broken_bodies_are_named_as_go_names_them() {
    let cases = [
        ("", "EOF"),
        (" \n\t", "EOF"),
        ("{", "unexpected EOF"),
        (r#"{"name":"#, "unexpected EOF"),
        (r#"{"name":"a"#, "unexpected EOF"),
        ("-", "unexpected EOF"),
        ("1.", "unexpected EOF"),
        ("tru", "unexpected EOF"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("}", "invalid character '}' looking for beginning of value"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
        (r#"{"a" 1}"#, "invalid character '1' after object key"),
        (r#"{"a":1 "b":2}"#, "invalid character '\"' after object key:value pair"),
        (r#"{"a":01}"#, "invalid character '1' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("[-a]", "invalid character 'a' in numeric literal"),
        ("[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        ("[1ex]", "invalid character 'x' in exponent of numeric literal"),
        ("trux", "invalid character 'x' in literal true (expecting 'e')"),
        ("nuxl", "invalid character 'x' in literal null (expecting 'l')"),
        ("[\"a\nb\"]", r"invalid character '\n' in string literal"),
        (r#"["\x"]"#, "invalid character 'x' in string escape code"),
        (r#"["\u12x4"]"#, r"invalid character 'x' in \u hexadecimal character escape"),
        ("['a']", r"invalid character '\'' looking for beginning of value"),
    ];
    for (body, expected) in cases {
        assert_eq!(message(body), expected, "{body}");
    }
    assert_eq!(message(&"[".repeat(10_000)), "exceeded max depth");
}

#[test]
fn what_follows_the_first_value_is_ignored() {
    for (body, expected) in
        [("{} x", "{}"), ("[1]]", "[1]"), ("12x", "12"), ("\"a\"\"", "\"a\""), ("null,", "null")]
    {
        assert_eq!(Json::first(body.as_bytes()).expect("a value").to_string(), expected);
    }
}

#[test]
fn numbers_keep_their_text_and_doubles_stay() {
    let body = r#"{"a":1.50e+3,"a":-0,"b":[true,false,null]}"#;
    assert_eq!(Json::first(body.as_bytes()).expect("a value").to_string(), body);
}

#[test]
fn strings_are_decoded_and_escaped_as_go_does() {
    let given = r#""\u003c\u0041\ud83d\ude00\ud800x\udc00\/\b""#;
    let Json::Text(text) = Json::first(given.as_bytes()).expect("a string") else { panic!("no string") };
    assert_eq!(text, "<A\u{1f600}\u{fffd}x\u{fffd}/\u{8}");
    let written = Json::from("a\"\\<>&\u{2028}\u{1}\n\u{1f600}").to_string();
    assert_eq!(written, "\"a\\\"\\\\\\u003c\\u003e\\u0026\\u2028\\u0001\\n\u{1f600}\"");
    assert_eq!(Json::first(b"\"\xff\""), Ok(Json::from("\u{fffd}")));
}

#[test]
fn floats_are_written_as_short_as_they_can_be() {
    for (value, expected) in
        [(1.0, "1"), (0.2, "0.2"), (-1.5, "-1.5"), (1e-7, "1e-7"), (2.5e30, "2.5e+30"), (0.0, "0")]
    {
        assert_eq!(Json::float32(value).to_string(), expected);
    }
    assert_eq!(Json::float64(0.1).to_string(), "0.1");
}

proptest! {
    #[test]
    fn no_body_panics_and_what_is_read_can_be_written_and_read_again(body: Vec<u8>) {
        if let Ok(value) = Json::first(&body) {
            prop_assert_eq!(Json::first(value.to_string().as_bytes()), Ok(value));
        }
    }

    #[test]
    fn every_string_survives(text: String) {
        let value = Json::from(text.as_str());
        prop_assert_eq!(Json::first(value.to_string().as_bytes()), Ok(value));
    }
}
