//! A core for the server, and the others for who measures it.

use std::io;
use std::process::{Child, Command};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this process may use, divided.
#[derive(Debug)]
pub(crate) struct Cores {
    server: CpuSet,
    load: CpuSet,
}

impl Cores {
    /// `None` if there is only one, which both have to share then.
    pub(crate) fn divide() -> io::Result<Option<Self>> {
        let all = sched_getaffinity(None)?;
        let mut own = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
        let (mut server, mut load) = (CpuSet::new(), CpuSet::new());
        own.next().into_iter().for_each(|core| server.set(core));
        own.for_each(|core| load.set(core));
        Ok((load.count() > 0).then_some(Self { server, load }))
    }

    /// Starts a server on its core, with all its threads, and leaves the others to this thread and
    /// those that it starts.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        sched_setaffinity(None, &self.server)?;
        let child = command.spawn();
        sched_setaffinity(None, &self.load)?;
        child
    }
}
