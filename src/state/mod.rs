//! The directories that the server keeps its own files in, which only its user reads.
//!
//! Each is open for as long as the server runs, and has a directory of its own below the state
//! directory, so that a server which has given up the rest of the file system can replace what is in
//! it, and nothing else.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, renameat, unlinkat};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// Behind the name of a file that is being written.
const DRAFT: &str = "new";

/// Behind the name of a file that cannot be used.
const ASIDE: &str = "broken";

/// Files that are given to the server's user at most; there are a handful.
const FILES_MAX: usize = 1000;

/// One directory of the server's own files.
#[derive(Debug)]
pub struct Directory {
    /// Locked as long as it is open, if it is the only server's.
    open: File,
    is_shared: bool,
    path: PathBuf,
}

/// Why there is no directory.
#[derive(Debug)]
pub enum OpenError {
    /// There is none, and none can be made.
    NoPlace(String),
    /// There is one that cannot be used.
    Unusable(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace(why) => f.write_str(why),
            Self::Unusable(path, error) => write!(f, "cannot use {} ({error})", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

impl Directory {
    /// Finds or makes it. It belongs to `owner`, user and group, if there is one, and so do its files:
    /// whom the server becomes.
    ///
    /// # Errors
    /// If there is no directory and none can be made, or there is one that cannot be opened.
    pub fn open(path: PathBuf, owner: Option<(u32, u32)>) -> Result<Self, OpenError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        if let Err(error) = made
            && fs::symlink_metadata(&path).is_err()
        {
            let why = format!("cannot make {} ({error})", path.display());
            return Err(OpenError::NoPlace(why));
        }
        // A link could lead to a directory of somebody else.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(open) => File::from(open),
            Err(error) => return Err(OpenError::Unusable(path, error.into())),
        };
        // Each of two servers would write its own files over those of the other.
        let locked = flock(&open, FlockOperation::NonBlockingLockExclusive);
        let directory = Self {
            open,
            is_shared: locked == Err(Errno::WOULDBLOCK),
            path,
        };
        if let Some((user, group)) = owner
            && let Err(error) = directory.give_to(user, group)
        {
            return Err(OpenError::Unusable(directory.path, error));
        }
        Ok(directory)
    }

    /// What is another's stays so: whom the server becomes writes here, and could have put it here.
    ///
    /// In a container that lets root be nobody else the server stays root, and so do its files.
    /// Whether they can be written then shows in writing them.
    fn give_to(&self, user: u32, group: u32) -> io::Result<()> {
        let _ = fchown(&self.open, Some(user), Some(group));
        for entry in Dir::read_from(&self.open)?.take(FILES_MAX) {
            let entry = entry?;
            if entry.file_type().is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some(file) = self.existing(&name)?
                    && is_own(&file.metadata()?, user)
                {
                    let _ = fchown(file, Some(user), Some(group));
                }
            }
        }
        Ok(())
    }

    /// The directory, which is to stay writable.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.as_fd()
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What a file holds, `None` if there is no such file.
    ///
    /// # Errors
    /// Of the file system; `InvalidData` for more than `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(file) = self.existing(name)? else {
            return Ok(None);
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > bytes_max {
            let what = format!("it is no regular file of at most {bytes_max} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        // With room for all, so that growing leaves no copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn existing(&self, name: &str) -> io::Result<Option<File>> {
        // Opening a FIFO would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match openat(&self.open, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a file, or replaces it. Whatever happens meanwhile, it is the old one or the new one,
    /// whole. It may take as long as the disk.
    ///
    /// # Errors
    /// Of the file system, or if another server has the directory. The old file stays then.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.is_shared {
            let why = "another server keeps its own there; give each a STATE_DIRECTORY";
            return Err(io::Error::new(ErrorKind::ResourceBusy, why));
        }
        let draft = format!("{name}.{DRAFT}");
        // A process that died here left its draft.
        let _ = unlinkat(&self.open, &draft, AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&self.open, &draft, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(file);
        file.write_all(bytes)?;
        file.sync_all()?;
        renameat(&self.open, &draft, &self.open, name)?;
        self.open.sync_all()
    }

    /// Gives a file that cannot be used another name, where its owner finds it. Returns where.
    ///
    /// # Errors
    /// Of the file system.
    pub fn set_aside(&self, name: &str) -> io::Result<PathBuf> {
        let aside = format!("{name}.{ASIDE}");
        renameat(&self.open, name, &self.open, &aside)?;
        Ok(self.path(&aside))
    }
}

/// Whether a file is the server's to give to this user: a further link may be a file that is wanted
/// elsewhere.
fn is_own(metadata: &Metadata, user: u32) -> bool {
    metadata.nlink() == 1 && [0, user].contains(&metadata.uid())
}

/// Where the server keeps what outlives it: the first of `$STATE_DIRECTORY` (systemd sets it), else
/// `$XDG_STATE_HOME/turnstone`, else `$HOME/.local/state/turnstone`.
///
/// # Errors
/// If none of them is set.
pub fn place() -> io::Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let chosen = choose(&variable).map(|path| path.components().collect());
    chosen.ok_or_else(|| {
        let what = "none of STATE_DIRECTORY, XDG_STATE_HOME and HOME is set";
        io::Error::new(ErrorKind::NotFound, what)
    })
}

fn choose(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(directories) = variable("STATE_DIRECTORY") {
        // systemd joins several by colons.
        return std::env::split_paths(&directories).next();
    }
    let state_home = variable("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&variable("HOME")?).join(".local/state")))?;
    Some(state_home.join("turnstone"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn files_are_replaced_whole_and_read_by_one_user() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("state/own");
        let mine = fs::metadata(home.path()).unwrap();
        let directory = Directory::open(own.clone(), Some((mine.uid(), mine.gid()))).unwrap();
        assert!(directory.read("file", 10).unwrap().is_none());
        for text in ["one", "another"] {
            fs::write(own.join("file.new"), "of one who died").unwrap();
            directory.replace("file", text.as_bytes()).unwrap();
            let read = directory.read("file", 10).unwrap().unwrap();
            assert_eq!(*read, text.as_bytes());
        }
        assert_eq!((mode(&own), mode(&own.join("file"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&own).unwrap().count(), 1, "no draft is left");
        assert_eq!(directory.read("file", 7).unwrap().unwrap().len(), 7);
        assert!(directory.read("file", 6).is_err(), "longer");
    }

    #[test]
    fn what_cannot_be_used_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path().join("own"), None).unwrap();
        assert!(directory.set_aside("file").is_err());
        directory.replace("file", b"broken").unwrap();
        let aside = directory.set_aside("file").unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"broken");
        assert!(directory.read("file", 10).unwrap().is_none());
    }

    #[test]
    fn another_server_writes_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let open = || Directory::open(home.path().join("own"), None).unwrap();
        let (first, second) = (open(), open());
        assert!(second.replace("file", b"second").is_err());
        first.replace("file", b"first").unwrap();
        assert_eq!(*second.read("file", 10).unwrap().unwrap(), b"first");
        drop((first, second));
        open().replace("file", b"after it").unwrap();
    }

    #[test]
    fn links_lead_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path().join("own"), None).unwrap();
        fs::write(home.path().join("elsewhere"), "x").unwrap();
        symlink(home.path().join("elsewhere"), directory.path("file")).unwrap();
        assert!(directory.read("file", 10).is_err());
        symlink(home.path(), home.path().join("link")).unwrap();
        let refused = Directory::open(home.path().join("link"), None).unwrap_err();
        assert!(matches!(refused, OpenError::Unusable(..)), "{refused}");
        let refused = Directory::open(home.path().join("elsewhere/own"), None).unwrap_err();
        assert!(matches!(refused, OpenError::NoPlace(_)), "{refused}");
    }

    /// A user who may write here must not get the files of others by linking them.
    #[test]
    fn files_of_others_are_not_given_away() {
        let home = tempfile::tempdir().unwrap();
        let own = home.path().join("own");
        fs::create_dir(&own).unwrap();
        let [plain, linked] = ["plain", "linked"].map(|name| own.join(name));
        fs::write(&plain, "").unwrap();
        fs::write(home.path().join("wanted"), "").unwrap();
        fs::hard_link(home.path().join("wanted"), &linked).unwrap();
        let metadata = |path: &Path| fs::metadata(path).unwrap();
        let me = metadata(&plain).uid();
        assert!(is_own(&metadata(&plain), me));
        assert!(!is_own(&metadata(&linked), me));
        assert_eq!(is_own(&metadata(&plain), me + 1), me == 0);
        // Root alone can give.
        let user = if me == 0 { 12_345 } else { me };
        Directory::open(own, Some((user, user))).unwrap();
        assert_eq!(metadata(&plain).uid(), user);
        assert_eq!(metadata(&linked).uid(), me);
    }

    #[test]
    fn the_place_is_that_of_systemd_or_of_the_user() {
        let choose = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(known, _)| *known == name);
            let chosen = choose(&|name| Some(find(name)?.1.into()));
            chosen.map(|path| path.display().to_string())
        };
        let unit = ("STATE_DIRECTORY", "/var/lib/turnstone:/var/lib/other");
        let (xdg, home) = (("XDG_STATE_HOME", "/x"), ("HOME", "/users/me"));
        for (set, expected) in [
            (&[unit, xdg, home][..], Some("/var/lib/turnstone")),
            (&[xdg, home], Some("/x/turnstone")),
            (&[home], Some("/users/me/.local/state/turnstone")),
            (&[], None),
        ] {
            assert_eq!(choose(set).as_deref(), expected);
        }
    }
}
