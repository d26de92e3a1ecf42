//! Which process has a port, for the error message of a server that cannot have it.

use std::fs;

use crate::turn::Transport;

/// Processes that are looked at; a host with more gets a message without a name.
const PROCESSES_MAX: usize = 20_000;

/// A process that has a local port open, as `name (pid N)`. `None` if there is none, or this
/// user may not see it.
pub(super) fn find(transport: Transport, port: u16) -> Option<String> {
    let inodes = inodes(transport, port);
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

/// The inodes of the sockets that are bound to a port, from `/proc/self/net`.
fn inodes(transport: Transport, port: u16) -> Vec<u64> {
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
                .filter_map(|line| inode_of(line, port))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The inode of a line whose local port is `port`: the second and the tenth column.
fn inode_of(line: &str, port: u16) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace();
    let (_, local_port) = columns.nth(1)?.rsplit_once(':')?;
    let inode = columns.nth(7)?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    inode.parse().ok()
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

    #[test]
    fn finds_this_process() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let owner = find(Transport::Udp, udp.local_addr().unwrap().port()).unwrap();
        assert!(
            owner.ends_with(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
        let owner = find(Transport::Tcp, tcp.local_addr().unwrap().port()).unwrap();
        assert!(
            owner.ends_with(&format!("(pid {})", std::process::id())),
            "{owner}"
        );
    }
}
