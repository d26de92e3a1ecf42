//! Time-limited credentials on a shared secret (draft-uberti-behave-turn-rest-00, and the variants
//! that coturn's users have).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

/// A user name that carries the time its password expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestUsername<'a> {
    /// Unix time in seconds; the credential is good up to and including it.
    pub expiry_unix_s: u64,
    /// Who it was issued for. The whole name where there is nothing but the time.
    pub user: &'a str,
}

impl<'a> RestUsername<'a> {
    /// Times above this are refused rather than computed with.
    const EXPIRY_MAX: u64 = 1 << 63;

    /// Reads `expiry:user`, `user:expiry` (where the first part is no number) or a bare `expiry`.
    /// Only the first separator counts.
    pub fn parse(username: &'a str, separator: char) -> Option<Self> {
        let Some((first, rest)) = username.split_once(separator) else {
            return Some(Self {
                expiry_unix_s: parse_expiry(username)?,
                user: username,
            });
        };
        let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        let (expiry, user) = if is_number {
            (first, rest)
        } else {
            (rest, first)
        };
        let expiry_unix_s = parse_expiry(expiry)?;
        Some(Self {
            expiry_unix_s,
            user: if user.is_empty() { username } else { user },
        })
    }

    /// Whether the credential may still be used at this time (Unix seconds).
    pub const fn is_valid_at(&self, now_unix_s: u64) -> bool {
        now_unix_s <= self.expiry_unix_s
    }
}

fn parse_expiry(digits: &str) -> Option<u64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits
        .parse()
        .ok()
        .filter(|&expiry| expiry <= RestUsername::EXPIRY_MAX)
}

/// The password of a user name: base64 of the HMAC-SHA1 of the name under the secret. Erased when
/// dropped.
pub fn rest_password(secret: &str, username: &[u8]) -> Zeroizing<String> {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(username);
    let mac = Zeroizing::<[u8; 20]>::new(mac.finalize().into_bytes().into());
    Zeroizing::new(STANDARD.encode(mac.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(username: &str) -> Option<(u64, &str)> {
        RestUsername::parse(username, ':').map(|name| (name.expiry_unix_s, name.user))
    }

    /// REST-01
    #[test]
    fn passwords() {
        let cases = [
            ("north", "1767225600:alice", "qnVCfmDqv+5N7tpxKH0liO/huIU="),
            ("north", "1767225600", "tMggyc2erg9lbM/dASX9Yu09OkM="),
            ("north", "1767225600:al:ice", "QDQfrb+9b/sa4QKkDTtJ447PzMQ="),
            ("logen", "1767225600:alice", "pc2zHuF+vqwwPCiB1MQQFOgxTDA="),
            ("ключ-🔑", "1767225600:zoë", "n1P3NXce6uHs8nzXGl2foSfKbLA="),
        ];
        for (secret, username, password) in cases {
            assert_eq!(
                *rest_password(secret, username.as_bytes()),
                password,
                "{username}"
            );
        }
    }

    /// REST-02, REST-06
    #[test]
    fn forms_of_the_name() {
        assert_eq!(parse("1767225600:alice"), Some((1_767_225_600, "alice")));
        assert_eq!(parse("alice:1767225600"), Some((1_767_225_600, "alice")));
        assert_eq!(parse("1767225600:al:ice"), Some((1_767_225_600, "al:ice")));
        assert_eq!(parse("1767225600"), Some((1_767_225_600, "1767225600")));
        assert_eq!(parse("1767225600:"), Some((1_767_225_600, "1767225600:")));
        assert_eq!(parse("0:alice"), Some((0, "alice")));
        let hash = RestUsername::parse("1767225600#alice", '#').unwrap();
        assert_eq!((hash.expiry_unix_s, hash.user), (1_767_225_600, "alice"));
    }

    /// REST-07
    #[test]
    fn what_is_no_time_is_no_name() {
        let names = [
            "",
            ":",
            "abc",
            "99999999999999999999:x",
            "-1:x",
            " 1:x",
            "1e9:x",
            "+1:x",
            "a:b",
        ];
        for name in names {
            assert_eq!(parse(name), None, "{name:?}");
        }
        assert_eq!(parse("9223372036854775809:x"), None);
        assert_eq!(parse("9223372036854775808:x"), Some((1 << 63, "x")));
    }

    /// REST-03
    #[test]
    fn valid_up_to_and_including_the_expiry() {
        let name = RestUsername::parse("1767225600:alice", ':').unwrap();
        assert!(name.is_valid_at(1_767_225_599));
        assert!(name.is_valid_at(1_767_225_600));
        assert!(!name.is_valid_at(1_767_225_601));
    }
}
