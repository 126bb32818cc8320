//! The log: one line of JSON an event on stdout, unless the configuration asks for another form. Every line is masked.
//!
//! Promises: nobody waits for whoever takes the log. A thread of its own writes the lines; when they are taken too slowly
//! those that find no room are dropped, which is counted and said in the log as soon as there is room again. At the end
//! what waits is written, for a second at most.

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::masking::{Masking, mask_panics};
use super::metrics::{self, Counter};
use crate::config::logging::{Format, Logging};

/// For how long the thread that writes lets lines gather. Who logs into an empty queue has to wake it, which costs more than
/// the line; so that happens a few hundred times a second at most.
const GATHER: Duration = Duration::from_millis(5);
/// How often it is looked whether lines were dropped.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// For how long the end waits for what is still to be written: the library's own patience, 1.1 s, and a bit.
const END_PATIENCE: Duration = Duration::from_millis(1_500);

/// The log of this process. What was logged last may be lost unless this is dropped, at the end.
#[derive(Debug)]
pub struct Log {
    writer: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

/// Installs the subscriber of this process, and has the words of panics masked.
///
/// # Errors
/// When there is one already; it stays.
pub fn init_logging(config: &Logging) -> Result<Log, TryInitError> {
    let builder = NonBlockingBuilder::default().lossy(true).thread_name("log");
    let (lines, writer) =
        builder.buffered_lines_limit(config.buffer_lines as usize).finish(Gathering::new(io::stdout()));
    let log = Log { writer: Some(writer), dropped: lines.error_counter() };
    tracing_subscriber::registry().with(layer(config, lines)).try_init()?;
    mask_panics();
    Ok(log)
}

impl Log {
    /// Counts and says what is dropped. Has no end.
    pub fn watch(&self, metrics: LogMetrics) -> impl Future<Output = ()> + use<> {
        let dropped = self.dropped.clone();
        async move {
            let mut ticks = tokio::time::interval(WATCH_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut known = 0;
            loop {
                ticks.tick().await;
                let in_all = dropped.dropped_lines();
                let lines = in_all.saturating_sub(known);
                if lines > 0 {
                    known = in_all;
                    metrics.dropped.inc_by(lines as u64);
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

impl Drop for Log {
    fn drop(&mut self) {
        // The library says on standard output that nobody takes what is on standard output, and waits until that is taken.
        let (done, wait) = mpsc::channel();
        let writer = self.writer.take();
        std::thread::spawn(move || {
            drop(writer);
            // Nobody waits any more when this took too long.
            let _ = done.send(());
        });
        // What nobody takes until then is lost: the end of the process does not wait for it.
        let _ = wait.recv_timeout(END_PATIENCE);
    }
}

/// Writes what has gathered at once.
struct Gathering<W> {
    writer: W,
    lines: Vec<u8>,
}

impl<W> Gathering<W> {
    fn new(writer: W) -> Self {
        Self { writer, lines: Vec::new() }
    }
}

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        // Much is written as it comes: what waits in memory is bounded by the queue alone.
        if self.lines.len() >= 64 * 1024 {
            self.write_lines()?;
        }
        Ok(line.len())
    }

    /// The thread calls this when its queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.write_lines()?;
        std::thread::sleep(GATHER);
        Ok(())
    }
}

impl<W: Write> Gathering<W> {
    fn write_lines(&mut self) -> io::Result<()> {
        let written = self.writer.write_all(&self.lines).and_then(|()| self.writer.flush());
        // What could not be written is gone; nobody could be told.
        self.lines.clear();
        written
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

fn filtered<W, F>(config: &Logging, writer: W, filter: F) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
    F: Filter<Registry> + Send + Sync + 'static,
{
    // A request writes its line at its end itself. A closing span would look at the clock each time it is entered and left,
    // and cannot be silenced for those that are not to be logged.
    let base = fmt::layer().with_writer(Masking(writer)).with_target(true);
    let base = base.with_file(config.source_location).with_line_number(config.source_location);
    match config.format {
        Format::Json => base
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
        Format::Pretty => base.pretty().with_filter(filter).boxed(),
        Format::Compact => base.compact().with_ansi(false).with_filter(filter).boxed(),
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
