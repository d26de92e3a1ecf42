//! Connections that take their time, while others hold a call.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Packet, TestServer};

const ATTACKERS: usize = 500;

/// Addresses that they come from.
const ADDRESSES: usize = 5;

/// Between two bytes of an attacker. A second on a server as installed, whose deadlines are 10 and
/// 60 s, is so much where they are 5 and 10 s.
const DRIP: Duration = Duration::from_millis(250);

/// Packets each way between two bytes, far below what an allocation may relay.
const CALL_PACKETS: u32 = 50;

/// Both sides of a call through the server, each knowing the other by its relayed address.
struct Call {
    sides: [(Client, SocketAddr); 2],
    serial: u32,
}

impl Call {
    fn new(server: &TestServer) -> Self {
        let mut sides = [Client::tcp(server), Client::udp(server)].map(|mut client| {
            let relayed = client.allocate();
            (client, relayed)
        });
        let relayed = sides.each_ref().map(|(_, relayed)| *relayed);
        sides[0].0.bind(0x4000, relayed[1]);
        sides[1].0.bind(0x4001, relayed[0]);
        Self { sides, serial: 0 }
    }

    /// A packet each way; the second acknowledges the first.
    fn exchange(&mut self) {
        self.serial += 1;
        let mut data = [0x5A; 1200];
        data[..4].copy_from_slice(&self.serial.to_be_bytes());
        let [(tcp, _), (udp, _)] = &mut self.sides;
        tcp.send_channel(0x4000, &data);
        udp.expect_channel(0x4001, &data);
        udp.send_channel(0x4001, &data);
        tcp.expect_channel(0x4000, &data);
    }
}

/// A request that takes long to say.
fn endless() -> Vec<u8> {
    Packet::binding().attr(0x8FFF, &[7; 4000]).into_bytes()
}

/// A connection that says its request a byte at a time.
struct Attacker {
    stream: TcpStream,
    sent: usize,
}

impl Attacker {
    /// Connects, and has something answered first if it `talks`.
    fn connect(server: SocketAddr, number: usize, talks: bool) -> Self {
        let ip: IpAddr = Ipv4Addr::new(127, 0, 1, (number % ADDRESSES) as u8).into();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        socket.connect(&server.into()).unwrap();
        let mut client = Client::tcp_over(socket.into());
        if talks {
            client.expect_nothing();
        }
        let stream = client.stream().try_clone().unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, sent: 0 }
    }

    /// Sends one more byte. False once the server has closed the connection.
    fn drip(&mut self, bytes: &[u8]) -> bool {
        if self
            .stream
            .write_all(&bytes[self.sent..=self.sent])
            .is_err()
        {
            return false;
        }
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => return false,
            Ok(len) => panic!("{len} bytes of an answer"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        self.sent += 1;
        assert!(
            self.sent < bytes.len(),
            "{} bytes were not too slow",
            self.sent
        );
        true
    }
}

/// SEC-17: 500 connections that send a byte now and then, half of which have said something
/// before, end at their deadlines; a call over TCP and UDP loses nothing meanwhile.
#[test]
fn a_call_survives_five_hundred_slow_connections() {
    let server = TestServer::with(|setup| {
        setup.stream.connections = 4000;
        setup.stream.connections_per_address = 256;
        setup.stream.half_open = 512;
        setup.stream.first_message_s = 5;
        setup.stream.idle_s = 10;
    });
    let mut call = Call::new(&server);
    let bytes = endless();
    let mut attackers: Vec<Attacker> = (0..ATTACKERS)
        .map(|number| {
            let mut attacker = Attacker::connect(server.tcp(), number, number % 2 == 0);
            assert!(attacker.drip(&bytes), "the first byte of {number}");
            attacker
        })
        .collect();
    let mut dripped = 0;
    while !attackers.is_empty() {
        let next = Instant::now() + DRIP;
        for _ in 0..CALL_PACKETS {
            call.exchange();
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        attackers.retain_mut(|attacker| {
            let goes_on = attacker.drip(&bytes);
            dripped += usize::from(goes_on && attacker.sent == 2);
            goes_on
        });
    }
    assert_eq!(dripped, ATTACKERS, "so many of them sent bytes one by one");
    call.exchange();
    for (client, _) in &mut call.sides {
        client.assert_alive();
    }
}
