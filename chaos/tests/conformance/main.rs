//! Conformance to Toxiproxy's API and behaviour, black box over HTTP and TCP.
//!
//! Every case runs against our server in this process and against the stand-alone binary, each time a fresh one on a
//! port of its own. With `CHAOS_CONFORMANCE_SERVER=HOST:PORT` the cases run against that server instead, one after the
//! other (it is emptied between them; start it with its metrics on), and those about our deliberate differences are
//! reported as not run.

mod case;
mod differences;
mod http;
mod json;
mod life;
mod metrics;
mod populate;
mod proxies;
mod safety;
mod server;
mod tcp;
mod timing;
mod token;
mod toxics;
mod traffic;
mod transport;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use case::Case;
use server::{Mode, Server};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let modes = match foreign_server() {
        Some(address) => {
            arguments.test_threads = Some(1);
            vec![Mode::Foreign(address)]
        }
        None => vec![Mode::InProcess, Mode::StandAlone],
    };
    // Most cases wait for something, so there may be more of them than processors.
    arguments.test_threads.get_or_insert(12);
    // While a process is being started it holds every port that is open here, and a server of ours could not open
    // one again that it has just closed. So those in this process come first, except for what only waits.
    let apart = |mode: &Mode, case: &Case| matches!(mode, Mode::InProcess) && case.name != transport::LONGEST;
    let all = modes.iter().flat_map(|mode| cases().into_iter().map(move |case| (mode.clone(), case)));
    let (first, second): (Vec<_>, Vec<_>) = all.partition(|(mode, case)| apart(mode, case));
    let run = |part: Vec<(Mode, Case)>| {
        let trials = part.into_iter().map(|(mode, case)| trial(mode, case)).collect();
        libtest_mimic::run(&arguments, trials)
    };
    let conclusions = [first, second].map(run);
    let failed = conclusions.iter().any(|conclusion| conclusion.has_failed());
    if failed { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

fn cases() -> Vec<Case> {
    [
        transport::cases(),
        json::cases(),
        proxies::cases(),
        life::cases(),
        populate::cases(),
        toxics::cases(),
        traffic::cases(),
        timing::cases(),
        metrics::cases(),
        token::cases(),
        differences::cases(),
        safety::cases(),
    ]
    .concat()
}

fn trial(mode: Mode, case: Case) -> Trial {
    let not_run = case.ours && matches!(mode, Mode::Foreign(_));
    let name = format!("{}::{}", case.area, case.name);
    let kind = mode.name();
    let test = move || {
        let server = Server::start(&mode, &case.setup);
        (case.run)(&server);
        Ok(())
    };
    Trial::test(name, test).with_kind(kind).with_ignored_flag(not_run)
}

fn foreign_server() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the only configuration of the suite")]
    std::env::var("CHAOS_CONFORMANCE_SERVER").ok()
}
