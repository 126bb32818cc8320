//! Tests that this machine may be unable to run: they show as ignored with the reason, never as passed, which the
//! standard harness cannot say. Command line and output are the standard harness's.
//!
//! A test is `async fn name() -> Ran`; a file names its tests in `trials![…]` and hands them to [`run`]. One that is not
//! named is dead code, which the lints refuse.

use std::fmt;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// `Ok`: it ran and everything held. A failure is a panic.
pub type Ran = Result<(), NotRun>;

/// Why this machine cannot run a test.
#[derive(Debug)]
pub struct NotRun(String);

impl NotRun {
    pub fn because(reason: impl Into<String>) -> Self {
        NotRun(reason.into())
    }
}

/// The reason on one line: the output is read by lines.
impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.replace('\n', " "))
    }
}

/// The tests of a file by the names of their functions.
macro_rules! trials {
    ($($name:ident),* $(,)?) => {
        vec![$($crate::trials::trial(stringify!($name), $name)),*]
    };
}

/// One test, on an async runtime of its own.
pub fn trial<F: Future<Output = Ran>>(name: &str, body: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(match runtime.block_on(body()) {
            Ok(()) => Completion::Completed,
            Err(not_run) => Completion::ignored_with(format!("not run: {not_run}")),
        })
    })
}

/// Runs the tests as the command line asks.
pub fn run(trials: Vec<Trial>) -> ExitCode {
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
