//! The sans-IO client of librice (`turn-client-proto`), which also speaks SHA-256 and hashed names.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use turn_client_proto::api::{TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::stun::agent::Transmit;
use turn_client_proto::stun::auth::Feature;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::stun::message::IntegrityAlgorithm;
use turn_client_proto::types::{AddressFamily, TransportType, TurnCredentials};
use turn_client_proto::udp::TurnClientUdp;

use crate::harness::{DEADLINE, Peer, TestServer};

/// How long one read waits before the client's own timers are looked at.
const TURN: Duration = Duration::from_millis(10);

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// The client with a socket.
struct Driver<C> {
    client: C,
    socket: Socket,
    /// Data of peers that arrived.
    data: Vec<(SocketAddr, Vec<u8>)>,
    icmp: Vec<(SocketAddr, u8, u8)>,
    events: Vec<TurnEvent>,
    deleted: bool,
}

/// Time since the first call.
fn now() -> turn_client_proto::stun::Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    turn_client_proto::stun::Instant::from_std(*START)
}

impl<C: TurnClientApi> Driver<C> {
    fn send(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => assert_eq!(socket.send(bytes).unwrap(), bytes.len()),
            Socket::Tcp(stream) => stream.write_all(bytes).unwrap(),
        }
    }

    /// One round: what the client wants to send, and what arrived.
    fn step(&mut self) {
        while let Some(transmit) = self.client.poll_transmit(now()) {
            self.send(&transmit.data);
        }
        let closed = matches!(self.client.poll(now()), TurnPollRet::Closed);
        assert!(self.deleted || !closed, "{:?}", self.events);
        while let Some(transmit) = self.client.poll_transmit(now()) {
            self.send(&transmit.data);
        }
        let mut buffer = vec![0; 65_536];
        let read = match &mut self.socket {
            Socket::Udp(socket) => socket.recv(&mut buffer),
            Socket::Tcp(stream) => stream.read(&mut buffer),
        };
        match read {
            Ok(len) => buffer.truncate(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return self.take_events(),
            Err(error) => panic!("{error}"),
        }
        let (transport, from, to) = (
            self.client.transport(),
            self.client.remote_addr(),
            self.client.local_addr(),
        );
        match self.client.recv(
            Transmit {
                data: buffer,
                transport,
                from,
                to,
            },
            now(),
        ) {
            TurnRecvRet::Handled => {}
            TurnRecvRet::Ignored(transmit) => panic!("ignored {:02x?}", transmit.data),
            TurnRecvRet::PeerData(data) => self.data.push((data.peer, data.data().to_vec())),
            TurnRecvRet::PeerIcmp {
                peer,
                icmp_type,
                icmp_code,
                ..
            } => {
                self.icmp.push((peer, icmp_type, icmp_code));
            }
        }
        while let Some(data) = self.client.poll_recv(now()) {
            self.data.push((data.peer, data.data().to_vec()));
        }
        self.take_events();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.events);
            self.step();
        }
    }

    fn send_data(&mut self, peer: SocketAddr, data: &[u8]) {
        let transmit = self
            .client
            .send_to(TransportType::Udp, peer, data, now())
            .unwrap();
        if let Some(transmit) = transmit {
            let bytes = transmit.build().data;
            self.send(&bytes);
        }
    }

    /// Allocates, permits, relays by indication and by channel, and deletes.
    fn whole_life(&mut self, server: &TestServer, ips: &[IpAddr]) {
        self.until("the allocation", |d| {
            d.client.relayed_addresses().count() == ips.len()
        });
        let relayed: Vec<SocketAddr> = self.client.relayed_addresses().map(|(_, r)| r).collect();
        for (index, &ip) in ips.iter().enumerate() {
            let relayed = *relayed
                .iter()
                .find(|r| r.is_ipv4() == ip.is_ipv4())
                .unwrap();
            let peer = Peer::on(ip);
            self.client
                .create_permission(TransportType::Udp, ip, now())
                .unwrap();
            self.until("the permission", |d| {
                d.client.have_permission(TransportType::Udp, ip)
            });
            // It takes the same channel number for each family, of which a server has but one.
            let channels = [false, true]
                .into_iter()
                .take(if index == 0 { 2 } else { 1 });
            for bound in channels {
                if bound {
                    let to = peer.address();
                    self.client
                        .bind_channel(TransportType::Udp, to, now())
                        .unwrap();
                    self.until("the channel", |d| {
                        d.events.iter().any(|event| {
                            matches!(event, TurnEvent::ChannelCreated(_, peer) if *peer == to)
                        })
                    });
                }
                // Over TCP it knows no padding of ChannelData (RFC 8656 §12.5).
                let unpadded: &[usize] = if bound && matches!(self.socket, Socket::Tcp(_)) {
                    &[]
                } else {
                    &[1, 2, 3, 5, 1199]
                };
                for &len in [0, 4, 8, 1200].iter().chain(unpadded) {
                    let data = vec![len as u8; len];
                    self.send_data(peer.address(), &data);
                    peer.expect(&data, relayed);
                    peer.send(&data, relayed);
                    self.until("the peer's data", |d| !d.data.is_empty());
                    assert_eq!(self.data.remove(0), (peer.address(), data));
                }
            }
        }
        self.client.delete(now()).unwrap();
        self.deleted = true;
        self.until("the deletion", |_| server.live_ports() == 0);
    }
}

/// With SHA-256, which the server prefers. (A client that knows only SHA-1 and yet names an
/// algorithm is answered with MESSAGE-INTEGRITY-SHA256 all the same, as RFC 8489 §9.2.4 has it, and
/// this one does not take that.)
fn config() -> TurnConfig {
    let mut config = old_config();
    config.add_supported_integrity(IntegrityAlgorithm::Sha256);
    config
}

/// As RFC 5389 has it.
fn old_config() -> TurnConfig {
    TurnConfig::new(TurnCredentials::new("alice", "wonderland"))
}

fn udp(to: SocketAddr, config: TurnConfig) -> Driver<TurnClientUdp> {
    let any: SocketAddr = if to.is_ipv4() {
        "127.0.0.1:0"
    } else {
        "[::1]:0"
    }
    .parse()
    .unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(TURN)).unwrap();
    let client = TurnClientUdp::allocate(socket.local_addr().unwrap(), to, config);
    driver(client, Socket::Udp(socket))
}

fn tcp(to: SocketAddr, config: TurnConfig) -> Driver<TurnClientTcp> {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TURN)).unwrap();
    let client = TurnClientTcp::allocate(stream.local_addr().unwrap(), to, config);
    driver(client, Socket::Tcp(stream))
}

fn driver<C>(client: C, socket: Socket) -> Driver<C> {
    Driver {
        client,
        socket,
        data: vec![],
        icmp: vec![],
        events: vec![],
        deleted: false,
    }
}

const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// ALLOC-01, PERM-04, CHAN-04, CHAN-13, SEND-03, SEND-06, REFR-02
#[test]
fn relays_over_udp() {
    let server = TestServer::start();
    for to in [server.udp(), server.udp6()] {
        udp(to, config()).whole_life(&server, &[V4]);
    }
}

/// STREAM-01, CHAN-14
#[test]
fn relays_over_tcp() {
    let server = TestServer::start();
    for to in [server.tcp(), server.tcp6()] {
        tcp(to, config()).whole_life(&server, &[V4]);
    }
}

/// ALLOC-17
#[test]
fn relays_to_both_families() {
    let server = TestServer::start();
    let mut both = config();
    both.add_address_family(AddressFamily::IPV6);
    udp(server.udp(), both.clone()).whole_life(&server, &[V4, V6]);
    tcp(server.tcp(), both).whole_life(&server, &[V4, V6]);
}

/// AUTH-15, AUTH-26
#[test]
fn a_hashed_name() {
    let server = TestServer::start();
    let mut config = config();
    config.set_anonymous_username(Feature::Required);
    udp(server.udp(), config.clone()).whole_life(&server, &[V4]);
    tcp(server.tcp(), config).whole_life(&server, &[V4]);
}

/// AUTH-15, AUTH-19: where the server has but MD5 keys it offers nothing else, and all is as in
/// RFC 5389.
#[test]
fn md5_where_nothing_else_is_offered() {
    let server = TestServer::with(|setup| setup.store_md5_keys = true);
    udp(server.udp(), old_config()).whole_life(&server, &[V4]);
    tcp(server.tcp(), old_config()).whole_life(&server, &[V4]);
    udp(server.udp(), config()).whole_life(&server, &[V4]);
}

/// ICMP-01
#[test]
fn understands_icmp_errors() {
    let server = TestServer::start();
    let mut driver = udp(server.udp(), config());
    driver.until("the allocation", |d| {
        d.client.relayed_addresses().count() == 1
    });
    let ip = IpAddr::V4(crate::harness::own_ipv4());
    driver
        .client
        .create_permission(TransportType::Udp, ip, now())
        .unwrap();
    driver.until("the permission", |d| {
        d.client.have_permission(TransportType::Udp, ip)
    });
    let closed = SocketAddr::new(ip, 9);
    driver.send_data(closed, b"nobody there");
    driver.until("the error", |d| !d.icmp.is_empty());
    assert_eq!(driver.icmp, [(closed, 3, 3)]);
}
