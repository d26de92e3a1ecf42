//! What a ClientHello asks for (RFC 8446 §4.1.2), read without judging it.
//!
//! Who is to have the connection judges. A library that speaks TLS refuses what it does not speak itself,
//! such as a version that a web server has for old clients.

use crate::engine::reader::Reader;

/// The type of a record that is part of a handshake, and of the message.
const HANDSHAKE: u64 = 22;
const CLIENT_HELLO: u64 = 1;

/// Extensions (RFC 6066 §3, RFC 7301 §3.1), and the kind of name that there is.
const SERVER_NAME: u64 = 0;
const PROTOCOLS: u64 = 16;
const HOST_NAME: u64 = 0;

/// What a client asks for, before TLS begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientHello {
    server_name: Option<Vec<u8>>,
    /// Application protocols, each behind a byte with its length.
    protocols: Vec<u8>,
}

impl ClientHello {
    /// Reads the records that a connection begins with. None if they do not have a whole ClientHello, as
    /// far as the lengths in it go.
    pub(super) fn read(records: &[u8]) -> Option<Self> {
        let message = message(records)?;
        let mut rest = Reader(&message);
        let _version_and_random = rest.take(2 + 32)?;
        let _session = rest.vector(1)?;
        let _cipher_suites = rest.vector(2)?;
        let _compression_methods = rest.vector(1)?;
        let mut hello = Self::default();
        // Old clients have no extensions.
        if rest.is_empty() {
            return Some(hello);
        }
        let mut extensions = rest.vector(2)?;
        while !extensions.is_empty() {
            let kind = extensions.number(2)?;
            let content = extensions.vector(2)?;
            match kind {
                SERVER_NAME => hello.server_name = host_name(content),
                PROTOCOLS => hello.protocols = list(content),
                // Unknown ones come on purpose too (RFC 8701).
                _ => {}
            }
        }
        Some(hello)
    }

    /// Whether the client asks for the server of this name, of which case means nothing.
    pub(super) fn is_to(&self, name: &str) -> bool {
        let wanted = self.server_name.as_deref();
        wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The application protocols that it offers (ALPN).
    pub(super) fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut list = Reader(&self.protocols);
        std::iter::from_fn(move || list.vector(1).map(|protocol| protocol.0))
    }
}

/// The first handshake message, put together from its records, without its header.
fn message(records: &[u8]) -> Option<Vec<u8>> {
    let mut records = Reader(records);
    let mut bytes = Vec::new();
    // A record is five bytes at least.
    loop {
        if records.number(1)? != HANDSHAKE {
            return None;
        }
        let _version = records.take(2)?;
        let payload = records.vector(2)?;
        // RFC 8446 §5.1. Others do not wait for what comes behind one, however it arrives.
        if payload.is_empty() {
            return None;
        }
        bytes.extend(payload.0);
        let mut message = Reader(&bytes);
        if let (Some(kind), Some(body)) = (message.number(1), message.vector(3)) {
            return (kind == CLIENT_HELLO).then(|| body.0.to_vec());
        }
    }
}

/// The first host name of a list of names.
fn host_name(mut content: Reader<'_>) -> Option<Vec<u8>> {
    let mut names = content.vector(2)?;
    loop {
        let kind = names.number(1)?;
        let name = names.vector(2)?;
        if kind == HOST_NAME {
            return Some(name.0.to_vec());
        }
    }
}

/// The bytes of a list; none if it is broken.
fn list(mut content: Reader<'_>) -> Vec<u8> {
    content.vector(2).map_or_else(Vec::new, |it| it.0.to_vec())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What stands behind its length.
    fn vector(len: usize, content: &[u8]) -> Vec<u8> {
        let bytes = (content.len() as u32).to_be_bytes();
        [&bytes[4 - len..], content].concat()
    }

    fn extension(kind: u64, content: &[u8]) -> Vec<u8> {
        let kind = (kind as u16).to_be_bytes();
        [&kind[..], &vector(2, content)].concat()
    }

    fn server_name(name: &[u8]) -> Vec<u8> {
        let other_kind = [&[9][..], &vector(2, b"x")].concat();
        let name = [&[0][..], &vector(2, name)].concat();
        extension(SERVER_NAME, &vector(2, &[other_kind, name].concat()))
    }

    fn protocols(offered: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = offered.iter().flat_map(|it| vector(1, it)).collect();
        extension(PROTOCOLS, &vector(2, &list))
    }

    /// A ClientHello of TLS 1.1 that has what is to be read, and none of what is mandatory later: neither
    /// signature algorithms nor the null compression method. In records of at most so many bytes.
    fn hello(extensions: Option<&[u8]>, per_record: usize) -> Vec<u8> {
        let body = [
            &[3, 2][..],
            &[7; 32],
            &vector(1, &[8; 32]),
            &vector(2, &[0x0A, 0x0A, 0, 0x2F]),
            &vector(1, &[1]),
            &extensions.map_or_else(Vec::new, |it| vector(2, it)),
        ]
        .concat();
        let message = [&[CLIENT_HELLO as u8][..], &vector(3, &body)].concat();
        let record = |part: &[u8]| [&[HANDSHAKE as u8, 3, 1][..], &vector(2, part)].concat();
        message.chunks(per_record).flat_map(record).collect()
    }

    /// One that asks for a name and offers protocols, with extensions that nobody knows around them.
    pub(in crate::engine::stream) fn old_hello(name: &str, offered: &[&[u8]]) -> Vec<u8> {
        let grease = extension(0x1A1A, b"\xFF");
        let (name, offered) = (server_name(name.as_bytes()), protocols(offered));
        let extensions = [&grease[..], &name, &grease, &offered, &grease];
        hello(Some(&extensions.concat()), 9000)
    }

    fn read(records: &[u8]) -> Option<(Option<String>, Vec<String>)> {
        let hello = ClientHello::read(records)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let offered = hello.protocols().map(text).collect();
        Some((hello.server_name.as_deref().map(text), offered))
    }

    /// WEB-01
    #[test]
    fn what_is_asked_for_is_read() {
        let name = Some("www.example.org".to_owned());
        let offered = vec!["http/1.1".to_owned(), "h2".to_owned()];
        let whole = old_hello("www.example.org", &[b"http/1.1", b"h2"]);
        assert_eq!(read(&whole), Some((name, offered)));
        for nothing in [None, Some(&[][..])] {
            assert_eq!(read(&hello(nothing, 9000)), Some((None, vec![])));
        }
        // An invalid name is not one of ours, and that is all.
        let invalid = server_name(b"\xFF\0");
        let invalid = ClientHello::read(&hello(Some(&invalid), 9000)).unwrap();
        assert!(!invalid.is_to("www.example.org"));
        // A broken extension asks for nothing.
        for broken in [
            extension(SERVER_NAME, b"\0"),
            extension(PROTOCOLS, b"\0\x09h2"),
        ] {
            assert_eq!(read(&hello(Some(&broken), 9000)), Some((None, vec![])));
        }
    }

    /// WEB-01: a length that is longer than what is there.
    #[test]
    fn what_is_cut_off_is_not_read() {
        let whole = old_hello("www.example.org", &[b"h2"]);
        let empty_first = [b"\x16\x03\x01\0\0", &whole[..]].concat();
        assert_eq!(read(&empty_first), None);
        for len in 0..whole.len() {
            assert_eq!(read(&whole[..len]), None, "{len}");
        }
        for other in [
            &b"\x16\x03\x01\0\x04\x02\0\0\0"[..],
            b"\x17\x03\x01\0\x04\x01\0\0\0",
            b"",
        ] {
            assert_eq!(read(other), None);
        }
    }

    proptest! {
        /// WEB-01: whatever the records.
        #[test]
        fn records_do_not_matter(per_record in 1..300_usize, name in "[a-z.]{1,40}") {
            let extensions = [server_name(name.as_bytes()), protocols(&[b"h2"])].concat();
            let cut = hello(Some(&extensions), per_record);
            prop_assert_eq!(read(&cut), Some((Some(name), vec!["h2".to_owned()])));
        }

        /// WEB-01: never a panic, for noise or for a hello with some of its bytes changed.
        #[test]
        fn anything_can_be_read(
            noise in vec(any::<u8>(), 0..200),
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut changed = old_hello("www.example.org", &[b"http/1.1", b"h2"]);
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            for bytes in [&noise, &changed] {
                if let Some(hello) = ClientHello::read(bytes) {
                    let total: usize = hello.protocols().map(<[u8]>::len).sum();
                    prop_assert!(total <= bytes.len());
                }
            }
        }
    }
}
