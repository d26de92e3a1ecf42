//! Credentials that the operator has withdrawn before their time.

use std::collections::BTreeMap;
use std::fmt;

use super::{AuthFailure, Identity};

/// Revocations of both kinds together. The operator who needs more changes the secret.
pub const REVOCATIONS_MAX: usize = 10_000;

/// What a revocation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevokedName<'a> {
    /// A static user, and every time-limited USERNAME of the user.
    User(&'a str),
    /// This very USERNAME.
    Username(&'a str),
}

/// When a revocation ends by itself: Unix time in seconds, or never.
pub type Until = Option<u64>;

/// The names that are refused. Looked up once for each authenticated request; a change is a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    users: BTreeMap<Box<str>, Until>,
    usernames: BTreeMap<Box<str>, Until>,
}

/// There are [`REVOCATIONS_MAX`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRevocations;

impl fmt::Display for TooManyRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{REVOCATIONS_MAX} revocations are in force, which is the most; undo some, or change \
             auth.static_auth_secret, which ends all time-limited credentials"
        )
    }
}

impl std::error::Error for TooManyRevocations {}

impl Revocations {
    /// How many there are, of both kinds.
    pub fn len(&self) -> usize {
        self.users.len() + self.usernames.len()
    }

    /// Whether nobody is refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them: users, then usernames, each in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (RevokedName<'_>, Until)> {
        let users = self.users.iter();
        let usernames = self.usernames.iter();
        users
            .map(|(name, until)| (RevokedName::User(name), *until))
            .chain(usernames.map(|(name, until)| (RevokedName::Username(name), *until)))
    }

    /// Adds a revocation, or gives the one of this name another end.
    ///
    /// # Errors
    /// If there is no room for one more.
    pub fn insert(
        &mut self,
        name: RevokedName<'_>,
        until: Until,
    ) -> Result<(), TooManyRevocations> {
        let is_full = self.len() >= REVOCATIONS_MAX;
        let (of_kind, name) = match name {
            RevokedName::User(name) => (&mut self.users, name),
            RevokedName::Username(name) => (&mut self.usernames, name),
        };
        if is_full && !of_kind.contains_key(name) {
            return Err(TooManyRevocations);
        }
        of_kind.insert(name.into(), until);
        Ok(())
    }

    /// Removes a revocation; whether it was there.
    pub fn remove(&mut self, name: RevokedName<'_>) -> bool {
        let removed = match name {
            RevokedName::User(name) => self.users.remove(name),
            RevokedName::Username(name) => self.usernames.remove(name),
        };
        removed.is_some()
    }

    /// Removes those that are over.
    pub fn forget_ended(&mut self, now_unix_s: u64) {
        self.users
            .retain(|_, until| is_in_force(*until, now_unix_s));
        self.usernames
            .retain(|_, until| is_in_force(*until, now_unix_s));
    }

    /// Whether a user with this USERNAME is refused.
    pub fn cover(&self, user: &str, username: &str, now_unix_s: u64) -> bool {
        let names = [self.users.get(user), self.usernames.get(username)];
        let mut untils = names.into_iter().flatten();
        untils.any(|until| is_in_force(*until, now_unix_s))
    }

    /// Refuses who has authenticated with a revoked credential. Only who knows its password comes so
    /// far.
    ///
    /// # Errors
    /// [`AuthFailure::Revoked`], or the failure that there was before.
    pub fn apply(
        &self,
        checked: Result<Identity, AuthFailure>,
        now_unix_s: u64,
    ) -> Result<Identity, AuthFailure> {
        let identity = match &checked {
            Ok(identity) => identity,
            Err(AuthFailure::StaleNonce(identity)) => identity,
            Err(_) => return checked,
        };
        if !self.cover(&identity.user, &identity.username, now_unix_s) {
            return checked;
        }
        Err(AuthFailure::Revoked {
            username: identity.username.clone(),
        })
    }
}

/// As with time-limited credentials, the second that is named counts still.
fn is_in_force(until: Until, now_unix_s: u64) -> bool {
    until.is_none_or(|until| now_unix_s <= until)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// REV-01: a user is every name of the user, a USERNAME nothing but itself.
    #[test]
    fn users_and_usernames() {
        let mut revocations = Revocations::default();
        revocations
            .insert(RevokedName::User("alice"), None)
            .unwrap();
        let one = RevokedName::Username("1767225600:bob");
        revocations.insert(one, Some(1_767_225_600)).unwrap();
        assert!(revocations.cover("alice", "alice", 1));
        assert!(revocations.cover("alice", "1767225601:alice", u64::MAX));
        assert!(revocations.cover("bob", "1767225600:bob", 1_767_225_600));
        assert!(!revocations.cover("bob", "1767225600:bob", 1_767_225_601));
        assert!(!revocations.cover("bob", "1767225601:bob", 1));
        // A user whose name looks like what somebody else's USERNAME is.
        assert!(!revocations.cover("1767225600:bob", "9:1767225600:bob", 1));
        assert!(!revocations.cover("carol", "alice", 1));

        assert!(!revocations.remove(RevokedName::Username("alice")));
        assert!(revocations.remove(RevokedName::User("alice")));
        assert!(!revocations.cover("alice", "alice", 1));
        revocations.forget_ended(1_767_225_600);
        assert_eq!(
            revocations.iter().collect::<Vec<_>>(),
            [(one, Some(1_767_225_600))]
        );
        revocations.forget_ended(1_767_225_601);
        assert!(revocations.is_empty());
    }

    /// REV-02: the bound of both kinds together.
    #[test]
    fn no_more_than_there_is_room_for() {
        let mut revocations = Revocations::default();
        for number in 0..REVOCATIONS_MAX {
            let name = number.to_string();
            let name = match number % 2 {
                0 => RevokedName::User(&name),
                _ => RevokedName::Username(&name),
            };
            revocations.insert(name, Some(10)).unwrap();
        }
        let one_more = RevokedName::User("one more");
        assert_eq!(revocations.insert(one_more, None), Err(TooManyRevocations));
        assert!(!revocations.cover("one more", "", 1));
        let known = RevokedName::User("0");
        assert_eq!(revocations.insert(known, None), Ok(()), "no other name");
        revocations.forget_ended(11);
        assert_eq!(revocations.iter().collect::<Vec<_>>(), [(known, None)]);
        assert_eq!(revocations.insert(one_more, None), Ok(()));
    }
}
