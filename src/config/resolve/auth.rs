//! `[auth]`: secrets and users. Nothing here may quote a value in a message.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use crate::auth::opaque_string;

use super::Resolver;
use crate::config::document::{Item, Value};
use crate::config::exposure::{self, Exposure};
use crate::config::strength::weakness;
use crate::config::{Auth, Credential, Md5Key, Origin, SecretPlace, SecretSource, defaults};
use crate::config::{environment, files, schema};

/// RFC 8489 section 14.3 ends USERNAME before 509 bytes.
const USERNAME_BYTES: usize = 508;

/// Keys whose values are secrets. Those of files with one end in `_file`.
pub const SECRET_KEYS: [&str; 6] = [
    "auth.static_auth_secret",
    "auth.users",
    "auth.nonce_secret",
    "admin.token",
    "credentials.keys",
    "hooks.secret",
];

impl Resolver<'_> {
    pub(super) fn auth(&mut self) -> Auth {
        let auth = Auth {
            static_auth_secrets: self.secrets(schema::ALTERNATIVES[0]),
            users: self.users(),
            rest_separator: self.rest_separator(),
            nonce_secrets: self.secrets(schema::ALTERNATIVES[1]),
            nonce_lifetime_s: self.number(
                "auth.nonce_lifetime_s",
                // RFC 8656 section 5 for the upper end; below it clients would do little else.
                30..=3600,
                defaults::NONCE_LIFETIME_S,
            ),
        };
        self.warn_of_exposed_configuration();
        auth
    }

    /// The values of a key, and those that the other key of the pair has in files.
    fn secrets(&mut self, [key, file_key]: [&'static str; 2]) -> Vec<SecretString> {
        let mut secrets = Vec::new();
        for item in self.list(key).map_or(&[][..], |list| list.0) {
            if item.text.trim().is_empty() {
                let remedy = "write a long random text, e.g. from: openssl rand -base64 32";
                self.refuse(&item.origin, key, "holds an empty secret", remedy);
                continue;
            }
            self.warn_of_weak_secret(&item.origin, key, &item.text);
            secrets.push(SecretString::from(item.text.as_str()));
            let place = SecretPlace::Value(item.origin.clone());
            self.secrets.push(SecretSource { key, place });
        }
        for item in self.list(file_key).map_or(&[][..], |list| list.0) {
            let path = beside(&item.origin, Path::new(item.text.as_str()));
            let Some(secret) = self.secret_file(file_key, item, &path) else {
                continue;
            };
            secrets.push(secret);
            let place = match environment::is_credential(&item.origin) {
                true => SecretPlace::Credential(path),
                false => SecretPlace::File(path),
            };
            self.secrets.push(SecretSource { key, place });
        }
        secrets
    }

    pub(super) fn secret_file(
        &mut self,
        key: &str,
        item: &Item,
        path: &Path,
    ) -> Option<SecretString> {
        let shown = path.display();
        let text = match files::read(path, files::SECRET_MAX) {
            Ok(text) => text,
            Err(error) => {
                let what = format!("{shown} cannot be read ({error})");
                let remedy = match error.kind() {
                    ErrorKind::InvalidInput => "name a regular file with one line, the secret",
                    ErrorKind::PermissionDenied => exposure::READABLE,
                    _ => "make the file and let the user of this server read it",
                };
                self.refuse(&item.origin, key, what, remedy);
                return None;
            }
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.trim().is_empty() || secret.contains('\n') {
            let what = format!("{shown} does not hold exactly one line");
            let remedy = "write one secret a file; several files may be listed";
            self.refuse(&item.origin, key, what, remedy);
            return None;
        }
        // Of a credential systemd decides who reads it.
        if !environment::is_credential(&item.origin) {
            let exposed = exposure::to_readers(path, self.server_user());
            let exposed = exposed.into_iter();
            for Exposure { what, remedy } in
                exposed.chain(exposure::to_writers(path, self.server_user()))
            {
                self.warn(&item.origin, key, what, remedy);
            }
        }
        self.warn_of_weak_secret(&item.origin, key, secret);
        self.files.push(path.to_owned());
        Some(SecretString::from(secret))
    }

    pub(super) fn warn_of_weak_secret(&mut self, origin: &Origin, key: &str, secret: &str) {
        if let Some(why) = weakness(secret) {
            let what = format!("a secret {why}");
            let remedy = "use a long random one, e.g. from: openssl rand -base64 32";
            self.warn(origin, key, what, remedy);
        }
    }

    fn warn_of_weak_password(&mut self, name: &str, item: &Item) {
        if let Some(why) = weakness(&item.text) {
            let what = format!("the password of user {name:?} {why}");
            let remedy = "use a long random one, e.g. from: openssl rand -base64 18";
            self.warn(&item.origin, "auth.users", what, remedy);
        }
    }

    pub(super) fn server_user(&self) -> Option<&str> {
        self.text("server.user").map(|item| item.text.as_str())
    }

    fn users(&mut self) -> Vec<(String, Credential)> {
        let key = "auth.users";
        let mut users: Vec<(String, Credential)> = Vec::new();
        let mut known = HashSet::new();
        let forms = "write a name and a password: { alice = \"password\" } in the file, \
            alice=password in the environment, alice:password after --user";
        for (name, item) in self.map(key) {
            let Some(name) = name else {
                // Not quoted: it may as well be the password.
                self.refuse(&item.origin, key, "a user has no password", forms);
                continue;
            };
            if name.is_empty() {
                self.refuse(&item.origin, key, "a user has no name", forms);
            } else if name.len() > USERNAME_BYTES {
                let what = format!("a user name is longer than {USERNAME_BYTES} bytes");
                self.refuse(
                    &item.origin,
                    key,
                    what,
                    "shorten it: no client could send it",
                );
            } else if opaque_string(name).is_err() {
                let what = format!("user name {name:?} has control or invisible characters");
                self.refuse(&item.origin, key, what, "use visible characters and spaces");
            } else if !known.insert(name.as_str()) {
                let what = format!("user {name:?} is listed twice");
                self.refuse(&item.origin, key, what, "remove one of the two");
            } else if let Some(credential) = self.credential(name, item) {
                users.push((name.clone(), credential));
            }
        }
        users
    }

    fn credential(&mut self, name: &str, item: &Item) -> Option<Credential> {
        let key = "auth.users";
        let Some(digits) = item.text.strip_prefix("0x") else {
            if item.text.is_empty() {
                let what = format!("user {name:?} has an empty password");
                self.refuse(
                    &item.origin,
                    key,
                    what,
                    "write a password or remove the user",
                );
                return None;
            }
            if opaque_string(&item.text).is_err() {
                let what =
                    format!("the password of user {name:?} has control or invisible characters");
                self.refuse(&item.origin, key, what, "use visible characters and spaces");
                return None;
            }
            self.warn_of_weak_password(name, item);
            return Some(Credential::Plain(SecretString::from(item.text.as_str())));
        };
        let parsed = md5_key(digits);
        if parsed.is_none() {
            let what = format!(
                "the password of user {name:?} starts with 0x, which announces an MD5 key, but is \
                 not followed by exactly 32 hexadecimal digits"
            );
            let remedy = "write 0x and the MD5 of name:realm:password, or a password that does not \
                start with 0x";
            self.refuse(&item.origin, key, what, remedy);
        }
        parsed.map(Credential::Md5Key)
    }

    fn rest_separator(&mut self) -> char {
        let key = "auth.rest_separator";
        let Some(item) = self.text(key) else {
            return defaults::REST_SEPARATOR;
        };
        let mut characters = item.text.chars();
        match (characters.next(), characters.next()) {
            (Some(separator), None)
                if separator.is_ascii_graphic() && !separator.is_ascii_digit() =>
            {
                separator
            }
            _ => {
                let what = format!("{:?} cannot separate expiry and name", *item.text);
                let remedy = "write one ASCII character that is not a digit, e.g. \":\"";
                self.refuse(&item.origin, key, what, remedy);
                defaults::REST_SEPARATOR
            }
        }
    }

    /// A configuration file that itself holds secrets is a secret file. Whether it does or not,
    /// who can write it owns the server.
    fn warn_of_exposed_configuration(&mut self) {
        if let Some(path) = self.document.file()
            && let Some(Exposure { what, remedy }) = exposure::to_writers(path, self.server_user())
        {
            let origin = Origin::File {
                path: path.to_string_lossy().into(),
                line: 0,
            };
            self.warn(&origin, "", what, remedy);
        }
        for key in SECRET_KEYS {
            let Some(setting) = self.document.get(key) else {
                continue;
            };
            // Keys in files of their own are no secrets of this one.
            if let Value::Tables(tables) = &setting.value
                && !tables
                    .iter()
                    .any(|table| table.get("credentials.keys.key").is_some())
            {
                continue;
            }
            if let Origin::File { path, .. } = &setting.origin
                && let Some(Exposure { what, remedy }) =
                    exposure::to_readers(Path::new(path.as_ref()), self.server_user())
            {
                let what = format!("{what}, which holds secrets");
                self.warn(&setting.origin, key, what, remedy);
                return;
            }
        }
    }
}

/// A relative path in a configuration file is meant from that file's directory.
pub(super) fn beside(origin: &Origin, path: &Path) -> PathBuf {
    match origin {
        Origin::File { path: file, .. } => Path::new(file.as_ref())
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(path)
            .components()
            .collect(),
        _ => path.to_owned(),
    }
}

fn md5_key(digits: &str) -> Option<Md5Key> {
    // `from_str_radix` would take a sign for a digit.
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let number = u128::from_str_radix(digits, 16).ok()?;
    Some(Md5Key::from(number.to_be_bytes()))
}

/// Whether the configuration proves anything at all.
impl Auth {
    /// Whether neither a secret nor a user is configured.
    pub fn is_empty(&self) -> bool {
        self.static_auth_secrets.is_empty() && self.users.is_empty()
    }

    /// The secret that new time-limited credentials are made with.
    pub fn issuing_secret(&self) -> Option<&str> {
        self.static_auth_secrets
            .first()
            .map(ExposeSecret::expose_secret)
    }
}
