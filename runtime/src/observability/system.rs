//! What the operating system knows about the machine, read from `/proc` at each scrape: processors, memory, disks, network.
//! For where no node exporter runs. In a container the network is the container's own, the rest is the host's. What cannot
//! be read is left out rather than shown as zero.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::process::{counter, gauge, kib_field};

/// `/proc/diskstats` counts in these, whatever the disk has.
const SECTOR_BYTES: u64 = 512;

/// Columns of the first line of `/proc/stat`, in its order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

#[derive(Debug)]
pub(super) struct SystemCollector {
    ticks_per_second: f64,
}

impl SystemCollector {
    pub(super) fn new() -> Self {
        use nix::unistd::{SysconfVar, sysconf};
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        Self { ticks_per_second: ticks as f64 }
    }
}

impl Collector for SystemCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let modes = cpu_ticks(&stat);
        if !modes.is_empty() {
            let help = "Time of all processors by what they did.";
            let mut family =
                encoder.encode_descriptor("system_cpu_seconds", help, None, MetricType::Counter)?;
            for (mode, ticks) in modes {
                let seconds = ConstCounter::new(ticks / self.ticks_per_second);
                seconds.encode(family.encode_family(&[("mode", mode)])?)?;
            }
        }
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        for (name, help, key) in [
            ("system_memory_total_bytes", "Memory of the machine", "MemTotal:"),
            ("system_memory_available_bytes", "Memory that could be had without swapping", "MemAvailable:"),
        ] {
            if let Some(bytes) = kib_field(&memory, key) {
                gauge(&mut encoder, name, help, &ConstGauge::new(bytes))?;
            }
        }
        if let Some(load) = fs::read_to_string("/proc/loadavg").ok().as_deref().and_then(load_1m) {
            gauge(&mut encoder, "system_load1", "Load average of a minute", &ConstGauge::new(load))?;
        }
        let disks = fs::read_to_string("/proc/diskstats").ok().map(|text| disk_bytes(&text));
        let network = fs::read_to_string("/proc/self/net/dev").ok().map(|text| network_bytes(&text));
        for (name, help, value) in [
            ("system_disk_read_bytes", "Bytes read from all disks", disks.map(|(read, _)| read)),
            ("system_disk_written_bytes", "Bytes written to all disks", disks.map(|(_, written)| written)),
            ("system_network_received_bytes", "Bytes received, loopback left out", network.map(|(rx, _)| rx)),
            ("system_network_sent_bytes", "Bytes sent, loopback left out", network.map(|(_, tx)| tx)),
        ] {
            if let Some(value) = value {
                counter(&mut encoder, name, help, &ConstCounter::new(value))?;
            }
        }
        Ok(())
    }
}

fn cpu_ticks(stat: &str) -> Vec<(&'static str, f64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks = line.split_whitespace().map_while(|text| text.parse::<f64>().ok());
    MODES.into_iter().zip(ticks).collect()
}

fn load_1m(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Whole disks only: their partitions, and devices made of them, would count twice.
fn disk_bytes(text: &str) -> (u64, u64) {
    let mut sum = (0u64, 0u64);
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(name), Some(read), Some(written)) = (fields.get(2), fields.get(5), fields.get(9)) else {
            continue;
        };
        if !is_whole_disk(name) {
            continue;
        }
        let bytes = |sectors: &str| sectors.parse::<u64>().unwrap_or_default().saturating_mul(SECTOR_BYTES);
        sum = (sum.0.saturating_add(bytes(read)), sum.1.saturating_add(bytes(written)));
    }
    sum
}

fn is_whole_disk(name: &str) -> bool {
    let letters = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase()))
    };
    let numbered =
        |prefix: &str, part: char| name.starts_with(prefix) && !name[prefix.len()..].contains(part);
    letters("sd") || letters("vd") || letters("xvd") || numbered("nvme", 'p') || numbered("mmcblk", 'p')
}

fn network_bytes(text: &str) -> (u64, u64) {
    let mut sum = (0u64, 0u64);
    for line in text.lines() {
        let Some((name, counts)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let counts: Vec<u64> = counts.split_whitespace().map_while(|text| text.parse().ok()).collect();
        if let (Some(received), Some(sent)) = (counts.first(), counts.get(8)) {
            sum = (sum.0.saturating_add(*received), sum.1.saturating_add(*sent));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_linux_are_read() {
        let stat = "cpu  10 1 5 100 2 0 3 0 0 0\ncpu0 5 0 2 50 1 0 1 0 0 0\n";
        assert_eq!(cpu_ticks(stat)[3], ("idle", 100.0));
        assert_eq!(cpu_ticks(stat).len(), MODES.len());
        let disks = "   8       0 sda 10 0 4 0 20 0 6 0 0 0 0\n   8       1 sda1 9 0 3 0 19 0 5 0 0 0 0\n \
                     259 0 nvme0n1 1 0 1 0 1 0 1 0 0 0 0\n 259 1 nvme0n1p1 1 0 1 0 1 0 1 0 0 0 0\n 7 0 loop0 1 0 9 0 1 0 9 0\n";
        assert_eq!(disk_bytes(disks), (5 * 512, 7 * 512));
        let network = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  \
                       eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n";
        assert_eq!(network_bytes(network), (100, 200));
        assert_eq!(load_1m("0.25 0.10 0.05 1/100 7"), Some(0.25));
    }

    #[test]
    fn what_is_no_such_file_is_nothing() {
        assert!(cpu_ticks("").is_empty());
        assert_eq!((disk_bytes("garbage"), network_bytes("garbage: x")), ((0, 0), (0, 0)));
        assert_eq!(load_1m(""), None);
    }
}
