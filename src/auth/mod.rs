//! Who is asking: the long-term credential mechanism (RFC 8489 §9.2) over static users and
//! time-limited credentials.
//!
//! Pure computation over borrowed messages. No clock: Unix time is an argument. No random source:
//! keys come from the host. No table of nonces: a nonce proves itself. What an authenticated user
//! may then do is `turn`'s affair.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod credentials;
mod key;
mod long_term;
mod nonce;
mod prepare;
mod rest;
mod revocations;

pub use credentials::{CredentialError, Credentials};
pub use key::{LongTermKey, PasswordAlgorithm, userhash};
pub use long_term::{
    AuthFailure, Authenticator, Identity, KnownUser, NonceVerdict, PASSWORD_ALGORITHMS, RealmMark,
};
pub use nonce::{NONCE_LEN, Nonce, NonceKey, SecurityFeatures};
pub use prepare::{NotOpaqueString, opaque_string, prepare_realm};
pub use rest::{RestUsername, rest_password};
pub use revocations::{REVOCATIONS_MAX, Revocations, RevokedName, TooManyRevocations, Until};
