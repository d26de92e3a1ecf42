//! The same calls through turnstone and through coturn, as processes with one relaying thread each.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::harness::{Client, DEADLINE, Via, tls};
use super::{CLIENTS, Call, SHAPES, to_client, to_peer};

/// Where both listen and relay.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 3);
const PASSWORD: &str = "wonderland";

/// How often the servers take turns.
const TURNS: usize = 5;

/// Clock ticks a second of /proc, the same on every architecture that matters.
const TICKS_PER_S: f64 = 100.0;

/// A server that ends when this is dropped.
struct Running {
    name: &'static str,
    tcp: SocketAddr,
    tls: SocketAddr,
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free a moment ago; nobody else uses this address.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Running {
    fn start(name: &'static str, mut command: Command, tcp: SocketAddr, tls: SocketAddr) -> Self {
        command.stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        let server = Self {
            name,
            tcp,
            tls,
            child,
        };
        let started = Instant::now();
        while [tcp, tls]
            .map(TcpStream::connect)
            .iter()
            .any(Result::is_err)
        {
            assert!(started.elapsed() < DEADLINE, "{name} does not listen");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    }

    fn turnstone(directory: &Path) -> Self {
        let (tcp, tls) = (free(), free());
        let at = directory.display();
        let config = format!(
            "realm = \"example.org\"\n[listen]\nudp = [\"{tcp}\"]\ntcp = [\"{tcp}\"]\ntls = [\"{tls}\"]\n\
             [tls]\ncert = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n\
             [relay]\naddresses = [\"{HOST}\"]\nports = \"10000-15999\"\n\
             [auth]\nusers = {{ alice = \"{PASSWORD}\" }}\n[peers]\nallow_loopback = true\n\
             [limits]\nallocation_kbit_per_s = 0\nuser_kbit_per_s = 0\n\
             [log]\nlevel = \"warn\"\n[metrics]\nlisten = \"\"\n[server]\nworkers = 1\n"
        );
        let file = directory.join("turnserver.toml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
        command.arg("run").arg("--config").arg(file);
        command.env("RUNTIME_DIRECTORY", directory);
        Self::start("turnstone", command, tcp, tls)
    }

    fn coturn(directory: &Path) -> Self {
        let (tcp, tls) = (free(), free());
        let at = directory.display();
        let flags = "-n --lt-cred-mech --no-cli --no-dtls --no-udp --no-tcp-relay \
                     --allow-loopback-peers --log-file=/dev/null --realm=example.org \
                     --relay-threads=1 --min-port=16000 --max-port=21999";
        let mut command = Command::new("turnserver");
        command.args(flags.split_whitespace()).args([
            format!("--listening-ip={HOST}"),
            format!("--relay-ip={HOST}"),
            format!("--listening-port={}", tcp.port()),
            format!("--tls-listening-port={}", tls.port()),
            format!("--cert={at}/cert.pem"),
            format!("--pkey={at}/key.pem"),
            format!("--user=alice:{PASSWORD}"),
            format!("--pidfile={at}/pid"),
            format!("--userdb={at}/db"),
        ]);
        Self::start("coturn", command, tcp, tls)
    }

    fn calls(&self, via: Via) -> Vec<Call> {
        let client = || match via {
            Via::Tls => Client::tls_to(self.tls),
            _ => Client::tcp_to(self.tcp),
        };
        (0..CLIENTS).map(|_| Call::new(client())).collect()
    }

    /// Microseconds of CPU, user and system.
    fn cpu_us(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let times = fields.split_whitespace().skip(11).take(2);
        times
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / TICKS_PER_S
            * 1e6
    }
}

/// Prints what a packet costs the process of each server.
pub(crate) fn compare() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = tls::pem_of(tls::NAME);
    fs::write(directory.path().join("cert.pem"), cert).unwrap();
    fs::write(directory.path().join("key.pem"), key).unwrap();
    let servers = [
        Running::turnstone(directory.path()),
        Running::coturn(directory.path()),
    ];
    println!(
        "µs of the server's process for a packet: audio (160 bytes, 1)   video (1200 bytes, 16)"
    );
    println!("                                        to peer  to client    to peer  to client");
    for via in [Via::Tcp, Via::Tls] {
        let mut calls = servers.each_ref().map(|server| server.calls(via));
        let mut costs = [[0.0; 4]; 2];
        // In turn, so that what else the machine does hits both alike.
        for _ in 0..TURNS {
            for (server, (calls, costs)) in servers.iter().zip(calls.iter_mut().zip(&mut costs)) {
                for (shape, costs) in SHAPES.iter().zip(costs.chunks_mut(2)) {
                    for (cost, round) in costs.iter_mut().zip([to_peer, to_client]) {
                        let before = server.cpu_us();
                        let packets = round(calls, via, *shape);
                        *cost += (server.cpu_us() - before) / packets / TURNS as f64;
                    }
                }
            }
        }
        for (server, costs) in servers.iter().zip(costs) {
            print!("{:<38}", format!("{via:?} {}", server.name));
            costs.iter().for_each(|cost| print!("{cost:>9.2}"));
            println!();
        }
    }
}
