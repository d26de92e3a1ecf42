//! Why a request is refused: one name a reason, one place that makes it an error code.

use std::fmt;

use super::peer_policy::PeerRefusal;
use crate::auth::AuthFailure;
use crate::wire::{AttributeType, ErrorCode};

/// The client's fault, or a limit that it hit.
#[derive(Clone, Debug)]
pub enum Reject {
    /// The credentials do not do.
    Authentication(AuthFailure),
    /// The address has failed too often as this user; the password does not matter.
    TooManyFailures,
    /// Comprehension-required attributes that this server does not know.
    UnknownAttributes(Vec<AttributeType>),
    /// An attribute that the method needs is not there.
    Missing(AttributeType),
    /// An attribute has the wrong length or an impossible value.
    Malformed(AttributeType),
    /// Two attributes exclude each other.
    Conflict(AttributeType, AttributeType),
    /// The five-tuple has an allocation already.
    FiveTupleInUse,
    /// The five-tuple has no allocation.
    NoAllocation,
    /// The allocation belongs to another user.
    OtherUser,
    /// REQUESTED-TRANSPORT names a protocol that is not relayed.
    UnsupportedTransport(u8),
    /// No relay address of the family.
    UnsupportedFamily,
    /// The allocation has no relayed address of the peer's family, or of the one to refresh.
    FamilyMismatch,
    /// The peer's address is not relayed to.
    PeerRefused(PeerRefusal),
    /// The server is being drained: it makes no new allocations.
    Draining,
    /// The connection is for NAT discovery (RFC 7443), which is Binding.
    NatDiscovery,
    /// The client comes through a tunnel that RFC 8656 §21.4 forbids.
    ClientTunnelled,
    /// The channel is bound to another peer, or the peer to another channel.
    ChannelInUse,
    /// The user has as many allocations as it may.
    UserQuota,
    /// The client's address has as many allocations as it may.
    AddressQuota,
    /// The user makes new allocations more quickly than it may.
    UserRate,
    /// The client's address makes new allocations more quickly than it may.
    AddressRate,
    /// The server has as many allocations as it may.
    ServerFull,
    /// No relay port is free, or could be bound.
    NoPort,
    /// The token is unknown, used, expired or another user's.
    NoReservation,
    /// The allocation has as many permissions or channels as it may.
    AllocationFull,
}

impl Reject {
    /// The code of the reply.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Authentication(failure) => match failure {
                AuthFailure::Incomplete | AuthFailure::PasswordAlgorithms => ErrorCode::BadRequest,
                AuthFailure::ForeignNonce | AuthFailure::StaleNonce(_) => ErrorCode::StaleNonce,
                AuthFailure::NoCredentials
                | AuthFailure::WrongRealm
                | AuthFailure::UnknownUser { .. }
                | AuthFailure::WrongPassword { .. }
                | AuthFailure::Expired { .. }
                | AuthFailure::Revoked { .. } => ErrorCode::Unauthenticated,
            },
            Self::TooManyFailures => ErrorCode::Unauthenticated,
            Self::UnknownAttributes(_) => ErrorCode::UnknownAttribute,
            Self::Missing(_) | Self::Malformed(_) | Self::Conflict(..) | Self::ChannelInUse => {
                ErrorCode::BadRequest
            }
            Self::FiveTupleInUse | Self::NoAllocation => ErrorCode::AllocationMismatch,
            Self::OtherUser => ErrorCode::WrongCredentials,
            Self::UnsupportedTransport(_) => ErrorCode::UnsupportedTransportProtocol,
            Self::UnsupportedFamily => ErrorCode::AddressFamilyNotSupported,
            Self::FamilyMismatch => ErrorCode::PeerAddressFamilyMismatch,
            Self::PeerRefused(_) | Self::Draining | Self::NatDiscovery | Self::ClientTunnelled => {
                ErrorCode::Forbidden
            }
            Self::UserQuota | Self::UserRate | Self::AddressQuota | Self::AddressRate => {
                ErrorCode::AllocationQuotaReached
            }
            Self::ServerFull | Self::NoPort | Self::NoReservation | Self::AllocationFull => {
                ErrorCode::InsufficientCapacity
            }
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authentication(failure) => failure.fmt(f),
            Self::TooManyFailures => f.write_str("too many failed authentications"),
            Self::UnknownAttributes(types) => write!(f, "unknown attributes {types:?}"),
            Self::Missing(attribute) => write!(f, "{attribute:?} is missing"),
            Self::Malformed(attribute) => write!(f, "{attribute:?} is malformed"),
            Self::Conflict(one, other) => write!(f, "{one:?} excludes {other:?}"),
            Self::FiveTupleInUse => f.write_str("the five-tuple has an allocation already"),
            Self::NoAllocation => f.write_str("the five-tuple has no allocation"),
            Self::OtherUser => f.write_str("the allocation belongs to another user"),
            Self::UnsupportedTransport(protocol) => {
                write!(f, "IP protocol {protocol} is not relayed")
            }
            Self::UnsupportedFamily => f.write_str("no relay address of this family"),
            Self::FamilyMismatch => f.write_str("no relayed address of this family"),
            Self::PeerRefused(refusal) => write!(f, "peer refused: {refusal}"),
            Self::Draining => f.write_str("the server is being drained"),
            Self::NatDiscovery => {
                f.write_str("ALPN stun.nat-discovery was agreed, which is Binding only")
            }
            Self::ClientTunnelled => f.write_str("client behind 6to4 or Teredo"),
            Self::ChannelInUse => f.write_str("channel or peer is bound already"),
            Self::UserQuota => f.write_str("limits.allocations_per_user reached"),
            Self::AddressQuota => f.write_str("limits.allocations_per_address reached"),
            Self::UserRate => {
                f.write_str("new allocations too quickly for limits.allocations_per_user")
            }
            Self::AddressRate => {
                f.write_str("new allocations too quickly for limits.allocations_per_address")
            }
            Self::ServerFull => f.write_str("limits.allocations_total reached"),
            Self::NoPort => f.write_str("no relay port could be had"),
            Self::NoReservation => f.write_str("no such reservation"),
            Self::AllocationFull => {
                f.write_str("limits.permissions_per_allocation or channels_per_allocation reached")
            }
        }
    }
}
