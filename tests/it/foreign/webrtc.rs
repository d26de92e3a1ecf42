//! The client of webrtc-rs. It permits a peer with its first datagram to it, sends that as a Send
//! indication, and binds a channel meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

use crate::harness::{DEADLINE, Peer, REALM, TestServer, eventually};

fn config(server: &TestServer, conn: tokio::net::UdpSocket, password: &str) -> ClientConfig {
    let address = server.udp().to_string();
    ClientConfig {
        stun_serv_addr: address.clone(),
        turn_serv_addr: address,
        username: "alice".to_owned(),
        password: password.to_owned(),
        realm: REALM.to_owned(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(conn),
        vnet: None,
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(DEADLINE, test).await.expect("in time") });
}

async fn client(server: &TestServer, password: &str) -> Client {
    let conn = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(config(server, conn, password)).await.unwrap();
    client.listen().await.unwrap();
    client
}

/// ALLOC-01, PERM-01, CHAN-04, CHAN-09, SEND-03, REFR-02, BIND-01
#[test]
fn relays_both_ways() {
    let server = TestServer::start();
    run(async {
        let client = client(&server, "wonderland").await;
        let mapped = client.send_binding_request().await.unwrap();
        assert!(mapped.ip().is_loopback());
        let relay = client.allocate().await.unwrap();
        let relayed = relay.local_addr().unwrap();
        assert_eq!(relayed.ip(), server.relay[0].bound);
        let peer = Peer::new();
        let mut buffer = [0; 1500];
        for round in 0..100_u8 {
            let data = [round; 1200];
            let to_peer = &data[..usize::from(round) * 12];
            relay.send_to(to_peer, peer.address()).await.unwrap();
            peer.expect(to_peer, relayed);
            peer.send(&[round, 1], relayed);
            let (len, from) = relay.recv_from(&mut buffer).await.unwrap();
            assert_eq!((&buffer[..len], from), (&[round, 1][..], peer.address()));
            // Lets the channel come about.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        relay.close().await.unwrap();
        client.close().await.unwrap();
    });
    eventually("the deletion", || server.live_ports() == 0);
}

/// AUTH-06
#[test]
fn a_wrong_password_is_an_error() {
    let server = TestServer::start();
    run(async {
        let client = client(&server, "wrong").await;
        assert!(client.allocate().await.is_err());
        client.close().await.unwrap();
    });
}
