//! Time-limited credentials in the shapes that clients know.

use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::super::api::Error;
use crate::auth::{opaque_string, rest_password};

/// Bytes of a user in a time-limited name. With the longest expiry the name is well below what
/// USERNAME can hold (RFC 8489 §14.3).
pub const USER_LEN_MAX: usize = 256;

/// What credentials are made of.
#[derive(Debug)]
pub struct Issuer {
    /// The newest secret that the server accepts.
    pub secret: SecretString,
    /// Between expiry and user.
    pub separator: char,
    /// Where the credentials are good.
    pub uris: Vec<String>,
}

/// What the TURN REST API answers (draft-uberti-behave-turn-rest §2.2).
#[derive(Serialize)]
pub(super) struct Credentials<'a> {
    pub(super) username: String,
    #[serde(serialize_with = "as_text")]
    pub(super) password: Zeroizing<String>,
    pub(super) ttl: u32,
    pub(super) uris: &'a [String],
}

/// An element of a browser's `iceServers`.
#[derive(Serialize)]
pub(super) struct IceServer<'a> {
    urls: &'a [String],
    username: &'a str,
    credential: &'a str,
}

impl Credentials<'_> {
    pub(super) fn ice_server(&self) -> IceServer<'_> {
        IceServer {
            urls: self.uris,
            username: &self.username,
            credential: &self.password,
        }
    }
}

fn as_text<S: Serializer>(text: &Zeroizing<String>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

impl Issuer {
    /// Credentials of a user, or of nobody in particular, from now on.
    ///
    /// # Errors
    /// If no user has this name.
    pub(super) fn issue(
        &self,
        user: Option<&str>,
        ttl_s: u32,
        now_unix_s: u64,
    ) -> Result<Credentials<'_>, Error> {
        let expiry = now_unix_s + u64::from(ttl_s);
        let user = match user {
            None => somebody(),
            Some(user) => prepared(user)?,
        };
        let username = format!("{expiry}{}{}", self.separator, *user);
        let password = rest_password(self.secret.expose_secret(), username.as_bytes());
        Ok(Credentials {
            username,
            password,
            ttl: ttl_s,
            uris: &self.uris,
        })
    }
}

/// A name of its own for credentials of nobody in particular: otherwise all that are issued in the
/// same second were one, with one quota.
fn somebody() -> Zeroizing<String> {
    let number = getrandom::u64().expect("the system has random numbers");
    Zeroizing::new(format!("{number:016x}"))
}

/// The name as clients prepare it before they compute with it (RFC 8265 §4.2).
fn prepared(user: &str) -> Result<Zeroizing<String>, Error> {
    let wrong = |what| Err(Error::bad_request(format!("username: {what}")));
    if user.is_empty() {
        return wrong("is empty; leave it out for credentials of nobody in particular");
    }
    match opaque_string(user) {
        Ok(user) if user.len() <= USER_LEN_MAX => Ok(Zeroizing::new(user.as_str().to_owned())),
        Ok(_) => wrong("is longer than 256 bytes"),
        Err(_) => wrong("has control or invisible characters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::RestUsername;

    fn issuer(separator: char) -> Issuer {
        Issuer {
            secret: "north".into(),
            separator,
            uris: vec!["turn:192.0.2.1:3478".to_owned()],
        }
    }

    /// CRED-05: whatever the user is called, the server reads back who it is and until when.
    #[test]
    fn names_are_read_back_as_they_were_issued() {
        let longest = "x".repeat(USER_LEN_MAX);
        let users = [
            "alice",
            "al:ice",
            "1767225601:alice",
            ":",
            "::",
            "42",
            "a b",
            "zoë",
            "#",
            &longest,
        ];
        for separator in [':', '#', 'x', '-'] {
            for user in users {
                let issuer = issuer(separator);
                let issued = issuer.issue(Some(user), 600, 1_767_225_000).unwrap();
                let read = RestUsername::parse(&issued.username, separator).unwrap();
                assert_eq!((read.user, read.expiry_unix_s), (user, 1_767_225_600));
            }
        }
        let issuer = issuer(':');
        let issued = issuer.issue(None, 600, 1_767_225_000).unwrap();
        let read = RestUsername::parse(&issued.username, ':').unwrap();
        assert_eq!((read.user.len(), read.expiry_unix_s), (16, 1_767_225_600));
        let other = issuer.issue(None, 600, 1_767_225_000).unwrap();
        assert_ne!(issued.username, other.username, "of the same second");
    }

    /// CRED-05
    #[test]
    fn what_is_no_name_is_refused() {
        let issuer = issuer(':');
        let too_long = "x".repeat(USER_LEN_MAX + 1);
        for user in ["", "a\nb", "a\0b", "\u{200b}", "\u{7f}", &too_long] {
            assert!(issuer.issue(Some(user), 600, 0).is_err(), "{user:?}");
        }
    }
}
