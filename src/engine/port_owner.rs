//! Which process has a port, for the error message of a server that cannot have it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::turn::Transport;

/// Processes that are looked at; a host with more gets a message without a name.
const PROCESSES_MAX: usize = 20_000;

/// A process whose socket is in the way of an address, as `name (pid N)`. `None` if there is none, or
/// this user may not see it.
pub(super) fn find(transport: Transport, address: SocketAddr) -> Option<String> {
    let inodes = inodes(transport, address);
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc")
        .ok()?
        .flatten()
        .take(PROCESSES_MAX)
        .find_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            let open = fs::read_dir(process.path().join("fd")).ok()?;
            let has_socket = open.flatten().any(|fd| {
                let target = fs::read_link(fd.path());
                target.is_ok_and(|target| {
                    target
                        .to_str()
                        .and_then(socket_inode)
                        .is_some_and(|inode| inodes.contains(&inode))
                })
            });
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            has_socket.then(|| format!("{} (pid {pid})", name.trim_end()))
        })
}

/// The inodes of the sockets that are in the way of an address, from `/proc/self/net`.
fn inodes(transport: Transport, address: SocketAddr) -> Vec<u64> {
    let tables = match transport {
        Transport::Udp => ["/proc/self/net/udp", "/proc/self/net/udp6"],
        Transport::Tcp => ["/proc/self/net/tcp", "/proc/self/net/tcp6"],
    };
    let tables = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok());
    tables
        .flat_map(|table| {
            table
                .lines()
                .filter_map(|line| inode_of(line, address))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The inode of a line whose local address is this one, or either is every address of the port: the
/// second and the tenth column.
fn inode_of(line: &str, address: SocketAddr) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace();
    let (ip, port) = columns.nth(1)?.rsplit_once(':')?;
    let inode = columns.nth(7)?;
    let ip = parse_ip(ip)?;
    let conflicts = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    if u16::from_str_radix(port, 16).ok()? != address.port() || !conflicts {
        return None;
    }
    inode.parse().ok()
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

    fn own(found: Option<String>) -> bool {
        let own = format!("(pid {})", std::process::id());
        found.is_some_and(|found| found.ends_with(&own))
    }

    #[test]
    fn finds_this_process() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        assert!(own(find(Transport::Udp, udp.local_addr().unwrap())));
        assert!(own(find(Transport::Tcp, tcp.local_addr().unwrap())));
    }

    #[test]
    fn names_only_what_is_in_the_way() {
        let port = 3478;
        let line = |ip: &str| format!("1: {ip}:{port:04X} 00000000:0000 07 0:0 00:0 0 0 0 4711 2");
        let find =
            |line: &str, ip: &str| inode_of(line, SocketAddr::new(ip.parse().unwrap(), port));
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
