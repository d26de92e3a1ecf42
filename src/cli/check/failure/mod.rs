//! What can go wrong: as the table tells it, and as a sentence about its likely cause.

mod refusal;
mod verdict;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use rustls::AlertDescription;

pub(super) use refusal::Refusal;
pub(super) use verdict::Context;

use super::tls::{Distrust, Tls};
use crate::tls::Refusal as OfChain;
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
    IsTls,
    /// TLS: connected, and nothing comes back.
    HandshakeTimeout { waited: Duration },
    /// TLS: the server closed the connection instead of a handshake.
    HandshakeClosed,
    /// TLS: something else than TLS came back.
    NoTls(Answer),
    /// TLS: the certificate is not trusted.
    Distrusted(Distrust),
    /// TLS: the server refuses with an alert.
    Alert(AlertDescription),
    /// TLS: the two have no version or cipher in common.
    NothingInCommon(String),
    /// TLS: it is broken.
    Tls(String),
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

/// What answers on a port that should speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A STUN server, to plain STUN.
    Stun,
    /// A web server, by the beginning of its answer.
    Http(String),
    /// Something else, by the beginning of its answer.
    Other(String),
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
            return Self::IsTls;
        }
        if bytes.starts_with(b"HTTP/") {
            return Self::Http(beginning(bytes));
        }
        Self::NotStun(beginning(bytes))
    }

    /// What came instead of a handshake.
    pub(super) fn no_tls(bytes: &[u8]) -> Self {
        let beginning = beginning(bytes);
        Self::NoTls(match bytes.starts_with(b"HTTP/") {
            true => Answer::Http(beginning),
            false => Answer::Other(beginning),
        })
    }

    /// What the library says of a handshake.
    pub(super) fn of_tls(error: rustls::Error, tls: &Tls) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::Distrusted(tls.distrust(&error)),
            rustls::Error::PeerIncompatible(why) => Self::NothingInCommon(format!("{why:?}")),
            error => Self::within_tls(error),
        }
    }

    /// What the library says of what is inside. A server that wants a certificate of the client says so
    /// after the handshake.
    pub(super) fn within_tls(error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            error => Self::Tls(error.to_string()),
        }
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
            Self::IsTls => "tls",
            Self::HandshakeTimeout { .. } => "handshake-timeout",
            Self::HandshakeClosed => "handshake-closed",
            Self::NoTls(_) => "no-tls",
            Self::Distrusted(Distrust::SelfSigned) => "certificate-self-signed",
            Self::Distrusted(Distrust::NoWay { gap: Some(_), .. }) => "certificate-chain",
            Self::Distrusted(Distrust::NoWay { gap: None, .. }) => "certificate-issuer",
            Self::Distrusted(Distrust::Expired { .. }) => "certificate-expired",
            Self::Distrusted(Distrust::NotYetValid { .. }) => "certificate-not-yet-valid",
            Self::Distrusted(Distrust::OtherName { .. }) => "certificate-name",
            Self::Distrusted(Distrust::Refused(refusal)) => match refusal {
                OfChain::OfAuthority => "certificate-ca",
                OfChain::Purpose => "certificate-purpose",
                OfChain::Version => "certificate-version",
                OfChain::Signature | OfChain::Algorithm => "certificate-signature",
                _ => "certificate",
            },
            Self::Alert(_) => "tls-alert",
            Self::NothingInCommon(_) => "tls-version",
            Self::Tls(_) => "tls-broken",
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
                | Self::IsTls
                | Self::HandshakeTimeout { .. }
                | Self::HandshakeClosed
                | Self::NoTls(_)
                | Self::Distrusted(_)
                | Self::Alert(_)
                | Self::NothingInCommon(_)
                | Self::Tls(_)
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

/// An alert's name, as RFC 8446 §6 writes it.
fn name(alert: AlertDescription) -> String {
    let mut name = String::new();
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
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
            Self::IsTls => f.write_str("the answer is not STUN: a TLS record"),
            Self::HandshakeTimeout { waited } => {
                write!(
                    f,
                    "no answer to the ClientHello within {}",
                    seconds(*waited)
                )
            }
            Self::HandshakeClosed => f.write_str("the server closed the connection"),
            Self::NoTls(Answer::Stun) => f.write_str("no TLS, but an answer to plain STUN"),
            Self::NoTls(Answer::Http(what) | Answer::Other(what)) => {
                write!(f, "the answer is not TLS: {what}")
            }
            Self::Distrusted(distrust) => distrust.fmt(f),
            Self::Alert(alert) => write!(f, "the server refuses: {}", name(*alert)),
            Self::NothingInCommon(what) | Self::Tls(what) => f.write_str(what),
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
