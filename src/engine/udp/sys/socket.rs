//! UDP sockets, set up as a relay server wants them.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{address::canonical, check};

// The libc crate lacks these on Linux. Values of asm-generic/socket.h.
const SO_SNDBUFFORCE: libc::c_int = 32;
const SO_RCVBUFFORCE: libc::c_int = 33;

/// Numbers that `SO_MEMINFO` (Linux 4.12) returns, by linux/sock_diag.h. `SO_RXQ_OVFL` would tell the
/// drops with the next datagram, and so not while none comes.
const SK_MEMINFO_VARS: usize = 9;

/// Kernel buffers of a socket in octets of payload; `None` leaves the system's default.
///
/// More than `net.core.rmem_max` or `wmem_max` needs `CAP_NET_ADMIN`; without it the kernel cuts
/// the request down silently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferSizes {
    /// For datagrams that have arrived and are not yet read.
    pub receive: Option<usize>,
    /// For datagrams that are not yet on the wire.
    pub send: Option<usize>,
}

/// How a listener differs from the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Share the port with the other sockets of this user that say the same; the kernel spreads
    /// clients over them by their 5-tuple (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Refuse IPv4 on an IPv6 wildcard.
    pub only_v6: bool,
    /// Kernel buffers.
    pub buffers: BufferSizes,
}

/// A bound, non-blocking UDP socket that reports the header fields of what it receives.
///
/// It sends without the don't-fragment bit and does no path MTU discovery (RFC 8656 section 14).
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    is_v6: bool,
}

impl UdpSocket {
    /// Binds a socket for clients. It reports the address that each datagram was sent to, so that
    /// the answer can leave from there.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2) as they are: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`,
    /// `EAFNOSUPPORT`, `EMFILE`, `ENFILE`...
    pub fn listener(addr: SocketAddr, options: &ListenerOptions) -> io::Result<Self> {
        let socket = Self::create(addr, options.only_v6, options.buffers)?;
        if options.reuse_port {
            socket.set_reuse_port(true)?;
        }
        // A dual-stack socket reports IPv4 destinations through the IPv6 option, as mapped.
        if canonical(addr).is_ipv6() {
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        } else {
            set_int(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        Self::bind(socket, addr)
    }

    /// Binds a relayed transport address; port 0 lets the kernel choose one. The port is shared
    /// with nobody, and ICMP errors are queued for [`read_error`](super::read_error).
    ///
    /// # Errors
    ///
    /// As for [`listener`](Self::listener).
    pub fn relay(addr: SocketAddr, buffers: BufferSizes) -> io::Result<Self> {
        let socket = Self::create(addr, true, buffers)?;
        if canonical(addr).is_ipv6() {
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
        } else {
            set_int(&socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
        }
        Self::bind(socket, addr)
    }

    fn create(addr: SocketAddr, only_v6: bool, buffers: BufferSizes) -> io::Result<Socket> {
        let is_v6 = canonical(addr).is_ipv6();
        let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
        // socket2 adds SOCK_CLOEXEC.
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if is_v6 {
            // The default is a sysctl's (net.ipv6.bindv6only).
            socket.set_only_v6(only_v6)?;
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, 1)?;
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            // DONT still fragments to the path MTU that routers report, as IPv6 senders must.
            let dont = libc::IPV6_PMTUDISC_DONT;
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont)?;
        }
        if !is_v6 || !only_v6 {
            set_int(&socket, libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
            set_int(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            set_int(
                &socket,
                libc::IPPROTO_IP,
                libc::IP_MTU_DISCOVER,
                MTU_DISCOVER_V4,
            )?;
        }
        if let Some(octets) = buffers.receive {
            set_buffer(&socket, SO_RCVBUFFORCE, libc::SO_RCVBUF, octets)?;
        }
        if let Some(octets) = buffers.send {
            set_buffer(&socket, SO_SNDBUFFORCE, libc::SO_SNDBUF, octets)?;
        }
        Ok(socket)
    }

    fn bind(socket: Socket, addr: SocketAddr) -> io::Result<Self> {
        let addr = canonical(addr);
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(addr);
        Ok(Self {
            fd: socket.into(),
            local,
            is_v6: addr.is_ipv6(),
        })
    }

    /// Shares the port from here on, as [`ListenerOptions::reuse_port`] does from the start. A port
    /// that the kernel chose for this socket alone is then nobody else's already.
    ///
    /// # Errors
    ///
    /// That of setsockopt(2).
    pub fn share_port(&self) -> io::Result<()> {
        set_int(self, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    }

    /// The address bound, with the port that the kernel chose if it was to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether this is an `AF_INET6` socket, dual-stack or not.
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Datagrams that the kernel has dropped at this socket since it was made, because its receive
    /// buffer was full (or a checksum wrong). It wraps.
    ///
    /// # Errors
    ///
    /// That of getsockopt(2).
    pub fn dropped(&self) -> io::Result<u32> {
        let mut counts = [0_u32; SK_MEMINFO_VARS];
        let mut len = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: the value is as many integers as its length says; both outlive the call.
        check(unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                ptr::from_mut(&mut counts).cast(),
                &mut len,
            )
        })?;
        Ok(counts[libc::SK_MEMINFO_DROPS as usize])
    }

    /// Runs `send` with the don't-fragment bit set on IPv4 datagrams.
    pub(super) fn with_dont_fragment_v4<T>(
        &self,
        send: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let set = |mode| set_int(self, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, mode);
        set(libc::IP_PMTUDISC_DO)?;
        let result = send();
        set(MTU_DISCOVER_V4)?;
        result
    }
}

/// Datagrams that the kernel has dropped at a socket since `counted` was [`UdpSocket::dropped`], which
/// it is again. A kernel that does not tell has dropped none.
pub fn newly_dropped(socket: &UdpSocket, counted: &mut u32) -> u64 {
    let dropped = socket.dropped().unwrap_or(*counted);
    let new = dropped.wrapping_sub(*counted);
    *counted = dropped;
    new.into()
}

/// Never the don't-fragment bit, and no path MTU: the interface's only.
///
/// `IP_PMTUDISC_DONT` would do the same on the wire, but makes the kernel swallow the "fragmentation
/// needed" errors that a peer's path sends back after a [`send_one_dont_fragment`]; and it lets
/// forged ones lower the MTU of the route for all.
///
/// [`send_one_dont_fragment`]: super::send_one_dont_fragment
const MTU_DISCOVER_V4: libc::c_int = libc::IP_PMTUDISC_OMIT;

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Asks for a kernel buffer past the system's limit, and without the privilege up to it.
fn set_buffer(
    socket: &Socket,
    force: libc::c_int,
    polite: libc::c_int,
    octets: usize,
) -> io::Result<()> {
    let octets = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
    set_int(socket, libc::SOL_SOCKET, force, octets)
        .or_else(|_| set_int(socket, libc::SOL_SOCKET, polite, octets))
}

fn set_int(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the value is an int that outlives the call, and its length is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use socket2::SockRef;

    use super::{
        super::{
            Batch,
            testing::{relay, send},
        },
        *,
    };

    #[test]
    fn a_taken_port_is_refused_by_name() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let first = relay(ip);
            let error = UdpSocket::relay(first.local_addr(), BufferSizes::default()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let options = ListenerOptions {
                reuse_port: true,
                ..Default::default()
            };
            let error = UdpSocket::listener(first.local_addr(), &options).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn an_address_of_another_host_is_refused_by_name() {
        let addr = "192.0.2.1:0".parse().unwrap();
        let error = UdpSocket::relay(addr, BufferSizes::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn listeners_share_a_port_only_if_they_say_so() {
        let options = ListenerOptions {
            reuse_port: true,
            ..Default::default()
        };
        let first = UdpSocket::listener("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        UdpSocket::listener(first.local_addr(), &options).unwrap();
        let error = UdpSocket::listener(first.local_addr(), &Default::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_ipv6_wildcard_leaves_ipv4_alone_if_told() {
        let options = ListenerOptions {
            only_v6: true,
            ..Default::default()
        };
        let v6 = UdpSocket::listener("[::]:0".parse().unwrap(), &options).unwrap();
        let v4 = SocketAddr::new([0, 0, 0, 0].into(), v6.local_addr().port());
        UdpSocket::listener(v4, &ListenerOptions::default()).unwrap();
    }

    #[test]
    fn a_mapped_address_makes_an_ipv4_socket() {
        let socket = relay("[::ffff:127.0.0.1]:0");
        assert!(!socket.is_v6() && socket.local_addr().is_ipv4());
    }

    #[test]
    fn what_a_full_buffer_loses_is_counted() {
        let buffers = BufferSizes {
            receive: Some(4096),
            send: None,
        };
        let slow = UdpSocket::relay("127.0.0.1:0".parse().unwrap(), buffers).unwrap();
        let sender = relay("127.0.0.1:0");
        assert_eq!(slow.dropped().unwrap(), 0);
        for _ in 0..100 {
            send(&sender, &[0; 1000], slow.local_addr());
        }
        let mut batch = Batch::new(100);
        let received = batch.receive(&slow).unwrap();
        assert!(received > 0);
        assert_eq!(slow.dropped().unwrap() as usize, 100 - received);
    }

    #[test]
    fn buffers_are_as_asked() {
        let buffers = BufferSizes {
            receive: Some(100_000),
            send: Some(50_000),
        };
        let socket = UdpSocket::relay("127.0.0.1:0".parse().unwrap(), buffers).unwrap();
        let fd = socket.as_fd();
        let socket = SockRef::from(&fd);
        // The kernel doubles the numbers, for its own book-keeping (socket(7)).
        assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
        assert_eq!(socket.send_buffer_size().unwrap(), 100_000);
        assert!(socket.nonblocking().unwrap());
    }
}
