//! What TCP clients can take of the server: connections, silence and memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::harness::attribute as a;
use crate::harness::tls;
use crate::harness::{
    Client, DEADLINE, Message, Packet, Peer, Process, Received, TestServer, eventually, method,
    own_ipv4,
};

/// A connection from an address of choice.
fn connect_from(ip: &str, server: SocketAddr) -> TcpStream {
    let ip: IpAddr = ip.parse().unwrap();
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

fn client_from(ip: &str, server: SocketAddr) -> Client {
    Client::tcp_over(connect_from(ip, server))
}

/// Whether the server has closed the connection, so far.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(len) => len == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Connects, and has a Binding request answered; none if the server closes the connection.
fn try_talk(server: SocketAddr) -> Option<Client> {
    let client = Client::tcp_to(server);
    let mut stream = client.stream();
    stream.write_all(Packet::binding().bytes()).ok()?;
    matches!(stream.read(&mut [0; 64]), Ok(32)).then_some(client)
}

/// SEC-12: on whichever worker they are, if all have an allocation; other addresses have their own.
#[test]
fn an_address_has_so_many_connections() {
    let server = TestServer::with(|setup| {
        setup.stream.connections_per_address = 3;
        setup.workers = 2;
    });
    let owner = |ip| {
        let mut client = client_from(ip, server.tcp());
        client.allocate();
        client
    };
    let mut open = vec!["127.0.0.1"; 3]
        .into_iter()
        .map(owner)
        .collect::<Vec<_>>();
    assert_eq!(Client::tcp(&server).expect_close(), b"");
    let mut others = ["127.0.0.2"; 3].map(owner);
    let refused = &mut client_from("127.0.0.2", server.tcp());
    assert_eq!(refused.expect_close(), b"");
    Client::tcp_to(server.tcp6()).expect_nothing();
    open.pop();
    eventually("room", || try_talk(server.tcp()).is_some());
    open.iter_mut().for_each(Client::assert_alive);
    others.iter_mut().for_each(Client::assert_alive);
}

/// SEC-12, SEC-17: the oldest of those that have said nothing.
#[test]
fn a_silent_connection_gives_way_to_a_new_one() {
    let server = TestServer::with(|setup| setup.stream.half_open = 3);
    let mut silent: Vec<Client> = (0..3).map(|_| Client::tcp(&server)).collect();
    let mut partial = silent.remove(1);
    partial.send(&Packet::binding().bytes()[..19]);
    let mut talker = Client::tcp(&server);
    talker.expect_nothing();
    assert_eq!(silent[0].expect_close(), b"");
    // Half of a message is none.
    let last = Client::tcp(&server);
    let mut one_more = Client::tcp(&server);
    assert_eq!(partial.expect_close(), b"");
    silent[1].expect_nothing();
    one_more.expect_nothing();
    assert!(!is_closed(last.stream()));
    talker.expect_nothing();
}

/// A server with room for four connections in all, or of one address.
fn server_for_four(of_one_address: bool) -> TestServer {
    TestServer::with(|setup| {
        let stream = &mut setup.stream;
        let limit = if of_one_address {
            &mut stream.connections_per_address
        } else {
            &mut stream.connections
        };
        *limit = 4;
    })
}

/// SEC-12, SEC-17: the server's and an address's limits let nobody be kept out by silence either.
#[test]
fn silence_does_not_fill_the_server() {
    for of_one_address in [false, true] {
        let server = server_for_four(of_one_address);
        let mut silent = [(); 4].map(|()| Client::tcp(&server));
        let mut owners: Vec<Client> = silent
            .iter_mut()
            .map(|silent| {
                let mut owner = Client::tcp(&server);
                owner.allocate();
                assert_eq!(silent.expect_close(), b"");
                owner
            })
            .collect();
        // There is nobody left who could make room.
        assert_eq!(Client::tcp(&server).expect_close(), b"");
        owners.iter_mut().for_each(Client::assert_alive);
    }
}

/// SEC-12, SEC-17: strangers who talk make room for a client, the first of them first, and a call
/// lives on however many come.
#[test]
fn talk_does_not_fill_the_server() {
    for of_one_address in [false, true] {
        let server = server_for_four(of_one_address);
        let peer = Peer::new();
        let mut call = Client::tcp(&server);
        let relayed = call.allocate();
        call.bind(0x4000, peer.address());
        let talker = || {
            let mut talker = Client::tcp(&server);
            talker.expect_nothing();
            talker
        };
        let mut strangers = [talker(), talker(), talker()];
        let mut honest = Client::tcp(&server);
        honest.allocate();
        assert_eq!(strangers[0].expect_close(), b"");
        for round in 0..20 {
            let stranger = &mut strangers[(round + 1) % 2 + 1];
            stranger.expect_nothing();
            let newcomer = talker();
            let mut closed = std::mem::replace(&mut strangers[round % 2 + 1], newcomer);
            assert_eq!(closed.expect_close(), b"", "round {round}");
            call.send_channel(0x4000, &[round as u8]);
            peer.expect(&[round as u8], relayed);
        }
        honest.assert_alive();
        // A client whose call is over is one without an allocation.
        assert_eq!(honest.try_refresh(Some(0)).lifetime(), 0);
        let _others = [talker(), talker(), talker()];
        assert_eq!(honest.expect_close(), b"");
        call.assert_alive();
    }
}

/// SEC-12: silence from one address takes the room of that address, not of a slow client that was
/// there before.
#[test]
fn a_crowd_of_silent_connections_makes_room_among_itself() {
    let server = TestServer::with(|setup| setup.stream.half_open = 3);
    let mut slow = client_from("127.0.0.2", server.tcp());
    slow.send(&Packet::binding().bytes()[..19]);
    let mut crowd = Vec::from([(); 2].map(|()| Client::tcp(&server)));
    for _ in 0..20 {
        crowd.push(Client::tcp(&server));
        assert_eq!(crowd.remove(0).expect_close(), b"");
    }
    slow.send(&Packet::binding().bytes()[19..]);
    assert_eq!(slow.recv().len(), 32);
    slow.allocate();
}

/// SEC-12: the limit is of all workers together, and so is the oldest one.
#[test]
fn silent_connections_give_way_across_workers() {
    let server = TestServer::with(|setup| {
        setup.stream.half_open = 8;
        setup.workers = 3;
    });
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(server.tcp()).unwrap())
        .collect();
    let closed = || silent.iter().filter(|stream| is_closed(stream)).count();
    eventually("the end of 32 connections", || closed() >= 32);
    for stream in silent.into_iter().filter(|stream| !is_closed(stream)) {
        Client::tcp_over(stream).expect_nothing();
    }
    let again = (0..8).map(|_| Client::tcp(&server));
    again.for_each(|mut client| client.expect_nothing());
}

/// SEC-12: connections that end in every way give back what they had: there is room for as many as
/// before, and not for one more.
#[test]
fn a_storm_of_connections_leaves_the_counts_right() {
    const LIMIT: usize = 12;
    let server = TestServer::with(|setup| {
        setup.stream.connections = LIMIT as u32;
        setup.stream.connections_per_address = LIMIT as u32;
        setup.stream.half_open = 6;
        setup.workers = 2;
    });
    let mut rest = Vec::new();
    for round in 0..600 {
        let stream = TcpStream::connect(server.tcp()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // Whatever comes of it: the server may have closed it already.
        let _ = match round % 6 {
            0 => Ok(()),
            1 => (&stream).write_all(&Packet::binding().bytes()[..7]),
            2 => (&stream).write_all(b"GET / HTTP/1.1\r\n\r\n"),
            _ => (&stream)
                .write_all(Packet::binding().bytes())
                .and_then(|()| (&stream).read(&mut [0; 64]).map(drop)),
        };
        if round % 2 == 0 {
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        if round % 5 == 0 {
            rest.push(stream);
        }
        if rest.len() > LIMIT {
            rest.clear();
        }
    }
    drop(rest);
    let mut open = Vec::new();
    eventually("room for all", || {
        open = (0..LIMIT).map_while(|_| try_talk(server.tcp())).collect();
        open.len() == LIMIT && !open.iter().any(|client| is_closed(client.stream()))
    });
    for client in &mut open {
        client.allocate();
    }
    assert!(try_talk(server.tcp()).is_none());
}

/// SEC-17: neither many messages nor wrong ones are a reason to stay.
#[test]
fn nothing_that_is_said_replaces_an_allocation() {
    let server = TestServer::with(|setup| setup.stream.idle_s = 3);
    let mut client = Client::tcp(&server);
    client.expect_nothing();
    let mut answers = 0_u32;
    while client.stream().write_all(Packet::binding().bytes()).is_ok()
        && matches!(client.stream().read(&mut [0; 64]), Ok(32))
    {
        answers += 1;
    }
    assert!(answers > 0);

    let server = TestServer::with(|setup| setup.stream.first_message_s = 1);
    let wrong = [
        Packet::request(0x0FF),
        Packet::indication(method::BINDING),
        Packet::binding().attr(a::FINGERPRINT, &[1, 2, 3, 4]),
    ];
    for packet in wrong {
        let mut client = Client::tcp(&server);
        client.send(packet.bytes());
        assert_eq!(client.expect_close(), b"", "{packet:?}");
    }
}

/// SEC-17, STREAM-05: half a frame does not end a connection with an allocation, whose refreshes
/// wait behind it; without the allocation it does.
#[test]
fn half_a_frame_lasts_as_long_as_the_allocation() {
    let server = TestServer::with(|setup| {
        setup.stream.first_message_s = 3;
        setup.stream.idle_s = 3;
    });
    let peer = Peer::new();
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    client.send(b"\x40\x00\x00\x08half");
    let mut stranger = Client::tcp(&server);
    stranger.expect_nothing();
    assert_eq!(stranger.expect_close(), b"", "its time is over");
    client.send(b"half");
    peer.expect(b"halfhalf", relayed);
    let delete = client.signed(Packet::request(method::REFRESH).u32(a::LIFETIME, 0));
    client.send(&[delete.bytes(), b"\x40\x00\x00\x08half"].concat());
    assert_eq!(Message::parse(&client.recv()).lifetime(), 0);
    assert_eq!(client.expect_close(), b"");
}

/// SEC-12: the longest request that a stranger may send, and one that is longer; a header that
/// promises more is enough.
#[test]
fn without_an_allocation_requests_are_short() {
    let server = TestServer::start();
    let request = |len: usize| Packet::binding().attr(0x8FFF, &vec![7; len - 24]);
    let mut client = Client::tcp(&server);
    assert_eq!(client.exchange(&request(4096)).code(), 0);
    client.send(&request(4100).bytes()[..20]);
    assert_eq!(client.expect_close(), b"");
    let mut client = Client::tcp(&server);
    client.allocate();
    assert_eq!(client.exchange(&request(4100)).code(), 0);
    client.assert_alive();
}

/// A connection with little memory in the kernel.
fn slow_stream(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

/// A client on TCP that does not read.
fn slow_client(server: SocketAddr) -> Client {
    Client::tcp_over(slow_stream(server))
}

/// Sends datagrams to a client that does not read, as fast as the server takes them: another client
/// sees every 16th.
fn flood(peer: &Peer, relayed: SocketAddr, quick: &mut Client, at_quick: SocketAddr) {
    let probe = Peer::new();
    quick.permit(probe.address());
    for round in 0..4096_u32 {
        let mut data = [round as u8; 1300];
        data[..4].copy_from_slice(&round.to_be_bytes());
        peer.send(&data, relayed);
        if round % 16 == 0 {
            probe.send(&round.to_be_bytes(), at_quick);
            quick.expect_data(probe.address(), &round.to_be_bytes());
        }
    }
}

/// SEC-12, STREAM-03: slow clients lose whole frames beyond what all may hold together, and what
/// one held is there for the next.
#[test]
fn the_memory_of_all_queues_is_limited() {
    const TOTAL: usize = 1 << 20;
    let server = TestServer::with(|setup| {
        setup.stream.send_queue_bytes = 16 << 20;
        setup.stream.queues_total_bytes = TOTAL;
    });
    let peer = Peer::new();
    let mut quick = Client::udp(&server);
    let at_quick = quick.allocate();
    for round in 0..3 {
        let mut slow = slow_client(server.tcp());
        let relayed = slow.allocate();
        slow.bind(0x4000, peer.address());
        flood(&peer, relayed, &mut quick, at_quick);
        let refresh = slow.signed(Packet::request(method::REFRESH));
        slow.send(refresh.bytes());
        let (mut last, mut held) = (None, 0);
        loop {
            match slow.next() {
                Received::Channel { number, data } => {
                    let serial = u32::from_be_bytes(data[..4].try_into().unwrap());
                    assert!(number == 0x4000 && data.len() == 1300 && last < Some(serial));
                    assert!(data[4..].iter().all(|&byte| byte == serial as u8));
                    last = Some(serial);
                    held += 1304;
                }
                Received::Message(reply) => {
                    assert_eq!((reply.id(), reply.code()), (refresh.id(), 0));
                    break;
                }
                Received::Data { .. } => panic!("a Data indication in spite of the channel"),
            }
        }
        // The budget for data, and what the kernel holds besides.
        let budget = TOTAL - TOTAL / 8;
        assert!(held > budget - 8192, "{held} bytes in round {round}");
        assert!(held < 4096 * 1304, "{held} bytes in round {round}");
        drop(slow);
        eventually("the end of the allocation", || server.live_ports() == 1);
    }
}

/// SEC-12, STREAM-03: where others have used up what data may have, a slow client on TLS loses frames
/// and not its connection, however many came at once.
#[test]
fn without_memory_tls_loses_frames() {
    let server = TestServer::with(|setup| {
        setup.stream.send_queue_bytes = 16 << 20;
        // The part that data cannot have is less than what is written at a time.
        setup.stream.queues_total_bytes = 128 << 10;
    });
    let peer = Peer::new();
    let mut quick = Client::udp(&server);
    let at_quick = quick.allocate();
    let stream = slow_stream(server.tls());
    let mut slow = Client::tls_over(tls::connect_default(stream));
    let relayed = slow.allocate();
    slow.bind(0x4000, peer.address());
    let mut other = slow_client(server.tcp());
    let at_other = other.allocate();
    other.bind(0x4000, peer.address());
    flood(&peer, at_other, &mut quick, at_quick);
    for _ in 0..4 {
        for _ in 0..300 {
            peer.send(&[7; 2000], relayed);
        }
        let refresh = slow.signed(Packet::request(method::REFRESH));
        slow.send(refresh.bytes());
        loop {
            match slow.next() {
                Received::Channel { data, .. } => assert_eq!(data, [7; 2000]),
                Received::Message(reply) => {
                    assert_eq!((reply.id(), reply.code()), (refresh.id(), 0));
                    break;
                }
                Received::Data { .. } => panic!("a Data indication in spite of the channel"),
            }
        }
    }
}

/// SEC-12: clients that do not read fill what data may have, and whoever comes then has the memory that
/// a handshake, a request in pieces and a reply take, and gets an allocation.
#[test]
fn slow_clients_do_not_keep_newcomers_out() {
    let server = TestServer::with(|setup| {
        setup.stream.send_queue_bytes = 16 << 20;
        setup.stream.queues_total_bytes = 1 << 20;
    });
    let peer = Peer::new();
    let mut quick = Client::udp(&server);
    let at_quick = quick.allocate();
    let mut slow = slow_client(server.tcp());
    let relayed = slow.allocate();
    slow.bind(0x4000, peer.address());
    flood(&peer, relayed, &mut quick, at_quick);
    let lost = "turnstone_tcp_dropped_bytes_total{cause=\"memory\"} ";
    eventually("lost frames", || server.count(lost) > 0.0);

    let mut newcomer = Client::tcp(&server);
    for part in Packet::binding().bytes().chunks(7) {
        newcomer.send(part);
        quick.assert_alive();
    }
    newcomer.recv();
    newcomer.allocate();
    let stream = connect_from("127.0.0.3", server.tls());
    let mut newcomer = Client::tls_over(tls::connect_default(stream));
    newcomer.allocate();
}

fn start(more: &str) -> Process {
    let ip = own_ipv4();
    Process::start(&format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\nserver.workers = 1\npeers.allow_loopback = true\n\
         log.level = \"debug\"\n{more}\n"
    ))
}

/// SEC-12, SEC-17, SEC-18: an operator reads which limit it was; what is no limit is for those who
/// look closer.
#[test]
fn every_limit_is_named_in_the_log() {
    let mut process = start(
        "limits.tcp_connections = 4\nlimits.tcp_connections_per_address = 2\n\
         limits.tcp_half_open = 1",
    );
    let server = process.tcp[0];
    let owner = |ip| {
        let mut client = client_from(ip, server);
        client.allocate();
        client
    };
    let mut open = ["127.0.0.1", "127.0.0.1"].map(owner);
    let refused = connect_from("127.0.0.1", server);
    let line = process.wait_for("refused: limits.tcp_connections_per_address reached");
    let client = format!("client={}", refused.local_addr().unwrap());
    assert!(line.contains(" WARN ") && line.contains(&client), "{line}");

    let silent = connect_from("127.0.0.2", server);
    let _others = ["127.0.0.3", "127.0.0.3"].map(owner);
    let line = process.wait_for("closed for a new one: limits.tcp_half_open reached");
    let client = format!("client={}", silent.local_addr().unwrap());
    assert!(line.contains(" WARN ") && line.contains(&client), "{line}");
    drop(connect_from("127.0.0.4", server));
    process.wait_for("refused: limits.tcp_connections reached");

    open[1].send(b"\xFF");
    let line = process.wait_for("neither STUN nor ChannelData");
    assert!(line.contains(" DEBUG "), "{line}");
    let mut talker = client_from("127.0.0.5", server);
    talker.expect_nothing();
    talker.send(&[0, 1, 0xFF, 0xFC]);
    process.wait_for("longer than requests are");
    process.terminate();
    let line = process.wait_for("worker stopped");
    for counter in [
        "address_limit=1",
        "connection_limit=1",
        "half_open_limit=1",
        "not_turn=1",
        "frame_too_long=1",
    ] {
        assert!(line.contains(counter), "{counter} in {line}");
    }
}

/// SEC-17, SEC-18
#[test]
fn both_deadlines_are_named_in_the_log() {
    let mut process = start("limits.tcp_first_message_s = 3\nlimits.tcp_idle_s = 5");
    let mut talker = client_from("127.0.0.1", process.tcp[0]);
    talker.expect_nothing();
    let silent = connect_from("127.0.0.2", process.tcp[0]);
    for (stream, text) in [
        (
            &silent,
            "no valid message within limits.tcp_first_message_s",
        ),
        (talker.stream(), "no allocation for limits.tcp_idle_s"),
    ] {
        let line = process.wait_for(text);
        let client = format!("client={}", stream.local_addr().unwrap());
        assert!(line.contains(" DEBUG ") && line.contains(&client), "{line}");
    }
    process.terminate();
    let line = process.wait_for("worker stopped");
    assert!(
        line.contains("no_first_message=1 no_allocation=1"),
        "{line}"
    );
}

/// SEC-12, SEC-18: frames lost for want of memory are one line a second.
#[test]
fn lost_frames_are_told() {
    let mut process =
        start("limits.tcp_queues_total_bytes = 1048576\nlimits.tcp_send_queue_bytes = 16777216");
    let peer = Peer::new();
    let (mut slow, mut quick) = (slow_client(process.tcp[0]), Client::udp_to(process.udp[0]));
    let (relayed, at_quick) = (slow.allocate(), quick.allocate());
    slow.bind(0x4000, peer.address());
    flood(&peer, relayed, &mut quick, at_quick);
    let line = process.wait_for("limits.tcp_queues_total_bytes reached");
    assert!(
        line.contains(" WARN ") && line.contains("frames="),
        "{line}"
    );
    slow.send(&[0xFF]);
    let line = process.wait_for("allocation closed");
    assert!(!line.contains("dropped_to_client=0"), "{line}");
}
