//! The sockets of operators: bound before the process gives up its rights.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config;

/// Of the socket: whoever can open it can end every call.
const SOCKET_MODE: u32 = 0o600;

/// Of its directory, where the server makes it.
const DIRECTORY_MODE: u32 = 0o750;

/// Connections that wait to be accepted.
const QUEUE: i32 = 64;

/// What operators come by.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The Unix socket, and where it is.
    pub unix: Option<(PathBuf, UnixListener)>,
    /// The TCP listener.
    pub tcp: Option<TcpListener>,
}

/// Why one of them cannot be had.
#[derive(Debug)]
pub enum ListenError {
    /// The Unix socket.
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Another server answers there.
    InUse(PathBuf),
    /// There is something else than a socket.
    NoSocket(PathBuf),
    /// The TCP address.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The kernel's reason.
        error: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { path, error } => write!(
                f,
                "cannot listen for operators on {} ({error}); make the directory and let this user \
                 write to it, or set admin.socket to another path, or to \"\" for none",
                path.display()
            ),
            Self::InUse(path) => write!(
                f,
                "another server answers operators on {}; stop it, or set admin.socket to another \
                 path",
                path.display()
            ),
            Self::NoSocket(path) => write!(
                f,
                "{} is no socket, and is not replaced; remove it, or set admin.socket to another \
                 path",
                path.display()
            ),
            Self::Tcp { address, error } => write!(
                f,
                "cannot listen for operators on {address}: {error}; set admin.listen to another \
                 address"
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// Binds what is configured. The socket belongs to `owner`, user and group, if there is one.
///
/// The socket's file outlives the process, which has no right to remove it by then; the next server
/// replaces it.
///
/// # Errors
/// If something that the operator asked for cannot be had. The default socket costs a warning.
pub fn bind(admin: &config::Admin, owner: Option<(u32, u32)>) -> Result<Listeners, ListenError> {
    let mut listeners = Listeners::default();
    if let Some(path) = &admin.socket {
        match bind_socket(path, owner) {
            Ok(listener) => listeners.unix = Some((path.clone(), listener)),
            Err(error) if admin.is_default => tracing::warn!("{error}"),
            Err(error) => return Err(error),
        }
    }
    if let Some(address) = admin.listen {
        let listener = TcpListener::bind(address);
        listeners.tcp = Some(listener.map_err(|error| ListenError::Tcp { address, error })?);
    }
    Ok(listeners)
}

fn bind_socket(path: &Path, owner: Option<(u32, u32)>) -> Result<UnixListener, ListenError> {
    let failed = |error| ListenError::Socket {
        path: path.to_owned(),
        error,
    };
    make_directory(path, owner.map(|(_, group)| group)).map_err(failed)?;
    remove_stale(path)?;
    let listener = bind_private(path).map_err(failed)?;
    if let Some((user, group)) = owner {
        unless_forbidden(lchown(path, Some(user), Some(group))).map_err(failed)?;
    }
    Ok(listener)
}

/// The file has its mode from the first moment on, and by no second look at the path.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux makes the file with the mode of the socket, less the process's mask.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(QUEUE)?;
    Ok(OwnedFd::from(socket).into())
}

/// Makes the last directory of the path, if it is missing. The server's group can look into it, and
/// change nothing.
fn make_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    let Some(directory) = path.parent() else {
        return Ok(());
    };
    match DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Ok(()) => {
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
            unless_forbidden(lchown(directory, None, group))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// In a container that lets root be nobody else the server stays root.
fn unless_forbidden(given: io::Result<()>) -> io::Result<()> {
    match given {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// Removes the socket of a server that is gone.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::Socket {
        path: path.to_owned(),
        error,
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(ListenError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// ADM-04
    #[test]
    fn the_socket_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("run/admin.sock");
        let mine = fs::metadata(home.path()).unwrap();
        let _listener = bind_socket(&path, Some((mine.uid(), mine.gid()))).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&path), SOCKET_MODE);
        assert_eq!(mode(path.parent().unwrap()), DIRECTORY_MODE);
    }

    /// ADM-04
    #[test]
    fn only_the_socket_of_a_server_that_is_gone_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        let first = bind_socket(&path, None).unwrap();
        let refused = bind_socket(&path, None).unwrap_err();
        assert!(matches!(refused, ListenError::InUse(_)), "{refused}");
        drop(first);
        let _second = bind_socket(&path, None).unwrap();

        let file = home.path().join("file");
        fs::write(&file, "precious").unwrap();
        let refused = bind_socket(&file, None).unwrap_err();
        assert!(matches!(refused, ListenError::NoSocket(_)), "{refused}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    /// Two levels are not made: a typing error must not leave a tree behind.
    #[test]
    fn what_nobody_asked_for_is_no_reason_not_to_start() {
        let home = tempfile::tempdir().unwrap();
        let mut admin = config::Admin {
            socket: Some(home.path().join("no/such/admin.sock")),
            is_default: true,
            listen: None,
            token: None,
        };
        assert!(bind(&admin, None).unwrap().unix.is_none());
        admin.is_default = false;
        let refused = bind(&admin, None).unwrap_err().to_string();
        assert!(refused.contains("no/such/admin.sock") && refused.contains("admin.socket"));
    }
}
