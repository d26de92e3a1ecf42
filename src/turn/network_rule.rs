//! Networks in the operator's lists, and ports of them.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::{IpNet, Ipv6Net};

/// An entry of `peers.allow` or `peers.deny`: every address of a network, and of their ports all or
/// some.
///
/// It is written `10.0.0.0/8`, `10.0.0.0/8:5000`, `10.0.0.0/8:5000-6000`, and where an IPv6 network
/// has ports `[fd00::/8]:5000`. A single address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRule {
    network: IpNet,
    ports: PortRange,
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Port 0 is nobody's.
    const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };
}

impl NetworkRule {
    /// The network.
    pub const fn network(&self) -> IpNet {
        self.network
    }

    /// Whether it is about an address and a port of it.
    pub fn matches(&self, ip: IpAddr, port: u16) -> bool {
        (self.ports.first..=self.ports.last).contains(&port) && self.network.contains(&ip)
    }

    /// Whether it is about an address and any of `ports`.
    pub fn concerns(&self, ip: IpAddr, ports: &RangeInclusive<u16>) -> bool {
        self.network.contains(&ip)
            && self.ports.first <= *ports.end()
            && *ports.start() <= self.ports.last
    }

    /// Whether it leaves out ports of its addresses.
    pub fn has_ports(&self) -> bool {
        self.ports != PortRange::ALL
    }

    /// Whether it is about one address, and so names a machine rather than a network.
    pub fn is_single_address(&self) -> bool {
        self.network.prefix_len() == self.network.max_prefix_len()
    }

    /// Whether it is about everything that `other` is about.
    pub fn covers(&self, other: &Self) -> bool {
        self.network.contains(&other.network)
            && self.ports.first <= other.ports.first
            && other.ports.last <= self.ports.last
    }

    /// The ports at which it begins and ceases to match, upwards.
    pub(super) fn port_edges(&self) -> impl Iterator<Item = u16> + use<> {
        [Some(self.ports.first), self.ports.last.checked_add(1)]
            .into_iter()
            .flatten()
    }
}

impl From<IpNet> for NetworkRule {
    /// Every port of a network.
    fn from(network: IpNet) -> Self {
        Self {
            network,
            ports: PortRange::ALL,
        }
    }
}

impl fmt::Display for NetworkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            network if !self.has_ports() => return network.fmt(f),
            IpNet::V4(network) => write!(f, "{network}:")?,
            IpNet::V6(network) => write!(f, "[{network}]:")?,
        }
        let PortRange { first, last } = self.ports;
        if first == last {
            first.fmt(f)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

/// Why a text is no network, or no rule. Displayed, it follows the text that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkRuleError {
    /// Neither an address nor a network.
    NotANetwork,
    /// The address has bits that the prefix length cuts off.
    HostBits(IpNet),
    /// A network of IPv4-mapped addresses, which are judged as IPv4.
    Mapped(Ipv6Net),
    /// It is not clear what is address and what is port.
    Brackets {
        /// The IPv6 network that was probably meant.
        network: IpNet,
        /// The ports, as they were written.
        ports: Option<String>,
    },
    /// What should be a port or a range of ports is none.
    Ports,
    /// The range's first port is its higher one.
    Backwards {
        /// Which is the lower one.
        low: u16,
        /// Which is the higher one.
        high: u16,
    },
}

impl NetworkRuleError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::NotANetwork => {
                "write address/length, e.g. \"10.0.0.0/8\" or \"fd00::/8\"".to_owned()
            }
            Self::HostBits(network) => format!(
                "write \"{}\", or \"{}\" for the one address",
                network.trunc(),
                network.addr()
            ),
            Self::Mapped(network) => match network.addr().to_ipv4_mapped() {
                Some(_) if network.prefix_len() == 96 => {
                    "remove it, unless all of IPv4 is meant, which is \"0.0.0.0/0\"".to_owned()
                }
                Some(ip) if network.prefix_len() > 96 => {
                    format!("write \"{ip}/{}\"", network.prefix_len() - 96)
                }
                _ => "write it as IPv4, without ::ffff:".to_owned(),
            },
            Self::Brackets { network, ports } => match ports {
                Some(ports) => format!("write \"[{network}]:{ports}\""),
                None => format!("write \"{network}\", or \"[{network}]:PORT\" for a port of it"),
            },
            Self::Ports => "write 1 to 65535, or lowest-highest, e.g. \"10.0.0.0/8:5000-6000\" or \
                 \"[fd00::/8]:5000\""
                .to_owned(),
            Self::Backwards { low, high } => {
                format!("write the lower port first: {low}-{high}")
            }
        }
    }
}

impl fmt::Display for NetworkRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANetwork => f.write_str("is not a network in CIDR notation"),
            Self::HostBits(network) => {
                write!(f, "has bits set after the first {}", network.prefix_len())
            }
            Self::Mapped(_) => f.write_str("is IPv4 in disguise, and matches nothing"),
            Self::Brackets { .. } => {
                f.write_str("leaves open where the IPv6 address ends and the port begins")
            }
            Self::Ports => f.write_str("has no port or range of ports behind the colon"),
            Self::Backwards { .. } => f.write_str("has a range of ports that runs backwards"),
        }
    }
}

impl std::error::Error for NetworkRuleError {}

/// Reads a network in CIDR notation, or a single address as a network of one.
///
/// # Errors
/// If it is neither, has bits set after its prefix, or is IPv4 in IPv6 form.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkRuleError> {
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = parsed.map_err(|_| NetworkRuleError::NotANetwork)?;
    match network {
        _ if network != network.trunc() => Err(NetworkRuleError::HostBits(network)),
        IpNet::V6(v6) if v6.prefix_len() >= 96 && v6.addr().to_ipv4_mapped().is_some() => {
            Err(NetworkRuleError::Mapped(v6))
        }
        _ => Ok(network),
    }
}

impl FromStr for NetworkRule {
    type Err = NetworkRuleError;

    /// Reads a rule. A colon is a port's only behind IPv4 or a bracket: `fd00::1:5000` is an
    /// address.
    fn from_str(text: &str) -> Result<Self, NetworkRuleError> {
        if let Some(rest) = text.strip_prefix('[') {
            return parse_bracketed(rest);
        }
        let whole = parse_network(text);
        if whole != Err(NetworkRuleError::NotANetwork) {
            return whole.map(Self::from);
        }
        let (network, ports) = text.rsplit_once(':').ok_or(NetworkRuleError::NotANetwork)?;
        let network = parse_network(network)?;
        if let IpNet::V6(_) = network {
            let ports = Some(ports.to_owned());
            return Err(NetworkRuleError::Brackets { network, ports });
        }
        let ports = parse_ports(ports)?;
        Ok(Self { network, ports })
    }
}

/// What follows `[`: an IPv6 network, the other bracket and ports.
fn parse_bracketed(rest: &str) -> Result<NetworkRule, NetworkRuleError> {
    let (inside, behind) = rest.split_once(']').ok_or(NetworkRuleError::NotANetwork)?;
    if let Some(behind) = behind.strip_prefix('/') {
        let (length, ports) = match behind.split_once(':') {
            Some((length, ports)) => (length, Some(ports.to_owned())),
            None => (behind, None),
        };
        let network = parse_network(&format!("{inside}/{length}"))?;
        return Err(NetworkRuleError::Brackets { network, ports });
    }
    let network = parse_network(inside)?;
    match (network, behind.strip_prefix(':')) {
        (IpNet::V4(_), _) => Err(NetworkRuleError::NotANetwork),
        (IpNet::V6(_), Some(ports)) => {
            let ports = parse_ports(ports)?;
            Ok(NetworkRule { network, ports })
        }
        (IpNet::V6(_), None) => Err(NetworkRuleError::Brackets {
            network,
            ports: None,
        }),
    }
}

fn parse_ports(text: &str) -> Result<PortRange, NetworkRuleError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let port = text.parse::<u16>().ok().filter(|&port| port > 0);
        port.filter(|_| is_number).ok_or(NetworkRuleError::Ports)
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(NetworkRuleError::Backwards {
            low: last,
            high: first,
        });
    }
    Ok(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> NetworkRule {
        text.parse().unwrap()
    }

    /// ACL-02
    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.5", "10.0.0.5/32"),
            ("10.0.0.5:5000", "10.0.0.5/32:5000"),
            ("10.0.0.0/8:5000-6000", "10.0.0.0/8:5000-6000"),
            ("10.0.0.0/8:1-65535", "10.0.0.0/8"),
            ("fd00::/8", "fd00::/8"),
            ("[fd00::1]:5000", "[fd00::1/128]:5000"),
            ("[fd00::/8]:5000-6000", "[fd00::/8]:5000-6000"),
            // An address, as every reader of addresses has it.
            ("fd00::1:5000", "fd00::1:5000/128"),
        ] {
            assert_eq!(rule(text).to_string(), shown);
            assert_eq!(rule(shown), rule(text), "{shown} can be read again");
        }
    }

    /// ACL-02: what could be read in two ways is not read at all.
    #[test]
    fn what_is_unclear_is_refused_with_a_remedy() {
        for (text, remedy) in [
            ("fd00::/8:5000", "\"[fd00::/8]:5000\""),
            ("fd00::1:5000-6000", "\"[fd00::1/128]:5000-6000\""),
            ("[fd00::]/8:5000", "\"[fd00::/8]:5000\""),
            ("[fd00::1]", "\"fd00::1/128\", or"),
            ("10.0.0.5:", "1 to 65535"),
            ("10.0.0.5:0", "1 to 65535"),
            ("10.0.0.5:+5", "1 to 65535"),
            ("10.0.0.5:65536", "1 to 65535"),
            ("10.0.0.5:1-", "1 to 65535"),
            ("10.0.0.5:5000/8", "1 to 65535"),
            ("10.0.0.5:6-5", "5-6"),
            ("10.1.0.0/8:5", "\"10.0.0.0/8\""),
            ("::ffff:10.0.0.0/104", "\"10.0.0.0/8\""),
            ("::ffff:0:0/96", "remove it, unless all of IPv4 is meant"),
            ("[::ffff:10.0.0.1]:5", "\"10.0.0.1/32\""),
            ("[10.0.0.5]:5", "address/length"),
            ("[fd00::1", "address/length"),
            ("10.0.0.0/33", "address/length"),
            ("example.org:53", "address/length"),
            ("10.0.0.5:5:5", "address/length"),
            ("", "address/length"),
        ] {
            let error = text.parse::<NetworkRule>().unwrap_err();
            assert!(
                error.remedy().contains(remedy),
                "{text}: {}",
                error.remedy()
            );
        }
    }

    /// ACL-02
    #[test]
    fn matches_and_covers_to_the_last_port_and_address() {
        let range = rule("10.0.0.0/30:5000-5001");
        for (ip, port, expected) in [
            ("10.0.0.0", 5000, true),
            ("10.0.0.3", 5001, true),
            ("10.0.0.4", 5000, false),
            ("9.255.255.255", 5000, false),
            ("10.0.0.0", 4999, false),
            ("10.0.0.0", 5002, false),
            ("::ffff:10.0.0.0", 5000, false),
        ] {
            assert_eq!(
                range.matches(ip.parse().unwrap(), port),
                expected,
                "{ip}:{port}"
            );
        }
        assert!(rule("10.0.0.0/8").covers(&range) && range.covers(&range));
        assert!(range.covers(&rule("10.0.0.1:5001")));
        for other in [
            "10.0.0.1",
            "10.0.0.1:5002",
            "10.0.0.4:5000",
            "10.0.0.0/29:5000",
        ] {
            assert!(!range.covers(&rule(other)), "{other}");
        }
        assert!(rule("10.0.0.1:5").is_single_address() && !range.is_single_address());
    }
}
