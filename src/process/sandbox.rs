//! Landlock (landlock(7)): rights that the kernel takes from a thread that asks for it, whoever its
//! user is.
//!
//! There is one exception to what is closed, and only for who asks for it: connecting to one TCP
//! port. A listener added later would need binding, and a
//! configuration read again would need files: both are for a process that has not entered yet.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, NetPort, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The rights to files that are closed: all of this version. A later one can close named Unix
/// sockets too, of which systemd's is one.
const FILES: ABI = ABI::V8;

/// What Landlock closes.
#[derive(Debug)]
pub struct Sandbox {
    /// The version in force.
    version: Option<u32>,
    lacking: Option<String>,
    abstract_sockets: bool,
    connect_port: Option<u16>,
}

impl Sandbox {
    /// Closes the file system, `bind` and `connect` of TCP sockets, signals to processes outside, and
    /// abstract Unix sockets of others (unless systemd is to be notified by one). UDP has no such
    /// right, and is what relaying is.
    ///
    /// Not closed, because Landlock has no right for it: `listen` on a socket that was not bound,
    /// which the kernel gives a port; connecting by `MSG_FASTOPEN`; Multipath TCP; Unix sockets by
    /// path, of which systemd's is one; new namespaces and other system calls.
    ///
    /// `connect_port` stays open for `connect`, at whatever address: Landlock knows ports only.
    ///
    /// It works on the calling thread and on those that it starts from then on.
    #[must_use]
    pub fn enter(connect_port: Option<u16>) -> Self {
        // systemd writes the abstract name with an @.
        let notify = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        let abstract_sockets = notify.as_encoded_bytes().first() != Some(&b'@');
        let (version, lacking) = match restrict(abstract_sockets, connect_port) {
            Ok(status) => outcome(&status),
            Err(error) => (None, Some(format!("Landlock ({error})"))),
        };
        Self {
            version,
            lacking,
            abstract_sockets,
            connect_port,
        }
    }

    /// As where there is no Landlock.
    #[cfg(test)]
    pub(super) fn none(why: &str) -> Self {
        Self {
            version: None,
            lacking: Some(why.to_owned()),
            abstract_sockets: false,
            connect_port: None,
        }
    }

    /// What is not closed, and why.
    pub fn lacking(&self) -> Option<String> {
        self.lacking.clone()
    }
}

impl fmt::Display for Sandbox {
    /// What is closed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(version) = self.version else {
            return f.write_str("no Landlock");
        };
        write!(f, "Landlock ABI {version}: no files")?;
        if version >= 4 {
            match self.connect_port {
                None => f.write_str(", no TCP bind or connect")?,
                Some(port) => write!(f, ", no TCP bind, TCP connect to port {port} only")?,
            }
        }
        if version >= 6 {
            f.write_str(", no signals")?;
            if self.abstract_sockets {
                f.write_str(", no abstract sockets")?;
            }
        }
        Ok(())
    }
}

fn restrict(
    abstract_sockets: bool,
    connect_port: Option<u16>,
) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::Signal)?;
    if abstract_sockets {
        rules = rules.scope(Scope::AbstractUnixSocket)?;
    }
    let mut rules = rules.create()?;
    if let Some(port) = connect_port {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}

/// The version in force, and what is missing of what was asked for.
fn outcome(status: &RestrictionStatus) -> (Option<u32>, Option<String>) {
    let version = match status.landlock {
        LandlockStatus::NotImplemented => {
            return (
                None,
                Some("Landlock (not in this kernel, or its calls are filtered)".to_owned()),
            );
        }
        LandlockStatus::NotEnabled => {
            return (None, Some("Landlock (not enabled at boot)".to_owned()));
        }
        LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
    };
    match status.ruleset {
        RulesetStatus::FullyEnforced => (Some(version), None),
        RulesetStatus::PartiallyEnforced => {
            let lacking = match version {
                ..4 => "Landlock for TCP (Linux 6.7) and signals (Linux 6.12)",
                4..6 => "Landlock for signals (Linux 6.12)",
                _ => "a part of Landlock",
            };
            (Some(version), Some(lacking.to_owned()))
        }
        RulesetStatus::NotEnforced => (None, Some("Landlock (refused)".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::process::{Pid, test_kill_process};
    use socket2::{Domain, Type};

    use super::*;

    /// Whether this kernel has Landlock, by the least that can be asked of it.
    fn is_expected() -> bool {
        let asked = std::thread::spawn(|| {
            let least = Ruleset::default().handle_access(AccessFs::Execute)?;
            least.create()?.restrict_self()
        });
        let asked: Result<RestrictionStatus, RulesetError> = asked.join().unwrap();
        matches!(asked.unwrap().landlock, LandlockStatus::Available { .. })
    }

    /// PROC-04: what is closed, and that relaying and systemd's socket are not. On a thread, which is
    /// what the kernel confines.
    #[test]
    fn files_and_tcp_are_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "readable by everybody before").unwrap();
        let notified = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        let notify = directory.path().join("notify");
        let stream = directory.path().join("stream");
        let _stream = UnixListener::bind(&stream).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let held = File::open(&path).unwrap();
        let confined = std::thread::spawn(move || {
            let sandbox = Sandbox::enter(None);
            let Some(version) = sandbox.version else {
                assert!(!is_expected(), "{:?}", sandbox.lacking());
                println!("not tested: {}", sandbox.lacking().unwrap());
                return;
            };
            let denied = Some(ErrorKind::PermissionDenied);
            assert_eq!(File::open(&path).err().map(|e| e.kind()), denied);
            assert_eq!(File::open("/etc/passwd").err().map(|e| e.kind()), denied);
            let new = directory.path().join("new");
            assert_eq!(File::create(new).err().map(|e| e.kind()), denied);
            assert_eq!(fs::read_dir("/").err().map(|e| e.kind()), denied);
            let run = std::process::Command::new("/bin/true").status();
            assert_eq!(run.err().map(|e| e.kind()), denied);
            assert_eq!(fs::remove_file(&path).err().map(|e| e.kind()), denied);
            if version >= 4 {
                let connected = TcpStream::connect(listening);
                assert_eq!(connected.err().map(|e| e.kind()), denied);
                let bound = TcpListener::bind("127.0.0.1:0");
                assert_eq!(bound.err().map(|e| e.kind()), denied);
            }
            // What is not closed, which the documents must not claim.
            let unbound = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            unbound
                .listen(1)
                .expect("listening without binding is open");
            UnixStream::connect(stream).expect("Unix sockets by path are open");
            if version >= 6 {
                let parent = Pid::from_raw(1).unwrap();
                assert!(test_kill_process(parent).is_err());
            }
            // A thread that is started from here inherits it.
            let inherited = std::thread::spawn(|| File::open("/etc/passwd").err());
            let inherited = inherited.join().unwrap().map(|e| e.kind());
            assert_eq!(inherited, denied);
            assert!(held.metadata().is_ok(), "what is open stays open");
            UdpSocket::bind("127.0.0.1:0").unwrap();
            let unix = UnixDatagram::unbound().unwrap();
            unix.send_to(b"READY=1", notify).unwrap();
            assert_eq!(sandbox.lacking().is_none(), version >= 6);
        });
        confined.join().unwrap();
        drop(notified);
        File::open("/etc/passwd").expect("the other threads are not confined");
    }

    /// PROC-04: the exception is one port, for connecting, and opens nothing else.
    #[test]
    fn one_port_stays_open_for_connecting() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [open, closed] = listeners.each_ref().map(|it| it.local_addr().unwrap());
        let confined = std::thread::spawn(move || {
            let sandbox = Sandbox::enter(Some(open.port()));
            let Some(4..) = sandbox.version else {
                println!("not tested: {}", sandbox.lacking().unwrap());
                return;
            };
            let told = format!(", no TCP bind, TCP connect to port {} only", open.port());
            assert!(sandbox.to_string().contains(&told), "{sandbox}");
            TcpStream::connect(open).expect("this port is open");
            let denied = Some(ErrorKind::PermissionDenied);
            let connected = TcpStream::connect(closed);
            assert_eq!(connected.err().map(|e| e.kind()), denied);
            let bound = TcpListener::bind(("127.0.0.2", open.port()));
            assert_eq!(bound.err().map(|e| e.kind()), denied);
            assert_eq!(File::open("/etc/passwd").err().map(|e| e.kind()), denied);
        });
        confined.join().unwrap();
    }
}
