//! The live view: one line a second on a terminal, nothing otherwise.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::recorder::{Live, Recorder};

/// Prints a line a second to stderr until `cancel`; `None` when stderr is not a terminal.
pub fn spawn(recorder: Recorder, cancel: CancellationToken) -> Option<JoinHandle<()>> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    Some(tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            let text = line(&recorder.live());
            // A terminal that went away ends the view, not the run.
            if writeln!(std::io::stderr(), "{text}").is_err() {
                return;
            }
        }
    }))
}

/// The line for one moment of a run.
pub fn line(live: &Live) -> String {
    let seconds = live.at_ns / 1_000_000_000;
    let ms = |value: Option<f64>| value.map_or("-".to_string(), |ms| format!("{ms:.1}"));
    let memory = live.memory_bytes.map_or("-".to_string(), |bytes| format!("{:.1} MB", bytes / 1e6));
    let faults = if live.active_faults.is_empty() {
        String::new()
    } else {
        format!("  fault {}", live.active_faults.join(", "))
    };
    format!(
        "{:>2}:{:02}  target {:>6.0}/s  done {:>6}/s  p50 {:>6} p95 {:>6} p99 {:>6} ms  errors {} ({})  memory {memory}{faults}",
        seconds / 60,
        seconds % 60,
        live.target_rate,
        live.achieved,
        ms(live.p50_ms),
        ms(live.p95_ms),
        ms(live.p99_ms),
        live.errors,
        live.errors_total,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_names_rates_percentiles_errors_faults_and_memory() {
        let live = Live {
            at_ns: 75_000_000_000,
            target_rate: 500.0,
            achieved: 498,
            p50_ms: Some(1.25),
            p95_ms: Some(4.0),
            p99_ms: None,
            errors: 2,
            errors_total: 9,
            active_faults: vec!["redis-refused#1".into()],
            memory_bytes: Some(48_500_000.0),
        };
        let wanted = " 1:15  target    500/s  done    498/s  p50    1.2 p95    4.0 p99      - ms  errors 2 (9)  memory 48.5 MB  fault redis-refused#1";
        assert_eq!(line(&live), wanted);
    }
}
