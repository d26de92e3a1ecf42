//! Whose requests are looked at at all.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::peer_policy::PeerRefusal;
use super::special_address::classify;

/// From where the server may be used.
#[derive(Clone, Debug, Default)]
pub struct ClientPolicy {
    /// Networks of clients; empty means every one.
    pub allow: Vec<IpNet>,
    /// Networks whose requests are dropped; these win.
    pub deny: Vec<IpNet>,
}

/// Why a client gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRefusal {
    /// `clients.deny` has its address.
    Denied,
    /// `clients.allow` has other addresses only.
    NotAllowed,
}

impl fmt::Display for ClientRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "in clients.deny",
            Self::NotAllowed => "not in clients.allow",
        })
    }
}

impl ClientPolicy {
    /// Decides on a client's canonical address.
    ///
    /// # Errors
    /// Which list is against it.
    pub fn check(&self, client: IpAddr) -> Result<(), ClientRefusal> {
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        if is_in(&self.deny) {
            Err(ClientRefusal::Denied)
        } else if self.allow.is_empty() || is_in(&self.allow) {
            Ok(())
        } else {
            Err(ClientRefusal::NotAllowed)
        }
    }
}

/// Whether a client comes through a tunnel from which RFC 8656 §21.4 accepts no requests.
pub(super) fn is_tunnelled(client: IpAddr) -> bool {
    matches!(
        classify(client),
        Some(PeerRefusal::SixToFour | PeerRefusal::Teredo)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// ACL-01
    #[test]
    fn an_empty_list_allows_everybody_and_deny_wins() {
        let check = |allow: &[&str], deny: &[&str], ip: &str| {
            let (allow, deny) = (networks(allow), networks(deny));
            ClientPolicy { allow, deny }.check(ip.parse().unwrap())
        };
        assert_eq!(check(&[], &[], "192.0.2.1"), Ok(()));
        assert_eq!(check(&["192.0.2.0/24"], &[], "192.0.2.255"), Ok(()));
        let not_allowed = Err(ClientRefusal::NotAllowed);
        assert_eq!(check(&["192.0.2.0/24"], &[], "192.0.3.0"), not_allowed);
        assert_eq!(check(&["192.0.2.0/24"], &[], "2001:db8::1"), not_allowed);
        let denied = Err(ClientRefusal::Denied);
        assert_eq!(check(&[], &["2001:db8::/32"], "2001:db8::1"), denied);
        assert_eq!(check(&[], &["2001:db8::/32"], "2001:db9::1"), Ok(()));
        assert_eq!(
            check(&["192.0.2.0/24"], &["192.0.2.7/32"], "192.0.2.7"),
            denied
        );
    }

    /// ALLOC-27
    #[test]
    fn tunnelled_clients() {
        assert!(is_tunnelled("2002:808:808::1".parse().unwrap()));
        assert!(is_tunnelled("2001:0:4136::1".parse().unwrap()));
        assert!(!is_tunnelled("2001:db8::1".parse().unwrap()));
        assert!(!is_tunnelled("10.0.0.1".parse().unwrap()));
    }
}
