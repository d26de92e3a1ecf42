//! What this process may still do. It begins with the rights of whoever starts it, which are far
//! more than relaying needs, and gives up the rest before it has a second thread: the kernel keeps
//! all of this by thread, and a thread inherits it from its maker.
//!
//! [`hide_memory`] comes first, before any secret is read. [`confine`] comes when the listeners are
//! bound and the secrets read. Nothing is needed afterwards that a process without a single right
//! does not have: relay ports are above 1023, relay sockets have the system's buffers, and no file
//! is opened again.

mod capabilities;
mod identity;
mod sandbox;

use std::fmt;
use std::io;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

pub use identity::{FALLBACK_USER, PREFERRED_USER, group_of, ids_of, is_user};
pub use sandbox::Sandbox;

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

/// What [`confine`] has achieved. `Display` tells it in one line.
#[derive(Debug)]
pub struct Confinement {
    /// What the process runs as.
    user: identity::Now,
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
        write!(f, "runs as {}, no core dumps", self.user)?;
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

/// Why a process that was started as root must not go on.
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
        }
    }
}

impl std::error::Error for ConfineError {}

/// Gives up everything but the open descriptors: root for an unprivileged user (the configured one,
/// or [`PREFERRED_USER`], or [`FALLBACK_USER`]), all capabilities, new privileges by execution, and
/// by Landlock the file system, new TCP sockets and signals to other processes.
///
/// It works on the calling thread, so it must be the only one.
///
/// # Errors
/// If the process is root and cannot stop being it as it was told to. What a kernel or a container
/// lacks beside that is no error: [`Confinement::lacking`] tells it.
pub fn confine(user: Option<&str>) -> Result<Confinement, ConfineError> {
    debug_assert!(
        is_single_threaded(),
        "other threads would keep their rights"
    );
    let whom = identity::choose(user)?;
    // Takes a capability itself, and so comes before the others go.
    capabilities::empty_bounding_set();
    let user = whom.map_or_else(|| Ok(identity::Now::unchanged()), identity::Choice::assume)?;
    let capabilities = capabilities::drop_all();
    let no_new_privileges = rustix::thread::set_no_new_privs(true).map_err(io::Error::from);
    let sandbox = Sandbox::enter();
    // The kernel resets it when the user changes.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    Ok(Confinement {
        user,
        capabilities,
        no_new_privileges,
        sandbox,
    })
}

/// Whether this is the only thread, as far as `/proc` tells.
fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(true, |tasks| tasks.count() <= 1)
}
