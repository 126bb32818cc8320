//! What the stand-ins took and refused, sampled like the series of the server: `webhook_taken`, `webhook_failed`,
//! `webhook_repeated` (calls whose message had come before), `webhook_repeated_peak_share` (of these, those of the busiest
//! tenth of a second), and so for `slack` and `email`.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::environment::stub::Stubs;
use crate::observe::Recorder;

const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Samples until `cancel`.
pub(super) fn spawn(recorder: Recorder, stubs: Stubs, cancel: CancellationToken) {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            for (name, stub) in &stubs {
                let (name, calls) = (name.as_str(), stub.calls());
                recorder.sample(&format!("{name}_taken"), calls.taken as f64);
                recorder.sample(&format!("{name}_failed"), calls.failed as f64);
                recorder.sample(&format!("{name}_repeated"), calls.repeated as f64);
                recorder.sample(&format!("{name}_repeated_peak_share"), calls.repeated_peak_share());
            }
        }
    });
}
