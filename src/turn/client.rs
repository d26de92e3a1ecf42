//! Where a client is: its five-tuple, and the host's handle for sending to it.

use std::fmt;
use std::net::SocketAddr;

/// The protocol between client and server (RFC 8656 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
    /// A stream under TLS.
    Tls,
    /// Datagrams under DTLS.
    Dtls,
}

impl Transport {
    /// Every one.
    pub const ALL: &[Self] = &[Self::Udp, Self::Tcp, Self::Tls, Self::Dtls];

    /// Whether messages are framed on a stream and ChannelData is padded.
    pub const fn is_stream(self) -> bool {
        match self {
            Self::Udp | Self::Dtls => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// Whether there is a connection or a session, which nobody has who does not get what is sent to
    /// its address.
    pub const fn is_connected(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls | Self::Dtls => true,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Dtls => "dtls",
        })
    }
}

/// What identifies an allocation (RFC 8656 §3.2). Addresses are canonical: never IPv4-mapped, and
/// the server's is the real one, also behind a wildcard socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The protocol between the two.
    pub transport: Transport,
    /// The client's server-reflexive transport address.
    pub client: SocketAddr,
    /// The server's address that the client sends to.
    pub server: SocketAddr,
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.transport)
    }
}

/// The host's name for the socket or connection that leads to a client. The core only hands it
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link(pub u32);

/// A client as the host saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its five-tuple.
    pub five_tuple: FiveTuple,
    /// How to send to it.
    pub link: Link,
}
