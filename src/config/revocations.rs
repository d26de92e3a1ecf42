//! The revocations of earlier runs, kept in a file that only the server's user reads.
//!
//! The file has a directory of its own, so that a server which has given up the rest of the file
//! system can replace it, and nothing else: the secret of a first run lies beside the directory.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::auth::{REVOCATIONS_MAX, Revocations, RevokedName};
use crate::state::{self, OpenError};

/// In the state directory.
const DIRECTORY: &str = "revocations";

const FILE: &str = "revocations.json";

/// Bytes of the file at most: each revocation with the longest name, every byte of it escaped.
const FILE_LEN_MAX: u64 = REVOCATIONS_MAX as u64 * 6 * 1024;

/// The place of the revocations, open for as long as the server runs.
#[derive(Debug)]
pub struct RevocationFile {
    directory: state::Directory,
    path: PathBuf,
}

/// Why revocations cannot be kept, or those of an earlier run not be read.
#[derive(Debug)]
pub enum RevocationError {
    /// There is no place for them, and so none were kept.
    NoPlace(String),
    /// There may be some, and they are not to be forgotten.
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for RevocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace(why) => write!(
                f,
                "revocations will not survive a restart: {why}; set STATE_DIRECTORY to a directory \
                 that this user may write"
            ),
            Self::Unreadable { path, why } => write!(
                f,
                "the revocations of earlier runs cannot be read from {}: {why}; let the server's \
                 user read it, or remove it, with which the revoked credentials are good again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for RevocationError {}

/// One revocation, as JSON.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    until_unix_s: Option<u64>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    revocations: Vec<Entry>,
}

impl RevocationFile {
    /// Finds or makes the directory, beside the secret of a first run. It belongs to `owner`, user and
    /// group, if there is one: whom the server becomes.
    ///
    /// # Errors
    /// If there is no directory and none can be made, or there is one that cannot be opened.
    pub fn open(owner: Option<(u32, u32)>) -> Result<Self, RevocationError> {
        let state = state::place();
        let state = state.map_err(|error| RevocationError::NoPlace(error.to_string()))?;
        Self::open_in(&state, owner)
    }

    fn open_in(state: &Path, owner: Option<(u32, u32)>) -> Result<Self, RevocationError> {
        let directory = state::Directory::open(state.join(DIRECTORY), owner);
        let directory = directory.map_err(|error| match error {
            OpenError::NoPlace(why) => RevocationError::NoPlace(why),
            OpenError::Unusable(path, error) => RevocationError::Unreadable {
                path,
                why: error.to_string(),
            },
        })?;
        let path = directory.path(FILE);
        Ok(Self { directory, path })
    }

    /// The directory, which is to stay writable.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Where the revocations are kept.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The revocations of earlier runs that are still in force.
    ///
    /// # Errors
    /// If there is a file that is none of revocations.
    pub fn load(&self, now_unix_s: u64) -> Result<Revocations, RevocationError> {
        self.try_load(now_unix_s)
            .map_err(|error| RevocationError::Unreadable {
                path: self.path.clone(),
                why: error.to_string(),
            })
    }

    fn try_load(&self, now_unix_s: u64) -> io::Result<Revocations> {
        let mut revocations = Revocations::default();
        let Some(text) = self.directory.read(FILE, FILE_LEN_MAX)? else {
            return Ok(revocations);
        };
        let content: Content = serde_json::from_slice(&text)?;
        for entry in content.revocations {
            let name = match (&entry.user, &entry.username) {
                (Some(user), None) => RevokedName::User(user),
                (None, Some(username)) => RevokedName::Username(username),
                _ => return Err(invalid("an entry has not exactly one of user and username")),
            };
            let inserted = revocations.insert(name, entry.until_unix_s);
            inserted.map_err(|error| invalid(&error.to_string()))?;
        }
        revocations.forget_ended(now_unix_s);
        Ok(revocations)
    }

    /// Replaces what is kept. Whatever happens meanwhile, the file is the old one or the new one,
    /// whole. It may take as long as the disk.
    ///
    /// # Errors
    /// Of the file system, or if another server has the directory. The old file stays then.
    pub fn save(&self, revocations: &Revocations) -> io::Result<()> {
        let entries = revocations.iter().map(|(name, until_unix_s)| {
            let (user, username) = match name {
                RevokedName::User(name) => (Some(name.to_owned()), None),
                RevokedName::Username(name) => (None, Some(name.to_owned())),
            };
            Entry {
                user,
                username,
                until_unix_s,
            }
        });
        let content = Content {
            revocations: entries.collect(),
        };
        self.directory.replace(FILE, &serde_json::to_vec(&content)?)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn some() -> Revocations {
        let mut some = Revocations::default();
        some.insert(RevokedName::User("zoë \"\\\n"), None).unwrap();
        some.insert(RevokedName::Username("5:bob"), Some(5))
            .unwrap();
        some
    }

    /// REV-03: what is saved is loaded, but for what is over meanwhile.
    #[test]
    fn revocations_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let mine = fs::metadata(home.path()).unwrap();
        let file = RevocationFile::open_in(&state, Some((mine.uid(), mine.gid()))).unwrap();
        assert_eq!(file.load(5).unwrap(), Revocations::default());
        file.save(&some()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(&state.join(DIRECTORY)), 0o700);
        let names = fs::read_dir(state.join(DIRECTORY)).unwrap().count();
        assert_eq!(names, 1, "no draft is left");
        let again = RevocationFile::open_in(&state, None).unwrap();
        assert_eq!(again.load(5).unwrap(), some());
        assert_eq!(again.load(6).unwrap().len(), 1);
    }

    /// REV-03: of two servers with one state the second reads it, and says that it keeps nothing there;
    /// it would write over what the first has.
    #[test]
    fn two_servers_do_not_write_one_file() {
        let home = tempfile::tempdir().unwrap();
        let first = RevocationFile::open_in(home.path(), None).unwrap();
        first.save(&some()).unwrap();
        let second = RevocationFile::open_in(home.path(), None).unwrap();
        assert_eq!(second.load(5).unwrap(), some());
        let refused = second.save(&Revocations::default()).unwrap_err();
        assert!(refused.to_string().contains("another server"), "{refused}");
        assert_eq!(second.load(5).unwrap(), some());
        drop((first, second));
        let third = RevocationFile::open_in(home.path(), None).unwrap();
        third.save(&Revocations::default()).unwrap();
    }

    /// The longest list there can be is read again.
    #[test]
    fn as_many_as_there_can_be() {
        let home = tempfile::tempdir().unwrap();
        let mut all = Revocations::default();
        for number in 0..REVOCATIONS_MAX {
            let name = format!("{number:\u{1}>763}");
            all.insert(RevokedName::Username(&name), Some(u64::MAX))
                .unwrap();
        }
        let file = RevocationFile::open_in(home.path(), None).unwrap();
        file.save(&all).unwrap();
        assert!(fs::metadata(file.path()).unwrap().len() < FILE_LEN_MAX);
        assert_eq!(file.load(0).unwrap(), all);
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let home = tempfile::tempdir().unwrap();
        let file = RevocationFile::open_in(home.path(), None).unwrap();
        for text in [
            "",
            "[]",
            r#"{"revocations": [{"until_unix_s": 5}]}"#,
            r#"{"revocations": [{"user": "a", "username": "b", "until_unix_s": 5}]}"#,
            r#"{"revocations": [{"user": "a", "until": 5}]}"#,
        ] {
            fs::write(file.path(), text).unwrap();
            let error = file.load(0).unwrap_err().to_string();
            assert!(error.contains("revocations.json"), "{error}");
        }
        let elsewhere = home.path().join("elsewhere");
        fs::write(&elsewhere, r#"{"revocations": []}"#).unwrap();
        fs::remove_file(file.path()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, file.path()).unwrap();
        assert!(file.load(0).is_err(), "a link");
        let error = RevocationFile::open_in(&elsewhere, None).unwrap_err();
        assert!(matches!(error, RevocationError::NoPlace(_)), "{error}");
    }
}
