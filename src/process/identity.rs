//! Whom a process that was started as root becomes.

use std::ffi::CString;
use std::fmt;
use std::io;

use nix::unistd::{
    Gid, Group, Uid, User, getgrouplist, getresuid, setgroups, setresgid, setresuid,
};

use super::ConfineError;

/// Whom a server that was started as root becomes, if there is such a user.
pub const PREFERRED_USER: &str = "turnstone";

/// Whom it becomes otherwise.
pub const FALLBACK_USER: &str = "nobody";

/// User and group of nobody, for systems without a list of users, such as containers of one
/// program.
const NOBODY: u32 = 65534;

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Unprivileged {
    name: String,
    uid: u32,
    gid: u32,
}

impl Unprivileged {
    /// Looks a user up by name or number. A number needs no entry in the list of users.
    fn find(name: &str) -> Option<Self> {
        let number: Option<u32> = name.parse().ok().filter(|number| *number != u32::MAX);
        let entry = match number {
            Some(number) => User::from_uid(Uid::from_raw(number)),
            None => User::from_name(name),
        };
        // A list that cannot be read has nobody.
        if let Some(user) = entry.ok().flatten() {
            return Some(Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            });
        }
        number.map(|number| Self {
            name: name.to_owned(),
            uid: number,
            gid: number,
        })
    }
}

/// The group of the user that a server becomes, which may well read its secrets.
pub fn group_of(configured: Option<&str>) -> Option<u32> {
    Unprivileged::find(configured.unwrap_or(PREFERRED_USER)).map(|user| user.gid)
}

/// Who reads the files of a server that starts as an ordinary user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The user's name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its groups.
    pub groups: Vec<u32>,
}

/// The user that a server becomes, if this process is root, who may read what that user may not.
pub fn reader(configured: Option<&str>) -> Option<Reader> {
    if !Uid::effective().is_root() {
        return None;
    }
    reader_of(configured.unwrap_or(PREFERRED_USER))
}

/// A user, with the groups that the lists of this machine give it.
pub fn reader_of(name: &str) -> Option<Reader> {
    let Unprivileged { name, uid, gid } = Unprivileged::find(name)?;
    let groups = CString::new(name.as_str()).ok();
    let groups = groups.and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok());
    let groups = groups.map_or_else(
        || vec![gid],
        |all| all.iter().map(|it| it.as_raw()).collect(),
    );
    Some(Reader { name, uid, groups })
}

/// Whom a process started as root becomes, with the one group that is left to it.
pub fn successor(configured: Option<&str>) -> Option<Reader> {
    let Unprivileged { name, uid, gid } = choose(configured).ok().flatten()?.user;
    let groups = vec![gid];
    Some(Reader { name, uid, groups })
}

/// The number of a group, by name or number.
pub fn group_number(name: &str) -> Option<u32> {
    let entry = Group::from_name(name).ok().flatten();
    entry.map_or_else(|| name.parse().ok(), |group| Some(group.gid.as_raw()))
}

/// User and group that a process started as root becomes, by number; `None` if it stays who it is.
pub fn becomes(configured: Option<&str>) -> Option<(u32, u32)> {
    let choice = choose(configured).ok().flatten()?;
    Some((choice.user.uid, choice.user.gid))
}

/// Whether this machine has a user of this name or number.
pub fn is_user(name: &str) -> bool {
    Unprivileged::find(name).is_some()
}

/// Whom to become, and whether the operator said so.
#[derive(Debug)]
pub(super) struct Choice {
    user: Unprivileged,
    configured: bool,
    warnings: Vec<String>,
}

/// Who this process is after all.
#[derive(Debug)]
pub(super) struct Now {
    name: Option<String>,
    uid: u32,
    pub(super) warnings: Vec<String>,
}

/// Whom this process should become: `None` unless it is root.
pub(super) fn choose(configured: Option<&str>) -> Result<Option<Choice>, ConfineError> {
    let found = configured.map(|name| {
        Unprivileged::find(name).ok_or_else(|| ConfineError::UnknownUser(name.to_owned()))
    });
    let found = found.transpose()?;
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    if let Some(user) = found {
        return Ok(Some(Choice {
            user,
            configured: true,
            warnings: vec![],
        }));
    }
    Ok(Some(unconfigured(Unprivileged::find)))
}

fn unconfigured(find: impl Fn(&str) -> Option<Unprivileged>) -> Choice {
    if let Some(user) = find(PREFERRED_USER) {
        return Choice {
            user,
            configured: false,
            warnings: vec![],
        };
    }
    let user = find(FALLBACK_USER).unwrap_or_else(|| Unprivileged {
        name: FALLBACK_USER.to_owned(),
        uid: NOBODY,
        gid: NOBODY,
    });
    let warning = format!(
        "started as root, and there is no user {PREFERRED_USER:?}: running as {:?}, as other \
         programs may; make the user (systemd/turnstone.sysusers), or set server.user",
        user.name
    );
    Choice {
        user,
        configured: false,
        warnings: vec![warning],
    }
}

impl Choice {
    /// Becomes the user, for good. A user that nobody configured and the kernel refuses (in a
    /// container that has no other, or without the capabilities) costs a warning.
    pub(super) fn assume(mut self) -> Result<Now, ConfineError> {
        let Unprivileged { name, uid, gid } = &self.user;
        match change(Uid::from_raw(*uid), Gid::from_raw(*gid)) {
            Ok(()) if *uid == 0 => {
                let warning = "server.user is root: its files are in reach of who breaks in; name \
                    another user";
                self.warnings.push(warning.to_owned());
            }
            Ok(()) if can_regain_root() => return Err(ConfineError::RootRegained),
            Ok(()) => {}
            Err(error) if self.configured => {
                let user = name.clone();
                return Err(ConfineError::Refused { user, error });
            }
            Err(error) => {
                let warning = format!(
                    "started as root, and the kernel does not let it become user {name:?} \
                     ({error}): running as root without capabilities; start as another user"
                );
                return Ok(Now {
                    warnings: vec![warning],
                    ..Now::unchanged()
                });
            }
        }
        Ok(Now {
            name: Some(self.user.name),
            uid: self.user.uid,
            warnings: self.warnings,
        })
    }
}

/// Groups first: who is not root any more cannot leave them.
fn change(uid: Uid, gid: Gid) -> io::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

fn can_regain_root() -> bool {
    let root = Uid::from_raw(0);
    let is_root = |ids: nix::unistd::ResUid| [ids.real, ids.effective, ids.saved].contains(&root);
    getresuid().map_or(true, is_root) || setresuid(root, root, root).is_ok()
}

impl Now {
    pub(super) fn unchanged() -> Self {
        Self {
            name: None,
            uid: Uid::effective().as_raw(),
            warnings: vec![],
        }
    }
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_by_name_and_by_number() {
        assert!(is_user("root") && is_user("0") && is_user("4000000000"));
        for nobody in ["", "no-such-user-here", "-1", "4294967295", "0x0"] {
            assert!(!is_user(nobody), "{nobody}");
        }
        let root = Unprivileged::find("0").unwrap();
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
    }

    /// PROC-01
    #[test]
    fn nobody_is_the_last_resort_and_costs_a_warning() {
        let user = |name: &str, uid| Unprivileged {
            name: name.to_owned(),
            uid,
            gid: uid,
        };
        let own = unconfigured(|name| (name == PREFERRED_USER).then(|| user(name, 990)));
        assert_eq!((own.user.uid, own.warnings.len()), (990, 0));
        let nobody = unconfigured(|name| (name == FALLBACK_USER).then(|| user(name, 99)));
        assert_eq!((nobody.user.uid, nobody.warnings.len()), (99, 1));
        let unlisted = unconfigured(|_| None);
        assert_eq!((unlisted.user.uid, unlisted.warnings.len()), (NOBODY, 1));
    }

    #[test]
    fn an_unknown_configured_user_is_an_error_with_a_remedy() {
        let error = choose(Some("no-such-user-here")).unwrap_err().to_string();
        assert!(error.contains("\"no-such-user-here\"") && error.contains("make it"));
    }
}
