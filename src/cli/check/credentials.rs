//! Whom the check says it is: a user with a password, or a credential made from the shared secret.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::client::random_id;
use super::{CheckArgs, UsageError};
use crate::auth::{
    LongTermKey, PasswordAlgorithm, RestUsername, opaque_string, prepare_realm, rest_password,
};
use crate::wire::TransactionId;

/// How long a credential made here is good, in seconds: no check lasts longer than an hour, and
/// most last one second.
const MINTED_LIFETIME_S: u64 = 600;

/// The earliest time, in September 2001, for which a number in a user name is taken.
const EXPIRY_UNIX_S_MIN: u64 = 1_000_000_000;

/// The longest USERNAME, in bytes (RFC 8489 §14.3: fewer than 509).
const USERNAME_MAX: usize = 508;

/// What is read of a file with a secret, in bytes: `/dev/zero` has no end.
const SECRET_FILE_MAX: usize = 64 * 1024;

/// A user name and its password.
#[derive(Debug)]
pub(super) struct Credentials {
    username: String,
    password: SecretString,
    minted: Option<Minted>,
}

/// How a credential was made from the shared secret, and until when it is good.
#[derive(Clone, Debug)]
pub(super) struct Minted {
    secret: SecretString,
    id: String,
    pub(super) now_unix_s: u64,
    pub(super) expiry_unix_s: u64,
}

/// The start of a file, which may be a pipe.
fn read(path: &Path) -> io::Result<SecretString> {
    let mut text = Zeroizing::new(String::with_capacity(SECRET_FILE_MAX));
    let file = File::open(path)?;
    file.take(SECRET_FILE_MAX as u64)
        .read_to_string(&mut text)?;
    Ok(SecretString::from(text.as_str()))
}

impl Minted {
    /// Another credential on the same secret, good until some other time.
    pub(super) fn until(&self, expiry_unix_s: u64) -> Credentials {
        Credentials::mint(&self.secret, &self.id, self.now_unix_s, expiry_unix_s)
    }
}

impl Credentials {
    /// Takes them from the command line.
    ///
    /// # Errors
    /// If there are none, or a file cannot be read.
    pub(super) fn from_args(args: &CheckArgs, now_unix_s: u64) -> Result<Self, UsageError> {
        if let (Some(username), Some(password)) = (&args.user, &args.password) {
            return Self::of_user(username, password);
        }
        if let Some(secret) = &args.static_auth_secret {
            return Ok(Self::of_secret(secret, now_unix_s));
        }
        let Some(path) = &args.static_auth_secret_file else {
            return Err(UsageError(
                "a TURN server wants credentials: give --user and --password, or \
                 --static-auth-secret; for a Binding alone write stun:HOST"
                    .to_owned(),
            ));
        };
        let text =
            read(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let secret = text.expose_secret().lines().next().unwrap_or_default();
        if secret.is_empty() {
            let message = format!("{}: the first line is empty", path.display());
            return Err(UsageError(message));
        }
        Ok(Self::of_secret(&secret.into(), now_unix_s))
    }

    /// A user's credentials, prepared as RFC 8489 §9.2.2 has it where that can be done.
    fn of_user(username: &str, password: &SecretString) -> Result<Self, UsageError> {
        let username = opaque_string(username).map_or_else(
            |_| username.to_owned(),
            |prepared| prepared.as_str().to_owned(),
        );
        if username.is_empty() || username.len() > USERNAME_MAX {
            let message = format!("--user: a user name has 1 to {USERNAME_MAX} bytes");
            return Err(UsageError(message));
        }
        let password = opaque_string(password.expose_secret())
            .map_or_else(|_| password.clone(), |prepared| prepared.as_str().into());
        Ok(Self {
            username,
            password,
            minted: None,
        })
    }

    /// A time-limited credential on a shared secret, of a user of its own: a server may refuse one
    /// who was wrong too often a moment ago, however right the secret is now.
    fn of_secret(secret: &SecretString, now_unix_s: u64) -> Self {
        let TransactionId(random) = random_id();
        let number = u16::from_be_bytes([random[0], random[1]]);
        let id = format!("turnstone-check-{number:04x}");
        Self::mint(secret, &id, now_unix_s, now_unix_s + MINTED_LIFETIME_S)
    }

    fn mint(secret: &SecretString, id: &str, now_unix_s: u64, expiry_unix_s: u64) -> Self {
        let username = format!("{expiry_unix_s}:{id}");
        let password = rest_password(secret.expose_secret(), username.as_bytes());
        Self {
            username,
            password: password.as_str().into(),
            minted: Some(Minted {
                secret: secret.clone(),
                id: id.to_owned(),
                now_unix_s,
                expiry_unix_s,
            }),
        }
    }

    /// The value of USERNAME.
    pub(super) fn username(&self) -> &str {
        &self.username
    }

    /// `None` for a user with a password.
    pub(super) const fn minted(&self) -> Option<&Minted> {
        self.minted.as_ref()
    }

    /// When the credential ends, in Unix seconds, if its name carries a time.
    pub(super) fn expiry_unix_s(&self) -> Option<u64> {
        RestUsername::parse(&self.username, ':')
            .map(|name| name.expiry_unix_s)
            .filter(|&expiry| expiry >= EXPIRY_UNIX_S_MIN)
    }

    /// The key in a realm. MD5, the algorithm of every browser, which every server accepts.
    pub(super) fn key(&self, realm: &str) -> LongTermKey {
        let prepared = prepare_realm(realm);
        LongTermKey::derive(
            PasswordAlgorithm::Md5,
            self.username.as_bytes(),
            prepared.as_deref().unwrap_or(realm),
            self.password.expose_secret(),
        )
    }
}

/// Unix seconds as a date and time that can be laid beside the output of `date -u`.
pub(super) fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days count from 1 March of year 0, so that the leap day ends a year; an era is 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096 - day_of_era / 36_524;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_credential_names_its_expiry_and_hides_its_password() {
        let credentials = Credentials::of_secret(&"north".into(), 1_767_225_000);
        let username = credentials.username();
        assert!(
            username.starts_with("1767225600:turnstone-check-"),
            "{username}"
        );
        assert_eq!(credentials.expiry_unix_s(), Some(1_767_225_600));
        let later = credentials.minted().unwrap().until(1_767_229_200);
        assert_eq!(
            later.username(),
            username.replace("1767225600", "1767229200")
        );
        let debug = format!("{credentials:?}");
        assert!(!debug.contains("north"), "{debug}");
        assert!(
            !debug.contains(credentials.password.expose_secret()),
            "{debug}"
        );
    }

    #[test]
    fn times_read_as_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (1_767_225_600, "2026-01-01 00:00:00 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (unix_s, expected) in cases {
            assert_eq!(utc(unix_s), expected);
        }
    }
}
