//! A line of the log as JSON: what the subscriber's own form says, with `flatten_event` and the current span.
//!
//! Promises: each line is one object of JSON, whatever is in the fields; a field that a span is given again replaces what it
//! was.
//!
//! Why not the library's form: it keeps the fields of a span as text, and reads that text again for each field that is
//! added and for each line, which was most of what a line cost. Here a span's fields are kept as the piece of the line that
//! they are (`,"name":value` each), and a line is put together of pieces.

use std::cell::Cell;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The fields of a span as the pieces of a line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pieces;

impl<'writer> FormatFields<'writer> for Pieces {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        with_pieces(|record| fields.record(record), |pieces| writer.write_str(pieces))
    }

    fn add_fields(&self, current: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let add = |pieces: &str| {
            fields.record(&mut Remove { from: &mut current.fields });
            current.fields.push_str(pieces);
            Ok(())
        };
        with_pieces(|record| fields.record(record), add)
    }
}

thread_local! {
    /// Pieces are put together here, so that a span's text is allocated once and not for each of them.
    static PIECES: Cell<String> = const { Cell::new(String::new()) };
}

fn with_pieces(record: impl FnOnce(&mut Fields<'_>), done: impl FnOnce(&str) -> fmt::Result) -> fmt::Result {
    // A value that logs while it is written finds an empty text here, and its own is lost for the one after it.
    let mut pieces = PIECES.take();
    pieces.clear();
    let mut fields = Fields::new(&mut pieces);
    record(&mut fields);
    let written = fields.written.and_then(|()| done(&pieces));
    PIECES.set(pieces);
    written
}

/// The line of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Whether file and line of the source are told.
    pub(super) source_location: bool,
}

impl<S> FormatEvent<S, Pieces> for Line
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Pieces>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // What came from the `log` crate says in its fields where it is from.
        let from_log = event.normalized_metadata();
        let meta = from_log.as_ref().unwrap_or_else(|| event.metadata());
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer.by_ref())?;
        write!(writer, "\",\"level\":\"{}\"", meta.level())?;
        let mut fields = Fields::new(&mut writer);
        event.record(&mut fields);
        fields.written?;
        writer.write_str(",\"target\":")?;
        text(&mut writer, meta.target())?;
        if self.source_location {
            if let Some(file) = meta.file() {
                writer.write_str(",\"filename\":")?;
                text(&mut writer, file)?;
            }
            if let Some(line) = meta.line() {
                write!(writer, ",\"line_number\":{line}")?;
            }
        }
        if let Some(span) =
            event.parent().and_then(|id| context.span(id)).or_else(|| context.lookup_current())
        {
            writer.write_str(",\"span\":{\"name\":")?;
            text(&mut writer, span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<Pieces>>() {
                writer.write_str(fields)?;
            }
            writer.write_char('}')?;
        }
        writer.write_str("}\n")
    }
}

/// Writes `,"name":value` for each field.
struct Fields<'w> {
    to: &'w mut dyn Write,
    written: fmt::Result,
}

impl<'w> Fields<'w> {
    fn new(to: &'w mut dyn Write) -> Self {
        Self { to, written: Ok(()) }
    }

    fn field(&mut self, field: &Field, value: impl FnOnce(&mut dyn Write) -> fmt::Result) {
        let Some(name) = name(field) else { return };
        self.written = self.written.and_then(|()| {
            self.to.write_char(',')?;
            text(self.to, name)?;
            self.to.write_char(':')?;
            value(self.to)
        });
    }
}

/// `None` for what the bridge from the `log` crate adds for itself.
fn name(field: &Field) -> Option<&'static str> {
    let name = field.name();
    (!name.starts_with("log.")).then(|| name.strip_prefix("r#").unwrap_or(name))
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.field(
            field,
            |to| if value.is_finite() { write!(to, "{value:?}") } else { to.write_str("null") },
        );
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |to| write!(to, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |to| write!(to, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |to| to.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |to| text(to, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |to| {
            to.write_char('"')?;
            write!(Escaping(to), "{value:?}")?;
            to.write_char('"')
        });
    }
}

/// Takes out what fields are recorded again. Values are texts, numbers and words, so that a comma, a quote, the name, a quote
/// and a colon stand nowhere but before a value: in a text a quote is escaped.
struct Remove<'f> {
    from: &'f mut String,
}

impl Visit for Remove<'_> {
    fn record_debug(&mut self, field: &Field, _: &dyn fmt::Debug) {
        let Some(name) = name(field) else { return };
        let begins = format!(",\"{name}\":");
        let Some(start) = self.from.find(&begins) else { return };
        let value = start + begins.len();
        let length = end_of_value(&self.from[value..]);
        self.from.replace_range(start..value + length, "");
    }
}

/// Bytes of the value that a text begins with.
fn end_of_value(text: &str) -> usize {
    let Some(inner) = text.strip_prefix('"') else {
        return text.find(',').unwrap_or(text.len());
    };
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

fn text(to: &mut dyn Write, text: &str) -> fmt::Result {
    to.write_char('"')?;
    Escaping(to).write_str(text)?;
    to.write_char('"')
}

/// Writes what stands within the quotes of a text of JSON (RFC 8259, section 7).
struct Escaping<'w>(&'w mut dyn Write);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut written = 0;
        for (at, byte) in text.bytes().enumerate() {
            if !matches!(byte, b'"' | b'\\' | 0..=0x1f) {
                continue;
            }
            self.0.write_str(&text[written..at])?;
            written = at + 1;
            match byte {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                _ => write!(self.0, "\\u{byte:04x}")?,
            }
        }
        self.0.write_str(&text[written..])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use tracing_subscriber::fmt as subscriber;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        /// The lines that `happens` writes, without the times.
        fn of(self, subscriber: impl Subscriber + Send + Sync, happens: impl FnOnce()) -> Vec<Value> {
            tracing::subscriber::with_default(subscriber, happens);
            let written = String::from_utf8(self.0.lock().clone()).expect("UTF-8");
            let read = |line: &str| {
                let mut line: Value =
                    serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
                let time = line.as_object_mut().expect("an object").remove("timestamp").expect("a time");
                let time = time.as_str().expect("a text").to_owned();
                assert!(chrono::DateTime::parse_from_rfc3339(&time).is_ok(), "{time}");
                line
            };
            written.lines().map(read).collect()
        }
    }

    fn ours(source_location: bool, happens: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = subscriber::layer()
            .with_writer(move || to.clone())
            .fmt_fields(Pieces)
            .event_format(Line { source_location });
        lines.of(tracing_subscriber::registry().with(layer), happens)
    }

    /// What the library writes.
    fn theirs(source_location: bool, happens: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let to = lines.clone();
        let layer = subscriber::layer()
            .with_writer(move || to.clone())
            .with_file(source_location)
            .with_line_number(source_location)
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false);
        lines.of(tracing_subscriber::registry().with(layer), happens)
    }

    #[test]
    fn a_field_that_is_given_again_replaces_what_it_was() {
        let lines = ours(false, || {
            let span = tracing::info_span!("work", first = "a\",\"second\":1", second = 7, third = true);
            span.record("first", "b");
            span.record("second", 8);
            span.in_scope(|| tracing::warn!("said"));
        });
        let span = json!({ "name": "work", "first": "b", "second": 8, "third": true });
        assert_eq!(
            lines,
            [json!({ "level": "WARN", "message": "said", "target": module_path!(), "span": span })]
        );
    }

    #[test]
    fn what_came_from_the_log_crate_says_where_it_is_from() {
        let lines = ours(false, || {
            let record = log::Record::builder()
                .args(format_args!("a word"))
                .level(log::Level::Error)
                .target("a_library")
                .build();
            tracing_log::format_trace(&record).expect("an event");
        });
        assert_eq!(lines, [json!({ "level": "ERROR", "message": "a word", "target": "a_library" })]);
    }

    #[derive(Debug)]
    struct Said {
        words: String,
        number: i64,
        large: u64,
        share: f64,
        is: bool,
        later: String,
    }

    fn said() -> impl Strategy<Value = Said> {
        let words =
            prop_oneof!["[ -~]{0,20}", "\\PC{0,20}", any::<String>(), "[\"\\\\,:a-z\\x00-\\x1f]{0,12}"];
        // Eighths: the library reads a span's numbers again, and not to the last digit.
        let eighths = any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0);
        let shares = prop_oneof![8 => eighths, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
        let numbers = (any::<i64>(), any::<u64>(), shares, any::<bool>());
        (words.clone(), numbers, words).prop_map(|(words, (number, large, share, is), later)| Said {
            words,
            number,
            large,
            share,
            is,
            later,
        })
    }

    impl Said {
        fn say(&self) {
            let Self { words, number, large, share, is, later } = self;
            let span =
                tracing::info_span!("first", words, number, r#type = 1, later = tracing::field::Empty, share);
            let _first = span.enter();
            tracing::info!(words, number, large, share, is, error = ?later, "{words} {later}");
            span.record("later", later);
            let within = tracing::debug_span!("second", ?words, %later);
            within.record("words", "other");
            tracing::error!(parent: &within, is, "of another");
            span.record("words", number);
            tracing::debug!(shown = %words, none = Option::<u64>::None);
            tracing::trace!("{self:?}");
        }
    }

    proptest! {
        /// The library's form is what ours is measured against.
        #[test]
        fn a_line_says_what_the_librarys_says(said in said(), source_location: bool) {
            prop_assert_eq!(
                ours(source_location, || said.say()),
                theirs(source_location, || said.say())
            );
        }
    }
}
