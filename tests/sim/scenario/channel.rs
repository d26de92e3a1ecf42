//! Channels (RFC 8656 §12).

use std::net::SocketAddr;

use turnstone::turn::{IpHeader, Limits};
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address};
use crate::message::{Delivered, channel_data};

fn client() -> TestClient {
    TestClient::udp("198.51.100.1:4000")
}

fn peer(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([9, 9, 9, last], port))
}

fn hear(host: &mut Host, relayed: SocketAddr, peer: SocketAddr) -> Option<Delivered> {
    let (_, delivered, _) = host.peer_packet(relayed, peer, IpHeader::default(), b"peer")?;
    Some(delivered)
}

/// CHAN-01, CHAN-02, CHAN-17, CHAN-08
#[test]
fn numbers_and_addresses() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.bind(&mut host, 0x4000, peer(1, 1)).error(437);
    client.allocate(&mut host);
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF] {
        client.bind(&mut host, number, peer(1, 1)).error(400);
    }
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    client.bind(&mut host, 0x4FFF, peer(1, 2)).success();
    client.bind(&mut host, 0x4001, peer(1, 0)).error(400);
    client
        .bind(&mut host, 0x4001, address("10.0.0.1:1"))
        .error(403);
    client
        .bind(&mut host, 0x4001, address("[2606:4700::1]:1"))
        .error(443);
    let answer = client.request(&mut host, Method::ChannelBind, |builder| {
        builder.u32(A::CHANNEL_NUMBER, 0x4001 << 16);
    });
    answer.error(400);
    for number in [
        None,
        Some(&[0x40u8, 0x01] as &[_]),
        Some(&[0x40, 1, 0, 0, 0]),
    ] {
        let answer = client.request(&mut host, Method::ChannelBind, |builder| {
            if let Some(number) = number {
                builder.attribute(A::CHANNEL_NUMBER, number);
            }
            builder.xor_address(A::XOR_PEER_ADDRESS, peer(1, 3));
        });
        answer.error(400);
    }
    let answer = client.request(&mut host, Method::ChannelBind, |builder| {
        builder
            .u32(A::CHANNEL_NUMBER, 0x4001_FFFF)
            .xor_address(A::XOR_PEER_ADDRESS, peer(1, 3));
    });
    answer.success();
    assert!(client.send_on(&mut host, 0x4001, b"x").is_some());
}

/// CHAN-03, CHAN-04: one to one, and a refusal changes nothing.
#[test]
fn one_peer_a_channel() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let relayed = client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    host.advance_s(200);
    client.bind(&mut host, 0x4000, peer(2, 1)).error(400);
    client.bind(&mut host, 0x4000, peer(1, 2)).error(400);
    client.bind(&mut host, 0x4001, peer(1, 1)).error(400);
    assert_eq!(
        hear(&mut host, relayed, peer(2, 1)),
        None,
        "no permission by the way"
    );
    client.bind(&mut host, 0x4001, peer(1, 2)).success();
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    assert_eq!(
        client.send_on(&mut host, 0x4000, b"x").unwrap().to,
        peer(1, 1)
    );
    assert_eq!(
        client.send_on(&mut host, 0x4001, b"x").unwrap().to,
        peer(1, 2)
    );
}

/// CHAN-05, CHAN-06: 600 seconds; then peer data comes as a Data indication, and number and peer
/// are free.
#[test]
fn six_hundred_seconds() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let relayed = client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    host.advance_s(500);
    client.permit(&mut host, &[peer(1, 1)]).success();
    client.refresh(&mut host, 600).success();
    host.advance_ms(99_999);
    assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
    let number = 0x4000;
    let data = b"peer".to_vec();
    assert_eq!(
        hear(&mut host, relayed, peer(1, 1)),
        Some(Delivered::Channel {
            number,
            data: data.clone()
        })
    );
    host.advance_ms(1);
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    let indication = Delivered::Data {
        peer: peer(1, 1),
        data,
    };
    assert_eq!(hear(&mut host, relayed, peer(1, 1)), Some(indication));
    client.nonce = None;
    client.bind(&mut host, 0x4000, peer(2, 1)).success();
    client.bind(&mut host, 0x4001, peer(1, 1)).success();
    assert_eq!(
        client.send_on(&mut host, 0x4000, b"x").unwrap().to,
        peer(2, 1)
    );
}

/// CHAN-07
#[test]
fn a_channel_brings_its_permission() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let relayed = client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    assert!(client.send(&mut host, peer(1, 77), b"x").is_some());
    assert!(matches!(
        hear(&mut host, relayed, peer(1, 77)),
        Some(Delivered::Data { .. })
    ));
}

/// CHAN-09, CHAN-10: once the permission has lapsed, the channel serves the client's way only.
#[test]
fn a_channel_without_its_permission() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let relayed = client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    host.advance_ms(299_999);
    assert!(hear(&mut host, relayed, peer(1, 1)).is_some());
    host.advance_ms(1);
    assert_eq!(hear(&mut host, relayed, peer(1, 1)), None);
    assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
    assert_eq!(client.send(&mut host, peer(1, 1), b"x"), None);
    client.permit(&mut host, &[peer(1, 9)]).success();
    assert!(matches!(
        hear(&mut host, relayed, peer(1, 1)),
        Some(Delivered::Channel { .. })
    ));
}

/// CHAN-11, CHAN-12, TUP-01
#[test]
fn channel_data_that_leads_nowhere() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer(1, 1)).success();
    for number in [0x4001, 0x4FFF, 0x5000, 0x7FFF] {
        assert_eq!(client.send_on(&mut host, number, b"x"), None);
    }
    let message = channel_data(0x4000, b"12345", false);
    for len in 0..message.len() {
        assert_eq!(client.data(&mut host, &message[..len]), None);
    }
    for surplus in 0..=8 {
        let mut message = message.clone();
        message.resize(message.len() + surplus, 0xFF);
        assert_eq!(client.data(&mut host, &message).unwrap().data, b"12345");
    }
}

/// CHAN-13, CHAN-14, SEND-03
#[test]
fn every_length_both_ways_on_both_transports() {
    let mut host = Host::new(Setup::default());
    for mut client in [client(), TestClient::tcp("198.51.100.1:4000")] {
        let relayed = client.allocate(&mut host);
        client.bind(&mut host, 0x4000, peer(1, 1)).success();
        for len in (0..=9).chain([1200, 1472, 65_000]) {
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let sent = client.send_on(&mut host, 0x4000, &data).unwrap();
            assert_eq!((sent.to, sent.from), (peer(1, 1), relayed));
            assert_eq!(sent.data, data);
            let sent = client.send(&mut host, peer(1, 7), &data).unwrap();
            assert_eq!((sent.to, sent.data), (peer(1, 7), data.clone()));
            for (from, number) in [(peer(1, 1), Some(0x4000)), (peer(1, 2), None)] {
                let header = IpHeader::default();
                let (to, delivered, _) = host.peer_packet(relayed, from, header, &data).unwrap();
                assert_eq!((to, delivered.data()), (client.at, &data[..]));
                let is_channel = matches!(delivered, Delivered::Channel { .. });
                assert_eq!(is_channel, number.is_some());
            }
        }
    }
}

/// CHAN-16
#[test]
fn no_channel_data_without_a_channel() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::tcp("198.51.100.1:4000");
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[peer(1, 1)]).success();
    for port in 1..=1000 {
        let delivered = hear(&mut host, relayed, peer(1, port));
        assert!(matches!(delivered, Some(Delivered::Data { .. })));
    }
}

/// CHAN-18, SEC-12
#[test]
fn all_the_channels_there_are() {
    let mut host = Host::new(Setup {
        limits: Limits {
            channels_per_allocation: 4096,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut client = client();
    let relayed = client.allocate(&mut host);
    for n in 0..4096 {
        client.bind(&mut host, 0x4000 + n, peer(1, 1 + n)).success();
    }
    for n in (0..4096).step_by(37) {
        assert_eq!(
            client.send_on(&mut host, 0x4000 + n, b"x").unwrap().to,
            peer(1, 1 + n)
        );
        let delivered = hear(&mut host, relayed, peer(1, 1 + n));
        assert!(
            matches!(delivered, Some(Delivered::Channel { number, .. }) if number == 0x4000 + n)
        );
    }
    host.advance_s(599);
    client.refresh(&mut host, 600).success();
    host.advance_s(1);
    client.nonce = None;
    client.bind(&mut host, 0x4001, peer(2, 1)).success();
}
