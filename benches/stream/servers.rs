//! turnstone and coturn as processes with one relaying thread each, on a core of their own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::version::TLS12;
use tempfile::TempDir;

use super::harness::{Client, DEADLINE, Via, tls};
use super::load::negotiated;
use super::shared::cores::Cores;
use super::shared::coturn_version;

/// Where both listen and relay.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 3);
const PASSWORD: &str = "wonderland";

/// The servers to compare, turnstone first.
pub(crate) struct Servers {
    pub(crate) running: Vec<Running>,
    _directory: TempDir,
}

impl Servers {
    /// Starts those that are installed, on a core of their own or on any, and says what TLS their
    /// clients speak.
    pub(crate) fn start(is_tls12: bool, have_core: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = tls::pem_of(tls::NAME);
        fs::write(directory.path().join("cert.pem"), cert).unwrap();
        fs::write(directory.path().join("key.pem"), key).unwrap();
        let cores = Cores::divide().unwrap().filter(|_| have_core);
        match cores {
            Some(_) => println!("servers on the first core, load on the others"),
            None => println!("servers and load on any core"),
        }
        let versions = if is_tls12 {
            &[&TLS12][..]
        } else {
            &tls::VERSIONS
        };
        let surroundings = Surroundings {
            directory: directory.path(),
            cores: cores.as_ref(),
            clients: Arc::new(tls::client_config(versions)),
        };
        let mut running = vec![Running::turnstone(&surroundings)];
        match coturn_version() {
            Some(version) => {
                println!("coturn {version}");
                running.push(Running::coturn(&surroundings));
            }
            None => println!("coturn is not installed (turnserver is not in PATH), left out"),
        }
        for server in &running {
            let (version, suite) = negotiated(&mut server.client(Via::Tls));
            println!("{} speaks {version:?} with {suite}", server.name);
        }
        Self {
            running,
            _directory: directory,
        }
    }
}

/// What servers are started with.
struct Surroundings<'a> {
    /// Has the certificate, and is for their own files.
    directory: &'a Path,
    cores: Option<&'a Cores>,
    clients: Arc<ClientConfig>,
}

/// A server that ends when this is dropped.
pub(crate) struct Running {
    pub(crate) name: &'static str,
    tcp: SocketAddr,
    tls: SocketAddr,
    clients: Arc<ClientConfig>,
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
    fn start(
        name: &'static str,
        mut command: Command,
        surroundings: &Surroundings<'_>,
        [tcp, tls]: [SocketAddr; 2],
    ) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = match surroundings.cores {
            Some(cores) => cores.spawn(&mut command),
            None => command.spawn(),
        };
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        let server = Self {
            name,
            tcp,
            tls,
            clients: Arc::clone(&surroundings.clients),
            child,
        };
        let started = Instant::now();
        while [tcp, tls]
            .map(TcpStream::connect)
            .iter()
            .any(Result::is_err)
        {
            assert!(started.elapsed() < DEADLINE, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn turnstone(surroundings: &Surroundings<'_>) -> Self {
        let (tcp, tls) = (free(), free());
        let at = surroundings.directory.display();
        let config = format!(
            "realm = \"example.org\"\n[listen]\nudp = [\"{tcp}\"]\ntcp = [\"{tcp}\"]\ntls = [\"{tls}\"]\n\
             [tls]\ncert = \"{at}/cert.pem\"\nkey = \"{at}/key.pem\"\n\
             [relay]\naddresses = [\"{HOST}\"]\nports = \"10000-15999\"\n\
             [auth]\nusers = {{ alice = \"{PASSWORD}\" }}\n[peers]\nallow_loopback = true\n\
             [limits]\nallocations_per_user = 1000\ntcp_connections_per_address = 1000\n\
             allocation_kbit_per_s = 0\nuser_kbit_per_s = 0\n\
             [log]\nlevel = \"warn\"\n[metrics]\nlisten = \"\"\n[server]\nworkers = 1\n"
        );
        let file = surroundings.directory.join("turnserver.toml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
        command.arg("run").arg("--config").arg(file);
        command.env("RUNTIME_DIRECTORY", surroundings.directory);
        Self::start("turnstone", command, surroundings, [tcp, tls])
    }

    fn coturn(surroundings: &Surroundings<'_>) -> Self {
        let (tcp, tls) = (free(), free());
        let at = surroundings.directory.display();
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
        Self::start("coturn", command, surroundings, [tcp, tls])
    }

    /// A new client.
    pub(crate) fn client(&self, via: Via) -> Client {
        match via {
            Via::Tls => {
                let stream = TcpStream::connect(self.tls).unwrap();
                Client::tls_over(tls::connect(&self.clients, stream).unwrap())
            }
            _ => Client::tcp_to(self.tcp),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}
