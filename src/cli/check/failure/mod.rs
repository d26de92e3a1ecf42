//! What can go wrong: as the table tells it, and as a sentence about its likely cause.

mod refusal;
mod verdict;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) use refusal::Refusal;
pub(super) use verdict::Context;

use crate::wire::{AttributeType, ErrorCode, Malformed, Method};

/// Why a step failed. `Display` is what was seen, [`Failure::verdict`] is what it means.
#[derive(Debug)]
pub(super) enum Failure {
    /// TCP: a reset instead of a connection.
    ConnectionRefused,
    /// TCP: nothing instead of a connection.
    ConnectTimeout { waited: Duration },
    /// UDP: ICMP port unreachable.
    PortUnreachable,
    /// No way to the server: this machine has no route, or ICMP said so.
    Unreachable(io::Error),
    /// The server closed the stream.
    Closed,
    /// Any other trouble with the socket.
    Io(io::Error),
    /// No reply to a request.
    Silence { method: Method, waited: Duration },
    /// Earlier steps used up the time.
    TimeUp,
    /// A reply that no STUN server sends.
    NotStun(String),
    /// A TLS record instead of STUN.
    Tls,
    /// An HTTP response instead of STUN.
    Http(String),
    /// A reply without an attribute that it must have, or with an impossible value of it.
    BadReply {
        method: Method,
        attribute: AttributeType,
    },
    /// A success response that proves nothing.
    Unsigned { method: Method },
    /// A success response that was signed with another key.
    WronglySigned { method: Method },
    /// An Allocate without credentials succeeded.
    OpenRelay,
    /// An error response.
    Refused(Refusal),
    /// Outsiders cannot send to the relayed address.
    PrivateRelay { relayed_address: SocketAddr },
    /// What a socket outside the server sent to the relayed address did not arrive.
    ClosedRelay {
        relayed_address: SocketAddr,
        /// Whether ICMP refused it, rather than nothing said anything.
        refused: bool,
    },
    /// What the relay sent to a socket outside did not arrive there.
    NoWayOut { peer: SocketAddr },
    /// What one allocation sent did not arrive at the other.
    DataLost { detail: String },
    /// What arrived came from elsewhere.
    WrongSource {
        source: SocketAddr,
        relayed_address: SocketAddr,
    },
    /// Refresh with lifetime 0 was granted some other lifetime.
    NotDeleted { lifetime_s: u32 },
}

impl Failure {
    pub(super) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Self::Unreachable(error),
            _ => Self::Io(error),
        }
    }

    /// On a connected datagram socket a refusal is an ICMP message about an earlier datagram.
    pub(super) fn from_datagram_io(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::PortUnreachable,
            _ => Self::from_io(error),
        }
    }

    /// What came instead of STUN.
    pub(super) fn not_stun(bytes: &[u8]) -> Self {
        // A TLS alert or handshake record, of SSL 3.0 or later.
        if matches!(bytes, [0x15 | 0x16, 3, ..]) {
            return Self::Tls;
        }
        if bytes.starts_with(b"HTTP/") {
            return Self::Http(beginning(bytes));
        }
        Self::NotStun(beginning(bytes))
    }

    /// Shows what is wrong with a message, too.
    pub(super) fn malformed(malformed: Malformed, bytes: &[u8]) -> Self {
        match Self::not_stun(bytes) {
            Self::NotStun(beginning) => Self::NotStun(format!("{malformed}: {beginning}")),
            other => other,
        }
    }

    /// The name by which programs know it. It stays the same in later versions.
    pub(super) fn code(&self) -> String {
        let name = match self {
            Self::ConnectionRefused => "connection-refused",
            Self::ConnectTimeout { .. } => "connect-timeout",
            Self::PortUnreachable => "port-unreachable",
            Self::Unreachable(_) => "unreachable",
            Self::Closed => "closed",
            Self::Io(_) => "socket",
            Self::Silence { .. } => "silence",
            Self::TimeUp => "time-up",
            Self::NotStun(_) => "not-stun",
            Self::Tls => "tls",
            Self::Http(_) => "http",
            Self::BadReply { .. } => "bad-reply",
            Self::Unsigned { .. } => "unsigned",
            Self::WronglySigned { .. } => "wrongly-signed",
            Self::OpenRelay => "open-relay",
            Self::Refused(refusal) => return format!("error-{}", refusal.code),
            Self::PrivateRelay { .. } => "relay-private",
            Self::ClosedRelay { .. } => "relay-closed",
            Self::NoWayOut { .. } => "relay-no-way-out",
            Self::DataLost { .. } => "data-lost",
            Self::WrongSource { .. } => "wrong-source",
            Self::NotDeleted { .. } => "not-deleted",
        };
        name.to_owned()
    }

    /// Whether it is something that a STUN server said.
    pub(super) const fn is_from_server(&self) -> bool {
        matches!(
            self,
            Self::BadReply { .. }
                | Self::Unsigned { .. }
                | Self::WronglySigned { .. }
                | Self::OpenRelay
                | Self::Refused(_)
                | Self::NotDeleted { .. }
        )
    }

    /// Whether nobody is left to talk to on this socket.
    pub(super) const fn is_cut_off(&self) -> bool {
        matches!(
            self,
            Self::ConnectionRefused
                | Self::ConnectTimeout { .. }
                | Self::PortUnreachable
                | Self::Unreachable(_)
                | Self::Closed
                | Self::Io(_)
                | Self::TimeUp
                | Self::NotStun(_)
                | Self::Tls
                | Self::Http(_)
        )
    }

    /// How long a reply was waited for in vain.
    pub(super) const fn silence(&self) -> Option<Duration> {
        match self {
            Self::Silence { waited, .. } => Some(*waited),
            _ => None,
        }
    }

    /// Whether the server refused with this code.
    pub(super) fn is_refusal(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code.number())
    }
}

fn beginning(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(24)];
    format!("\"{}\"", start.escape_ascii())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionRefused => f.write_str("connection refused"),
            Self::ConnectTimeout { waited } => {
                write!(f, "no connection within {}", seconds(*waited))
            }
            Self::PortUnreachable => f.write_str("ICMP port unreachable"),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Io(error) | Self::Unreachable(error) => error.fmt(f),
            Self::Silence { method, waited } => {
                let waited = seconds(*waited);
                write!(f, "no answer to {} within {waited}", method.name())
            }
            Self::TimeUp => f.write_str("no time left"),
            Self::NotStun(what) | Self::Http(what) => {
                write!(f, "the answer is not STUN: {what}")
            }
            Self::Tls => f.write_str("the answer is not STUN: a TLS record"),
            Self::BadReply { method, attribute } => {
                let name = attribute.name().unwrap_or("an attribute");
                write!(f, "the reply to {} has no valid {name}", method.name())
            }
            Self::Unsigned { method } => {
                write!(f, "the reply to {} has no MESSAGE-INTEGRITY", method.name())
            }
            Self::WronglySigned { method } => {
                let name = method.name();
                write!(f, "the reply to {name} has a wrong MESSAGE-INTEGRITY")
            }
            Self::OpenRelay => f.write_str("an allocation without credentials"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::PrivateRelay { relayed_address } => {
                write!(f, "relayed address {relayed_address} is not public")
            }
            Self::ClosedRelay { refused: true, .. } => {
                f.write_str("ICMP refused a packet to the relayed address")
            }
            Self::ClosedRelay { .. } => {
                f.write_str("a packet to the relayed address did not arrive")
            }
            Self::NoWayOut { peer } => {
                write!(f, "a packet from the relay to {peer} did not arrive")
            }
            Self::DataLost { detail } => f.write_str(detail),
            Self::WrongSource {
                source,
                relayed_address,
            } => write!(f, "arrived from {source}, sent from {relayed_address}"),
            Self::NotDeleted { lifetime_s } => {
                write!(f, "LIFETIME {lifetime_s} in the reply, 0 was asked")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_is_documented() {
        let source = include_str!("mod.rs");
        let document = include_str!("../../../../docs/check.md");
        let (_, codes) = source.split_once("fn code(").unwrap();
        let (codes, _) = codes.split_once("\n    }\n").unwrap();
        let codes = codes.lines().filter_map(|line| line.split('"').nth(1));
        let codes = Vec::from_iter(codes.filter(|code| !code.contains('{')));
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            assert!(document.contains(&format!("`{code}`")), "{code}");
        }
    }

    #[test]
    fn every_error_code_with_a_meaning_is_documented() {
        let document = include_str!("../../../../docs/check.md");
        for code in [401, 403, 437, 438, 440, 441, 442, 486, 508] {
            assert!(document.contains(&format!("`error-{code}`")), "{code}");
        }
    }
}
