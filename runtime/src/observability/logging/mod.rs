//! The log: one line of JSON an event on stdout, unless the configuration asks for another form. Every line is masked.
//!
//! Promises: nobody waits for whoever takes the log. A thread of its own writes the lines; when they are taken too slowly
//! those that find no room are dropped, which is counted and said in the log as soon as there is room again. At the end
//! what waits is written, for a second at most.

mod json;
mod writer;

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use self::json::{Line, Pieces};
use self::writer::{Lines, Writer};
use super::masking::{Masking, mask_panics};
use super::metrics::{self, Counter};
use crate::config::logging::{Format, Logging};

/// How often it is looked whether lines were dropped.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// For how long the end waits for what is still to be written.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The log of this process. What was logged last may be lost unless this is dropped, at the end.
#[derive(Debug)]
pub struct Log {
    lines: Lines,
    _writer: Writer,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start the thread that writes the log")]
    Thread(#[from] std::io::Error),
    #[error("there is a log already")]
    There(#[from] TryInitError),
}

/// Installs the subscriber of this process, and has the words of panics masked.
///
/// # Errors
/// When there is one already, which stays, or there is no thread for it.
pub fn init_logging(config: &Logging) -> Result<Log, Error> {
    let (lines, writer) = Lines::to(std::io::stdout(), config.buffer_lines as usize, END_PATIENCE)?;
    tracing_subscriber::registry().with(layer(config, lines.clone())).try_init()?;
    mask_panics();
    Ok(Log { lines, _writer: writer })
}

impl Log {
    /// Counts and says what is dropped. Has no end.
    pub fn watch(&self, metrics: LogMetrics) -> impl Future<Output = ()> + use<> {
        let log = self.lines.clone();
        async move {
            let mut ticks = tokio::time::interval(WATCH_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut known = 0;
            loop {
                ticks.tick().await;
                let in_all = log.dropped();
                let lines = in_all.saturating_sub(known);
                if lines > 0 {
                    known = in_all;
                    metrics.dropped.inc_by(lines);
                    // This line may be dropped itself, which the next one says then.
                    tracing::warn!(
                        lines,
                        in_all,
                        "lines of the log were dropped: they are not taken fast enough"
                    );
                }
            }
        }
    }
}

/// `log_lines_dropped_total`.
#[derive(Debug, Clone, Default)]
pub struct LogMetrics {
    dropped: Counter,
}

impl LogMetrics {
    /// Registers the family.
    pub fn register(registry: &mut metrics::Registry) -> Self {
        let metrics = Self::default();
        let help = "Lines of the log that were dropped since they were not taken fast enough";
        registry.register("log_lines_dropped", help, metrics.dropped.clone());
        metrics
    }
}

/// What [`init_logging`] installs, writing elsewhere.
pub fn layer<W>(config: &Logging, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    // Directives that name spans or fields need the other filter, which looks at every span that is entered.
    match config.level.parse::<Targets>() {
        Ok(targets) if !config.level.contains('[') => filtered(config, writer, targets),
        _ => filtered(
            config,
            writer,
            EnvFilter::try_new(&config.level).expect("the configuration was validated"),
        ),
    }
}

/// `filter` is asked about callsites and not about each span that is entered and left: nobody else has a layer of spans.
fn filtered<W, F>(config: &Logging, writer: W, filter: F) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
    F: Layer<Registry> + Send + Sync + 'static,
{
    // A request writes its line at its end itself. A closing span would look at the clock each time it is entered and left,
    // and cannot be silenced for those that are not to be logged.
    let source_location = config.source_location;
    let base = fmt::layer().with_writer(Masking(writer)).with_target(true);
    let base = base.with_file(source_location).with_line_number(source_location);
    match config.format {
        Format::Json => {
            filter.and_then(base.fmt_fields(Pieces).event_format(Line { source_location })).boxed()
        }
        Format::Pretty => filter.and_then(base.pretty()).boxed(),
        Format::Compact => filter.and_then(base.compact().with_ansi(false)).boxed(),
    }
}

/// The span of one HTTP request. `path` is the matched route, never what the caller typed: that
/// may hold tokens. `status` and `duration_ms` are recorded when the answer is there, and `trace_id` where there are traces.
pub fn request_span(request_id: &str, method: &str, path: &str) -> tracing::Span {
    tracing::info_span!(
        "request",
        request_id,
        method,
        path,
        status = tracing::field::Empty,
        duration_ms = tracing::field::Empty,
        trace_id = tracing::field::Empty,
    )
}

/// How long something took, as a line says it. Of whole nanoseconds, so that it has no more digits than it has: 1.234567, where
/// seconds times a thousand are 1.2345670000000002, which could be the number of a card and is looked at closely.
pub fn millis(took: Duration) -> f64 {
    took.as_nanos() as f64 / 1e6
}
