//! `harness doctor`: what this machine can do; one line each, nothing is started or changed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::environment::process::binaries::{Binaries, Search};
use crate::environment::process::fetch;
use crate::environment::{ServiceName, Settings, engine_report};

/// Say what this machine can do: engine, images, programs, privileges, faults, ports
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images, tags, commands and settings
    #[arg(long, value_name = "FILE", default_value = "harness.toml")]
    pub settings: PathBuf,
}

/// One line: what, `works`, `needs root` or `absent`, and a remark.
type Row = (String, &'static str, String);

/// Exit code 0 when at least one backend works, else 3.
pub async fn run(args: Args, _cancel: CancellationToken) -> anyhow::Result<u8> {
    let settings = Settings::load(&args.settings)?;
    let (container, mut rows) = container_rows(&settings).await;
    let (process, more) = process_rows();
    rows.extend(more);
    rows.extend(fault_rows());
    rows.push(port_row(&settings.proxy.api));
    for (what, state, remark) in rows {
        println!("{what:<28} {state:<11} {remark}");
    }
    Ok(if container || process { 0 } else { 3 })
}

async fn container_rows(settings: &Settings) -> (bool, Vec<Row>) {
    let wanted = ServiceName::ALL.map(|name| {
        let service = settings.of(name);
        vec![service.image.clone(), service.local.clone()]
    });
    let report = match engine_report(&wanted.concat()).await {
        Ok(report) => report,
        Err(reason) => return (false, vec![("container engine".into(), "absent", reason)]),
    };
    let mut rows = vec![("container engine".into(), "works", report.version)];
    let has = |image: &String| report.local.contains(image);
    for (image, is_local) in report.images {
        let (state, remark) =
            if is_local { ("works", "local") } else { ("absent", "not local; pulled when it can be") };
        rows.push((format!("image {image}"), state, remark.into()));
    }
    (wanted.iter().all(|names| names.iter().any(has)), rows)
}

fn process_rows() -> (bool, Vec<Row>) {
    let search = Search::of_this_machine();
    let fetched = fetch::unpacked(&search.cache);
    let mut rows: Vec<Row> = ["initdb", "redis-server", "nats-server"]
        .map(|name| match search.find(name) {
            Some(path) => (format!("program {name}"), "works", path.display().to_string()),
            None => (format!("program {name}"), "absent", "fetched at the first run, or install it".into()),
        })
        .into();
    let found = Binaries::find(&search, Some(&fetched));
    let fetchable = Path::new("/usr/bin/apt-get").exists();
    let (state, remark) = match &found {
        Ok(_) => ("works", "every program is here".to_owned()),
        Err(_) if fetchable => ("works", format!("will fetch packages into {}", search.cache.display())),
        Err(_) => ("absent", format!("install: {}", fetch::install_command())),
    };
    rows.push(("process backend".into(), state, remark));
    (found.is_ok() || fetchable, rows)
}

fn fault_rows() -> Vec<Row> {
    let is_root = nix::unistd::geteuid().is_root();
    let user = if is_root { "root; services run as an unprivileged user" } else { "ordinary user" };
    let cgroup = match (
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        Path::new("/sys/fs/cgroup/memory").exists(),
    ) {
        (true, _) => "version 2",
        (false, true) => "version 1",
        (false, false) => "none is mounted",
    };
    let needs_root = if is_root { "works" } else { "needs root" };
    let row = |what: &str, state, remark: &str| (what.to_owned(), state, remark.to_owned());
    vec![
        row("user", "works", user),
        row(
            "faults on links",
            "works",
            "latency, refuse, reset, blackhole, bandwidth: in the proxy, no privilege",
        ),
        row("faults on processes", "works", "kill, pause, restart of what the harness started"),
        row("faults by cgroup", if cgroup.starts_with("version") { needs_root } else { "absent" }, cgroup),
    ]
}

fn port_row(api: &str) -> Row {
    let what = "Toxiproxy API".to_owned();
    if api.is_empty() {
        return (what, "absent", "turned off in the settings".into());
    }
    match TcpListener::bind(api) {
        Ok(_) => (what, "works", format!("{api} is free")),
        Err(error) => (what, "absent", format!("{api}: {error}")),
    }
}
