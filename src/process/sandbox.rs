//! Landlock (landlock(7)): rights that the kernel takes from a thread that asks for it, whoever its
//! user is.
//!
//! A configuration is read again, and files are replaced rather than written to: so their directories
//! stay readable, as far as the user may read there. Directories that the server keeps files in are
//! open, and few TCP ports for connecting to. A listener may be added, so binding is open.

use std::fmt;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope, make_bitflags, path_beneath_rules,
};

/// The rights to files that are closed: all of this version. A later one can close named Unix
/// sockets too, of which systemd's is one.
const FILES: ABI = ABI::V8;

/// Directories up to this depth (`/`, `/etc`) hold much beside ours: there only the very files stay
/// readable.
const SHARED_DEPTH: usize = 1;

/// What is left in the directories of the server's own files: reading them, and putting whole new ones
/// in their place.
const OWN_FILES: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | WriteFile | Truncate | MakeReg | RemoveFile | ReadDir
});

/// What stays open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Openings<'a> {
    /// Files to be read again, and what takes their place in their directories.
    pub readable: &'a [PathBuf],
    /// The directories in which files can be made, read and replaced.
    pub writable: &'a [BorrowedFd<'a>],
    /// The only TCP ports that can be connected to.
    pub connect_ports: &'a [u16],
}

/// What Landlock closes.
#[derive(Debug)]
pub struct Sandbox {
    /// What stays readable.
    readable: Vec<PathBuf>,
    /// The version in force.
    version: Option<u32>,
    lacking: Option<String>,
    abstract_sockets: bool,
    has_own_files: bool,
    connect_ports: Vec<u16>,
}

impl Sandbox {
    /// Closes the file system but for reading where `files` are and for `writable`, `connect` of TCP
    /// sockets, signals to
    /// processes outside, and abstract Unix sockets of others (unless systemd is to be notified by
    /// one). UDP has no such right, and is what relaying is. Binding TCP sockets is open for listeners
    /// that are added; closing it would leave `listen` without `bind` open.
    ///
    /// Not closed, because Landlock has no right for it: connecting by `MSG_FASTOPEN`; Multipath TCP; Unix sockets by
    /// path, of which systemd's is one; new namespaces and other system calls.
    ///
    /// `connect_ports` stay open for `connect`, at whatever address: Landlock knows ports only.
    ///
    /// It works on the calling thread and on those that it starts from then on.
    #[must_use]
    pub fn enter(openings: Openings<'_>) -> Self {
        let Openings {
            readable: files,
            writable,
            connect_ports,
        } = openings;
        let mut connect_ports = connect_ports.to_vec();
        connect_ports.sort_unstable();
        connect_ports.dedup();
        // systemd writes the abstract name with an @.
        let notify = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        let abstract_sockets = notify.as_encoded_bytes().first() != Some(&b'@');
        let mut readable = readable(files);
        let restricted = restrict(abstract_sockets, &readable, writable, &connect_ports);
        let has_openings = restricted.is_ok();
        let has_own_files = has_openings && !writable.is_empty();
        connect_ports.retain(|_| has_openings);
        // Where the call that makes exceptions is filtered, there are none.
        let restricted = restricted.or_else(|_| {
            readable.clear();
            restrict(abstract_sockets, &[], &[], &[])
        });
        let (version, lacking) = match restricted {
            Ok(status) => outcome(&status),
            Err(error) => (None, Some(format!("Landlock ({error})"))),
        };
        Self {
            readable,
            version,
            lacking,
            abstract_sockets,
            has_own_files,
            connect_ports,
        }
    }

    /// As where there is no Landlock.
    #[cfg(test)]
    pub(super) fn none(why: &str) -> Self {
        Self {
            readable: vec![],
            version: None,
            lacking: Some(why.to_owned()),
            abstract_sockets: false,
            has_own_files: false,
            connect_ports: vec![],
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
        for (index, path) in self.readable.iter().enumerate() {
            let before = if index == 0 { " but to read" } else { " and" };
            write!(f, "{before} {}", path.display())?;
        }
        if self.has_own_files {
            f.write_str(if self.readable.is_empty() {
                " but its own"
            } else {
                ", and its own"
            })?;
        }
        if version >= 4 {
            match &self.connect_ports[..] {
                [] => f.write_str(", no TCP connect")?,
                [port] => write!(f, ", TCP connect to port {port} only")?,
                [ports @ .., last] => {
                    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                    let ports = ports.join(", ");
                    write!(f, ", TCP connect to ports {ports} and {last} only")?;
                }
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

/// What stays readable for these files to be read again: their directories, with links and without.
fn readable(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut readable = Vec::new();
    for file in files {
        let resolved = fs::canonicalize(file).ok();
        let absolute = std::path::absolute(file).ok();
        for file in absolute.into_iter().chain(resolved) {
            let directory = file.parent().unwrap_or(&file);
            let depth = directory.ancestors().count() - 1;
            let path = match depth {
                ..=SHARED_DEPTH => file,
                _ => directory.to_owned(),
            };
            if !readable.contains(&path) {
                readable.push(path);
            }
        }
    }
    readable
}

fn restrict(
    abstract_sockets: bool,
    readable: &[PathBuf],
    writable: &[BorrowedFd<'_>],
    connect_ports: &[u16],
) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(FILES))?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::Signal)?;
    if abstract_sockets {
        rules = rules.scope(Scope::AbstractUnixSocket)?;
    }
    let mut rules = rules.create()?;
    if !readable.is_empty() {
        // One that this user cannot reach is left out.
        rules = rules.add_rules(path_beneath_rules(readable, AccessFs::ReadFile))?;
    }
    for directory in writable {
        rules = rules.add_rule(PathBeneath::new(directory, OWN_FILES))?;
    }
    for &port in connect_ports {
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
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::sync::mpsc::channel;

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
    fn files_and_connecting_are_closed() {
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
        let ours = tempfile::tempdir().unwrap();
        let configuration = ours.path().join("turnserver.toml");
        fs::write(&configuration, "before").unwrap();
        let (replace, to_replace) = channel();
        let (tell_replaced, replaced) = channel();
        let new = ours.path().join("new");
        let in_place = configuration.clone();
        let confined = std::thread::spawn(move || {
            let sandbox = Sandbox::enter(Openings {
                readable: std::slice::from_ref(&configuration),
                ..Openings::default()
            });
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
            }
            // What a reload needs: the file that stands there then, and listeners.
            let text = fs::read_to_string(&configuration);
            assert_eq!(text.unwrap(), "before");
            replace.send(()).unwrap();
            replaced.recv().unwrap();
            assert_eq!(fs::read_to_string(&configuration).unwrap(), "replaced");
            let listed = fs::read_dir(configuration.parent().unwrap());
            assert_eq!(listed.err().map(|e| e.kind()), denied);
            let written = fs::write(&configuration, "by us");
            assert_eq!(written.err().map(|e| e.kind()), denied);
            TcpListener::bind("127.0.0.1:0").expect("binding is open");
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
        // Nobody asks where there is no Landlock.
        if to_replace.recv().is_ok() {
            fs::write(&new, "replaced").unwrap();
            fs::rename(&new, &in_place).unwrap();
            tell_replaced.send(()).unwrap();
        }
        confined.join().unwrap();
        drop(notified);
        File::open("/etc/passwd").expect("the other threads are not confined");
    }

    /// PROC-04: a directory that holds much beside ours is not opened for one file in it.
    #[test]
    fn shared_directories_stay_closed() {
        let readable = |file: &str| readable(&[file.into()]);
        for file in ["/turnserver.toml", "/etc/turnserver.toml"] {
            assert_eq!(readable(file), [PathBuf::from(file)]);
        }
        let own = PathBuf::from("/etc/turnstone-of-the-test");
        assert_eq!(
            readable("/etc/turnstone-of-the-test/turnserver.toml"),
            [own]
        );
    }

    /// PROC-10: the server's own files can be replaced whole, and no others be touched.
    #[test]
    fn one_directory_can_be_left_open() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(home.path().join("secret"), "not theirs").unwrap();
        let confined = std::thread::spawn(move || {
            let directory = File::open(&own).unwrap();
            let sandbox = Sandbox::enter(Openings {
                writable: &[directory.as_fd()],
                ..Openings::default()
            });
            fs::write(own.join("draft"), "whole").unwrap();
            fs::rename(own.join("draft"), own.join("file")).unwrap();
            assert_eq!(fs::read(own.join("file")).unwrap(), b"whole");
            directory.sync_all().unwrap();
            if sandbox.version.is_none() {
                assert!(!is_expected(), "{:?}", sandbox.lacking());
                return;
            }
            let denied = Some(ErrorKind::PermissionDenied);
            let secret = home.path().join("secret");
            assert_eq!(fs::read(&secret).err().map(|e| e.kind()), denied);
            let moved = fs::rename(own.join("file"), &secret);
            assert!(moved.is_err(), "out of the directory");
            let linked = fs::hard_link(&secret, own.join("linked"));
            assert!(linked.is_err(), "into it");
            let made = fs::create_dir(own.join("directory"));
            assert_eq!(made.err().map(|e| e.kind()), denied);
            fs::remove_file(own.join("file")).unwrap();
        });
        confined.join().unwrap();
    }

    /// PROC-04: the exceptions are ports, for connecting, and open nothing else.
    #[test]
    fn a_few_ports_stay_open_for_connecting() {
        for count in [1, 3] {
            let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let mut servers = listeners.each_ref().map(|it| it.local_addr().unwrap());
            servers[..count].sort_unstable();
            let confined = std::thread::spawn(move || {
                let (open, closed) = servers.split_at(count);
                let ports: Vec<u16> = open.iter().rev().map(|it| it.port()).collect();
                let sandbox = Sandbox::enter(Openings {
                    connect_ports: &[&ports[..], &ports[..1]].concat(),
                    ..Openings::default()
                });
                let Some(4..) = sandbox.version else {
                    println!("not tested: {}", sandbox.lacking().unwrap());
                    return;
                };
                let told = match open {
                    [one] => format!("port {}", one.port()),
                    [a, b, c] => format!("ports {}, {} and {}", a.port(), b.port(), c.port()),
                    _ => unreachable!(),
                };
                let told = format!(", TCP connect to {told} only");
                assert!(sandbox.to_string().contains(&told), "{sandbox}");
                for server in open {
                    TcpStream::connect(server).expect("this port is open");
                }
                let denied = Some(ErrorKind::PermissionDenied);
                let connected = TcpStream::connect(closed[0]);
                assert_eq!(connected.err().map(|e| e.kind()), denied);
                assert_eq!(File::open("/etc/passwd").err().map(|e| e.kind()), denied);
            });
            confined.join().unwrap();
        }
    }
}
