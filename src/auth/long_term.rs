//! The server's side of the long-term credential mechanism (RFC 8489 §9.2.4).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::credentials::Account;
use super::nonce::{self, NonceError};
use super::{Credentials, LongTermKey, Nonce, NonceKey, PasswordAlgorithm, SecurityFeatures};
use crate::wire::{AttributeType, IntegrityAlgorithm, Message, verify_integrity};

/// The value of the PASSWORD-ALGORITHMS that is offered: SHA-256, then MD5, without parameters.
pub const PASSWORD_ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// Bytes of a USERNAME that anybody can have. RFC 8489 §14.3 ends at 508, RFC 5389 at 763.
const USERNAME_LEN_MAX: usize = 763;

/// Checks the credentials of requests.
#[derive(Clone, Debug)]
pub struct Authenticator {
    credentials: Arc<Credentials>,
    features: SecurityFeatures,
    nonce_keys: Vec<NonceKey>,
    nonce_lifetime_s: u32,
}

/// Tells realms apart in as little room as an allocation has to spare. It proves nothing: the
/// integrity does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealmMark([u8; 4]);

impl RealmMark {
    /// Of a realm as it is on the wire.
    pub fn of(realm: &[u8]) -> Self {
        let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(realm));
        Self([a, b, c, d])
    }
}

/// A user who proved to know the password.
#[derive(Clone, Debug)]
pub struct Identity {
    /// USERNAME, or the name behind USERHASH.
    pub username: Box<str>,
    /// Whom quotas and logs count it for: of a time-limited name the part that does not change.
    pub user: Box<str>,
    /// The realm that the key is for.
    pub realm: RealmMark,
    /// The key that the request was checked with, and its reply is made with.
    pub key: LongTermKey,
    /// The integrity attribute of the reply.
    pub reply_integrity: IntegrityAlgorithm,
}

/// The user of an allocation that exists on the request's five-tuple. Its key goes on being good
/// for it whatever happens to the configuration, the realm included, and its expiry does not matter
/// any more. So is the key that the name has now: a client that was told another realm makes one.
#[derive(Clone, Copy, Debug)]
pub struct KnownUser<'a> {
    /// See [`Identity::username`].
    pub username: &'a str,
    /// See [`Identity::user`].
    pub user: &'a str,
    /// See [`Identity::realm`].
    pub realm: RealmMark,
    /// See [`Identity::key`].
    pub key: &'a LongTermKey,
}

/// What the nonce of a request is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceVerdict {
    /// Made by this server for this client. It proves that the address which the request came from
    /// is the requester's, whatever else is wrong: who repeats a nonce has received it.
    Good,
    /// The same, too long ago: somebody else may have had the address then.
    Expired,
    /// Not made by this server for this client.
    Foreign,
}

/// Why a request is not authenticated.
#[derive(Clone, Debug)]
pub enum AuthFailure {
    /// No integrity attribute: the normal first request, answered with a challenge (401).
    NoCredentials,
    /// USERNAME and USERHASH, REALM or NONCE is missing, or USERHASH is not 32 bytes long (400).
    Incomplete,
    /// PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS do not fit what was offered (400).
    PasswordAlgorithms,
    /// REALM is not this server's (401).
    WrongRealm,
    /// Nobody has this name (401).
    UnknownUser {
        /// As the client sent it; empty for an unknown USERHASH.
        username: Box<str>,
    },
    /// The integrity attribute is wrong (401).
    WrongPassword {
        /// As the client sent it.
        username: Box<str>,
    },
    /// The password is right, and was good until this time, in Unix seconds (401).
    Expired {
        /// As the client sent it.
        username: Box<str>,
        /// When the credential ended.
        expiry_unix_s: u64,
    },
    /// The password is right, and the operator has withdrawn the credential (401).
    Revoked {
        /// As the client sent it.
        username: Box<str>,
    },
    /// The nonce was not made by this server for this client (438).
    ForeignNonce,
    /// Everything is right, but the nonce was made too long ago (438).
    StaleNonce(Box<Identity>),
}

impl fmt::Display for AuthFailure {
    /// The reason, without names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => f.write_str("no credentials"),
            Self::Incomplete => f.write_str("USERNAME, REALM or NONCE is missing"),
            Self::PasswordAlgorithms => f.write_str("password algorithms are not those offered"),
            Self::WrongRealm => f.write_str("wrong realm"),
            Self::UnknownUser { .. } => f.write_str("unknown user"),
            Self::WrongPassword { .. } => f.write_str("wrong password"),
            Self::Expired { expiry_unix_s, .. } => {
                write!(f, "credential expired at Unix time {expiry_unix_s}")
            }
            Self::Revoked { .. } => f.write_str("credential revoked"),
            Self::ForeignNonce => f.write_str("nonce of another client or server"),
            Self::StaleNonce(_) => f.write_str("stale nonce"),
        }
    }
}

impl Authenticator {
    /// The first of `nonce_keys` makes nonces, every one of them is accepted.
    ///
    /// # Panics
    /// If there is no nonce key.
    pub fn new(
        credentials: Arc<Credentials>,
        nonce_keys: Vec<NonceKey>,
        nonce_lifetime_s: u32,
    ) -> Self {
        assert!(!nonce_keys.is_empty(), "a nonce needs a key");
        let features = credentials.security_features();
        Self {
            credentials,
            features,
            nonce_keys,
            nonce_lifetime_s,
        }
    }

    /// The realm of challenges.
    pub fn realm(&self) -> &str {
        self.credentials.realm()
    }

    /// What nonces announce.
    pub const fn features(&self) -> SecurityFeatures {
        self.features
    }

    /// A nonce for the challenge to a client. The time is in Unix seconds.
    pub fn nonce(&self, client: SocketAddr, now_unix_s: u64) -> Nonce {
        nonce::issue(
            &self.nonce_keys[0],
            self.features,
            self.realm(),
            client,
            now_unix_s,
        )
    }

    /// Checks a request in the order of RFC 8489 §9.2.4: presence, algorithms, user, integrity,
    /// nonce. One step is earlier: a nonce that was never made for this client is refused before
    /// anything is looked up, so that the feature bits which the order depends on are our own.
    ///
    /// `nonce` is what [`Authenticator::check_nonce`] said of this request.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn authenticate(
        &self,
        request: &Message<'_>,
        nonce: Option<NonceVerdict>,
        now_unix_s: u64,
        known: Option<KnownUser<'_>>,
        check_expiry: bool,
    ) -> Result<Identity, AuthFailure> {
        if !request.has_integrity() {
            return Err(AuthFailure::NoCredentials);
        }
        let name = Name::of(request).ok_or(AuthFailure::Incomplete)?;
        let realm = request
            .first(AttributeType::REALM)
            .ok_or(AuthFailure::Incomplete)?;
        let nonce = nonce.ok_or(AuthFailure::Incomplete)?;
        if nonce == NonceVerdict::Foreign {
            return Err(AuthFailure::ForeignNonce);
        }
        let (algorithm, reply_integrity) = self.negotiated(request)?;
        let username = self.username(name);
        let verifier = Verifier::new(request, algorithm);
        let known = known.filter(|known| {
            Some(known.username) == username && known.key.algorithm() == verifier.algorithm
        });
        // The realm may have changed since its allocation was made.
        let is_current = realm == self.realm().as_bytes();
        let by_own_key = known.filter(|known| {
            (is_current || RealmMark::of(realm) == known.realm) && verifier.accepts(known.key)
        });
        let (user, realm, key) = if let Some(known) = by_own_key {
            (known.user.into(), known.realm, known.key.clone())
        } else if is_current {
            let check_expiry = check_expiry && known.is_none();
            let (user, key) = self.verify(&verifier, username, now_unix_s, check_expiry)?;
            (user, RealmMark::of(realm), key)
        } else {
            return Err(AuthFailure::WrongRealm);
        };
        let identity = Identity {
            username: username.unwrap_or_default().into(),
            user,
            realm,
            key,
            reply_integrity,
        };
        match nonce {
            NonceVerdict::Good => Ok(identity),
            _ => Err(AuthFailure::StaleNonce(Box::new(identity))),
        }
    }

    /// What a request's nonce says, if it has one. It costs a MAC for each nonce key, so it is for
    /// asking once.
    pub fn check_nonce(
        &self,
        request: &Message<'_>,
        client: SocketAddr,
        now_unix_s: u64,
    ) -> Option<NonceVerdict> {
        let nonce = request.first(AttributeType::NONCE)?;
        let checked = nonce::check(
            &self.nonce_keys,
            self.features,
            self.realm(),
            client,
            nonce,
            now_unix_s,
            self.nonce_lifetime_s,
        );
        Some(match checked {
            Ok(()) => NonceVerdict::Good,
            Err(NonceError::Expired) => NonceVerdict::Expired,
            Err(NonceError::Foreign) => NonceVerdict::Foreign,
        })
    }

    /// Which key the request uses and which integrity its reply has. A request without either
    /// attribute is one of RFC 5389: MD5 and SHA-1.
    fn negotiated(
        &self,
        request: &Message<'_>,
    ) -> Result<(PasswordAlgorithm, IntegrityAlgorithm), AuthFailure> {
        let algorithm = request.first(AttributeType::PASSWORD_ALGORITHM);
        let algorithms = request.first(AttributeType::PASSWORD_ALGORITHMS);
        if !self.features.password_algorithms || (algorithm.is_none() && algorithms.is_none()) {
            return Ok((PasswordAlgorithm::Md5, IntegrityAlgorithm::Sha1));
        }
        let (Some(algorithm), Some(algorithms)) = (algorithm, algorithms) else {
            return Err(AuthFailure::PasswordAlgorithms);
        };
        if algorithms != PASSWORD_ALGORITHMS {
            return Err(AuthFailure::PasswordAlgorithms);
        }
        match algorithm {
            [0, 1, 0, 0] => Ok((PasswordAlgorithm::Md5, IntegrityAlgorithm::Sha256)),
            [0, 2, 0, 0] => Ok((PasswordAlgorithm::Sha256, IntegrityAlgorithm::Sha256)),
            _ => Err(AuthFailure::PasswordAlgorithms),
        }
    }

    /// The name in words; `None` if nobody can have it.
    fn username<'a>(&'a self, name: Name<'a>) -> Option<&'a str> {
        match name {
            Name::Username(bytes) if bytes.len() > USERNAME_LEN_MAX => None,
            Name::Username(bytes) => std::str::from_utf8(bytes).ok(),
            Name::Userhash(hash) if self.features.username_anonymity => {
                self.credentials.username_of(hash)
            }
            Name::Userhash(_) => None,
        }
    }

    /// Finds the key under which the request's integrity is right, and whom to count it for.
    fn verify(
        &self,
        verifier: &Verifier<'_, '_>,
        username: Option<&str>,
        now_unix_s: u64,
        check_expiry: bool,
    ) -> Result<(Box<str>, LongTermKey), AuthFailure> {
        let account = username.and_then(|name| Some((name, self.credentials.account(name)?)));
        let Some((username, account)) = account else {
            // As much work as for a user who exists, so that time does not tell names.
            verifier.accepts(&LongTermKey::derive(
                verifier.algorithm,
                b"?",
                self.realm(),
                "?",
            ));
            return Err(AuthFailure::UnknownUser {
                username: username.unwrap_or_default().into(),
            });
        };
        let wrong_password = || AuthFailure::WrongPassword {
            username: username.into(),
        };
        match account {
            Account::Static(account) => {
                let key = self
                    .credentials
                    .static_key(&account, verifier.algorithm, username);
                let key = key
                    .filter(|key| verifier.accepts(key))
                    .ok_or_else(wrong_password)?;
                Ok((username.into(), key))
            }
            Account::Rest(name) => {
                let mut keys = self.credentials.rest_keys(verifier.algorithm, username);
                let key = keys
                    .find(|key| verifier.accepts(key))
                    .ok_or_else(wrong_password)?;
                if check_expiry && !name.is_valid_at(now_unix_s) {
                    return Err(AuthFailure::Expired {
                        username: username.into(),
                        expiry_unix_s: name.expiry_unix_s,
                    });
                }
                Ok((name.user.into(), key))
            }
        }
    }
}

/// What the request names its user by. USERNAME wins where both are there, which no RFC foresees.
enum Name<'a> {
    Username(&'a [u8]),
    Userhash(&'a [u8; 32]),
}

impl<'a> Name<'a> {
    fn of(request: &Message<'a>) -> Option<Self> {
        if let Some(username) = request.first(AttributeType::USERNAME) {
            return Some(Self::Username(username));
        }
        request
            .first(AttributeType::USERHASH)?
            .try_into()
            .ok()
            .map(Self::Userhash)
    }
}

/// A request whose integrity is to be checked under several keys.
struct Verifier<'m, 'b> {
    request: &'m Message<'b>,
    algorithm: PasswordAlgorithm,
    /// MESSAGE-INTEGRITY-SHA256 where it is there; then MESSAGE-INTEGRITY does not count.
    integrity: IntegrityAlgorithm,
}

impl<'m, 'b> Verifier<'m, 'b> {
    fn new(request: &'m Message<'b>, algorithm: PasswordAlgorithm) -> Self {
        let integrity = if request.integrity(IntegrityAlgorithm::Sha256).is_some() {
            IntegrityAlgorithm::Sha256
        } else {
            IntegrityAlgorithm::Sha1
        };
        Self {
            request,
            algorithm,
            integrity,
        }
    }

    fn accepts(&self, key: &LongTermKey) -> bool {
        verify_integrity(self.request, self.integrity, key.as_bytes())
    }
}
