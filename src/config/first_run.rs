//! The secret of a server that was given none: made once, kept in a file that only its user reads.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::files;
use crate::state;

/// The file's name in the state directory.
const FILE: &str = "static-auth-secret";

/// Twice what guessing can reach; the HMAC key is as long as it is useful.
const SECRET_BYTES: usize = 32;

/// The kept secret.
#[derive(Debug)]
pub struct FirstRunSecret {
    /// 32 random bytes in base64url, or what the operator wrote into the file since.
    pub secret: SecretString,
    /// Where it is kept.
    pub path: PathBuf,
    /// Whether this call made it.
    pub created: bool,
    /// Whether others could read the file, which has been put right.
    pub was_exposed: bool,
}

/// Why there is no secret. The text has the remedy.
#[derive(Debug)]
pub struct Error {
    path: Option<PathBuf>,
    source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = &self.source;
        match &self.path {
            Some(path) => write!(f, "cannot keep a secret in {}: {source}", path.display())?,
            None => write!(f, "cannot keep a secret: {source}")?,
        }
        f.write_str(
            "; name a file with one (--static-auth-secret-file FILE), or set STATE_DIRECTORY to a \
             directory that this user may write",
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The kept secret, made now if there is none.
///
/// The file is `static-auth-secret` in `$STATE_DIRECTORY` (systemd sets it), else in
/// `$XDG_STATE_HOME/turnstone`, else in `$HOME/.local/state/turnstone`. Two servers that start at
/// once get the same secret.
///
/// # Errors
///
/// If there is no such directory, or the file can neither be read nor made, or it is empty.
pub fn secret() -> Result<FirstRunSecret, Error> {
    let directory = state_directory()?;
    secret_in(&directory).map_err(|source| Error {
        path: Some(directory.join(FILE)),
        source,
    })
}

/// The kept secret if an earlier run made one; makes nothing.
///
/// # Errors
///
/// If the file is there and cannot be read, or is empty.
pub fn existing() -> Result<Option<FirstRunSecret>, Error> {
    let Ok(directory) = state_directory() else {
        return Ok(None);
    };
    let path = directory.join(FILE);
    match read(&path) {
        Ok(secret) => Ok(Some(secret)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error {
            path: Some(path),
            source,
        }),
    }
}

fn state_directory() -> Result<PathBuf, Error> {
    state::place().map_err(|source| Error { path: None, source })
}

fn secret_in(directory: &Path) -> io::Result<FirstRunSecret> {
    let path = directory.join(FILE);
    match read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        read => return read,
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| {
            let what = format!("the directory does not exist and cannot be made ({error})");
            io::Error::new(error.kind(), what)
        })?;
    let created = publish(&path, &generate()?)?;
    // Read back also what was just made: another process may have been first.
    Ok(FirstRunSecret {
        created,
        ..read(&path)?
    })
}

fn generate() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0_u8; SECRET_BYTES]);
    getrandom::fill(bytes.as_mut_slice()).map_err(io::Error::other)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

/// Makes the file appear whole or not at all, and never replaces one. Tells whether it did.
fn publish(path: &Path, secret: &str) -> io::Result<bool> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    // A process of the same number that died here left its draft.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(Zeroizing::new(format!("{secret}\n")).as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link does not replace what another process published meanwhile.
    let linked = fs::hard_link(&draft, path);
    let removed = fs::remove_file(&draft);
    match linked {
        Ok(()) => removed.map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<FirstRunSecret> {
    // A link could lead to any file that this user may read, and change its mode.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let text = files::read_open(&mut file, files::SECRET_MAX)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "the file is empty, remove it",
        ));
    }
    let was_exposed = file.metadata()?.mode() & 0o077 != 0;
    if was_exposed {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(FirstRunSecret {
        secret: SecretString::from(secret),
        path: path.to_owned(),
        created: false,
        was_exposed,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn keeps_the_secret_it_made() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state/turnstone");
        let first = secret_in(&directory).unwrap();
        let second = secret_in(&directory).unwrap();
        assert!(first.created && !second.created);
        assert_eq!(first.secret.expose_secret().len(), 43);
        assert_eq!(first.secret.expose_secret(), second.secret.expose_secret());
        assert_eq!(mode(&first.path), 0o600);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            1,
            "the draft is removed"
        );
    }

    #[test]
    fn tightens_a_file_that_others_can_read() {
        let home = tempfile::tempdir().unwrap();
        let path = secret_in(home.path()).unwrap().path;
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(secret_in(home.path()).unwrap().was_exposed);
        assert_eq!(mode(&path), 0o600);
        assert!(!secret_in(home.path()).unwrap().was_exposed);
    }

    #[test]
    fn never_replaces_a_published_secret() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE);
        assert!(publish(&path, "first").unwrap());
        assert!(!publish(&path, "second").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\n");
    }

    #[test]
    fn refuses_an_empty_file() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE), "\n").unwrap();
        assert!(secret_in(home.path()).is_err());
    }
}
