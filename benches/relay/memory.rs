//! What an idle allocation with one permission and one channel holds.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::client::Fleet;
use super::servers::{Kind, Running};
use super::shared::process::{Memory, kernel_slab_kb};

/// One server after another, since the kernel's memory cannot be told apart.
pub(super) fn compare(
    servers: &[(Kind, PathBuf)],
    allocations: usize,
    workers: usize,
) -> io::Result<()> {
    println!("{allocations} idle allocations, bytes for each, and what the process began with");
    println!("server            RSS  anonymous     VmData  kernel slab   at start, KB RSS");
    for (kind, program) in servers {
        let server = Running::start(*kind, program, allocations + 1, workers)?;
        // Whatever is made at first use.
        let first = Fleet::allocate(server.address, 1)?;
        thread::sleep(Duration::from_millis(500));
        let (before, slab_before) = (Memory::of(server.pid())?, kernel_slab_kb()?);
        let fleet = Fleet::allocate(server.address, allocations)?;
        thread::sleep(Duration::from_millis(500));
        let (after, slab_after) = (Memory::of(server.pid())?, kernel_slab_kb()?);
        let each = |before: f64, after: f64| (after - before) * 1024.0 / allocations as f64;
        println!(
            "{:<11} {:>9.0} {:>10.0} {:>10.0} {:>12.0} {:>18.0}",
            kind.name(),
            each(before.rss, after.rss),
            each(before.anonymous, after.anonymous),
            each(before.data, after.data),
            each(slab_before, slab_after),
            before.rss,
        );
        drop((first, fleet));
    }
    Ok(())
}
