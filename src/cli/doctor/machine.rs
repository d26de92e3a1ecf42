//! What is known about this machine. Examinations are functions of this and of the configuration, so
//! that tests can make up any machine.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::firewall::Firewall;
use super::timex::Clock;
use crate::config::Unreadable;
use crate::engine::port_owner::Taken;

/// Facts, found out once.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) network: Network,
    pub(super) ports: Ports,
    pub(super) firewall: Firewall,
    /// The interfaces of the default routes.
    pub(super) interfaces: Vec<String>,
    pub(super) conntrack: Option<Conntrack>,
    pub(super) rights: Rights,
    /// The unit of systemd, if it is installed.
    pub(super) unit: Option<Unit>,
    pub(super) files: Files,
    pub(super) buffers: Buffers,
    pub(super) clock: Option<Clock>,
    pub(super) users: Users,
    /// Who reads the files of the configuration while the server runs, if that is somebody else.
    pub(super) reader: Option<String>,
    /// Files of the configuration that this user cannot read.
    pub(super) unreadable: Vec<Unreadable>,
    /// Why ACME has no place for its files, if it has none.
    pub(super) no_place: Option<String>,
    pub(super) kernel: Kernel,
    pub(super) memory: Memory,
    /// CPUs that this process may use.
    pub(super) cpus: usize,
}

/// Addresses and routes.
#[derive(Clone, Debug)]
pub(super) struct Network {
    /// The addresses among those of the configuration that a socket can be bound to, and those of
    /// the interfaces.
    pub(super) addresses: Vec<IpAddr>,
    /// The source addresses of the default routes, at most one a family.
    pub(super) routes: Vec<IpAddr>,
    /// Whether there are IPv6 sockets.
    pub(super) ipv6: bool,
}

/// Who has which port, and which ports anybody gets.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// UDP sockets on listeners' ports and in the relay range.
    pub(super) udp: Vec<Taken>,
    /// TCP sockets that listen on listeners' ports.
    pub(super) tcp: Vec<Taken>,
    /// `net.ipv4.ip_local_port_range`, which holds for IPv6 too.
    pub(super) local: Option<RangeInclusive<u16>>,
    /// `net.ipv4.ip_local_reserved_ports`.
    pub(super) reserved: Vec<RangeInclusive<u16>>,
    /// `net.ipv4.ip_unprivileged_port_start`.
    pub(super) unprivileged: u16,
}

impl Ports {
    /// The first socket in the way of a listener.
    pub(super) fn in_the_way(taken: &[Taken], address: SocketAddr) -> Option<&Taken> {
        taken.iter().find(|taken| taken.is_in_the_way_of(address))
    }
}

/// Connection tracking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conntrack {
    pub(super) max: u64,
    pub(super) count: u64,
    /// Seconds that an entry lives after a packet one way.
    pub(super) udp_timeout_s: u64,
    /// Seconds that it lives after packets both ways.
    pub(super) udp_stream_timeout_s: u64,
}

/// What whoever called the doctor may do, who would be who calls `turnstone run`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    pub(super) root: bool,
    /// `CAP_NET_BIND_SERVICE`
    pub(super) low_ports: bool,
    /// `CAP_NET_ADMIN`
    pub(super) large_buffers: bool,
    /// `CAP_SYS_RESOURCE`
    pub(super) more_files: bool,
}

/// The unit turnstone.service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// `User=`; empty is root.
    pub(super) user: String,
    /// `Group=` and `SupplementaryGroups=`
    pub(super) groups: Vec<String>,
    /// What gives the server a secret or users that the configuration here has not.
    pub(super) secrets: UnitSecrets,
    /// `LimitNOFILE=`
    pub(super) files: Option<u64>,
    /// `AmbientCapabilities=`, in lower case.
    pub(super) capabilities: Vec<String>,
    /// `MemoryMax=` in bytes.
    pub(super) memory: Option<u64>,
}

/// What a unit gives its server beside the configuration: settings, as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnitSecrets {
    /// Those with a secret or users.
    pub(super) given: Vec<String>,
    /// Those that may have one, and cannot be looked into.
    pub(super) perhaps: Vec<String>,
}

impl Unit {
    /// Whether the server is started as root.
    pub(super) fn is_root(&self) -> bool {
        matches!(self.user.as_str(), "" | "root")
    }

    /// Whether the server has a capability when it binds its listeners.
    pub(super) fn has(&self, capability: &str) -> bool {
        self.is_root() || self.capabilities.iter().any(|c| c == capability)
    }
}

/// Bounds of open files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    /// The hard limit of this process.
    pub(super) hard: u64,
    /// `fs.nr_open`, which not even root exceeds.
    pub(super) most: u64,
    /// The limit of the server that runs, if one does and may be looked at.
    pub(super) running: Option<u64>,
}

/// Socket buffers in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    /// `net.core.rmem_max`; a network namespace may not show it.
    pub(super) receive_max: Option<u64>,
    /// `net.core.wmem_max`
    pub(super) send_max: Option<u64>,
    /// What a socket of this process got that asked like a listener: to receive, and to send.
    pub(super) got: Option<(u64, u64)>,
}

/// Users whom a server that was started as root may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Users {
    /// Whether there is the configured one. `true` if none is configured.
    pub(super) configured: bool,
    /// Whether there is the user turnstone.
    pub(super) preferred: bool,
}

/// What the kernel can do.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) release: Option<String>,
    /// What Landlock closes, as the log tells it.
    pub(super) landlock: String,
    /// What it does not, and why.
    pub(super) landlock_lacks: Option<String>,
    pub(super) reuse_port: bool,
    /// UDP segmentation offload, to send and to receive.
    pub(super) gso: bool,
    pub(super) gro: bool,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) machine: Option<u64>,
    /// The limit of this process's control groups, if there is one.
    pub(super) group: Option<u64>,
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use crate::cli::doctor::firewall::{Listing, Listings};
    use crate::cli::doctor::report::{Finding, Status};
    use crate::config::{Config, Environment, Flag, Host, Sources, load};
    use crate::engine::port_owner::Owner;
    use zeroize::Zeroizing;

    /// Fails unless a finding says so.
    #[track_caller]
    pub(in crate::cli::doctor) fn expect(finding: &Finding, status: Status, text: &str) {
        assert!(
            finding.status == status && finding.found.contains(text),
            "{finding:#?}"
        );
    }

    /// A machine on which everything is as it should be.
    pub(in crate::cli::doctor) fn well() -> Machine {
        let listings = Listings {
            nft: Listing::Text(r#"{"nftables": []}"#.to_owned()),
            iptables: Listing::Missing,
            ip6tables: Listing::Missing,
        };
        Machine {
            network: Network {
                addresses: ["203.0.113.10", "127.0.0.1"]
                    .map(|ip| ip.parse().unwrap())
                    .to_vec(),
                routes: vec!["203.0.113.10".parse().unwrap()],
                ipv6: true,
            },
            ports: Ports {
                udp: vec![],
                tcp: vec![],
                local: Some(32768..=49151),
                reserved: vec![],
                unprivileged: 1024,
            },
            firewall: Firewall::read(&listings),
            interfaces: vec!["eth0".to_owned()],
            conntrack: None,
            rights: Rights {
                root: true,
                low_ports: true,
                large_buffers: true,
                more_files: true,
            },
            unit: None,
            files: Files {
                hard: 1 << 20,
                most: 1 << 20,
                running: None,
            },
            buffers: Buffers {
                receive_max: Some(4 << 20),
                send_max: Some(4 << 20),
                got: Some((4 << 20, 4 << 20)),
            },
            clock: Some(Clock {
                synchronised: true,
                max_error_ms: 12,
            }),
            users: Users {
                configured: true,
                preferred: true,
            },
            reader: None,
            unreadable: vec![],
            no_place: None,
            kernel: Kernel {
                release: Some("6.12.1".to_owned()),
                landlock: "Landlock ABI 6: no files".to_owned(),
                landlock_lacks: None,
                reuse_port: true,
                gso: true,
                gro: true,
            },
            memory: Memory {
                machine: Some(1 << 30),
                group: None,
            },
            cpus: 2,
        }
    }

    /// A socket of a program, if that is known.
    pub(in crate::cli::doctor) fn taken(address: &str, name: Option<&str>) -> Taken {
        Taken {
            address: address.parse().unwrap(),
            owner: name.map(|name| Owner {
                name: name.to_owned(),
                pid: 7,
            }),
        }
    }

    /// The configuration for it, with lines of TOML that are added to it: `relay.ports = "1-2"`.
    pub(in crate::cli::doctor) fn config(more: &[(&'static str, &str)]) -> Config {
        let flag = |key, value: &str| Flag {
            key,
            name: "--test",
            values: value
                .split(',')
                .map(|value| Zeroizing::new(value.to_owned()))
                .collect(),
            separator: '=',
        };
        let mut flags = vec![
            flag("listen.udp", "0.0.0.0:3478"),
            flag("listen.tcp", "0.0.0.0:3478"),
            flag("relay.addresses", "203.0.113.10"),
            flag("server.workers", "2"),
            flag(
                "auth.static_auth_secret",
                "a3f1c09e57d24b86a3f1c09e57d24b99",
            ),
        ];
        for (key, value) in more {
            flags.retain(|flag| flag.key != *key);
            flags.push(flag(key, value));
        }
        let sources = Sources {
            file: None,
            environment: Environment::default(),
            flags,
        };
        let host = Host::probe().of_any_machine();
        load(&sources, &host).unwrap().config
    }
}
