//! Memory that becomes scarce: the limit of a running process' data is set so that it uses a given share of it.
//!
//! Promises: the process is the one that is meant, by pid and start time, before and after the limit was set; the limit that
//! it had comes back when the pressure is released. `RLIMIT_DATA` is enforced by the kernel (since 4.7 for private
//! writable mappings): a process that goes on growing fails to get memory.

use nix::errno::Errno;

use super::process::{self, ProcessHandle};

/// Failure to set a limit.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("read how much memory process {pid} uses")]
    Read { pid: i32, source: std::io::Error },
    #[error("a share of {percent} % is none of 1 to 100")]
    Share { percent: u32 },
    #[error("set RLIMIT_DATA of process {pid}")]
    Limit { pid: i32, source: Errno },
}

/// A process that uses a given share of what it may.
#[derive(Debug)]
pub struct Pressure {
    process: ProcessHandle,
    before: libc::rlimit,
    /// What it used then, in bytes.
    pub used: u64,
    /// What it may use now, in bytes.
    pub limit: u64,
}

impl Pressure {
    /// Sets the process' limit so that what it uses now is `percent` of it, 1 to 100.
    ///
    /// # Errors
    /// When there is no such process any more, or its limit cannot be set (it is another user's).
    pub fn on(process: ProcessHandle, percent: u32) -> Result<Self, Error> {
        if !(1..=100).contains(&percent) {
            return Err(Error::Share { percent });
        }
        verify(process)?;
        let used = data_bytes(process.pid)?;
        let limit = used.saturating_mul(100) / u64::from(percent);
        let before = prlimit(process.pid, None)?;
        // The hard limit stays: it cannot be raised again without privileges.
        let soft = limit.min(before.rlim_max);
        prlimit(process.pid, Some(libc::rlimit { rlim_cur: soft, rlim_max: before.rlim_max }))?;
        let pressure = Self { process, before, used, limit: soft };
        // Had the pid become another's between the two, it would have got the limit: then it is taken back.
        if let Err(error) = verify(process) {
            let _ = prlimit(process.pid, Some(before));
            return Err(error);
        }
        Ok(pressure)
    }

    /// Gives the process the limit back that it had; nothing when it has ended.
    ///
    /// # Errors
    /// When the limit cannot be set.
    pub fn release(self) -> Result<(), Error> {
        if !self.process.alive() {
            return Ok(());
        }
        prlimit(self.process.pid, Some(self.before)).map(drop)
    }
}

fn verify(process: ProcessHandle) -> Result<(), Error> {
    let now = ProcessHandle::of(process.pid)?;
    let (pid, recorded, found) = (process.pid, process.start_ticks, now.start_ticks);
    if found == recorded {
        Ok(())
    } else {
        Err(process::Error::NotTheProcess { pid, recorded, found }.into())
    }
}

/// `VmData` of a process in bytes: what counts against `RLIMIT_DATA`.
fn data_bytes(pid: i32) -> Result<u64, Error> {
    let read = |source| Error::Read { pid, source };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).map_err(read)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| read(std::io::Error::other("no VmData in it")))
}

/// Reads the limit, and sets a new one where there is one.
fn prlimit(pid: i32, new: Option<libc::rlimit>) -> Result<libc::rlimit, Error> {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new: *const libc::rlimit = new.as_ref().map_or(std::ptr::null(), |new| new);
    // SAFETY: both pointers are null or point to an rlimit of ours that lives for the whole call.
    let done = unsafe { libc::prlimit(pid, libc::RLIMIT_DATA, new, &raw mut old) };
    Errno::result(done).map_err(|source| Error::Limit { pid, source })?;
    Ok(old)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Ended with the test.
    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn limits(pid: i32) -> String {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        limits.lines().find(|line| line.starts_with("Max data size")).expect("the limit of data").to_owned()
    }

    #[test]
    fn a_process_uses_the_share_and_has_its_own_limit_again_after() {
        let sleeper = Sleeper(Command::new("sleep").arg("60").spawn().expect("sleep"));
        let process = ProcessHandle::of(i32::try_from(sleeper.0.id()).expect("a pid")).expect("alive");
        let before = limits(process.pid);
        let pressure = Pressure::on(process, 80).expect("pressed");
        assert_eq!(pressure.limit, pressure.used * 100 / 80);
        assert!(limits(process.pid).contains(&pressure.limit.to_string()), "{}", limits(process.pid));
        pressure.release().expect("released");
        assert_eq!(limits(process.pid), before);
    }

    #[test]
    fn another_process_with_the_pid_is_not_touched() {
        let sleeper = Sleeper(Command::new("sleep").arg("60").spawn().expect("sleep"));
        let mut process = ProcessHandle::of(i32::try_from(sleeper.0.id()).expect("a pid")).expect("alive");
        process.start_ticks += 1;
        let before = limits(process.pid);
        let refused = Pressure::on(process, 80).expect_err("another process");
        assert!(matches!(refused, Error::Process(process::Error::NotTheProcess { .. })), "{refused}");
        assert_eq!(limits(process.pid), before);
    }

    #[test]
    fn a_share_of_nothing_or_too_much_is_refused() {
        let own = ProcessHandle::of(i32::try_from(std::process::id()).expect("a pid")).expect("alive");
        for percent in [0, 101] {
            assert!(matches!(Pressure::on(own, percent), Err(Error::Share { .. })), "{percent}");
        }
    }
}
