//! What the host must do.

use std::net::SocketAddr;

use super::client::Client;
use super::event::RelayId;

/// A request to the host. Actions are to be carried out in their order.
#[derive(Debug)]
pub enum Action {
    /// Send a message to a client.
    Reply {
        /// To whom.
        to: Client,
        /// The STUN message.
        message: Vec<u8>,
    },
    /// Bind a UDP socket for a relayed address, and say how it went: `Server::handle_relay_bound`
    /// or `Server::handle_relay_failed`. The success response waits for it.
    BindRelay {
        /// The name of the socket from now on.
        relay: RelayId,
        /// Where to bind it.
        address: SocketAddr,
    },
    /// Close a relay socket.
    CloseRelay {
        /// Which one.
        relay: RelayId,
    },
}

/// Why a relay socket could not be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayFailure {
    /// Another process has the port: another one may do.
    AddressInUse,
    /// Out of files or memory, or the address is not this host's: no other port would do either.
    Unavailable,
}

/// Where the payload of a client's packet goes: out of a relay socket, to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The socket to send from.
    pub relay: RelayId,
    /// The peer, as it can be reached from this host.
    pub peer: SocketAddr,
    /// The application data's place in the packet.
    pub payload: std::ops::Range<usize>,
    /// Header fields to send with.
    pub ip: super::IpHeader,
    /// Send with DF set (RFC 8656 §14); only ever true for IPv4.
    pub dont_fragment: bool,
}

/// Where a peer's payload goes: to the client, with a header in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// The allocation's client.
    pub client: Client,
    /// The message's place in the buffer.
    pub message: std::ops::Range<usize>,
    /// Header fields to send with, where the client is on UDP.
    pub ip: super::IpHeader,
}
