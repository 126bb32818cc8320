//! Figures of this process, by the names that Prometheus' own clients give them. What the system does not tell is
//! left out.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

use super::metrics::Page;

/// Ticks of a second in `/proc/self/stat`, the same on every Linux.
const TICKS: f64 = 100.0;

pub(super) fn write(page: &mut Page) {
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let seconds = seconds(usage.user_time()) + seconds(usage.system_time());
        page.single("process_cpu_seconds_total", "counter", "User and system time spent.", seconds);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.single("process_max_fds", "gauge", "Descriptors that may be open.", soft);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The one that lists them is among them.
        page.single(
            "process_open_fds",
            "gauge",
            "Descriptors that are open.",
            open.count().saturating_sub(1),
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let figures = [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory.", 1024),
        ("Threads:", "process_threads", "Threads.", 1),
        ("VmSize:", "process_virtual_memory_bytes", "Virtual memory.", 1024),
    ];
    for (key, name, help, unit) in figures {
        if let Some(value) = status_figure(&status, key) {
            page.single(name, "gauge", help, value.saturating_mul(unit));
        }
    }
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    if let Some(seconds) = start_seconds(&stat, &machine) {
        let help = "Start of the process in seconds since 1970.";
        page.single("process_start_time_seconds", "gauge", help, seconds);
    }
}

fn seconds(time: TimeVal) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "the processor time of one process is far below 2^52 s")]
    let (whole, part) = (time.tv_sec() as f64, time.tv_usec() as f64);
    whole + part / 1e6
}

fn status_figure(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// From the 22nd field of the process' `stat` and the machine's start.
fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    // The second field is a name that may contain spaces and brackets.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let booted: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_linux_writes() {
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t7\n";
        assert_eq!(status_figure(status, "VmRSS:"), Some(1024));
        assert_eq!(status_figure(status, "Threads:"), Some(7));
        assert_eq!(status_figure(status, "Missing:"), None);
        let stat = "12 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 250 1 1";
        assert_eq!(start_seconds(stat, "cpu 1\nbtime 1000\n"), Some(1002.5));
    }
}
