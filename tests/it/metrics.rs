//! What the server counts, as whoever watches it reads it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use turnstone::admin;
use turnstone::metrics::{HEARTBEAT_MAX, Kind, Metrics, Process as Proc, Sample, TABLE};
use turnstone::turn::{PortPool, Shared};

use crate::harness::attribute as a;
use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, TestServer, Via, eventually, method, own_ipv4,
};

/// The series of a text and their values.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.map(|line| line.rsplit_once(' ').unwrap());
    pairs
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// Waits until series have values, which they have a second later at most.
#[track_caller]
fn expect(text: impl Fn() -> String, expected: &[(&str, f64)]) {
    let mut now = BTreeMap::new();
    let deadline = std::time::Instant::now() + DEADLINE;
    let wrong = loop {
        now.extend(series(&text()));
        let value = |name: &str| *now.get(name).unwrap_or_else(|| panic!("no {name}"));
        let mut pairs = expected.iter().map(|(name, it)| (name, it, value(name)));
        let Some(wrong) = pairs.find(|(_, expected, value)| *expected != value) else {
            return;
        };
        if std::time::Instant::now() > deadline {
            break format!("{wrong:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    panic!("name, expected, found: {wrong}");
}

/// Of the clients that come so.
fn labels(via: Via) -> String {
    let (transport, family) = match via {
        Via::Udp => ("udp", "ipv4"),
        Via::Udp6 => ("udp", "ipv6"),
        Via::Tcp => ("tcp", "ipv4"),
        Via::Tcp6 => ("tcp", "ipv6"),
        Via::Tls => ("tls", "ipv4"),
        Via::Tls6 => ("tls", "ipv6"),
        #[cfg(feature = "dtls")]
        Via::Dtls => ("dtls", "ipv4"),
        #[cfg(feature = "dtls")]
        Via::Dtls6 => ("dtls", "ipv6"),
    };
    format!("transport=\"{transport}\",family=\"{family}\"")
}

/// Everything of one transport and family of clients, while the allocations live and afterwards.
#[test]
fn relayed_packets_are_counted_while_they_are_relayed() {
    let server = TestServer::with(|setup| setup.workers = 2);
    let text = || server.engine.metrics().to_text();
    let peer = Peer::new();
    let mut expected = Vec::new();
    let mut clients = Vec::new();
    for (via, packets) in Via::ALL.into_iter().zip(3_u16..) {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        for _ in 0..packets {
            client.send_channel(0x4000, b"seventeen bytes..");
            peer.recv();
            peer.send(b"five.", relayed);
            peer.send(b"five.", relayed);
            client.expect_channel(0x4000, b"five.");
            client.expect_channel(0x4000, b"five.");
        }
        let labels = labels(via);
        let packets = f64::from(packets);
        for (what, direction, number) in [
            ("packets", "to_peers", packets),
            ("bytes", "to_peers", packets * 17.0),
            ("packets", "to_client", packets * 2.0),
            ("bytes", "to_client", packets * 10.0),
        ] {
            let labels = format!("{labels},direction=\"{direction}\"");
            expected.push((
                format!("turnstone_relayed_{what}_total{{{labels}}}"),
                number,
            ));
        }
        expected.push((format!("turnstone_allocations{{{labels}}}"), 1.0));
        expected.push((
            format!("turnstone_allocations_created_total{{{labels}}}"),
            1.0,
        ));
        clients.push(client);
    }
    // A session of DTLS counts as a connection.
    let all = Via::ALL.len() as f64;
    let connected = all - 2.0;
    let borrowed: Vec<_> = expected.iter().map(|(name, it)| (&name[..], *it)).collect();
    expect(text, &borrowed);
    expect(
        text,
        &[
            (
                "turnstone_relay_ports{state=\"live\"}",
                Via::ALL.len() as f64,
            ),
            (
                "turnstone_tcp_connections{state=\"established\"}",
                connected,
            ),
            ("turnstone_tcp_connections_accepted_total", connected),
        ],
    );

    for client in &mut clients[..3] {
        client.delete();
    }
    drop(clients);
    expect(
        text,
        &[
            (
                "turnstone_allocations{transport=\"udp\",family=\"ipv6\"}",
                0.0,
            ),
            (
                "turnstone_allocations{transport=\"tcp\",family=\"ipv6\"}",
                0.0,
            ),
            ("turnstone_allocations_ended_total{reason=\"deleted\"}", 3.0),
            (
                "turnstone_allocations_ended_total{reason=\"disconnected\"}",
                all - 3.0,
            ),
            ("turnstone_relay_ports{state=\"live\"}", 0.0),
            (
                "turnstone_relay_ports{state=\"resting\"}",
                Via::ALL.len() as f64,
            ),
            ("turnstone_relay_ports{state=\"held\"}", 0.0),
            ("turnstone_relay_ports{state=\"free\"}", 128.0 - all),
            ("turnstone_tcp_connections{state=\"established\"}", 0.0),
            (
                "turnstone_tcp_connections_ended_total{reason=\"client\"}",
                connected,
            ),
        ],
    );
}

/// Requests and replies by method and code; failures, refused peers, limits and drops by cause.
#[test]
fn requests_and_refusals_are_counted_by_name() {
    let server = TestServer::with(|setup| setup.limits.allocations_per_user = 1);
    let text = || server.engine.metrics().to_text();
    let mut client = Client::udp(&server);
    client.allocate();
    client.assert_alive();
    let metadata: SocketAddr = "169.254.169.254:80".parse().unwrap();
    assert_eq!(client.try_permit(&[metadata]).code(), 403);
    assert_eq!(client.try_bind(0x4001, metadata).code(), 403);
    client.send_data((Ipv4Addr::LOCALHOST, 9).into(), b"without permission");
    client.expect_nothing();
    let mut second = Client::udp(&server);
    assert_eq!(second.try_allocate(|packet| packet).code(), 486);
    for (user, password) in [("alice", "wonderlamp"), ("mallory", "x")] {
        let mut stranger = Client::udp(&server).with_user(user, password);
        stranger.challenge();
        let request = Packet::request(method::ALLOCATE);
        let request = stranger.signed(request.attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
        assert_eq!(stranger.exchange(&request).code(), 401);
    }
    Client::udp(&server).expect_silence(b"junk");
    let requests = series(&text());
    let none = requests
        .values()
        .all(|value| value.is_finite() && *value >= 0.0);
    assert!(none, "{requests:?}");
    expect(
        text,
        &[
            ("turnstone_requests_total{method=\"Allocate\"}", 8.0),
            (
                "turnstone_replies_total{method=\"Allocate\",code=\"success\"}",
                1.0,
            ),
            (
                "turnstone_replies_total{method=\"Allocate\",code=\"401\"}",
                6.0,
            ),
            (
                "turnstone_replies_total{method=\"Allocate\",code=\"486\"}",
                1.0,
            ),
            (
                "turnstone_replies_total{method=\"CreatePermission\",code=\"403\"}",
                1.0,
            ),
            (
                "turnstone_replies_total{method=\"ChannelBind\",code=\"403\"}",
                1.0,
            ),
            ("turnstone_requests_total{method=\"Refresh\"}", 1.0),
            (
                "turnstone_replies_total{method=\"Refresh\",code=\"success\"}",
                1.0,
            ),
            (
                "turnstone_replies_total{method=\"Binding\",code=\"success\"}",
                2.0,
            ),
            ("turnstone_challenges_total", 4.0),
            (
                "turnstone_authentication_failures_total{reason=\"wrong_password\"}",
                1.0,
            ),
            (
                "turnstone_authentication_failures_total{reason=\"unknown_user\"}",
                1.0,
            ),
            (
                "turnstone_authentication_failures_total{reason=\"stale_nonce\"}",
                0.0,
            ),
            ("turnstone_refused_peers_total{class=\"link_local\"}", 2.0),
            (
                "turnstone_limits_reached_total{limit=\"allocations_per_user\"}",
                1.0,
            ),
            (
                "turnstone_dropped_packets_total{cause=\"no_permission\"}",
                1.0,
            ),
            ("turnstone_dropped_packets_total{cause=\"malformed\"}", 1.0),
        ],
    );
}

/// Refused, silent, and ended connections by their reason.
#[test]
fn tcp_connections_are_counted() {
    let server = TestServer::with(|setup| {
        setup.stream.connections = 2;
        setup.stream.first_message_s = 2;
    });
    let text = || server.engine.metrics().to_text();
    let mut talkers: Vec<Client> = (0..2).map(|_| Client::tcp(&server)).collect();
    for talker in &mut talkers {
        // Those with allocations make no room for others.
        talker.allocate();
    }
    Client::tcp(&server).expect_close();
    drop(talkers.pop());
    expect(
        text,
        &[(
            "turnstone_tcp_connections_ended_total{reason=\"client\"}",
            1.0,
        )],
    );
    let mut silent = Client::tcp(&server);
    expect(
        text,
        &[("turnstone_tcp_connections{state=\"half_open\"}", 1.0)],
    );
    silent.expect_close();
    talkers[0].send(&[0xff; 20]);
    talkers[0].expect_close();
    expect(
        text,
        &[
            (
                "turnstone_tcp_connections_refused_total{reason=\"connection_limit\"}",
                1.0,
            ),
            (
                "turnstone_tcp_connections_ended_total{reason=\"no_first_message\"}",
                1.0,
            ),
            (
                "turnstone_tcp_connections_ended_total{reason=\"not_turn\"}",
                1.0,
            ),
            (
                "turnstone_tcp_connections_ended_total{reason=\"client\"}",
                1.0,
            ),
            ("turnstone_tcp_connections_accepted_total", 3.0),
            ("turnstone_tcp_connections{state=\"half_open\"}", 0.0),
        ],
    );
}

/// Sends a request and reads the reply to its end: status, header and body.
fn get(address: SocketAddr, path: &str, more: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let method = more.strip_prefix("POST").map_or("GET", |_| "POST");
    let more = more.trim_start_matches("POST");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: relay\r\n{more}\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (header, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = header.split(' ').nth(1).unwrap().parse().unwrap();
    (status, header.to_lowercase(), body.to_owned())
}

/// The page of some metrics in a thread of its own, as long as the test runs.
fn page(metrics: &Arc<Metrics>, time_max: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let router = admin::metrics_page(Arc::clone(metrics));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(admin::serve(listener, router, time_max))
    });
    address
}

#[test]
fn pages_have_what_they_are_asked_for_and_nothing_else() {
    let server = TestServer::start();
    let page = page(server.engine.metrics(), DEADLINE);
    let (status, header, body) = get(page, "/metrics", "");
    assert_eq!(status, 200);
    let content_type = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(header.contains(content_type), "{header}");
    assert!(body.contains("# TYPE turnstone_relayed_bytes counter\n"));
    assert!(body.contains("# UNIT turnstone_relayed_bytes bytes\n"));
    assert!(body.ends_with("# EOF\n"));
    assert_eq!(get(page, "/metrics", "Accept: text/plain\r\n").0, 406);
    assert_eq!(get(page, "/metrics", "Accept: */*\r\n").0, 200);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(page, path, "").0, 200, "{path}");
    }
    for path in [
        "/",
        "/metrics/",
        "/metrics/x",
        "/../metrics",
        "/v1/allocations",
    ] {
        assert_eq!(get(page, path, "").0, 404, "{path}");
    }
    assert_eq!(get(page, "/metrics", "POST").0, 405);
}

/// A load balancer sends nobody to a server that drains, and nobody restarts it.
#[test]
fn a_server_that_drains_is_well_and_not_ready() {
    let server = TestServer::with(|setup| setup.workers = 2);
    let page = page(server.engine.metrics(), DEADLINE);
    let drain = |is_draining| {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let drained = server.engine.control();
        let drained = async move { drained.drain(is_draining).await };
        runtime.unwrap().block_on(drained).unwrap();
    };
    for (is_draining, ready) in [(true, 503), (false, 200), (true, 503)] {
        drain(is_draining);
        assert_eq!(get(page, "/readyz", "").0, ready);
        assert_eq!(get(page, "/healthz", "").0, 200);
        let text = server.engine.metrics().to_text();
        let series = series(&text);
        assert_eq!(
            series["turnstone_draining"],
            f64::from(u8::from(is_draining))
        );
    }
}

/// A worker that hangs is found out, while the page is still served.
#[test]
fn a_worker_that_hangs_is_not_healthy() {
    let shared = Arc::new(Shared::new(PortPool::new(&[], 1024..=1024, &[])));
    let metrics = Arc::new(Metrics::new(1, shared, Proc::open()));
    let page = page(&metrics, DEADLINE);
    assert_eq!(get(page, "/healthz", "").0, 200);
    eventually("a missing heartbeat being noticed", || {
        get(page, "/healthz", "").0 == 503
    });
    assert_eq!(get(page, "/readyz", "").0, 503);
    let age = series(&metrics.to_text())["turnstone_worker_heartbeat_age_seconds{worker=\"0\"}"];
    assert!(age >= HEARTBEAT_MAX.as_secs_f64());
    metrics.publish(0, Sample::default());
    assert_eq!(get(page, "/healthz", "").0, 200);
}

/// Somebody who connects and says nothing costs a place, and for a limited time only.
#[test]
fn a_page_serves_few_at_once_and_nobody_for_long() {
    let server = TestServer::start();
    let lasting = page(server.engine.metrics(), DEADLINE * 2);
    let silent: Vec<TcpStream> = (0..admin::CONNECTIONS_MAX)
        .map(|_| TcpStream::connect(lasting).unwrap())
        .collect();
    let mut one_more = TcpStream::connect(lasting).unwrap();
    one_more
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: relay\r\n\r\n")
        .unwrap();
    one_more
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let waiting = one_more.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(
        waiting.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut
    ));
    one_more.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(one_more.read(&mut [0; 1]).unwrap(), 1, "the silent ones go");
    drop(silent);

    let short = page(server.engine.metrics(), Duration::from_millis(100));
    for header in [
        "",
        "GET /metrics HT",
        "GET /metrics HTTP/1.1\r\nHost: relay\r\n",
    ] {
        let mut slow = TcpStream::connect(short).unwrap();
        slow.write_all(header.as_bytes()).unwrap();
        slow.set_read_timeout(Some(DEADLINE)).unwrap();
        let closed = slow.read(&mut [0; 1]);
        assert!(matches!(closed, Ok(0)), "{closed:?} after {header:?}");
    }
    let mut long = TcpStream::connect(short).unwrap();
    // The server may close before all of it is written.
    let _ = long.write_all(b"GET /metrics HTTP/1.1\r\n");
    let _ = long.write_all(&[b'x'; 100_000]);
    let mut reply = Vec::new();
    let _ = long.read_to_end(&mut reply);
    assert!(!reply.starts_with(b"HTTP/1.1 200"));
}

/// A configuration for loopback, on an address of its own.
fn config(more: &str) -> String {
    let ip = own_ipv4();
    format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = []\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 1\n{more}\n"
    )
}

/// What the configuration says in the place of the harness, which keeps servers apart.
const OWN: &str = "unset TURNSERVER_METRICS__LISTEN";

/// The process that serves is the one that is confined; what it may not open it has open.
#[test]
fn a_confined_process_serves_its_page() {
    let process = Process::start(&config(""));
    let page = process.metrics.unwrap();
    let (status, _, body) = get(page, "/metrics", "");
    assert_eq!(status, 200);
    let series = series(&body);
    assert!(series["process_resident_memory_bytes"] > 1e6);
    assert!(series["process_open_fds"] >= 5.0);
    assert!(series["process_max_fds"] >= series["process_open_fds"]);
    let own = series["process_start_time_seconds"];
    assert!((own - crate::harness::unix_s() as f64).abs() < DEADLINE.as_secs_f64() * 10.0);
    process.terminate();
    eventually("the page being closed", || {
        TcpStream::connect(page).is_err()
    });
}

#[test]
fn a_page_that_was_asked_for_must_be_had() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = config(&format!("metrics.listen = \"{address}\""));
    let mut process = Process::spawn(&config, OWN);
    assert!(!process.wait().success());
    let log = process.log.join("\n");
    assert!(log.contains("ERROR") && log.contains(&format!("cannot serve metrics on {address}")));
    assert!(
        log.contains("set metrics.listen to another address"),
        "{log}"
    );
}

#[test]
fn metrics_can_be_turned_off() {
    let process = Process::start_with(&config("metrics.listen = \"\""), OWN);
    assert_eq!(process.metrics, None);
    assert!(!process.log.iter().any(|line| line.contains("metrics")));
}

/// What came while the process did not run is received or counted as lost, to the last datagram.
#[test]
fn what_the_kernel_drops_is_counted() {
    const FLOOD: u32 = 20_000;
    let process = Process::start(&config(""));
    let page = process.metrics.unwrap();
    process.signal(Signal::STOP);
    let junk = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..FLOOD {
        junk.send_to(&[0xff; 1000], process.udp[0]).unwrap();
    }
    process.signal(Signal::CONT);
    let dropped = |series: &BTreeMap<String, f64>, cause: &str| {
        series[&format!("turnstone_dropped_packets_total{{cause=\"{cause}\"}}")]
    };
    let mut lost = 0.0;
    eventually("every datagram being counted", || {
        let series = series(&get(page, "/metrics", "").2);
        lost = dropped(&series, "listener_overflow");
        lost + dropped(&series, "malformed") == f64::from(FLOOD)
    });
    assert!(lost > 0.0, "the buffer took everything");
    let series = series(&get(page, "/metrics", "").2);
    let received = "turnstone_received_batch_datagrams_sum{socket=\"listener\"}";
    assert_eq!(series[received], f64::from(FLOOD) - lost);
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Words that look like names of metrics.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(move |c| !is_part(c));
    words.filter(|word| {
        let ours = word.starts_with("turnstone_") || word.starts_with("process_");
        ours && !word.ends_with('_') && !word.contains(':')
    })
}

fn is_in_table(name: &str) -> bool {
    TABLE.iter().any(|it| match it.kind {
        Kind::Histogram => {
            let suffix = name.strip_prefix(it.name);
            suffix.is_some_and(|suffix| ["_bucket", "_sum", "_count"].contains(&suffix))
        }
        Kind::Counter | Kind::Gauge | Kind::Info => name == it.name,
    })
}

#[test]
fn the_documents_name_the_metrics_that_there_are() {
    let docs = read("docs/metrics.md");
    for it in TABLE {
        let labels: Vec<String> = it.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (it.kind.name(), labels.join(", "));
        let row = format!("| `{}` | {kind} | {labels} | {} |", it.name, it.help);
        assert!(
            docs.lines().any(|line| line == row),
            "docs/metrics.md has no row\n{row}"
        );
    }
    let rows = docs
        .lines()
        .filter(|line| line.starts_with("| `turnstone_") || line.starts_with("| `process_"));
    assert_eq!(
        rows.count(),
        TABLE.len(),
        "docs/metrics.md has rows of metrics that there are not"
    );
    for path in [
        "docs/metrics.md",
        "docs/migration.md",
        "docs/hooks.md",
        "docs/grafana/turnstone.json",
        "docs/prometheus/turnstone.rules.yml",
        "docs/prometheus/turnstone.test.yml",
        "README.md",
    ] {
        let text = read(path);
        let known = |name: &&str| is_in_table(name) || TABLE.iter().any(|it| it.name == *name);
        let unknown: Vec<&str> = names(&text).filter(|name| !known(name)).collect();
        assert!(
            unknown.is_empty(),
            "{path} names {unknown:?}, which the server has not"
        );
    }
}

/// Every label that a query selects by or sums over is one of a metric.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docs/grafana/turnstone.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    assert_eq!(dashboard["uid"], "turnstone");
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut queries) = (std::collections::BTreeSet::new(), 0);
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id twice");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24 && place("h") > 0);
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["type"], "prometheus", "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            let metrics: Vec<&str> = names(expression).collect();
            assert!(!metrics.is_empty(), "{title}: {expression}");
            for name in metrics {
                assert!(is_in_table(name), "{title}: {name}");
            }
            queries += 1;
        }
    }
    for (i, one) in panels.iter().enumerate() {
        for other in &panels[i + 1..] {
            let edge = |it: &serde_json::Value, at: &str, len: &str| {
                let place = |key: &str| it["gridPos"][key].as_u64().unwrap();
                (place(at), place(at) + place(len))
            };
            let meet = |at, len| {
                let ((a, b), (c, d)) = (edge(one, at, len), edge(other, at, len));
                a < d && c < b
            };
            let overlap = meet("x", "w") && meet("y", "h");
            assert!(!overlap, "{} and {}", one["title"], other["title"]);
        }
    }
    assert!(queries > 20, "a dashboard of {queries} queries");
}

/// What the page costs: as many series with a thousand clients as with none.
#[test]
fn clients_make_no_series() {
    let server = TestServer::start();
    let before = series(&server.engine.metrics().to_text()).len();
    let mut clients: Vec<Client> = (0..20).map(|_| Client::udp(&server)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        if number % 2 == 0 {
            client.allocate();
        } else {
            client.send(Packet::binding().bytes());
            client.recv();
        }
    }
    let text = || server.engine.metrics().to_text();
    let created = "turnstone_allocations_created_total{transport=\"udp\",family=\"ipv4\"}";
    expect(text, &[(created, 10.0)]);
    assert_eq!(series(&text()).len(), before);
}
