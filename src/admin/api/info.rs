//! `/v1/info`: the server as a whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::time::Instant;

use super::Api;
use crate::admin::Draining;
use crate::config::{self, Config, Limits};
use crate::engine::{Control, Listening};
use crate::metrics::{AcmeState, Sample, WEB_FAILURES, WEB_KINDS};
use crate::tls::Pair;

/// What does not change while the server runs.
#[derive(Debug)]
pub struct Facts {
    /// When it began to serve.
    pub started: SystemTime,
    /// Threads that relay.
    pub workers: usize,
    /// Where the credential service is, if there is one.
    pub credentials: Option<SocketAddr>,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct InForce {
    realm: String,
    /// Between the parts of time-limited names.
    pub(super) rest_separator: char,
    /// Addresses of this machine where peers are talked to, and what clients are told instead.
    relays: Vec<(IpAddr, IpAddr)>,
    relay_ports: RangeInclusive<u16>,
    limits: Limits,
    web: config::Web,
}

impl From<&Config> for InForce {
    fn from(config: &Config) -> Self {
        let relays = config.relay.addresses.iter();
        let relays = relays.map(|&bound| (bound, config.relay.advertised(bound)));
        Self {
            realm: config.realm.clone(),
            rest_separator: config.auth.rest_separator,
            relays: relays.collect(),
            relay_ports: config.relay.ports.clone(),
            limits: config.limits.clone(),
            web: config.web.clone(),
        }
    }
}

pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new().route("/v1/info", get(show))
}

#[derive(Serialize)]
struct Info {
    version: &'static str,
    started_unix_s: u64,
    uptime_s: u64,
    workers: usize,
    realm: String,
    listeners: Vec<ListenerAddress>,
    relay: Relay,
    draining: Option<DrainingNow>,
    config: Configuration,
    allocations: u32,
    tcp_connections: u32,
    relay_ports: RelayPorts,
    credentials: Option<CredentialService>,
    certificates: Vec<Certificate>,
    acme: Option<Acme>,
    web: Option<Web>,
    limits: Limits,
}

/// Where clients connect.
#[derive(Serialize)]
struct ListenerAddress {
    transport: String,
    /// With the port that the kernel chose.
    address: SocketAddr,
    /// Whether it is not configured any more, and serves those who are there alone.
    leaving: bool,
}

impl From<Listening> for ListenerAddress {
    fn from(listening: Listening) -> Self {
        Self {
            transport: listening.transport.to_string(),
            address: listening.address,
            leaving: listening.is_leaving,
        }
    }
}

#[derive(Serialize)]
struct Certificate {
    file: String,
    names: Vec<String>,
    algorithm: &'static str,
    not_after_unix_s: i64,
}

impl From<&Pair> for Certificate {
    fn from(pair: &Pair) -> Self {
        let addresses = pair.addresses().iter().map(IpAddr::to_string);
        Self {
            file: pair.files().cert.display().to_string(),
            names: pair.names().iter().cloned().chain(addresses).collect(),
            algorithm: pair.algorithm(),
            not_after_unix_s: pair.not_after_unix_s(),
        }
    }
}

/// How it stands with certificates from an ACME server.
#[derive(Serialize)]
struct Acme {
    domains: Vec<String>,
    /// Whether there is a certificate.
    has_certificate: bool,
    /// `None` while an attempt is under way.
    next_attempt_unix_s: Option<u64>,
    last_error: Option<String>,
}

impl Acme {
    fn of(state: AcmeState) -> Option<Self> {
        let is_on = !state.domains.is_empty();
        is_on.then_some(Self {
            domains: state.domains,
            has_certificate: state.expires_unix_s.is_some(),
            next_attempt_unix_s: state.next_attempt_unix_s,
            last_error: state.last_error,
        })
    }
}

/// Web servers that share the port, and what they get.
#[derive(Serialize)]
struct Web {
    servers: Vec<WebServer>,
    names: Vec<String>,
    proxy_protocol: bool,
    /// Connections that were closed instead of being passed on, by reason.
    failures: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct WebServer {
    kind: &'static str,
    address: SocketAddr,
    /// Those that are open.
    connections: u64,
    passed_on: u64,
}

impl Web {
    fn of(web: config::Web, counted: &Sample) -> Option<Self> {
        let counted = &counted.host.web;
        let counts = counted.open.into_iter().zip(counted.passed_on);
        let kinds = WEB_KINDS.into_iter().zip([web.https, web.http]).zip(counts);
        let servers = kinds.filter_map(|((kind, address), (connections, passed_on))| {
            Some(WebServer {
                kind,
                address: address?,
                connections,
                passed_on,
            })
        });
        let servers = Vec::from_iter(servers);
        (!servers.is_empty()).then(|| Self {
            servers,
            names: web.names,
            proxy_protocol: web.proxy_protocol,
            failures: WEB_FAILURES.into_iter().zip(counted.failures).collect(),
        })
    }
}

#[derive(Serialize)]
struct CredentialService {
    listen: SocketAddr,
}

#[derive(Serialize)]
struct Relay {
    addresses: Vec<RelayAddress>,
    ports: String,
}

#[derive(Serialize)]
struct RelayAddress {
    bound: IpAddr,
    advertised: IpAddr,
}

/// How long the server has been draining, and how long it may still.
#[derive(Serialize)]
pub(super) struct DrainingNow {
    for_s: u64,
    deadline_s: Option<u64>,
}

impl From<Draining> for DrainingNow {
    fn from(draining: Draining) -> Self {
        let now = Instant::now();
        let left = |deadline: Instant| {
            let left = deadline.saturating_duration_since(now);
            // A second that has begun is one.
            left.as_millis().div_ceil(1000) as u64
        };
        Self {
            for_s: now.saturating_duration_since(draining.since).as_secs(),
            deadline_s: draining.deadline.map(left),
        }
    }
}

#[derive(Serialize)]
struct Configuration {
    file: Option<String>,
    loaded_unix_s: u64,
    generation: u64,
}

#[derive(Serialize)]
pub(super) struct RelayPorts {
    live: u32,
    held: u32,
    resting: u32,
    free: u32,
}

impl RelayPorts {
    pub(super) fn of(control: &Control) -> Self {
        let census = control.shared().ports.census();
        Self {
            live: census.live,
            held: census.held,
            resting: census.resting,
            free: census.free,
        }
    }
}

async fn show(State(api): State<Arc<Api>>) -> Json<Info> {
    let facts = &api.facts;
    let in_force = api.in_force.borrow().clone();
    let reloads = api.statistics.metrics().reloads();
    let addresses = in_force.relays.iter();
    let addresses = addresses.map(|&(bound, advertised)| RelayAddress { bound, advertised });
    let (low, high) = (in_force.relay_ports.start(), in_force.relay_ports.end());
    let listeners = api.control.all_listeners().into_iter();
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        started_unix_s: unix_s(facts.started),
        uptime_s: facts.started.elapsed().map_or(0, |uptime| uptime.as_secs()),
        workers: facts.workers,
        realm: in_force.realm,
        listeners: listeners.map(ListenerAddress::from).collect(),
        relay: Relay {
            addresses: addresses.collect(),
            ports: format!("{low}-{high}"),
        },
        draining: api.drain.state().map(DrainingNow::from),
        config: Configuration {
            file: facts
                .config_file
                .as_ref()
                .map(|path| path.display().to_string()),
            loaded_unix_s: reloads.loaded_unix_s(),
            generation: 1 + reloads.succeeded(),
        },
        allocations: api.control.shared().quota.total(),
        tcp_connections: api.control.tcp_connections(),
        relay_ports: RelayPorts::of(&api.control),
        credentials: facts.credentials.map(|listen| CredentialService { listen }),
        certificates: api
            .certificates
            .pairs()
            .iter()
            .map(|pair| Certificate::from(&**pair))
            .collect(),
        acme: Acme::of(api.statistics.metrics().acme().state()),
        web: Web::of(in_force.web, &api.statistics.now()),
        limits: in_force.limits,
    })
}

fn unix_s(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
