//! Where a secret was found, which may be told; the secret may not.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::Origin;

/// Where one secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretSource {
    /// The key that it is a value of, e.g. `auth.static_auth_secret`.
    pub key: &'static str,
    /// Where it was.
    pub place: SecretPlace,
}

/// Where a secret was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// Written as the key's value.
    Value(Origin),
    /// In a file of its own.
    File(PathBuf),
    /// In a credential of the systemd unit.
    Credential(PathBuf),
}

impl SecretPlace {
    /// The file of a credential that systemd hands over.
    pub fn credential(&self) -> Option<&Path> {
        match self {
            Self::Credential(path) => Some(path),
            Self::Value(_) | Self::File(_) => None,
        }
    }
}

impl fmt::Display for SecretPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(Origin::File { path, line }) => write!(f, "value in {path}:{line}"),
            Self::Value(origin) => write!(f, "value of {origin}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(path) => write!(f, "credential {}", path.display()),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.place)
    }
}
