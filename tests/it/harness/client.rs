//! A TURN client that does what it is told, right or wrong.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use md5::{Digest, Md5};
use sha2::Sha256;

use super::attribute::{
    CHANNEL_NUMBER, DATA, MESSAGE_INTEGRITY, NONCE, REALM, REQUESTED_TRANSPORT, USERNAME,
    XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS,
};
#[cfg(feature = "dtls")]
use super::dtls::DtlsStream;
use super::tls::{self, TlsStream};
use super::{Class, DEADLINE, Message, Packet, TestServer, method, uninterrupted};

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Udp,
    Udp6,
    Tcp,
    Tcp6,
    Tls,
    Tls6,
    #[cfg(feature = "dtls")]
    Dtls,
    #[cfg(feature = "dtls")]
    Dtls6,
}

/// Whether there is DTLS.
const DTLS: usize = cfg!(feature = "dtls") as usize;

impl Via {
    pub(crate) const ALL: [Self; 6 + 2 * DTLS] = [
        Self::Udp,
        Self::Udp6,
        Self::Tcp,
        Self::Tcp6,
        Self::Tls,
        Self::Tls6,
        #[cfg(feature = "dtls")]
        Self::Dtls,
        #[cfg(feature = "dtls")]
        Self::Dtls6,
    ];
    pub(crate) const V4: [Self; 3 + DTLS] = [
        Self::Udp,
        Self::Tcp,
        Self::Tls,
        #[cfg(feature = "dtls")]
        Self::Dtls,
    ];
    pub(crate) const STREAMS: [Self; 4] = [Self::Tcp, Self::Tcp6, Self::Tls, Self::Tls6];

    /// Never without the feature.
    pub(crate) fn is_dtls(self) -> bool {
        !self.is_stream() && ![Self::Udp, Self::Udp6].contains(&self)
    }

    pub(crate) fn is_stream(self) -> bool {
        Self::STREAMS.contains(&self)
    }
}

pub(crate) enum Link {
    Udp {
        socket: UdpSocket,
        server: SocketAddr,
    },
    Tcp {
        stream: TcpStream,
        /// Bytes that are no complete frame yet.
        input: Vec<u8>,
    },
    Tls {
        stream: Box<TlsStream>,
        /// Likewise.
        input: Vec<u8>,
    },
    #[cfg(feature = "dtls")]
    Dtls(Box<DtlsStream>),
}

/// What the server sends without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A Data indication with DATA.
    Data { peer: SocketAddr, data: Vec<u8> },
    /// ChannelData.
    Channel { number: u16, data: Vec<u8> },
    /// Any other STUN message.
    Message(Message),
}

impl Received {
    fn summary(&self) -> String {
        let (what, data) = match self {
            Self::Data { peer, data } => (format!("Data from {peer}"), data),
            Self::Channel { number, data } => (format!("channel {number:04x}"), data),
            Self::Message(message) => (format!("method {:03x}", message.method()), &message.bytes),
        };
        format!(
            "{what}, {} bytes {:02x?}",
            data.len(),
            &data[..data.len().min(20)]
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) realm: Vec<u8>,
    pub(crate) nonce: Vec<u8>,
}

pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) user: String,
    pub(crate) password: String,
    /// What the last challenge said.
    pub(crate) session: Option<Session>,
    waiting: VecDeque<Vec<u8>>,
}

impl Client {
    pub(crate) fn new(server: &TestServer, via: Via) -> Self {
        match via {
            Via::Udp => Self::udp_to(server.udp()),
            Via::Udp6 => Self::udp_to(server.udp6()),
            Via::Tcp => Self::tcp_to(server.tcp()),
            Via::Tcp6 => Self::tcp_to(server.tcp6()),
            Via::Tls => Self::tls_to(server.tls()),
            Via::Tls6 => Self::tls_to(server.tls6()),
            #[cfg(feature = "dtls")]
            Via::Dtls => Self::dtls_to(server.dtls()),
            #[cfg(feature = "dtls")]
            Via::Dtls6 => Self::dtls_to(server.dtls6()),
        }
    }

    pub(crate) fn udp(server: &TestServer) -> Self {
        Self::new(server, Via::Udp)
    }

    pub(crate) fn tcp(server: &TestServer) -> Self {
        Self::new(server, Via::Tcp)
    }

    /// From an address that no other client has where the family has more than one: an allocation
    /// outlives its client's socket, and the next one could get the same port.
    pub(crate) fn udp_to(server: SocketAddr) -> Self {
        Self::udp_from(UdpSocket::bind(own_address(server)).unwrap(), server)
    }

    /// Likewise, over DTLS.
    #[cfg(feature = "dtls")]
    pub(crate) fn dtls_to(server: SocketAddr) -> Self {
        Self::dtls_over(DtlsStream::connect(own_address(server), server))
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn dtls(server: &TestServer) -> Self {
        Self::new(server, Via::Dtls)
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn dtls_over(stream: DtlsStream) -> Self {
        Self::over(Link::Dtls(Box::new(stream)))
    }

    /// The client's end of DTLS.
    #[cfg(feature = "dtls")]
    pub(crate) fn dtls_stream(&mut self) -> &mut DtlsStream {
        match &mut self.link {
            Link::Dtls(stream) => stream,
            Link::Tcp { .. } | Link::Tls { .. } | Link::Udp { .. } => panic!("not DTLS"),
        }
    }

    pub(crate) fn udp_from(socket: UdpSocket, server: SocketAddr) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self::over(Link::Udp { socket, server })
    }

    pub(crate) fn tcp_to(server: SocketAddr) -> Self {
        Self::tcp_over(TcpStream::connect(server).unwrap())
    }

    pub(crate) fn tcp_over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let input = Vec::new();
        Self::over(Link::Tcp { stream, input })
    }

    pub(crate) fn tls(server: &TestServer) -> Self {
        Self::new(server, Via::Tls)
    }

    pub(crate) fn tls_to(server: SocketAddr) -> Self {
        Self::tls_over(tls::connect_default(TcpStream::connect(server).unwrap()))
    }

    pub(crate) fn tls_over(stream: TlsStream) -> Self {
        let (stream, input) = (Box::new(stream), Vec::new());
        Self::over(Link::Tls { stream, input })
    }

    fn over(link: Link) -> Self {
        Self {
            link,
            user: "alice".to_owned(),
            password: "wonderland".to_owned(),
            session: None,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn with_user(mut self, user: &str, password: &str) -> Self {
        (self.user, self.password) = (user.to_owned(), password.to_owned());
        self
    }

    pub(crate) fn local(&self) -> SocketAddr {
        match &self.link {
            Link::Udp { socket, .. } => socket.local_addr().unwrap(),
            Link::Tcp { .. } | Link::Tls { .. } => self.stream().local_addr().unwrap(),
            #[cfg(feature = "dtls")]
            Link::Dtls(stream) => stream.local,
        }
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.link, Link::Tcp { .. } | Link::Tls { .. })
    }

    /// Whether it speaks DTLS; never without the feature.
    pub(crate) fn is_dtls(&self) -> bool {
        #[cfg(feature = "dtls")]
        if matches!(self.link, Link::Dtls(_)) {
            return true;
        }
        false
    }

    /// The UDP socket.
    pub(crate) fn socket(&self) -> &UdpSocket {
        match &self.link {
            Link::Udp { socket, .. } => socket,
            _ => panic!("not UDP"),
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        match &self.link {
            Link::Tcp { stream, .. } => stream,
            Link::Tls { stream, .. } => &stream.sock,
            _ => panic!("not TCP"),
        }
    }

    /// The client's end of TLS.
    pub(crate) fn tls_stream(&mut self) -> &mut TlsStream {
        match &mut self.link {
            Link::Tls { stream, .. } => stream,
            _ => panic!("not TLS"),
        }
    }

    // Bytes.

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.link {
            Link::Udp { socket, server } => {
                assert_eq!(socket.send_to(bytes, *server).unwrap(), bytes.len());
            }
            Link::Tcp { stream, .. } => stream.write_all(bytes).unwrap(),
            Link::Tls { stream, .. } => stream.write_all(bytes).unwrap(),
            #[cfg(feature = "dtls")]
            Link::Dtls(stream) => stream.send(bytes),
        }
    }

    /// The next frame, whatever it is. A datagram from anywhere but the server's address and port
    /// fails the test.
    pub(crate) fn recv(&mut self) -> Vec<u8> {
        if let Some(frame) = self.waiting.pop_front() {
            return frame;
        }
        self.recv_from_link()
    }

    fn recv_from_link(&mut self) -> Vec<u8> {
        match &mut self.link {
            Link::Udp { socket, server } => {
                let mut buffer = vec![0; 65_536];
                let (len, from) =
                    uninterrupted(|| socket.recv_from(&mut buffer)).expect("a datagram");
                assert_eq!(from, *server, "a reply from where the request was sent to");
                buffer.truncate(len);
                buffer
            }
            Link::Tcp { stream, input } => next_frame(stream, input),
            Link::Tls { stream, input } => next_frame(stream, input),
            #[cfg(feature = "dtls")]
            Link::Dtls(stream) => stream.recv().expect("the session is open"),
        }
    }

    /// Waits until the server closes the connection, and returns what it said before.
    pub(crate) fn expect_close(&mut self) -> Vec<u8> {
        match &mut self.link {
            Link::Tcp { stream, input } => read_to_close(stream, input),
            Link::Tls { stream, input } => read_to_close(stream, input),
            _ => panic!("not TCP"),
        }
    }

    // Messages.

    /// Sends a request and returns the response with its transaction id; what comes before it waits
    /// to be received.
    pub(crate) fn exchange(&mut self, request: &Packet) -> Message {
        self.send(request.bytes());
        let mut earlier = VecDeque::new();
        let reply = loop {
            let frame = self.recv();
            if frame[0] < 0x40 && frame[8..20] == request.id() {
                break Message::parse(&frame);
            }
            earlier.push_back(frame);
        };
        earlier.append(&mut self.waiting);
        self.waiting = earlier;
        assert!(matches!(reply.class(), Class::Success | Class::Error));
        assert_eq!(
            reply.bytes[..2],
            [
                request.bytes()[0] | 0x01,
                request.bytes()[1] | (reply.bytes[1] & 0x10)
            ],
            "the method of the request"
        );
        reply
    }

    /// Sends bytes that must not be answered: the next thing to arrive is the reply to a Binding
    /// request.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self, bytes: &[u8]) {
        self.send(bytes);
        self.expect_nothing();
    }

    /// Nothing has been sent to this client.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        let probe = Packet::binding();
        self.send(probe.bytes());
        let next = self.recv();
        assert!(
            next.get(8..20) == Some(&probe.id()) && next[..2] == [1, 1],
            "instead of silence: {next:02x?}"
        );
    }

    pub(crate) fn next(&mut self) -> Received {
        let frame = self.recv();
        if frame[0] >= 0x40 {
            return self.channel_data(&frame);
        }
        let message = Message::parse(&frame);
        let is_data = (message.class(), message.method()) == (Class::Indication, method::DATA);
        match message.get(DATA) {
            Some(data) if is_data => Received::Data {
                peer: message.address(XOR_PEER_ADDRESS),
                data: data.to_vec(),
            },
            _ => Received::Message(message),
        }
    }

    fn channel_data(&self, frame: &[u8]) -> Received {
        let len = usize::from(u16::from_be_bytes([frame[2], frame[3]]));
        let padding = &frame[4 + len..];
        let expected = if self.is_stream() {
            len.next_multiple_of(4) - len
        } else {
            0
        };
        assert_eq!(padding, &[0; 3][..expected], "padding of ChannelData");
        Received::Channel {
            number: u16::from_be_bytes([frame[0], frame[1]]),
            data: frame[4..4 + len].to_vec(),
        }
    }

    #[track_caller]
    pub(crate) fn expect_data(&mut self, peer: SocketAddr, data: &[u8]) {
        let expected = Received::Data {
            peer,
            data: data.to_vec(),
        };
        let next = self.next();
        assert!(
            next == expected,
            "{} instead of {}",
            next.summary(),
            expected.summary()
        );
    }

    #[track_caller]
    pub(crate) fn expect_channel(&mut self, number: u16, data: &[u8]) {
        let expected = Received::Channel {
            number,
            data: data.to_vec(),
        };
        let next = self.next();
        assert!(
            next == expected,
            "{} instead of {}",
            next.summary(),
            expected.summary()
        );
    }

    // Credentials.

    /// The key that RFC 5389 clients use.
    pub(crate) fn key(&self) -> Vec<u8> {
        Md5::digest(self.key_input()).to_vec()
    }

    pub(crate) fn sha256_key(&self) -> Vec<u8> {
        Sha256::digest(self.key_input()).to_vec()
    }

    fn key_input(&self) -> Vec<u8> {
        let realm = &self.session.as_ref().expect("a challenge first").realm;
        let parts = [self.user.as_bytes(), realm, self.password.as_bytes()];
        parts.join(&b':')
    }

    /// Takes a challenge: asks without credentials.
    pub(crate) fn challenge(&mut self) -> Message {
        let request = Packet::request(method::ALLOCATE).attr(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let reply = self.exchange(&request);
        assert_eq!(reply.code(), 401);
        self.take_challenge(&reply);
        reply
    }

    pub(crate) fn take_challenge(&mut self, reply: &Message) {
        self.session = Some(Session {
            realm: reply.get(REALM).unwrap().to_vec(),
            nonce: reply.get(NONCE).unwrap().to_vec(),
        });
    }

    /// Adds USERNAME, REALM and NONCE.
    pub(crate) fn named(&mut self, packet: Packet) -> Packet {
        if self.session.is_none() {
            self.challenge();
        }
        let Session { realm, nonce } = self.session.clone().unwrap();
        packet
            .attr(USERNAME, self.user.as_bytes())
            .attr(REALM, &realm)
            .attr(NONCE, &nonce)
    }

    /// Adds the credentials of an RFC 5389 client.
    pub(crate) fn signed(&mut self, packet: Packet) -> Packet {
        let packet = self.named(packet);
        packet.sha1(&self.key())
    }

    /// A signed request and its reply, which must be signed too (AUTH-20).
    pub(crate) fn request(&mut self, packet: Packet) -> Message {
        let request = self.signed(packet);
        let reply = self.exchange(&request);
        assert!(
            reply.is_sha1_signed(&self.key()),
            "unsigned: {} {:04x?}",
            reply.code(),
            reply.types()
        );
        assert!(!reply.has(NONCE) && !reply.has(REALM) && !reply.has(USERNAME));
        assert_eq!(reply.all(MESSAGE_INTEGRITY).len(), 1);
        reply
    }

    // Methods.

    /// Makes an allocation and returns the relayed address.
    pub(crate) fn allocate(&mut self) -> SocketAddr {
        let reply = self.try_allocate(|packet| packet);
        assert_eq!(reply.code(), 0);
        reply.address(XOR_RELAYED_ADDRESS)
    }

    /// Allocate with more attributes.
    pub(crate) fn try_allocate(&mut self, add: impl FnOnce(Packet) -> Packet) -> Message {
        let packet = Packet::request(method::ALLOCATE).attr(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        self.request(add(packet))
    }

    pub(crate) fn try_refresh(&mut self, lifetime: Option<u32>) -> Message {
        let packet = Packet::request(method::REFRESH);
        self.request(match lifetime {
            Some(lifetime) => packet.u32(super::attribute::LIFETIME, lifetime),
            None => packet,
        })
    }

    /// Deletes the allocation.
    pub(crate) fn delete(&mut self) {
        let reply = self.try_refresh(Some(0));
        assert_eq!((reply.code(), reply.lifetime()), (0, 0));
    }

    /// The allocation lives.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        assert_eq!(self.try_refresh(None).code(), 0, "the allocation is gone");
    }

    pub(crate) fn try_permit(&mut self, peers: &[SocketAddr]) -> Message {
        let mut packet = Packet::request(method::CREATE_PERMISSION);
        for &peer in peers {
            packet = packet.address(XOR_PEER_ADDRESS, peer);
        }
        self.request(packet)
    }

    pub(crate) fn permit(&mut self, peer: SocketAddr) {
        assert_eq!(self.try_permit(&[peer]).code(), 0);
    }

    pub(crate) fn try_bind(&mut self, number: u16, peer: SocketAddr) -> Message {
        let packet = Packet::request(method::CHANNEL_BIND)
            .u32(CHANNEL_NUMBER, u32::from(number) << 16)
            .address(XOR_PEER_ADDRESS, peer);
        self.request(packet)
    }

    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr) {
        assert_eq!(self.try_bind(number, peer).code(), 0);
    }

    /// A Send indication.
    pub(crate) fn send_data(&mut self, peer: SocketAddr, data: &[u8]) {
        let packet = Packet::indication(method::SEND)
            .address(XOR_PEER_ADDRESS, peer)
            .attr(DATA, data);
        self.send(packet.bytes());
    }

    /// ChannelData, padded as the transport wants it.
    pub(crate) fn send_channel(&mut self, number: u16, data: &[u8]) {
        let bytes = channel_data(number, data, self.is_stream());
        self.send(&bytes);
    }
}

/// Where no other client is.
fn own_address(server: SocketAddr) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ip: IpAddr = if server.is_ipv4() {
        let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        [127, 64, high, low.max(1)].into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    (ip, 0).into()
}

/// The next frame of a stream.
fn next_frame(stream: &mut impl Read, input: &mut Vec<u8>) -> Vec<u8> {
    loop {
        if let Some(len) = frame_len(input).filter(|&len| len <= input.len()) {
            let rest = input.split_off(len);
            return std::mem::replace(input, rest);
        }
        let mut buffer = [0; 65_536];
        let len = uninterrupted(|| stream.read(&mut buffer)).expect("bytes");
        assert!(len > 0, "the server closed the connection");
        input.extend(&buffer[..len]);
    }
}

fn read_to_close(stream: &mut impl Read, input: &mut Vec<u8>) -> Vec<u8> {
    let mut rest = std::mem::take(input);
    let mut buffer = [0; 4096];
    loop {
        match uninterrupted(|| stream.read(&mut buffer)) {
            Ok(0) => return rest,
            Ok(len) => rest.extend(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return rest,
            Err(error) => panic!("the server did not close the connection: {error}"),
        }
    }
}

/// A ChannelData message.
fn channel_data(number: u16, data: &[u8], padded: bool) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    if padded {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Bytes of the frame that begins here, once its header is there.
fn frame_len(input: &[u8]) -> Option<usize> {
    let [first, _, high, low, ..] = *input else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match first {
        0..0x40 => Some(20 + length),
        0x40..0x50 => Some(4 + length.next_multiple_of(4)),
        other => panic!("a frame cannot begin with {other:02x}"),
    }
}
