//! The log: one line of JSON an event on stdout, unless the configuration asks for another form. Every line is masked.

use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::masking::{Masking, mask_panics};
use crate::config::logging::{Access, Format, Logging};

/// Installs the subscriber of this process, and has the words of panics masked.
///
/// # Errors
/// When there is one already; it stays.
pub fn init_logging(config: &Logging) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(layer(config, std::io::stdout)).try_init()?;
    mask_panics();
    Ok(())
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
    // Where not every request is logged, the one that is writes its line itself: a closing span cannot be silenced.
    let spans = if config.access == Access::All { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let base = fmt::layer().with_writer(Masking(writer)).with_target(true).with_span_events(spans);
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
