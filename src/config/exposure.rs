//! Who else on this machine can read or change a file that holds secrets.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process;

/// Bits of a file's mode (inode(7)).
const GROUP_READ: u32 = 0o040;
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
/// In a directory of this kind nobody can replace the files of others.
const STICKY: u32 = 0o1000;

/// What others can do with a file, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exposure {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// Groups that may read a secret: root's, the server's by either way of its start, and the one that
/// belongs to the file's owner alone.
fn is_trusted(group: u32, owner: u32, server_user: Option<&str>) -> bool {
    group == 0
        || group == owner
        || group == rustix::process::getegid().as_raw()
        || process::group_of(server_user) == Some(group)
}

/// Whether others can put another file in the place of this one, or write to it. A file that is not
/// there is another problem.
pub(super) fn to_writers(path: &Path) -> Option<Exposure> {
    let shown = path.display();
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if fs::metadata(path).is_ok_and(|file| file.mode() & OTHERS_WRITE != 0) {
        return Some(Exposure {
            what: format!("everybody on this machine can change {shown}"),
            remedy: format!("chmod o-w {shown}"),
        });
    }
    let replaceable = |mode| mode & OTHERS_WRITE != 0 && mode & STICKY == 0;
    fs::metadata(directory)
        .is_ok_and(|directory| replaceable(directory.mode()))
        .then(|| Exposure {
            what: format!("everybody on this machine can replace {shown}"),
            remedy: format!("chmod o-w {}", directory.display()),
        })
}

/// Whether others can read a file.
pub(super) fn to_readers(path: &Path, server_user: Option<&str>) -> Option<Exposure> {
    of_metadata(&fs::metadata(path).ok()?, path, |group, owner| {
        is_trusted(group, owner, server_user)
    })
}

fn of_metadata(
    file: &Metadata,
    path: &Path,
    is_trusted: impl Fn(u32, u32) -> bool,
) -> Option<Exposure> {
    let shown = path.display();
    if file.mode() & OTHERS_READ != 0 {
        return Some(Exposure {
            what: format!("everybody on this machine can read {shown}"),
            remedy: format!("chmod 640 {shown}"),
        });
    }
    let group = file.gid();
    if file.mode() & GROUP_READ != 0 && !is_trusted(group, file.uid()) {
        return Some(Exposure {
            what: format!("the members of group {group} can read {shown}"),
            remedy: format!("chgrp it to the group of the server's user, or chmod 600 {shown}"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

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
        let readers = |trusted: bool| {
            let file = fs::metadata(&path).unwrap();
            what(of_metadata(&file, &path, |_, _| trusted))
        };
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

        assert_eq!(what(to_writers(&path)), None);
        mode(directory.path(), 0o1777);
        assert_eq!(what(to_writers(&path)), None);
        mode(directory.path(), 0o777);
        let replace = format!("everybody on this machine can replace {shown}");
        assert_eq!(what(to_writers(&path)), Some(replace));
        mode(&path, 0o602);
        let change = format!("everybody on this machine can change {shown}");
        assert_eq!(what(to_writers(&path)), Some(change));
    }
}
