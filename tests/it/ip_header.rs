//! What becomes of the IP header (RFC 8656 §13-§16).

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::SockRef;
use turnstone::engine::udp::sys;

use crate::harness::attribute as a;
use crate::harness::{Client, DEADLINE, Packet, Peer, TestServer};

/// A socket that tells the header fields of what it receives.
struct Observer {
    sys: sys::UdpSocket,
    std: UdpSocket,
    batch: sys::Batch,
}

impl Observer {
    fn on(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let sys = sys::UdpSocket::listener(address, &sys::ListenerOptions::default()).unwrap();
        let std = UdpSocket::from(sys.as_fd().try_clone_to_owned().unwrap());
        std.set_nonblocking(false).unwrap();
        std.set_read_timeout(Some(DEADLINE)).unwrap();
        let batch = sys::Batch::new(1);
        Self { sys, std, batch }
    }

    fn address(&self) -> SocketAddr {
        self.sys.local_addr()
    }

    /// TTL and TOS of the next datagram, and its bytes.
    fn recv(&mut self) -> (u8, u8, Vec<u8>) {
        self.std.peek_from(&mut [0; 1]).expect("a datagram");
        self.batch.clear();
        assert_eq!(self.batch.receive(&self.sys).unwrap(), 1);
        let received = *self.batch.received(0);
        (
            received.ttl.unwrap(),
            received.tos,
            self.batch.payload(0).to_vec(),
        )
    }
}

fn set(socket: &UdpSocket, ttl: u32, tos: u32) {
    let socket_ref = SockRef::from(socket);
    if socket.local_addr().unwrap().is_ipv4() {
        socket_ref.set_ttl_v4(ttl).unwrap();
        socket_ref.set_tos_v4(tos).unwrap();
    } else {
        socket_ref.set_unicast_hops_v6(ttl).unwrap();
        socket_ref.set_tclass_v6(tos).unwrap();
    }
}

fn dual(packet: Packet) -> Packet {
    packet.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
}

/// DSCP EF, AF41 and 0, each with every ECN.
const TOS: [u32; 8] = [0xB8, 0xB9, 0xBA, 0xBB, 0x88, 0x02, 0x03, 0x00];

/// NETHDR-01, NETHDR-02, NETHDR-04: from a client to a peer, in all four pairs of families, by Send
/// indications and by channels.
#[test]
fn dscp_and_ecn_are_copied_and_ttl_counts_down_towards_the_peer() {
    let server = TestServer::start();
    for to in [server.udp(), server.udp6()] {
        for peer in ["127.0.0.1:0", "[::1]:0"] {
            let mut peer = Observer::on(peer);
            let mut client = Client::udp_to(to);
            assert_eq!(client.try_allocate(dual).code(), 0);
            client.bind(0x4000, peer.address());
            for tos in TOS {
                for ttl in [64, 5, 2, 255] {
                    set(client.socket(), ttl, tos);
                    client.send_data(peer.address(), b"data");
                    client.send_channel(0x4000, b"data");
                    let expected = (ttl as u8 - 1, tos as u8, b"data".to_vec());
                    assert_eq!(peer.recv(), expected);
                    assert_eq!(peer.recv(), expected);
                }
            }
        }
    }
}

/// NETHDR-01, NETHDR-02, NETHDR-04: from a peer to a client, with and without a channel.
#[test]
fn dscp_and_ecn_are_copied_and_ttl_counts_down_towards_the_client() {
    let server = TestServer::start();
    for (to, local) in [(server.udp(), "127.0.0.1:0"), (server.udp6(), "[::1]:0")] {
        for peer_ip in ["127.0.0.1", "::1"] {
            let mut observer = Observer::on(local);
            let peer = Peer::on(peer_ip.parse().unwrap());
            let mut client = Client::udp_from(observer.std.try_clone().unwrap(), to);
            let relayed = client.try_allocate(dual).addresses(a::XOR_RELAYED_ADDRESS);
            let relayed = *relayed
                .iter()
                .find(|r| r.is_ipv4() == peer.address().is_ipv4())
                .unwrap();
            client.permit(peer.address());
            for bound in [false, true] {
                if bound {
                    client.bind(0x4000, peer.address());
                }
                for tos in TOS {
                    set(&peer.socket, 33, tos);
                    peer.send(b"data", relayed);
                    let (ttl, seen, _) = observer.recv();
                    assert_eq!((ttl, u32::from(seen)), (32, tos));
                }
            }
        }
    }
}

/// NETHDR-04: the last hop is this server's.
#[test]
fn a_datagram_of_the_last_hop_goes_no_further() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    set(client.socket(), 1, 0);
    client.send_data(peer.address(), b"dropped");
    client.send_channel(0x4000, b"dropped");
    set(client.socket(), 64, 0);
    client.send_channel(0x4000, b"marker");
    peer.expect(b"marker", relayed);
    set(&peer.socket, 1, 0);
    peer.send(b"dropped", relayed);
    set(&peer.socket, 64, 0);
    peer.send(b"marker", relayed);
    client.expect_channel(0x4000, b"marker");
}

/// NETHDR-01, NETHDR-02, NETHDR-04: a stream has no header to copy: best effort, Not-ECT, the
/// system's TTL; and what comes on the last hop has arrived.
#[test]
fn streams_have_fields_of_their_own() {
    let server = TestServer::start();
    let mut peer = Observer::on("127.0.0.1:0");
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    SockRef::from(client.stream()).set_tos_v4(0xBB).unwrap();
    client.send_channel(0x4000, b"data");
    assert_eq!(peer.recv(), (64, 0, b"data".to_vec()));
    client.send_data(peer.address(), b"data");
    assert_eq!(peer.recv(), (64, 0, b"data".to_vec()));
    set(&peer.std, 1, 0xBB);
    peer.std.send_to(b"last hop", relayed).unwrap();
    client.expect_channel(0x4000, b"last hop");
}

/// MSG-11, NETHDR-01: the server's own replies are nobody's to colour.
#[test]
fn replies_do_not_copy_the_clients_fields() {
    let server = TestServer::start();
    let mut observer = Observer::on("127.0.0.1:0");
    let socket = observer.std.try_clone().unwrap();
    set(&socket, 3, 0xBB);
    socket
        .send_to(Packet::binding().bytes(), server.udp())
        .unwrap();
    let (ttl, tos, _) = observer.recv();
    assert_eq!((ttl, tos), (64, 0));
}

/// NETHDR-03: a payload beyond the MTU is fragmented, also right after a datagram that was not to
/// be.
#[test]
fn large_datagrams_are_fragmented() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    let large = vec![7; 65_400];
    for _ in 0..3 {
        let whole = Packet::indication(0x006)
            .address(a::XOR_PEER_ADDRESS, peer.address())
            .attr(a::DATA, b"whole")
            .attr(a::DONT_FRAGMENT, b"");
        client.send(whole.bytes());
        peer.expect(b"whole", relayed);
        client.send_data(peer.address(), &large);
        peer.expect(&large, relayed);
    }
}

/// SEC-07: a packet between two channels of the same server comes to an end.
#[test]
fn a_loop_of_two_relays_ends() {
    let server = TestServer::start();
    let peer = Peer::on([127, 9, 9, 9].into());
    let (mut one, mut two) = (Client::udp(&server), Client::udp(&server));
    let (at_one, at_two) = (one.allocate(), two.allocate());
    // Each one's peer is the other's relayed address, and each one's client forwards all it gets.
    one.bind(0x4000, at_two);
    two.bind(0x4000, at_one);
    one.permit(peer.address());
    set(one.socket(), 4, 0);
    one.send_channel(0x4000, b"round");
    // A client is a host: it sends with a TTL of its own, so a loop through one ends by rate only;
    // what the relays forward between themselves counts down.
    two.expect_channel(0x4000, b"round");
    set(one.socket(), 2, 0);
    one.send_channel(0x4000, b"one hop is left for two relays");
    set(one.socket(), 64, 0);
    one.send_channel(0x4000, b"marker");
    two.expect_channel(0x4000, b"marker");
}
