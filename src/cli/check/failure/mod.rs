//! What can go wrong: as the table tells it, and as a sentence about its likely cause.

mod refusal;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) use refusal::Refusal;

use super::credentials::Credentials;
use super::login::Diagnosis;
use super::transport::Transport;
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

/// What a verdict depends on besides the failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) transport: Transport,
    pub(super) server: SocketAddr,
    pub(super) credentials: Option<&'a Credentials>,
    /// Whether the server has answered anything so far.
    pub(super) answered: bool,
    /// What is behind a 401, if that was found out.
    pub(super) diagnosis: Option<Diagnosis>,
    /// How far the server's clock is ahead of ours, in seconds, if it told.
    pub(super) ahead_s: Option<i64>,
    /// Whether a socket outside the server reached the relayed address; `None` if it was not tried.
    pub(super) outside_works: Option<bool>,
    /// Whether one allocation reached the other; `None` if it was not tried.
    pub(super) hairpin_works: Option<bool>,
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

    /// The verdict on a server that never said anything.
    pub(super) fn no_answer(context: &Context<'_>, waited: Duration) -> String {
        let waited = seconds(waited);
        let port = context.server.port();
        match context.transport {
            Transport::Udp => format!(
                "no answer over UDP within {waited}: firewall, wrong port, or no server; open \
                 {port}/udp on the way to it, and see that it listens there and serves this \
                 network (turnstone: clients.allow, clients.deny)"
            ),
            Transport::Tcp => format!(
                "connected over TCP, but no answer within {waited}: no STUN server, or one that \
                 waits for TLS"
            ),
        }
    }

    /// The likely cause, and what to do about it.
    pub(super) fn verdict(&self, context: &Context<'_>) -> String {
        if let Some(verdict) = self.no_contact(context) {
            return verdict;
        }
        match self {
            Self::TimeUp => "the time is up; give it more with --timeout".to_owned(),
            Self::Tls => "the port speaks TLS: give the port without it (TLS is not built yet)"
                .to_owned(),
            Self::Http(_) => "a web server answers: wrong port, or a proxy in the way".to_owned(),
            Self::NotStun(_) => format!(
                "something answers over {}, but it is no STUN server: wrong port?",
                context.transport.name()
            ),
            Self::OpenRelay => {
                "an open relay: the server relays for anybody; configure credentials on it (coturn: \
                 lt-cred-mech or use-auth-secret)"
                    .to_owned()
            }
            Self::Unsigned { .. } => {
                format!("{self}, so anybody could have sent it; clients drop it")
            }
            Self::WronglySigned { .. } => {
                format!("{self}: the server, or somebody else who answers, has another password")
            }
            Self::Refused(refusal) => refusal.verdict(context),
            Self::PrivateRelay { .. }
            | Self::ClosedRelay { .. }
            | Self::NoWayOut { .. }
            | Self::DataLost { .. }
            | Self::WrongSource { .. } => self.relay_verdict(context),
            Self::NotDeleted { .. } => {
                "the server keeps allocations that a client deletes".to_owned()
            }
            // BadReply; the others are above.
            _ => format!("{self}: the server breaks the protocol"),
        }
    }

    /// The likely cause where nobody answered.
    fn no_contact(&self, context: &Context<'_>) -> Option<String> {
        let server = context.server;
        let (ip, port) = (server.ip(), server.port());
        Some(match self {
            Self::ConnectionRefused => format!(
                "TCP connection refused: {ip} is up, but nothing listens on port {port}, or a \
                 firewall rejects it"
            ),
            Self::PortUnreachable => format!(
                "{ip} is up, but nothing listens on UDP port {port}, or a firewall rejects it \
                 (ICMP port unreachable)"
            ),
            Self::Unreachable(_) if server.is_ipv6() => format!(
                "no way to {ip}: this network has no IPv6, the machine is off, or a firewall \
                 rejects port {port}; where the name has an IPv4 address too, try --ipv4"
            ),
            Self::Unreachable(_) => format!(
                "no way to {ip}: no route, the machine is off, or a firewall rejects port {port}"
            ),
            Self::ConnectTimeout { waited } => format!(
                "no answer over TCP within {}: firewall, wrong port, or no server; open {port}/tcp \
                 on the way to it",
                seconds(*waited)
            ),
            Self::Closed if context.answered => {
                "the server closed the connection in the middle: it was restarted, or a proxy or \
                 firewall cut it"
                    .to_owned()
            }
            Self::Closed => "the server closed the connection: no STUN server, one that waits for \
                             TLS, a proxy without one behind it, or one that refuses this client \
                             (turnstone: clients.allow, clients.deny, limits.tcp_connections)"
                .to_owned(),
            Self::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
                "this machine's own firewall lets nothing out to the server".to_owned()
            }
            Self::Io(error) => format!("the socket failed: {error}"),
            Self::Silence {
                method: Method::Binding,
                ..
            } if context.answered => "the server does not answer Binding requests".to_owned(),
            Self::Silence { method, .. } if context.answered => format!(
                "the server answers, but not to {}: packets get lost, or it cannot do that",
                method.name()
            ),
            Self::Silence { waited, .. } => Self::no_answer(context, *waited),
            _ => return None,
        })
    }

    /// The likely cause where the relayed address is of no use.
    fn relay_verdict(&self, context: &Context<'_>) -> String {
        let server = context.server.ip();
        match self {
            Self::PrivateRelay { relayed_address } => format!(
                "the relayed address {} is not public, though the server's is: clients outside \
                 cannot reach it; tell the server its public address (turnstone: relay.external; \
                 coturn: external-ip)",
                relayed_address.ip()
            ),
            Self::ClosedRelay {
                relayed_address,
                refused,
            } => {
                let how = if *refused {
                    "is refused (ICMP)"
                } else {
                    "does not arrive"
                };
                let closed = format!(
                    "what this machine sends to the relayed address {relayed_address} {how}"
                );
                let ports = "(turnstone: relay.ports; coturn: min-port to max-port; by default \
                             49152-65535/udp)";
                let external = "(turnstone: relay.external; coturn: external-ip)";
                let cause = if relayed_address.ip() == server {
                    format!(
                        "a firewall closes the server's relay ports; open them {ports}, unless it \
                         is this network that lets no UDP out to them"
                    )
                } else {
                    format!(
                        "it is not the server's address {server}, so the address that clients are \
                         told may be wrong {external}, or a firewall closes the relay ports {ports}"
                    )
                };
                let inside = match context.hairpin_works {
                    Some(true) => "; two clients of this server do reach each other",
                    _ => "",
                };
                format!("{closed}: {cause}{inside}")
            }
            Self::NoWayOut { peer } => format!(
                "what the relay sends to {peer} here does not arrive, though the way in is open: a \
                 firewall of the server lets no UDP out, or sends it from another address"
            ),
            Self::WrongSource { .. } => "a NAT between the server and its own relayed addresses \
                                         changes where packets come from"
                .to_owned(),
            // DataLost
            _ => match context.outside_works {
                Some(true) => "the server relays to outside, but not between two of its own \
                               clients: its NAT does not let it reach its own external address \
                               (turnstone does without that; coturn: external-ip as PUBLIC/PRIVATE)"
                    .to_owned(),
                Some(false) => "nor do two clients of this server reach each other".to_owned(),
                None => "the server takes data, but none comes back from its relayed address: a \
                      firewall closes its relay ports (turnstone: relay.ports; coturn: min-port to \
                      max-port), or its NAT does not let it reach its own external address"
                    .to_owned(),
            },
        }
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
