//! The process's own figures, read from /proc when they are asked for. Where
//! there is no /proc, nothing is exported.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::{Counter, Gauge, Opts, proto};

/// Kernel clock ticks per second where the auxiliary vector does not tell.
const DEFAULT_TICKS: f64 = 100.0;

/// Entry of the auxiliary vector that holds the clock ticks per second.
const AT_CLKTCK: u64 = 17;

#[derive(Debug, Clone)]
pub(super) struct ProcessCollector {
    cpu: Counter,
    resident: Gauge,
    virtual_size: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start_time: Gauge,
    ticks: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| Gauge::with_opts(Opts::new(name, help));
        let collector = Self {
            cpu: Counter::with_opts(Opts::new(
                "process_cpu_seconds_total",
                "User and system CPU time in seconds.",
            ))?,
            resident: gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
            virtual_size: gauge("process_virtual_memory_bytes", "Virtual memory in bytes.")?,
            open_fds: gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: gauge("process_max_fds", "Limit of open file descriptors.")?,
            threads: gauge("process_threads", "Threads of the process.")?,
            start_time: gauge(
                "process_start_time_seconds",
                "Start of the process in seconds since 1970.",
            )?,
            ticks: ticks_per_second().unwrap_or(DEFAULT_TICKS),
        };
        if let (Some(boot), Some(stat)) = (boot_time(), Stat::read()) {
            collector
                .start_time
                .set(boot + stat.start / collector.ticks);
        }
        Ok(collector)
    }

    fn refresh(&self) -> Option<()> {
        let stat = Stat::read()?;
        // The counter holds what was seen last; adding the difference keeps it monotonic.
        let cpu = stat.cpu / self.ticks;
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        self.threads.set(stat.threads);
        let status = fs::read_to_string("/proc/self/status").ok()?;
        self.resident.set(kib(&status, "VmRSS:")? * 1024.0);
        self.virtual_size.set(kib(&status, "VmSize:")? * 1024.0);
        // The directory that is being read is one of the entries.
        let open = fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1);
        self.open_fds.set(f64::from(u32::try_from(open).ok()?));
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let files = limits.lines().find(|l| l.starts_with("Max open files"))?;
        if let Ok(limit) = files.split_whitespace().nth(3)?.parse() {
            self.max_fds.set(limit);
        }
        Some(())
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let mut descs = self.cpu.desc();
        for gauge in self.gauges() {
            descs.extend(gauge.desc());
        }
        descs
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        if self.refresh().is_none() {
            return Vec::new();
        }
        let mut families = self.cpu.collect();
        for gauge in self.gauges() {
            families.extend(gauge.collect());
        }
        families
    }
}

impl ProcessCollector {
    fn gauges(&self) -> [&Gauge; 6] {
        [
            &self.resident,
            &self.virtual_size,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.start_time,
        ]
    }
}

/// What /proc/self/stat tells, times in clock ticks.
struct Stat {
    cpu: f64,
    threads: f64,
    start: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The command name stands in parentheses and may hold blanks and more
        // parentheses; the numbered fields go on after the last one, at field 3.
        let rest = &text[text.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
        Some(Self {
            cpu: field(14)? + field(15)?,
            threads: field(20)?,
            start: field(22)?,
        })
    }
}

fn kib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The auxiliary vector is pairs of machine words: a type and its value.
fn ticks_per_second() -> Option<f64> {
    let words: Vec<u64> = fs::read("/proc/self/auxv")
        .ok()?
        .chunks_exact(size_of::<usize>())
        .map(|word| {
            let mut bytes = [0; size_of::<usize>()];
            bytes.copy_from_slice(word);
            usize::from_ne_bytes(bytes) as u64
        })
        .collect();
    words
        .chunks_exact(2)
        .find(|pair| pair[0] == AT_CLKTCK)
        .and_then(|pair| u32::try_from(pair[1]).ok())
        .map(f64::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_command_name_may_hold_anything() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 11 31 0 0 20 0 5 0 12345 1 2 3";
        let stat = Stat::parse(stat).unwrap();
        assert!((stat.cpu - 42.0).abs() < 1e-9);
        assert!((stat.threads - 5.0).abs() < 1e-9);
        assert!((stat.start - 12345.0).abs() < 1e-9);
        assert!(Stat::parse("").is_none());
        assert!(Stat::parse("7 (x) S").is_none());
    }
}
