//! Which process has a port, for the error message of a server that cannot have it, and for who
//! wants to know before.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::turn::Transport;

/// Processes that are looked at; a host with more gets a message without a name.
const PROCESSES_MAX: usize = 20_000;

/// The state of a TCP socket that listens, as the kernel prints it.
const LISTENING: &str = "0A";

/// A process that has a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// The name of its program, as the kernel has it.
    pub name: String,
    /// Its number.
    pub pid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// A local address that a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The address; an unspecified one is every address of the machine.
    pub address: SocketAddr,
    /// Whose socket it is. `None` if this user may not see it.
    pub owner: Option<Owner>,
}

impl Taken {
    /// Whether the socket is in the way of one on `address`.
    pub fn is_in_the_way_of(&self, address: SocketAddr) -> bool {
        conflict(self.address, address)
    }
}

/// The bound sockets whose ports are `wanted`: all UDP sockets, of TCP those that listen.
pub fn taken(transport: Transport, wanted: impl Fn(u16) -> bool) -> Vec<Taken> {
    let mut sockets = sockets(transport);
    sockets.retain(|socket| {
        wanted(socket.address.port()) && (!transport.is_stream() || socket.listens)
    });
    let inodes: Vec<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let owners = owners(&inodes, inodes.len());
    let taken = sockets.into_iter().map(|socket| Taken {
        address: socket.address,
        owner: owners.get(&socket.inode).cloned(),
    });
    taken.collect()
}

/// A process whose socket is in the way of an address. `None` if there is none, or this user may not
/// see it.
pub(super) fn find(transport: Transport, address: SocketAddr) -> Option<Owner> {
    let sockets = sockets(transport);
    let in_the_way = sockets
        .iter()
        .filter(|socket| conflict(socket.address, address));
    let inodes: Vec<u64> = in_the_way.map(|socket| socket.inode).collect();
    owners(&inodes, 1).into_values().next()
}

/// The processes that have these sockets, until so many sockets are explained.
fn owners(inodes: &[u64], enough: usize) -> HashMap<u64, Owner> {
    let mut owners = HashMap::new();
    if inodes.is_empty() {
        return owners;
    }
    let Ok(processes) = fs::read_dir("/proc") else {
        return owners;
    };
    for process in processes.flatten().take(PROCESSES_MAX) {
        if owners.len() >= enough {
            break;
        }
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let open = open.flatten().filter_map(|fd| {
            let target = fs::read_link(fd.path()).ok()?;
            socket_inode(target.to_str()?).filter(|inode| inodes.contains(inode))
        });
        let open: Vec<u64> = open.collect();
        if open.is_empty() {
            continue;
        }
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let name = name.trim_end().to_owned();
        for inode in open {
            let name = name.clone();
            owners.entry(inode).or_insert(Owner { name, pid });
        }
    }
    owners
}

/// A line of a table of sockets.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    listens: bool,
    inode: u64,
}

fn sockets(transport: Transport) -> Vec<Socket> {
    let tables = match transport {
        Transport::Udp | Transport::Dtls => ["/proc/self/net/udp", "/proc/self/net/udp6"],
        Transport::Tcp | Transport::Tls => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
    };
    let tables = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok());
    tables
        .flat_map(|table| table.lines().filter_map(socket_of).collect::<Vec<_>>())
        .collect()
}

/// Local address, state and inode: the second, fourth and tenth column.
fn socket_of(line: &str) -> Option<Socket> {
    let mut columns = line.split_ascii_whitespace();
    let (ip, port) = columns.nth(1)?.rsplit_once(':')?;
    let state = columns.nth(1)?;
    let inode = columns.nth(5)?;
    Some(Socket {
        address: SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?),
        listens: state == LISTENING,
        inode: inode.parse().ok()?,
    })
}

/// Whether two sockets cannot both be bound: the port is the same, and so is the address, or either
/// is every address.
fn conflict(a: SocketAddr, b: SocketAddr) -> bool {
    let (ip, other) = (a.ip(), b.ip());
    a.port() == b.port() && (ip == other || ip.is_unspecified() || other.is_unspecified())
}

/// An address as the kernel prints it: its 32-bit words, each in the byte order of this machine.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut octets = [0; 16];
    let words = hex.as_bytes().chunks(8).zip(octets.chunks_mut(4));
    for (word, octets) in words {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.copy_from_slice(&word.to_ne_bytes());
    }
    match hex.len() {
        8 => octets.first_chunk::<4>().map(|&v4| v4.into()),
        32 => Some(IpAddr::from(octets).to_canonical()),
        _ => None,
    }
}

/// The inode in a link such as `socket:[4711]`.
fn socket_inode(target: &str) -> Option<u64> {
    target
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn own(found: Option<Owner>) -> bool {
        found.is_some_and(|found| found.pid == std::process::id())
    }

    #[test]
    fn finds_this_process() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        assert!(own(find(Transport::Udp, udp.local_addr().unwrap())));
        assert!(own(find(Transport::Tcp, tcp.local_addr().unwrap())));
        let (udp, tcp) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        for (transport, address) in [(Transport::Udp, udp), (Transport::Tcp, tcp)] {
            let mut found = taken(transport, |port| port == address.port());
            found.retain(|taken| taken.address == address);
            let [found] = found.as_slice() else {
                panic!("{found:?}");
            };
            assert!(own(found.owner.clone()) && found.is_in_the_way_of(address));
        }
    }

    #[test]
    fn a_tcp_socket_that_does_not_listen_has_no_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = client.local_addr().unwrap().port();
        let found = taken(Transport::Tcp, |taken| taken == port);
        assert!(found.iter().all(|taken| !own(taken.owner.clone())));
    }

    #[test]
    fn names_only_what_is_in_the_way() {
        let port = 3478;
        let line = |ip: &str| format!("1: {ip}:{port:04X} 00000000:0000 07 0:0 00:0 0 0 0 4711 2");
        let find = |line: &str, ip: &str| {
            let socket = socket_of(line)?;
            conflict(socket.address, SocketAddr::new(ip.parse().unwrap(), port))
                .then_some(socket.inode)
        };
        let loopback = line(&format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1])));
        assert_eq!(find(&loopback, "127.0.0.1"), Some(4711));
        assert_eq!(find(&loopback, "0.0.0.0"), Some(4711));
        assert_eq!(find(&loopback, "::"), Some(4711));
        assert_eq!(find(&loopback, "127.0.0.2"), None);
        assert_eq!(find(&line("00000000"), "127.0.0.2"), Some(4711));
        let one = format!("{:024X}{:08X}", 0, u32::from_ne_bytes([0, 0, 0, 1]));
        assert_eq!(find(&line(&one), "::1"), Some(4711));
        assert_eq!(find(&line(&one), "::2"), None);
        assert_eq!(find(&line("0"), "::1"), None);
    }
}
