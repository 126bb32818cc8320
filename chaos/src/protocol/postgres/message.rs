//! The messages of PostgreSQL's protocol: their names, what is read of them and what is made.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::Way;

pub(super) const CANCEL: u32 = 80_877_102;
pub(super) const SSL: u32 = 80_877_103;
pub(super) const GSS: u32 = 80_877_104;

/// Name of the message with this type byte, as the protocol's documentation has it.
pub(super) fn name(way: Way, kind: u8) -> Option<&'static str> {
    Some(match (way, kind) {
        (Way::Upstream, b'Q') => "Query",
        (Way::Upstream, b'P') => "Parse",
        (Way::Upstream, b'B') => "Bind",
        (Way::Upstream, b'E') => "Execute",
        (Way::Upstream, b'D') => "Describe",
        (Way::Upstream, b'C') => "Close",
        (Way::Upstream, b'S') => "Sync",
        (Way::Upstream, b'H') => "Flush",
        (Way::Upstream, b'F') => "FunctionCall",
        (Way::Upstream, b'p') => "Password",
        (Way::Upstream, b'X') => "Terminate",
        (_, b'd') => "CopyData",
        (_, b'c') => "CopyDone",
        (Way::Upstream, b'f') => "CopyFail",
        (Way::Downstream, b'R') => "Authentication",
        (Way::Downstream, b'K') => "BackendKeyData",
        (Way::Downstream, b'S') => "ParameterStatus",
        (Way::Downstream, b'v') => "NegotiateProtocolVersion",
        (Way::Downstream, b'1') => "ParseComplete",
        (Way::Downstream, b'2') => "BindComplete",
        (Way::Downstream, b'3') => "CloseComplete",
        (Way::Downstream, b't') => "ParameterDescription",
        (Way::Downstream, b'T') => "RowDescription",
        (Way::Downstream, b'n') => "NoData",
        (Way::Downstream, b'D') => "DataRow",
        (Way::Downstream, b'C') => "CommandComplete",
        (Way::Downstream, b'I') => "EmptyQueryResponse",
        (Way::Downstream, b's') => "PortalSuspended",
        (Way::Downstream, b'V') => "FunctionCallResponse",
        (Way::Downstream, b'G') => "CopyInResponse",
        (Way::Downstream, b'H') => "CopyOutResponse",
        (Way::Downstream, b'W') => "CopyBothResponse",
        (Way::Downstream, b'E') => "ErrorResponse",
        (Way::Downstream, b'N') => "NoticeResponse",
        (Way::Downstream, b'A') => "NotificationResponse",
        (Way::Downstream, b'Z') => "ReadyForQuery",
        _ => return None,
    })
}

/// Reads strings off the body of a message, which may be cut short.
pub(super) struct Body<'a>(pub &'a [u8]);

impl<'a> Body<'a> {
    /// The next string, when its end is there.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let (string, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(string)
    }

    /// The next string as far as it is there.
    pub fn text(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.string().unwrap_or(rest)
    }
}

/// Code of an error: the field `C` of an ErrorResponse.
pub(super) fn sqlstate(body: &[u8]) -> Option<&[u8]> {
    let mut body = Body(body);
    loop {
        let (field, rest) = body.0.split_first()?;
        body.0 = rest;
        let value = body.string()?;
        if *field == b'C' {
            return Some(value);
        }
    }
}

/// A statement that is COMMIT and nothing else.
pub(super) fn is_commit(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let mut words = text.split(|byte| byte.is_ascii_whitespace() || *byte == b';').filter(|w| !w.is_empty());
    let is = |word: Option<&[u8]>, all: &[&str]| {
        word.is_some_and(|word| all.iter().any(|one| word.eq_ignore_ascii_case(one.as_bytes())))
    };
    if !is(words.next(), &["COMMIT", "END"]) {
        return false;
    }
    match words.next() {
        None => true,
        word => is(word, &["WORK", "TRANSACTION"]) && words.next().is_none(),
    }
}

fn typed(kind: u8, body: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(body.len() + 5);
    message.put_u8(kind);
    message.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    message.put_slice(body);
    message.freeze()
}

/// A simple query. `text` has no zero byte.
pub(super) fn query(text: &str) -> Bytes {
    let mut body = Vec::from(text);
    body.push(0);
    typed(b'Q', &body)
}

/// An Execute that the server refuses, because nobody makes such a portal.
pub(super) fn execute_nothing() -> Bytes {
    typed(b'E', b"chaos: no such portal\0\0\0\0\0")
}

/// An ErrorResponse. `sqlstate` has five characters; `message` has no zero byte.
pub fn error_response(severity: &str, sqlstate: &str, message: &str) -> Bytes {
    let mut body = Vec::new();
    for (field, value) in
        [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message), (b'R', "chaos")]
    {
        body.push(field);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    typed(b'E', &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_stands_alone() {
        for text in ["COMMIT", " commit ;", "END", "COMMIT WORK;", "end transaction"] {
            assert!(is_commit(text.as_bytes()), "{text}");
        }
        for text in ["COMMIT; SELECT 1", "COMMIT PREPARED 'x'", "BEGIN; COMMIT", "", "COMMIT AND CHAIN"] {
            assert!(!is_commit(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn the_code_is_found_in_an_error_that_was_made() {
        let made = error_response("ERROR", "40001", "could not serialize access");
        assert_eq!(made[0], b'E');
        assert_eq!(made.len(), 1 + u32::from_be_bytes(made[1..5].try_into().expect("four bytes")) as usize);
        assert_eq!(sqlstate(&made[5..]), Some(b"40001".as_slice()));
        assert_eq!(sqlstate(b"Sx"), None);
    }
}
