//! The servers to compare, each a child process with the same user on an address of its own.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

use super::client::{self, PASSWORD, REALM, USER};

/// Where every server listens and relays. Clients and peers have other addresses of 127.0.0.0/8.
const HOST: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Turnstone,
    Coturn,
    WebrtcRs,
    /// Another build of turnstone.
    #[value(skip)]
    Baseline,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Turnstone => "turnstone",
            Self::Coturn => "coturn",
            Self::WebrtcRs => "webrtc-rs",
            Self::Baseline => "baseline",
        }
    }

    /// The lowest relay port, so that servers that run side by side do not meet.
    const fn first_port(self) -> u16 {
        match self {
            Self::Turnstone => 10_000,
            Self::Coturn => 18_000,
            Self::Baseline => 24_000,
            // Takes what the kernel gives.
            Self::WebrtcRs => 32_768,
        }
    }
}

/// A server that serves. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Running {
    /// Starts a server and waits until it answers.
    pub(super) fn start(
        kind: Kind,
        program: &Path,
        allocations: usize,
        workers: usize,
    ) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        // Free a moment ago; nobody else uses this address.
        let address = UdpSocket::bind((HOST, 0))?.local_addr()?;
        let more = u16::try_from(allocations).unwrap_or(u16::MAX / 4).max(5999);
        let ports = (kind.first_port(), kind.first_port() + more);
        let mut command = Command::new(program);
        match kind {
            Kind::Turnstone | Kind::Baseline => {
                let file = directory.path().join("turnserver.toml");
                fs::write(
                    &file,
                    turnstone_config(address, ports, allocations, workers),
                )?;
                command.arg("run").arg("--config").arg(file);
            }
            Kind::Coturn => {
                coturn_options(&mut command, address, ports, workers);
                command.arg("--pidfile").arg(directory.path().join("pid"));
            }
            Kind::WebrtcRs => {
                command.arg("--webrtc-rs-at").arg(address.to_string());
            }
        }
        let log = fs::File::create(directory.path().join("log"))?;
        command
            .env("RUNTIME_DIRECTORY", directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let server = Self {
            kind,
            address,
            child: command.spawn()?,
            directory,
        };
        client::wait_until_up(address)?;
        Ok(server)
    }

    /// Where turnstone answers operators.
    pub(super) fn admin_socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn turnstone_config(
    address: SocketAddr,
    ports: (u16, u16),
    allocations: usize,
    workers: usize,
) -> String {
    let (first, last) = ports;
    format!(
        r#"
realm = "{REALM}"
[listen]
udp = ["{address}"]
tcp = []
[relay]
addresses = ["{HOST}"]
ports = "{first}-{last}"
[auth]
users = {{ {USER} = "{PASSWORD}" }}
[peers]
allow_loopback = true
[limits]
allocations_per_user = {allocations}
allocation_kbit_per_s = 0
user_kbit_per_s = 0
[log]
level = "warn"
[server]
workers = {workers}
"#
    )
}

fn coturn_options(command: &mut Command, address: SocketAddr, ports: (u16, u16), workers: usize) {
    // `-n`: no configuration file.
    let flags = "-n --lt-cred-mech --no-cli --no-tls --no-dtls --no-tcp --no-tcp-relay \
                 --allow-loopback-peers --log-file=stdout --simple-log";
    command.args(flags.split_whitespace()).args([
        format!("--listening-ip={}", address.ip()),
        format!("--listening-port={}", address.port()),
        format!("--relay-ip={}", address.ip()),
        format!("--min-port={}", ports.0),
        format!("--max-port={}", ports.1),
        format!("--realm={REALM}"),
        format!("--user={USER}:{PASSWORD}"),
        format!("--relay-threads={workers}"),
    ]);
}

/// Runs the TURN server of webrtc-rs, for good.
pub(super) fn serve_webrtc_rs(address: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = ConnConfig {
            conn: Arc::new(tokio::net::UdpSocket::bind(address).await?),
            relay_addr_generator: Box::new(RelayAddressGeneratorStatic {
                relay_address: IpAddr::V4(HOST),
                address: HOST.to_string(),
                net: Arc::new(Net::new(None)),
            }),
        };
        let server = turn::server::Server::new(ServerConfig {
            conn_configs: vec![config],
            realm: REALM.to_owned(),
            auth_handler: Arc::new(OneUser),
            channel_bind_timeout: Duration::ZERO,
            alloc_close_notify: None,
        });
        let _server = server.await.map_err(io::Error::other)?;
        std::future::pending().await
    })
}

struct OneUser;

impl AuthHandler for OneUser {
    fn auth_handle(
        &self,
        username: &str,
        realm: &str,
        _: SocketAddr,
    ) -> Result<Vec<u8>, turn::Error> {
        Ok(generate_auth_key(username, realm, PASSWORD))
    }
}
