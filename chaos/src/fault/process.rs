//! Kill, stop, continue and end processes, and the proof that they changed.
//!
//! A process is its pid and its start time; both are verified before each signal, so a recycled pid is never hit. Where
//! the kernel has pidfds the check and the signal cannot be separated by a reuse of the pid. A tree is found by walking
//! `/proc` by parent: the children of Postgres are sessions of their own, which `kill(-pgid)` misses. Children whose
//! parent is already gone belong to init and cannot be found. Counts are of processes *seen* in their new state, not of
//! signals.
//!
//! Every call blocks its thread until the processes have changed: destructors need that, and async callers go through
//! `spawn_blocking`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const POLL: Duration = Duration::from_millis(2);
/// How long a signal may take to show in `/proc`.
const SETTLE: Duration = Duration::from_secs(10);

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessHandle {
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks from boot to the start of the process.
    pub start_ticks: u64,
}

/// Failure to find or signal a process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("find process {pid}: there is none")]
    Absent { pid: i32 },
    #[error(
        "signal process {pid}: it started at tick {found}, recorded was {recorded}, so it is another one"
    )]
    NotTheProcess { pid: i32, recorded: u64, found: u64 },
    #[error("signal process {pid} with {signal}")]
    Signal { pid: i32, signal: Signal, source: Errno },
    #[error("read /proc")]
    Proc { source: std::io::Error },
    #[error("see processes {pids:?} {wanted} within {} s", SETTLE.as_secs())]
    Unchanged { pids: Vec<i32>, wanted: &'static str },
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

impl Stat {
    fn ended(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn stopped(self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

impl ProcessHandle {
    /// The process that has this pid now.
    pub fn of(pid: i32) -> Result<Self, Error> {
        let stat = stat(pid)?.ok_or(Error::Absent { pid })?;
        Ok(ProcessHandle { pid, start_ticks: stat.start_ticks })
    }

    /// True while it runs or is stopped; a zombie is not alive, nor is another process with its pid.
    pub fn alive(&self) -> bool {
        matches!(self.stat(), Ok(Some(stat)) if !stat.ended())
    }

    /// Its living children, their children and so on, without itself.
    pub fn descendants(&self) -> Result<Vec<ProcessHandle>, Error> {
        let mut children: BTreeMap<i32, Vec<(i32, Stat)>> = BTreeMap::new();
        for entry in std::fs::read_dir("/proc").map_err(|source| Error::Proc { source })? {
            let entry = entry.map_err(|source| Error::Proc { source })?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(stat) = stat(pid)? {
                children.entry(stat.parent).or_default().push((pid, stat));
            }
        }
        let mut found = Vec::new();
        let mut parents = vec![self.pid];
        while let Some(parent) = parents.pop() {
            for (pid, stat) in children.remove(&parent).unwrap_or_default() {
                parents.push(pid);
                if !stat.ended() {
                    found.push(ProcessHandle { pid, start_ticks: stat.start_ticks });
                }
            }
        }
        Ok(found)
    }

    /// Ends the whole tree with SIGKILL and returns how many processes were seen to end; 0 if it was gone already.
    ///
    /// The tree is stopped first, so that nobody forks while it is being collected. One that cannot be stopped is killed
    /// nevertheless, and one that cannot be signalled does not save the others.
    pub fn kill_tree(&self) -> Result<u64, Error> {
        let tree = match self.freeze() {
            Err(Error::Unchanged { .. }) => self.tree()?.unwrap_or_default(),
            tree => tree?,
        };
        let sent: Vec<_> = tree.iter().map(|process| self.signal_member(*process, Signal::SIGKILL)).collect();
        sent.into_iter().collect::<Result<(), Error>>()?;
        settle(&tree, "end", Stat::ended)
    }

    /// Stops the whole tree with SIGSTOP and returns how many processes were seen stopped.
    pub fn stop_tree(&self) -> Result<u64, Error> {
        let tree = self.freeze()?;
        settle(&tree, "stop", |stat| stat.stopped() || stat.ended())?;
        Ok(tree.iter().filter(|process| process.is(Stat::stopped)).count() as u64)
    }

    /// Lets a stopped tree run again (SIGCONT), parents last, and returns how many stopped processes were seen to go on.
    pub fn continue_tree(&self) -> Result<u64, Error> {
        let Some(mut tree) = self.tree()? else { return Ok(0) };
        tree.reverse();
        let stopped: Vec<ProcessHandle> =
            tree.iter().copied().filter(|process| process.is(Stat::stopped)).collect();
        for process in &tree {
            self.signal_member(*process, Signal::SIGCONT)?;
        }
        settle(&stopped, "continue", |stat| !stat.stopped())
    }

    /// Asks the process (not its children) to end with SIGTERM; true if it was gone within `grace`.
    pub fn terminate(&self, grace: Duration) -> Result<bool, Error> {
        self.signal(Signal::SIGTERM)?;
        Ok(self.wait_gone(grace))
    }

    /// Waits until the process has ended; false if it has not within `deadline`.
    pub fn wait_gone(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        while self.alive() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// Sends a signal to this process alone. A process that has ended is passed over; another one with its pid is an error.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let failed = |source| Error::Signal { pid: self.pid, signal, source };
        let descriptor = match pidfd(self.pid) {
            Ok(descriptor) => Some(descriptor),
            Err(Errno::ESRCH) => return Ok(()),
            // Kernels before 5.3 and some sandboxes have none: then only the check of the start time protects.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => None,
            Err(source) => return Err(failed(source)),
        };
        let Some(stat) = self.stat()? else { return Ok(()) };
        if stat.ended() {
            return Ok(());
        }
        let sent = match descriptor {
            Some(descriptor) => send(&descriptor, signal),
            None => kill(Pid::from_raw(self.pid), signal),
        };
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(source) => Err(failed(source)),
        }
    }

    /// Signals a process of its tree. A descendant whose pid is another's by now has ended, and that is no error.
    fn signal_member(&self, member: ProcessHandle, signal: Signal) -> Result<(), Error> {
        match member.signal(signal) {
            Err(Error::NotTheProcess { .. }) if member != *self => Ok(()),
            sent => sent,
        }
    }

    /// Stops the tree until no unstopped process appears in it. Returns everything that was stopped, itself first.
    fn freeze(&self) -> Result<Vec<ProcessHandle>, Error> {
        let mut frozen = BTreeSet::new();
        let mut order = Vec::new();
        loop {
            let Some(tree) = self.tree()? else { return Ok(order) };
            let fresh: Vec<ProcessHandle> =
                tree.into_iter().filter(|process| frozen.insert(*process)).collect();
            if fresh.is_empty() {
                return Ok(order);
            }
            for process in &fresh {
                self.signal_member(*process, Signal::SIGSTOP)?;
            }
            settle(&fresh, "stop", |stat| stat.stopped() || stat.ended())?;
            order.extend(fresh);
        }
    }

    /// Itself and its descendants; nothing if it has ended.
    fn tree(&self) -> Result<Option<Vec<ProcessHandle>>, Error> {
        match self.stat()? {
            Some(stat) if !stat.ended() => {}
            _ => return Ok(None),
        }
        let mut tree = vec![*self];
        tree.extend(self.descendants()?);
        Ok(Some(tree))
    }

    /// Its state; `None` if it is gone, an error if its pid is another's.
    fn stat(&self) -> Result<Option<Stat>, Error> {
        match stat(self.pid)? {
            Some(stat) if stat.start_ticks != self.start_ticks => {
                let (recorded, found) = (self.start_ticks, stat.start_ticks);
                Err(Error::NotTheProcess { pid: self.pid, recorded, found })
            }
            stat => Ok(stat),
        }
    }

    fn is(&self, wanted: impl Fn(Stat) -> bool) -> bool {
        matches!(self.stat(), Ok(Some(stat)) if wanted(stat))
    }
}

/// Waits until every process is in the wanted state or gone; returns how many there were.
fn settle(
    processes: &[ProcessHandle],
    wanted: &'static str,
    reached: impl Fn(Stat) -> bool,
) -> Result<u64, Error> {
    let until = Instant::now() + SETTLE;
    let pending = |process: &&ProcessHandle| process.is(|stat| !reached(stat));
    loop {
        let pids: Vec<i32> = processes.iter().filter(pending).map(|process| process.pid).collect();
        if pids.is_empty() {
            return Ok(processes.len() as u64);
        }
        if Instant::now() >= until {
            return Err(Error::Unchanged { pids, wanted });
        }
        std::thread::sleep(POLL);
    }
}

/// Reads `/proc/PID/stat`; `None` if there is no such process.
fn stat(pid: i32) -> Result<Option<Stat>, Error> {
    let bytes = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        // The process ended between the open and the read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(source) => return Err(Error::Proc { source }),
    };
    let text = String::from_utf8_lossy(&bytes);
    parse(&text)
        .map(Some)
        .ok_or_else(|| Error::Proc { source: std::io::Error::other(format!("odd stat: {text}")) })
}

fn parse(text: &str) -> Option<Stat> {
    // The name may hold blanks and brackets: the fields begin after the last bracket.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn pidfd(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = i32::try_from(Errno::result(raw)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just returned this descriptor to us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn send(descriptor: &OwnedFd, signal: Signal) -> Result<(), Errno> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for the whole call, and a null siginfo is allowed (it then acts like kill).
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor.as_raw_fd(), signal as i32, none, 0) };
    Errno::result(sent).map(drop)
}

#[cfg(test)]
mod tests;
