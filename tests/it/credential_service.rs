//! The credential service: what back ends and web pages ask for, and what a client then does with it.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use turnstone::admin::api::BODY_LEN_MAX;
use turnstone::admin::credentials::ADDRESS_RATE;
use turnstone::auth::rest_password;

use crate::harness::{Answer, Client, DEADLINE, Process, ask_tcp, own_ipv4, unix_s};

const SECRET: &str = "a-secret-that-nobody-else-knows-at-all";
const OLD_SECRET: &str = "an-older-secret-that-is-accepted-still";
const KEY: &str = "key-of-the-back-end-000";
const PAGE_KEY: &str = "key-of-the-web-page-000";
const ORIGIN: &str = "https://app.example";

const GENERATE: &str = "/v1/turn/keys/backend/credentials/generate-ice-servers";

struct Server {
    process: Process,
    service: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let ip = own_ipv4();
        let config = format!(
            "realm = \"example.org\"\nauth.static_auth_secret = [\"{SECRET}\", \"{OLD_SECRET}\"]\n\
             listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
             relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nlog.level = \"trace\"\n\
             [credentials]\nlisten = \"{ip}:0\"\n\
             uris = [\"turn:turn.example.org:3478?transport=udp\", \"turn:turn.example.org:3478?transport=tcp\"]\n\
             [[credentials.keys]]\nid = \"backend\"\nkey = \"{KEY}\"\nmax_ttl_s = 3600\n\
             [[credentials.keys]]\nid = \"page\"\nkey = \"{PAGE_KEY}\"\norigins = [\"{ORIGIN}\"]\n"
        );
        let mut process = Process::spawn(&config, "");
        let line = process.wait_for("credentials are issued");
        let (_, address) = line.split_once("address=").unwrap();
        let service = address.split(' ').next().unwrap().parse().unwrap();
        // The line before it has the listeners.
        let serving = process
            .log
            .iter()
            .find(|line| line.contains("serving"))
            .unwrap();
        let of = |key: &str| {
            let (_, rest) = serving.split_once(key).unwrap();
            rest.split([',', ' ']).next().unwrap().parse().unwrap()
        };
        (process.udp, process.tcp) = (vec![of("udp=")], vec![of("tcp=")]);
        Self { process, service }
    }

    fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let answer = ask_tcp(self.service, method, target, fields, body);
        assert_eq!(
            answer.field("cache-control"),
            Some("no-store"),
            "{answer:?}"
        );
        answer
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[("Authorization", &bearer(KEY))], "")
    }

    fn post(&self, target: &str, body: &str) -> Answer {
        self.ask("POST", target, &[("Authorization", &bearer(KEY))], body)
    }
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

/// Allocates with credentials, over UDP and over TCP, and relays nothing.
#[track_caller]
fn assert_good(server: &Server, username: &Value, password: &Value) {
    let (username, password) = (username.as_str().unwrap(), password.as_str().unwrap());
    let udp = Client::udp_to(server.process.udp[0]);
    let tcp = Client::tcp_to(server.process.tcp[0]);
    for client in [udp, tcp] {
        let mut client = client.with_user(username, password);
        client.allocate();
        client.assert_alive();
        client.delete();
    }
}

/// Asserts a name that is good for so long, and of this user.
#[track_caller]
fn assert_name(username: &Value, user: &str, ttl_s: u64) {
    let username = username.as_str().unwrap();
    let (expiry, rest) = username.split_once(':').unwrap();
    assert_eq!(rest, user);
    let left = expiry.parse::<u64>().unwrap() - unix_s();
    assert!(
        (ttl_s - DEADLINE.as_secs()..=ttl_s).contains(&left),
        "{left}"
    );
}

/// CRED-01: the TURN REST API, by header and by parameter, with credentials that work.
#[test]
fn the_rest_api() {
    let server = Server::start();
    let answer = server
        .get("/?service=turn&username=alice&ttl=600")
        .success();
    assert_name(&answer["username"], "alice", 600);
    assert_eq!(answer["ttl"], 600);
    let uris = ["udp", "tcp"].map(|t| format!("turn:turn.example.org:3478?transport={t}"));
    assert_eq!(answer["uris"], json!(uris));
    let name = answer["username"].as_str().unwrap();
    let expected = rest_password(SECRET, name.as_bytes());
    assert_eq!(answer["password"], *expected, "the newest secret");
    assert_good(&server, &answer["username"], &answer["password"]);

    let by_parameter = format!("/?service=turn&username=al%3Aice+%C3%A9&key={KEY}");
    let answer = server.ask("GET", &by_parameter, &[], "").success();
    assert_name(&answer["username"], "al:ice é", 3600);
    assert_good(&server, &answer["username"], &answer["password"]);

    let answer = server.get("/").success();
    assert_name_of_nobody(&answer["username"], 3600);
    assert_good(&server, &answer["username"], &answer["password"]);
}

/// CRED-03: Cloudflare's endpoints, and the array for a browser.
#[test]
fn other_shapes() {
    let server = Server::start();
    let answer = server.post(GENERATE, r#"{"ttl": 600, "customIdentifier": "alice"}"#);
    assert_eq!(answer.status, 201);
    let answer = answer.success();
    let [ice_server] = &answer["iceServers"].as_array().unwrap()[..] else {
        panic!("{answer}");
    };
    assert_name(&ice_server["username"], "alice", 600);
    assert_eq!(ice_server["urls"].as_array().unwrap().len(), 2);
    assert_good(&server, &ice_server["username"], &ice_server["credential"]);

    let answer = server.post(&GENERATE.replace("-ice-servers", ""), r#"{"ttl": 60}"#);
    assert_eq!(answer.status, 201);
    let ice_server = &answer.success()["iceServers"];
    assert_good(&server, &ice_server["username"], &ice_server["credential"]);

    let answer = server.get("/ice-servers?username=alice&ttl=60").success();
    let [ice_server] = &answer.as_array().unwrap()[..] else {
        panic!("{answer}");
    };
    assert_name(&ice_server["username"], "alice", 60);
    assert_good(&server, &ice_server["username"], &ice_server["credential"]);
}

/// CRED-02: no key, a wrong key, somebody else's key; and no key is ever in the log.
#[test]
fn only_who_has_the_key() {
    let mut server = Server::start();
    let almost = format!("{KEY}1");
    for target in ["/?service=turn", "/ice-servers", GENERATE] {
        let method = if target == GENERATE { "POST" } else { "GET" };
        let ask = |target: &str, fields: &[(&str, &str)]| {
            let answer = server.ask(method, target, fields, "{}");
            answer.assert_refused(401, "the key is missing or wrong");
            assert_eq!(answer.field("www-authenticate"), Some("bearer"));
        };
        ask(target, &[]);
        for wrong in [&almost, &KEY[1..], "", SECRET] {
            ask(target, &[("Authorization", &bearer(wrong))]);
        }
        ask(target, &[("Authorization", &format!("Basic {KEY}"))]);
        ask(target, &[("Authorization", KEY)]);
        let separator = if target.contains('?') { '&' } else { '?' };
        ask(&format!("{target}{separator}key={almost}"), &[]);
    }
    let with_others = [("Authorization", &*bearer(PAGE_KEY))];
    let answer = server.ask("POST", GENERATE, &with_others, "{}");
    answer.assert_refused(401, "the key is missing or wrong");
    server.get("/").success();
    server
        .ask("GET", &format!("/?key={KEY}"), &[], "")
        .success();
    server.process.terminate();
    server.process.wait();
    let log = server.process.log.join("\n");
    assert!(log.contains("credentials issued"), "{log}");
    for secret in [KEY, PAGE_KEY, SECRET, OLD_SECRET] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// CRED-04: lives at the edges of what a key allows.
#[test]
fn no_longer_than_the_key_allows() {
    let server = Server::start();
    for good in [1, 3600] {
        assert_eq!(server.get(&format!("/?ttl={good}")).success()["ttl"], good);
    }
    for bad in ["0", "3601"] {
        server
            .get(&format!("/?ttl={bad}"))
            .assert_refused(400, "1 to 3600 seconds");
        let body = format!(r#"{{"ttl": {bad}}}"#);
        server
            .post(GENERATE, &body)
            .assert_refused(400, "1 to 3600 seconds");
    }
    for bad in ["-1", "x", "4294967296"] {
        server
            .get(&format!("/?ttl={bad}"))
            .assert_refused(400, "ttl");
    }
    let ice_servers = server.get("/ice-servers").success();
    assert_name_of_nobody(&ice_servers[0]["username"], 3600);
    // A key without a limit of its own.
    let by_page = format!("/?key={PAGE_KEY}");
    let answer = server.ask("GET", &by_page, &[], "").success();
    assert_eq!(answer["ttl"], 86_400);
}

#[track_caller]
fn assert_name_of_nobody(username: &Value, ttl_s: u64) {
    let (expiry, _) = username.as_str().unwrap().split_once(':').unwrap();
    let left = expiry.parse::<u64>().unwrap() - unix_s();
    assert!(
        (ttl_s - DEADLINE.as_secs()..=ttl_s).contains(&left),
        "{left}"
    );
}

/// CRED-05, CRED-06: what cannot be a user, and what cannot be asked for.
#[test]
fn what_makes_no_sense_is_refused() {
    let server = Server::start();
    let longest = "x".repeat(256);
    server.get(&format!("/?username={longest}")).success();
    server
        .get(&format!("/?username={longest}x"))
        .assert_refused(400, "longer than 256 bytes");
    server.get("/?username=").assert_refused(400, "is empty");
    for bad in ["a%00b", "a%0d%0ab", "%e2%80%8b", "%7f"] {
        let answer = server.get(&format!("/?username={bad}"));
        answer.assert_refused(400, "control or invisible");
    }
    server
        .get("/?service=smtp")
        .assert_refused(400, "there is no \"smtp\"");
    server.get("/nowhere").assert_refused(404, "/nowhere");
    server.post("/", "").assert_refused(405, "POST");
    server.post(GENERATE, "{").assert_refused(400, "bad body");
    server
        .post(GENERATE, r#"{"ttl": "x"}"#)
        .assert_refused(400, "bad body");
    let longest = format!("{{}}{}", " ".repeat(BODY_LEN_MAX - 2));
    server.post(GENERATE, &longest).success();
    let answer = server.post(GENERATE, &format!("{longest} "));
    answer.assert_refused(413, "65536 bytes");
}

/// CRED-07: pages of configured origins, with the key that they are configured for.
#[test]
fn pages_of_known_origins_alone() {
    let server = Server::start();
    let preflight = |origin: &str| {
        let fields = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization,content-type",
            ),
        ];
        server.ask("OPTIONS", "/ice-servers", &fields, "")
    };
    let allowed = preflight(ORIGIN);
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.field("access-control-allow-origin"), Some(ORIGIN));
    assert_eq!(
        allowed.field("access-control-allow-methods"),
        Some("get,post")
    );
    let fields = allowed.field("access-control-allow-headers");
    assert_eq!(fields, Some("authorization,content-type"));
    assert!(allowed.field("vary").unwrap().contains("origin"));
    for stranger in [
        "https://evil.example",
        "https://app.example.evil",
        "http://app.example",
        "null",
    ] {
        assert_eq!(
            preflight(stranger).field("access-control-allow-origin"),
            None
        );
    }

    let ask = |key: &str, origin: &str| {
        let fields = [("Authorization", &*bearer(key)), ("Origin", origin)];
        server.ask("GET", "/ice-servers?ttl=60", &fields, "")
    };
    let answer = ask(PAGE_KEY, ORIGIN);
    assert_eq!(answer.field("access-control-allow-origin"), Some(ORIGIN));
    let ice_server = &answer.success()[0];
    assert_good(&server, &ice_server["username"], &ice_server["credential"]);
    let stranger = ask(PAGE_KEY, "https://evil.example");
    stranger.assert_refused(403, "origin");
    assert_eq!(stranger.field("access-control-allow-origin"), None);
    ask(KEY, ORIGIN).assert_refused(403, "origin");
    let wrong = ask("no-key-of-this-server", ORIGIN);
    wrong.assert_refused(401, "key");
    assert_eq!(
        wrong.field("access-control-allow-origin"),
        Some(ORIGIN),
        "the page may know why"
    );
}

/// CRED-08: an address that asks too often without a key is refused for a while, and who has a key is
/// answered all the same: behind a proxy they have one address.
#[test]
fn an_address_has_a_rate() {
    let server = Server::start();
    // Time goes by meanwhile and fills what is spent, on a slow machine as quickly as one after the
    // other could ask.
    let mut admitted = 0;
    let refused = loop {
        let service = server.service;
        let ask = move || ask_tcp(service, "GET", "/ice-servers", &[], "");
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..30).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        admitted += answers.iter().filter(|answer| answer.status == 401).count();
        if let Some(refused) = answers.into_iter().find(|answer| answer.status != 401) {
            break refused;
        }
        assert!(admitted < 100 * ADDRESS_RATE.burst as usize, "no limit");
    };
    assert!(admitted >= ADDRESS_RATE.burst as usize, "{admitted}");
    refused.assert_refused(429, "too many requests");
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(server.get("/").status, 200);
}

/// RELOAD-02: a key that a reload has taken away is refused, and a new one works, with the secret that is
/// the first now; also where nothing is left to issue credentials with.
#[test]
fn keys_and_secrets_change_with_a_reload() {
    let mut server = Server::start();
    let target = "/?service=turn&username=carol";
    let file = server.process.home().join("turnserver.toml");
    let text = fs::read_to_string(file).unwrap();
    let other = "key-of-another-back-end";
    let changed = text
        .replace(KEY, other)
        .replace(SECRET, "a-new-secret-of-the-back-end-as-well");
    server.process.reload(&changed);
    server
        .ask("GET", target, &[("Authorization", &bearer(KEY))], "")
        .assert_refused(401, "");
    let answer = server
        .ask("GET", target, &[("Authorization", &bearer(other))], "")
        .success();
    assert_good(&server, &answer["username"], &answer["password"]);

    let (without, _) = changed.split_once("[[credentials.keys]]").unwrap();
    let secrets = without.find("auth.static_auth_secret").unwrap();
    let end = secrets + without[secrets..].find('\n').unwrap();
    let users = "auth.users = { alice = \"wonderland\" }";
    let without = [&without[..secrets], users, &without[end..]].concat();
    server.process.reload(&without);
    server
        .ask("GET", target, &[("Authorization", &bearer(other))], "")
        .assert_refused(401, "");
}

/// A server without keys has no such listener, and one without a secret makes credentials from its
/// own.
#[test]
fn off_without_keys() {
    let ip = own_ipv4();
    let listeners = format!("listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\n");
    let service = format!("[credentials]\nlisten = \"{ip}:0\"\n");
    let mut process = Process::start(&format!("{listeners}{service}"));
    process.terminate();
    process.wait();
    assert!(!process.log.join("\n").contains("credentials are issued"));

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, format!("{KEY}\n")).unwrap();
    let key = format!(
        "[[credentials.keys]]\nid = \"a\"\nkey_file = \"{}\"\n",
        file.display()
    );
    let mut process = Process::spawn(&format!("{listeners}{service}{key}"), "");
    let line = process.wait_for("credentials are issued");
    let (_, address) = line.split_once("address=").unwrap();
    let address = address.split(' ').next().unwrap().parse().unwrap();
    let serving = process
        .log
        .iter()
        .find(|line| line.contains("serving"))
        .unwrap();
    let (_, udp) = serving.split_once("udp=").unwrap();
    let udp = udp.split([',', ' ']).next().unwrap().parse().unwrap();
    let answer = ask_tcp(address, "GET", &format!("/?key={KEY}"), &[], "").success();
    let (username, password) = (&answer["username"], &answer["password"]);
    let client = Client::udp_to(udp);
    let mut client = client.with_user(username.as_str().unwrap(), password.as_str().unwrap());
    client.allocate();
}
