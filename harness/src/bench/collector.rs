//! A collector of traces that decodes what comes over OTLP and counts it: as much work as a server notices of a real one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<AtomicU64>,
    _stop: DropGuard,
}

struct Counts(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Counts {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.get_ref().resource_spans.iter();
        let spans: usize = resources.flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum();
        self.0.fetch_add(spans as u64, Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// On a free port of this machine.
    pub async fn start() -> anyhow::Result<Collector> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, spans, stop) =
            (listener.local_addr()?, Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let server = Server::builder().add_service(TraceServiceServer::new(Counts(spans.clone())));
        let end = stop.clone();
        tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            server.serve_with_incoming_shutdown(incoming, async move { end.cancelled().await }).await
        });
        Ok(Collector { address, spans, _stop: stop.drop_guard() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Spans that came so far.
    pub fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }
}
