//! One socket to the server: datagrams, or the frames of a stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use serde::Serialize;

use super::failure::Failure;
use super::tls::{Handshake, Tls};
use crate::wire::{Frame, PacketKind, classify, next_frame};

/// How the client talks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    /// The name that people read.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// Bytes of the largest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(Stream),
}

#[derive(Debug)]
struct Stream {
    tcp: TcpStream,
    /// `None` on plain TCP.
    tls: Option<Box<ClientConnection>>,
    /// Bytes that are no whole frame yet.
    pending: Vec<u8>,
    /// Letters look like ChannelData, which comes only after some STUN message.
    has_carried_stun: bool,
}

impl Link {
    /// Opens a socket of its own and connects it. For TLS that is TCP, until [`Link::shake_hands`].
    pub(super) fn open(
        transport: Transport,
        server: SocketAddr,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let socket = match transport {
            Transport::Udp => Socket::Udp(open_udp(server).map_err(Failure::from_io)?),
            Transport::Tcp | Transport::Tls => Socket::Tcp(Stream::open(server, deadline)?),
        };
        Ok(Self { socket })
    }

    /// Speaks TLS from here on. Only a stream can.
    pub(super) fn shake_hands(
        &mut self,
        tls: &Tls,
        deadline: Instant,
    ) -> Result<Handshake, Failure> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.shake_hands(tls, deadline),
            Socket::Udp(_) => unreachable!("TLS is asked for on streams alone"),
        }
    }

    /// Whether the transport neither loses nor frames what it carries.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    /// The address of this machine from which the server is reached.
    pub(super) fn local_ip(&self) -> Option<IpAddr> {
        let address = match &self.socket {
            Socket::Udp(socket) => socket.local_addr(),
            Socket::Tcp(stream) => stream.tcp.local_addr(),
        };
        Some(address.ok()?.ip())
    }

    /// Sends one datagram, or one frame with its padding.
    pub(super) fn send(&mut self, packet: &[u8]) -> Result<(), Failure> {
        match &mut self.socket {
            Socket::Udp(socket) => socket
                .send(packet)
                .map(drop)
                .map_err(Failure::from_datagram_io),
            Socket::Tcp(stream) => stream.send(packet).map_err(from_stream_io),
        }
    }

    /// The next datagram or frame, `None` if there is none until `deadline`.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        match &mut self.socket {
            Socket::Udp(socket) => receive_datagram(socket, deadline),
            Socket::Tcp(stream) => stream.receive(deadline),
        }
    }
}

fn open_udp(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    // A connected socket hears of ICMP errors, and of nobody but the server.
    socket.connect(server)?;
    Ok(socket)
}

fn receive_datagram(socket: &UdpSocket, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let Some(timeout) = time_left(deadline) else {
            return Ok(None);
        };
        socket
            .set_read_timeout(Some(timeout))
            .map_err(Failure::from_io)?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(Some(buffer));
            }
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(Failure::from_datagram_io(error)),
        }
    }
}

impl Stream {
    fn open(server: SocketAddr, deadline: Instant) -> Result<Self, Failure> {
        let started = Instant::now();
        let timeout = time_left(deadline).ok_or(Failure::TimeUp)?;
        let tcp =
            TcpStream::connect_timeout(&server, timeout).map_err(|error| match error.kind() {
                ErrorKind::ConnectionRefused => Failure::ConnectionRefused,
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::ConnectTimeout {
                    waited: started.elapsed(),
                },
                _ => Failure::from_io(error),
            })?;
        // Nagle's algorithm would be measured as the server's delay.
        tcp.set_nodelay(true).map_err(Failure::from_io)?;
        tcp.set_write_timeout(Some(timeout))
            .map_err(Failure::from_io)?;
        Ok(Self {
            tcp,
            tls: None,
            pending: Vec::new(),
            has_carried_stun: false,
        })
    }

    fn shake_hands(&mut self, tls: &Tls, deadline: Instant) -> Result<Handshake, Failure> {
        let started = Instant::now();
        let mut session = tls.session().map_err(|error| Failure::of_tls(error, tls))?;
        let (mut buffer, mut is_tls) = ([0; 4096], false);
        while session.is_handshaking() {
            flush(&mut session, &mut self.tcp).map_err(from_handshake_io)?;
            let Some(timeout) = time_left(deadline) else {
                let waited = started.elapsed();
                return Err(Failure::HandshakeTimeout { waited });
            };
            self.tcp
                .set_read_timeout(Some(timeout))
                .map_err(Failure::from_io)?;
            let len = match self.tcp.read(&mut buffer) {
                Ok(0) => return Err(Failure::HandshakeClosed),
                Ok(len) => len,
                Err(error) if is_temporary(&error) => continue,
                Err(error) => return Err(from_handshake_io(error)),
            };
            // An alert or a handshake, in a record of SSL 3.0 or later.
            if !is_tls && !matches!(buffer[0], 0x15 | 0x16) {
                return Err(Failure::no_tls(&buffer[..len]));
            }
            is_tls = true;
            let clear = take_in(&mut session, &buffer[..len]).map_err(|error| {
                // The server hears why, if it still listens.
                let _ = flush(&mut session, &mut self.tcp);
                Failure::of_tls(error, tls)
            })?;
            self.pending.extend(clear);
        }
        flush(&mut session, &mut self.tcp).map_err(from_handshake_io)?;
        let handshake = tls.handshake(&session);
        self.tls = Some(Box::new(session));
        Ok(handshake)
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.tls else {
            return self.tcp.write_all(packet);
        };
        session.writer().write_all(packet)?;
        flush(session, &mut self.tcp)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, Failure> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            let Some(timeout) = time_left(deadline) else {
                return Ok(None);
            };
            self.tcp
                .set_read_timeout(Some(timeout))
                .map_err(Failure::from_io)?;
            match self.tcp.read(&mut buffer) {
                Ok(0) => return Err(Failure::Closed),
                Ok(len) => self.take_bytes(&buffer[..len])?,
                Err(error) if is_temporary(&error) => {}
                Err(error) => return Err(from_stream_io(error)),
            }
        }
    }

    /// Takes what has arrived, decrypted if it is TLS.
    fn take_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(session) = &mut self.tls else {
            self.pending.extend_from_slice(bytes);
            return Ok(());
        };
        let clear = take_in(session, bytes).map_err(Failure::within_tls)?;
        self.pending.extend(clear);
        // An answer to the server's change of keys.
        flush(session, &mut self.tcp).map_err(from_stream_io)
    }

    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let is_stun = classify(&self.pending) == PacketKind::Stun;
        if !self.pending.is_empty() && !is_stun && !self.has_carried_stun {
            return Err(Failure::not_stun(&self.pending));
        }
        match next_frame(&self.pending) {
            Ok(Frame::Complete { len }) => {
                self.has_carried_stun |= is_stun;
                let rest = self.pending.split_off(len);
                Ok(Some(std::mem::replace(&mut self.pending, rest)))
            }
            Ok(Frame::Incomplete { .. }) => Ok(None),
            Err(_) => Err(Failure::not_stun(&self.pending)),
        }
    }
}

/// Sends what TLS has to send.
fn flush(session: &mut ClientConnection, tcp: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(tcp)?;
    }
    Ok(())
}

/// Decrypts.
fn take_in(session: &mut ClientConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut clear = Vec::new();
    while !bytes.is_empty() {
        // Memory does not fail, and what is decrypted is taken at once, so there is room.
        let taken = session.read_tls(&mut bytes).unwrap_or(0);
        let held = session.process_new_packets()?.plaintext_bytes_to_read();
        let start = clear.len();
        clear.resize(start + held, 0);
        let read = session.reader().read(&mut clear[start..]).unwrap_or(0);
        clear.truncate(start + read);
        if taken == 0 {
            break;
        }
    }
    Ok(clear)
}

/// `None` once the deadline has passed; never zero, which sockets take for "no timeout".
fn time_left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// A reset ends a stream as a close does.
fn from_stream_io(error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::from_io(error),
    }
}

/// The same before there is a stream.
fn from_handshake_io(error: io::Error) -> Failure {
    match from_stream_io(error) {
        Failure::Closed => Failure::HandshakeClosed,
        failure => failure,
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
