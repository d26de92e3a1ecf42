//! Bytes that nobody should send, by the thousand, to a server that others use: nothing comes back,
//! and the others notice nothing.
//!
//! What is malformed is judged here, without the server's own codec. The random ones come from a
//! fixed seed.

use std::net::{Shutdown, SocketAddr};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::harness::attribute as a;
use crate::harness::{Client, Message, Packet, Peer, TestServer, eventually, method, own_ipv4};
use crate::malformed::vectors;

const SEED: u64 = 0x0BAD_5EED;

fn field(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Whether this is a STUN message: header, attributes and FINGERPRINT are right (RFC 8489 §5, §14).
fn is_message(bytes: &[u8]) -> bool {
    if bytes.len() < 20
        || bytes[0] > 3
        || bytes[4..8] != [0x21, 0x12, 0xA4, 0x42]
        || !field(bytes, 2).is_multiple_of(4)
        || field(bytes, 2) + 20 != bytes.len()
    {
        return false;
    }
    let mut at = 20;
    while at < bytes.len() {
        let (kind, len) = (field(bytes, at) as u16, field(bytes, at + 2));
        let end = at + 4 + len.next_multiple_of(4);
        if end > bytes.len() {
            return false;
        }
        if kind == a::FINGERPRINT {
            let crc = crc32fast::hash(&bytes[..at]) ^ 0x5354_554E;
            return end == bytes.len() && bytes[at + 4..at + 4 + len] == crc.to_be_bytes();
        }
        at = end;
    }
    true
}

/// What a stream is, of which these bytes are all.
#[derive(Debug, PartialEq, Eq)]
enum Stream {
    /// Frames, none of which is a message.
    InStep,
    /// The same, and then a frame that is not whole.
    Waiting,
    /// The same, and then something that is no frame.
    OutOfStep,
    /// One of the frames is a message.
    HasMessage,
}

fn stream(mut bytes: &[u8], mut seen_stun: bool) -> Stream {
    while let Some(&first) = bytes.first() {
        let header = match first {
            0..4 => 20,
            0x40..0x50 if seen_stun => 4,
            _ => return Stream::OutOfStep,
        };
        if bytes.len() < 4 {
            return Stream::Waiting;
        }
        let cookie = &bytes[4..bytes.len().min(8)];
        let expected = [0x21, 0x12, 0xA4, 0x42];
        let is_stun = header == 20;
        if is_stun && (!field(bytes, 2).is_multiple_of(4) || cookie != &expected[..cookie.len()]) {
            return Stream::OutOfStep;
        }
        let len = header + field(bytes, 2).next_multiple_of(4);
        if bytes.len() < len {
            return Stream::Waiting;
        }
        if is_message(&bytes[..len]) {
            return Stream::HasMessage;
        }
        seen_stun |= is_stun;
        bytes = &bytes[len..];
    }
    Stream::InStep
}

/// The malformed vectors, without their names.
fn corpus() -> impl Iterator<Item = Vec<u8>> {
    vectors("malformed").into_iter().map(|(_, bytes)| bytes)
}

/// A message of every kind that a client sends, and those that none should.
fn samples(client: &mut Client, peer: SocketAddr) -> Vec<Vec<u8>> {
    let packets = [
        Packet::binding(),
        Packet::binding().attr(a::SOFTWARE, b"test").fingerprint(),
        Packet::request(method::ALLOCATE)
            .attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            .fingerprint(),
        client.signed(
            Packet::request(method::ALLOCATE)
                .attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .attr(a::EVEN_PORT, &[0x80]),
        ),
        client.signed(Packet::request(method::REFRESH).u32(a::LIFETIME, 600)),
        client
            .signed(Packet::request(method::CREATE_PERMISSION).address(a::XOR_PEER_ADDRESS, peer))
            .fingerprint(),
        client.signed(
            Packet::request(method::CHANNEL_BIND)
                .u32(a::CHANNEL_NUMBER, 0x4001_0000)
                .address(a::XOR_PEER_ADDRESS, peer),
        ),
        Packet::indication(method::SEND)
            .address(a::XOR_PEER_ADDRESS, peer)
            .attr(a::DATA, b"never to be relayed"),
    ];
    let messages = packets.into_iter().map(Packet::into_bytes);
    messages.chain(corpus()).collect()
}

/// Spoils messages in ways of its own.
struct Vandal {
    random: ChaCha12Rng,
    samples: Vec<Vec<u8>>,
}

impl Vandal {
    fn new(samples: Vec<Vec<u8>>) -> Self {
        let random = ChaCha12Rng::seed_from_u64(SEED);
        Self { random, samples }
    }

    fn below(&mut self, end: usize) -> usize {
        (self.random.next_u64() % end as u64) as usize
    }

    fn next(&mut self) -> Vec<u8> {
        let sample = self.below(self.samples.len());
        let mut bytes = self.samples[sample].clone();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len().max(1));
            match self.below(7) {
                0 => bytes.truncate(place),
                1 => bytes.extend((0..=place % 9).map(|byte| byte as u8)),
                2 if bytes.len() >= 4 => {
                    let lengths = [0, 1, 4, 0x7FFC, 0xFFFC, 0xFFFF, place as u16];
                    let length = lengths[self.below(lengths.len())].to_be_bytes();
                    bytes[2..4].copy_from_slice(&length);
                }
                3 => drop(bytes.splice(place..place, [0; 4])),
                _ if bytes.is_empty() => {}
                // Most of what follows the header are attributes, and their lengths.
                4 if bytes.len() > 24 => {
                    let place = 20 + place % (bytes.len() - 20);
                    bytes[place] = self.random.next_u32() as u8;
                }
                _ => bytes[place] ^= 1 << self.below(8),
            }
        }
        bytes
    }

    /// The next one that is as asked for.
    fn next_where(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        loop {
            let bytes = self.next();
            if is_wanted(&bytes) {
                return bytes;
            }
        }
    }
}

/// The beginnings of other protocols, and of none.
fn strangers() -> Vec<Vec<u8>> {
    let mut random = ChaCha12Rng::seed_from_u64(SEED);
    let client_hello = |version: &[u8]| {
        let mut bytes = version.to_vec();
        bytes.extend([0x01, 0x00, 0x01, 0xFC, 0x03, 0x03]);
        bytes.resize(517, 0x5C);
        bytes
    };
    let mut all = vec![
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
        b"POST /admin HTTP/1.1\r\nContent-Length: 4294967295\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A".to_vec(),
        b"\x05\x01\x00".to_vec(),
        b"\x13BitTorrent protocol".to_vec(),
        // TLS and DTLS.
        client_hello(&[0x16, 0x03, 0x01, 0x02, 0x00]),
        client_hello(&[0x16, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x00]),
        // RTP, RTCP, QUIC.
        [&[0x80, 0x60, 0, 1][..], &[7; 168]].concat(),
        [&[0x81, 0xC9, 0, 7][..], &[7; 28]].concat(),
        [&[0xC3, 0, 0, 0, 1][..], &[7; 1195]].concat(),
        vec![0xFF; 1400],
    ];
    for len in [1, 3, 20, 64, 1400] {
        let mut bytes = vec![0; len];
        random.fill_bytes(&mut bytes);
        // No first byte of STUN.
        bytes[0] |= 0x80;
        all.push(bytes);
    }
    all
}

/// Data there and back between two new clients of a server.
fn assert_call(server: &TestServer) {
    let mut sides = [Client::tcp(server), Client::udp(server)];
    let relayed = sides.each_mut().map(Client::allocate);
    let [one, other] = &mut sides;
    one.bind(0x4000, relayed[1]);
    other.permit(relayed[0]);
    for round in 0..10 {
        let data = [round; 1000];
        one.send_channel(0x4000, &data);
        other.expect_data(relayed[0], &data);
        other.send_data(relayed[0], &data);
        one.expect_channel(0x4000, &data);
    }
    sides.iter_mut().for_each(Client::delete);
}

/// MSG-01, MSG-03, MSG-04, MSG-23, FP-02, SEC-19: no datagram that is no message is answered or
/// relayed, whether its sender has an allocation or not.
#[test]
fn nothing_malformed_is_answered_over_udp() {
    const DATAGRAMS: usize = 3000;
    let server = TestServer::start();
    // A wrong byte may be in the port: on this address no other test has one.
    let peer = Peer::on(own_ipv4().into());
    for allocated in [true, false] {
        let mut client = Client::udp(&server);
        let mut relayed = None;
        if allocated {
            relayed = Some(client.allocate());
            client.permit(peer.address());
        }
        let mut vandal = Vandal::new(samples(&mut client, peer.address()));
        let malformed = (0..DATAGRAMS).map(|_| vandal.next_where(|bytes| !is_message(bytes)));
        let all = strangers().into_iter().chain(malformed);
        for (index, bytes) in all.enumerate() {
            client.send(&bytes);
            if index % 32 == 0 {
                // Fails if anything but the reply to one Binding request has come.
                client.expect_nothing();
            }
        }
        client.expect_nothing();
        if let Some(relayed) = relayed {
            client.assert_alive();
            client.send_data(peer.address(), b"the first to arrive");
            peer.expect(b"the first to arrive", relayed);
            client.delete();
        }
    }
    assert_call(&server);
}

/// MSG-03, MSG-04, MSG-23, STREAM-02, SEC-19: on a new connection nothing malformed is answered,
/// and what is out of step ends it without the client's doing.
#[test]
fn nothing_malformed_is_answered_on_new_connections() {
    const CONNECTIONS: usize = 1000;
    // TLS would answer what is half TLS.
    let server = TestServer::with(|setup| setup.tls = None);
    let peer = Peer::on(own_ipv4().into());
    let mut vandal = Vandal::new(samples(&mut Client::udp(&server), peer.address()));
    let malformed = (0..CONNECTIONS)
        .map(|_| vandal.next_where(|bytes| stream(bytes, false) != Stream::HasMessage));
    for bytes in strangers().into_iter().chain(malformed) {
        let mut client = Client::tcp(&server);
        client.send(&bytes);
        if stream(&bytes, false) != Stream::OutOfStep {
            // The server may have closed it: a frame can be too long for a stranger.
            let _ = client.stream().shutdown(Shutdown::Write);
        }
        assert_eq!(client.expect_close(), b"", "{bytes:02x?}");
    }
    assert_call(&server);
}

/// MSG-04, MSG-23, STREAM-02, FP-02: between the frames of an authenticated client malformed
/// messages change nothing, and what is no frame ends the connection and its allocation.
#[test]
fn malformed_input_amid_an_authenticated_connection() {
    const FRAMES: usize = 2000;
    const CONNECTIONS: usize = 60;
    let server = TestServer::with(|setup| setup.limits.allocations_per_user = 10_000);
    let peer = Peer::on(own_ipv4().into());
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    let mut vandal = Vandal::new(samples(&mut client, peer.address()));
    let is_in_step = |bytes: &[u8]| stream(bytes, true) == Stream::InStep;
    let in_step = (0..FRAMES).map(|_| vandal.next_where(is_in_step));
    let in_step = corpus().filter(|bytes| is_in_step(bytes)).chain(in_step);
    for (index, bytes) in in_step.enumerate() {
        client.send(&bytes);
        if index % 50 == 0 {
            client.expect_nothing();
            client.assert_alive();
        }
    }
    client.send_data(peer.address(), b"the first to arrive");
    peer.expect(b"the first to arrive", relayed);

    let out_of_step = (0..CONNECTIONS)
        .map(|_| vandal.next_where(|bytes| stream(bytes, true) == Stream::OutOfStep))
        .collect::<Vec<_>>();
    let strangers = strangers().into_iter().chain(corpus());
    let strangers = strangers.filter(|bytes| stream(bytes, true) == Stream::OutOfStep);
    for bytes in strangers.chain(out_of_step) {
        let mut client = Client::tcp(&server);
        client.allocate();
        client.send(&bytes);
        assert_eq!(client.expect_close(), b"", "{bytes:02x?}");
    }
    eventually("the end of their allocations", || server.live_ports() == 1);
    client.assert_alive();
    drop(client);
    assert_call(&server);
}

/// STREAM-01, STREAM-02, MSG-23: the longest frames between two requests, cut at every byte of
/// their headers and near their ends.
#[test]
fn the_longest_frames_cut_anywhere() {
    let server = TestServer::start();
    let mut pace = Client::tcp(&server);
    // Its attribute is longer than it, so that it is nothing to answer.
    let mut stun = Packet::binding().into_bytes();
    stun[2..4].copy_from_slice(&[0xFF, 0xFC]);
    stun.extend([0x80, 0x22, 0xFF, 0xFF]);
    stun.resize(20 + 0xFFFC, 0);
    let channel_data = |length: u16| {
        let mut bytes = vec![0x40, 0];
        bytes.extend(length.to_be_bytes());
        bytes.resize(4 + usize::from(length).next_multiple_of(4), 7);
        bytes
    };
    let frames = [stun, channel_data(0xFFFC), channel_data(0xFFFF)];
    let mut client = Client::tcp(&server);
    client.allocate();
    for frame in &frames {
        let (before, after) = (Packet::binding(), Packet::binding());
        let bytes = [before.bytes(), frame, after.bytes()].concat();
        let cuts = (0..=20 + 24).chain(bytes.len() - 24..=bytes.len());
        for cut in cuts {
            client.send(&bytes[..cut]);
            // The server reads what there is while it answers another.
            pace.expect_nothing();
            client.send(&bytes[cut..]);
            for request in [&before, &after] {
                assert_eq!(
                    Message::parse(&client.recv()).id(),
                    request.id(),
                    "cut {cut}"
                );
            }
        }
        // Without an allocation the header is enough.
        let mut stranger = Client::tcp(&server);
        stranger.expect_nothing();
        for byte in &frame[..4] {
            stranger.send(&[*byte]);
        }
        assert_eq!(stranger.expect_close(), b"");
    }
    // No length of STUN.
    let mut header = Packet::binding().into_bytes();
    header[2..4].copy_from_slice(&[0xFF, 0xFF]);
    for cut in 1..4 {
        let mut stranger = Client::tcp(&server);
        stranger.send(&header[..cut]);
        pace.expect_nothing();
        stranger.send(&header[cut..4]);
        assert_eq!(stranger.expect_close(), b"");
    }
    assert_call(&server);
}
