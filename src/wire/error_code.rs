//! The error codes that this server sends (RFC 8489 §14.8, RFC 8656 §19).

/// An error code with its recommended reason phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// 400, RFC 8489 §14.8
    BadRequest = 400,
    /// 401, RFC 8489 §14.8
    Unauthenticated = 401,
    /// 403, RFC 8656 §19
    Forbidden = 403,
    /// 420, RFC 8489 §14.8
    UnknownAttribute = 420,
    /// 437, RFC 8656 §19
    AllocationMismatch = 437,
    /// 438, RFC 8489 §14.8
    StaleNonce = 438,
    /// 440, RFC 8656 §19
    AddressFamilyNotSupported = 440,
    /// 441, RFC 8656 §19
    WrongCredentials = 441,
    /// 442, RFC 8656 §19
    UnsupportedTransportProtocol = 442,
    /// 443, RFC 8656 §19
    PeerAddressFamilyMismatch = 443,
    /// 486, RFC 8656 §19
    AllocationQuotaReached = 486,
    /// 500, RFC 8489 §14.8
    ServerError = 500,
    /// 508, RFC 8656 §19
    InsufficientCapacity = 508,
}

impl ErrorCode {
    /// Every one, in the order of the numbers.
    pub const ALL: &[Self] = &[
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::UnknownAttribute,
        Self::AllocationMismatch,
        Self::StaleNonce,
        Self::AddressFamilyNotSupported,
        Self::WrongCredentials,
        Self::UnsupportedTransportProtocol,
        Self::PeerAddressFamilyMismatch,
        Self::AllocationQuotaReached,
        Self::ServerError,
        Self::InsufficientCapacity,
    ];

    /// The number on the wire, 400-508.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The reason phrase that the RFC recommends.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Unauthenticated => "Unauthenticated",
            Self::Forbidden => "Forbidden",
            Self::UnknownAttribute => "Unknown Attribute",
            Self::AllocationMismatch => "Allocation Mismatch",
            Self::StaleNonce => "Stale Nonce",
            Self::AddressFamilyNotSupported => "Address Family not Supported",
            Self::WrongCredentials => "Wrong Credentials",
            Self::UnsupportedTransportProtocol => "Unsupported Transport Protocol",
            Self::PeerAddressFamilyMismatch => "Peer Address Family Mismatch",
            Self::AllocationQuotaReached => "Allocation Quota Reached",
            Self::ServerError => "Server Error",
            Self::InsufficientCapacity => "Insufficient Capacity",
        }
    }
}
