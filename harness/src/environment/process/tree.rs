//! Process trees by pid and start time. Postgres' children are sessions of their own, so a signal to a process group
//! misses them: the tree is read from /proc.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A process for good: a recycled pid has another start time (field 22 of /proc/PID/stat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    pub pid: i32,
    pub start_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(stat: &str) -> Option<Stat> {
    // The command, in parentheses, may itself contain blanks and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn state(handle: Handle) -> Option<char> {
    stat(handle.pid).filter(|stat| stat.start_ticks == handle.start_ticks).map(|stat| stat.state)
}

/// True while it exists and is not a zombie.
pub(crate) fn alive(handle: Handle) -> bool {
    state(handle).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The process and everything below it, parents first.
pub(crate) fn tree(root: Handle) -> Vec<Handle> {
    if !alive(root) {
        return Vec::new();
    }
    let all: Vec<(i32, Stat)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let children =
            all.iter().filter(|(_, stat)| stat.parent == parent.pid && !matches!(stat.state, 'Z' | 'X'));
        found.extend(children.map(|(pid, stat)| Handle { pid: *pid, start_ticks: stat.start_ticks }));
    }
    found
}

/// Signals one process if it is still the one that was recorded; true when the signal was sent.
pub(crate) fn signal(handle: Handle, signal: Signal) -> bool {
    alive(handle) && nix::sys::signal::kill(Pid::from_raw(handle.pid), signal).is_ok()
}

/// Freezes the tree, until nothing new appears in it. Returns how many processes are seen stopped.
pub(crate) fn stop_tree(root: Handle) -> u64 {
    let mut seen = Vec::new();
    loop {
        let fresh: Vec<Handle> = tree(root).into_iter().filter(|handle| !seen.contains(handle)).collect();
        if fresh.is_empty() {
            break;
        }
        for handle in &fresh {
            signal(*handle, Signal::SIGSTOP);
        }
        seen.extend(fresh);
    }
    count_within(&seen, |handle| state(handle) == Some('T'))
}

/// Ends a freeze, children first. Returns how many processes are seen running again.
pub(crate) fn continue_tree(root: Handle) -> u64 {
    let stopped: Vec<Handle> = tree(root).into_iter().filter(|handle| state(*handle) == Some('T')).collect();
    for handle in stopped.iter().rev() {
        signal(*handle, Signal::SIGCONT);
    }
    count_within(&stopped, |handle| state(handle) != Some('T'))
}

/// Kills the tree. It is frozen first, so that no child escapes to another parent between the look and the signal.
/// Returns how many processes are seen gone.
pub(crate) fn kill_tree(root: Handle) -> u64 {
    stop_tree(root);
    let members = tree(root);
    for handle in &members {
        signal(*handle, Signal::SIGKILL);
    }
    count_within(&members, |handle| !alive(handle))
}

/// Waits until none is alive; false when `within` is over first.
pub(crate) fn wait_gone(handles: &[Handle], within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while handles.iter().any(|handle| alive(*handle)) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

fn count_within(handles: &[Handle], holds: impl Fn(Handle) -> bool) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let count = handles.iter().filter(|handle| holds(**handle)).count();
        if count == handles.len() || Instant::now() > deadline {
            return count as u64;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_is_read() {
        let line = "42 (a b) c) S 7 42 42 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(parse(line), Some(Stat { state: 'S', parent: 7, start_ticks: 12345 }));
    }

    #[test]
    fn a_recycled_pid_is_not_the_process_that_was_recorded() {
        let pid = std::process::id() as i32;
        let own = stat(pid).expect("own entry").start_ticks;
        assert!(alive(Handle { pid, start_ticks: own }));
        assert!(!alive(Handle { pid, start_ticks: own + 1 }));
        assert!(!signal(Handle { pid, start_ticks: own + 1 }, Signal::SIGKILL));
    }

    #[test]
    fn a_tree_is_frozen_continued_and_killed_with_its_children() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & setsid sleep 60 & wait"])
            .spawn()
            .expect("sh");
        let pid = shell.id() as i32;
        let root = Handle { pid, start_ticks: stat(pid).expect("started").start_ticks };
        let deadline = Instant::now() + Duration::from_secs(5);
        while tree(root).len() < 3 {
            assert!(Instant::now() < deadline, "the shell has only {:?}", tree(root));
            std::thread::sleep(Duration::from_millis(2));
        }
        let members = tree(root);
        assert_eq!(stop_tree(root), members.len() as u64);
        assert_eq!(continue_tree(root), members.len() as u64);
        assert_eq!(kill_tree(root), members.len() as u64);
        shell.wait().expect("reap the shell");
        assert!(wait_gone(&members, Duration::from_secs(5)));
    }
}
