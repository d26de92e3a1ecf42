//! A peer: any UDP socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::{DEADLINE, uninterrupted};

pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
}

impl Peer {
    pub(crate) fn new() -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into())
    }

    pub(crate) fn on(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn send(&self, data: &[u8], to: SocketAddr) {
        assert_eq!(self.socket.send_to(data, to).unwrap(), data.len());
    }

    pub(crate) fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        let (len, from) = uninterrupted(|| self.socket.recv_from(&mut buffer)).expect("a datagram");
        buffer.truncate(len);
        (buffer, from)
    }

    /// Receives a datagram, which must be this one.
    #[track_caller]
    pub(crate) fn expect(&self, data: &[u8], from: SocketAddr) {
        let (received, source) = self.recv();
        assert!(
            received == data && source == from,
            "{} bytes from {source} instead of {} from {from}",
            received.len(),
            data.len()
        );
    }
}
