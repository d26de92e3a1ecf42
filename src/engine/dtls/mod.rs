//! Clients over DTLS (RFC 7350), by OpenSSL.
//!
//! Strangers meet our own code alone: a ClientHello is answered with a cookie, and nothing is kept of it
//! ([`record`], [`hello`], [`cookie`]). OpenSSL sees the first byte of a client when its hello comes with a cookie
//! that was sent to its address. What a session decrypts goes the way of any datagram.

mod association;
mod cookie;
mod hello;
mod receive;
mod record;
mod session;
mod wire;

use std::net::SocketAddr;

pub(super) use association::Failure;
pub(super) use cookie::Cookies;

use crate::metrics;
use association::PLAIN_MAX;
use session::Sessions;
use wire::Wire;

/// The two addresses between which there is a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Path {
    client: SocketAddr,
    server: SocketAddr,
}

/// What a worker has for its clients over DTLS.
#[derive(Debug)]
pub(super) struct Dtls {
    cookies: Cookies,
    sessions: Sessions,
    /// Between the worker and the session that it is at.
    wire: Wire,
    /// Plaintext of the records behind the first of a datagram.
    plain: Box<[u8]>,
    /// Sessions that have begun in this round.
    begun: usize,
    /// Datagrams of handshakes that OpenSSL was shown in this round.
    shown: usize,
    counted: metrics::Dtls,
}

impl Dtls {
    pub(super) fn new(cookies: Cookies) -> Self {
        Self {
            cookies,
            sessions: Sessions::default(),
            wire: Wire::default(),
            plain: vec![0; PLAIN_MAX].into(),
            begun: 0,
            shown: 0,
            counted: metrics::Dtls::default(),
        }
    }

    /// The next round has its own crowd.
    pub(super) const fn begin_round(&mut self) {
        (self.begun, self.shown) = (0, 0);
    }

    /// What was counted.
    pub(super) const fn counted(&self) -> metrics::Dtls {
        self.counted
    }

    /// Sessions that have been answered, and those that have not.
    pub(super) fn established_and_half_open(&self) -> (u64, u64) {
        self.sessions.established_and_half_open()
    }
}

/// A ClientHello, for `tests/fuzz`: whether it is one, and the answer to it.
#[cfg(fuzzing)]
pub fn answer_client_hello(datagram: &mut [u8]) -> Option<Vec<u8>> {
    let hello = hello::ClientHello::parse(datagram)?;
    let answer = hello.verify_request([7; hello::COOKIE_LEN]).to_vec();
    record::renumber(datagram, 3);
    Some(answer)
}
