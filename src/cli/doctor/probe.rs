//! Looks at the real machine: files, sockets that are closed again at once, and programs that only
//! list. Nothing is changed, and nothing is sent.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::fs::Access;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, SockRef, Socket, Type};

use super::commands::{listing, unit};
use super::files::Root;
use super::firewall::{Firewall, Listings};
use super::listeners;
use super::machine::{Buffers, Files, Kernel, Machine, Network, Ports, Unit, Users};
use super::ports::is_server;
use super::timex::Clock;
use crate::cli::acme;
use crate::config::{Config, Host, unreadable};
use crate::engine::port_owner::{Owner, taken};
use crate::engine::{RECEIVE_BUFFER, udp};
use crate::process::{self, Openings, PREFERRED_USER, Reader, Sandbox};
use crate::turn::Transport;

/// The kernel's own default of `net.ipv4.ip_unprivileged_port_start`.
const UNPRIVILEGED_PORT_START: u16 = 1024;

/// Octets of a segment, to ask for segmentation with.
const SEGMENT: i32 = 1200;

pub(super) fn machine(config: &Config, host: &Host, read: &[PathBuf]) -> Machine {
    let root = Root::new("/");
    let ports = ports(config, &root);
    let running = running(config, &ports);
    let files = Files {
        hard: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        most: root.sysctl("fs/nr_open").unwrap_or(0),
        running: running.and_then(|owner| root.file_limit(owner.pid)),
    };
    let unit = unit();
    let configured = config.server.user.as_deref();
    let reader = reader(unit.as_ref(), configured);
    Machine {
        network: network(config, host),
        ports,
        firewall: Firewall::read(&Listings {
            nft: listing("nft", &["-j", "list", "ruleset"]),
            iptables: listing("iptables-save", &[]),
            ip6tables: listing("ip6tables-save", &[]),
        }),
        interfaces: root.default_interfaces(),
        conntrack: root.conntrack(),
        rights: root.rights(rustix::process::geteuid().is_root()),
        unreadable: reader.as_ref().map_or_else(Vec::new, |reader| {
            let files = read.iter();
            files.filter_map(|file| unreadable(file, reader)).collect()
        }),
        reader: reader.map(|reader| reader.name),
        unit,
        files,
        buffers: Buffers {
            receive_max: root.sysctl("net/core/rmem_max"),
            send_max: root.sysctl("net/core/wmem_max"),
            got: buffers(),
        },
        clock: Clock::read(),
        users: Users {
            configured: configured.is_none_or(process::is_user),
            preferred: process::is_user(PREFERRED_USER),
        },
        no_place: no_place(),
        kernel: kernel(&root),
        memory: root.memory(),
        cpus: host.cpus,
    }
}

/// Who reads the files while the server runs; `None` if it is whoever runs the doctor.
fn reader(unit: Option<&Unit>, configured: Option<&str>) -> Option<Reader> {
    let Some(unit) = unit.filter(|unit| !unit.is_root()) else {
        return process::successor(configured);
    };
    let mut reader = process::reader_of(&unit.user)?;
    let groups = unit.groups.iter();
    reader
        .groups
        .extend(groups.filter_map(|name| process::group_number(name)));
    Some(reader)
}

/// The server that has one of the listeners, which others of its kind have not.
fn running<'a>(config: &Config, ports: &'a Ports) -> Option<&'a Owner> {
    let udp = config.listen.udp.iter().map(|a| (&ports.udp, *a));
    let tcp = config.listen.of_tcp().map(|a| (&ports.tcp, *a));
    let mut taken = udp
        .chain(tcp)
        .filter_map(|(taken, address)| Ports::in_the_way(taken, address));
    taken.find(|taken| is_server(taken))?.owner.as_ref()
}

fn network(config: &Config, host: &Host) -> Network {
    let listeners = listeners::all(config).into_iter();
    let listeners = listeners.map(|listener| listener.address.ip());
    let external = config.relay.external.iter().map(|(_, outside)| *outside);
    let asked = listeners
        .chain(config.relay.addresses.iter().copied())
        .chain(external);
    let bindable = asked.filter(|ip| !ip.is_unspecified() && (host.bindable)(*ip));
    let mut addresses: Vec<IpAddr> = bindable.collect();
    addresses.extend(&host.interface_addresses);
    addresses.extend(&host.route_sources);
    Network {
        addresses,
        routes: host.route_sources.clone(),
        ipv6: host.ipv6,
    }
}

fn ports(config: &Config, root: &Root) -> Ports {
    let listeners = listeners::all(config);
    let is_one = |transport, port| {
        let mut listeners = listeners.iter();
        listeners.any(|it| it.transport == transport && it.address.port() == port)
    };
    let unprivileged = root.sysctl("net/ipv4/ip_unprivileged_port_start");
    let unprivileged = unprivileged.and_then(|port| u16::try_from(port).ok());
    Ports {
        udp: taken(Transport::Udp, |port| {
            config.relay.ports.contains(&port) || is_one(Transport::Udp, port)
        }),
        tcp: taken(Transport::Tcp, |port| is_one(Transport::Tcp, port)),
        local: root.local_ports(),
        reserved: root.reserved_ports(),
        unprivileged: unprivileged.unwrap_or(UNPRIVILEGED_PORT_START),
    }
}

/// Why the directory of ACME's files cannot be made or written to, by what there is of it.
fn no_place() -> Option<String> {
    let place = match acme::place() {
        Ok(place) => place,
        Err(error) => return Some(error.to_string()),
    };
    let nearest = place.ancestors().find(|path| path.exists())?;
    let access = rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK);
    let error = access.err()?;
    Some(format!(
        "{} cannot be written to ({error})",
        nearest.display()
    ))
}

/// What a socket gets that asks as a listener does.
fn buffers() -> Option<(u64, u64)> {
    let options = udp::sys::ListenerOptions {
        buffers: udp::sys::BufferSizes {
            receive: Some(RECEIVE_BUFFER),
            send: Some(RECEIVE_BUFFER),
        },
        ..Default::default()
    };
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let socket = udp::sys::UdpSocket::listener(any, &options).ok()?;
    let socket = SockRef::from(&socket);
    // The kernel doubles what is asked for, for its own book-keeping (socket(7)).
    let receive = socket.recv_buffer_size().ok()? / 2;
    let send = socket.send_buffer_size().ok()? / 2;
    Some((receive as u64, send as u64))
}

fn kernel(root: &Root) -> Kernel {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).map(UdpSocket::from);
    let has = |set: &dyn Fn(&UdpSocket) -> bool| socket.as_ref().is_ok_and(set);
    // Landlock works by thread, and this one ends at once.
    let sandbox = thread::spawn(|| {
        let sandbox = Sandbox::enter(Openings::default());
        (sandbox.to_string(), sandbox.lacking())
    });
    let (landlock, landlock_lacks) = sandbox.join().unwrap_or_else(|_| {
        let lacks = "Landlock (it cannot be tried)".to_owned();
        (String::new(), Some(lacks))
    });
    Kernel {
        release: root.release(),
        landlock,
        landlock_lacks,
        reuse_port: has(&|socket| SockRef::from(socket).set_reuse_port(true).is_ok()),
        gso: has(&|socket| setsockopt(socket, sockopt::UdpGsoSegment, &SEGMENT).is_ok()),
        gro: has(&|socket| setsockopt(socket, sockopt::UdpGroSegment, &true).is_ok()),
    }
}
