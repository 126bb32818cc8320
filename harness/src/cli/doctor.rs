//! `harness doctor`: what this machine can do; one line each, nothing is started or changed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::environment::process::account;
use crate::environment::process::binaries::{Binaries, Search};
use crate::environment::process::fetch;
use crate::environment::{ServiceName, Settings, engine_report, server_source};

/// Say what this machine can do: engine, images, programs, server, user, faults, ports
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images, tags, commands and settings
    #[arg(long, value_name = "FILE", default_value = "harness.toml")]
    pub settings: PathBuf,
}

/// One line: what, in which state, and a remark.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    what: String,
    state: State,
    remark: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Works,
    /// Nobody knows before it is tried: a pull, a fetch, a server of the user's own.
    Untried,
    Absent,
}

impl Row {
    fn new(what: impl Into<String>, state: State, remark: impl Into<String>) -> Row {
        Row { what: what.into(), state, remark: remark.into() }
    }

    fn line(&self) -> String {
        let state = match self.state {
            State::Works => "works",
            State::Untried => "untried",
            State::Absent => "absent",
        };
        format!("{:<22} {state:<8} {}", self.what, self.remark)
    }
}

/// Exit code 0 when at least one backend works or can be tried, else 3.
pub async fn run(args: Args, _cancel: CancellationToken) -> anyhow::Result<u8> {
    let settings = Settings::load(&args.settings)?;
    let container = container_rows(&settings).await;
    let process = process_rows();
    let external = external_row(|name| std::env::var_os(name).is_some());
    let backends = [container.last(), process.last(), Some(&external)];
    let possible = backends.into_iter().flatten().any(|row| row.state != State::Absent);
    let faults = fault_rows();
    let port = port_row(&settings.proxy.api);
    let (server, user) = (server_row(), user_row());
    let all = container.iter().chain(&process).chain([&external, &server, &user]).chain(&faults);
    for row in all.chain([&port]) {
        println!("{}", row.line());
    }
    Ok(if possible { 0 } else { 3 })
}

/// The engine, an image for each service, and last whether the backend works.
async fn container_rows(settings: &Settings) -> Vec<Row> {
    let of = |name| settings.of(name);
    let wanted = ServiceName::ALL.map(|name| vec![of(name).image.clone(), of(name).local.clone()]);
    let report = match engine_report(&wanted.concat()).await {
        Ok(report) => report,
        Err(reason) => {
            return vec![
                Row::new("container engine", State::Absent, reason),
                Row::new("container backend", State::Absent, "needs an engine"),
            ];
        }
    };
    let images: BTreeMap<ServiceName, Row> = ServiceName::ALL
        .map(|name| {
            let has = |image: &String| report.local.contains(image);
            (name, image_row(name, &of(name).image, &of(name).local, has))
        })
        .into();
    let missing: Vec<&str> =
        images.iter().filter(|(_, row)| row.state != State::Works).map(|(name, _)| name.as_str()).collect();
    let backend = if missing.is_empty() {
        Row::new("container backend", State::Works, "an image of every service is here")
    } else {
        let remark = format!("the first run pulls {}; or ci/images/build.sh", missing.join(", "));
        Row::new("container backend", State::Untried, remark)
    };
    let engine = Row::new("container engine", State::Works, report.version);
    std::iter::once(engine).chain(images.into_values()).chain([backend]).collect()
}

/// A run takes `image` when it is here or can be pulled, else `local`.
fn image_row(name: ServiceName, image: &String, local: &String, has: impl Fn(&String) -> bool) -> Row {
    let what = format!("image of {name}");
    if has(image) {
        Row::new(what, State::Works, image.as_str())
    } else if has(local) {
        Row::new(what, State::Works, format!("{local}, unless {image} can be pulled"))
    } else {
        Row::new(what, State::Untried, format!("{image} has to be pulled"))
    }
}

/// Each program, and last whether the backend works.
fn process_rows() -> Vec<Row> {
    let search = Search::of_this_machine();
    let backend = |state, remark: String| Row::new("process backend", state, remark);
    // As a run does: the system's programs first, then what was fetched earlier.
    if let Ok(found) = Binaries::find(&search, Some(&fetch::unpacked(&search.cache))) {
        let programs = [("initdb", found.initdb), ("redis-server", found.redis), ("nats-server", found.nats)];
        let rows = programs.map(|(name, path)| {
            Row::new(format!("program {name}"), State::Works, path.display().to_string())
        });
        return rows.into_iter().chain([backend(State::Works, "every program is here".into())]).collect();
    }
    let fetchable = Path::new("/usr/bin/apt-get").exists();
    let rows = ["initdb", "redis-server", "nats-server"].map(|name| match search.find(name) {
        Some(path) => Row::new(format!("program {name}"), State::Works, path.display().to_string()),
        None => Row::new(format!("program {name}"), State::Absent, ""),
    });
    let backend = if fetchable {
        backend(State::Untried, format!("the first run fetches packages into {}", search.cache.display()))
    } else {
        backend(State::Absent, format!("install: {}", fetch::install_command()))
    };
    rows.into_iter().chain([backend]).collect()
}

fn external_row(is_set: impl Fn(&str) -> bool) -> Row {
    let missing: Vec<&str> =
        ["DATABASE_URL", "REDIS_URL", "NATS_URL"].into_iter().filter(|name| !is_set(name)).collect();
    if missing.is_empty() {
        let remark = "DATABASE_URL, REDIS_URL and NATS_URL are set; no faults on their processes";
        return Row::new("external backend", State::Untried, remark);
    }
    let remark = format!("for servers of your own, set {}", missing.join(", "));
    Row::new("external backend", State::Absent, remark)
}

fn server_row() -> Row {
    match server_source() {
        Ok(source) => Row::new("fraiseql-server", State::Works, source),
        Err(error) => Row::new("fraiseql-server", State::Absent, error.to_string()),
    }
}

fn user_row() -> Row {
    match account::unprivileged() {
        Ok(None) => Row::new("user", State::Works, "ordinary; services run as it"),
        Ok(Some(account)) => {
            Row::new("user", State::Works, format!("root; services run as `{}`", account.name))
        }
        Err(error) => Row::new("user", State::Absent, format!("{error:#}")),
    }
}

fn fault_rows() -> [Row; 3] {
    let links = "latency, refuse, reset, blackhole, bandwidth: in the proxy, no privilege";
    let messages =
        "pg, redis, nats: replies dropped, errors, delays, resets; in the proxy, where nothing is encrypted";
    let processes = "kill, pause, terminate: of what the harness started";
    [
        Row::new("faults on links", State::Works, links),
        Row::new("faults on messages", State::Works, messages),
        Row::new("faults on processes", State::Works, processes),
    ]
}

fn port_row(api: &str) -> Row {
    if api.is_empty() {
        return Row::new("Toxiproxy API", State::Absent, "turned off in the settings");
    }
    match TcpListener::bind(api) {
        Ok(_) => Row::new("Toxiproxy API", State::Works, format!("{api} is free")),
        Err(error) => Row::new("Toxiproxy API", State::Absent, format!("{api}: {error}; runs go without it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_image_does_and_a_missing_one_is_untried() {
        let (image, local) = ("redis:8".to_owned(), "own/redis:7".to_owned());
        let row = |here: &str| image_row(ServiceName::Redis, &image, &local, |name| name == here);
        assert_eq!((row("redis:8").state, row("redis:8").remark.as_str()), (State::Works, "redis:8"));
        assert_eq!(row("own/redis:7").state, State::Works);
        assert_eq!(row("").state, State::Untried);
    }

    #[test]
    fn the_external_backend_names_the_variables_that_it_lacks() {
        assert_eq!(external_row(|_| true).state, State::Untried);
        let row = external_row(|name| name == "REDIS_URL");
        assert_eq!(row.state, State::Absent);
        assert!(row.remark.ends_with("DATABASE_URL, NATS_URL"), "{}", row.remark);
    }
}
