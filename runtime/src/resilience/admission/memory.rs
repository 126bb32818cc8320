//! How much of the memory that it may use this process uses.
//!
//! Promises: the tightest of the bounds counts that the system really enforces: cgroup v2 and v1 at every level up from the
//! process, `RLIMIT_AS` and `RLIMIT_DATA`; the machine's memory only where there is none of these, since the memory of the
//! machine is not the container's. Pages that the kernel takes back by itself do not count as used. Reading is cheap and
//! happens a few times a second at most, by whoever asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use tokio::time::Instant;

/// No reading is older.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// A bound and what of it is used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What is used.
    pub used: u64,
    /// What may be.
    pub limit: u64,
}

impl Share {
    /// Whole percents, rounded down.
    pub fn percent(self) -> u64 {
        self.used.saturating_mul(100) / self.limit.max(1)
    }
}

type Read = Arc<dyn Fn() -> Option<Share> + Send + Sync>;

/// Whether more is used than a threshold. Clones share the reading.
#[derive(Clone)]
pub struct Pressure {
    threshold_percent: u64,
    read: Read,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Pressure {
    /// Of this process.
    pub fn of_process(threshold_percent: u32) -> Self {
        let system = System::of_process();
        Self::reading(threshold_percent, Arc::new(move || system.tightest()))
    }

    /// Always the same, for tests.
    pub fn fixed(threshold_percent: u32, used: u64, limit: u64) -> Self {
        Self::reading(threshold_percent, Arc::new(move || Some(Share { used, limit })))
    }

    fn reading(threshold_percent: u32, read: Read) -> Self {
        Self { threshold_percent: threshold_percent.into(), read, last: Arc::default() }
    }

    /// Whether more is used than the threshold. Where nobody knows, no.
    pub fn is_high(&self, now: Instant) -> bool {
        let known = *self.last.lock();
        if let Some((at, high)) = known
            && now.saturating_duration_since(at) < FRESH_FOR
        {
            return high;
        }
        let high = (self.read)().is_some_and(|share| share.percent() > self.threshold_percent);
        let before = self.last.lock().replace((now, high));
        if before.is_some_and(|(_, before)| before != high) || (before.is_none() && high) {
            let threshold_percent = self.threshold_percent;
            if high {
                tracing::warn!(threshold_percent, "more memory is used than the threshold");
            } else {
                tracing::info!(threshold_percent, "less memory is used than the threshold again");
            }
        }
        high
    }
}

/// Where the numbers are.
struct System {
    files: Files,
    /// Read each time: others can set a running process' limits (`prlimit`).
    limits: Box<dyn Fn() -> Limits + Send + Sync>,
}

/// Reads a file as text.
type Files = Box<dyn Fn(&Path) -> Option<String> + Send + Sync>;

/// `RLIMIT_AS` and `RLIMIT_DATA`, where they are limits.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    address_space: Option<u64>,
    data: Option<u64>,
}

impl Limits {
    fn of_process() -> Self {
        let limit = |resource| getrlimit(resource).ok().map(|(soft, _)| soft);
        let bounded = |limit: Option<u64>| limit.filter(|limit| *limit < 1 << 60);
        Self {
            address_space: bounded(limit(Resource::RLIMIT_AS)),
            data: bounded(limit(Resource::RLIMIT_DATA)),
        }
    }
}

impl System {
    fn of_process() -> Self {
        Self {
            files: Box::new(|path| std::fs::read_to_string(path).ok()),
            limits: Box::new(Limits::of_process),
        }
    }

    /// The bound of which the largest part is used.
    fn tightest(&self) -> Option<Share> {
        let groups = self.read("/proc/self/cgroup").unwrap_or_default();
        let mut shares: Vec<Share> =
            groups.lines().flat_map(levels).filter_map(|level| self.of_group(&level)).collect();
        let status = self.read("/proc/self/status").unwrap_or_default();
        let kilobytes = |name| field(&status, name).map(|kilobytes| kilobytes * 1024);
        let of_limit = |limit: Option<u64>, name| Some(Share { used: kilobytes(name)?, limit: limit? });
        let limits = (self.limits)();
        shares.extend(of_limit(limits.address_space, "VmSize:"));
        shares.extend(of_limit(limits.data, "VmData:"));
        if shares.is_empty() {
            let machine = self.read("/proc/meminfo").unwrap_or_default();
            let total = field(&machine, "MemTotal:").map(|kilobytes| kilobytes * 1024);
            shares.extend(of_limit(total, "VmRSS:"));
        }
        shares.into_iter().max_by_key(|share| share.percent())
    }

    fn of_group(&self, level: &Level) -> Option<Share> {
        let (limit, used, reclaimable) = match level.version {
            Version::Two => ("memory.max", "memory.current", "inactive_file"),
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        };
        let number = |name: &str| self.read(level.folder.join(name))?.trim().parse::<u64>().ok();
        // "max", or v1's largest number of pages: no bound.
        let limit = number(limit).filter(|limit| *limit < 1 << 60)?;
        let stat = self.read(level.folder.join("memory.stat")).unwrap_or_default();
        let used = number(used)?.saturating_sub(field(&stat, reclaimable).unwrap_or(0));
        Some(Share { used, limit })
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        (self.files)(path.as_ref())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Level {
    version: Version,
    folder: PathBuf,
}

/// The groups of a line of `/proc/self/cgroup`, from the process' own up to the root. A container often sees its own group
/// as the root, under whatever path the line says.
fn levels(line: &str) -> Vec<Level> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (version, root) = if controllers.is_empty() {
        (Version::Two, "/sys/fs/cgroup")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (Version::One, "/sys/fs/cgroup/memory")
    } else {
        return Vec::new();
    };
    let below = Path::new(path.trim_start_matches('/'));
    below.ancestors().map(|path| Level { version, folder: Path::new(root).join(path) }).collect()
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn system(files: &[(&'static str, &'static str)]) -> System {
        let files: HashMap<&str, &str> = files.iter().copied().collect();
        let files: Files = Box::new(move |path| files.get(path.to_str()?).map(|text| (*text).to_owned()));
        System { files, limits: Box::new(Limits::default) }
    }

    const STATUS: (&str, &str) =
        ("/proc/self/status", "Name:\tserver\nVmSize:\t  4000 kB\nVmRSS:\t   300 kB\nVmData:\t  900 kB\n");
    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       1000 kB\nMemFree:  5 kB\n");

    #[test]
    fn version_two_counts_what_the_kernel_cannot_take_back() {
        let system = system(&[
            ("/proc/self/cgroup", "0::/pod/box\n"),
            ("/sys/fs/cgroup/pod/box/memory.max", "1000\n"),
            ("/sys/fs/cgroup/pod/box/memory.current", "900\n"),
            ("/sys/fs/cgroup/pod/box/memory.stat", "anon 500\ninactive_file 300\n"),
            STATUS,
            MACHINE,
        ]);
        assert_eq!(system.tightest(), Some(Share { used: 600, limit: 1000 }));
    }

    #[test]
    fn the_bound_of_a_group_above_counts_too() {
        let system = system(&[
            ("/proc/self/cgroup", "0::/pod/box\n"),
            ("/sys/fs/cgroup/pod/box/memory.max", "max\n"),
            ("/sys/fs/cgroup/pod/memory.max", "2000\n"),
            ("/sys/fs/cgroup/pod/memory.current", "1900\n"),
            STATUS,
            MACHINE,
        ]);
        assert_eq!(system.tightest(), Some(Share { used: 1900, limit: 2000 }));
    }

    #[test]
    fn version_one_is_read_where_it_is() {
        let system = system(&[
            ("/proc/self/cgroup", "5:cpu,cpuacct:/box\n4:memory:/box\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "450\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
            STATUS,
            MACHINE,
        ]);
        assert_eq!(
            system.tightest(),
            Some(Share { used: 400, limit: 500 }),
            "the container's own is the root"
        );
    }

    #[test]
    fn without_a_bound_the_machine_is_one() {
        let group = ("/proc/self/cgroup", "0::/\n");
        let unbounded = ("/sys/fs/cgroup/memory.max", "max\n");
        let mut system = system(&[group, unbounded, STATUS, MACHINE]);
        assert_eq!(system.tightest(), Some(Share { used: 300 * 1024, limit: 1000 * 1024 }));
        let (address_space, data) = (Some(5000 * 1024), Some(1000 * 1024));
        system.limits = Box::new(move || Limits { address_space, data });
        assert_eq!(system.tightest(), Some(Share { used: 900 * 1024, limit: 1000 * 1024 }));
    }

    #[test]
    fn nothing_is_known_nothing_is_high() {
        assert_eq!(system(&[]).tightest(), None);
        let now = Instant::now();
        assert!(!Pressure::fixed(80, 80, 100).is_high(now));
        assert!(Pressure::fixed(80, 81, 100).is_high(now));
        // This process is far from its bounds, whatever they are.
        let share = System::of_process().tightest().expect("Linux tells");
        assert!(share.used > 0 && share.limit > share.used, "{share:?}");
    }

    #[test]
    fn a_reading_serves_for_a_moment() {
        let reads = Arc::new(Mutex::new(0_u64));
        let counted = reads.clone();
        let pressure = Pressure::reading(
            80,
            Arc::new(move || {
                *counted.lock() += 1;
                Some(Share { used: 90, limit: 100 })
            }),
        );
        let now = Instant::now();
        for _ in 0..1_000 {
            assert!(pressure.is_high(now));
        }
        assert_eq!(*reads.lock(), 1);
        pressure.is_high(now + FRESH_FOR);
        assert_eq!(*reads.lock(), 2);
    }
}
