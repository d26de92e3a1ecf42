//! What /proc and perf know of a process.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Clock ticks a second of /proc, the same on every architecture that matters.
const TICKS_PER_S: f64 = 100.0;

/// CPU times when a measurement began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    server: u32,
    begin: CpuTimes,
}

/// Microseconds of CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuTimes {
    /// Of the server's process, user and system.
    pub(super) server_us: f64,
    /// Of this process, likewise.
    pub(super) generator_us: f64,
}

impl Cpu {
    pub(super) fn now(server: u32) -> Self {
        Self {
            server,
            begin: CpuTimes::read(server),
        }
    }

    pub(super) fn elapsed(&self) -> CpuTimes {
        let (begin, end) = (self.begin, CpuTimes::read(self.server));
        CpuTimes {
            server_us: end.server_us - begin.server_us,
            generator_us: end.generator_us - begin.generator_us,
        }
    }
}

impl CpuTimes {
    fn read(server: u32) -> Self {
        Self {
            server_us: process_us(&server.to_string()),
            generator_us: process_us("self"),
        }
    }
}

fn process_us(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the server lives");
    // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().expect("a number"))
        .sum();
    ticks / TICKS_PER_S * 1e6
}

/// Counts the system calls of a process by `perf stat`.
#[derive(Debug)]
pub(super) struct SyscallCounter(Child);

impl SyscallCounter {
    /// Counts for `duration` and a bit.
    pub(super) fn start(process: u32, duration: Duration) -> io::Result<Self> {
        let seconds = duration.as_secs_f64() + 0.2;
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p"])
            .arg(process.to_string())
            .args(["--", "sleep", &seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // Until it counts.
        std::thread::sleep(Duration::from_millis(150));
        Ok(Self(perf))
    }

    /// `None` if perf may not.
    pub(super) fn finish(self) -> Option<f64> {
        let output = self.0.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains("sys_enter"))?;
        line.split(',').next()?.parse().ok()
    }
}

/// Kilobytes of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Pages that are there.
    pub(super) rss: f64,
    /// The part of them that is no file's: heap and stacks.
    pub(super) anonymous: f64,
    /// Address space of heap, stacks and data, there or not.
    pub(super) data: f64,
}

impl Memory {
    pub(super) fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        Ok(Self {
            rss: field_kb(&status, "VmRSS:"),
            anonymous: field_kb(&status, "RssAnon:"),
            data: field_kb(&status, "VmData:"),
        })
    }
}

/// Kilobytes of the kernel's own objects, all processes together.
pub(super) fn kernel_slab_kb() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(field_kb(&text, "Slab:"))
}

fn field_kb(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(f64::NAN)
}
