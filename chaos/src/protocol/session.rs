//! What each protocol provides: where messages end, and what to do with one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::rule::{Judge, Rule};
use super::{Opaque, Way};

/// What a scanner found in the next bytes of a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// All of them belong to the message, which goes on.
    More,
    /// The message ends after so many of them.
    End(usize),
    Opaque(Opaque),
}

/// What happens to a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Fate {
    #[default]
    Pass,
    Drop,
    /// These bytes go instead of it.
    Replace(Bytes),
    /// It is sent, and then sent again.
    Twice,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Reset,
    Close,
    /// It does not, but the way downstream is silent from here on.
    Silence,
}

/// What a rule tells the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub bytes: Bytes,
    /// The connection ends with it.
    pub closes: bool,
}

/// What to do with one message.
#[derive(Debug, Clone, Default)]
pub(super) struct Decision {
    pub fate: Fate,
    /// Whose doing it is; counts the bytes that are dropped.
    pub rule: Option<Arc<Rule>>,
    /// Keeps the message, and all behind it, back for so long.
    pub hold: Option<Duration>,
    /// Bytes for the client, at the next boundary between two messages.
    pub answer: Option<Answer>,
    /// Once the message is through.
    pub end: Option<End>,
    /// From the end of the message on.
    pub opaque: Option<Opaque>,
}

impl Decision {
    pub fn pass() -> Decision {
        Decision::default()
    }

    pub fn opaque(why: Opaque) -> Decision {
        Decision { opaque: Some(why), ..Decision::default() }
    }

    pub fn drop(rule: &Arc<Rule>) -> Decision {
        Decision { fate: Fate::Drop, rule: Some(rule.clone()), ..Decision::default() }
    }
}

/// One protocol on one connection. All calls for a way come in the order of its bytes.
pub(super) trait Session: Send {
    /// Scans bytes that follow on those scanned before; after an end, the next call begins a new message.
    fn scan(&mut self, way: Way, bytes: &[u8]) -> Scan;

    /// How many bytes of the message being scanned have to be there to decide it; the message may be shorter.
    fn look(&self, way: Way) -> usize;

    /// True while a rule has begun something that it has to go through with.
    fn busy(&self) -> bool;

    /// Decides a message by its first bytes, at least [`Session::look`] or all of it, and at most `LOOK_BYTES_MAX`.
    /// Called once for each message. `note` takes a line that says what it was, for those who want to read along.
    fn meet(&mut self, way: Way, head: &[u8], judge: &mut Judge, note: &mut Note<'_>) -> Decision;
}

/// Takes the description of a message when somebody wants it.
pub(super) struct Note<'a>(pub Option<&'a mut String>);

impl Note<'_> {
    pub fn write(&mut self, describe: impl FnOnce() -> String) {
        if let Some(line) = &mut self.0 {
            **line = describe();
        }
    }
}

/// Bytes from the wire as text of at most 120 characters.
pub(super) fn readable(bytes: &[u8]) -> String {
    const LONGEST: usize = 120;
    let cut = &bytes[..bytes.len().min(LONGEST)];
    let mut text = cut.escape_ascii().to_string();
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}
