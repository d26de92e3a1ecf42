//! What a connection carries, by its first bytes.

use super::budget::Budget;
use super::ending::Ending;
use super::held::{Beginning, Held};
use super::proxy::begins_header;
use crate::engine::settings::Web;
use crate::turn::Transport;
use crate::wire::{PacketKind, classify};

/// Bytes of the longest ClientHello that is waited for, records included. With post-quantum key
/// shares and a ticket it has some 2500.
pub(super) const HELLO_MAX: usize = 16 * 1024;

/// The type of a TLS record that is part of a handshake, and the first byte of its version
/// (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;
const VERSION_MAJOR: u8 = 0x03;

/// Letters of the longest method of HTTP (UPDATEREDIRECTREF has 17).
const METHOD_MAX: usize = 20;

/// Bytes of the header of a handshake message.
const MESSAGE_HEADER: usize = 4;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// STUN, as far as its first byte tells. The framing looks closer.
    Plain,
    /// A whole ClientHello, or what rustls is to say is none.
    Tls,
    /// An HTTP request.
    Http,
    /// More bytes are needed to tell.
    Undecided,
}

impl Opening {
    /// Looks at everything that has come so far.
    ///
    /// # Errors
    /// If it is nothing that is taken.
    fn of(bytes: &[u8], accepts: Accepts) -> Result<Self, Ending> {
        match *bytes {
            [HANDSHAKE, ..] if !accepts.tls => Err(Ending::NotTurn),
            [] | [HANDSHAKE] => Ok(Self::Undecided),
            [HANDSHAKE, VERSION_MAJOR, ..] => match hello_end(bytes) {
                Some(end) if end > HELLO_MAX => Err(Ending::HelloTooLong),
                Some(_) => Ok(Self::Tls),
                None => Ok(Self::Undecided),
            },
            _ if classify(bytes) == PacketKind::Stun && !accepts.plain => Err(Ending::NotTls),
            _ if classify(bytes) == PacketKind::Stun => Ok(Self::Plain),
            _ if begins_header(bytes) == Some(true) => Err(Ending::ProxyUntrusted),
            _ if accepts.http => Self::of_text(bytes),
            _ => Err(Ending::NotTurn),
        }
    }

    /// Whether it begins with a method of HTTP, as all methods are (RFC 9110 §9).
    fn of_text(bytes: &[u8]) -> Result<Self, Ending> {
        let is_letter = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
        let len = bytes.iter().take_while(|byte| is_letter(byte)).count();
        match bytes.get(len) {
            None if len <= METHOD_MAX => Ok(Self::Undecided),
            Some(b' ') if (1..=METHOD_MAX).contains(&len) => Ok(Self::Http),
            _ => Err(Ending::NotTurn),
        }
    }
}

/// Where the first handshake message ends, with its record, once that is there. What cannot be one ends
/// where that shows: others say what is wrong with it.
fn hello_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let (mut header, mut message) = (Vec::with_capacity(MESSAGE_HEADER), 0);
    while let [kind, _, _, high, low, ref payload @ ..] = *rest {
        let start = bytes.len() - payload.len();
        let len = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || len == 0 {
            return Some(start);
        }
        let missing = MESSAGE_HEADER - header.len();
        header.extend(payload.iter().take(len.min(missing)));
        message += len;
        if let [_, a, b, c] = *header
            && message >= MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize
        {
            return (payload.len() >= len).then_some(start + len);
        }
        rest = payload.get(len..).unwrap_or_default();
    }
    None
}

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepts {
    pub(super) plain: bool,
    pub(super) tls: bool,
    pub(super) http: bool,
}

impl Accepts {
    /// What one takes that is strict about a transport, or about none; TLS needs a certificate, or
    /// somebody else who has one.
    pub(super) fn new(only: Option<Transport>, has_tls: bool, web: &Web) -> Self {
        Self {
            plain: only != Some(Transport::Tls),
            tls: (has_tls || web.https.is_some()) && only != Some(Transport::Tcp),
            http: web.http.is_some() && only.is_none(),
        }
    }
}

/// The first bytes of a connection, until they tell what it is.
#[derive(Debug)]
pub(super) struct FirstBytes {
    accepts: Accepts,
    beginning: Beginning,
}

impl FirstBytes {
    pub(super) const fn new(accepts: Accepts, budget: Budget) -> Self {
        Self {
            accepts,
            beginning: Beginning::new(HELLO_MAX, Ending::HelloTooLong, budget),
        }
    }

    /// Takes what was read: it is kept unless it tells at once what the connection is.
    ///
    /// # Errors
    /// If the connection cannot go on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Opening, Ending> {
        let opening = Opening::of(self.beginning.with(bytes)?, self.accepts)?;
        if opening == Opening::Undecided {
            self.beginning.keep(bytes)?;
        }
        Ok(opening)
    }

    /// What was kept: nothing, or everything that has come so far.
    pub(super) fn take_held(&mut self) -> Held {
        self.beginning.take_held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stream::streams::BUFFER;

    const BOTH: Accepts = Accepts {
        plain: true,
        tls: true,
        http: false,
    };

    /// Bytes of a record's header.
    const RECORD_HEADER: usize = 5;

    /// A ClientHello of so many bytes in records of at most so many.
    fn hello(len: usize, per_record: usize) -> Vec<u8> {
        let [_, a, b, c] = (len as u32).to_be_bytes();
        let mut message = vec![1, a, b, c];
        message.resize(MESSAGE_HEADER + len, 9);
        let record = |part: &[u8]| {
            let [high, low] = (part.len() as u16).to_be_bytes();
            [&[HANDSHAKE, 3, 1, high, low], part].concat()
        };
        message.chunks(per_record).flat_map(record).collect()
    }

    fn first_bytes(accepts: Accepts) -> FirstBytes {
        FirstBytes::new(accepts, Budget::new(1 << 20))
    }

    #[test]
    fn the_first_byte_tells() {
        for first in 0..=255_u8 {
            let expected = match first {
                0..=3 => Ok(Opening::Plain),
                HANDSHAKE => Ok(Opening::Undecided),
                _ => Err(Ending::NotTurn),
            };
            assert_eq!(first_bytes(BOTH).push(&[first]), expected, "{first}");
        }
        let ssl2 = first_bytes(BOTH).push(&[HANDSHAKE, 2]);
        assert_eq!(ssl2, Err(Ending::NotTurn));
    }

    /// STREAM-01: however a ClientHello is cut, into records and into segments, it is whole in the end.
    #[test]
    fn a_hello_is_awaited_to_its_end() {
        for per_record in [1, 3, 4, 100, 400] {
            let hello = hello(300, per_record);
            for segment in [1, 7, hello.len() - 1, hello.len()] {
                let mut first = first_bytes(BOTH);
                let mut seen = 0;
                for bytes in hello.chunks(segment) {
                    seen += bytes.len();
                    let whole = seen == hello.len();
                    let opening = first.push(bytes).unwrap();
                    assert_eq!(
                        opening == Opening::Tls,
                        whole,
                        "{per_record} {segment} {seen}"
                    );
                }
                let held = if segment == hello.len() {
                    &[][..]
                } else {
                    &hello
                };
                assert_eq!(first.take_held().bytes(), held);
            }
        }
        for wrong in [
            &[HANDSHAKE, 3, 1, 0, 0][..],
            &[22, 3, 1, 0, 1, 1, 21, 3, 1, 0, 2],
        ] {
            let opening = first_bytes(BOTH).push(wrong);
            assert_eq!(opening, Ok(Opening::Tls), "{wrong:?} is not waited for");
        }
    }

    /// TLS-04, SEC-12
    #[test]
    fn a_hello_has_its_bound_and_is_charged() {
        let longest = hello(HELLO_MAX - RECORD_HEADER - MESSAGE_HEADER, HELLO_MAX);
        for (more, expected) in [(0, Ok(Opening::Tls)), (1, Err(Ending::HelloTooLong))] {
            let longer = hello(
                HELLO_MAX - RECORD_HEADER - MESSAGE_HEADER + more,
                HELLO_MAX + 1,
            );
            let mut first = first_bytes(BOTH);
            first.push(&longer[..longest.len() - 1]).unwrap();
            assert_eq!(first.push(&longer[longest.len() - 1..]), expected);
            assert_eq!(first_bytes(BOTH).push(&longer), expected, "at once");
            // What comes behind it is none of it.
            let mut first = first_bytes(BOTH);
            first.push(&longer[..longest.len() - 1]).unwrap();
            let rest = [&longer[longest.len() - 1..], &[0x17; BUFFER - 2]].concat();
            assert_eq!(first.push(&rest), expected);
        }
        let endless = first_bytes(BOTH).push(&hello(HELLO_MAX + 1, 100)[..HELLO_MAX]);
        assert_eq!(endless, Err(Ending::HelloTooLong));
        let mut poor = FirstBytes::new(BOTH, Budget::new(1000));
        let refused = poor.push(&longest[..501]);
        assert_eq!(refused, Err(Ending::MemoryLimit), "half is the strangers'");
    }

    #[test]
    fn a_strict_listener_takes_its_own() {
        let hello = hello(300, 400);
        for (only, has_tls, plain, tls) in [
            (None, true, Ok(Opening::Plain), Ok(Opening::Tls)),
            (None, false, Ok(Opening::Plain), Err(Ending::NotTurn)),
            (
                Some(Transport::Tcp),
                true,
                Ok(Opening::Plain),
                Err(Ending::NotTurn),
            ),
            (
                Some(Transport::Tls),
                true,
                Err(Ending::NotTls),
                Ok(Opening::Tls),
            ),
        ] {
            let accepts = Accepts::new(only, has_tls, &Web::default());
            let opening = |bytes: &[u8]| first_bytes(accepts).push(bytes);
            assert_eq!((opening(&[0]), opening(&hello)), (plain, tls));
            assert_eq!(opening(&[HANDSHAKE]).is_ok(), tls.is_ok());
        }
    }

    /// WEB-01: every method, cut anywhere, and nothing that is none.
    #[test]
    fn a_method_of_http_is_for_the_web_server() {
        let web = Web {
            http: Some("127.0.0.1:80".parse().unwrap()),
            ..Web::default()
        };
        let accepts = Accepts::new(None, false, &web);
        let longest = "X".repeat(METHOD_MAX);
        for method in ["GET", "POST", "PRI", "PROPFIND", "M-SEARCH", &longest] {
            let text = format!("{method} / HTTP/1.1\r\n");
            let mut first = first_bytes(accepts);
            for byte in method.as_bytes() {
                assert_eq!(first.push(&[*byte]), Ok(Opening::Undecided), "{method}");
            }
            assert_eq!(first.push(b" /"), Ok(Opening::Http));
            assert_eq!(
                first_bytes(accepts).push(text.as_bytes()),
                Ok(Opening::Http)
            );
            let strict = [Transport::Tcp, Transport::Tls];
            for accepts in strict.map(|only| Accepts::new(Some(only), true, &web)) {
                let opening = first_bytes(accepts).push(text.as_bytes());
                assert_eq!(opening, Err(Ending::NotTurn));
            }
        }
        let longer = format!("{longest}X");
        for text in [&longer[..], " /", "get /", "GET\t/", "SSH-2.0", "\n"] {
            let opening = first_bytes(accepts).push(text.as_bytes());
            assert_eq!(opening, Err(Ending::NotTurn), "{text}");
        }
        assert_eq!(first_bytes(accepts).push(&[0]), Ok(Opening::Plain));
    }

    /// PROXY-03: whether or not there is a web server.
    #[test]
    fn a_header_from_anybody_is_refused() {
        for http in [true, false] {
            let accepts = Accepts { http, ..BOTH };
            for header in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
                let opening = first_bytes(accepts).push(header);
                assert_eq!(opening, Err(Ending::ProxyUntrusted));
            }
            let opening = first_bytes(accepts).push(b"PROXY");
            assert_eq!(opening.is_ok(), http);
        }
    }
}
