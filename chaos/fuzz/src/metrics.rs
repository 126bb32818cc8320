//! What a reader of Prometheus' text format has to be able to read, whatever proxies and toxics are called.

/// Panics at a line that is neither a comment nor a sample.
pub fn check(page: &[u8]) {
    let page = std::str::from_utf8(page).unwrap_or_else(|_| panic!("no text: {}", page.escape_ascii()));
    assert!(page.ends_with('\n'), "a line has no end: {page:?}");
    for line in page.split_terminator('\n') {
        assert!(line.starts_with("# ") || is_sample(line), "{line:?}");
    }
}

fn is_sample(line: &str) -> bool {
    let split = line.find(['{', ' ']).map(|end| line.split_at(end));
    let Some((_, mut rest)) = split.filter(|(name, _)| is_name(name)) else { return false };
    if let Some(labels) = rest.strip_prefix('{') {
        let Some(behind) = behind_labels(labels) else { return false };
        rest = behind;
    }
    rest.strip_prefix(' ').is_some_and(|value| value.parse::<f64>().is_ok())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What follows the bracket that closes the labels.
fn behind_labels(mut rest: &str) -> Option<&str> {
    loop {
        let (name, value) = rest.split_once("=\"")?;
        let end = end_of_value(value).filter(|_| is_name(name))?;
        rest = &value[end + 1..];
        if let Some(behind) = rest.strip_prefix('}') {
            return Some(behind);
        }
        rest = rest.strip_prefix(',')?;
    }
}

/// Where the quote stands that ends a value; only a backslash, a quote and a line's end are escaped.
fn end_of_value(value: &str) -> Option<usize> {
    let mut bytes = value.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(index),
            b'\\' if !bytes.next().is_some_and(|(_, byte)| b"\\\"n".contains(&byte)) => return None,
            _ => {}
        }
    }
    None
}
