//! Connections that take their time, while others hold a call.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::harness::{Client, Packet, TestServer};

/// Of each kind.
const ATTACKERS: usize = 250;

/// Packets each way between two bytes of the attackers.
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

/// Sends one more byte. False once the server has closed the connection.
fn drip(mut stream: &TcpStream, bytes: &[u8], sent: usize) -> bool {
    let goes_on = match stream.write_all(&bytes[sent..=sent]) {
        Ok(()) => match stream.read(&mut [0; 64]) {
            Ok(0) => false,
            Ok(len) => panic!("{len} bytes of an answer"),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        },
        Err(_) => false,
    };
    assert!(
        sent + 1 < bytes.len() || !goes_on,
        "{sent} bytes were not too slow"
    );
    goes_on
}

/// SEC-17: 500 connections that send a byte now and then, half of which have said something
/// before, end at their deadlines; a call over TCP and UDP loses nothing meanwhile.
#[test]
fn a_call_survives_five_hundred_slow_connections() {
    let server = TestServer::with(|setup| {
        setup.stream.connections = 600;
        setup.stream.connections_per_address = 600;
        setup.stream.half_open = 600;
        setup.stream.first_message_s = 2;
        setup.stream.idle_s = 4;
    });
    let mut call = Call::new(&server);
    let connect = |talks: bool| {
        let mut client = Client::tcp(&server);
        if talks {
            client.expect_nothing();
        }
        let stream = client.stream().try_clone().unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let mut attackers: Vec<TcpStream> = (0..2 * ATTACKERS)
        .map(|index| connect(index % 2 == 0))
        .collect();
    let bytes = endless();
    let mut sent = 0;
    while !attackers.is_empty() {
        attackers.retain(|stream| drip(stream, &bytes, sent));
        sent += 1;
        for _ in 0..CALL_PACKETS {
            call.exchange();
        }
    }
    assert!(sent > 1, "the attack was over before it began");
    for _ in 0..CALL_PACKETS {
        call.exchange();
    }
    for (client, _) in &mut call.sides {
        client.assert_alive();
    }
}
