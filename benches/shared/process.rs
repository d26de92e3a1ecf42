//! What the kernel and perf know of a process.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::time::ClockId;
use nix::unistd::Pid;

/// CPU times when a measurement began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    server: u32,
    begin: CpuTimes,
}

/// Microseconds of CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTimes {
    /// Of the server's process, user and system.
    pub(crate) server_us: f64,
    /// Of this process, likewise.
    pub(crate) generator_us: f64,
}

impl Cpu {
    pub(crate) fn now(server: u32) -> Self {
        Self {
            server,
            begin: CpuTimes::read(server),
        }
    }

    pub(crate) fn elapsed(&self) -> CpuTimes {
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
            server_us: process_us(server),
            generator_us: process_us(std::process::id()),
        }
    }
}

/// Of all threads, user and system.
fn process_us(process: u32) -> f64 {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(process as i32));
    let ran = clock.and_then(ClockId::now).expect("the server lives");
    Duration::from(ran).as_secs_f64() * 1e6
}

/// Counts the system calls of a process by `perf stat`.
#[derive(Debug)]
pub(crate) struct SyscallCounter(Child);

impl SyscallCounter {
    /// Counts for `duration` and a bit.
    pub(crate) fn start(process: u32, duration: Duration) -> io::Result<Self> {
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
    pub(crate) fn finish(self) -> Option<f64> {
        let output = self.0.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|line| line.contains("sys_enter"))?;
        line.split(',').next()?.parse().ok()
    }
}

/// Kilobytes of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Pages that are there.
    pub(crate) rss: f64,
    /// The part of them that is no file's: heap and stacks.
    pub(crate) anonymous: f64,
    /// Address space of heap, stacks and data, there or not.
    pub(crate) data: f64,
}

impl Memory {
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        Ok(Self {
            rss: field_kb(&status, "VmRSS:"),
            anonymous: field_kb(&status, "RssAnon:"),
            data: field_kb(&status, "VmData:"),
        })
    }
}

/// Kilobytes of the kernel's own objects, all processes together.
pub(crate) fn kernel_slab_kb() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(field_kb(&text, "Slab:"))
}

fn field_kb(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(f64::NAN)
}
