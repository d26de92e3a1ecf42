//! Who else on this machine can read or change a file that holds secrets.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{Origin, Problem};
use crate::process::{self, Reader};

/// What to do with a file that the kernel does not let this process read.
pub(super) const READABLE: &str = "let the user of the server read it: chgrp to its group \
     (turnstone) and chmod 640; a server that runs reads only where its files were at the start, so a \
     file elsewhere needs a restart";

/// Bits of a file's mode (inode(7)).
const GROUP_READ: u32 = 0o040;
const OTHERS_READ: u32 = 0o004;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// Of a directory: to reach what is in it.
const GROUP_SEARCH: u32 = 0o010;
const OTHERS_SEARCH: u32 = 0o001;
/// In a directory of this kind nobody can replace the files of others.
const STICKY: u32 = 0o1000;

/// What others can do with a file, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// Groups that may read a secret, and what leads to it: root's, the server's by either way of its
/// start, and the one that belongs to the file's owner alone.
fn is_trusted(group: u32, owner: u32, server_user: Option<&str>) -> bool {
    group == 0
        || group == owner
        || group == rustix::process::getegid().as_raw()
        || process::group_of(server_user) == Some(group)
}

/// Whether others can put another file in the place of this one, or write to it. A file that is not
/// there is another problem.
pub(super) fn to_writers(path: &Path, server_user: Option<&str>) -> Option<Exposure> {
    writers(path, |group, owner| is_trusted(group, owner, server_user))
}

/// Whether others can read a file.
pub(super) fn to_readers(path: &Path, server_user: Option<&str>) -> Option<Exposure> {
    readers(path, |group, owner| is_trusted(group, owner, server_user))
}

/// A file that this process may read as root, and the user of the server may not.
pub fn hidden_from(path: &Path, server_user: Option<&str>) -> Option<Problem> {
    let reader = process::reader(server_user)?;
    unreadable(path, &reader)?;
    let origin = Origin::File {
        path: path.to_string_lossy().into(),
        line: 0,
    };
    let name = &reader.name;
    let what = format!(
        "the user {name} cannot read it, which a server that is started as this user has to (the \
         systemd unit does so; one that is started as root reads it first)"
    );
    let remedy = format!("chgrp it to a group of {name} and chmod 640, and open the way to it");
    Some(Problem::new(&origin, "", what, remedy))
}

/// A file that a user cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its whole path.
    pub file: PathBuf,
    /// What keeps the user out: the file itself, or the first directory above it that does.
    pub because: PathBuf,
}

/// What keeps a user from reading a file, by modes, owner and groups. Lists of access rights (acl(5))
/// are not looked at.
pub fn unreadable(file: &Path, reader: &Reader) -> Option<Unreadable> {
    // What is gone meanwhile is another matter.
    let file = fs::canonicalize(file).ok()?;
    let bars = |path: &Path| {
        let bits = if path == file {
            OTHERS_READ
        } else {
            OTHERS_SEARCH
        };
        fs::metadata(path).is_ok_and(|it| {
            // Who is the owner, or in the group, has those bits alone (path_resolution(7)).
            let shift = match () {
                () if it.uid() == reader.uid => 6,
                () if reader.groups.contains(&it.gid()) => 3,
                () => 0,
            };
            reader.uid != 0 && it.mode() & (bits << shift) == 0
        })
    };
    let because = file
        .ancestors()
        .filter(|path| bars(path))
        .last()?
        .to_owned();
    Some(Unreadable { file, because })
}

fn writers(path: &Path, is_trusted: impl Fn(u32, u32) -> bool) -> Option<Exposure> {
    let shown = path.display();
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if is_closed(path, &is_trusted) {
        return None;
    }
    let file = fs::metadata(path).ok();
    if let Some((who, bit)) = file.and_then(|it| who(&it, OTHERS_WRITE, GROUP_WRITE, &is_trusted)) {
        return Some(Exposure {
            what: format!("{who} can change {shown}"),
            remedy: format!("chmod {bit}-w {shown}"),
        });
    }
    let directory_is = fs::metadata(directory).ok()?;
    if directory_is.mode() & STICKY != 0 {
        return None;
    }
    let (who, bit) = who(&directory_is, OTHERS_WRITE, GROUP_WRITE, &is_trusted)?;
    Some(Exposure {
        what: format!("{who} can replace {shown}"),
        remedy: format!("chmod {bit}-w {}", directory.display()),
    })
}

fn readers(path: &Path, is_trusted: impl Fn(u32, u32) -> bool) -> Option<Exposure> {
    let shown = path.display();
    let file = fs::metadata(path).ok()?;
    if is_closed(path, &is_trusted) {
        return None;
    }
    let (who, bit) = who(&file, OTHERS_READ, GROUP_READ, &is_trusted)?;
    Some(Exposure {
        what: format!("{who} can read {shown}"),
        remedy: match bit {
            'o' => format!("chmod 640 {shown}"),
            _ => format!("chgrp it to the group of the server's user, or chmod 600 {shown}"),
        },
    })
}

/// Who is let by one of these bits and should not be, and the letter that chmod(1) has for them.
fn who(
    file: &Metadata,
    others: u32,
    group: u32,
    is_trusted: impl Fn(u32, u32) -> bool,
) -> Option<(String, char)> {
    if file.mode() & others != 0 {
        return Some(("everybody on this machine".to_owned(), 'o'));
    }
    (file.mode() & group != 0 && !is_trusted(file.gid(), file.uid()))
        .then(|| (format!("the members of group {}", file.gid()), 'g'))
}

/// Whether a directory on the way lets nobody through but those who are trusted.
fn is_closed(path: &Path, is_trusted: impl Fn(u32, u32) -> bool) -> bool {
    let Ok(path) = fs::canonicalize(path) else {
        return false;
    };
    path.ancestors().skip(1).any(|directory| {
        fs::metadata(directory)
            .is_ok_and(|it| who(&it, OTHERS_SEARCH, GROUP_SEARCH, &is_trusted).is_none())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// PROC-07: of owner, group and others the first that fits decides, on every part of the way.
    #[test]
    fn a_reader_needs_the_file_and_the_way() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "secret").unwrap();
        let (owner, group) = {
            let metadata = fs::metadata(&path).unwrap();
            (metadata.uid(), metadata.gid())
        };
        let can = |uid: u32, gid: u32, modes: [u32; 2]| {
            let paths = [directory.path(), &path];
            for (path, mode) in paths.into_iter().zip(modes) {
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            let reader = Reader {
                name: "reader".to_owned(),
                uid,
                groups: vec![gid],
            };
            let can = unreadable(&path, &reader).is_none();
            fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
            can
        };
        let (other, others) = (owner + 1, group + 1);
        assert!(can(other, others, [0o755, 0o604]));
        assert!(!can(other, others, [0o755, 0o640]));
        assert!(!can(other, others, [0o750, 0o604]));
        assert!(can(other, group, [0o750, 0o640]));
        assert!(!can(other, group, [0o755, 0o604]));
        assert!(!can(other, others, [0o755, 0o600]));
        assert_eq!(can(owner, others, [0o755, 0o044]), owner == 0);
        assert!(can(owner, others, [0o755, 0o400]));
    }

    /// A user may be let in by any of its groups, and is told what keeps it out.
    #[test]
    fn any_group_of_a_reader_lets_it_in() {
        let directory = tempfile::tempdir().unwrap();
        let directory = fs::canonicalize(directory.path()).unwrap();
        let file = directory.join("secret");
        fs::write(&file, "secret").unwrap();
        let own = fs::metadata(&file).unwrap();
        let because = |groups: &[u32], modes: [u32; 2]| {
            for (path, mode) in [&directory, &file].into_iter().zip(modes) {
                fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            }
            let reader = Reader {
                name: "reader".to_owned(),
                uid: own.uid() + 1,
                groups: groups.to_vec(),
            };
            unreadable(&file, &reader).map(|found| found.because)
        };
        let (group, other) = (own.gid(), own.gid() + 1);
        assert_eq!(because(&[other, group], [0o750, 0o640]), None);
        assert_eq!(because(&[other], [0o755, 0o640]).as_ref(), Some(&file));
        assert_eq!(because(&[other], [0o750, 0o640]).as_ref(), Some(&directory));
        assert_eq!(
            unreadable(
                &directory.join("none"),
                &Reader {
                    name: String::new(),
                    uid: 1,
                    groups: vec![],
                }
            ),
            None
        );
    }

    /// PROC-07
    #[test]
    fn readers_and_writers_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "secret").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        let what = |found: Option<Exposure>| found.map(|found| found.what);
        let readers = |trusted: bool| what(readers(&path, |_, _| trusted));
        let writers = |trusted: bool| what(writers(&path, |_, _| trusted));
        mode(directory.path(), 0o755);
        let shown = path.display();
        mode(&path, 0o640);
        assert_eq!(readers(true), None);
        let group = fs::metadata(&path).unwrap().gid();
        let members = format!("the members of group {group} can read {shown}");
        assert_eq!(readers(false), Some(members));
        mode(&path, 0o600);
        assert_eq!(readers(false), None);
        mode(&path, 0o604);
        let everybody = format!("everybody on this machine can read {shown}");
        assert_eq!(readers(true), Some(everybody));

        // Nobody comes as far as the file.
        mode(directory.path(), 0o700);
        mode(&path, 0o666);
        assert_eq!((readers(false), writers(false)), (None, None));
        mode(directory.path(), 0o710);
        assert_eq!((readers(true), writers(true)), (None, None));
        assert!(readers(false).is_some() && writers(false).is_some());

        mode(directory.path(), 0o755);
        mode(&path, 0o600);
        assert_eq!(writers(false), None);
        mode(directory.path(), 0o1777);
        assert_eq!(writers(false), None);
        let replace = |who: &str| Some(format!("{who} can replace {shown}"));
        mode(directory.path(), 0o777);
        assert_eq!(writers(true), replace("everybody on this machine"));
        mode(directory.path(), 0o775);
        assert_eq!(writers(true), None);
        assert_eq!(
            writers(false),
            replace(&format!("the members of group {group}"))
        );
        mode(directory.path(), 0o755);
        let change = |who: &str| Some(format!("{who} can change {shown}"));
        mode(&path, 0o602);
        assert_eq!(writers(true), change("everybody on this machine"));
        mode(&path, 0o620);
        assert_eq!(writers(true), None);
        assert_eq!(
            writers(false),
            change(&format!("the members of group {group}"))
        );
    }
}
