//! The PROXY protocol (HAProxy's `proxy-protocol.txt`, versions 1 and 2): whom a proxy speaks for, as
//! it tells this server, and as this server tells the ones behind it.

use std::net::SocketAddr;

use crc32c::{crc32c, crc32c_append};
use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

use super::budget::Budget;
use super::ending::Ending;
use super::held::{Beginning, Held};

/// Bytes of the longest header that is waited for. Version 1 has 107 at most; in version 2 a proxy can
/// add what it likes, which is some hundred bytes with a client's certificate.
pub(super) const HEADER_MAX: usize = 4096;

/// Bytes of the longest header of version 1.
const V1_MAX: usize = 107;

/// Bytes of a header of version 2 before what its length counts.
const V2_START: usize = 16;

/// Bytes of the longest header that this server writes.
pub(super) const WRITTEN_MAX: usize = V2_START + 36;

/// Bytes of a field's type and length, of which any number may stand behind the addresses.
const FIELD_START: usize = 3;

/// The type of the field with the checksum of the whole header (`PP2_TYPE_CRC32C`).
const CHECKSUM: u8 = 0x03;

/// Version 2, and the command of a proxy that speaks for itself.
const V2_LOCAL: u8 = 0x20;

/// How a header begins, by version.
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A connection as its first proxy saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Announced {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
}

/// What the first bytes from a proxy are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// More are needed to tell.
    Undecided,
    /// A header of so many bytes. Without a client the proxy speaks for itself.
    Whole {
        announced: Option<Announced>,
        len: usize,
    },
}

impl Header {
    /// Looks at everything that has come so far. Whether there is a header is not guessed: where a proxy
    /// left it out, its clients could write it.
    ///
    /// # Errors
    /// If it is no header, or one that is not taken.
    fn of(bytes: &[u8]) -> Result<Self, Ending> {
        match begins_header(bytes) {
            None => return Ok(Self::Undecided),
            Some(false) => return Err(Ending::ProxyMissing),
            Some(true) => {}
        }
        let is_v1 = bytes.starts_with(V1);
        let len = match bytes.get(V2_START - 2..V2_START) {
            _ if is_v1 => bytes
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|at| at + 1),
            Some(&[high, low]) => Some(V2_START + usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        };
        if len.is_some_and(|len| len > HEADER_MAX) {
            return Err(Ending::ProxyBroken);
        }
        if let Some(len) = len.filter(|_| !is_v1 && bytes[V2_START - 4] == V2_LOCAL) {
            // Whatever it says of addresses, nobody is announced.
            let (announced, is_whole) = (None, bytes.len() >= len);
            return Ok(match is_whole {
                true => Self::Whole { announced, len },
                false => Self::Undecided,
            });
        }
        let config = ParseConfig {
            include_tlvs: false,
            ..ParseConfig::default()
        };
        match ProxyHeader::parse(bytes, config) {
            Ok((_, parsed)) if is_v1 && parsed > V1_MAX => Err(Ending::ProxyBroken),
            // A line ends where it first says so, however it was cut.
            Ok((_, parsed)) if len != Some(parsed) => Err(Ending::ProxyBroken),
            Ok((header, len)) => {
                let announced = announced(&header)?;
                if !is_v1 && announced.is_some() && !is_sound(&bytes[..len]) {
                    return Err(Ending::ProxyBroken);
                }
                Ok(Self::Whole { announced, len })
            }
            Err(Error::BufferTooShort) if len.is_none_or(|len| bytes.len() < len) => {
                Ok(Self::Undecided)
            }
            Err(_) => Err(Ending::ProxyBroken),
        }
    }
}

fn announced(header: &ProxyHeader<'_>) -> Result<Option<Announced>, Ending> {
    let Some(address) = header.proxied_address() else {
        return Ok(None);
    };
    let announced = Announced {
        client: canonical(address.source),
        server: canonical(address.destination),
    };
    // What cannot have sent a TCP segment is no client.
    let ip = announced.client.ip();
    let is_client = address.protocol == Protocol::Stream
        && announced.client.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast();
    if is_client && ip.is_ipv4() == announced.server.is_ipv4() {
        Ok(Some(announced))
    } else {
        Err(Ending::ProxyBroken)
    }
}

/// Whether the fields of a header of version 2 are whole, and its checksum is right if it has one. Where
/// nobody is announced, nothing of a header counts.
fn is_sound(header: &[u8]) -> bool {
    let addresses = if header[V2_START - 3] >> 4 == 1 {
        12
    } else {
        36
    };
    let mut start = V2_START + addresses;
    while let Some(field) = header.get(start..).filter(|field| !field.is_empty()) {
        let &[kind, high, low, ref rest @ ..] = field else {
            return false;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some((value, behind)) = rest.split_at_checked(len) else {
            return false;
        };
        if kind == CHECKSUM {
            // Of the header as it was when zeros were in the place of the checksum.
            let before = crc32c(&header[..start + FIELD_START]);
            let sum = crc32c_append(crc32c_append(before, &[0; 4]), behind);
            if value != sum.to_be_bytes() {
                return false;
            }
        }
        start += FIELD_START + len;
    }
    true
}

/// Whether this begins a header; `None` as long as that cannot be told.
pub(super) fn begins_header(bytes: &[u8]) -> Option<bool> {
    let fits = |start: &[u8]| start.iter().zip(bytes).all(|(a, b)| a == b);
    let start = [V1, V2].into_iter().find(|start| fits(start));
    match start {
        None => Some(false),
        Some(start) if bytes.len() >= start.len() => Some(true),
        Some(_) => None,
    }
}

/// An IPv4 address in IPv6 form is an IPv4 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Writes the header by which a server behind this one learns of a connection. Returns its bytes.
pub(super) fn write_header(announced: &Announced, place: &mut [u8; WRITTEN_MAX]) -> usize {
    let address = ProxiedAddress::stream(announced.client, announced.server);
    let written = ProxyHeader::with_address(address).encode_to_slice_v2(place);
    written.expect("both addresses are of one family, and there is room for either")
}

/// The first bytes from a proxy, until its header is whole.
#[derive(Debug)]
pub(super) struct HeaderBytes(Beginning);

impl HeaderBytes {
    pub(super) const fn new(budget: Budget) -> Self {
        Self(Beginning::new(HEADER_MAX, Ending::ProxyBroken, budget))
    }

    /// Takes what was read: it is kept unless it tells at once what it is.
    ///
    /// # Errors
    /// If the connection cannot go on.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Header, Ending> {
        let header = Header::of(self.0.with(bytes)?)?;
        if header == Header::Undecided {
            self.0.keep(bytes)?;
        }
        Ok(header)
    }

    /// What was kept: nothing, or everything that has come so far.
    pub(super) fn into_held(mut self) -> Held {
        self.0.take_held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "198.51.100.7:40000";
    const SERVER: &str = "203.0.113.10:443";

    fn announced(client: &str, server: &str) -> Announced {
        Announced {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
        }
    }

    /// A header of version 2 by its parts.
    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let [high, low] = (payload.len() as u16).to_be_bytes();
        [V2, &[command, family, high, low], payload].concat()
    }

    fn v2_of(command: u8) -> Vec<u8> {
        let addresses = [198, 51, 100, 7, 203, 0, 113, 10, 0x9C, 0x40, 1, 187];
        v2(command, 0x11, &addresses)
    }

    fn header() -> HeaderBytes {
        HeaderBytes::new(Budget::new(1 << 20))
    }

    fn of(bytes: &[u8]) -> Result<Header, Ending> {
        header().push(bytes)
    }

    fn whole(bytes: &[u8], announced: Option<Announced>) {
        let len = bytes.len();
        let expected = Header::Whole { announced, len };
        for behind in [&b""[..], b"\x16\x03\x01", &[0; 9000]] {
            let all = [bytes, behind].concat();
            assert_eq!(of(&all), Ok(expected), "{bytes:02x?}");
            for segment in [1, 7, len - 1] {
                let mut header = header();
                for (index, part) in bytes[..len - 1].chunks(segment).enumerate() {
                    let opening = header.push(part);
                    assert_eq!(opening, Ok(Header::Undecided), "{bytes:02x?} {index}");
                }
                let last = [&bytes[len - 1..], behind].concat();
                assert_eq!(header.push(&last), Ok(expected));
                assert_eq!(header.into_held().bytes(), all);
            }
        }
    }

    /// PROXY-01: both versions, both families, and those that name nobody.
    #[test]
    fn headers_are_read_whatever_the_segments() {
        let v4 = Some(announced(CLIENT, SERVER));
        let v6 = Some(announced("[2001:db8::7]:40000", "[2001:db8::1]:443"));
        whole(b"PROXY TCP4 198.51.100.7 203.0.113.10 40000 443\r\n", v4);
        whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", v6);
        whole(
            b"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:203.0.113.10 40000 443\r\n",
            v4,
        );
        whole(b"PROXY UNKNOWN\r\n", None);
        whole(b"PROXY UNKNOWN ff:: ff:: 1 2\r\n", None);
        whole(&v2_of(0x21), v4);
        whole(&v2_of(0x20), None);
        whole(&v2(0x20, 0, b""), None);
        // Nothing of what is behind this command counts, as load balancers have it with health checks.
        for family in [0x11, 0x21, 0x31, 0x42, 0xFF] {
            whole(&v2(0x20, family, b""), None);
            whole(&v2(0x20, family, b"abcd"), None);
        }
        whole(&v2(0x21, 0, b""), None);
        // A name of the service, and something unknown.
        let tlvs = [&v2_of(0x21)[V2_START..], b"\x02\x00\x04turn\xEE\x00\x01x"].concat();
        whole(&v2(0x21, 0x11, &tlvs), v4);
        for of_both in [v4, v6].map(Option::unwrap) {
            let mut place = [0; WRITTEN_MAX];
            let len = write_header(&of_both, &mut place);
            whole(&place[..len], Some(of_both));
        }
    }

    /// A header with these bytes behind its addresses.
    fn v2_with(fields: &[u8]) -> Vec<u8> {
        let payload = [&v2_of(0x21)[V2_START..], fields].concat();
        v2(0x21, 0x11, &payload)
    }

    /// PROXY-05: wherever it stands, in either family. One that is wrong ends the connection, whatever
    /// byte of the header it was that changed.
    #[test]
    fn a_checksum_is_verified() {
        let v4 = Some(announced(CLIENT, SERVER));
        // CRC-32C by its definition, bit by bit.
        let sum = |bytes: &[u8]| {
            let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
            let byte = |crc, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), step);
            (!bytes.iter().fold(!0, byte)).to_be_bytes()
        };
        assert_eq!(sum(b"123456789"), 0xE306_9283_u32.to_be_bytes());
        for (before, after) in [
            ("", ""),
            ("\x02\0\x04turn", "\x6E\0\x01x"),
            ("\x04\0\0", ""),
        ] {
            let fields = [before.as_bytes(), b"\x03\0\x04\0\0\0\0", after.as_bytes()].concat();
            let mut header = v2_with(&fields);
            let at = V2_START + 12 + before.len() + FIELD_START;
            let right = sum(&header);
            header[at..at + 4].copy_from_slice(&right);
            whole(&header, v4);
            for place in V2.len() + 4..header.len() {
                let mut wrong = header.clone();
                wrong[place] ^= 0x10;
                let is_type = place == at - FIELD_START;
                assert_eq!(of(&wrong).is_err(), !is_type, "{place} of {header:02x?}");
            }
        }
        let mut place = [0; WRITTEN_MAX];
        let v6 = announced("[2001:db8::7]:40000", "[2001:db8::1]:443");
        let len = write_header(&v6, &mut place);
        let mut header = [&place[..len], b"\x03\0\x04\0\0\0\0"].concat();
        header[V2_START - 1] += 7;
        assert_eq!(of(&header), Err(Ending::ProxyBroken));
        let right = sum(&header);
        header[len + FIELD_START..].copy_from_slice(&right);
        whole(&header, Some(v6));
    }

    /// PROXY-02, PROXY-05: fields that are cut; who speaks for itself may add what it likes.
    #[test]
    fn fields_are_whole() {
        let v4 = Some(announced(CLIENT, SERVER));
        whole(&v2_with(b"\xEE\0\0"), v4);
        for cut in [
            "\x02",
            "\x02\0",
            "\x02\0\x01",
            "\x03\0\0",
            "\x03\0\x03abc",
            "\x03\0\x05abcde",
        ] {
            assert_eq!(
                of(&v2_with(cut.as_bytes())),
                Err(Ending::ProxyBroken),
                "{cut:?}"
            );
            whole(&v2(0x20, 0, cut.as_bytes()), None);
        }
    }

    /// PROXY-02: at the bounds, and at once where a length promises too much.
    #[test]
    fn headers_have_their_bounds() {
        let v1 = |len: usize| {
            let mut bytes = b"PROXY UNKNOWN ".to_vec();
            bytes.resize(len - 2, b'x');
            [&bytes[..], b"\r\n"].concat()
        };
        whole(&v1(V1_MAX), None);
        assert_eq!(of(&v1(V1_MAX + 1)), Err(Ending::ProxyBroken));
        assert_eq!(of(&v1(V1_MAX + 1)[..V1_MAX]), Err(Ending::ProxyBroken));
        let longest = v2(0x20, 0, &[0; HEADER_MAX - V2_START]);
        whole(&longest, None);
        let longer = v2(0x20, 0, &[0; HEADER_MAX - V2_START + 1]);
        assert_eq!(of(&longer[..V2_START - 1]), Ok(Header::Undecided));
        assert_eq!(of(&longer[..V2_START]), Err(Ending::ProxyBroken));
        let mut poor = HeaderBytes::new(Budget::new(1000));
        assert_eq!(poor.push(&longest[..900]), Err(Ending::MemoryLimit));
    }

    /// PROXY-02
    #[test]
    fn what_is_no_header_of_a_client_is_refused() {
        for text in [
            "PROXY TCP4 198.51.100.7 203.0.113.10 40000\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.10 40000 443\n\n",
            "PROXY UNKNOWN \n and more\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 40000 443\r\n",
            "PROXY TCP4 198.51.100.7 203.0.113.10 0 443\r\n",
            "PROXY TCP4 0.0.0.0 203.0.113.10 40000 443\r\n",
            "PROXY TCP4 224.0.0.1 203.0.113.10 40000 443\r\n",
            "PROXY TCP6 ::ffff:198.51.100.7 2001:db8::1 40000 443\r\n",
            "PROXY UDP4 198.51.100.7 203.0.113.10 40000 443\r\n",
        ] {
            assert_eq!(of(text.as_bytes()), Err(Ending::ProxyBroken), "{text}");
        }
        let datagram = v2(0x21, 0x12, &v2_of(0x21)[V2_START..]);
        let short = v2(0x21, 0x11, &[0; 11]);
        let short = [&short[..], b"and more"].concat();
        for bytes in [
            datagram,
            short,
            v2_of(0x22),
            v2_of(0x11),
            v2(0x21, 0x41, b""),
        ] {
            assert_eq!(of(&bytes), Err(Ending::ProxyBroken), "{bytes:02x?}");
        }
    }

    /// PROXY-02: where a proxy left the header out, a client could write it.
    #[test]
    fn a_header_may_not_be_missing() {
        for bytes in [
            &b"\0\x01"[..],
            b"\x16\x03",
            b"PROPFIND",
            b"\r\n\r\n\r",
            b"PROXX",
        ] {
            assert_eq!(of(bytes), Err(Ending::ProxyMissing), "{bytes:02x?}");
        }
        let mut cut = header();
        assert_eq!(cut.push(b"PRO"), Ok(Header::Undecided));
        assert_eq!(cut.push(b"PFIND"), Err(Ending::ProxyMissing));
    }
}
