//! Compresses answers for callers that take gzip. Short ones cost more than they save, and events must leave at once.

use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};

/// Answers of fewer bytes stay as they are.
const BYTES_MIN: u16 = 1_000;

/// The layer.
pub fn layer() -> CompressionLayer<And<SizeAbove, NotForContentType>> {
    let when = SizeAbove::new(BYTES_MIN).and(NotForContentType::SSE);
    // Fast: most of the gain for a fraction of the time.
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(when)
}
