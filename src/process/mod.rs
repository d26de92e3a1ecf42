//! What this process may still do. It begins with the rights of whoever starts it, which are far
//! more than relaying needs, and gives up the rest before it has a second thread: the kernel keeps
//! all of this by thread, and a thread inherits it from its maker.
//!
//! [`hide_memory`] comes first, before any secret is read. [`confine`] comes when the listeners are
//! bound and the secrets read. Nothing is needed afterwards that a process without a single right
//! does not have: relay ports and later listeners are above 1023, and have the system's buffers. No
//! file is opened again but those that a reload reads, and in directories of the server's own.

mod capabilities;
mod identity;
mod sandbox;

use std::fmt;
use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit, set_dumpable_behavior,
    setrlimit,
};

pub use identity::{
    FALLBACK_USER, PREFERRED_USER, Reader, becomes, group_number, group_of, is_user, reader,
    reader_of, successor,
};
pub use sandbox::{Openings, Sandbox};

/// Keeps the memory of this process, which holds secrets, from files and from other processes of
/// the same user: no core dump (not even one that `core_pattern` pipes into a program, which a
/// limit of 0 does not stop), no debugger, no `/proc/PID/environ`; and makes files that only this
/// user reads. The superuser can still attach a debugger.
pub fn hide_memory() {
    // Where a sandbox forbids one of them, the others still hold.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Why the memory is not hidden, as the kernel tells it, or `None`.
fn why_dumpable() -> Option<String> {
    let dumpable = match dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => None,
        Ok(_) => Some("the process can be dumped".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let limit = getrlimit(Resource::Core);
    let is_none = limit.current == Some(0) && limit.maximum == Some(0);
    dumpable.or_else(|| (!is_none).then(|| "the limit of core files is not 0".to_owned()))
}

/// What [`confine`] has achieved. `Display` tells it in one line.
#[derive(Debug)]
pub struct Confinement {
    /// What the process runs as.
    user: identity::Now,
    /// Why core dumps are possible, if they are.
    dumpable: Option<String>,
    /// Why capabilities are left, if any are.
    capabilities: Result<(), io::Error>,
    /// Whether executing a program can never give rights.
    no_new_privileges: Result<(), io::Error>,
    /// What Landlock closes.
    sandbox: Sandbox,
}

impl Confinement {
    /// What does not hold although it should, and why. `None` if everything does.
    pub fn lacking(&self) -> Option<String> {
        let mut lacking = Vec::new();
        if let Some(why) = &self.dumpable {
            lacking.push(format!("core dumps are possible ({why})"));
        }
        if let Err(error) = &self.capabilities {
            lacking.push(format!("capabilities are kept ({error})"));
        }
        if let Err(error) = &self.no_new_privileges {
            lacking.push(format!("new privileges are possible ({error})"));
        }
        lacking.extend(self.sandbox.lacking());
        (!lacking.is_empty()).then(|| lacking.join(", "))
    }

    /// What the operator should look into, with the remedy.
    pub fn warnings(&self) -> &[String] {
        &self.user.warnings
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs as {}", self.user)?;
        if self.dumpable.is_none() {
            f.write_str(", no core dumps")?;
        }
        if self.capabilities.is_ok() {
            f.write_str(", no capabilities")?;
        }
        if self.no_new_privileges.is_ok() {
            f.write_str(", no new privileges")?;
        }
        write!(f, ", {}", self.sandbox)?;
        match self.lacking() {
            Some(lacking) => write!(f, "; not in force: {lacking}"),
            None => Ok(()),
        }
    }
}

/// Why a process must not go on.
#[derive(Debug)]
pub enum ConfineError {
    /// `server.user` names nobody on this machine.
    UnknownUser(String),
    /// The kernel does not let this process become the configured user.
    Refused {
        /// The user.
        user: String,
        /// The kernel's reason.
        error: io::Error,
    },
    /// After the change the process could still become root.
    RootRegained,
    /// There are other threads, this many in all, and they would keep their rights.
    Threads(usize),
}

impl fmt::Display for ConfineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(user) => write!(
                f,
                "server.user: there is no user {user:?} on this machine; make it, or name one \
                 that there is"
            ),
            Self::Refused { user, error } => write!(
                f,
                "cannot become user {user:?} ({error}); start with CAP_SETUID and CAP_SETGID, \
                 or as that user, or leave out server.user"
            ),
            Self::RootRegained => f.write_str(
                "root can be regained after the change of user; start as an unprivileged user",
            ),
            Self::Threads(count) => write!(
                f,
                "{count} threads run before rights are given up, and the others would keep theirs; \
                 start without LD_PRELOAD and the like, or report this as a bug"
            ),
        }
    }
}

impl std::error::Error for ConfineError {}

/// Gives up everything but the open descriptors: root for an unprivileged user (the configured one,
/// or [`PREFERRED_USER`], or [`FALLBACK_USER`]), all capabilities, new privileges by execution, and
/// by Landlock the file system, `connect` of TCP sockets, and signals to other processes, but for
/// `openings`.
///
///
/// It works on the calling thread, so it must be the only one.
///
/// # Errors
/// If there are other threads, or the process is root and cannot stop being it as it was told to.
/// What a kernel or a container lacks beside that is no error: [`Confinement::lacking`] tells it.
pub fn confine(user: Option<&str>, openings: Openings<'_>) -> Result<Confinement, ConfineError> {
    match threads() {
        1 => {}
        count => return Err(ConfineError::Threads(count)),
    }
    let whom = identity::choose(user)?;
    // Takes a capability itself, and so comes before the others go.
    capabilities::empty_bounding_set();
    let user = whom.map_or_else(|| Ok(identity::Now::unchanged()), identity::Choice::assume)?;
    // The kernel resets it when the user changes.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let capabilities = capabilities::drop_all();
    let no_new_privileges = rustix::thread::set_no_new_privs(true).map_err(io::Error::from);
    let sandbox = Sandbox::enter(openings);
    Ok(Confinement {
        user,
        dumpable: why_dumpable(),
        capabilities,
        no_new_privileges,
        sandbox,
    })
}

/// How many threads this process has, as far as `/proc` tells. Without `/proc` it is taken at its
/// word.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROC-02: the test runner's own thread is one too many.
    #[test]
    fn other_threads_are_refused() {
        let refused = std::thread::spawn(|| confine(None, Openings::default()).unwrap_err());
        let refused = refused.join().unwrap();
        assert!(matches!(refused, ConfineError::Threads(2..)), "{refused:?}");
        assert!(refused.to_string().contains("would keep theirs; start"));
    }

    /// PROC-03: the line tells what the kernel says, and nothing that was only asked for.
    #[test]
    fn core_dumps_are_said_to_be_off_only_if_they_are() {
        let confined = |dumpable| Confinement {
            user: identity::Now::unchanged(),
            dumpable,
            capabilities: Ok(()),
            no_new_privileges: Ok(()),
            sandbox: Sandbox::none("not entered"),
        };
        let why = why_dumpable().expect("the test runner can be dumped");
        let line = confined(Some(why.clone())).to_string();
        assert!(!line.contains("no core dumps"), "{line}");
        assert!(line.contains(&format!("not in force: core dumps are possible ({why})")));
        let line = confined(None).to_string();
        assert!(line.contains("no core dumps") && !line.contains("are possible"));
    }
}
