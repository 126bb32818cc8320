//! One trace while it happens: its spans in a vector, in the order in which they began.
//!
//! A span's id is the trace's random base and the span's place, so that it costs no randomness of its own; two processes
//! that add to one trace have different bases. What is not in the vector any more, since the trace has ended, is ignored.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Attribute;
use super::context::TraceContext;
use super::metrics::Kept;
use crate::clock::Clock;

/// Spans of one trace at most in this process; more are counted and left out.
pub(super) const SPANS_MAX: usize = 128;

/// What a span is to whom it talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody else has to do with it.
    Internal,
    /// It answers somebody.
    Server,
    /// It asks somebody.
    Client,
    /// It leaves something for somebody.
    Producer,
    /// It takes what was left.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Cow<'static, str>),
    Shared(Arc<str>),
    Int(i64),
    Float(f64),
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// A span as it was.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) id: u64,
    /// 0: none.
    pub(super) parent: u64,
    pub(super) name: Cow<'static, str>,
    pub(super) kind: Kind,
    pub(super) started: Instant,
    pub(super) ended: Option<Instant>,
    pub(super) failed: Option<&'static str>,
    pub(super) attributes: Vec<Attribute>,
}

/// A trace that has ended here and is exported.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) trace_id: u128,
    pub(super) state: Option<Box<str>>,
    /// The root first.
    pub(super) spans: Vec<Span>,
    /// Spans that were left out.
    pub(super) cut: u64,
    /// The same moment by both clocks.
    pub(super) ended: Instant,
    pub(super) ended_utc: DateTime<Utc>,
}

/// A trace while it happens.
pub(super) struct Trace {
    trace_id: u128,
    base: u64,
    sampled: bool,
    parent: Option<TraceContext>,
    /// Whether it only passes a context on.
    passing: bool,
    /// Whether more is told than the basics.
    enhanced: bool,
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    spans: Vec<Span>,
    cut: u64,
    over: bool,
    /// Why the root failed.
    failed: Option<&'static str>,
    /// Whether anything did.
    any_failed: bool,
    /// What is told of the whole.
    told: Vec<Attribute>,
}

impl Trace {
    pub(super) fn new(
        trace_id: u128,
        base: u64,
        sampled: bool,
        parent: Option<TraceContext>,
        started: Instant,
        enhanced: bool,
    ) -> Self {
        let inner = Mutex::new(Inner { spans: Vec::with_capacity(4), ..Inner::default() });
        Self { trace_id, base, sampled, parent, passing: false, enhanced, started, inner }
    }

    /// Has no spans, and passes on what it was given.
    pub(super) fn passing(parent: TraceContext, started: Instant) -> Self {
        let (trace_id, base, sampled) = (parent.trace_id, parent.span_id, parent.sampled);
        let inner = Mutex::new(Inner { over: true, ..Inner::default() });
        Self { trace_id, base, sampled, parent: Some(parent), passing: true, enhanced: false, started, inner }
    }

    pub(super) fn trace_id(&self) -> u128 {
        self.trace_id
    }

    pub(super) fn root_id(&self) -> u64 {
        if self.passing { self.base } else { self.id_at(0) }
    }

    /// Whether and why it is exported, as far as is known now.
    pub(super) fn kept(&self) -> Option<Kept> {
        if self.passing {
            None
        } else if self.sampled {
            Some(Kept::sampled)
        } else {
            self.inner.lock().any_failed.then_some(Kept::failed)
        }
    }

    /// The id of a span below this one; `None` when there are too many, or the trace is over.
    pub(super) fn open(
        &self,
        name: &'static str,
        kind: Kind,
        parent: u64,
        attributes: impl FnOnce() -> Vec<Attribute>,
    ) -> Option<u64> {
        let started = Instant::now();
        let mut inner = self.inner.lock();
        if inner.over {
            return None;
        }
        if inner.spans.len() >= SPANS_MAX {
            inner.cut += 1;
            return None;
        }
        let id = self.id_at(inner.spans.len() + 1);
        let (name, attributes) = (Cow::Borrowed(name), attributes());
        inner.spans.push(Span { id, parent, name, kind, started, ended: None, failed: None, attributes });
        Some(id)
    }

    pub(super) fn close(&self, id: u64) {
        let now = Instant::now();
        self.change(id, |span| span.ended = Some(now));
    }

    pub(super) fn add(&self, id: u64, attributes: Vec<Attribute>) {
        self.change(id, |span| span.attributes.extend(attributes));
    }

    pub(super) fn fail(&self, id: u64, why: &'static str) {
        if id == self.root_id() {
            let mut inner = self.inner.lock();
            (inner.failed, inner.any_failed) = (Some(why), true);
            return;
        }
        self.change(id, |span| span.failed = Some(why));
        self.inner.lock().any_failed = true;
    }

    pub(super) fn tell(&self, attributes: impl FnOnce() -> Vec<Attribute>) {
        if !self.enhanced {
            return;
        }
        let mut inner = self.inner.lock();
        if !inner.over && inner.told.len() < SPANS_MAX {
            inner.told.extend(attributes());
        }
    }

    /// The place of a span, for whom it calls.
    pub(super) fn context(&self, span_id: u64) -> TraceContext {
        let state = self.parent.as_ref().and_then(|parent| parent.state.clone());
        TraceContext { trace_id: self.trace_id, span_id, sampled: self.sampled, state }
    }

    /// Everything that happened. Spans that are still open end with the whole.
    pub(super) fn finish(
        &self,
        name: Cow<'static, str>,
        kind: Kind,
        mut attributes: Vec<Attribute>,
        clock: &dyn Clock,
    ) -> Finished {
        let (ended, ended_utc) = (clock.now(), clock.utc());
        let (mut children, cut, failed, told) = {
            let mut inner = self.inner.lock();
            inner.over = true;
            (std::mem::take(&mut inner.spans), inner.cut, inner.failed, std::mem::take(&mut inner.told))
        };
        attributes.extend(told);
        let root = Span {
            id: self.root_id(),
            parent: self.parent.as_ref().map_or(0, |parent| parent.span_id),
            name,
            kind,
            started: self.started,
            ended: Some(ended),
            failed,
            attributes,
        };
        let mut spans = Vec::with_capacity(1 + children.len());
        spans.push(root);
        spans.append(&mut children);
        let state = self.parent.as_ref().and_then(|parent| parent.state.clone());
        Finished { trace_id: self.trace_id, state, spans, cut, ended, ended_utc }
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Span)) {
        let mut inner = self.inner.lock();
        // The spans' ids are their places, counted from one.
        let place = (1..=inner.spans.len()).rev().find(|place| self.id_at(*place) == id);
        if let Some(span) = place.and_then(|place| inner.spans.get_mut(place - 1)) {
            change(span);
        }
    }

    /// Odd steps never come back to where they were, and 0 is no id.
    fn id_at(&self, place: usize) -> u64 {
        let id = self.base.wrapping_add((place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if id == 0 { u64::MAX } else { id }
    }
}
