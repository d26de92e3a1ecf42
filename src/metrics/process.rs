//! What the process takes of the machine.
//!
//! A process that serves may open no file, so what is read of `/proc` is opened before; the number of
//! open descriptors is the size of a directory, which needs no opening.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of `/proc/self/statm` at most: seven numbers.
const STATM_LEN_MAX: usize = 256;

/// Looks at this process.
#[derive(Debug)]
pub struct Process {
    statm: Option<File>,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
}

impl Process {
    /// Opens what is needed later.
    pub fn open() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
        }
    }

    /// `None` where there is no `/proc`.
    pub(super) fn memory(&self) -> Option<Memory> {
        let mut buffer = [0; STATM_LEN_MAX];
        let len = self.statm.as_ref()?.read_at(&mut buffer, 0).ok()?;
        parse_statm(str::from_utf8(&buffer[..len]).ok()?, page_size() as u64)
    }
}

/// The sizes are in pages (proc_pid_statm(5)).
fn parse_statm(text: &str, page: u64) -> Option<Memory> {
    let mut pages = text.split(' ').map(|word| word.parse::<u64>().ok());
    Some(Memory {
        virtual_bytes: pages.next()?? * page,
        resident_bytes: pages.next()?? * page,
    })
}

/// Open descriptors; `None` before Linux 6.2, which does not tell.
pub(super) fn open_files() -> Option<u64> {
    let directory = std::fs::metadata("/proc/self/fd").ok()?;
    Some(directory.len()).filter(|&files| files > 0)
}

/// Descriptors that may be open; `None` if there is no limit.
pub(super) fn max_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// The time that all threads have computed, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_is_in_pages() {
        let memory = parse_statm("3000 20 10 5 0 9 0\n", 4096);
        let expected = Memory {
            virtual_bytes: 3000 * 4096,
            resident_bytes: 20 * 4096,
        };
        assert_eq!(memory, Some(expected));
        for text in ["", "3000", "3000 x"] {
            assert_eq!(parse_statm(text, 4096), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_takes_something() {
        let memory = Process::open().memory().unwrap();
        assert!(memory.resident_bytes > 1 << 20 && memory.virtual_bytes > memory.resident_bytes);
        assert!(cpu_seconds() > 0.0);
        // Other tests open and close files meanwhile; standard input, output and error stay.
        assert!(open_files().is_none_or(|files| files >= 3));
    }
}
