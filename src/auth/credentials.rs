//! The credentials that the operator configured: static users and shared secrets, in one realm.

use std::collections::HashMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::{
    LongTermKey, NotOpaqueString, PasswordAlgorithm, RestUsername, SecurityFeatures, opaque_string,
    prepare_realm, rest_password, userhash,
};

/// Realm, static users and shared secrets. Both kinds of user may exist side by side: a static name
/// is tried first.
#[derive(Debug)]
pub struct Credentials {
    realm: Box<str>,
    separator: char,
    secrets: Vec<SecretString>,
    users: HashMap<Box<str>, StaticUser>,
    by_userhash: HashMap<[u8; 32], Box<str>>,
}

/// How the password of a static user was configured.
#[derive(Debug)]
enum StaticUser {
    Password(SecretString),
    /// coturn's `0x` form: the MD5 key, from which no SHA-256 key can be made
    Md5Key(LongTermKey),
}

/// Why a realm or a user cannot be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialError {
    /// The realm cannot be prepared.
    Realm(NotOpaqueString),
    /// The user name cannot be prepared.
    Username(NotOpaqueString),
    /// The password cannot be prepared.
    Password(NotOpaqueString),
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realm(reason) => write!(f, "realm: {reason}"),
            Self::Username(reason) => write!(f, "user name: {reason}"),
            Self::Password(reason) => write!(f, "password: {reason}"),
        }
    }
}

impl std::error::Error for CredentialError {}

/// Who a user name belongs to.
pub(super) enum Account<'c, 'n> {
    /// A static user.
    Static(StaticAccount<'c>),
    /// A time-limited credential on any of the secrets.
    Rest(RestUsername<'n>),
}

pub(super) struct StaticAccount<'c>(&'c StaticUser);

impl Credentials {
    /// Credentials of a realm that knows nobody yet. `separator` stands between the parts of a
    /// time-limited user name.
    ///
    /// # Errors
    /// If the realm cannot be prepared.
    pub fn new(realm: &str, separator: char) -> Result<Self, CredentialError> {
        let realm = prepare_realm(realm).map_err(CredentialError::Realm)?.into();
        let (users, by_userhash) = (HashMap::new(), HashMap::new());
        Ok(Self {
            realm,
            separator,
            secrets: Vec::new(),
            users,
            by_userhash,
        })
    }

    /// Accepts time-limited credentials on a shared secret, besides those on earlier ones.
    pub fn add_secret(&mut self, secret: SecretString) {
        self.secrets.push(secret);
    }

    /// Adds a static user by password.
    ///
    /// # Errors
    /// If name or password cannot be prepared.
    pub fn add_user(&mut self, name: &str, password: &SecretString) -> Result<(), CredentialError> {
        let password =
            opaque_string(password.expose_secret()).map_err(CredentialError::Password)?;
        self.add(name, StaticUser::Password(password.as_str().into()))
    }

    /// Adds a static user by the MD5 key, which is MD5 of `name:realm:password`.
    ///
    /// # Errors
    /// If the name cannot be prepared.
    pub fn add_user_key(&mut self, name: &str, key: [u8; 16]) -> Result<(), CredentialError> {
        self.add(name, StaticUser::Md5Key(LongTermKey::Md5(key)))
    }

    fn add(&mut self, name: &str, user: StaticUser) -> Result<(), CredentialError> {
        let name = opaque_string(name).map_err(CredentialError::Username)?;
        let name: Box<str> = name.as_str().into();
        self.by_userhash
            .insert(userhash(&name, &self.realm), name.clone());
        self.users.insert(name, user);
        Ok(())
    }

    /// The realm, prepared.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether nobody could authenticate.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.users.is_empty()
    }

    /// What the realm can offer to every one of its users: SHA-256 keys need the password of each,
    /// and a USERHASH can be looked up only where all names are known (RFC 8489 §9.2.1).
    pub fn security_features(&self) -> SecurityFeatures {
        let has_stored_keys = self
            .users
            .values()
            .any(|user| matches!(user, StaticUser::Md5Key(_)));
        SecurityFeatures {
            password_algorithms: !has_stored_keys,
            username_anonymity: self.secrets.is_empty() && !self.users.is_empty(),
        }
    }

    /// The name behind a USERHASH.
    pub(super) fn username_of(&self, hash: &[u8; 32]) -> Option<&str> {
        self.by_userhash.get(hash).map(|name| &**name)
    }

    pub(super) fn account<'n>(&self, username: &'n str) -> Option<Account<'_, 'n>> {
        if let Some(user) = self.users.get(username) {
            return Some(Account::Static(StaticAccount(user)));
        }
        if self.secrets.is_empty() {
            return None;
        }
        RestUsername::parse(username, self.separator).map(Account::Rest)
    }

    /// The key of a static user; `None` if only a key of another algorithm was configured.
    pub(super) fn static_key(
        &self,
        account: &StaticAccount<'_>,
        algorithm: PasswordAlgorithm,
        username: &str,
    ) -> Option<LongTermKey> {
        match account.0 {
            StaticUser::Password(password) => {
                let password = password.expose_secret();
                Some(LongTermKey::derive(
                    algorithm,
                    username.as_bytes(),
                    &self.realm,
                    password,
                ))
            }
            StaticUser::Md5Key(key) => (key.algorithm() == algorithm).then(|| key.clone()),
        }
    }

    /// The keys of a time-limited credential, one a secret.
    pub(super) fn rest_keys(
        &self,
        algorithm: PasswordAlgorithm,
        username: &str,
    ) -> impl Iterator<Item = LongTermKey> {
        self.secrets.iter().map(move |secret| {
            let password = rest_password(secret.expose_secret(), username.as_bytes());
            LongTermKey::derive(algorithm, username.as_bytes(), &self.realm, &password)
        })
    }
}
