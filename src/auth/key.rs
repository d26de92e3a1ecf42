//! Long-term keys (RFC 8489 §9.2.2, §18.5.1) and USERHASH (§14.4).

use std::fmt;

use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// How a key is made from a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum PasswordAlgorithm {
    /// 0x0001; the algorithm of RFC 5389, and of every browser
    Md5 = 1,
    /// 0x0002
    Sha256 = 2,
}

/// The key of both integrity attributes. Never printed, erased when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub enum LongTermKey {
    /// MD5 of `username:realm:password`
    Md5([u8; 16]),
    /// SHA-256 of `username:realm:password`
    Sha256([u8; 32]),
}

impl LongTermKey {
    /// Derives a key. The user name is the bytes that the client sent; realm and password are
    /// prepared already.
    pub fn derive(
        algorithm: PasswordAlgorithm,
        username: &[u8],
        realm: &str,
        password: &str,
    ) -> Self {
        let parts = [username, b":", realm.as_bytes(), b":", password.as_bytes()];
        match algorithm {
            PasswordAlgorithm::Md5 => Self::Md5(hash::<Md5>(&parts).into()),
            PasswordAlgorithm::Sha256 => Self::Sha256(hash::<Sha256>(&parts).into()),
        }
    }

    /// The algorithm that made it.
    pub const fn algorithm(&self) -> PasswordAlgorithm {
        match self {
            Self::Md5(_) => PasswordAlgorithm::Md5,
            Self::Sha256(_) => PasswordAlgorithm::Sha256,
        }
    }

    /// The bytes that key the HMAC.
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Md5(key) => key,
            Self::Sha256(key) => key,
        }
    }
}

impl fmt::Debug for LongTermKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LongTermKey({:?}, [redacted])", self.algorithm())
    }
}

/// The value of USERHASH: SHA-256 of `username:realm`, both prepared.
pub fn userhash(username: &str, realm: &str) -> [u8; 32] {
    hash::<Sha256>(&[username.as_bytes(), b":", realm.as_bytes()]).into()
}

fn hash<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}
