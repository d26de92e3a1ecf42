//! Cookies: what proves that a client gets what is sent to its address (RFC 6347 §4.2.1). Nothing is
//! remembered of those that were given away.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::Path;
use super::hello::{COOKIE_LEN, ClientHello};
use crate::turn::Time;

/// Milliseconds for which cookies are made alike. One is good in its own time and the next.
const WINDOW_MS: u64 = 60_000;

/// Makes cookies and knows them again, on whichever worker.
#[derive(Clone)]
pub(in crate::engine) struct Cookies(Arc<Zeroizing<[u8; 32]>>);

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies")
    }
}

impl Cookies {
    /// With a key of its own.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub(in crate::engine) fn new() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice())?;
        Ok(Self(Arc::new(key)))
    }

    /// The cookie for a client that says this hello.
    pub(super) fn of(&self, now: Time, path: &Path, hello: &ClientHello<'_>) -> [u8; COOKIE_LEN] {
        self.in_window(now.as_millis() / WINDOW_MS, path, hello)
    }

    /// Whether the hello has a cookie that was made for its client not long ago.
    pub(super) fn verify(&self, now: Time, path: &Path, hello: &ClientHello<'_>) -> bool {
        let window = now.as_millis() / WINDOW_MS;
        [Some(window), window.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|window| {
                let made = self.in_window(window, path, hello);
                bool::from(made.ct_eq(hello.cookie))
            })
    }

    fn in_window(&self, window: u64, path: &Path, hello: &ClientHello<'_>) -> [u8; COOKIE_LEN] {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice());
        let mut mac = mac.expect("HMAC takes keys of any length");
        mac.update(&window.to_be_bytes());
        for address in [path.client, path.server] {
            // Both are of one family, so the length of all of it says which.
            match address.ip() {
                IpAddr::V4(ip) => mac.update(&ip.octets()),
                IpAddr::V6(ip) => mac.update(&ip.octets()),
            }
            mac.update(&address.port().to_be_bytes());
        }
        mac.update(&hello.random);
        let code = mac.finalize().into_bytes();
        let mut cookie = [0; COOKIE_LEN];
        cookie.copy_from_slice(&code[..COOKIE_LEN]);
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DTLS-01: of one client, one server, one hello and one time.
    #[test]
    fn a_cookie_is_good_for_what_it_was_made_for() {
        let cookies = Cookies::new().unwrap();
        let path = |client: &str, server: &str| Path {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
        };
        let own = path("192.0.2.1:1000", "192.0.2.2:5349");
        let with = |random, cookie| ClientHello {
            sequence: 0,
            message: 0,
            random: [random; 32],
            cookie,
        };
        let made_at = Time::from_millis(WINDOW_MS * 5 + 1);
        let cookie = cookies.of(made_at, &own, &with(1, &[]));
        let hello = with(1, &cookie);
        let at = |ms: u64| cookies.verify(Time::from_millis(ms), &own, &hello);
        assert!(at(WINDOW_MS * 5) && at(WINDOW_MS * 7 - 1));
        assert!(!at(WINDOW_MS * 7) && !at(WINDOW_MS * 5 - 1));
        for other in [
            path("192.0.2.1:1001", "192.0.2.2:5349"),
            path("192.0.2.3:1000", "192.0.2.2:5349"),
            path("192.0.2.1:1000", "192.0.2.2:5350"),
            path("192.0.2.1:1000", "192.0.2.3:5349"),
            path("[2001:db8::1]:1000", "192.0.2.2:5349"),
        ] {
            assert!(!cookies.verify(made_at, &other, &hello), "{other:?}");
        }
        assert!(!cookies.verify(made_at, &own, &with(2, &cookie)));
        assert!(!cookies.verify(made_at, &own, &with(1, &cookie[1..])));
        assert!(!cookies.verify(made_at, &own, &with(1, &[])));
        assert!(!Cookies::new().unwrap().verify(made_at, &own, &hello));
    }
}
