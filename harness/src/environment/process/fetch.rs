//! Fetches Debian packages of the servers into a cache folder, without root and without installing anything.
//!
//! `apt-get -s install` names the closure of what this machine lacks, `apt-get download` brings it, `dpkg -x` unpacks
//! it. The servers' own packages count as lacking even where they are installed: whoever asks has not found their
//! programs. Where package lists are missing or stale, own ones are made below the cache. A lock file lets one fetch run at
//! a time; the result appears with one rename, so that a reader sees all of it or nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use tokio::process::Command;

/// Folder that packages are unpacked into.
pub fn unpacked(cache: &Path) -> PathBuf {
    cache.join("debian")
}

/// Package that carries a program.
pub fn packages_of(programs: &[String]) -> Vec<&'static str> {
    let mut packages: Vec<&'static str> = programs
        .iter()
        .filter_map(|program| match program.as_str() {
            "initdb" | "postgres" => Some("postgresql"),
            "redis-server" => Some("redis-server"),
            "nats-server" => Some("nats-server"),
            _ => None,
        })
        .collect();
    packages.dedup();
    packages
}

/// The command that installs what the process backend needs, for the system at hand.
pub fn install_command() -> &'static str {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    install_command_for(&text, std::env::consts::OS)
}

fn install_command_for(os_release: &str, os: &str) -> &'static str {
    let ids: Vec<&str> = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split(' '))
        .collect();
    let is = |names: &[&str]| ids.iter().any(|id| names.contains(id));
    if is(&["debian", "ubuntu"]) {
        "apt-get install --no-install-recommends postgresql redis-server nats-server"
    } else if is(&["fedora", "rhel", "centos"]) {
        "dnf install postgresql-server redis nats-server"
    } else if is(&["alpine"]) {
        "apk add postgresql redis nats-server"
    } else if is(&["arch"]) {
        "pacman -S postgresql redis nats-server"
    } else if is(&["suse", "opensuse"]) {
        "zypper install postgresql-server redis nats-server"
    } else if os == "macos" {
        "brew install postgresql redis nats-server"
    } else {
        "postgresql, redis and nats-server with this system's package manager"
    }
}

/// Package names of an `apt-get -s install` answer: its `Inst` lines, in order.
pub fn closure(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Brings `packages` and all they need into `cache`. Waits while another process does the same and then uses its work.
pub async fn fetch(cache: &Path, packages: &[&str]) -> anyhow::Result<()> {
    ensure!(!packages.is_empty(), "no package is known for what is missing");
    for tool in ["apt-get", "dpkg"] {
        ensure!(works(tool).await, "{tool} is not here: fetching works on Debian and Ubuntu only");
    }
    make_public(cache)?;
    let _lock = lock(cache).await?;
    let done = unpacked(cache).join("packages.txt");
    let present = std::fs::read_to_string(&done).unwrap_or_default();
    let wanted: Vec<&str> =
        packages.iter().copied().filter(|name| !present.lines().any(|line| line == *name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let all: Vec<&str> = present.lines().chain(wanted).collect();
    let work = cache.join(format!("work-{}", std::process::id()));
    let result = fetch_into(cache, &work, &all).await;
    if let Err(error) = std::fs::remove_dir_all(&work)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("{} stays behind: {error}", work.display());
    }
    result
}

async fn fetch_into(cache: &Path, work: &Path, packages: &[&str]) -> anyhow::Result<()> {
    say(&format!(
        "fetching {} into {} (no root, nothing is installed)",
        packages.join(", "),
        cache.display()
    ));
    let debs = work.join("debs");
    std::fs::create_dir_all(&debs).with_context(|| format!("make {}", debs.display()))?;
    let status = own_status(work)?;
    if let Err(error) = download(&status, &debs, packages).await {
        say(&format!("this machine's package lists do not do ({error:#}); making own ones"));
        let own = [own_lists(cache)?, status].concat();
        apt(&own, &["update"], &debs).await.context("update own package lists")?;
        download(&own, &debs, packages).await?;
    }
    let root = work.join("root");
    make_public(&root)?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&debs)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .collect();
    files.sort();
    say(&format!("unpacking {} packages", files.len()));
    for file in &files {
        run(Command::new("dpkg").arg("-x").arg(file).arg(&root)).await?;
    }
    // `dpkg -x` gives the root the mode of the package's own root.
    make_public(&root)?;
    std::fs::write(root.join("packages.txt"), packages.join("\n") + "\n")?;
    let target = unpacked(cache);
    if target.exists() {
        std::fs::rename(&target, work.join("old")).context("put the older packages aside")?;
    }
    std::fs::rename(&root, &target).with_context(|| format!("move to {}", target.display()))
}

async fn download(options: &[String], debs: &Path, packages: &[&str]) -> anyhow::Result<()> {
    let mut simulate = vec!["-s", "install", "--no-install-recommends"];
    simulate.extend(packages);
    let names = closure(&apt(options, &simulate, debs).await?);
    ensure!(!names.is_empty(), "apt-get would install nothing for {}", packages.join(", "));
    say(&format!("downloading {} packages", names.len()));
    let mut words = vec!["download"];
    words.extend(names.iter().map(String::as_str));
    apt(options, &words, debs).await?;
    Ok(())
}

async fn apt(options: &[String], words: &[&str], folder: &Path) -> anyhow::Result<String> {
    run(Command::new("apt-get").args(options).arg("-q").args(words).current_dir(folder)).await
}

/// Options for lists of our own below the cache.
fn own_lists(cache: &Path) -> anyhow::Result<Vec<String>> {
    let lists = cache.join("lists");
    let archives = cache.join("apt");
    for folder in [lists.join("partial"), archives.join("archives/partial")] {
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut options = Vec::new();
    for value in [
        format!("Dir::State::lists={}", lists.display()),
        format!("Dir::Cache={}", archives.display()),
        "Debug::NoLocking=1".to_owned(),
    ] {
        options.extend(["-o".to_owned(), value]);
    }
    Ok(options)
}

/// Options that let apt see this machine's installed packages without the servers among them.
fn own_status(work: &Path) -> anyhow::Result<Vec<String>> {
    let installed = Path::new("/var/lib/dpkg/status");
    let text = std::fs::read_to_string(installed).with_context(|| format!("read {}", installed.display()))?;
    let status = work.join("status");
    std::fs::write(&status, without_servers(&text)).with_context(|| format!("write {}", status.display()))?;
    Ok(vec!["-o".to_owned(), format!("Dir::State::status={}", status.display())])
}

/// A dpkg status file (stanzas with an empty line between) without the packages that bring the servers.
fn without_servers(status: &str) -> String {
    let brings_a_server = |stanza: &str| {
        let name = stanza.lines().find_map(|line| line.strip_prefix("Package: ")).unwrap_or_default();
        ["postgresql", "redis", "nats-server"].iter().any(|server| name.starts_with(server))
    };
    let mut kept = String::with_capacity(status.len());
    for stanza in status.split("\n\n").filter(|stanza| !stanza.trim().is_empty() && !brings_a_server(stanza))
    {
        kept.push_str(stanza.trim_matches('\n'));
        kept.push_str("\n\n");
    }
    kept
}

async fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("run {:?}", command.as_std().get_program()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let words: Vec<_> = command.as_std().get_args().map(|word| word.to_string_lossy()).take(6).collect();
        let program = command.as_std().get_program().to_string_lossy();
        bail!("{program} {}: {}", words.join(" "), text.lines().last().unwrap_or("no message"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn works(tool: &str) -> bool {
    run(Command::new(tool).arg("--version")).await.is_ok()
}

/// A folder that other users can enter, since services may run as another user than the one who fetched.
fn make_public(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("open {} to others", folder.display()))
}

async fn lock(cache: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path = cache.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("open {}", path.display()))?;
    tokio::task::spawn_blocking(move || {
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)
    })
    .await?
    .with_context(|| format!("lock {}", path.display()))
}

fn say(line: &str) {
    tracing::info!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closure_is_the_inst_lines_in_order() {
        let answer = "Reading package lists...\nThe following NEW packages will be installed:\n  libpq5 redis-server\n\
            Inst libjemalloc2 (5.3.0-1 Debian:12.11/oldstable [amd64])\n\
            Inst postgresql-15 [15.18-0+deb12u1] (15.20-0+deb12u1 Debian-Security:12 [amd64]) []\n\
            Conf libjemalloc2 (5.3.0-1 Debian:12.11/oldstable [amd64])\nRemv gone [1]\n";
        assert_eq!(closure(answer), ["libjemalloc2", "postgresql-15"]);
        assert!(closure("Reading package lists...\n0 upgraded, 0 newly installed\n").is_empty());
    }

    #[test]
    fn installed_servers_are_hidden_and_all_else_is_kept() {
        let status = "Package: libpq5\nStatus: install ok installed\n\nPackage: postgresql-15\nStatus: install ok \
            installed\nDepends: libpq5\n\nPackage: redis-tools\n\nPackage: libc6\nDescription: C library\n more\n\n";
        let kept = without_servers(status);
        assert_eq!(
            kept,
            "Package: libpq5\nStatus: install ok installed\n\nPackage: libc6\nDescription: C library\n more\n\n"
        );
        assert_eq!(without_servers(&kept), kept);
        assert_eq!(without_servers(""), "");
    }

    #[test]
    fn each_system_gets_its_own_install_command() {
        let debian = install_command_for("NAME=\"Debian\"\nID=debian\n", "linux");
        assert!(debian.starts_with("apt-get install"), "{debian}");
        let derived = install_command_for("ID=pop\nID_LIKE=\"ubuntu debian\"\n", "linux");
        assert_eq!(derived, debian);
        assert!(install_command_for("ID=\"fedora\"\n", "linux").starts_with("dnf"));
        assert!(install_command_for("", "macos").starts_with("brew"));
    }

    #[test]
    fn missing_programs_name_each_package_once() {
        let missing = ["initdb", "postgres", "nats-server"].map(str::to_owned);
        assert_eq!(packages_of(&missing), ["postgresql", "nats-server"]);
    }
}
