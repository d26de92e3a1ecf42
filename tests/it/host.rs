//! The server as a process: descriptors, ports of others, signals.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use turnstone::engine::StartError;

use crate::harness::{Client, Packet, Peer, Process, TestServer, eventually, own_ipv4};

/// A configuration for loopback, on an address of its own.
fn config(more: &str) -> String {
    let ip = own_ipv4();
    format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\", bob = \"builder\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\n\
         relay.addresses = [\"{ip}\"]\nrelay.ports = \"20000-29999\"\n\
         peers.allow_loopback = true\nserver.workers = 1\n{more}\n"
    )
}

/// Without descriptors allocations fail with 508 and connections wait; the server serves whom it
/// has, and the others when it has descriptors again. (ALLOC-22)
#[test]
fn no_descriptor_left_is_a_capacity_error() {
    let process = Process::start_with(&config(""), "ulimit -n 64");
    let peer = Peer::new();
    let mut clients: Vec<Client> = Vec::new();
    let mut refused = loop {
        assert!(
            clients.len() < 64,
            "64 descriptors for more than 64 sockets"
        );
        let mut client = Client::udp_to(process.udp[0]);
        let reply = client.try_allocate(|packet| packet);
        if reply.code() == 508 {
            break client;
        }
        assert_eq!(reply.code(), 0);
        clients.push(client);
    };
    assert!(clients.len() > 10);
    let mut waiting = Client::tcp_to(process.tcp[0]);
    let probe = Packet::binding();
    waiting.send(probe.bytes());
    for client in &mut clients {
        client.assert_alive();
        client.permit(peer.address());
        client.send_data(peer.address(), b"served");
        assert_eq!(peer.recv().0, b"served");
    }
    assert_eq!(refused.try_allocate(|packet| packet).code(), 508);
    for client in &mut clients[..3] {
        client.delete();
    }
    assert_eq!(
        waiting.recv()[..2],
        [1, 1],
        "accepted once there was a descriptor"
    );
    assert_eq!(refused.try_allocate(|packet| packet).code(), 0);
}

/// The message names who has the port, and the server does not start.
#[test]
fn a_listener_that_somebody_else_has_is_named() {
    let ip = own_ipv4();
    let udp = UdpSocket::bind((ip, 0)).unwrap();
    let tcp = TcpListener::bind((ip, 0)).unwrap();
    let own = format!("(pid {})", std::process::id());
    for (transport, address) in [
        ("udp", udp.local_addr().unwrap()),
        ("tcp", tcp.local_addr().unwrap()),
    ] {
        let free = SocketAddr::from((own_ipv4(), 0));
        let (on_udp, on_tcp) = if transport == "udp" {
            (address, free)
        } else {
            (free, address)
        };
        let config = format!(
            "auth.users = {{ alice = \"wonderland\" }}\nlisten.udp = [\"{on_udp}\"]\n\
             listen.tcp = [\"{on_tcp}\"]\nrelay.addresses = [\"127.0.0.1\"]\n"
        );
        let mut process = Process::spawn(&config, "");
        let status = process.wait();
        assert_eq!(status.code(), Some(1));
        let log = process.log.join("\n");
        for expected in [&address.to_string(), &own, &format!("listen.{transport}")] {
            assert!(log.contains(expected), "{expected} is not in {log}");
        }
    }
}

/// A second server on the same port is no second worker.
#[test]
fn a_second_server_on_the_port_does_not_start() {
    let first = TestServer::with(|setup| setup.workers = 2);
    for (udp, tcp) in [(vec![first.udp()], vec![]), (vec![], vec![first.tcp()])] {
        let second = TestServer::try_with(|setup| (setup.udp, setup.tcp) = (udp, tcp));
        assert!(matches!(second.err(), Some(StartError::Listen(_))));
    }
    Client::udp(&first).allocate();
}

/// A port that the kernel chooses is no other server's. Of 500 shared ones several
/// would be.
#[test]
fn a_chosen_port_is_nobody_elses() {
    let ip = own_ipv4();
    let mut ports = HashSet::new();
    let servers: Vec<TestServer> = (0..10)
        .map(|_| {
            TestServer::with(|setup| {
                setup.udp = vec![SocketAddr::from((ip, 0)); 50];
                setup.tcp = vec![];
            })
        })
        .collect();
    for listener in servers
        .iter()
        .flat_map(|server| server.engine.udp_addresses())
    {
        assert!(ports.insert(*listener), "{listener} twice");
    }
}

/// An address that the host does not have is no relay address.
#[test]
fn a_relay_address_of_another_host_is_refused() {
    let other = Ipv4Addr::new(192, 0, 2, 1).into();
    let server = TestServer::try_with(|setup| setup.relay[0].bound = other);
    let Some(StartError::RelayAddress { address, .. }) = server.err() else {
        panic!("started on an address of documentation");
    };
    assert_eq!(address, other);
}

/// SIGTERM ends the server within two seconds, with a last line for every allocation. (SEC-16)
#[test]
fn sigterm_ends_every_allocation_with_a_line() {
    let mut process =
        Process::start(&config("server.workers = 2").replace("server.workers = 1\n", ""));
    let peer = Peer::new();
    let mut clients = vec![
        Client::udp_to(process.udp[0]),
        Client::udp_to(process.udp[0]),
        Client::udp_to(process.udp[0]).with_user("bob", "builder"),
        Client::tcp_to(process.tcp[0]),
    ];
    let mut relayed = Vec::new();
    for client in &mut clients {
        relayed.push(client.allocate());
        client.permit(peer.address());
        client.send_data(peer.address(), b"12345");
        peer.recv();
    }
    clients[3].expect_nothing();
    let started = Instant::now();
    process.terminate();
    let status = process.wait();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(status.success(), "{status}");
    let closed: Vec<&String> = process
        .log
        .iter()
        .filter(|line| line.contains("allocation closed"))
        .collect();
    assert_eq!(closed.len(), 4, "{}", process.log.join("\n"));
    for relayed in relayed {
        let line = closed
            .iter()
            .find(|line| line.contains(&relayed.to_string()))
            .unwrap();
        for expected in [
            "server shutdown",
            "bytes_to_peers=5",
            "packets_to_peers=1",
            "peers=1",
        ] {
            assert!(line.contains(expected), "{line}");
        }
    }
    assert_eq!(clients[3].expect_close(), b"");
}

/// SIGTERM ends a server that has only just said that it serves, as it ends any other.
#[test]
fn sigterm_at_the_start_is_waited_for() {
    for _ in 0..5 {
        let mut process = Process::start(&config(""));
        process.terminate();
        let status = process.wait();
        let log = process.log.join("\n");
        assert!(
            status.success() && log.contains("stopping"),
            "{status}\n{log}"
        );
    }
}

/// Two workers share the port, and the connections and datagrams of a client stay with one.
#[test]
fn workers_share_the_listeners() {
    let server = TestServer::with(|setup| setup.workers = 4);
    let peer = Peer::new();
    let mut clients: Vec<Client> = (0..40)
        .map(|index| {
            if index % 2 == 0 {
                Client::udp(&server)
            } else {
                Client::tcp(&server)
            }
        })
        .collect();
    let relayed: Vec<SocketAddr> = clients.iter_mut().map(Client::allocate).collect();
    for (client, relayed) in clients.iter_mut().zip(relayed) {
        client.bind(0x4000, peer.address());
        client.send_channel(0x4000, b"out");
        peer.expect(b"out", relayed);
        peer.send(b"in", relayed);
        client.expect_channel(0x4000, b"in");
    }
    assert_eq!(server.live_ports(), 40);
    clients.retain(|client| !client.is_stream());
    eventually("the end of the connections", || server.live_ports() == 20);
}
