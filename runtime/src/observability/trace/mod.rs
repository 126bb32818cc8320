//! Traces: what happened for a request, step by step, told to a collector over OTLP.
//!
//! Promises: a trace that failed is exported, whatever the sampling; of the others the configured share, decided by the
//! trace id, so that every process decides alike; a collector that is away or slow costs spans, which are counted, and
//! neither time nor memory of requests beyond a bounded queue.
//!
//! Why not spans of the `tracing` crate with its OpenTelemetry layer: whether a trace failed is known at its end, so that
//! every span of every request would be made in full. Here a span is a few words in a vector, and becomes a message only
//! when its trace is exported. A future that is spawned leaves its trace, unless [`Open::within`] goes with it.

pub mod context;
pub mod export;
pub mod metrics;
mod record;
mod sampling;
#[cfg(test)]
mod tests;
mod wire;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use futures::future::Either;
use tokio::sync::mpsc;
use tokio::task::futures::TaskLocalFuture;

use self::context::TraceContext;
use self::export::Exporter;
use self::metrics::{Lost, TraceMetrics};
use self::record::{Finished, Trace};
use self::sampling::Sampling;
use super::metrics::Metrics;
use crate::clock::{Clock, SystemClock};
use crate::config::tracing::{Tracing, Variant};

pub use self::record::{Kind, Value};
pub use self::sampling::is_drawn;

/// A name and what it is of this span.
pub type Attribute = (&'static str, Value);

/// Begins traces. Clones share the queue to the exporter.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Shared>>);

struct Shared {
    sampling: Sampling,
    variant: Variant,
    queue: mpsc::Sender<Finished>,
    metrics: TraceMetrics,
    clock: Arc<dyn Clock>,
}

impl Tracer {
    /// One that begins none.
    pub const fn off() -> Self {
        Self(None)
    }

    /// As configured, with the worker that exports; none where traces are off. Registers the families either way.
    pub fn new(config: &Tracing, metrics: &Metrics) -> (Self, Option<Exporter>) {
        let metrics = metrics.area(TraceMetrics::register);
        if !config.enabled {
            return (Self::off(), None);
        }
        let (queue, waiting) = mpsc::channel(config.queue as usize);
        let sampling = Sampling { rate: config.sample_rate, follow_parent: config.follow_parent };
        let clock = Arc::new(SystemClock);
        let exporter = Exporter::new(config.clone(), waiting, metrics.clone());
        let shared = Shared { sampling, variant: config.middleware, queue, metrics, clock };
        (Self(Some(Arc::new(shared))), Some(exporter))
    }

    /// Whether more is told than of every request.
    pub fn is_enhanced(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.variant == Variant::Enhanced)
    }

    /// Begins what this process adds to a trace: to that of `parent`, or to a new one.
    pub fn begin(&self, kind: Kind, parent: Option<TraceContext>) -> Option<Root> {
        let shared = self.0.as_ref()?;
        if shared.variant == Variant::RequestId {
            let trace = Arc::new(Trace::passing(parent?, shared.clock.now()));
            return Some(Root { shared: shared.clone(), trace, kind, ended: true });
        }
        let trace_id =
            parent.as_ref().map_or_else(|| rand::random::<u128>().max(1), |parent| parent.trace_id);
        let sampled = shared.sampling.decides(trace_id, parent.as_ref().map(|parent| parent.sampled));
        let base = rand::random::<u64>();
        let trace =
            Arc::new(Trace::new(trace_id, base, sampled, parent, shared.clock.now(), self.is_enhanced()));
        Some(Root { shared: shared.clone(), trace, kind, ended: false })
    }
}

/// What this process adds to a trace. Ends when it is dropped, which is also what happens to work that nobody waits for.
pub struct Root {
    shared: Arc<Shared>,
    trace: Arc<Trace>,
    kind: Kind,
    ended: bool,
}

impl Root {
    /// The trace, for whoever wants to know at the end whether it is exported.
    pub fn handle(&self) -> TraceHandle {
        TraceHandle(self.trace.clone())
    }

    /// The future, whose spans belong here.
    pub fn within<F: Future>(&self, future: F) -> TaskLocalFuture<Here, F> {
        HERE.scope(Here { trace: self.trace.clone(), parent: self.trace.root_id() }, future)
    }

    /// The trace failed and is exported.
    pub fn fail(&self, why: &'static str) {
        self.trace.fail(self.trace.root_id(), why);
    }

    /// Ends it. Name and attributes are asked for when the trace is exported.
    pub fn end(mut self, describe: impl FnOnce() -> (Cow<'static, str>, Vec<Attribute>)) {
        self.finish(describe);
    }

    fn finish(&mut self, describe: impl FnOnce() -> (Cow<'static, str>, Vec<Attribute>)) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let Some(why) = self.trace.kept() else { return };
        let (name, attributes) = describe();
        let finished = self.trace.finish(name, self.kind, attributes, self.shared.clock.as_ref());
        let (spans, cut) = (finished.spans.len() as u64, finished.cut);
        self.shared.metrics.count_kept(why);
        self.shared.metrics.count_lost(Lost::too_many, cut);
        if self.shared.queue.try_send(finished).is_err() {
            self.shared.metrics.count_lost(Lost::queue_full, spans);
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.finish(|| (Cow::Borrowed("abandoned"), Vec::new()));
    }
}

/// Knows a trace without being in it.
#[derive(Clone)]
pub struct TraceHandle(Arc<Trace>);

impl TraceHandle {
    /// 32 hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.0.trace_id())
    }

    /// The number that [`id`](Self::id) writes.
    pub fn trace_id(&self) -> u128 {
        self.0.trace_id()
    }

    /// Whether it is exported, as far as is known now.
    pub fn is_kept(&self) -> bool {
        self.0.kept().is_some()
    }
}

tokio::task_local! {
    static HERE: Here;
}

/// Where in a trace a future is.
#[derive(Clone)]
pub struct Here {
    trace: Arc<Trace>,
    parent: u64,
}

/// A span that is not over. Over when it is dropped.
#[must_use = "a span lasts as long as this"]
pub struct Open(Option<(Arc<Trace>, u64)>);

/// Begins a span below the one that this future is in; outside of any trace it is nothing and costs as much.
/// `attributes` is asked within a trace only.
pub fn span(name: &'static str, kind: Kind, attributes: impl FnOnce() -> Vec<Attribute>) -> Open {
    let opened = HERE.try_with(|here| {
        let id = here.trace.open(name, kind, here.parent, attributes)?;
        Some((here.trace.clone(), id))
    });
    Open(opened.ok().flatten())
}

impl Open {
    /// The future, whose spans stand below this one.
    pub fn within<F: Future>(&self, future: F) -> Either<TaskLocalFuture<Here, F>, F> {
        match &self.0 {
            Some((trace, id)) => Either::Left(HERE.scope(Here { trace: trace.clone(), parent: *id }, future)),
            None => Either::Right(future),
        }
    }

    /// What became known meanwhile.
    pub fn set(&self, attributes: impl FnOnce() -> Vec<Attribute>) {
        if let Some((trace, id)) = &self.0 {
            trace.add(*id, attributes());
        }
    }

    /// The span failed, and its trace is exported.
    pub fn fail(&self, why: &'static str) {
        if let Some((trace, id)) = &self.0 {
            trace.fail(*id, why);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((trace, id)) = &self.0 {
            trace.close(*id);
        }
    }
}

/// Adds to what is told of the request or job as a whole, where the configuration wants more than the basics.
pub fn tell(attributes: impl FnOnce() -> Vec<Attribute>) {
    let _ = HERE.try_with(|here| here.trace.tell(attributes));
}

/// Where this future is, for whom it calls.
pub fn current() -> Option<TraceContext> {
    HERE.try_with(|here| here.trace.context(here.parent)).ok()
}

/// As [`current`], in one text.
pub fn traceparent() -> Option<String> {
    current().map(|context| context.traceparent())
}
