//! The fields of an IP header that a relay passes on (RFC 8656 §13-§16).

/// As they were received, or as they are to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpHeader {
    /// TTL or hop limit; `None` is unknown, or the system's default.
    pub ttl: Option<u8>,
    /// The byte with DSCP and ECN.
    pub tos: u8,
}

impl IpHeader {
    /// What a datagram relayed to another datagram carries: TTL less one, as a router would, and
    /// DSCP and ECN as they came. `None` when its TTL is used up, which ends loops between relays
    /// (RFC 8656 §21.1.7). From or to a stream nothing is passed on: there the datagram ends, or
    /// begins (§15, §16).
    pub(super) fn relayed(self, stream: bool) -> Option<Self> {
        if stream {
            return Some(Self::default());
        }
        match self.ttl {
            None => Some(self),
            Some(0 | 1) => None,
            Some(ttl) => Some(Self {
                ttl: Some(ttl - 1),
                tos: self.tos,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NETHDR-01, NETHDR-02, NETHDR-04
    #[test]
    fn ttl_is_decremented_and_the_rest_copied() {
        let relayed = |ttl, tos| IpHeader { ttl, tos }.relayed(false);
        assert_eq!(
            relayed(Some(5), 0xB9),
            Some(IpHeader {
                ttl: Some(4),
                tos: 0xB9
            })
        );
        assert_eq!(relayed(Some(1), 0), None);
        assert_eq!(relayed(Some(0), 0), None);
        assert_eq!(relayed(None, 3), Some(IpHeader { ttl: None, tos: 3 }));
        let last_hop = IpHeader {
            ttl: Some(1),
            tos: 0xB9,
        };
        assert_eq!(last_hop.relayed(true), Some(IpHeader::default()));
    }
}
