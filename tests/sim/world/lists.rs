//! The operator's lists, and what they should mean for the cast.

use std::net::{IpAddr, SocketAddr};

use turnstone::turn::{ClientPolicy, PeerPolicy};

use crate::host::ip;

/// What the peer policy should say about an address of the cast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Peer,
    Refused,
    /// An IPv4 address in IPv6 form.
    Disguised,
}

/// Whether the server has any lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists {
    pub(crate) are_written: bool,
}

impl Lists {
    pub(crate) fn peers(self) -> PeerPolicy {
        let mut policy = PeerPolicy::default();
        if self.are_written {
            policy.allow = vec!["10.0.0.1:5000-5001".parse().unwrap()];
            policy.deny = ["9.9.9.3:5001-65535", "9.9.9.4", "[2606:4700::2]:5000"]
                .map(|rule| rule.parse().unwrap())
                .to_vec();
        }
        policy
    }

    pub(crate) fn clients(self) -> ClientPolicy {
        let mut policy = ClientPolicy::default();
        if self.are_written {
            policy.deny = vec!["198.51.100.2/32".parse().unwrap()];
        }
        policy
    }

    /// Whether requests of a client are answered.
    pub(crate) fn serve(self, client: IpAddr) -> bool {
        !(self.are_written && client == ip("198.51.100.2"))
    }

    /// Whether any port of an address may be a peer.
    pub(crate) fn verdict(self, peer: IpAddr) -> Verdict {
        if peer == ip("::ffff:9.9.9.1") {
            return Verdict::Disguised;
        }
        let is_public = match peer {
            IpAddr::V4(ip) => ip.octets()[0] == 9,
            IpAddr::V6(ip) => ip.segments()[0] == 0x2606,
        };
        let is_peer = match peer.to_string().as_str() {
            "10.0.0.1" => self.are_written,
            "9.9.9.4" => !self.are_written,
            _ => is_public,
        };
        if is_peer {
            Verdict::Peer
        } else {
            Verdict::Refused
        }
    }

    /// Whether a port of an address that may be a peer is closed.
    pub(crate) fn close(self, peer: SocketAddr) -> bool {
        self.are_written
            && match (peer.ip().to_string().as_str(), peer.port()) {
                ("10.0.0.1" | "9.9.9.3" | "2606:4700::2", 0) => true,
                ("10.0.0.1", port) => !(port == 5000 || port == 5001),
                ("9.9.9.3", port) => port > 5000,
                ("2606:4700::2", port) => port == 5000,
                _ => false,
            }
    }
}
