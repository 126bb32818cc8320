//! Ctrl-C and SIGTERM: the first asks every part of the run to end and clean up, the third ends the process at once.
//!
//! goose installs a handler of its own whose second Ctrl-C calls `exit`, which would skip every destructor. There can be
//! one handler in a process: this one is installed first, and goose's attempt then fails quietly.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_util::sync::CancellationToken;

/// Exit code after an interrupt that was not waited for, as shells give it.
const EXIT_INTERRUPTED: i32 = 130;

/// Installs the handler; the token is cancelled by the first signal.
pub fn install() -> CancellationToken {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let count = AtomicU32::new(0);
    let installed = ctrlc::set_handler(move || match count.fetch_add(1, Ordering::SeqCst) {
        0 => {
            eprintln!("harness: interrupted, ending the run and removing what it started");
            goose::trigger_killswitch("interrupted");
            token.cancel();
        }
        1 => eprintln!(
            "harness: still cleaning up; once more to leave everything behind (`harness gc` removes it)"
        ),
        _ => std::process::exit(EXIT_INTERRUPTED),
    });
    if let Err(error) = installed {
        eprintln!("harness: no signal handler ({error}): after Ctrl-C run `harness gc`");
    }
    cancel
}
