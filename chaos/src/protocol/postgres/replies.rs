//! Which reply belongs to which request: a queue of what the server owes, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::super::rule::{Rule, Then};

/// A request, by what the server sends for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    Startup,
    /// A simple query: everything up to ReadyForQuery.
    Query,
    /// A simple query that stands for an Execute of the client, whose ReadyForQuery is not for the client.
    Rollback,
    Function,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    /// Nothing; marks where the client ended the data of a COPY.
    CopyEnd,
}

/// What a rule wants of a reply.
#[derive(Debug, Clone, Default)]
pub(super) enum Mark {
    #[default]
    None,
    /// Swallow it.
    Ack(Arc<Rule>, Then),
    /// Turn it into the rule's error.
    Fail(Arc<Rule>),
    /// Keep its beginning back.
    Slow(Arc<Rule>, Duration),
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Counted on this connection, from 1.
    pub id: u64,
    pub expect: Expect,
    pub mark: Mark,
    /// A COMMIT, for which only the tag COMMIT is an acknowledgement.
    pub commit: bool,
}

#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Request>,
    next: u64,
    marks: usize,
    /// The server has failed a request and ignores what comes before the next Sync.
    skipping: bool,
    /// The server takes the data of a COPY and ignores Sync and Flush.
    copying: bool,
}

impl Replies {
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// True while a rule waits for a reply.
    pub fn marked(&self) -> bool {
        self.marks > 0
    }

    /// A request goes to the server. False when the server will not answer it.
    pub fn push(&mut self, expect: Expect, mark: Mark, commit: bool) -> bool {
        match expect {
            Expect::CopyEnd if self.copying => {
                self.copying = false;
                return false;
            }
            Expect::Sync if self.copying => return false,
            Expect::Sync => self.skipping = false,
            _ if self.skipping => return false,
            _ => {}
        }
        self.next += 1;
        self.marks += usize::from(!matches!(mark, Mark::None));
        self.queue.push_back(Request { id: self.next, expect, mark, commit });
        true
    }

    /// A message of this type came from the server: the request that it belongs to, as it was. Requests that the server
    /// will not answer because of it are handed to `skipped`.
    pub fn reply(&mut self, kind: u8, mut skipped: impl FnMut(Request)) -> Option<Request> {
        use Expect::{
            Bind, Close, CopyEnd, Describe, Execute, Function, Parse, Query, Rollback, Startup, Sync,
        };
        while self.queue.front().is_some_and(|request| request.expect == CopyEnd) {
            self.pop();
        }
        let front = self.queue.front()?.clone();
        let (owns, done) = match (front.expect, kind) {
            (_, b'N' | b'A') => (false, false),
            (Startup, b'S') => (true, false),
            (_, b'S') => (false, false),
            (Startup | Query | Rollback | Function | Sync, b'Z') => (true, true),
            (_, b'Z') => {
                // Something was not understood; the server says where both stand.
                self.until(|expect| matches!(expect, Startup | Query | Rollback | Function | Sync), skipped);
                self.pop();
                return None;
            }
            (Startup | Query | Rollback | Function | Sync, b'E') => {
                self.copying = false;
                (true, false)
            }
            (_, b'E') => {
                self.copying = false;
                self.pop();
                self.until(|expect| expect == Sync, &mut skipped);
                self.skipping = self.queue.is_empty();
                return Some(front);
            }
            (Parse, b'1') | (Bind, b'2') | (Close, b'3') | (Describe, b'T' | b'n') => (true, true),
            (Execute, b'C' | b'I' | b's') => (true, true),
            (Query | Execute, b'G' | b'W') => {
                self.copy_begins();
                (true, false)
            }
            (Startup | Query | Rollback | Execute | Function | Describe, _) => (true, false),
            _ => (false, false),
        };
        if done {
            self.pop();
        }
        owns.then_some(front)
    }

    /// The rule of the request that is being answered has done its part.
    pub fn clear_mark(&mut self, id: u64) {
        if let Some(front) = self.queue.front_mut().filter(|request| request.id == id)
            && !matches!(std::mem::take(&mut front.mark), Mark::None)
        {
            self.marks -= 1;
        }
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.queue.pop_front()?;
        self.marks -= usize::from(!matches!(request.mark, Mark::None));
        Some(request)
    }

    fn until(&mut self, stop: impl Fn(Expect) -> bool, mut skipped: impl FnMut(Request)) {
        while self.queue.front().is_some_and(|request| !stop(request.expect)) {
            self.pop().into_iter().for_each(&mut skipped);
        }
    }

    /// Syncs that are on their way will be ignored, up to the end of the data.
    fn copy_begins(&mut self) {
        self.copying = true;
        let mut index = 1;
        while let Some(request) = self.queue.get(index) {
            match request.expect {
                Expect::Sync => drop(self.queue.remove(index)),
                Expect::CopyEnd => {
                    self.queue.remove(index);
                    self.copying = false;
                    return;
                }
                _ => index += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(expects: &[Expect]) -> Replies {
        let mut replies = Replies::default();
        for expect in expects {
            replies.push(*expect, Mark::None, false);
        }
        replies
    }

    fn owners(replies: &mut Replies, kinds: &[u8]) -> Vec<Option<Expect>> {
        kinds.iter().map(|kind| replies.reply(*kind, |_| {}).map(|request| request.expect)).collect()
    }

    #[test]
    fn pipelined_replies_find_their_requests() {
        use Expect::{Bind, Execute, Parse, Sync};
        let mut replies = queue(&[Parse, Bind, Execute, Bind, Execute, Sync]);
        let seen = owners(&mut replies, b"12DDCN2CZ");
        let of = |expect| Some(expect);
        assert_eq!(
            seen,
            [
                of(Parse),
                of(Bind),
                of(Execute),
                of(Execute),
                of(Execute),
                None,
                of(Bind),
                of(Execute),
                of(Sync)
            ]
        );
        assert_eq!(replies.len(), 0);
    }

    #[test]
    fn after_an_error_the_server_skips_to_sync() {
        use Expect::{Bind, Execute, Parse, Sync};
        let mut replies = queue(&[Parse, Bind, Execute, Sync, Bind, Execute, Sync]);
        let mut skipped = vec![];
        assert_eq!(
            replies.reply(b'E', |request| skipped.push(request.expect)).map(|r| r.expect),
            Some(Parse)
        );
        assert_eq!(skipped, [Bind, Execute]);
        assert_eq!(owners(&mut replies, b"Z2CZ"), [Some(Sync), Some(Bind), Some(Execute), Some(Sync)]);
    }

    #[test]
    fn what_is_sent_into_the_skipping_is_not_answered() {
        use Expect::{Bind, Execute, Parse, Sync};
        let mut replies = queue(&[Parse]);
        assert!(replies.reply(b'E', |_| {}).is_some());
        let answered = [Bind, Execute, Sync].map(|expect| replies.push(expect, Mark::None, false));
        assert_eq!(answered, [false, false, true]);
        assert_eq!(owners(&mut replies, b"Z"), [Some(Sync)]);
        assert_eq!(replies.len(), 0);
    }

    #[test]
    fn a_sync_sent_into_a_copy_is_not_answered() {
        use Expect::{Bind, CopyEnd, Execute, Sync};
        let mut replies = queue(&[Bind, Execute, Sync]);
        assert_eq!(owners(&mut replies, b"2G"), [Some(Bind), Some(Execute)]);
        for expect in [CopyEnd, Sync] {
            replies.push(expect, Mark::None, false);
        }
        assert_eq!(owners(&mut replies, b"CZ"), [Some(Execute), Some(Sync)]);
        assert_eq!(replies.len(), 0);
    }
}
