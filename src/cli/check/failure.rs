//! What can go wrong: as the table tells it, and as a sentence about its likely cause.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use super::credentials::{Credentials, utc};
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
    UnreachableRelay { relayed_address: SocketAddr },
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

/// An error response.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) method: Method,
    pub(super) code: u16,
    pub(super) phrase: String,
    /// Whether it should have been signed and was not, or not rightly.
    pub(super) lacks_integrity: bool,
    /// ALTERNATE-SERVER (RFC 8489 §14.15).
    pub(super) alternate: Option<SocketAddr>,
}

/// What a verdict depends on besides the failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) transport: Transport,
    pub(super) server: SocketAddr,
    pub(super) credentials: Option<&'a Credentials>,
    /// Whether the server has answered anything so far.
    pub(super) answered: bool,
}

impl Failure {
    pub(super) const fn from_io(error: io::Error) -> Self {
        Self::Io(error)
    }

    /// On a connected datagram socket a refusal is an ICMP message about an earlier datagram.
    pub(super) fn from_datagram_io(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::PortUnreachable,
            _ => Self::Io(error),
        }
    }

    /// Shows the beginning of what came instead of STUN.
    pub(super) fn not_stun(bytes: &[u8]) -> Self {
        Self::NotStun(beginning(bytes))
    }

    /// Shows what is wrong with a message, too.
    pub(super) fn malformed(malformed: Malformed, bytes: &[u8]) -> Self {
        Self::NotStun(format!("{malformed}: {}", beginning(bytes)))
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
                | Self::Closed
                | Self::Io(_)
                | Self::TimeUp
                | Self::NotStun(_)
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
    pub(super) fn no_answer(transport: Transport, waited: Duration) -> String {
        let waited = seconds(waited);
        match transport {
            Transport::Udp => {
                format!("no answer over UDP within {waited}: firewall, wrong port, or no server")
            }
            Transport::Tcp => format!(
                "connected over TCP, but no answer within {waited}: no STUN server, or one that \
                 waits for TLS"
            ),
        }
    }

    /// The likely cause, where it does not depend on details.
    const fn fixed_verdict(&self, answered: bool) -> Option<&'static str> {
        Some(match self {
            Self::Closed => {
                "the server closed the connection: no STUN server, one that waits for TLS, or one \
                 that refuses this client"
            }
            Self::TimeUp => "the time is up; give it more with --timeout",
            Self::OpenRelay => {
                "an open relay: the server relays for anybody; configure credentials on it"
            }
            Self::Silence {
                method: Method::Binding,
                ..
            } if answered => "the server does not answer Binding requests",
            Self::DataLost { .. } => {
                "the server takes data, but none comes back from its relayed address: a firewall \
                 closes its relay ports, or its NAT does not let it reach its own external address"
            }
            Self::WrongSource { .. } => {
                "a NAT between the server and its own relayed addresses changes where packets come \
                 from"
            }
            Self::NotDeleted { .. } => "the server keeps allocations that a client deletes",
            _ => return None,
        })
    }

    /// The likely cause, in one sentence.
    pub(super) fn verdict(&self, context: &Context<'_>) -> String {
        let Context {
            transport, server, ..
        } = *context;
        if let Some(cause) = self.fixed_verdict(context.answered) {
            return cause.to_owned();
        }
        match self {
            Self::ConnectionRefused => format!(
                "TCP connection refused: {} is up, but nothing listens on port {}",
                server.ip(),
                server.port()
            ),
            Self::PortUnreachable => format!(
                "{} is up, but nothing listens on UDP port {} (ICMP port unreachable)",
                server.ip(),
                server.port()
            ),
            Self::ConnectTimeout { waited } => format!(
                "no answer over TCP within {}: firewall, wrong port, or no server",
                seconds(*waited)
            ),
            Self::Silence { waited, .. } if !context.answered => {
                Self::no_answer(transport, *waited)
            }
            Self::Io(error) => format!("the socket failed: {error}"),
            Self::NotStun(_) => {
                let name = transport.name();
                format!("something answers over {name}, but it is no STUN server: wrong port?")
            }
            Self::Silence { method, .. } => format!(
                "the server answers, but not to {}: packets get lost, or it cannot do that",
                method.name()
            ),
            Self::UnreachableRelay { relayed_address } => format!(
                "the relayed address {} is not public, though the server's is: clients outside \
                 cannot reach it; set relay.external",
                relayed_address.ip()
            ),
            Self::Unsigned { .. } => {
                format!("{self}, so anybody could have sent it; clients drop it")
            }
            Self::WronglySigned { .. } => {
                format!("{self}: the server, or somebody else who answers, has another password")
            }
            Self::Refused(refusal) => refusal.verdict(context),
            // BadReply; the others have a fixed verdict.
            _ => format!("{self}: the server breaks the protocol"),
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
            Self::Io(error) => error.fmt(f),
            Self::Silence { method, waited } => {
                write!(
                    f,
                    "no answer to {} within {}",
                    method.name(),
                    seconds(*waited)
                )
            }
            Self::TimeUp => f.write_str("no time left"),
            Self::NotStun(what) => write!(f, "the answer is not STUN: {what}"),
            Self::BadReply { method, attribute } => {
                let name = attribute.name().unwrap_or("an attribute");
                write!(f, "the reply to {} has no valid {name}", method.name())
            }
            Self::Unsigned { method } => {
                write!(f, "the reply to {} has no MESSAGE-INTEGRITY", method.name())
            }
            Self::WronglySigned { method } => {
                write!(
                    f,
                    "the reply to {} has a wrong MESSAGE-INTEGRITY",
                    method.name()
                )
            }
            Self::OpenRelay => f.write_str("an allocation without credentials"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::UnreachableRelay { relayed_address } => {
                write!(f, "relayed address {relayed_address} is not public")
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

impl Refusal {
    fn verdict(&self, context: &Context<'_>) -> String {
        match (self.code, self.method) {
            (300, _) => self.alternate.map_or_else(
                || "the server sends clients to another one, and does not say which".to_owned(),
                |other| format!("the server sends clients to {other}; check that one"),
            ),
            (401, _) => wrong_credentials(context.credentials),
            (403, Method::CreatePermission | Method::ChannelBind) => {
                "the server refuses its own relayed address as a peer: allocations work, but two \
                 clients on this server cannot reach each other through it"
                    .to_owned()
            }
            (403, _) => "the server refuses this client, by its address or because it is being \
                         drained"
                .to_owned(),
            (437, Method::Allocate) => "the server holds an allocation on this socket's address \
                                        already, left by an earlier client; try again"
                .to_owned(),
            (437, _) => "the server does not know the allocation that it made a moment ago: it \
                         was restarted, or a balancer spreads packets over several servers"
                .to_owned(),
            (438, _) => "the server calls its own fresh nonce stale: several servers behind one \
                         address, or a NAT that changes the client's port"
                .to_owned(),
            (440, _) => "the server has no relay address of either family".to_owned(),
            (441, _) => "the server takes the allocation for another user's".to_owned(),
            (486, _) => {
                "the user, or this client's address, has as many allocations as the server \
                         permits; raise its quota, or wait until the old ones expire"
                    .to_owned()
            }
            (508, _) => "the server has no relay port or no capacity left".to_owned(),
            _ => format!("the server refuses {}: {self}", self.method.name()),
        }
    }
}

/// What 401 means once credentials were sent.
fn wrong_credentials(credentials: Option<&Credentials>) -> String {
    match credentials.and_then(Credentials::minted) {
        Some(minted) => format!(
            "wrong secret, or the server's clock differs: the credential expires at {}, and here \
             it is {}",
            utc(minted.expiry_unix_s),
            utc(minted.now_unix_s)
        ),
        None => "wrong user or password; if the user name carries a time, it has expired or the \
                 server's clock differs"
            .to_owned(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.phrase.is_empty() {
            write!(f, " {}", self.phrase)?;
        }
        if self.lacks_integrity {
            f.write_str(" (without valid MESSAGE-INTEGRITY)")?;
        }
        Ok(())
    }
}
