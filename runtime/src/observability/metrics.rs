//! One registry of metric families per application instance.
//!
//! An area keeps its families in its own `metrics.rs`, as a struct of cheap handles with
//! `fn register(registry: &mut Registry) -> Self`, and gets it through [`Metrics::area`]:
//!
//! ```
//! # use fraiseql_runtime::observability::metrics::{Counter, Metrics, Registry};
//! struct QueueMetrics { enqueued: Counter }
//!
//! impl QueueMetrics {
//!     fn register(registry: &mut Registry) -> Self {
//!         let enqueued = Counter::default();
//!         // The registry adds `_total` to a counter's name, and a full stop to the help.
//!         registry.register("queue_enqueued", "Jobs accepted", enqueued.clone());
//!         Self { enqueued }
//!     }
//! }
//! let metrics = Metrics::new();
//! let queue = metrics.area(QueueMetrics::register);
//! queue.enqueued.inc();
//! ```
//!
//! A family with labels starts with its known label sets at zero, so that a ratio of rates exists
//! before the first event. Labels hold only values from a set that callers cannot extend.

use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, text};

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::info::Info;

use super::exposition;
use super::process::ProcessCollector;
use super::system::SystemCollector;

/// Handle of the registry; clones share it.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
}

impl Metrics {
    /// With the families of the process and of the machine already in it.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector::new()));
        registry.register_collector(Box::new(SystemCollector::new()));
        let build = [("version", env!("CARGO_PKG_VERSION")), ("name", env!("CARGO_PKG_NAME"))];
        registry.register("xzepr", "What runs here", Info::new(build.to_vec()));
        Self { registry: Arc::new(RwLock::new(registry)) }
    }

    /// Registers the families of one area. Calling it twice for one area is a defect that the
    /// test of the exposition finds: the names would be there twice.
    pub fn area<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.write())
    }

    /// All families in the classic Prometheus text format 0.0.4.
    pub fn classic(&self) -> String {
        exposition::to_classic(&self.open_metrics())
    }

    /// All families in the OpenMetrics text format 1.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry.read()).expect("a String takes all that is written to it");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Bounds in seconds for anything a caller waits for: fine around the targets 0.1, 0.2, 0.5, 1.
pub const LATENCY_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A histogram over [`LATENCY_BUCKETS`].
pub fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

/// A histogram over [`LATENCY_BUCKETS`] whose buckets may name a trace each: the last exported one that fell into it.
pub type TracedHistogram = HistogramWithExemplars<ExemplarLabels>;

fn traced_histogram() -> TracedHistogram {
    HistogramWithExemplars::new(LATENCY_BUCKETS.into_iter())
}

/// What an exemplar says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExemplarLabels {
    /// 32 hexadecimal digits.
    pub trace_id: String,
}

/// Labels of one answered request. Each value comes from a set that callers cannot extend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub method: &'static str,
    /// The matched route, `unmatched` without one.
    pub path: Arc<str>,
    pub status: u16,
}

/// Labels of a route, whatever it answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RouteLabels {
    pub method: &'static str,
    pub path: Arc<str>,
}

/// What the HTTP layer counts. The `fraiseql_*` and `xzepr_*` names are the same families under other names: one count, shown
/// more than once.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    pub requests: Family<RequestLabels, Counter>,
    pub duration: Family<RouteLabels, TracedHistogram, fn() -> TracedHistogram>,
    /// Answers of 5xx, and GraphQL answers that carry an error which is not the caller's.
    pub errors: Family<RouteLabels, Counter>,
    /// Connections that are accepted and not yet closed.
    pub connections: Gauge,
}

impl HttpMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(traced_histogram as fn() -> TracedHistogram),
            errors: Family::default(),
            connections: Gauge::default(),
        };
        let (requests, duration) = (&metrics.requests, &metrics.duration);
        registry.register("http_requests", "HTTP requests answered", requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer a request", duration.clone());
        registry.register("http_connections_active", "Open HTTP connections", metrics.connections.clone());
        for (counter, histogram) in [
            ("fraiseql_requests", "fraiseql_request_duration_seconds"),
            ("xzepr_http_requests", "xzepr_http_request_duration_seconds"),
        ] {
            registry.register(counter, "Same as http_requests_total", requests.clone());
            registry.register(histogram, "Same as http_request_duration_seconds", duration.clone());
        }
        let connections = metrics.connections.clone();
        registry.register("xzepr_active_connections", "Same as http_connections_active", connections);
        registry.register("fraiseql_errors", "Requests that failed on our side", metrics.errors.clone());
        metrics
    }

    /// Puts the route's series at zero: its successes and the two statuses that alerts divide by.
    pub fn expect_route(&self, method: &'static str, path: &str) {
        let path: Arc<str> = path.into();
        for status in [200, 500, 503] {
            // Held only for its side effect: the series is there from now on.
            drop(self.requests.get_or_create(&RequestLabels { method, path: path.clone(), status }));
        }
        let route = RouteLabels { method, path };
        drop(self.duration.get_or_create(&route));
        drop(self.errors.get_or_create(&route));
    }
}
