//! A server in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Once};
use std::time::{SystemTime, UNIX_EPOCH};

use super::tls;
use md5::{Digest, Md5};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use turnstone::auth::{Authenticator, Credentials, NonceKey};
use turnstone::engine::{Engine, Settings, StartError, StreamLimits, Web};
use turnstone::turn::{ClientPolicy, Limits, Options, PeerPolicy, RelayAddress};

pub(crate) const REALM: &str = "example.org";

/// An address that no route leads to and no policy here forbids, for peers that need not exist.
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 255, 0, 1);

/// Relay ports of a server that says nothing else.
const PORTS: u16 = 64;

/// Below the ports that the kernel gives to clients and listeners (32768 on Linux).
const PORT_POOL: RangeInclusive<u16> = 10_000..=32_000;

pub(crate) fn unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// What can be set. The default has everything that is there, on loopback.
pub(crate) struct Setup {
    pub(crate) udp: Vec<SocketAddr>,
    pub(crate) tcp: Vec<SocketAddr>,
    pub(crate) tls_listeners: Vec<SocketAddr>,
    pub(crate) strict_listeners: Vec<SocketAddr>,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    #[cfg(feature = "dtls")]
    pub(crate) dtls_listeners: Vec<SocketAddr>,
    #[cfg(feature = "dtls")]
    pub(crate) dtls: Option<openssl::ssl::SslContext>,
    pub(crate) workers: usize,
    pub(crate) relay: Vec<RelayAddress>,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) realm: String,
    pub(crate) users: Vec<(String, String)>,
    /// Keep the users' MD5 keys in the place of their passwords.
    pub(crate) store_md5_keys: bool,
    pub(crate) secrets: Vec<String>,
    pub(crate) nonce_lifetime_s: u32,
    pub(crate) limits: Limits,
    pub(crate) own_networks: Vec<ipnet::IpNet>,
    pub(crate) clients: ClientPolicy,
    pub(crate) peers: PeerPolicy,
    pub(crate) software: Option<&'static str>,
    pub(crate) classic_stun: bool,
    pub(crate) dont_fragment: bool,
    pub(crate) stream: StreamLimits,
    pub(crate) proxy_protocol_from: Vec<ipnet::IpNet>,
    pub(crate) web: Web,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let loopback = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        Self {
            udp: loopback.to_vec(),
            tcp: loopback.to_vec(),
            tls_listeners: loopback.to_vec(),
            strict_listeners: vec![],
            tls: Some(Arc::clone(&tls::SERVER)),
            #[cfg(feature = "dtls")]
            dtls_listeners: loopback.to_vec(),
            #[cfg(feature = "dtls")]
            dtls: Some(super::dtls::SERVER.clone()),
            workers: 1,
            relay: vec![same(own_ipv4().into()), same(Ipv6Addr::LOCALHOST.into())],
            ports: port_slice(PORTS),
            realm: REALM.to_owned(),
            users: [("alice", "wonderland"), ("bob", "builder")]
                .map(|(user, password)| (user.to_owned(), password.to_owned()))
                .to_vec(),
            store_md5_keys: false,
            secrets: vec![],
            nonce_lifetime_s: 3600,
            limits: Limits::default(),
            own_networks: vec![],
            clients: ClientPolicy::default(),
            peers: PeerPolicy {
                allow_loopback: true,
                ..PeerPolicy::default()
            },
            software: Some("turnstone"),
            classic_stun: false,
            dont_fragment: true,
            stream: StreamLimits {
                connections: 200,
                connections_per_address: 200,
                half_open: 200,
                send_queue_bytes: 262_144,
                queues_total_bytes: 64 << 20,
                first_message_s: 10,
                idle_s: 60,
            },
            proxy_protocol_from: vec![],
            web: Web {
                proxy_protocol: true,
                connections: 50,
                idle_s: 60,
                ..Web::default()
            },
        }
    }

    /// Adds a user.
    pub(crate) fn user(&mut self, name: &str, password: &str) {
        self.users.push((name.to_owned(), password.to_owned()));
    }

    /// Has the IPv4 relay address be told to clients as another one.
    pub(crate) fn advertise(&mut self, address: Ipv4Addr) {
        self.relay[0].advertised = address.into();
    }

    /// What the engine is told.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            udp: self.udp.clone(),
            tcp: self.tcp.clone(),
            tls_listeners: self.tls_listeners.clone(),
            strict_listeners: self.strict_listeners.clone(),
            tls: self.tls.clone(),
            #[cfg(feature = "dtls")]
            dtls_listeners: self.dtls_listeners.clone(),
            #[cfg(feature = "dtls")]
            dtls: self.dtls.clone(),
            workers: self.workers,
            relay_addresses: self.relay.clone(),
            relay_ports: self.ports.clone(),
            own_networks: self.own_networks.clone(),
            options: self.options(),
            revocations: Arc::default(),
            stream: self.stream,
            proxy_protocol_from: self.proxy_protocol_from.clone(),
            web: self.web.clone(),
        }
    }

    /// What the core is told.
    pub(crate) fn options(&self) -> Options {
        Options {
            authenticator: self.authenticator(),
            limits: self.limits.clone(),
            clients: self.clients.clone(),
            peers: self.peers.clone(),
            software: self.software.map(Into::into),
            classic_stun: self.classic_stun,
            dont_fragment: self.dont_fragment,
        }
    }

    fn authenticator(&self) -> Authenticator {
        let mut credentials = Credentials::new(&self.realm, ':').unwrap();
        for (name, password) in &self.users {
            if self.store_md5_keys {
                let key = Md5::digest(format!("{name}:{}:{password}", self.realm));
                credentials.add_user_key(name, key.into()).unwrap();
            } else {
                let password = password.as_str().into();
                credentials.add_user(name, &password).unwrap();
            }
        }
        for secret in &self.secrets {
            credentials.add_secret(secret.as_str().into());
        }
        let key = NonceKey::from_secret("the same in every test server");
        Authenticator::new(Arc::new(credentials), vec![key], self.nonce_lifetime_s)
    }
}

fn same(ip: IpAddr) -> RelayAddress {
    RelayAddress {
        bound: ip,
        advertised: ip,
    }
}

/// An address that no other server has, of this process or another, so that their ports cannot
/// collide: all of 127.0.0.0/8 is this host.
pub(crate) fn own_ipv4() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let second = 128 + process % 120;
    let third = process / 120 % 64 * 4 + u32::from(serial / 254 % 4);
    Ipv4Addr::new(127, second as u8, third as u8, (serial % 254 + 1) as u8)
}

/// Ports that no other server of this process has: of IPv6 loopback there is but one address. Where
/// two processes meet, the server tries another port.
fn port_slice(count: u16) -> RangeInclusive<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let room = PORT_POOL.end() - PORT_POOL.start();
    let offset = (std::process::id().wrapping_mul(7919) % u32::from(room)) as u16;
    let taken = NEXT.fetch_add(count, Ordering::Relaxed);
    // Even, so that the first two ports are a pair.
    let start = (u32::from(offset) + u32::from(taken)) % u32::from(room - count);
    let start = PORT_POOL.start() + (start as u16 & !1);
    start..=start + count - 1
}

/// Hundreds of allocations in one process have two descriptors each; many systems start with 1024.
fn raise_file_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised).unwrap();
    });
}

/// A server that runs until it is dropped.
pub(crate) struct TestServer {
    pub(crate) engine: Engine,
    /// Makes nonces of any time, as the server does.
    pub(crate) authenticator: Authenticator,
    pub(crate) relay: Vec<RelayAddress>,
    pub(crate) ports: RangeInclusive<u16>,
    /// Of the listeners for streams, whose ports are closed to peers: none gets one by chance.
    _taken: Vec<UdpSocket>,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// The number behind the name and the labels of a metric.
    #[track_caller]
    pub(crate) fn count(&self, series: &str) -> f64 {
        let text = self.engine.metrics().to_text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series}"))
            .trim()
            .parse()
            .unwrap()
    }

    pub(crate) fn with(change: impl FnOnce(&mut Setup)) -> Self {
        Self::try_with(change).unwrap()
    }

    pub(crate) fn try_with(change: impl FnOnce(&mut Setup)) -> Result<Self, StartError> {
        raise_file_limit();
        let mut setup = Setup::new();
        change(&mut setup);
        let engine = Engine::start(setup.settings())?;
        let streams = [engine.tcp_addresses(), engine.tls_addresses()].concat();
        let taken = streams.into_iter().flat_map(UdpSocket::bind).collect();
        Ok(Self {
            engine,
            _taken: taken,
            authenticator: setup.authenticator(),
            relay: setup.relay,
            ports: setup.ports,
        })
    }

    /// The first listener of a transport and family.
    pub(crate) fn udp(&self) -> SocketAddr {
        self.engine.udp_addresses()[0]
    }

    pub(crate) fn udp6(&self) -> SocketAddr {
        let all = self.engine.udp_addresses();
        *all.iter().find(|a| a.is_ipv6()).unwrap()
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.engine.tcp_addresses()[0]
    }

    pub(crate) fn tcp6(&self) -> SocketAddr {
        let all = self.engine.tcp_addresses();
        *all.iter().find(|a| a.is_ipv6()).unwrap()
    }

    pub(crate) fn tls(&self) -> SocketAddr {
        self.engine.tls_addresses()[0]
    }

    pub(crate) fn tls6(&self) -> SocketAddr {
        let all = self.engine.tls_addresses();
        *all.iter().find(|a| a.is_ipv6()).unwrap()
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn dtls(&self) -> SocketAddr {
        self.engine.dtls_addresses()[0]
    }

    #[cfg(feature = "dtls")]
    pub(crate) fn dtls6(&self) -> SocketAddr {
        let all = self.engine.dtls_addresses();
        *all.iter().find(|a| a.is_ipv6()).unwrap()
    }

    /// Ports that allocations or reservations have, resting ones excepted.
    pub(crate) fn live_ports(&self) -> u32 {
        let ports = &self.engine.shared().ports;
        ports.taken() - ports.resting()
    }
}
