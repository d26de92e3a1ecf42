//! Reading the configuration again, and draining, while calls go on.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use rustix::process::Signal;
use sha1::Sha1;
use tempfile::TempDir;

use crate::harness::attribute as a;
use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, ask_socket, eventually, method, own_ipv4, unix_s,
};

/// A configuration on an address, with more of it.
fn config(ip: Ipv4Addr, more: &str) -> String {
    let has = |key: &str| more.contains(key);
    let mut text = String::new();
    for (key, line) in [
        ("realm", "realm = \"example.org\"".to_owned()),
        (
            "auth.",
            "auth.users = { alice = \"wonderland\" }".to_owned(),
        ),
        ("listen.udp", format!("listen.udp = [\"{ip}:0\"]")),
        ("listen.tcp", format!("listen.tcp = [\"{ip}:0\"]")),
        ("relay.addresses", format!("relay.addresses = [\"{ip}\"]")),
        ("relay.ports", "relay.ports = \"20000-20099\"".to_owned()),
        ("server.workers", "server.workers = 2".to_owned()),
    ] {
        if !has(key) {
            text += &line;
            text += "\n";
        }
    }
    text + "peers.allow_loopback = true\n" + more + "\n"
}

fn start(ip: Ipv4Addr, more: &str) -> Process {
    let process = Process::start(&config(ip, more));
    process.let_read();
    process
}

/// A call: a client, its relayed address, and whom it talks to.
struct Call {
    client: Client,
    relayed: SocketAddr,
    peer: Peer,
    packets: u32,
}

impl Call {
    fn new(mut client: Client) -> Self {
        let relayed = client.allocate();
        let peer = Peer::new();
        client.bind(0x4000, peer.address());
        Self {
            client,
            relayed,
            peer,
            packets: 0,
        }
    }

    /// A packet each way, of which none may be lost.
    #[track_caller]
    fn talk(&mut self) {
        self.packets += 1;
        let data = self.packets.to_be_bytes();
        self.client.send_channel(0x4000, &data);
        self.peer.expect(&data, self.relayed);
        self.peer.send(&data, self.relayed);
        self.client.expect_channel(0x4000, &data);
    }
}

fn calls(process: &Process) -> [Call; 2] {
    let (udp, tcp) = (process.udp[0], process.tcp[0]);
    [Client::udp_to(udp), Client::tcp_to(tcp)].map(Call::new)
}

#[track_caller]
fn assert_changed(line: &str, keys: &str) {
    let changed = format!("configuration reloaded changed=\"{keys}\"");
    assert!(line.contains(&changed), "{keys}: {line}");
}

/// What an Allocate request gets that is signed with what the client knows.
fn verdict(client: &mut Client) -> u16 {
    let packet = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let signed = client.signed(packet);
    client.exchange(&signed).code()
}

/// RELOAD-01: a hundred of them, each with a change, and packets all the while.
#[test]
fn calls_go_on_through_a_hundred_reloads() {
    let ip = own_ipv4();
    let mut process = start(ip, "server.software = \"0\"");
    let mut calls = calls(&process);
    for round in 1..=100 {
        process.configure(&config(ip, &format!("server.software = \"{round}\"")));
        process.signal(Signal::HUP);
        for call in &mut calls {
            call.talk();
        }
        let line = process.wait_for(" reloaded");
        assert_changed(&line, "server.software");
        for call in &mut calls {
            call.talk();
        }
    }
    for call in &mut calls {
        let reply = call.client.try_refresh(None);
        assert_eq!(reply.get(a::SOFTWARE), Some(&b"100"[..]));
    }
    let line = process.reload(&config(ip, "server.software = \"100\""));
    assert!(line.contains("nothing else has changed"), "{line}");
}

/// The password of a time-limited name, made as the draft says.
fn of_secret(process: &Process, secret: &str) -> Client {
    let name = format!("{}:alice", unix_s() + 600);
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(name.as_bytes());
    let password = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    Client::udp_to(process.udp[0]).with_user(&name, &password)
}

/// RELOAD-01: a secret that is gone makes no allocations, and ends none.
#[test]
fn secrets_rotate_without_ending_calls() {
    let ip = own_ipv4();
    let secret = |text: &str| config(ip, &format!("auth.static_auth_secret = \"{text}\""));
    let mut process = Process::start(&secret("the-first-secret-of-many"));
    let mut old = Call::new(of_secret(&process, "the-first-secret-of-many"));
    let line = process.reload(&secret("the-second-secret-of-many"));
    assert_changed(&line, "auth.static_auth_secret");
    assert!(!process.log.join("\n").contains("secret-of-many"));
    old.talk();
    old.client.assert_alive();
    assert_eq!(
        verdict(&mut of_secret(&process, "the-first-secret-of-many")),
        401
    );
    Call::new(of_secret(&process, "the-second-secret-of-many")).talk();

    // From a file that is written anew.
    let file = process.home.path().join("secret");
    fs::write(&file, "the-second-secret-of-many\n").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let in_file = config(ip, "auth.static_auth_secret_file = \"secret\"");
    let line = process.reload(&in_file);
    assert!(line.contains("nothing else has changed"), "{line}");
    fs::write(&file, "the-third-secret-of-many\n").unwrap();
    assert_changed(&process.reload(&in_file), "auth.static_auth_secret");
    assert_eq!(
        verdict(&mut of_secret(&process, "the-second-secret-of-many")),
        401
    );
    Call::new(of_secret(&process, "the-third-secret-of-many")).talk();
    old.client.assert_alive();
}

/// RELOAD-01: the secret that a server made for itself stays, and none is made later.
#[test]
fn the_secret_of_a_first_run_stays() {
    let ip = own_ipv4();
    let bare = |software: &str| {
        let text = config(ip, &format!("server.software = \"{software}\""));
        text.replace("auth.users = { alice = \"wonderland\" }\n", "")
    };
    let mut process = Process::start(&bare("before"));
    let secret = process.home.path().join("turnstone/static-auth-secret");
    let secret = fs::read_to_string(secret).unwrap();
    let mut call = Call::new(of_secret(&process, secret.trim()));
    assert_changed(&process.reload(&bare("after")), "server.software");
    call.talk();
    assert_eq!(verdict(&mut of_secret(&process, secret.trim())), 0);

    let mut process = start(ip, "");
    let line = process.reload(&bare("turnstone"));
    assert!(
        line.contains("ERROR") || line.contains("not reloaded"),
        "{line}"
    );
    let log = process.log.join("\n");
    assert!(
        log.contains("auth: no secret or user is configured any more"),
        "{log}"
    );
    Client::udp_to(process.udp[0]).allocate();
}

/// RELOAD-01: what an operator set by command stays, unless the file says something else.
#[test]
fn a_level_that_was_set_stays() {
    let ip = own_ipv4();
    let mut process = start(ip, "server.software = \"0\"");
    let socket = process.home().join("admin.sock");
    let level = || ask_socket(&socket, "GET", "/v1/log-level", "").success();
    let debug = serde_json::json!({ "level": "debug" });
    ask_socket(&socket, "PUT", "/v1/log-level", &debug.to_string()).success();
    process.reload(&config(ip, "server.software = \"1\""));
    assert_eq!(level(), debug);
    process.reload(&config(ip, "log.level = \"trace\""));
    assert_eq!(level()["level"], "trace");
}

/// RELOAD-01: a file that set nothing at the start is read again all the same, though the process has
/// given up all files that it has not named; and operators see what is in force.
#[test]
fn an_empty_file_can_be_filled() {
    let ip = own_ipv4();
    let text = config(ip, "");
    let lines = text.lines().filter_map(|line| line.split_once(" = "));
    let variables = lines.map(|(key, value)| {
        let name = key.replace('.', "__").to_uppercase();
        let value = value
            .trim_matches(['[', ']', '{', '}', ' '])
            .replace(['"', ' '], "");
        format!("export TURNSERVER_{name}='{value}'\n")
    });
    let mut process = Process::start_with("# nothing yet\n", &variables.collect::<String>());
    process.let_read();
    let socket = process.home().join("admin.sock");
    let info = || ask_socket(&socket, "GET", "/v1/info", "").success();
    assert_ne!(info()["limits"]["allocations_per_user"], 7);
    assert_eq!(info()["config"]["generation"], 1);
    let line = process.reload("limits.allocations_per_user = 7\n");
    assert_changed(&line, "limits.allocations_per_user");
    assert_eq!(info()["limits"]["allocations_per_user"], 7);
    assert_eq!(info()["config"]["generation"], 2);
    Call::new(Client::udp_to(process.udp[0])).talk();
}

/// RELOAD-03: the nonce of the old realm gets a 438 with the new one, and allocations go on with the
/// key of either.
#[test]
fn another_realm_is_told_to_live_clients() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    let mut calls = calls(&process);
    let line = process.reload(&config(ip, "realm = \"example.net\""));
    assert_changed(&line, "realm");
    for (index, call) in calls.iter_mut().enumerate() {
        call.talk();
        let client = &mut call.client;
        let refresh = client.signed(Packet::request(method::REFRESH));
        let reply = client.exchange(&refresh);
        assert_eq!(reply.code(), 438);
        assert_eq!(reply.get(a::REALM), Some(&b"example.net"[..]));
        let old = client.session.clone().unwrap();
        client.take_challenge(&reply);
        if index == 0 {
            // As clients do that take the nonce alone.
            client.session.as_mut().unwrap().realm = old.realm;
        }
        client.assert_alive();
        call.talk();
    }
    let mut new = Client::udp_to(process.udp[0]);
    new.challenge();
    assert_eq!(new.session.as_ref().unwrap().realm, b"example.net");
    new.allocate();
    // Without an allocation the old realm is none.
    let mut stranger = Client::udp_to(process.udp[0]);
    stranger.challenge();
    stranger.session.as_mut().unwrap().realm = b"example.org".to_vec();
    assert_eq!(verdict(&mut stranger), 401);
}

/// RELOAD-01: what is wrong is told in the words of the start, and nothing is taken over.
#[test]
fn a_broken_configuration_changes_nothing() {
    let ip = own_ipv4();
    let mut process = start(ip, "server.software = \"before\"");
    let mut calls = calls(&process);
    let broken = config(
        ip,
        "server.software = \"after\"\nlimits.tcp_idle_s = 1\npeers.deny = [\"nonsense\"]",
    );
    let line = process.reload(&broken);
    let told = "configuration not reloaded: the server goes on as it was";
    assert!(line.contains("ERROR") && line.contains(told), "{line}");
    let log = process.log.join("\n");
    for problem in [
        "limits.tcp_idle_s: 1 is out of range",
        "peers.deny: \"nonsense\"",
    ] {
        let found = log.lines().find(|line| line.contains(problem));
        let found = found.unwrap_or_else(|| panic!("{problem} is not in {log}"));
        assert!(
            found.contains("ERROR") && found.contains("turnserver.toml:"),
            "{found}"
        );
    }
    for call in &mut calls {
        call.talk();
        let reply = call.client.try_refresh(None);
        assert_eq!(reply.get(a::SOFTWARE), Some(&b"before"[..]));
    }
    let line = process.reload(&config(ip, "server.software = \"after\""));
    assert_changed(&line, "server.software");
}

/// RELOAD-05: a listener that is added serves; one that is gone serves who has an allocation, and
/// nobody else, and goes with the last one; and it can come back at any time.
#[test]
fn listeners_come_and_go() {
    let ip = own_ipv4();
    let (udp, tcp) = (SocketAddr::from((ip, 5000)), SocketAddr::from((ip, 5001)));
    let with =
        format!("listen.udp = [\"{ip}:0\", \"{udp}\"]\nlisten.tcp = [\"{ip}:0\", \"{tcp}\"]");
    let mut process = start(ip, "");
    let mut first = calls(&process);
    let socket = process.home().join("admin.sock");
    let is_leaving = || {
        let info = ask_socket(&socket, "GET", "/v1/info", "").success();
        let listeners = info["listeners"].as_array().unwrap().iter();
        let mut here = listeners.filter(|it| it["address"] == udp.to_string());
        here.next().map(|it| it["leaving"].as_bool().unwrap())
    };
    assert_eq!(is_leaving(), None);
    for _ in 0..3 {
        let line = process.reload(&config(ip, &with));
        assert_changed(&line, "listen.udp, listen.tcp");
        assert_eq!(is_leaving(), Some(false));
        // On several workers.
        let mut added: Vec<Call> = (0..6).map(|_| Call::new(Client::udp_to(udp))).collect();
        let mut stream = Call::new(Client::tcp_to(tcp));
        let line = process.reload(&config(ip, ""));
        assert_changed(&line, "listen.udp, listen.tcp");
        assert_eq!(is_leaving(), Some(true));
        let refused = TcpStream::connect(tcp).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let strangers: Vec<UdpSocket> = (0..6)
            .map(|_| {
                let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                stranger.send_to(Packet::binding().bytes(), udp).unwrap();
                stranger
            })
            .collect();
        for call in added.iter_mut().chain([&mut stream]).chain(&mut first) {
            call.talk();
            call.client.assert_alive();
        }
        // All but one go: it keeps the port of all workers.
        let mut last = added.pop().unwrap();
        for mut call in added {
            call.client.delete();
        }
        last.talk();
        assert!(UdpSocket::bind(udp).is_err());
        last.client.delete();
        eventually("the end of the listener", || UdpSocket::bind(udp).is_ok());
        for stranger in strangers {
            stranger.set_nonblocking(true).unwrap();
            let answered = stranger.recv(&mut [0; 100]);
            assert!(answered.is_err(), "who has no allocation is not served");
        }
        stream.talk();
    }
    // Back before it has gone.
    process.reload(&config(ip, &with));
    let mut call = Call::new(Client::udp_to(udp));
    process.reload(&config(ip, ""));
    process.reload(&config(ip, &with));
    Call::new(Client::udp_to(udp)).talk();
    Call::new(Client::tcp_to(tcp)).talk();
    call.talk();
    for call in &mut first {
        call.talk();
    }
}

/// RELOAD-05: a listener that cannot be had changes nothing, not even what could be.
#[test]
fn a_listener_that_cannot_be_had_changes_nothing() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    let holder = UdpSocket::bind((ip, 0)).unwrap();
    let taken = holder.local_addr().unwrap();
    let more = format!(
        "listen.udp = [\"{ip}:0\", \"{ip}:5000\", \"{taken}\"]\nserver.software = \"after\""
    );
    let line = process.reload(&config(ip, &more));
    assert!(line.contains("not reloaded"), "{line}");
    let log = process.log.join("\n");
    let told = format!("cannot listen on {taken}/udp: the port is in use");
    assert!(log.contains(&told), "{log}");
    UdpSocket::bind((ip, 5000)).expect("the other listener has not been opened");
    let mut call = Call::new(Client::udp_to(process.udp[0]));
    let reply = call.client.try_refresh(None);
    assert_ne!(reply.get(a::SOFTWARE), Some(&b"after"[..]));
    drop(holder);
    let line = process.reload(&config(ip, &more));
    assert_changed(&line, "listen.udp, server.software");
    Call::new(Client::udp_to(taken)).talk();
    call.talk();
}

/// RELOAD-05: what takes a privilege takes a restart, and the log says so.
#[test]
fn a_low_port_needs_a_restart() {
    let least = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if least.is_ok_and(|least| least.trim().parse::<u16>().unwrap() <= 99) {
        println!("anybody may open low ports here: not tested");
        return;
    }
    let ip = own_ipv4();
    let mut process = start(ip, "");
    for transport in ["udp", "tcp"] {
        let more = format!("listen.{transport} = [\"{ip}:0\", \"{ip}:99\"]");
        let line = process.reload(&config(ip, &more));
        assert!(line.contains("not reloaded"), "{line}");
        let log = process.log.join("\n");
        let told = format!(
            "cannot listen on {ip}:99/{transport}: a server that runs has no right to ports below \
             1024 any more; restart it"
        );
        assert!(log.contains(&told), "{log}");
    }
    Client::udp_to(process.udp[0]).allocate();
}

/// RELOAD-04: relay addresses, their names and their ports, for new allocations.
#[test]
fn relays_move_and_live_ones_stay() {
    let (ip, other) = (own_ipv4(), own_ipv4());
    let mut process = start(ip, "");
    let mut calls = Vec::new();
    let mut check = |process: &Process, ip: IpAddr, ports: RangeInclusive<u16>| {
        for _ in 0..4 {
            let mut client = Client::udp_to(process.udp[0]);
            let relayed = client.allocate();
            assert_eq!(relayed.ip(), ip);
            assert!(ports.contains(&relayed.port()), "{relayed}");
            let peer = Peer::new();
            client.bind(0x4000, peer.address());
            calls.push((client, relayed, peer));
        }
        for (client, _, peer) in &mut calls {
            client.send_channel(0x4000, b"out");
            let (data, relay) = peer.recv();
            assert_eq!(data, b"out");
            peer.send(b"in", relay);
            client.expect_channel(0x4000, b"in");
            client.assert_alive();
        }
    };
    check(&process, ip.into(), 20_000..=20_099);
    let line = process.reload(&config(ip, "relay.ports = \"30000-30099\""));
    assert_changed(&line, "relay.ports");
    check(&process, ip.into(), 30_000..=30_099);
    let addresses = format!("relay.addresses = [\"{other}\"]\nrelay.ports = \"20000-20099\"");
    let line = process.reload(&config(ip, &addresses));
    assert_changed(&line, "relay.ports, relay.addresses");
    check(&process, other.into(), 20_000..=20_099);
    let external = format!("{addresses}\nrelay.external = {{ \"{other}\" = \"203.0.113.7\" }}");
    let line = process.reload(&config(ip, &external));
    assert_changed(&line, "relay.external");
    check(&process, [203, 0, 113, 7].into(), 20_000..=20_099);
    let line = process.reload(&config(ip, ""));
    assert_changed(&line, "relay.addresses, relay.external");
    check(&process, ip.into(), 20_000..=20_099);
}

/// RELOAD-03: limits, policies and users for what is asked from then on.
#[test]
fn limits_and_policies_count_from_then_on() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    let mut call = Call::new(Client::udp_to(process.udp[0]));
    let line = process.reload(&config(ip, "peers.deny = [\"127.0.0.1\"]"));
    assert_changed(&line, "peers.deny");
    // Of this machine's own addresses every packet is looked at.
    let peer = call.peer.address();
    call.client.send_channel(0x4000, b"refused");
    assert_eq!(call.client.try_bind(0x4000, peer).code(), 403);

    let line = process.reload(&config(ip, "limits.allocations_per_user = 1"));
    assert_changed(&line, "peers.deny, limits.allocations_per_user");
    call.client.bind(0x4000, peer);
    assert_eq!(verdict(&mut Client::udp_to(process.udp[0])), 486);

    let line = process.reload(&config(ip, "auth.users = { bob = \"builder\" }"));
    assert_changed(&line, "auth.users, limits.allocations_per_user");
    assert_eq!(verdict(&mut Client::udp_to(process.udp[0])), 401);
    let mut bob = Client::udp_to(process.udp[0]).with_user("bob", "builder");
    assert_eq!(verdict(&mut bob), 0);
    call.client.assert_alive();
    call.talk();

    let one = "limits.tcp_connections = 1\nlimits.tcp_connections_per_address = 1";
    process.reload(&config(ip, one));
    let _first = Call::new(Client::tcp_to(process.tcp[0]));
    Client::tcp_to(process.tcp[0]).expect_close();

    // The other client is let in, and a request from here is not even answered.
    let line = process.reload(&config(ip, "clients.deny = [\"127.64.0.0/16\"]"));
    assert!(line.contains("clients.deny"), "{line}");
    call.talk();
    let packet = Packet::binding();
    call.client.send(packet.bytes());
    call.talk();
}

/// RELOAD-02: what only a start can change is said, and said again until then.
#[test]
fn what_needs_a_restart_is_named() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    for (more, changed) in [
        (
            "server.workers = 3\nserver.software = \"a\"",
            "server.software",
        ),
        (
            "server.workers = 3\nserver.software = \"b\"",
            "server.software",
        ),
    ] {
        let line = process.reload(&config(ip, &format!("log.format = \"json\"\n{more}")));
        assert_changed(&line, changed);
        let log = process.log.join("\n");
        let told = "changed, and in force after a restart keys=\"log.format, server.workers\"";
        assert!(log.contains(told), "{log}");
        process.log.clear();
    }
    let line = process.reload(&config(ip, "server.software = \"b\""));
    assert!(line.contains("nothing else has changed"), "{line}");
    let log = process.log.join("\n");
    assert!(!log.contains("after a restart"), "{log}");
}

/// RELOAD-02
#[test]
fn the_log_level_changes() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    let socket = process.home().join("admin.sock");
    // By the socket, which answers once it is done: of the level that comes its own line may be none.
    let reload = |process: &Process, more: &str| {
        process.configure(&config(ip, more));
        let reloaded = ask_socket(&socket, "POST", "/v1/reload", "").success();
        assert_eq!(reloaded["changed"], serde_json::json!(["log.level"]));
    };
    reload(&process, "log.level = \"error\"");
    Client::udp_to(process.udp[0]).allocate();
    reload(&process, "");
    let mut told = Client::udp_to(process.udp[0]);
    told.allocate();
    let line = process.wait_for("allocation created");
    let client = format!("client={} ", told.local());
    assert!(line.contains(&client), "told at level error: {line}");
}

/// RELOAD-06: a server that is not root any more says what it cannot read, and how to mend it.
#[test]
fn a_file_that_the_user_cannot_read_is_named() {
    if !rustix::process::geteuid().is_root() {
        println!("not root: the server reads what the test reads, not tested");
        return;
    }
    let ip = own_ipv4();
    let mut process = Process::start(&config(ip, ""));
    let mut calls = calls(&process);
    process.signal(Signal::HUP);
    let line = process.wait_for(" reloaded");
    assert!(line.contains("not reloaded"), "{line}");
    let log = process.log.join("\n");
    let told = "turnserver.toml: cannot be read (Permission denied (os error 13)); let the user of \
                the server read it: chgrp to its group (turnstone) and chmod 640";
    assert!(log.contains(told), "{log}");
    for call in &mut calls {
        call.talk();
    }
    process.let_read();
    let line = process.reload(&config(ip, "server.software = \"after\""));
    assert_changed(&line, "server.software");
}

/// RELOAD-07: no new allocations, and everything for those that live; the end comes with the last.
#[test]
fn a_drain_ends_with_the_last_allocation() {
    let ip = own_ipv4();
    let mut process = start(ip, "");
    let mut calls = calls(&process);
    process.signal(Signal::USR1);
    let line = process.wait_for("draining: no new allocations");
    assert!(line.contains("allocations=2"), "{line}");
    process.signal(Signal::USR1);
    process.wait_for("draining already");
    for call in &mut calls {
        call.talk();
        call.client.assert_alive();
        call.client.bind(0x4001, Peer::new().address());
    }
    for mut client in [
        Client::udp_to(process.udp[0]),
        Client::tcp_to(process.tcp[0]),
    ] {
        assert_eq!(verdict(&mut client), 403);
    }
    // A reload does not end it.
    process.reload(&config(ip, "server.software = \"after\""));
    assert_eq!(verdict(&mut Client::udp_to(process.udp[0])), 403);
    let [mut first, mut last] = calls;
    first.client.delete();
    last.talk();
    last.client.delete();
    assert!(process.wait().success());
    let log = process.log.join("\n");
    assert!(
        log.contains("drained: the last allocation has ended"),
        "{log}"
    );
}

/// Where a server tells systemd of itself.
struct Systemd {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Systemd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let everybody = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.path(), everybody(0o755)).unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        fs::set_permissions(&path, everybody(0o777)).unwrap();
        Self { directory, socket }
    }

    fn export(&self) -> String {
        let path = self.directory.path().join("notify");
        format!("export NOTIFY_SOCKET={}", path.display())
    }

    fn told(&self) -> String {
        let mut buffer = [0; 1000];
        let len = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }
}

/// RELOAD-08: the status is that of the server, whoever drains it and undoes that.
#[test]
fn systemd_is_told_of_a_drain() {
    let systemd = Systemd::start();
    let process = Process::start_with(&config(own_ipv4(), ""), &systemd.export());
    let socket = process.home().join("admin.sock");
    Client::udp_to(process.udp[0]).allocate();
    assert!(systemd.told().contains("STATUS=Serving"));
    for by_signal in [true, false] {
        if by_signal {
            process.signal(Signal::USR1);
        } else {
            ask_socket(&socket, "POST", "/v1/drain", "{}").success();
        }
        assert_eq!(systemd.told().trim(), "STATUS=Draining");
        ask_socket(&socket, "DELETE", "/v1/drain", "").success();
        assert_eq!(systemd.told().trim(), "STATUS=Serving");
    }
}

/// RELOAD-08: as Type=notify and Type=notify-reload want it.
#[test]
fn systemd_is_told_of_a_reload() {
    let systemd = Systemd::start();
    let told = || systemd.told();
    let ip = own_ipv4();
    let mut process = Process::start_with(&config(ip, ""), &systemd.export());
    assert!(told().contains("READY=1"));
    for config in [&config(ip, "server.software = \"after\""), "broken"] {
        process.reload(config);
        let reloading = told();
        let (_, time) = reloading
            .split_once("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        time.trim().parse::<u64>().unwrap();
        assert_eq!(told().trim(), "READY=1");
    }
}
