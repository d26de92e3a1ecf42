//! What a shard dropped, by cause. Plain numbers with one writer; the host sums the shards.

use std::fmt;

macro_rules! drop_causes {
    ($($cause:ident, $name:literal, $doc:literal;)*) => {
        /// Why a packet went nowhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum DropCause {
            $(#[doc = $doc] $cause,)*
        }

        impl DropCause {
            /// Every cause.
            pub const ALL: &[Self] = &[$(Self::$cause,)*];

            /// The name in logs and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$cause => $name,)*
                }
            }
        }
    };
}

drop_causes! {
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

/// Numbers that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    drops: [u64; DropCause::ALL.len()],
    /// Binding requests that were answered.
    pub bindings: u64,
    /// Challenges (401) to requests without credentials.
    pub challenges: u64,
}

impl Counters {
    pub(super) const fn count(&mut self, cause: DropCause) {
        self.drops[cause as usize] += 1;
    }

    /// Packets that were dropped for a cause.
    pub const fn dropped(&self, cause: DropCause) -> u64 {
        self.drops[cause as usize]
    }
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
