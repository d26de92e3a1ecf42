//! From a configuration to a running server: builds what the engine and the core are told, and
//! waits for a signal.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use secrecy::ExposeSecret;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::hooks;
use super::output;
use super::own_networks::{self, OwnNetworks};
use crate::auth::{Authenticator, CredentialError, Credentials, NonceKey};
use crate::config::{Config, Credential, Host};
use crate::engine::{Engine, Settings, StreamLimits};
use crate::log;
use crate::process;
use crate::turn::{ClientPolicy, Limits, Options, PeerPolicy, RelayAddress};

/// File descriptors of a server without clients, generously.
pub(super) const FILES_AT_REST: u64 = 256;

/// Runs a server until SIGTERM or SIGINT. `when_ready` is called once clients are served.
pub(super) fn serve(
    config: &Config,
    host: &Host,
    log: &mut log::Output,
    when_ready: impl FnOnce(),
) -> ExitCode {
    if config.peers.allow_loopback {
        tracing::warn!("peers.allow_loopback is on: clients can reach this machine's own services");
    }
    raise_file_limit(config);
    let settings = match settings(config, host) {
        Ok(settings) => settings,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(super::BAD_CONFIGURATION);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Before anybody can know that there is a process to stop.
    let signals = {
        let _context = runtime.enter();
        Signals::new()
    };
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let networks = {
        let _context = runtime.enter();
        OwnNetworks::open()
    };
    let unknown = host.unknown_networks.clone();
    if let Some(error) = unknown.or_else(|| networks.as_ref().err().map(ToString::to_string)) {
        tracing::warn!(
            "this machine's own addresses are not known ({error}), so its services may be peers: \
             allow AF_NETLINK, or put the addresses into peers.deny"
        );
    }
    let started = {
        let _context = runtime.enter();
        start(settings, config, log)
    };
    let (engine, hooks) = match started {
        Ok(started) => started,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    tracing::info!(
        udp = %output::list(engine.udp_addresses()),
        tcp = %output::list(engine.tcp_addresses()),
        workers = config.server.workers,
        realm = config.realm,
        "serving"
    );
    when_ready();
    runtime.block_on(async {
        let hooks = hooks.map(hooks::Configured::start);
        let code = wait(engine, signals, networks.ok()).await;
        if let Some(hooks) = hooks {
            hooks.finish().await;
        }
        code
    })
}

/// Binds the listeners, gives up every right that was needed for them, and starts the workers.
fn start(
    settings: Settings,
    config: &Config,
    log: &mut log::Output,
) -> Result<(Engine, Option<hooks::Configured>), Box<dyn Error>> {
    let mut bound = Engine::bind(settings)?;
    let (hooks, sink) = hooks::prepare(config)?.unzip();
    if let Some(sink) = sink {
        bound = bound.tell(sink);
    }
    let hook_port = hooks.as_ref().map(|hooks| hooks.port);
    let confinement = process::confine(config.server.user.as_deref(), hook_port)?;
    for warning in confinement.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!("confined: {confinement}");
    // Its thread is the second one.
    log.detach(config.limits.allocations_total);
    Ok((bound.start()?, hooks))
}

async fn wait(
    mut engine: Engine,
    mut signals: Signals,
    mut networks: Option<OwnNetworks>,
) -> ExitCode {
    let control = engine.control();
    notify(&[NotifyState::Ready, NotifyState::Status("Serving")]);
    let mut watchdog = Watchdog::new();
    let code = loop {
        tokio::select! {
            name = signals.stop() => {
                tracing::info!(signal = name, "stopping");
                break ExitCode::SUCCESS;
            }
            Some(worker) = engine.worker_failed() => {
                tracing::error!(worker, "a worker ended, and the server with it");
                break ExitCode::FAILURE;
            }
            () = watchdog.due() => watchdog.report(&engine.heartbeats()),
            networks = own_networks::next(&mut networks) => {
                if control.set_own_networks(networks).await == Ok(true) {
                    tracing::info!("this machine's addresses have changed; none of them is a peer");
                }
            }
        }
    };
    notify(&[NotifyState::Stopping]);
    engine.stop();
    code
}

/// The signals that the server knows.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// From here on they are waited for, and end nothing by themselves.
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one that ends the server. The signals by which other servers reload do not: a
    /// terminal that closes, or a habit, must not cost calls.
    async fn stop(&mut self) -> &'static str {
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => "SIGHUP",
                _ = self.user1.recv() => "SIGUSR1",
                _ = self.user2.recv() => "SIGUSR2",
            };
            tracing::warn!("{ignored} ignored: a changed configuration needs a restart");
        }
    }
}

/// Tells systemd that the workers are well, as long as every one of them is.
struct Watchdog {
    interval: Option<tokio::time::Interval>,
    last: Vec<u64>,
}

impl Watchdog {
    fn new() -> Self {
        let half = sd_notify::watchdog_enabled().map(|timeout| timeout / 2);
        // A worker's heart beats once a second: asking more often would see no beat.
        let half = half.map(|half| half.max(Duration::from_millis(2500)));
        Self {
            interval: half.map(tokio::time::interval),
            last: Vec::new(),
        }
    }

    async fn due(&mut self) {
        match &mut self.interval {
            Some(interval) => {
                interval.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    fn report(&mut self, beats: &[u64]) {
        let well =
            self.last.is_empty() || beats.iter().zip(&self.last).all(|(now, then)| now > then);
        if well {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a worker does not respond");
        }
        self.last = beats.to_vec();
    }
}

/// Without systemd nobody listens, which is no failure.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// What the engine is told.
fn settings(config: &Config, host: &Host) -> Result<Settings, CredentialError> {
    let relay_addresses = config.relay.addresses.iter();
    let relay_addresses = relay_addresses
        .map(|&bound| RelayAddress {
            bound,
            advertised: config.relay.advertised(bound),
        })
        .collect();
    Ok(Settings {
        udp: config.listen.udp.clone(),
        tcp: config.listen.tcp.clone(),
        workers: config.server.workers,
        relay_addresses,
        relay_ports: config.relay.ports.clone(),
        own_networks: host.local_networks.clone(),
        options: options(config)?,
        stream: StreamLimits {
            connections: config.limits.tcp_connections,
            connections_per_address: config.limits.tcp_connections_per_address,
            half_open: config.limits.tcp_half_open,
            send_queue_bytes: config.limits.tcp_send_queue_bytes as usize,
            queues_total_bytes: config.limits.tcp_queues_total_bytes as usize,
            first_message_s: config.limits.tcp_first_message_s,
            idle_s: config.limits.tcp_idle_s,
        },
    })
}

/// What the core is told.
fn options(config: &Config) -> Result<Options, CredentialError> {
    let software = config.server.software.as_str();
    Ok(Options {
        clients: ClientPolicy {
            allow: config.clients.allow.clone(),
            deny: config.clients.deny.clone(),
        },
        authenticator: authenticator(config)?,
        limits: limits(config),
        peers: PeerPolicy {
            allow: config.peers.allow.clone(),
            deny: config.peers.deny.clone(),
            allow_loopback: config.peers.allow_loopback,
            ..PeerPolicy::default()
        },
        software: (!software.is_empty()).then(|| software.into()),
        classic_stun: config.listen.classic_stun,
        dont_fragment: config.relay.dont_fragment,
    })
}

fn limits(config: &Config) -> Limits {
    Limits {
        allocations_per_user: config.limits.allocations_per_user,
        allocations_per_address: config.limits.allocations_per_address,
        allocations_total: config.limits.allocations_total,
        allocation_kbit_per_s: config.limits.allocation_kbit_per_s,
        user_kbit_per_s: config.limits.user_kbit_per_s,
        permissions_per_allocation: config.limits.permissions_per_allocation,
        channels_per_allocation: config.limits.channels_per_allocation,
        max_lifetime_s: config.limits.max_lifetime_s,
        port_rest_s: config.limits.port_rest_s,
        reservation_s: config.limits.reservation_s,
        unauthenticated_replies_per_s: share_of_worker(
            config.limits.unauthenticated_replies_per_s,
            config.server.workers,
        ),
        failed_authentications_per_minute: config.limits.failed_authentications_per_minute,
        ..Limits::default()
    }
}

/// What one of the workers may do of what all of them may. A flood comes from many ports, and so to
/// every worker. 0 stays no limit, and anything else is one at least.
fn share_of_worker(per_s: u32, workers: usize) -> u32 {
    per_s.div_ceil(u32::try_from(workers).unwrap_or(u32::MAX).max(1))
}

fn authenticator(config: &Config) -> Result<Authenticator, CredentialError> {
    let mut credentials = Credentials::new(&config.realm, config.auth.rest_separator)?;
    for secret in &config.auth.static_auth_secrets {
        credentials.add_secret(secret.clone());
    }
    for (name, credential) in &config.auth.users {
        match credential {
            Credential::Plain(password) => credentials.add_user(name, password)?,
            Credential::Md5Key(key) => credentials.add_user_key(name, *key.expose())?,
        }
    }
    let mut nonce_keys: Vec<NonceKey> = config
        .auth
        .nonce_secrets
        .iter()
        .map(|secret| NonceKey::from_secret(secret.expose_secret()))
        .collect();
    if nonce_keys.is_empty() {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).expect("the system has random numbers");
        nonce_keys.push(NonceKey::new(*key));
    }
    Ok(Authenticator::new(
        Arc::new(credentials),
        nonce_keys,
        config.auth.nonce_lifetime_s,
    ))
}

/// Asks for as many files as the system lets this process have, and says so if they cannot be
/// enough.
fn raise_file_limit(config: &Config) {
    let wanted = files(config);
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Beyond the maximum is for root only. What a sandbox forbids shows in the limit.
    let _ = set_file_limit(maximum.map(|maximum| maximum.max(wanted)))
        .or_else(|_| set_file_limit(maximum));
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if files < wanted {
        tracing::warn!(
            files,
            wanted,
            "the file limit is lower than limits.allocations_total and limits.tcp_connections \
             need; raise LimitNOFILE (or ulimit -n)"
        );
    }
}

/// Files that a full server has open. A connection takes one, and an allocation one for each family
/// that is relayed.
fn files(config: &Config) -> u64 {
    let addresses = &config.relay.addresses;
    let families = [IpAddr::is_ipv4, IpAddr::is_ipv6];
    let families = families
        .iter()
        .filter(|is| addresses.iter().any(is))
        .count() as u64;
    let sockets = families * u64::from(config.limits.allocations_total);
    sockets + u64::from(config.limits.tcp_connections) + FILES_AT_REST
}

fn set_file_limit(files: Option<u64>) -> rustix::io::Result<()> {
    let limit = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let host = Host::probe();
        let mut config = load(&Sources::default(), &host).unwrap().config;
        config.server.workers = 1;
        assert_eq!(limits(&config), Limits::default());
    }

    /// SEC-09: the operator's number is that of the server, however many workers it has.
    #[test]
    fn workers_share_the_replies_to_strangers() {
        for (configured, workers, of_each) in [
            (200, 1, 200),
            (200, 2, 100),
            (200, 3, 67),
            (1, 8, 1),
            (0, 8, 0),
        ] {
            assert_eq!(share_of_worker(configured, workers), of_each);
        }
        let mut config = load(&Sources::default(), &Host::probe()).unwrap().config;
        config.server.workers = 4;
        assert_eq!(limits(&config).unauthenticated_replies_per_s, 50);
    }

    /// An allocation of both families is two sockets.
    #[test]
    fn every_relay_family_takes_files() {
        let host = Host::probe().of_any_machine();
        let files_with = |addresses: &str| {
            let mut environment = Environment::default();
            environment.push("TURNSERVER_RELAY__ADDRESSES", addresses);
            environment.push("TURNSERVER_LIMITS__ALLOCATIONS_TOTAL", "1000");
            environment.push("TURNSERVER_LIMITS__TCP_CONNECTIONS", "100");
            let sources = Sources {
                environment,
                ..Sources::default()
            };
            files(&load(&sources, &host).unwrap().config)
        };
        assert_eq!(files_with("192.0.2.1,192.0.2.2"), 1100 + FILES_AT_REST);
        assert_eq!(files_with("2001:db8::1"), 1100 + FILES_AT_REST);
        assert_eq!(files_with("192.0.2.1,2001:db8::1"), 2100 + FILES_AT_REST);
    }
}
