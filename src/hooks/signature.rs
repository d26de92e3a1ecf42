//! The signature of a request: an HMAC over its time and its body.

use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// The header of the signature.
pub(super) const HEADER: &str = "x-turnstone-signature";

/// What requests are signed with. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Signer(Arc<RwLock<SecretString>>);

impl Signer {
    pub(super) fn new(secret: SecretString) -> Self {
        Self(Arc::new(RwLock::new(secret)))
    }

    /// From here on requests are signed with another secret.
    pub(super) fn replace(&self, secret: SecretString) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secret;
    }

    /// The header's value for a body that is sent now.
    pub(super) fn sign(&self, unix_s: u64, body: &[u8]) -> String {
        let secret = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sign(&secret, unix_s, body)
    }
}

/// The header's value. The time is in the MAC, so that a receiver can refuse what is old and whoever
/// records a request cannot send it again later.
fn sign(secret: &SecretString, unix_s: u64, body: &[u8]) -> String {
    let key = secret.expose_secret().as_bytes();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(unix_s.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut header = format!("t={unix_s},v1=");
    for byte in mac.finalize().into_bytes() {
        write!(header, "{byte:02x}").expect("a String takes everything");
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HOOK-02: made with another program: `printf '1700000000.{"events":[]}' | openssl dgst
    /// -sha256 -hmac a-secret`.
    #[test]
    fn another_program_signs_alike() {
        let signed = sign(&"a-secret".into(), 1_700_000_000, b"{\"events\":[]}");
        let expected =
            "t=1700000000,v1=e14384ed3e953dc2fd3d103e059c17a9e4bedb5d435558778cec537d7daf15d7";
        assert_eq!(signed, expected);
    }
}
