//! The worker that sends traces to the collector: OTLP over gRPC, in batches.
//!
//! A batch that the collector does not take in time is lost and counted, and the next one is tried as if nothing had
//! been: what waits meanwhile is bounded by the queue. The first failure and the recovery are in the log.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::metrics::{Lost, TraceMetrics};
use super::record::Finished;
use super::wire;
use crate::config::tracing::Tracing;
use crate::error::chain;

/// Why the exporter cannot begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the collector's address cannot be used")]
    Endpoint(#[from] tonic::transport::Error),
}

/// The worker. Clones share the queue.
#[derive(Clone)]
pub struct Exporter {
    config: Arc<Tracing>,
    waiting: Arc<Mutex<mpsc::Receiver<Finished>>>,
    metrics: TraceMetrics,
}

impl Exporter {
    pub(super) fn new(config: Tracing, waiting: mpsc::Receiver<Finished>, metrics: TraceMetrics) -> Self {
        Self { config: Arc::new(config), waiting: Arc::new(Mutex::new(waiting)), metrics }
    }

    /// Exports until `stop`, and then what still waits, as far as the collector takes it.
    pub async fn run(&self, stop: CancellationToken) {
        let mut client = match self.client() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(error = %chain(&error), "traces are not exported");
                stop.cancelled().await;
                return;
            }
        };
        let mut waiting = self.waiting.lock().await;
        let mut is_well = true;
        while !stop.is_cancelled() {
            let batch = self.collect(&mut waiting, &stop).await;
            is_well = self.send(&mut client, batch, is_well).await;
        }
        while let Ok(first) = waiting.try_recv() {
            let mut batch = Batch::of(first);
            while batch.spans < self.config.batch as usize
                && let Ok(next) = waiting.try_recv()
            {
                batch.add(next);
            }
            // A collector that is away does not hold the end up more than once.
            if !self.send(&mut client, batch, is_well).await {
                return;
            }
        }
    }

    /// What waits first.
    #[cfg(test)]
    pub(super) async fn next(&self) -> Finished {
        self.waiting.lock().await.try_recv().expect("a trace waits")
    }

    fn client(&self) -> Result<TraceServiceClient<Channel>, Error> {
        let endpoint = Endpoint::from_shared(self.config.jaeger_endpoint.clone())?;
        let endpoint = endpoint.connect_timeout(self.config.timeout).timeout(self.config.timeout);
        let endpoint = match endpoint.uri().scheme_str() {
            Some("https") => endpoint.tls_config(ClientTlsConfig::new().with_native_roots())?,
            _ => endpoint,
        };
        Ok(TraceServiceClient::new(endpoint.connect_lazy()))
    }

    /// The next batch: full, or as old as a batch may be. Empty when it is time to stop.
    async fn collect(&self, waiting: &mut mpsc::Receiver<Finished>, stop: &CancellationToken) -> Batch {
        let first = tokio::select! {
            () = stop.cancelled() => None,
            first = waiting.recv() => first,
        };
        let Some(first) = first else {
            // Nobody is left who could send.
            stop.cancelled().await;
            return Batch::default();
        };
        let (mut batch, end) = (Batch::of(first), Instant::now() + self.config.interval);
        while batch.spans < self.config.batch as usize {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(end) => break,
                next = waiting.recv() => match next {
                    Some(next) => batch.add(next),
                    None => break,
                },
            }
        }
        batch
    }

    /// Whether the collector is well.
    async fn send(&self, client: &mut TraceServiceClient<Channel>, batch: Batch, was_well: bool) -> bool {
        let spans = batch.spans as u64;
        if spans == 0 {
            return was_well;
        }
        let request = wire::request(&wire::resource(&self.config), batch.traces);
        let answer = match tokio::time::timeout(self.config.timeout, client.export(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return self.lost(spans, was_well, &chain(&status)),
            Err(_) => return self.lost(spans, was_well, "no answer in time"),
        };
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
        let rejected = u64::try_from(rejected).unwrap_or_default().min(spans);
        self.metrics.count_lost(Lost::export_failed, rejected);
        self.metrics.exported.inc_by(spans - rejected);
        if !was_well {
            tracing::info!("the collector takes traces again");
        }
        true
    }

    fn lost(&self, spans: u64, was_well: bool, why: &str) -> bool {
        self.metrics.count_lost(Lost::export_failed, spans);
        if was_well {
            let endpoint = &self.config.jaeger_endpoint;
            tracing::warn!(
                endpoint,
                error = why,
                "the collector does not take traces: they are dropped until it does"
            );
        }
        false
    }
}

#[derive(Default)]
struct Batch {
    traces: Vec<Finished>,
    spans: usize,
}

impl Batch {
    fn of(first: Finished) -> Self {
        let mut batch = Self::default();
        batch.add(first);
        batch
    }

    fn add(&mut self, trace: Finished) {
        self.spans += trace.spans.len();
        self.traces.push(trace);
    }
}
