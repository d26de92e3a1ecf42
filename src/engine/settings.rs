//! What the engine is told.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
#[cfg(feature = "dtls")]
use openssl::ssl::SslContext;

use crate::auth::Revocations;
use crate::turn::{Options, RelayAddress};

/// Everything that an engine needs to start. Addresses have been checked for sense; whether this
/// host has them shows when they are bound.
#[derive(Debug)]
pub struct Settings {
    /// UDP listeners; port 0 is one that the kernel chooses.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners, likewise. With a certificate they take TLS too.
    pub tcp: Vec<SocketAddr>,
    /// TLS listeners, likewise. They take TCP without TLS too.
    pub tls_listeners: Vec<SocketAddr>,
    /// Those of the TCP and TLS listeners that take their own protocol only.
    pub strict_listeners: Vec<SocketAddr>,
    /// How TLS is spoken with connections that come from here on. Without it, it is not.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// UDP listeners that take DTLS and nothing else, likewise.
    #[cfg(feature = "dtls")]
    pub dtls_listeners: Vec<SocketAddr>,
    /// How DTLS is spoken there. Without it nobody gets a session.
    #[cfg(feature = "dtls")]
    pub dtls: Option<SslContext>,
    /// Worker threads.
    pub workers: usize,
    /// Where relay sockets are bound, and what clients are told.
    pub relay_addresses: Vec<RelayAddress>,
    /// The relay ports of each address.
    pub relay_ports: RangeInclusive<u16>,
    /// The networks that this host takes for its own, which are no peers.
    pub own_networks: Vec<IpNet>,
    /// The protocol's options and limits. The server's own addresses among the peers are filled in
    /// from its listeners.
    pub options: Options,
    /// The credentials that are refused.
    pub revocations: Arc<Revocations>,
    /// The bounds of streams.
    pub stream: StreamLimits,
    /// From where a PROXY protocol header is believed.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The web servers that share the TCP and TLS listeners.
    pub web: Web,
}

impl Settings {
    /// Where DTLS is spoken; nowhere in a build without it.
    pub(super) fn dtls_listeners(&self) -> &[SocketAddr] {
        #[cfg(feature = "dtls")]
        return &self.dtls_listeners;
        #[cfg(not(feature = "dtls"))]
        &[]
    }
}

/// Who gets the connections of clients that do not speak TURN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// TLS goes there as it comes, if it is for application protocols that are not TURN's, or names
    /// none and one of `names`.
    pub https: Option<SocketAddr>,
    /// Names of the web server (SNI).
    pub names: Vec<String>,
    /// HTTP without TLS goes there.
    pub http: Option<SocketAddr>,
    /// Whether they are told the client's address, by a PROXY protocol header of version 2.
    pub proxy_protocol: bool,
    /// Connections that they have, in the whole server. For one more the longest idle goes, of the address
    /// that has the most.
    pub connections: u32,
    /// Seconds without a byte either way after which one is closed.
    pub idle_s: u32,
}

/// Bounds of TCP clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Open connections of the whole server. One more is closed at once, if all have an allocation;
    /// otherwise one without is.
    pub connections: u32,
    /// Of them, those of one IPv4 address or IPv6 /64, likewise.
    pub connections_per_address: u32,
    /// Connections that have not sent a valid message. The oldest of the address that has
    /// the most goes for one more.
    pub half_open: u32,
    /// Bytes that wait for one slow client before whole frames of data are dropped.
    pub send_queue_bytes: usize,
    /// Bytes that wait for all clients, and those of frames that have not arrived completely.
    pub queues_total_bytes: usize,
    /// Seconds until the first valid message.
    pub first_message_s: u32,
    /// Seconds without an allocation, whatever is said.
    pub idle_s: u32,
}
