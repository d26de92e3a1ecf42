//! The one message of DTLS that is read without a session: a ClientHello (RFC 6347 §4.2.1).
//!
//! Enough of it is read to answer it with a cookie, and to find the cookie in the next one. It has to be
//! whole in one record and alone in its datagram, as it is of every client that we know: parts of one
//! would have to be kept for strangers.

use super::record::{HANDSHAKE, HEADER as RECORD_HEADER, MESSAGE_HEADER, Records, VERSION_MAJOR};
use crate::engine::reader::Reader;

/// Bytes of a cookie of ours.
pub(super) const COOKIE_LEN: usize = 20;

/// Bytes of a HelloVerifyRequest of ours. No ClientHello is shorter.
pub(super) const VERIFY_REQUEST_LEN: usize = RECORD_HEADER + MESSAGE_HEADER + 2 + 1 + COOKIE_LEN;

const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;

/// DTLS 1.0, which a HelloVerifyRequest has whatever the version will be.
const VERSION_1_0: [u8; 2] = [VERSION_MAJOR, 0xff];

/// Bytes of a random.
pub(super) const RANDOM_LEN: usize = 32;

/// What is to be known of a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientHello<'a> {
    /// The number of its record.
    pub(super) sequence: u64,
    /// Its own number in the handshake.
    pub(super) message: u16,
    pub(super) random: [u8; RANDOM_LEN],
    /// Empty in the first one.
    pub(super) cookie: &'a [u8],
}

/// Whether a datagram with these records begins with one, perhaps broken.
pub(super) fn is_client_hello(records: Records, datagram: &[u8]) -> bool {
    records.begins_handshake() && datagram.get(RECORD_HEADER) == Some(&CLIENT_HELLO)
}

impl<'a> ClientHello<'a> {
    /// Reads a datagram, if it is one and nothing else.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if !is_client_hello(Records::of(datagram)?, datagram) {
            return None;
        }
        let mut rest = Reader(datagram.get(5..)?);
        let sequence = rest.number(6)?;
        let message = rest.vector(2)?.0;
        if !rest.is_empty() {
            return None;
        }
        let mut rest = Reader(message.get(1..)?);
        let len = rest.number(3)?;
        let number = rest.number(2)? as u16;
        let (offset, part) = (rest.number(3)?, rest.number(3)?);
        if offset != 0 || part != len || rest.0.len() as u64 != len {
            return None;
        }
        let version = rest.take(2)?;
        let random = rest.take(RANDOM_LEN)?.try_into().ok()?;
        let _session = rest.vector(1)?;
        let cookie = rest.vector(1)?.0;
        let (suites, compressions) = (rest.vector(2)?, rest.vector(1)?);
        let is_sound = version[0] == VERSION_MAJOR
            && !suites.is_empty()
            && suites.0.len().is_multiple_of(2)
            && !compressions.is_empty();
        is_sound.then_some(Self {
            sequence,
            message: number,
            random,
            cookie,
        })
    }

    /// The answer that has the client send a cookie back. Its record has the number of the client's.
    pub(super) fn verify_request(&self, cookie: [u8; COOKIE_LEN]) -> [u8; VERIFY_REQUEST_LEN] {
        const BODY: u8 = 2 + 1 + COOKIE_LEN as u8;
        let mut reply = [0; VERIFY_REQUEST_LEN];
        let (record, message) = reply.split_at_mut(RECORD_HEADER);
        record[0] = HANDSHAKE;
        record[1..3].copy_from_slice(&VERSION_1_0);
        record[5..11].copy_from_slice(&self.sequence.to_be_bytes()[2..]);
        record[12] = MESSAGE_HEADER as u8 + BODY;
        let (header, body) = message.split_at_mut(MESSAGE_HEADER);
        // It is the first message of the server, and whole.
        header[0] = HELLO_VERIFY_REQUEST;
        (header[3], header[11]) = (BODY, BODY);
        body[..2].copy_from_slice(&VERSION_1_0);
        body[2] = COOKIE_LEN as u8;
        body[3..].copy_from_slice(&cookie);
        reply
    }
}

/// A ClientHello without a cookie, with which a session of OpenSSL begins in place of the one that was
/// answered before there was a session. What it offers is not looked at.
pub(super) const PREFACE: [u8; 67] = {
    const BODY: u8 = 67 - (RECORD_HEADER + MESSAGE_HEADER) as u8;
    let mut hello = [0; 67];
    hello[0] = HANDSHAKE;
    (hello[1], hello[2]) = (VERSION_MAJOR, 0xfd);
    hello[12] = MESSAGE_HEADER as u8 + BODY;
    hello[13] = CLIENT_HELLO;
    (hello[16], hello[24]) = (BODY, BODY);
    (hello[25], hello[26]) = (VERSION_MAJOR, 0xfd);
    // Behind a random of zeros: no session, no cookie, one suite, no compression.
    (hello[61], hello[62], hello[63], hello[64]) = (0, 2, 0xc0, 0x2b);
    hello[65] = 1;
    hello
};

#[cfg(test)]
mod tests {
    use super::*;

    /// With another number, random and cookie.
    fn hello(cookie: &[u8]) -> Vec<u8> {
        let mut hello = PREFACE.to_vec();
        hello[10] = 7;
        hello[18] = 1;
        hello[27..59].fill(9);
        hello[60] = cookie.len() as u8;
        hello.splice(61..61, cookie.iter().copied());
        for len in [12, 16, 24] {
            hello[len] += cookie.len() as u8;
        }
        hello
    }

    /// DTLS-01
    #[test]
    fn a_hello_is_read() {
        let bytes = hello(&[1, 2, 3]);
        let expected = ClientHello {
            sequence: 7,
            message: 1,
            random: [9; 32],
            cookie: &[1, 2, 3],
        };
        assert_eq!(ClientHello::parse(&bytes), Some(expected));
        assert!(ClientHello::parse(&PREFACE).unwrap().cookie.is_empty());
    }

    /// DTLS-01: of parts nothing is kept, so they are none.
    #[test]
    fn what_is_not_whole_is_none() {
        let whole = hello(&[5; 20]);
        for len in 0..whole.len() {
            assert_eq!(ClientHello::parse(&whole[..len]), None, "{len}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(ClientHello::parse(&longer), None);
        for (place, what) in [
            (0, "type"),
            (1, "version"),
            (3, "epoch"),
            (4, "epoch"),
            (12, "record"),
            (13, "message"),
            (16, "length"),
            (21, "offset"),
            (24, "part"),
            (25, "version"),
            (59, "session"),
            (60, "cookie"),
            (82, "suites"),
        ] {
            let mut broken = whole.clone();
            broken[place] ^= 0x11;
            assert_eq!(ClientHello::parse(&broken), None, "{what}");
        }
    }

    /// DTLS-01: the answer is shorter than any question, and OpenSSL's reader takes it.
    #[test]
    fn the_answer_is_shorter() {
        let bytes = hello(&[]);
        let reply = ClientHello::parse(&bytes).unwrap().verify_request([3; 20]);
        assert!(reply.len() < PREFACE.len());
        assert_eq!(reply[..13], [22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 7, 0, 35]);
        assert_eq!(reply[13..25], [3, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, 23]);
        assert_eq!(reply[25..28], [0xfe, 0xff, 20]);
        assert_eq!(reply[28..], [3; 20]);
    }
}
