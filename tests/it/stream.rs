//! TCP clients (RFC 8489 §6.2.2, RFC 8656 §12.5).

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::harness::attribute as a;
use crate::harness::{
    Client, DEADLINE, Message, Packet, Peer, Received, TestServer, Via, eventually, method,
};

/// STREAM-01: one byte a segment, and all in one.
#[test]
fn segments_do_not_matter() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::STREAMS {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        let binding = Packet::binding();
        let refresh = client.signed(Packet::request(method::REFRESH));
        let mut bytes = binding.bytes().to_vec();
        bytes.extend(b"\x40\x00\x00\x05hello\0\0\0");
        bytes.extend(refresh.bytes());
        bytes.extend(b"\x40\x00\x00\x00");
        bytes.extend(b"\x40\x00\x00\x04data");
        let segments: [Vec<&[u8]>; 3] = [
            bytes.chunks(1).collect(),
            bytes.chunks(7).collect(),
            vec![&bytes],
        ];
        for segments in segments {
            for segment in segments {
                client.send(segment);
            }
            peer.expect(b"hello", relayed);
            peer.expect(b"", relayed);
            peer.expect(b"data", relayed);
            assert_eq!(Message::parse(&client.recv()).id(), binding.id());
            assert_eq!(Message::parse(&client.recv()).id(), refresh.id());
        }
    }
}

/// STREAM-01: a hundred frames in one write, and their answers in order.
#[test]
fn many_frames_in_one_segment() {
    let server = TestServer::start();
    let mut client = Client::tcp(&server);
    let requests: Vec<Packet> = (0..100).map(|_| Packet::binding()).collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|r| r.bytes().to_vec()).collect();
    client.send(&bytes);
    for request in requests {
        assert_eq!(Message::parse(&client.recv()).id(), request.id());
    }
}

/// STREAM-02, SEC-19: the connection ends, without an echo, and takes its allocation along.
#[test]
fn what_is_out_of_step_ends_the_connection() {
    let server = TestServer::with(|setup| setup.tls = None);
    let mut bad_cookie = Packet::binding().into_bytes();
    bad_cookie[7] ^= 1;
    let mut bad_length = Packet::binding().into_bytes();
    bad_length[3] = 1;
    let junk: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        b"\x80\x00\x00\x00",
        b"\xFF",
        b"\x05\x01\x00\x00",
        &bad_cookie,
        &bad_length,
        b"\x13BitTorrent protocol",
    ];
    for bytes in junk {
        let mut client = Client::tcp(&server);
        client.send(bytes);
        assert_eq!(client.expect_close(), b"", "{bytes:02x?} at first");
        let mut client = Client::tcp(&server);
        client.allocate();
        // After STUN, what begins like ChannelData is ChannelData.
        let bytes = if bytes[0] == b'G' { b"\x50" } else { bytes };
        client.send(bytes);
        assert_eq!(client.expect_close(), b"", "{bytes:02x?} later");
        eventually("the end of the allocation", || server.live_ports() == 0);
    }
}

/// STREAM-02: the longest lengths are waited for and do not wrap.
#[test]
fn the_longest_lengths_do_not_wrap() {
    let server = TestServer::start();
    let peer = Peer::new();
    for (header, promised) in [(b"\x40\x00\xFF\xFF", 65_536), (b"\x40\x00\xFF\xFC", 65_532)] {
        let mut client = Client::tcp(&server);
        client.allocate();
        client.send(header);
        client.send(&vec![0; promised - 1]);
        let mut rest = vec![0];
        rest.extend(Packet::binding().bytes());
        client.send(&rest);
        assert_eq!(Message::parse(&client.recv()).code(), 0);
    }
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    let mut header = Packet::binding().into_bytes();
    header[2..4].copy_from_slice(&[0xFF, 0xFC]);
    client.send(&header);
    client.send(&vec![0; 0xFFFC]);
    client.permit(peer.address());
    client.send_data(peer.address(), b"in step");
    peer.expect(b"in step", relayed);
}

/// STREAM-03: a client that does not read loses whole frames, the oldest first, keeps its framing and
/// its replies, and costs no more than its queue.
#[test]
fn a_slow_reader_loses_whole_frames() {
    lose_frames(Via::Tcp);
}

/// STREAM-03: likewise.
#[test]
fn a_slow_reader_loses_whole_frames_under_tls() {
    lose_frames(Via::Tls);
}

fn lose_frames(via: Via) {
    const DATAGRAMS: u32 = 8192;
    let server = TestServer::with(|setup| {
        setup.limits.allocation_kbit_per_s = 0;
        setup.limits.user_kbit_per_s = 0;
    });
    let (peer, probe) = (Peer::new(), Peer::new());
    let mut slow = Client::new(&server, via);
    let mut quick = Client::udp(&server);
    let (relayed, at_quick) = (slow.allocate(), quick.allocate());
    slow.bind(0x4000, peer.address());
    quick.permit(probe.address());
    for round in 0..DATAGRAMS {
        let mut data = [round as u8; 1301];
        data[..4].copy_from_slice(&round.to_be_bytes());
        peer.send(&data, relayed);
        if round % 16 == 0 {
            // The others are served, and this much at least has been relayed.
            probe.send(&round.to_be_bytes(), at_quick);
            quick.expect_data(probe.address(), &round.to_be_bytes());
        }
    }
    let refresh = slow.signed(Packet::request(method::REFRESH));
    slow.send(refresh.bytes());
    let (mut last, mut frames, mut is_answered) = (None, 0, false);
    loop {
        match slow.next() {
            Received::Channel { data, .. } if data == b"as before" => break,
            Received::Channel { number, data } => {
                let round = u32::from_be_bytes(data[..4].try_into().unwrap());
                assert_eq!((number, data.len()), (0x4000, 1301));
                assert!(
                    data[4..].iter().all(|&byte| byte == round as u8),
                    "frame {round}"
                );
                assert!(last < Some(round), "frames out of order");
                (last, frames) = (Some(round), frames + 1);
            }
            Received::Message(reply) => {
                assert_eq!((reply.id(), reply.code()), (refresh.id(), 0));
                is_answered = true;
                peer.send(b"as before", relayed);
            }
            Received::Data { .. } => panic!("a Data indication in spite of the channel"),
        }
    }
    assert!(is_answered);
    assert!(
        (100..DATAGRAMS).contains(&frames),
        "{frames} of {DATAGRAMS} frames"
    );
    assert_eq!(last, Some(DATAGRAMS - 1), "what is new is kept");
    let lost = DATAGRAMS - frames;
    eventually("the numbers", || {
        let text = server.engine.metrics().to_text();
        let has = |series: &str, number: u32| {
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.is_some_and(|it| it.trim().parse() == Ok(number))
        };
        has(
            "turnstone_dropped_packets_total{cause=\"tcp_queue_full\"}",
            lost,
        ) && has(
            "turnstone_tcp_dropped_bytes_total{cause=\"queue_full\"}",
            lost * 1308,
        )
    });
}

/// STREAM-04, TUP-04: a client that says no more is gone.
#[test]
fn half_a_close_is_a_whole_one() {
    let server = TestServer::start();
    let mut client = Client::tcp(&server);
    client.allocate();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.expect_close(), b"");
    eventually("the end of the allocation", || server.live_ports() == 0);
}

/// STREAM-04: what was asked before the close is answered first.
#[test]
fn requests_before_a_half_close_are_answered() {
    let server = TestServer::start();
    let mut client = Client::tcp(&server);
    let request = Packet::binding();
    client.send(request.bytes());
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(Message::parse(&client.recv()).id(), request.id());
}

/// STREAM-05, SEC-17, BIND-10: silence ends a connection without an allocation, sooner if nothing
/// complete was ever said, and no other.
#[test]
fn silence_ends_connections_without_an_allocation() {
    let server = TestServer::with(|setup| {
        setup.stream.first_message_s = 2;
        setup.stream.idle_s = 2;
    });
    let mut owner = Client::tcp(&server);
    owner.allocate();
    let mut idle = Client::tcp(&server);
    idle.expect_nothing();
    let slow = Client::tcp(&server);
    let mut silent = Client::tcp(&server);
    let header = Packet::binding().into_bytes();
    // A byte now and then is no message; the server ends this while it is still going on. In
    // between, the owner's connection is waited on, because nothing ends it.
    let pause = std::time::Duration::from_millis(200);
    owner.stream().set_read_timeout(Some(pause)).unwrap();
    let closed = header.iter().find(|byte| {
        let sent = slow.stream().write_all(&[**byte]);
        let _ = owner.stream().peek(&mut [0]);
        sent.is_err()
    });
    assert!(closed.is_some(), "20 bytes in 4 s are too slow for 2 s");
    owner.stream().set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(silent.expect_close(), b"");
    assert_eq!(idle.expect_close(), b"");
    owner.assert_alive();
}

/// SEC-12: one connection more than there may be is closed, where all have an allocation; one that
/// ends makes room.
#[test]
fn connections_are_limited() {
    let server = TestServer::with(|setup| {
        setup.stream.connections = 3;
        setup.workers = 2;
    });
    let mut open: Vec<Client> = (0..3).map(|_| Client::tcp(&server)).collect();
    for client in &mut open {
        client.allocate();
    }
    assert_eq!(Client::tcp(&server).expect_close(), b"");
    open.pop();
    eventually("the end of a connection", || {
        let mut stream = TcpStream::connect(server.tcp()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let sent = stream.write_all(Packet::binding().bytes());
        sent.is_ok() && matches!(std::io::Read::read(&mut stream, &mut [0; 64]), Ok(32))
    });
}

/// STREAM-05: the server's other connections and its UDP listeners mind no disconnected client.
#[test]
fn connections_that_end_in_the_middle_disturb_nobody() {
    let server = TestServer::start();
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    let peer = Peer::new();
    client.permit(peer.address());
    for cut in 1..20 {
        let mut other = Client::tcp(&server);
        other.send(&Packet::binding().bytes()[..cut]);
        drop(other);
        let mut reset = Client::tcp(&server);
        reset.allocate();
        reset.permit(peer.address());
        let at_reset = reset.try_refresh(None).code();
        assert_eq!(at_reset, 0);
        socket2::SockRef::from(reset.stream())
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(reset);
        client.send_data(peer.address(), b"data");
        peer.expect(b"data", relayed);
    }
    eventually("the end of their allocations", || server.live_ports() == 1);
}

/// STREAM-01: replies and data of many peers, mixed on one connection.
#[test]
fn replies_and_data_share_a_connection() {
    let server = TestServer::start();
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    let peers: Vec<Peer> = (0..5).map(|_| Peer::new()).collect();
    for (index, peer) in peers.iter().enumerate() {
        if index % 2 == 0 {
            client.bind(0x4000 + index as u16, peer.address());
        }
    }
    for round in 0..20_u8 {
        for (index, peer) in peers.iter().enumerate() {
            peer.send(&vec![round; index], relayed);
        }
        client.assert_alive();
        let mut seen: Vec<(SocketAddr, Vec<u8>)> = (0..peers.len())
            .map(|_| match client.next() {
                Received::Channel { number, data } => {
                    (peers[usize::from(number - 0x4000)].address(), data)
                }
                Received::Data { peer, data } => (peer, data),
                Received::Message(message) => panic!("{message:?}"),
            })
            .collect();
        seen.sort_by_key(|(_, data)| data.len());
        for (index, (peer, data)) in seen.into_iter().enumerate() {
            assert_eq!((peer, data), (peers[index].address(), vec![round; index]));
        }
    }
    let reply = client.exchange(&Packet::binding());
    assert_eq!(reply.types(), [a::XOR_MAPPED_ADDRESS]);
}
