//! Stateless nonces (RFC 8489 §9.2, §14.10): the time of issue and a MAC over everything that the
//! nonce is bound to. Nothing is remembered, so a flood of requests costs no memory and a restart
//! with the same key keeps nonces good.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::ZeroizeOnDrop;

/// The start of every nonce of a server of RFC 8489 (§9.2).
const COOKIE: &[u8; 9] = b"obMatJos2";

/// Base64 characters of the 24 feature bits.
const FEATURES_LEN: usize = 4;

/// Bytes of the time of issue, in Unix seconds modulo 2^32.
const TIME_LEN: usize = 4;

/// Bytes of the MAC. 56 bits are out of reach of guessing over the network: a million packets a
/// second for the hour that a nonce lives find one in twenty million. Longer nonces only make the
/// 401 a better reflector; this one fills 28 bytes without padding.
const MAC_LEN: usize = 7;

/// Bytes of a nonce on the wire.
pub const NONCE_LEN: usize = COOKIE.len() + FEATURES_LEN + ((TIME_LEN + MAC_LEN) * 8).div_ceil(6);

/// How far in the future a nonce may have been issued, for fleets that share a key, in seconds.
const CLOCK_SKEW_MAX_S: i32 = 5;

/// A nonce on the wire.
pub type Nonce = [u8; NONCE_LEN];

/// The security feature bits that a nonce announces (RFC 8489 §18.1). Bit 0 is the most
/// significant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecurityFeatures {
    /// Bit 0: PASSWORD-ALGORITHMS is offered.
    pub password_algorithms: bool,
    /// Bit 1: USERHASH is understood.
    pub username_anonymity: bool,
}

impl SecurityFeatures {
    fn bits(self) -> [u8; 3] {
        let first =
            u8::from(self.password_algorithms) << 7 | u8::from(self.username_anonymity) << 6;
        [first, 0, 0]
    }
}

/// The secret under which nonces are made. Erased when dropped.
#[derive(Clone, ZeroizeOnDrop)]
pub struct NonceKey([u8; 32]);

impl NonceKey {
    /// A key of 32 random bytes.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// A key that every server with the same configured secret has.
    pub fn from_secret(secret: &str) -> Self {
        Self(keyed(secret.as_bytes(), &[b"turnstone nonce key"]))
    }
}

impl fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceKey([redacted])")
    }
}

/// What is wrong with a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceError {
    /// Not made by this server for this client.
    Foreign,
    /// Made by it, but too long ago.
    Expired,
}

/// Makes a nonce for a client at this time (Unix seconds).
pub(super) fn issue(
    key: &NonceKey,
    features: SecurityFeatures,
    realm: &str,
    client: SocketAddr,
    now_unix_s: u64,
) -> Nonce {
    let time = (now_unix_s as u32).to_be_bytes();
    let mut opaque = [0; TIME_LEN + MAC_LEN];
    opaque[..TIME_LEN].copy_from_slice(&time);
    opaque[TIME_LEN..].copy_from_slice(&mac(key, features, realm, client, time));

    let mut nonce = [0; NONCE_LEN];
    let (announced, rest) = nonce.split_at_mut(COOKIE.len() + FEATURES_LEN);
    announced.copy_from_slice(&announcement(features));
    encode_base64(&opaque, rest);
    nonce
}

/// The part that clients read: the cookie and the feature bits.
fn announcement(features: SecurityFeatures) -> [u8; COOKIE.len() + FEATURES_LEN] {
    let mut announced = [0; COOKIE.len() + FEATURES_LEN];
    let (cookie, feature_bits) = announced.split_at_mut(COOKIE.len());
    cookie.copy_from_slice(COOKIE);
    encode_base64(&features.bits(), feature_bits);
    announced
}

/// Checks a nonce that a client sent, under every key that is good.
pub(super) fn check(
    keys: &[NonceKey],
    features: SecurityFeatures,
    realm: &str,
    client: SocketAddr,
    nonce: &[u8],
    now_unix_s: u64,
    lifetime_s: u32,
) -> Result<(), NonceError> {
    let nonce: &Nonce = nonce.try_into().map_err(|_| NonceError::Foreign)?;
    // The MAC covers the bits that were announced; these are the bits that arrived.
    if nonce[..COOKIE.len() + FEATURES_LEN] != announcement(features) {
        return Err(NonceError::Foreign);
    }
    let mut opaque = [0; TIME_LEN + MAC_LEN];
    let decoded = STANDARD_NO_PAD.decode_slice(&nonce[COOKIE.len() + FEATURES_LEN..], &mut opaque);
    if decoded != Ok(opaque.len()) {
        return Err(NonceError::Foreign);
    }
    let mut time = [0; TIME_LEN];
    time.copy_from_slice(&opaque[..TIME_LEN]);
    let made_here = keys.iter().any(|key| {
        mac(key, features, realm, client, time)
            .ct_eq(&opaque[TIME_LEN..])
            .into()
    });
    if !made_here {
        return Err(NonceError::Foreign);
    }
    let age_s = (now_unix_s as u32)
        .wrapping_sub(u32::from_be_bytes(time))
        .cast_signed();
    if age_s < -CLOCK_SKEW_MAX_S || i64::from(age_s) > i64::from(lifetime_s) {
        return Err(NonceError::Expired);
    }
    Ok(())
}

fn mac(
    key: &NonceKey,
    features: SecurityFeatures,
    realm: &str,
    client: SocketAddr,
    time: [u8; TIME_LEN],
) -> [u8; MAC_LEN] {
    let ip = match client.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let port = client.port().to_be_bytes();
    let parts = [
        &time[..],
        &ip.octets(),
        &port,
        &features.bits(),
        realm.as_bytes(),
    ];
    let full = keyed(&key.0, &parts);
    let mut mac = [0; MAC_LEN];
    mac.copy_from_slice(&full[..MAC_LEN]);
    mac
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn encode_base64(bytes: &[u8], out: &mut [u8]) {
    let written = STANDARD_NO_PAD.encode_slice(bytes, out);
    debug_assert_eq!(written, Ok((bytes.len() * 8).div_ceil(6)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_767_225_600;

    fn features(password_algorithms: bool, username_anonymity: bool) -> SecurityFeatures {
        SecurityFeatures {
            password_algorithms,
            username_anonymity,
        }
    }

    fn client(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// AUTH-14: RFC 8489 numbers the bits from the most significant.
    #[test]
    fn cookie_and_feature_bits() {
        let key = NonceKey::new([7; 32]);
        let cases = [
            (features(false, false), "AAAA"),
            (features(true, false), "gAAA"),
            (features(false, true), "QAAA"),
            (features(true, true), "wAAA"),
        ];
        for (features, expected) in cases {
            let nonce = issue(&key, features, "example.org", client("192.0.2.1:1"), NOW);
            assert_eq!(&nonce[..9], COOKIE);
            assert_eq!(&nonce[9..13], expected.as_bytes());
        }
    }

    /// AUTH-11: fewer than 128 characters, none that a quoted string must escape.
    #[test]
    fn only_characters_of_qdtext() {
        let key = NonceKey::new([7; 32]);
        for port in 0..1000 {
            let client = SocketAddr::new("192.0.2.1".parse().unwrap(), port);
            let nonce = issue(&key, features(true, true), "example.org", client, NOW);
            assert!(
                nonce
                    .iter()
                    .all(|&c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
            );
        }
        const { assert!(NONCE_LEN < 128) };
    }

    /// AUTH-10, AUTH-13
    #[test]
    fn bound_to_address_realm_features_and_key() {
        let (key, other_key) = (NonceKey::new([7; 32]), NonceKey::new([8; 32]));
        let both = features(true, true);
        let (alice, other_port, other_ip) = (
            client("192.0.2.1:1000"),
            client("192.0.2.1:1001"),
            client("192.0.2.2:1000"),
        );
        let nonce = issue(&key, both, "example.org", alice, NOW);
        let check = |keys: &[NonceKey], features, realm, client| {
            check(keys, features, realm, client, &nonce, NOW, 600)
        };
        let keys = [other_key.clone(), key.clone()];
        assert_eq!(
            check(&keys, both, "example.org", alice),
            Ok(()),
            "any key of a rotation"
        );
        let foreign = Err(NonceError::Foreign);
        assert_eq!(check(&[other_key], both, "example.org", alice), foreign);
        let keys = [key];
        assert_eq!(check(&keys, both, "example.org", other_port), foreign);
        assert_eq!(check(&keys, both, "example.org", other_ip), foreign);
        assert_eq!(check(&keys, both, "example.net", alice), foreign);
        assert_eq!(
            check(&keys, features(true, false), "example.org", alice),
            foreign
        );
    }

    /// AUTH-08, AUTH-12
    #[test]
    fn good_for_its_whole_life_and_no_longer() {
        let keys = [NonceKey::new([7; 32])];
        let alice = client("[2001:db8::1]:1000");
        let none = SecurityFeatures::default();
        let nonce = issue(&keys[0], none, "r", alice, NOW);
        let check_at = |now| check(&keys, none, "r", alice, &nonce, now, 600);
        assert_eq!(check_at(NOW - 5), Ok(()));
        assert_eq!(check_at(NOW - 6), Err(NonceError::Expired));
        assert_eq!(check_at(NOW + 600), Ok(()));
        assert_eq!(check_at(NOW + 601), Err(NonceError::Expired));
    }

    /// AUTH-14, AUTH-16: an attacker who clears the announced bits, so that the client falls back to
    /// MD5, changes the nonce that the client signs (RFC 8489 §16.1.3).
    #[test]
    fn any_changed_byte_is_foreign() {
        let keys = [NonceKey::new([7; 32])];
        let alice = client("192.0.2.1:1000");
        let none = SecurityFeatures::default();
        let nonce = issue(&keys[0], none, "r", alice, NOW);
        for i in 0..NONCE_LEN {
            let mut changed = nonce;
            changed[i] = if changed[i] == b'A' { b'B' } else { b'A' };
            let verdict = check(&keys, none, "r", alice, &changed, NOW, 600);
            assert_eq!(verdict, Err(NonceError::Foreign), "byte {i}");
        }
        for len in 0..NONCE_LEN {
            let verdict = check(&keys, none, "r", alice, &nonce[..len], NOW, 600);
            assert_eq!(verdict, Err(NonceError::Foreign));
        }
    }
}
