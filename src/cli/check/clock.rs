//! The server's clock, as far as its nonces tell the time.
//!
//! turnstone's and coturn's nonces (the latter since 4.17) carry the second in which they were made.
//! Nothing says that a nonce is one of those, so one that looks like it proves nothing: two that tell
//! times as far apart as they arrived do.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::cli::credentials::unix_time;

/// Seconds by which two nonces may disagree: clocks of whole seconds, and one that a server reads
/// once in a while only.
const DISAGREEMENT_MAX_S: i64 = 4;

/// The earliest time that is taken for one, in September 2001: a server may count from its start.
const UNIX_S_MIN: u32 = 1_000_000_000;

/// Bytes of a turnstone nonce's cookie and feature bits, of all of it, and of a coturn nonce.
const PROLOGUE_LEN: usize = 13;
const TURNSTONE_LEN: usize = 28;
const COTURN_LEN: usize = 24;

/// A time that a server told, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// The server's clock less ours, in seconds.
    ahead_s: i64,
    at: Instant,
}

impl Reading {
    /// Reads a nonce that arrived just now; `None` if there is no time in it.
    pub(super) fn of(nonce: &[u8]) -> Option<Self> {
        let unix_s = turnstone_time(nonce).or_else(|| coturn_time(nonce))?;
        (unix_s >= UNIX_S_MIN).then(|| Self {
            ahead_s: i64::from(unix_s) - unix_time().cast_signed(),
            at: Instant::now(),
        })
    }

    /// How far the server's clock is ahead of ours, in seconds, if two nonces agree about it.
    pub(super) fn agree(self, other: Self) -> Option<i64> {
        // Otherwise a nonce that is kept for long would be taken for a clock.
        let apart = self.at.max(other.at) - self.at.min(other.at);
        let is_close = self.ahead_s.abs_diff(other.ahead_s) <= DISAGREEMENT_MAX_S.cast_unsigned();
        (is_close && apart < Duration::from_mins(10)).then(|| self.ahead_s.max(other.ahead_s))
    }
}

fn turnstone_time(nonce: &[u8]) -> Option<u32> {
    // The cookie alone is RFC 8489's: other servers have it too, and other things behind it.
    if nonce.len() != TURNSTONE_LEN || !nonce.starts_with(b"obMatJos2") {
        return None;
    }
    let opaque = STANDARD_NO_PAD.decode(&nonce[PROLOGUE_LEN..]).ok()?;
    Some(u32::from_be_bytes(*opaque.first_chunk()?))
}

fn coturn_time(nonce: &[u8]) -> Option<u32> {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if nonce.len() != COTURN_LEN || !nonce.iter().all(is_hex) {
        return None;
    }
    let digits = std::str::from_utf8(&nonce[..8]).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// A span of seconds, with its one or two largest units.
pub(super) fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = UNITS
        .iter()
        .position(|(length, _)| seconds >= *length)
        .unwrap_or(UNITS.len() - 1);
    let (length, unit) = UNITS[first];
    let rest = UNITS
        .get(first + 1)
        .map(|(length, unit)| (seconds % UNITS[first].0 / length, unit));
    match rest {
        Some((count, smaller)) if count > 0 => {
            format!("{} {unit} {count} {smaller}", seconds / length)
        }
        _ => format!("{} {unit}", seconds / length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turnstone_nonce(unix_s: u32, mac: u8) -> Vec<u8> {
        let mut opaque = unix_s.to_be_bytes().to_vec();
        opaque.extend([mac; 7]);
        format!("obMatJos2gAAA{}", STANDARD_NO_PAD.encode(opaque)).into_bytes()
    }

    #[test]
    fn nonces_tell_the_time_of_their_server() {
        let time = unix_time() as u32 + 7200;
        let of_turnstone = turnstone_nonce(time, 7);
        let of_coturn = format!("{time:08x}0123456789abcdef").into_bytes();
        for nonce in [of_turnstone, of_coturn] {
            let first = Reading::of(&nonce).unwrap();
            let ahead_s = first.agree(Reading::of(&nonce).unwrap()).unwrap();
            assert!((7195..=7200).contains(&ahead_s), "{ahead_s}");
        }
    }

    #[test]
    fn what_only_looks_like_a_time_is_none() {
        let upper = format!("{:08X}0123456789ABCDEF", 1_800_000_000);
        let counter = format!("{:08x}0123456789abcdef", 999_999_999);
        let cases = [
            &b""[..],
            b"obMatJos2gAAA",
            b"obMatJos2gAAA!!!!!!!!!!!!!!!",
            b"0123456789abcdef",
            upper.as_bytes(),
            counter.as_bytes(),
        ];
        for nonce in cases {
            assert!(Reading::of(nonce).is_none(), "{}", nonce.escape_ascii());
        }
        let random = [1_700_000_000, 2_700_000_000].map(|time| turnstone_nonce(time, 1));
        let readings = random.map(|nonce| Reading::of(&nonce).unwrap());
        assert_eq!(readings[0].agree(readings[1]), None);
    }

    #[test]
    fn spans_have_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (7_260, "2 h 1 min"),
            (86_399, "23 h 59 min"),
            (93_600, "1 d 2 h"),
            (864_000, "10 d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
    }
}
