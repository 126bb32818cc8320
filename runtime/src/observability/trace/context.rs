//! What travels from process to process: `traceparent` and `tracestate` of W3C Trace Context (level 2). Pure.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header, and the name of the field in messages and jobs.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What other vendors say about the trace.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `tracestate` at most; the specification asks for no more, and callers may send any.
const STATE_BYTES_MAX: usize = 512;

/// A place in a trace, as others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Not 0.
    pub trace_id: u128,
    /// The span that is the parent of whatever comes next; not 0.
    pub span_id: u64,
    /// Whether whoever began the trace exports it.
    pub sampled: bool,
    /// `tracestate`, passed on as it is.
    pub state: Option<Box<str>>,
}

impl TraceContext {
    /// Reads the two texts; `None` for a `traceparent` that the specification calls invalid. A `tracestate` that is too
    /// long or no ASCII is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let text = traceparent.trim();
        let bytes = text.as_bytes();
        if bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = hex(text.get(0..2)?)?;
        // Version 0 ends here; a later one may go on after a dash.
        if version == 0xff
            || (version == 0 && bytes.len() != 55)
            || bytes.get(55).is_some_and(|next| *next != b'-')
        {
            return None;
        }
        let trace_id = hex(text.get(3..35)?)?;
        let span_id = u64::try_from(hex(text.get(36..52)?)?).ok()?;
        let flags = hex(text.get(53..55)?)?;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        let fits = |state: &&str| !state.is_empty() && state.len() <= STATE_BYTES_MAX && state.is_ascii();
        let state = tracestate.map(str::trim).filter(fits).map(Box::from);
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1, state })
    }

    /// Of a request or a message. Two `traceparent` headers are as good as none.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let traceparent = given.next()?.to_str().ok()?;
        if given.next().is_some() {
            return None;
        }
        Self::parse(traceparent, headers.get(TRACESTATE).and_then(|state| state.to_str().ok()))
    }

    /// `00-<trace id>-<span id>-<flags>`.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        let flags = u8::from(self.sampled);
        let _ = write!(text, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id);
        text
    }

    /// Tells whom we call.
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.traceparent()) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(Ok(value)) = self.state.as_deref().map(HeaderValue::from_str) {
            headers.insert(TRACESTATE, value);
        }
    }
}

/// Lower-case hexadecimal, as the specification wants it.
fn hex(text: &str) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(is_digit).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification_is_read() {
        let context = TraceContext::parse(GIVEN, Some("congo=t61rcWkgMzE")).expect("valid");
        assert_eq!(context.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((context.span_id, context.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.state.as_deref(), Some("congo=t61rcWkgMzE"));
        assert_eq!(context.traceparent(), GIVEN);
    }

    #[test]
    fn what_the_specification_calls_invalid_is_no_context() {
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
        ] {
            assert_eq!(TraceContext::parse(wrong, None), None, "{wrong}");
        }
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-comes";
        assert!(!TraceContext::parse(later, None).expect("a later version").sampled);
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GIVEN));
        assert!(TraceContext::of_headers(&headers).is_some());
        headers.append(TRACEPARENT, HeaderValue::from_static(GIVEN));
        assert!(TraceContext::of_headers(&headers).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(trace_id in 1u128.., span_id in 1u64.., sampled: bool, state in "[a-z]{1,9}=[!-+]{1,9}") {
            let context = TraceContext { trace_id, span_id, sampled, state: Some(state.into()) };
            let mut headers = HeaderMap::new();
            context.inject(&mut headers);
            prop_assert_eq!(TraceContext::of_headers(&headers), Some(context));
        }

        #[test]
        fn no_text_panics(text in ".{0,80}", near in "[0-9a-f]{2}-[0-9a-fé]{30,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}") {
            let _ = TraceContext::parse(&text, Some(&text));
            let _ = TraceContext::parse(&near, Some(&text));
        }
    }
}
