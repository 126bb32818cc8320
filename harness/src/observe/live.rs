//! The live view: one line a second on a terminal, nothing otherwise.
//!
//! A line never wraps: it fits into 80 columns, and names of faults are cut where a narrower terminal ends. Nothing is
//! drawn over, so what else is said on stderr stays readable between the lines.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::recorder::{Live, Recorder};

/// Lines until the heading is repeated, so that it is on the screen.
const HEADING_EVERY: usize = 20;
/// Columns of a terminal that does not tell.
const WIDTH: usize = 80;

const RED: &str = "31";
const YELLOW: &str = "33";
const DIM: &str = "2";

/// Prints a line a second to stderr until `cancel`; `None` when stderr is not a terminal.
pub fn spawn(recorder: Recorder, cancel: CancellationToken) -> Option<JoinHandle<()>> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    Some(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        // A machine that was busy gets no burst of lines.
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut lines = 0;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            // Asked each time: terminals are resized.
            let width = width();
            let mut text = String::new();
            if lines % HEADING_EVERY == 0 {
                text += &format!("{}\n", heading(width));
            }
            lines += 1;
            text += &format!("{}\n", line(&recorder.live(), width));
            // A terminal that went away ends the view, not the run.
            if std::io::stderr().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }))
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(WIDTH)
}

/// What stands above the lines.
pub fn heading(width: usize) -> String {
    let text = row("time", "done", "target", ["p50 ms", "p95 ms", "p99 ms"]);
    let text = format!("{text}{:>7}{:>8}{:>6}  faults", "errors", "total", "MB");
    painted(DIM, &cut(&text, width))
}

/// The line for one moment of a run, at most `width` columns wide: time of the run, requests a second that were completed
/// and that the schedule wants, percentiles, errors of the last second and of the run, the server's anonymous memory, and
/// the faults that act.
pub fn line(live: &Live, width: usize) -> String {
    let seconds = live.at_ns / 1_000_000_000;
    let percentiles = [live.p50_ms, live.p95_ms, live.p99_ms].map(milliseconds);
    let rates = row(
        &format!("{}:{:02}", seconds / 60, seconds % 60),
        &live.achieved.to_string(),
        &format!("{:.0}", live.target_rate),
        percentiles.each_ref().map(String::as_str),
    );
    let errors = format!("{:>7}{:>8}", live.errors, live.errors_total);
    let memory = format!("{:>6}", live.memory_bytes.map_or("-".into(), megabytes));
    let faults = live.active_faults.join(", ");
    let columns = [&rates, &errors, &memory].map(|text| text.chars().count()).iter().sum::<usize>();
    if columns > width {
        // Too narrow for everything: colours would have to be cut as well.
        return cut(&format!("{rates}{errors}{memory}"), width);
    }
    let errors = if live.errors > 0 { painted(RED, &errors) } else { errors };
    if faults.is_empty() {
        return format!("{rates}{errors}{memory}");
    }
    let faults = cut(&format!("  {faults}"), width - columns);
    format!("{rates}{errors}{memory}{}", painted(YELLOW, &faults))
}

fn row(time: &str, done: &str, target: &str, percentiles: [&str; 3]) -> String {
    let [p50, p95, p99] = percentiles;
    format!("{time:>6} {done:>5}/{target:<6}{p50:>7}{p95:>7}{p99:>7}")
}

fn milliseconds(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(ms) if ms < 1_000.0 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.0}"),
    }
}

/// At most five characters up to 99 GB, so that the column stays apart from the one before.
fn megabytes(bytes: f64) -> String {
    let value = bytes / 1e6;
    if value < 999.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// The text, or as much of it as fits with a mark that something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept.extend((width > 0).then_some('…'));
    kept
}

fn painted(colour: &str, text: &str) -> String {
    format!("\u{1b}[{colour}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live {
            at_ns: 75_000_000_000,
            target_rate: 500.0,
            achieved: 498,
            p50_ms: Some(1.25),
            p95_ms: Some(4.0),
            p99_ms: None,
            errors: 0,
            errors_total: 9,
            active_faults: vec![],
            memory_bytes: Some(48_500_000.0),
        }
    }

    /// The text as a terminal shows it.
    fn plain(text: &str) -> String {
        let escape = regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("pattern");
        escape.replace_all(text, "").into_owned()
    }

    #[test]
    fn a_line_has_rates_percentiles_errors_memory_and_faults_below_their_headings() {
        let faults = Live { errors: 2, active_faults: vec!["redis-refused#1".into()], ..live() };
        let lines = [plain(&heading(80)), line(&live(), 80), plain(&line(&faults, 80))];
        let wanted = [
            "  time  done/target p50 ms p95 ms p99 ms errors   total    MB  faults",
            "  1:15   498/500       1.2    4.0      -      0       9  48.5",
            "  1:15   498/500       1.2    4.0      -      2       9  48.5  redis-refused#1",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let full = Live {
            at_ns: 7_199_000_000_000,
            target_rate: 10_000.0,
            achieved: 10_000,
            p50_ms: Some(4_999.9),
            p95_ms: Some(9_999.9),
            p99_ms: Some(30_000.0),
            errors: 10_000,
            errors_total: 9_999_999,
            active_faults: vec!["postgres-silent-in-flight#12".into(), "redis-refused#12".into()],
            memory_bytes: Some(1_234_500_000.0),
        };
        for width in [1, 20, 60, 63, 64, 80, 120] {
            let text = plain(&line(&full, width));
            assert!(text.chars().count() <= width, "{width}: {text}");
            assert!(plain(&heading(width)).chars().count() <= width);
        }
        assert!(plain(&line(&full, 120)).ends_with("postgres-silent-in-flight#12, redis-refused#12"));
        assert!(
            plain(&line(&full, 80)).ends_with(" 9999999  1234  postgres-silent-…"),
            "{}",
            plain(&line(&full, 80))
        );
    }

    #[test]
    fn errors_and_faults_are_coloured_and_nothing_else() {
        assert!(!line(&live(), 80).contains('\u{1b}'));
        let bad = Live { errors: 1, active_faults: vec!["f".into()], ..live() };
        assert_eq!(line(&bad, 80).matches("\u{1b}[").count(), 4);
    }
}
