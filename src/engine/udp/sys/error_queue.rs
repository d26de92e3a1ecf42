//! The error queue: which datagrams of ours came to grief, and what was said about it.

use std::{io, net::SocketAddr, os::fd::AsRawFd, ptr};

use super::{
    UdpSocket,
    address::RawAddress,
    batch::empty_header,
    check,
    control::{ControlBuffer, messages},
};

/// Entries of other origins (timestamps, zero-copy completions) that one [`read_error`] steps over.
const FOREIGN_MAX: usize = 8;

/// An error about a datagram that was sent earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Where the datagram was sent to. The port is 0, unknown, if this host itself refused to send.
    pub peer: SocketAddr,
    /// ICMP or ICMPv6 type, by the family of `peer`. What is too long for this host's own interface
    /// has the type and code that a router would have used: 3 and 4.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// The next-hop MTU in octets for "fragmentation needed" and "packet too big"; otherwise
    /// whatever the ICMP message had.
    pub info: u32,
}

/// Takes the oldest error that waits on a relay socket; `None` if there is none.
///
/// Call it when [`Event::error`](super::Event::error) is set, until `None` or a limit is reached;
/// what is left is reported again.
///
/// # Errors
///
/// Those of recvmsg(2) on a working socket: `ENOMEM`.
pub fn read_error(socket: &UdpSocket) -> io::Result<Option<IcmpError>> {
    let mut control = ControlBuffer::new();
    let mut peer = RawAddress::unspecified();
    for _ in 0..FOREIGN_MAX {
        let mut header = empty_header().msg_hdr;
        header.msg_name = ptr::from_mut(&mut peer).cast();
        header.msg_namelen = RawAddress::SIZE;
        // The queue has the head of the datagram too. No buffer is given for it: it is ours.
        header.msg_control = control.as_mut_ptr();
        header.msg_controllen = ControlBuffer::SIZE as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points at a name and a control buffer, with their lengths.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) } == -1 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted => continue,
                _ => return Err(error),
            }
        }
        // SAFETY: the control pointer and length are those of `control`, the length as cut down by
        // the kernel; it is initialised, aligned, and not written to until the next round.
        let report =
            unsafe { messages(&header) }.find_map(|message| match (message.level, message.kind) {
                (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                    message.value::<libc::sock_extended_err>()
                }
                _ => None,
            });
        if let (Some(report), Some(peer)) = (report, peer.decode())
            && let Some(error) = interpret(&report, peer)
        {
            return Ok(Some(error));
        }
    }
    Ok(None)
}

fn interpret(report: &libc::sock_extended_err, peer: SocketAddr) -> Option<IcmpError> {
    let (icmp_type, icmp_code) = match report.ee_origin {
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => (report.ee_type, report.ee_code),
        // Only IPv4 datagrams are sent with the don't-fragment bit.
        libc::SO_EE_ORIGIN_LOCAL if report.ee_errno == libc::EMSGSIZE as u32 => (3, 4),
        _ => return None,
    };
    Some(IcmpError {
        peer,
        icmp_type,
        icmp_code,
        info: report.ee_info,
    })
}

/// Takes the error that waits to fail the next call on `socket` (`SO_ERROR`), if there is one.
///
/// A listener, which has no error queue, is readied again by this when epoll reports an error.
///
/// # Errors
///
/// Those of getsockopt(2), which are bugs.
pub fn take_pending_error(socket: &UdpSocket) -> io::Result<Option<io::Error>> {
    let mut errno: libc::c_int = 0;
    let mut len = size_of_val(&errno) as libc::socklen_t;
    // SAFETY: the value is an int and its length is given; both outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            ptr::from_mut(&mut errno).cast(),
            &mut len,
        )
    })?;
    Ok((errno != 0).then(|| io::Error::from_raw_os_error(errno)))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use socket2::{Domain, Protocol, SockAddr, Socket, Type};

    use super::{
        super::{
            Batch, HeaderFields, send_one_dont_fragment,
            testing::{closed_port, on_loopback_with_mtu, receive, relay, send, wait_for},
        },
        *,
    };

    fn error_of(socket: &UdpSocket) -> IcmpError {
        wait_for(socket, libc::POLLERR);
        read_error(socket).unwrap().unwrap()
    }

    #[test]
    fn a_closed_port_is_reported_and_the_socket_goes_on() {
        for (ip, icmp_type, icmp_code) in [("127.0.0.1:0", 3, 3), ("[::1]:0", 1, 4)] {
            let (socket, live) = (relay(ip), relay(ip));
            let peers = [closed_port(ip), closed_port(ip)];
            for peer in peers {
                send(&socket, b"anybody?", peer);
            }
            for peer in peers {
                let info = 0;
                let expected = IcmpError {
                    peer,
                    icmp_type,
                    icmp_code,
                    info,
                };
                assert_eq!(error_of(&socket), expected);
            }
            assert_eq!(read_error(&socket).unwrap(), None);
            assert!(take_pending_error(&socket).unwrap().is_none());

            send(&socket, b"out", live.local_addr());
            let mut batch = Batch::new(1);
            receive(&mut batch, &live, 1);
            send(&live, b"in", socket.local_addr());
            batch.clear();
            receive(&mut batch, &socket, 1);
            assert_eq!(batch.payload(0), b"in");
        }
    }

    #[test]
    fn a_pending_error_is_taken_once() {
        let socket = relay("127.0.0.1:0");
        send(&socket, b"anybody?", closed_port("127.0.0.1:0"));
        wait_for(&socket, libc::POLLERR);
        let error = take_pending_error(&socket).unwrap().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(take_pending_error(&socket).unwrap().is_none());
    }

    #[test]
    fn only_dont_fragment_is_held_to_the_mtu() {
        on_loopback_with_mtu(1300, || {
            let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
            let (peer, fields) = (to.local_addr(), HeaderFields::default());
            let mut batch = Batch::new(3);
            send(&from, &[1; 1400], peer);
            send_one_dont_fragment(&from, &[2; 1200], peer, &fields).unwrap();
            let error = send_one_dont_fragment(&from, &[3; 1400], peer, &fields).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            send(&from, &[4; 1400], peer);
            receive(&mut batch, &to, 3);
            assert_eq!([0, 1, 2].map(|slot| batch.payload(slot)[0]), [1, 2, 4]);

            let expected = IcmpError {
                peer: SocketAddr::new(peer.ip(), 0),
                icmp_type: 3,
                icmp_code: 4,
                info: 1300,
            };
            assert_eq!(error_of(&from), expected);
            assert_eq!(read_error(&from).unwrap(), None);
        });
    }

    #[test]
    fn fragmentation_needed_on_the_path_is_reported() {
        on_loopback_with_mtu(65_536, || {
            let socket = relay("127.0.0.1:0");
            let peer: SocketAddrV4 = "127.0.0.2:9".parse().unwrap();
            let router = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
            let message = fragmentation_needed(socket.local_addr().port(), peer, 1400);
            let to: SocketAddr = "127.0.0.1:0".parse().unwrap();
            router.send_to(&message, &SockAddr::from(to)).unwrap();
            let expected = IcmpError {
                peer: peer.into(),
                icmp_type: 3,
                icmp_code: 4,
                info: 1400,
            };
            assert_eq!(error_of(&socket), expected);
        });
    }

    /// What a router says of a datagram from 127.0.0.1 and `port` (RFC 792, RFC 1191).
    fn fragmentation_needed(port: u16, peer: SocketAddrV4, mtu: u16) -> Vec<u8> {
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend([0x45, 0, 5, 200, 0, 1, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1]);
        message.extend(peer.ip().octets());
        message.extend(port.to_be_bytes());
        message.extend(peer.port().to_be_bytes());
        message.extend([5, 180, 0, 0]);
        let words = message
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum: u32 = words.sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }
}
