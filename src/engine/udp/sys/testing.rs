//! What the tests of this module share.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use socket2::{Domain, Socket, Type};

use super::{Batch, BufferSizes, HeaderFields, ListenerOptions, UdpSocket, check, send_one};

pub(super) fn listener(addr: &str) -> UdpSocket {
    UdpSocket::listener(addr.parse().unwrap(), &ListenerOptions::default()).unwrap()
}

pub(super) fn relay(addr: &str) -> UdpSocket {
    UdpSocket::relay(addr.parse().unwrap(), BufferSizes::default()).unwrap()
}

/// The port of `socket` on another of its addresses.
pub(super) fn at(ip: &str, socket: &UdpSocket) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), socket.local_addr().port())
}

/// An address where nobody listens: bound a moment ago, and closed again.
pub(super) fn closed_port(addr: &str) -> SocketAddr {
    relay(addr).local_addr()
}

pub(super) fn send(from: &UdpSocket, payload: &[u8], to: SocketAddr) {
    send_one(from, payload, to, &HeaderFields::default()).unwrap();
}

/// Waits for one of `events` (poll(2)); panics if none comes within 5 s.
pub(super) fn wait_for(socket: &impl AsRawFd, events: libc::c_short) {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one structure is passed, and it outlives the call.
    check(unsafe { libc::poll(&mut poll, 1, 5000) }).unwrap();
    assert_ne!(
        poll.revents & events,
        0,
        "nothing came, poll says {:#x}",
        poll.revents
    );
}

/// Receives until `batch` holds `count` datagrams.
pub(super) fn receive(batch: &mut Batch, socket: &UdpSocket, count: usize) {
    while batch.len() < count {
        wait_for(socket, libc::POLLIN);
        batch.receive(socket).unwrap();
    }
    assert_eq!(batch.len(), count);
}

/// Runs `test` on a loopback interface of its own with an MTU of `mtu` octets. Says so and returns
/// if that is not permitted: it takes `CAP_SYS_ADMIN`.
pub(super) fn on_loopback_with_mtu(mtu: libc::c_int, test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: no memory is involved, and the thread ends with the test.
        if let Err(error) = check(unsafe { libc::unshare(libc::CLONE_NEWNET) }) {
            eprintln!("skipped: no network namespace: {error}");
            return;
        }
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        // SAFETY: `ifreq` is plain data, for which all zeros is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
        request.ifr_ifru.ifru_mtu = mtu;
        // SAFETY: the request is one that this ioctl reads.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU as _, &request) }).unwrap();
        request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
        // SAFETY: the request is one that this ioctl reads.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) })
            .unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
