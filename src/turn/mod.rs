//! The TURN protocol (RFC 8656): allocations, permissions, channels and what relays between them.
//!
//! Sans-IO: no socket, no thread, no clock, no random source, no log. The host calls `handle_*`
//! when something happened, and does what `poll_*` says; [`Server`] states the contract. Everything
//! that is shared between shards is in [`Shared`].
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod action;
mod allocation;
mod allocation_view;
mod bandwidth;
mod budget;
mod channel;
mod client;
mod client_policy;
mod counters;
mod data_path;
mod event;
mod failure_limit;
mod ip_header;
mod limits;
mod network_rule;
mod peer_policy;
mod permission;
mod port_pool;
mod quota;
mod reject;
mod reply_limit;
mod request;
mod reservation;
mod server;
mod source;
mod special_address;
mod table;
mod time;
mod timer;

pub use action::{Action, Deliver, Forward, RelayFailure};
pub use allocation_view::AllocationView;
pub use bandwidth::{BandwidthLimit, Way};
pub use client::{Client, FiveTuple, Link, Transport};
pub use client_policy::{ClientPolicy, ClientRefusal};
pub use counters::{
    ByClient, Counters, DropCause, FailedAuthentication, Limit, REQUEST_METHODS, Relayed,
};
pub use event::{AllocationId, CloseReason, Event, InvalidAllocationId, RelayId, Usage};
pub use ip_header::IpHeader;
pub use limits::{CHANNEL_LIFETIME_S, DEFAULT_LIFETIME_S, Limits, PERMISSION_LIFETIME_S};
pub use network_rule::{NetworkRule, NetworkRuleError, parse_network};
pub use peer_policy::{PeerPolicy, PeerRefusal, Reach};
pub use port_pool::{PortCensus, PortPool, RelayAddress};
pub use quota::Quota;
pub use reject::Reject;
pub use reservation::Reservations;
pub use server::{Options, Server, Shared};
pub use source::SourcePrefix;
pub use time::{Now, Time};

use data_path::IcmpLimit;
