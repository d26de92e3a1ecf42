//! What happened, for whoever wants to know: logs, metrics, hooks, the kernel fast path.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::bandwidth::{BandwidthLimit, Way};
use super::client::FiveTuple;
use super::client_policy::ClientRefusal;
use super::peer_policy::PeerRefusal;
use super::reject::Reject;
use crate::wire::{ChannelNumber, Family, Method};

/// Names an allocation of a shard as long as the shard lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllocationId {
    /// Its place, which a later allocation may have again.
    pub slot: u32,
    /// Tells apart the allocations that had the place.
    pub generation: u32,
}

impl std::str::FromStr for AllocationId {
    type Err = InvalidAllocationId;

    /// What [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, InvalidAllocationId> {
        let (slot, generation) = text.split_once('-').ok_or(InvalidAllocationId)?;
        let number = |text: &str| u32::from_str_radix(text, 16).map_err(|_| InvalidAllocationId);
        Ok(Self {
            slot: number(slot)?,
            generation: number(generation)?,
        })
    }
}

/// A text is no [`AllocationId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAllocationId;

impl fmt::Display for InvalidAllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no allocation is named so")
    }
}

impl std::error::Error for InvalidAllocationId {}

impl fmt::Display for AllocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.slot, self.generation)
    }
}

/// Names one of the (at most two) relayed transport addresses of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelayId {
    /// Whose it is.
    pub allocation: AllocationId,
    /// Its family.
    pub family: Family,
}

/// Packets and payload bytes that an allocation relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Datagrams from the client to peers.
    pub packets_to_peers: u64,
    /// Their application data.
    pub bytes_to_peers: u64,
    /// Datagrams from peers to the client.
    pub packets_to_client: u64,
    /// Their application data.
    pub bytes_to_client: u64,
    /// Of the datagrams to the client, those that its slow connection lost.
    pub dropped_to_client: u64,
    /// Datagrams from the client beyond a limit of bandwidth, in none of the numbers above.
    pub limited_to_peers: u64,
    /// Datagrams from peers beyond a limit of bandwidth, likewise.
    pub limited_to_client: u64,
    /// Peer addresses that were ever permitted.
    pub peers: u32,
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Refresh with a lifetime of 0.
    Deleted,
    /// Nobody refreshed it.
    Expired,
    /// The client's connection is gone.
    Disconnected,
    /// The server stops.
    Shutdown,
    /// The operator ended it.
    Ended,
    /// The operator revoked its credential.
    Revoked,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: &[Self] = &[
        Self::Deleted,
        Self::Expired,
        Self::Disconnected,
        Self::Shutdown,
        Self::Ended,
        Self::Revoked,
    ];

    /// The name in metrics and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::Disconnected => "disconnected",
            Self::Shutdown => "shutdown",
            Self::Ended => "ended",
            Self::Revoked => "revoked",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "deleted by the client",
            Self::Expired => "expired",
            Self::Disconnected => "client disconnected",
            Self::Shutdown => "server shutdown",
            Self::Ended => "ended by the operator",
            Self::Revoked => "credential revoked",
        })
    }
}

/// Something that happened in a shard.
#[derive(Debug)]
pub enum Event {
    /// An allocation lives: its sockets are bound and the success response is under way.
    AllocationCreated {
        /// Its name from now on.
        id: AllocationId,
        /// Its client.
        five_tuple: FiveTuple,
        /// USERNAME.
        username: Box<str>,
        /// What clients are told, IPv4 before IPv6.
        relayed: [Option<SocketAddr>; 2],
        /// Seconds granted.
        lifetime_s: u32,
    },
    /// An allocation, or one family of it, was refreshed.
    AllocationRefreshed {
        /// Which one.
        id: AllocationId,
        /// Seconds granted.
        lifetime_s: u32,
    },
    /// An allocation ended. Its permissions and channels ended with it.
    AllocationClosed {
        /// Which one.
        id: AllocationId,
        /// Its client.
        five_tuple: FiveTuple,
        /// USERNAME.
        username: Box<str>,
        /// What clients were told, IPv4 before IPv6.
        relayed: [Option<SocketAddr>; 2],
        /// Why.
        reason: CloseReason,
        /// How long it lived.
        duration: Duration,
        /// What it relayed.
        usage: Usage,
    },
    /// A channel was bound or refreshed.
    ChannelBound {
        /// Whose.
        id: AllocationId,
        /// Its number.
        number: ChannelNumber,
        /// Its peer.
        peer: SocketAddr,
    },
    /// Permissions were installed or refreshed.
    PermissionsInstalled {
        /// Whose.
        id: AllocationId,
        /// Of whom, new ones and refreshed ones.
        peers: Vec<IpAddr>,
    },
    /// A request was refused. Challenges to requests without credentials are no refusals, and
    /// refused peers have an event of their own.
    RequestRefused {
        /// Who asked.
        five_tuple: FiveTuple,
        /// For what.
        method: Method,
        /// USERNAME; of a request that is not authenticated what it claims to be.
        username: Option<Box<str>>,
        /// Whether it came from the address that it names: by TCP, with a nonce that is good, or
        /// authenticated. Otherwise anybody may have sent it.
        from_there: bool,
        /// Why not.
        reject: Reject,
    },
    /// A request or a connection came from where no client is served.
    ClientRefused {
        /// Who it was.
        five_tuple: FiveTuple,
        /// Which list is against it.
        refusal: ClientRefusal,
    },
    /// An allocation lost its first datagram of a way to a limit of bandwidth.
    BandwidthExceeded {
        /// Which one.
        id: AllocationId,
        /// Its client.
        five_tuple: FiveTuple,
        /// USERNAME.
        username: Box<str>,
        /// The datagram's way.
        way: Way,
        /// Which limit.
        limit: BandwidthLimit,
    },
    /// A client asked for a peer that is not relayed to.
    PeerRefused {
        /// Who asked.
        five_tuple: FiveTuple,
        /// Its USERNAME.
        username: Box<str>,
        /// For whom.
        peer: SocketAddr,
        /// Why not.
        refusal: PeerRefusal,
    },
}
