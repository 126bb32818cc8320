//! What the operating system knows about this process, read from `/proc` at each scrape, the
//! number of live tasks, and for how long it has run. What cannot be read is left out rather than shown as zero.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

/// One reading of `/proc/self`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Reading {
    resident_bytes: Option<i64>,
    virtual_bytes: Option<i64>,
    threads: Option<i64>,
    open_fds: Option<i64>,
    cpu_seconds: Option<f64>,
    disk_read_bytes: Option<i64>,
    disk_written_bytes: Option<i64>,
}

#[derive(Debug)]
pub(super) struct ProcessCollector {
    began: Instant,
    ticks_per_second: f64,
    started: Option<f64>,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        use nix::unistd::{SysconfVar, sysconf};
        // 100 is what Linux has answered on every architecture for decades.
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let ticks_per_second = ticks as f64;
        Self { began: Instant::now(), ticks_per_second, started: start_time(ticks_per_second) }
    }

    fn read(&self) -> Reading {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        Reading {
            disk_read_bytes: field(&io, "read_bytes:"),
            disk_written_bytes: field(&io, "write_bytes:"),
            resident_bytes: kib_field(&status, "VmRSS:"),
            virtual_bytes: kib_field(&status, "VmSize:"),
            threads: field(&status, "Threads:"),
            // The listing holds one descriptor open itself.
            open_fds: fs::read_dir("/proc/self/fd").ok().and_then(|fds| i64::try_from(fds.count() - 1).ok()),
            cpu_seconds: cpu_ticks(&stat).map(|ticks| ticks / self.ticks_per_second),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let reading = self.read();
        let tasks = tokio::runtime::Handle::try_current()
            .ok()
            .and_then(|runtime| i64::try_from(runtime.metrics().num_alive_tasks()).ok());
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", reading.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", reading.virtual_bytes),
            ("process_open_fds", "Open file descriptors", reading.open_fds),
            ("process_threads", "Threads", reading.threads),
            ("tokio_alive_tasks", "Tasks spawned and not yet finished", tasks),
        ] {
            if let Some(value) = value {
                gauge(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        let uptime = ConstGauge::new(self.began.elapsed().as_secs_f64());
        gauge(&mut encoder, "xzepr_uptime_seconds", "Seconds since the start", &uptime)?;
        for (name, help, value) in [
            (
                "process_disk_read_bytes",
                "Bytes that this process had read from disks",
                reading.disk_read_bytes,
            ),
            (
                "process_disk_written_bytes",
                "Bytes that this process had written to disks",
                reading.disk_written_bytes,
            ),
        ] {
            if let Some(value) = value.and_then(|value| u64::try_from(value).ok()) {
                counter(&mut encoder, name, help, &ConstCounter::new(value))?;
            }
        }
        if let Some(started) = self.started {
            let help = "Start of the process, seconds since the epoch";
            gauge(&mut encoder, "process_start_time_seconds", help, &ConstGauge::new(started))?;
        }
        if let Some(seconds) = reading.cpu_seconds {
            let help = "CPU time in user and system mode";
            counter(&mut encoder, "process_cpu_seconds", help, &ConstCounter::new(seconds))?;
        }
        Ok(())
    }
}

pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    gauge: &dyn EncodeMetric,
) -> Result<(), std::fmt::Error> {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, gauge.metric_type())?;
    gauge.encode(metric)
}

pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counter: &dyn EncodeMetric,
) -> Result<(), std::fmt::Error> {
    let metric = encoder.encode_descriptor(name, &format!("{help}."), None, counter.metric_type())?;
    counter.encode(metric)
}

pub(super) fn field(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

pub(super) fn kib_field(status: &str, name: &str) -> Option<i64> {
    field(status, name).map(|kib| kib * 1024)
}

/// Fields of `/proc/PID/stat` from the third on; the second may hold spaces and parentheses.
fn stat_fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
}

fn cpu_ticks(stat: &str) -> Option<f64> {
    let fields = stat_fields(stat);
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(ticks(11)? + ticks(12)?)
}

fn start_time(ticks_per_second: f64) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks_since_boot: f64 = stat_fields(&stat).get(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
    Some(boot + ticks_since_boot / ticks_per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_of_this_process_is_complete_and_plausible() {
        let collector = ProcessCollector::new();
        let reading = collector.read();
        assert!(reading.resident_bytes.expect("VmRSS") > 1 << 20);
        assert!(reading.virtual_bytes >= reading.resident_bytes);
        assert!(reading.threads.expect("Threads") >= 1);
        assert!(reading.open_fds.expect("fds") >= 3);
        assert!(reading.cpu_seconds.expect("cpu") >= 0.0);
        assert!(collector.started.expect("start time") > 1.0e9);
    }

    #[test]
    fn cpu_time_is_found_behind_a_name_with_parentheses() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 999";
        assert_eq!(cpu_ticks(stat), Some(200.0));
    }
}
