//! Preparation of configured names and passwords: OpaqueString (RFC 8265 §4.2).
//!
//! What clients send is taken as it is: RFC 8489 has the client prepare it, and browsers do not.

use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use zeroize::Zeroizing;

/// The string cannot be prepared: it is empty or has a code point that OpaqueString refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOpaqueString;

impl fmt::Display for NotOpaqueString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("empty, or has control, invisible or unassigned characters")
    }
}

impl std::error::Error for NotOpaqueString {}

/// Prepares a user name or a password. Erased when dropped, and so are the steps on the way.
///
/// # Errors
/// If the profile refuses the string.
pub fn opaque_string(text: &str) -> Result<Zeroizing<String>, NotOpaqueString> {
    let mut prepared = Zeroizing::new(text.to_owned());
    // RFC 8264 §7: until stable, at most three times more.
    for _ in 0..4 {
        let next = OpaqueString::enforce(prepared.as_str()).map_err(|_| NotOpaqueString)?;
        let next = Zeroizing::new(next.into_owned());
        if next == prepared {
            return Ok(prepared);
        }
        prepared = next;
    }
    Err(NotOpaqueString)
}

/// Prepares a realm, first stripped of the quotes and trailing NULs that RFC 8489 §9.2.2 keeps out
/// of keys.
///
/// # Errors
/// If the profile refuses the string.
pub fn prepare_realm(realm: &str) -> Result<String, NotOpaqueString> {
    let realm = realm.trim_end_matches('\0');
    let realm = realm
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(realm);
    Ok(std::mem::take(&mut *opaque_string(realm)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AUTH-24
    #[test]
    fn table_of_rfc_8265() {
        let cases = [
            (
                "correct horse battery staple",
                Some("correct horse battery staple"),
            ),
            ("Correct Horse", Some("Correct Horse")),
            ("\u{3c0}\u{df}\u{e5}", Some("\u{3c0}\u{df}\u{e5}")),
            ("Jack of \u{2666}s", Some("Jack of \u{2666}s")),
            ("foo\u{1680}bar", Some("foo bar")),
            ("a\u{a0}b", Some("a b")),
            ("a\u{3000}b", Some("a b")),
            ("e\u{301}", Some("\u{e9}")),
            ("\u{212b}\u{301}", Some("\u{1fa}")),
            ("\u{2168}", Some("\u{2168}")),
            ("\u{aa}", Some("\u{aa}")),
            ("\u{ff21}\u{ff22}\u{ff23}", Some("\u{ff21}\u{ff22}\u{ff23}")),
            ("", None),
            ("my cat is a \tby", None),
            ("a\u{ad}b", None),
            ("a\u{200b}b", None),
            ("The\u{ad}M\u{aa}tr\u{2168}", None),
            ("TheMatrIX", Some("TheMatrIX")),
        ];
        for (input, expected) in cases {
            assert_eq!(
                opaque_string(input).ok().as_deref().map(String::as_str),
                expected,
                "{input:?}"
            );
        }
    }

    /// AUTH-31
    #[test]
    fn quotes_and_trailing_nuls_do_not_count_in_a_realm() {
        assert_eq!(prepare_realm("\"example.org\"").unwrap(), "example.org");
        assert_eq!(prepare_realm("example.org\0\0").unwrap(), "example.org");
        assert_eq!(prepare_realm("\"\""), Err(NotOpaqueString));
    }
}
