//! Figures of one process, from `/proc`: private memory, descriptors, threads, processor time.

use std::path::Path;

/// A sample of one process.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sample {
    /// `Anonymous` of `smaps_rollup`: heap and stacks, without file pages.
    pub anonymous_bytes: u64,
    pub rss_bytes: u64,
    pub fds: u64,
    pub threads: u64,
    /// User and system time since the process started.
    pub cpu_seconds: f64,
}

/// Samples a process; `None` when it is gone or belongs to somebody else.
pub fn sample(pid: i32) -> Option<Sample> {
    let folder = format!("/proc/{pid}");
    let folder = Path::new(&folder);
    let rollup = std::fs::read_to_string(folder.join("smaps_rollup")).ok()?;
    let kilobytes = |name: &str| {
        rollup.lines().find_map(|line| {
            line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1_024)
        })
    };
    let stat = Stat::read(pid)?;
    Some(Sample {
        anonymous_bytes: kilobytes("Anonymous:")?,
        rss_bytes: kilobytes("Rss:")?,
        fds: std::fs::read_dir(folder.join("fd")).ok()?.count() as u64,
        threads: stat.threads,
        cpu_seconds: stat.own_ticks as f64 / ticks_per_second(),
    })
}

/// What `/proc/PID/stat` says of parentage and processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub parent: i32,
    pub threads: u64,
    /// User and system time of the process itself, in clock ticks.
    pub own_ticks: u64,
    /// The same of its children that ended and were waited for.
    pub waited_ticks: u64,
}

impl Stat {
    pub fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The command in parentheses may contain blanks and parentheses itself.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            own_ticks: number(14)? + number(15)?,
            waited_ticks: number(16)? + number(17)?,
            threads: number(20)?,
        })
    }
}

/// Processor time of processes and all their descendants, in seconds, ended and waited-for children included.
pub fn tree_cpu_seconds(roots: &[i32]) -> f64 {
    let stats: Vec<(i32, Stat)> = pids().filter_map(|pid| Some((pid, Stat::read(pid)?))).collect();
    let mut members: Vec<i32> = roots.to_vec();
    let mut next = 0;
    while let Some(&parent) = members.get(next) {
        let children = stats.iter().filter(|(pid, stat)| stat.parent == parent && !roots.contains(pid));
        members.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    let ticks: u64 = stats
        .iter()
        .filter(|(pid, _)| members.contains(pid))
        .map(|(_, stat)| stat.own_ticks + stat.waited_ticks)
        .sum();
    ticks as f64 / ticks_per_second()
}

/// Processor time of the harness itself, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let stat = Stat::read(std::process::id() as i32);
    stat.map_or(0.0, |stat| stat.own_ticks as f64 / ticks_per_second())
}

/// Processes whose command line, as its words, `wanted` accepts; those of other users are seen as far as `/proc` shows
/// them.
pub fn with_command(wanted: impl Fn(&[&str]) -> bool) -> Vec<i32> {
    pids()
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).collect();
            wanted(&words)
        })
        .collect()
}

/// Processor time of a machine, in seconds of one processor, from the first line of `/proc/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineTime {
    /// Everything but idle, waiting for disks, and what was stolen.
    pub busy_seconds: f64,
    /// Time in which something wanted to run and the host of this virtual machine ran something else.
    pub stolen_seconds: f64,
}

/// Reads the processor time of the whole machine; `None` where `/proc/stat` is not readable.
pub fn machine_time() -> Option<MachineTime> {
    let (busy, stolen) = parse_machine(&std::fs::read_to_string("/proc/stat").ok()?)?;
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second();
    Some(MachineTime { busy_seconds: seconds(busy), stolen_seconds: seconds(stolen) })
}

/// Busy and stolen ticks.
fn parse_machine(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .filter_map(|f| f.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guest time is part of user time.
    let field = |i: usize| fields.get(i).copied().unwrap_or(0);
    let busy = [0, 1, 2, 5, 6].into_iter().map(field).sum();
    (fields.len() >= 4).then_some((busy, field(7)))
}

/// Processors that the harness may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn ticks_per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |ticks| ticks as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_memory_descriptors_and_threads() {
        let sample = sample(std::process::id() as i32).expect("own process");
        assert!(sample.anonymous_bytes > 0 && sample.rss_bytes >= sample.anonymous_bytes);
        assert!(sample.fds >= 3 && sample.threads >= 1);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_sample() {
        assert_eq!(sample(-1), None);
    }

    #[test]
    fn stat_with_a_command_full_of_parentheses_is_read() {
        let line = "7 (a) b) (c) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 7 3 20 0 9 0 100 1 1";
        let wanted = Stat { parent: 3, threads: 9, own_ticks: 200, waited_ticks: 10 };
        assert_eq!(Stat::parse(line), Some(wanted));
    }

    #[test]
    fn machine_time_leaves_out_idle_and_disk_wait_and_tells_stolen_time_apart() {
        assert_eq!(parse_machine("cpu  10 1 5 1000 200 2 3 4 9 9\ncpu0 1\n"), Some((21, 4)));
        assert_eq!(parse_machine("cpu  10 1 5 1000"), Some((16, 0)));
        assert_eq!(parse_machine("intr 1"), None);
    }

    #[test]
    fn a_process_is_found_by_the_words_of_its_command() {
        let own = std::process::id() as i32;
        let name = std::env::args().next().expect("own name");
        assert!(with_command(|words| words.first() == Some(&name.as_str())).contains(&own));
        assert!(!with_command(|words| words.first() == Some(&"no such command")).contains(&own));
    }

    #[test]
    fn a_tree_includes_its_children() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("spawn sleep");
        let own = std::process::id() as i32;
        let listed = pids().filter_map(Stat::read).filter(|stat| stat.parent == own).count();
        let tree = tree_cpu_seconds(&[own]);
        child.kill().expect("kill the child");
        child.wait().expect("reap the child");
        assert!(listed >= 1);
        assert!(tree >= 0.0 && tree.is_finite());
    }
}
