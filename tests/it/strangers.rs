//! Floods of strangers and of wrong passwords, over real sockets.

use std::net::{Ipv4Addr, UdpSocket};

use turnstone::turn::Limits;

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Process, TestServer, method, own_ipv4, unix_s};

fn client_at(server: &TestServer, ip: [u8; 4]) -> Client {
    Client::udp_from(
        UdpSocket::bind((Ipv4Addr::from(ip), 0)).unwrap(),
        server.udp(),
    )
}

/// Sends so many Binding requests at once, and counts the answers.
fn flood(client: &Client, server: &TestServer, requests: usize) -> usize {
    let socket = client.socket();
    for _ in 0..requests {
        let request = Packet::request(method::BINDING);
        socket.send_to(request.bytes(), server.udp()).unwrap();
    }
    // Answers leave in the order of the requests: what is behind them ends the count.
    let mut stranger = client_at(server, [127, 77, 200, 1]);
    stranger.exchange(&Packet::request(method::BINDING));
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 256];
    let answers = std::iter::repeat_with(|| socket.recv(&mut buffer)).take_while(Result::is_ok);
    let count = answers.count();
    socket.set_nonblocking(false).unwrap();
    count
}

/// SEC-09: one network is answered so often, another one as if nothing were; and so are those of
/// the first who have a nonce, an allocation or a connection.
#[test]
fn a_flood_of_one_network_is_cut_off() {
    let server = TestServer::with(|setup| {
        setup.limits = Limits {
            unauthenticated_replies_per_s: 1,
            ..Limits::default()
        };
    });
    let mut known = client_at(&server, [127, 77, 1, 1]);
    known.allocate();
    let mut flooder = client_at(&server, [127, 77, 1, 2]);
    let answers = flood(&flooder, &server, 100);
    // The rate is one a second, and how long a test takes nobody knows.
    assert!((1..50).contains(&answers), "{answers}");

    let mut other = client_at(&server, [127, 77, 2, 1]);
    other.exchange(&Packet::request(method::BINDING));
    for _ in 0..10 {
        known.exchange(&Packet::request(method::BINDING));
    }
    let mut stream = Client::tcp(&server);
    for _ in 0..10 {
        assert_eq!(
            stream.exchange(&Packet::request(method::REFRESH)).code(),
            401
        );
    }
    // With a nonce of its own the flooder is a client like any other.
    let nonce = server.authenticator.nonce(flooder.local(), unix_s());
    flooder.session = known.session.clone();
    flooder.session.as_mut().unwrap().nonce = nonce.to_vec();
    flooder.allocate();
}

/// AUTH-33: ten wrong passwords make the right one wrong, at that address and for that user only.
#[test]
fn wrong_passwords_lock_out_the_pair() {
    let server = TestServer::start();
    let at = |ip, user, password: &str| client_at(&server, ip).with_user(user, password);
    let try_it = |mut client: Client| {
        client.challenge();
        let request = Packet::request(method::ALLOCATE);
        let request = request.attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let signed = client.signed(request);
        client.exchange(&signed).code()
    };
    for _ in 0..11 {
        assert_eq!(try_it(at([127, 77, 3, 1], "alice", "wrong")), 401);
    }
    assert_eq!(try_it(at([127, 77, 3, 1], "alice", "wonderland")), 401);
    assert_eq!(try_it(at([127, 77, 3, 1], "bob", "builder")), 0);
    assert_eq!(try_it(at([127, 77, 3, 2], "alice", "wonderland")), 0);
}

/// SEC-09, SEC-18: the operator is told that replies were held back, by whom and how many, in one
/// line.
#[test]
fn the_log_tells_what_was_held_back() {
    let ip = own_ipv4();
    let mut process = Process::start(&format!(
        "auth.users = {{ alice = \"wonderland\" }}\nlisten.udp = [\"{ip}:0\"]\nlisten.tcp = []\n\
         relay.addresses = [\"{ip}\"]\nrelay.ports = \"20000-29999\"\nserver.workers = 1\n\
         limits.unauthenticated_replies_per_s = 1\n"
    ));
    let socket = UdpSocket::bind("127.77.4.1:0").unwrap();
    for _ in 0..100 {
        let request = Packet::request(method::BINDING);
        socket.send_to(request.bytes(), process.udp[0]).unwrap();
    }
    let line = process.wait_for("limits.unauthenticated_replies_per_s reached");
    assert!(
        line.contains("network=127.77.4.0/24") && line.contains("dropped="),
        "{line}"
    );
    process.terminate();
    assert!(process.wait().success());
    let told = process
        .log
        .iter()
        .filter(|line| line.contains("_per_s reached"));
    assert_eq!(told.count(), 1);
}
