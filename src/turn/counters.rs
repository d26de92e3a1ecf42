//! What a shard did, dropped and refused. Plain numbers with one writer; the host sums the shards.
//!
//! Nothing here is counted by a name that a client chooses: there are as many numbers as there are
//! names in this file, whoever comes.

use std::fmt;

use super::bandwidth::Way;
use super::client::{FiveTuple, Transport};
use super::event::CloseReason;
use super::peer_policy::PeerRefusal;
use super::reject::Reject;
use crate::auth::AuthFailure;
use crate::wire::{ErrorCode, Family, Method};

macro_rules! named {
    ($(#[$attribute:meta])* $type:ident { $($variant:ident, $name:literal, $doc:literal;)* }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $(#[doc = $doc] $variant,)*
        }

        impl $type {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

named! {
    /// Why a packet went nowhere.
    DropCause {
        Malformed, "malformed", "Neither a STUN message nor ChannelData.";
        Unexpected, "unexpected", "A method, class or response that a server has no use for.";
        UnknownAttribute, "unknown_attribute", "An indication with an unknown comprehension-required attribute.";
        NoAllocation, "no_allocation", "Data from a five-tuple without an allocation.";
        NoChannel, "no_channel", "ChannelData on a channel that is not bound.";
        NoPermission, "no_permission", "Data to or from a peer without permission.";
        PeerRefused, "peer_refused", "Data to or from a port of a permitted address that the policy closes.";
        ClientRefused, "client_refused", "A request from an address that clients.allow or clients.deny closes.";
        BadIndication, "bad_indication", "A Send indication without a usable peer or data.";
        HopLimit, "hop_limit", "A datagram whose TTL is used up.";
        TooLarge, "too_large", "A payload that the other side's datagram cannot carry.";
        AllocationBandwidth, "allocation_bandwidth", "Data beyond what its allocation may relay.";
        UserBandwidth, "user_bandwidth", "Data beyond what its user may relay.";
        IcmpLimit, "icmp_limit", "An ICMP error beyond the limit.";
        ReplyLimit, "reply_limit", "A stranger's request beyond the limit of replies to its network.";
        FailureLimit, "failure_limit", "A failed authentication beyond the limit of answers to its address.";
    }
}

named! {
    /// Why an authentication failed.
    FailedAuthentication {
        Incomplete, "incomplete", "USERNAME, REALM or NONCE is missing.";
        PasswordAlgorithms, "password_algorithms", "The password algorithms are not those offered.";
        WrongRealm, "wrong_realm", "Another realm.";
        UnknownUser, "unknown_user", "Nobody has this name.";
        WrongPassword, "wrong_password", "The integrity attribute is wrong.";
        Expired, "expired", "A time-limited credential that is over.";
        Revoked, "revoked", "A credential that an operator has revoked.";
        ForeignNonce, "foreign_nonce", "A nonce of another client or server.";
        StaleNonce, "stale_nonce", "An old nonce, and everything else right.";
        TooManyFailures, "too_many_failures", "Whatever the password: the address has failed too often as this user.";
    }
}

impl FailedAuthentication {
    /// A request without credentials is challenged, which is no failure.
    const fn of(reject: &Reject) -> Option<Self> {
        let failure = match reject {
            Reject::TooManyFailures => return Some(Self::TooManyFailures),
            Reject::Authentication(failure) => failure,
            _ => return None,
        };
        Some(match failure {
            AuthFailure::NoCredentials => return None,
            AuthFailure::Incomplete => Self::Incomplete,
            AuthFailure::PasswordAlgorithms => Self::PasswordAlgorithms,
            AuthFailure::WrongRealm => Self::WrongRealm,
            AuthFailure::UnknownUser { .. } => Self::UnknownUser,
            AuthFailure::WrongPassword { .. } => Self::WrongPassword,
            AuthFailure::Expired { .. } => Self::Expired,
            AuthFailure::Revoked { .. } => Self::Revoked,
            AuthFailure::ForeignNonce => Self::ForeignNonce,
            AuthFailure::StaleNonce(_) => Self::StaleNonce,
        })
    }
}

named! {
    /// A limit that refuses requests. Those that drop packets are [`DropCause`]s.
    Limit {
        AllocationsPerUser, "allocations_per_user", "limits.allocations_per_user";
        AllocationsPerAddress, "allocations_per_address", "limits.allocations_per_address";
        AllocationsTotal, "allocations_total", "limits.allocations_total";
        AllocationFull, "permissions_or_channels", "limits.permissions_per_allocation or channels_per_allocation";
        RelayPorts, "relay_ports", "relay.ports, or what the system lets be bound of them";
    }
}

impl Limit {
    const fn of(reject: &Reject) -> Option<Self> {
        Some(match reject {
            Reject::UserQuota => Self::AllocationsPerUser,
            Reject::AddressQuota => Self::AllocationsPerAddress,
            Reject::ServerFull => Self::AllocationsTotal,
            Reject::AllocationFull => Self::AllocationFull,
            Reject::NoPort => Self::RelayPorts,
            _ => return None,
        })
    }
}

/// The methods that have requests.
pub const REQUEST_METHODS: [Method; 5] = [
    Method::Binding,
    Method::Allocate,
    Method::Refresh,
    Method::CreatePermission,
    Method::ChannelBind,
];

/// Replies: a success, or one of the error codes behind it.
const REPLIES: usize = 1 + ErrorCode::ALL.len();

/// What was relayed, packets and the bytes of their payloads, of one kind of client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Datagrams to peers.
    pub packets_to_peers: u64,
    /// Their application data.
    pub bytes_to_peers: u64,
    /// Datagrams to clients.
    pub packets_to_client: u64,
    /// Their application data.
    pub bytes_to_client: u64,
}

/// Numbers by the transport and the address family of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByClient<T>([T; 2 * Transport::ALL.len()]);

impl<T> ByClient<T> {
    /// The number of a transport and family.
    pub const fn of(&self, transport: Transport, family: Family) -> &T {
        let is_v6 = matches!(family, Family::V6);
        &self.0[transport as usize * 2 + is_v6 as usize]
    }

    pub(super) const fn at(&mut self, five_tuple: &FiveTuple) -> &mut T {
        let is_v6 = five_tuple.client.is_ipv6();
        &mut self.0[five_tuple.transport as usize * 2 + is_v6 as usize]
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    drops: [u64; DropCause::ALL.len()],
    failed_authentications: [u64; FailedAuthentication::ALL.len()],
    limits: [u64; Limit::ALL.len()],
    peers_refused: [u64; PeerRefusal::ALL.len()],
    requests: [u64; REQUEST_METHODS.len()],
    replies: [[u64; REPLIES]; REQUEST_METHODS.len()],
    closed: [u64; CloseReason::ALL.len()],
    /// What was relayed.
    pub relayed: ByClient<Relayed>,
    /// Allocations that were made.
    pub created: ByClient<u64>,
    /// Allocations that ended.
    pub ended: ByClient<u64>,
    /// Challenges (401) to requests without credentials.
    pub challenges: u64,
}

impl Counters {
    pub(super) const fn count(&mut self, cause: DropCause) {
        self.drops[cause as usize] += 1;
    }

    /// Counts a request that is refused, whether it is answered or not.
    pub(super) const fn count_refusal(&mut self, reject: &Reject) {
        if let Some(failure) = FailedAuthentication::of(reject) {
            self.failed_authentications[failure as usize] += 1;
        }
        if let Some(limit) = Limit::of(reject) {
            self.limits[limit as usize] += 1;
        }
    }

    pub(super) const fn count_refused_peer(&mut self, refusal: PeerRefusal) {
        self.peers_refused[refusal as usize] += 1;
    }

    pub(super) fn count_request(&mut self, method: Method) {
        if let Some(method) = index(method) {
            self.requests[method] += 1;
        }
    }

    /// Counts a reply: a success, or an error.
    pub(super) fn count_reply(&mut self, method: Method, error: Option<ErrorCode>) {
        if let Some(method) = index(method) {
            self.replies[method][reply_index(error)] += 1;
        }
    }

    pub(super) const fn count_created(&mut self, five_tuple: &FiveTuple) {
        *self.created.at(five_tuple) += 1;
    }

    pub(super) const fn count_closed(&mut self, five_tuple: &FiveTuple, reason: CloseReason) {
        *self.ended.at(five_tuple) += 1;
        self.closed[reason as usize] += 1;
    }

    /// Packets that were dropped for a cause.
    pub const fn dropped(&self, cause: DropCause) -> u64 {
        self.drops[cause as usize]
    }

    /// Authentications that failed so.
    pub const fn failed(&self, failure: FailedAuthentication) -> u64 {
        self.failed_authentications[failure as usize]
    }

    /// Requests that a limit refused.
    pub const fn limited(&self, limit: Limit) -> u64 {
        self.limits[limit as usize]
    }

    /// Requests for peers that are refused so.
    pub const fn peers_refused(&self, refusal: PeerRefusal) -> u64 {
        self.peers_refused[refusal as usize]
    }

    /// Requests of a method.
    pub fn requests(&self, method: Method) -> u64 {
        index(method).map_or(0, |method| self.requests[method])
    }

    /// Replies to requests of a method: successes, or those with an error code.
    pub fn replies(&self, method: Method, error: Option<ErrorCode>) -> u64 {
        index(method).map_or(0, |method| self.replies[method][reply_index(error)])
    }

    /// Allocations that ended for a reason.
    pub const fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Every number, in an order that is always the same: to be copied and summed.
    pub fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            drops,
            failed_authentications,
            limits,
            peers_refused,
            requests,
            replies,
            closed,
            relayed,
            created,
            ended,
            challenges,
        } = self;
        let relayed = relayed.iter_mut().flat_map(|it| {
            [
                &mut it.packets_to_peers,
                &mut it.bytes_to_peers,
                &mut it.packets_to_client,
                &mut it.bytes_to_client,
            ]
        });
        drops
            .iter_mut()
            .chain(failed_authentications)
            .chain(limits)
            .chain(peers_refused)
            .chain(requests)
            .chain(replies.iter_mut().flatten())
            .chain(closed)
            .chain(relayed)
            .chain(created.iter_mut())
            .chain(ended.iter_mut())
            .chain([challenges])
    }
}

impl Relayed {
    pub(super) const fn count(&mut self, way: Way, payload: usize) {
        let (packets, bytes) = match way {
            Way::ToPeers => (&mut self.packets_to_peers, &mut self.bytes_to_peers),
            Way::ToClient => (&mut self.packets_to_client, &mut self.bytes_to_client),
        };
        *packets += 1;
        *bytes += payload as u64;
    }
}

fn index(method: Method) -> Option<usize> {
    REQUEST_METHODS.iter().position(|it| *it == method)
}

fn reply_index(error: Option<ErrorCode>) -> usize {
    let code = |error| ErrorCode::ALL.iter().position(|it| *it == error);
    error.map_or(0, |error| 1 + code(error).expect("every code is in ALL"))
}

impl fmt::Display for Counters {
    /// `name=number` for every cause that occurred.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for cause in DropCause::ALL {
            if self.dropped(*cause) > 0 {
                write!(f, "{separator}{}={}", cause.name(), self.dropped(*cause))?;
                separator = " ";
            }
        }
        if separator.is_empty() {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy by numbers is a copy: none is forgotten, and none is there twice.
    #[test]
    fn every_number_is_one_of_the_numbers() {
        let mut counters = Counters::default();
        let count = counters.numbers_mut().count();
        assert_eq!(count, size_of::<Counters>() / size_of::<u64>());
        for (value, number) in (1..).zip(counters.numbers_mut()) {
            *number = value;
        }
        let sum: u64 = counters.numbers_mut().map(|number| *number).sum();
        assert_eq!(sum, (1..=count as u64).sum::<u64>());
    }

    #[test]
    fn every_code_has_a_place_of_its_own() {
        let places = ErrorCode::ALL.iter().map(|code| reply_index(Some(*code)));
        assert!(places.eq(1..REPLIES));
        assert_eq!(reply_index(None), 0);
    }

    #[test]
    fn numbers_of_classes_stand_where_their_names_do() {
        for (index, refusal) in PeerRefusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, index);
        }
        for (index, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        for (index, transport) in Transport::ALL.iter().enumerate() {
            assert_eq!(*transport as usize, index);
        }
    }
}
