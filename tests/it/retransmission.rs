//! Requests that arrive again (RFC 8489 §6.3.1; RFC 8656 §5, §7.2).

use std::collections::HashSet;
use std::net::UdpSocket;

use crate::harness::attribute as a;
use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, TestServer, Via, eventually, method, random_id, unix_s,
};

fn allocate() -> Packet {
    Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
}

/// IDEM-01: the same success every time, and one allocation.
#[test]
fn a_repeated_allocate_gets_the_same_success() {
    let server = TestServer::with(|setup| setup.limits.allocations_per_user = 1);
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        let request = client.signed(allocate().attr(a::EVEN_PORT, &[0x80]));
        let first = client.exchange(&request);
        assert_eq!(first.code(), 0);
        assert!(first.has(a::RESERVATION_TOKEN));
        for _ in 0..4 {
            let again = client.exchange(&request);
            assert!(again.is_sha1_signed(&client.key()));
            for number in [
                a::XOR_RELAYED_ADDRESS,
                a::RESERVATION_TOKEN,
                a::XOR_MAPPED_ADDRESS,
            ] {
                assert_eq!(again.all(number), first.all(number));
            }
            assert!((595..=600).contains(&again.lifetime()));
        }
        assert_eq!(server.live_ports(), 2, "one port and the reserved one");
        client.delete();
        assert_eq!(server.live_ports(), 0);
    }
}

/// IDEM-02, ALLOC-02: whatever else is wrong with the request.
#[test]
fn another_allocate_on_the_five_tuple_is_refused() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        assert_eq!(client.try_allocate(|packet| packet).code(), 437);
        assert_eq!(
            client.request(Packet::request(method::ALLOCATE)).code(),
            437
        );
        let lots = |p: Packet| p.attr(a::EVEN_PORT, b"").attr(a::RESERVATION_TOKEN, b"");
        assert_eq!(client.try_allocate(lots).code(), 437);
        client.assert_alive();
    }
}

/// IDEM-03
#[test]
fn one_transaction_id_from_two_clients_is_two_transactions() {
    let server = TestServer::start();
    let id = random_id();
    let mut relayed = HashSet::new();
    for via in [Via::Udp, Via::Udp, Via::Tcp, Via::Udp6] {
        let mut client = Client::new(&server, via);
        let reply = client.try_allocate(|packet| packet.with_id(id));
        assert_eq!(reply.code(), 0);
        relayed.insert(reply.address(a::XOR_RELAYED_ADDRESS));
        if !via.is_stream() {
            assert_eq!(client.try_refresh(None).code(), 0);
        }
    }
    assert_eq!(relayed.len(), 4);
}

/// IDEM-05
#[test]
fn a_repeated_delete_finds_nothing() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        let delete = client.signed(Packet::request(method::REFRESH).u32(a::LIFETIME, 0));
        assert_eq!(client.exchange(&delete).code(), 0);
        for _ in 0..3 {
            let reply = client.exchange(&delete);
            assert_eq!(reply.code(), 437);
            assert!(reply.is_sha1_signed(&client.key()));
        }
    }
}

/// IDEM-06
#[test]
fn repeated_permissions_and_channels_are_refreshed() {
    let server = TestServer::with(|setup| {
        setup.limits.permissions_per_allocation = 1;
        setup.limits.channels_per_allocation = 1;
    });
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    client.allocate();
    let permit = Packet::request(method::CREATE_PERMISSION);
    let permit = client.signed(permit.address(a::XOR_PEER_ADDRESS, peer.address()));
    let bind = Packet::request(method::CHANNEL_BIND).u32(a::CHANNEL_NUMBER, 0x4000_0000);
    let bind = client.signed(bind.address(a::XOR_PEER_ADDRESS, peer.address()));
    for _ in 0..5 {
        assert_eq!(client.exchange(&permit).code(), 0);
        assert_eq!(client.exchange(&bind).code(), 0);
    }
}

/// IDEM-09: the nonce runs out between the request and its repetition. Another request of the same
/// nonce shows when.
#[test]
fn a_repeated_allocate_outlives_its_nonce() {
    let server = TestServer::with(|setup| setup.nonce_lifetime_s = 1);
    let mut client = Client::udp(&server);
    client.challenge();
    let nonce = server.authenticator.nonce(client.local(), unix_s());
    client.session.as_mut().unwrap().nonce = nonce.to_vec();
    let request = client.signed(allocate());
    let first = client.exchange(&request);
    assert_eq!(first.code(), 0);
    let refresh = client.signed(Packet::request(method::REFRESH));
    eventually("the end of the nonce", || {
        client.exchange(&refresh).code() == 438
    });
    let again = client.exchange(&request);
    assert_eq!(again.code(), 0);
    assert_eq!(
        again.address(a::XOR_RELAYED_ADDRESS),
        first.address(a::XOR_RELAYED_ADDRESS)
    );
}

/// IDEM-08, SEC-10, AUTH-13: a hundred thousand challenges leave nothing behind.
#[test]
fn challenges_cost_no_memory() {
    let config = "realm = \"example.org\"\n[auth]\nusers = { alice = \"wonderland\" }\n\
                  [server]\nworkers = 1\n[listen]\nudp = [\"127.0.0.1:0\"]\ntcp = []\n\
                  [relay]\naddresses = [\"127.0.0.1\"]\n\
                  [limits]\nunauthenticated_replies_per_s = 0\n";
    let process = Process::start(config);
    let request = allocate();
    let flood = |sockets: usize| {
        for _ in 0..sockets {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(process.udp[0]).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let mut buffer = [0; 256];
            for _ in 0..10 {
                for _ in 0..50 {
                    let request = request.clone().with_id(random_id());
                    socket.send(request.bytes()).unwrap();
                }
                for _ in 0..50 {
                    assert!(socket.recv(&mut buffer).unwrap() < 256);
                }
            }
        }
    };
    let resident = || {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", process.pid())).unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4
    };
    flood(4);
    let before = resident();
    flood(200);
    let grown = resident().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more");
}
