//! What the operator wants: read from a TOML file, the environment and flags, checked as a whole.
//!
//! [`load()`] turns [`Sources`] into a [`Config`], in which everything is typed, in range and filled
//! in with [`defaults`]; or into [`Problems`], which are all of them at once, each with file, line,
//! key and remedy. The rooms behind it: `schema` (which keys there are), `document` (values as
//! written, in layers), `resolve` (what they mean), [`Host`] (what the machine adds), [`first_run`]
//! (the secret of a server that was given none), [`coturn`] (a configuration of another server).
//!
//! Nothing here listens, relays or logs, and no secret leaves it as text: not by `Debug`, not by
//! [`Config::to_toml`], not in a problem's message.

mod certificates;
pub mod coturn;
pub mod defaults;
mod document;
mod environment;
mod error;
mod exposure;
mod files;
pub mod first_run;
mod host;
mod load;
mod local_networks;
mod reload;
mod resolve;
mod revocations;
mod schema;
mod secret_source;
mod strength;
mod suggest;
#[cfg(test)]
mod tests;
mod uris;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use secrecy::{SecretSlice, SecretString};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::process::{FALLBACK_USER, PREFERRED_USER};
use crate::tls::{Files, Pair};
use crate::turn::NetworkRule;

pub use certificates::read_pair;
pub use environment::Environment;
pub use error::{Origin, Problem, Problems};
pub use exposure::{Unreadable, hidden_from, unreadable};
pub use host::{Host, is_private};
pub use load::{Flag, Loaded, Sources, admin_socket, load, system_file};
pub use local_networks::{LocalNetwork, LocalRoutes};
pub use reload::{When, differences};
pub use resolve::{
    ACME_DOMAINS_MAX, ADMIN_TOKEN_MIN, API_KEYS_MAX, PAIRS_MAX, SECRET_KEYS, SOCKET_PATH_MAX,
};
pub use revocations::{RevocationError, RevocationFile};
pub use secret_source::{SecretPlace, SecretSource};

/// A complete configuration: every value checked, nothing left to default.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The realm of all credentials: 1 to 127 characters, without quotes and control characters.
    pub realm: String,
    /// Where clients connect.
    pub listen: Listen,
    /// What clients of TLS are shown.
    pub tls: Tls,
    /// Who gets what is not TURN.
    pub web: Web,
    /// Where peers are talked to.
    pub relay: Relay,
    /// Who may relay.
    pub auth: Auth,
    /// From where the server may be used.
    pub clients: Clients,
    /// Who may be relayed to.
    pub peers: Peers,
    /// How much.
    pub limits: Limits,
    /// How operators reach the server while it runs.
    pub admin: Admin,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// How programs ask for time-limited credentials.
    pub credentials: CredentialService,
    /// Who is told of events.
    pub hooks: Hooks,
    /// What is logged and how.
    pub log: Log,
    /// The process.
    pub server: Server,
}

/// Where clients connect. At least one of the lists has an element.
#[derive(Clone, Debug, Serialize)]
pub struct Listen {
    /// UDP listeners, without duplicates. Port 0 is one that the kernel chooses.
    pub udp: Vec<SocketAddr>,
    /// TCP listeners, likewise.
    pub tcp: Vec<SocketAddr>,
    /// Listeners of the port for TLS, likewise. Whether a TCP client speaks TLS is told by what it
    /// sends, on these and on those above.
    pub tls: Vec<SocketAddr>,
    /// UDP listeners that take DTLS and nothing else, likewise; none in a build without it.
    pub dtls: Vec<SocketAddr>,
    /// Those of the TCP and TLS listeners that take nothing but their own protocol.
    pub strict: Vec<SocketAddr>,
    /// From where a PROXY protocol header is believed.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Whether Binding requests without the magic cookie (RFC 3489) are answered.
    pub classic_stun: bool,
}

impl Listen {
    /// All listeners of TCP connections, whatever is spoken on them.
    pub fn of_tcp(&self) -> impl Iterator<Item = &SocketAddr> {
        self.tcp.iter().chain(&self.tls)
    }
}

/// What clients of TLS are shown.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Where certificates and their keys are, at most [`PAIRS_MAX`]. The first is for clients that
    /// ask for no name, or for none of any.
    pub files: Vec<Files>,
    /// What is there. TLS is not spoken when there is nothing; on another machine there may be.
    pub pairs: Vec<Arc<Pair>>,
    /// Who issues one more.
    pub acme: Acme,
}

/// Who issues certificates by ACME, and for which names.
#[derive(Clone, Debug, Serialize)]
pub struct Acme {
    /// The names of the certificate, in lower case, at most [`ACME_DOMAINS_MAX`]; none is asked for
    /// when there are none. With them the terms are agreed to.
    pub domains: Vec<String>,
    /// Where the authority may write to; nowhere when empty.
    pub email: String,
    /// The authority's directory: a URL with a host.
    #[serde(serialize_with = "as_text")]
    pub directory: hyper::Uri,
    /// PEM certificates of the only authorities that the directory's certificate may be of. `None` is
    /// those of the system.
    #[serde(serialize_with = "as_path")]
    pub ca_file: Option<PathBuf>,
    /// How the authority looks whether the names are ours.
    pub challenge: AcmeChallenge,
    /// Where it looks by HTTP.
    pub http_listen: SocketAddr,
    /// Whether the operator has agreed to the terms of the authority.
    pub terms_of_service_agreed: bool,
    /// The name of an account with the authority that there is outside of ACME; empty is none.
    pub eab_key_id: String,
    /// Where the key of that account is, in base64url.
    #[serde(serialize_with = "as_path")]
    pub eab_key_file: Option<PathBuf>,
    /// That key, decoded; there is one if the account has a name.
    #[serde(skip)]
    pub eab_key: Option<SecretSlice<u8>>,
}

impl Acme {
    /// Whether the authority is answered by TLS.
    pub fn answers_by_tls(&self) -> bool {
        !self.domains.is_empty() && self.challenge == AcmeChallenge::TlsAlpn01
    }

    /// Where the authority is answered by HTTP, if it looks by that.
    pub fn http_listener(&self) -> Option<SocketAddr> {
        let is_needed = !self.domains.is_empty() && self.challenge == AcmeChallenge::Http01;
        is_needed.then_some(self.http_listen)
    }
}

/// How an authority looks whether a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AcmeChallenge {
    /// By TLS at port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// By HTTP at port 80 (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
}

impl Tls {
    /// Whether there is, or will be, a certificate to speak TLS with.
    pub fn is_on(&self) -> bool {
        !self.pairs.is_empty() || !self.acme.domains.is_empty()
    }
}

impl Serialize for Tls {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let files = self.files.first();
        let mut tls = to.serialize_struct("Tls", 4)?;
        let path =
            |path: Option<&PathBuf>| path.map_or(String::new(), |it| it.display().to_string());
        tls.serialize_field("cert", &path(files.map(|files| &files.cert)))?;
        tls.serialize_field("key", &path(files.map(|files| &files.key)))?;
        let additional = match self.files.len() {
            0 | 1 => "(not set)".to_owned(),
            count => format!("(set: {})", count - 1),
        };
        tls.serialize_field("additional", &additional)?;
        tls.serialize_field("acme", &self.acme)?;
        tls.end()
    }
}

/// Web servers that share the TCP and TLS listeners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Web {
    /// Gets TLS that is not for TURN, as it comes.
    #[serde(serialize_with = "as_address")]
    pub https: Option<SocketAddr>,
    /// Names by which that is told where application protocols do not tell it, in lower case.
    pub names: Vec<String>,
    /// Gets HTTP without TLS.
    #[serde(serialize_with = "as_address")]
    pub http: Option<SocketAddr>,
    /// Whether they are told the client's address by the PROXY protocol.
    pub proxy_protocol: bool,
    /// Connections that they have at a time.
    pub connections: u32,
    /// How long one may be silent, in seconds.
    pub idle_s: u32,
    /// The ports that the process can connect to for them: those of its start.
    #[serde(skip)]
    pub ports: Vec<u16>,
}

impl Web {
    /// The web servers.
    pub fn servers(&self) -> impl Iterator<Item = SocketAddr> {
        self.https.into_iter().chain(self.http)
    }
}

/// Where peers are talked to.
#[derive(Clone, Debug, Serialize)]
pub struct Relay {
    /// Concrete unicast addresses of this machine, at least one, without duplicates.
    pub addresses: Vec<IpAddr>,
    /// The ports of relayed transport addresses; 1024 and up.
    #[serde(serialize_with = "as_port_range")]
    pub ports: RangeInclusive<u16>,
    /// Relay address and the address that peers reach it by, for 1:1 NAT. Both are of one family,
    /// and neither occurs twice.
    #[serde(serialize_with = "as_address_map")]
    pub external: Vec<(IpAddr, IpAddr)>,
    /// Whether clients may ask for the don't-fragment bit.
    pub dont_fragment: bool,
}

impl Relay {
    /// The address that clients and peers are told instead of `relay`, which may be the same.
    pub fn advertised(&self, relay: IpAddr) -> IpAddr {
        self.external
            .iter()
            .find(|(inside, _)| *inside == relay)
            .map_or(relay, |pair| pair.1)
    }
}

/// Who may relay. When neither secrets nor users are configured both lists are empty: `run` then
/// adds the [`first_run`] secret and never serves anonymous clients.
#[derive(Clone, Debug, Serialize)]
pub struct Auth {
    /// Secrets of time-limited credentials. All are accepted, the first one is used to issue.
    #[serde(rename = "static_auth_secret", serialize_with = "as_count")]
    pub static_auth_secrets: Vec<SecretString>,
    /// Names and what they prove themselves with. Names are not OpaqueString-prepared.
    #[serde(serialize_with = "as_count")]
    pub users: Vec<(String, Credential)>,
    /// Between expiry and user identifier in the names of time-limited credentials.
    pub rest_separator: char,
    /// Keys of the nonces, shared by a fleet: the first makes nonces, all are accepted. Empty means
    /// a random key a process.
    #[serde(rename = "nonce_secret", serialize_with = "as_count")]
    pub nonce_secrets: Vec<SecretString>,
    /// How long a nonce is valid, in seconds.
    pub nonce_lifetime_s: u32,
}

/// What a static user proves itself with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A password, not OpaqueString-prepared.
    Plain(SecretString),
    /// The long-term key MD5(name ":" realm ":" password), as coturn writes it after `0x`. Good for
    /// MD5 only: the SHA-256 key cannot be had from it.
    Md5Key(Md5Key),
}

/// A long-term key (RFC 8489 section 9.2.2). Wiped when dropped, hidden in `Debug`.
#[derive(Clone)]
pub struct Md5Key(Zeroizing<[u8; 16]>);

impl Md5Key {
    /// The key itself.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for Md5Key {
    fn from(key: [u8; 16]) -> Self {
        Self(Zeroizing::new(key))
    }
}

impl fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Md5Key([REDACTED])")
    }
}

/// From where the server may be used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Clients {
    /// Where clients are; empty means everywhere.
    pub allow: Vec<IpNet>,
    /// Where they get no answer; wins over `allow`.
    pub deny: Vec<IpNet>,
}

/// Who may be relayed to, beside the public unicast Internet.
#[derive(Clone, Debug, Serialize)]
pub struct Peers {
    /// Opened although private. Has no power over addresses that are never peers.
    #[serde(serialize_with = "as_texts")]
    pub allow: Vec<NetworkRule>,
    /// Refused; wins over `allow`.
    #[serde(serialize_with = "as_texts")]
    pub deny: Vec<NetworkRule>,
    /// Opens loopback, for tests on one machine.
    pub allow_loopback: bool,
}

/// Bounds on what clients can take. Counts are of the whole server unless named otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Live allocations with one user's credentials.
    pub allocations_per_user: u32,
    /// Live allocations from one client address, of IPv6 from one /64.
    pub allocations_per_address: u32,
    /// Live allocations.
    pub allocations_total: u32,
    /// What one allocation may relay, in kbit/s each way; 0 is no limit.
    pub allocation_kbit_per_s: u32,
    /// What all allocations of one user may relay together, in kbit/s each way; 0 is no limit.
    pub user_kbit_per_s: u32,
    /// Live permissions of one allocation.
    pub permissions_per_allocation: u32,
    /// Live channel bindings of one allocation.
    pub channels_per_allocation: u32,
    /// The longest lifetime that a client can ask for, in seconds.
    pub max_lifetime_s: u32,
    /// How long a port reserved by EVEN-PORT is kept, in seconds.
    pub reservation_s: u32,
    /// How long a freed relay port rests before it is used again, in seconds.
    pub port_rest_s: u32,
    /// Replies of a worker over UDP to strangers of one network, in a second; 0 is no limit.
    pub unauthenticated_replies_per_s: u32,
    /// Failed authentications of one address as one user, in a minute; 0 is no limit.
    pub failed_authentications_per_minute: u32,
    /// Open TCP connections of clients. Those without an allocation make room for new ones.
    pub tcp_connections: u32,
    /// Of them, those of one IPv4 address or IPv6 /64, likewise.
    pub tcp_connections_per_address: u32,
    /// TCP connections without a valid message so far.
    pub tcp_half_open: u32,
    /// Data that waits for one slow TCP client before frames are dropped, in bytes.
    pub tcp_send_queue_bytes: u32,
    /// What waits for all TCP clients, and their incomplete frames, in bytes.
    pub tcp_queues_total_bytes: u32,
    /// How long a new TCP connection may take to its first valid message, in seconds.
    pub tcp_first_message_s: u32,
    /// How long a TCP connection may stay without an allocation, in seconds.
    pub tcp_idle_s: u32,
}

/// How operators reach the server while it runs.
#[derive(Clone, Debug, Serialize)]
pub struct Admin {
    /// An absolute path of at most [`SOCKET_PATH_MAX`] bytes; no Unix socket when `None`.
    #[serde(serialize_with = "as_path")]
    pub socket: Option<PathBuf>,
    /// Whether nobody asked for that path, so that the server does without if it cannot be had.
    #[serde(skip)]
    pub is_default: bool,
    /// The TCP address; `None` unless there is a token.
    #[serde(serialize_with = "as_address")]
    pub listen: Option<SocketAddr>,
    /// What who comes over TCP must know: [`ADMIN_TOKEN_MIN`] visible characters or more.
    #[serde(serialize_with = "as_set")]
    pub token: Option<SecretString>,
}

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// The address of `/metrics`, `/healthz` and `/readyz`; none when `None`.
    #[serde(serialize_with = "as_address")]
    pub listen: Option<SocketAddr>,
    /// Whether nobody asked for that address, so that the server does without if it is taken.
    #[serde(skip)]
    pub is_default: bool,
}

/// How programs ask for time-limited credentials.
#[derive(Clone, Debug, Serialize)]
pub struct CredentialService {
    /// Its address; `None` unless there are keys.
    #[serde(serialize_with = "as_address")]
    pub listen: Option<SocketAddr>,
    /// What clients are told to use: [`Config::uris`] if nothing else is configured.
    pub uris: Vec<String>,
    /// Who may ask; no two have the same id or the same key.
    #[serde(serialize_with = "as_count")]
    pub keys: Vec<ApiKey>,
}

/// Who may ask for time-limited credentials.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Its name, which is no secret.
    pub id: String,
    /// What proves it: [`ADMIN_TOKEN_MIN`] visible characters or more.
    pub key: SecretString,
    /// The longest life of its credentials, in seconds.
    pub max_ttl_s: u32,
    /// Web pages that may ask with it, as browsers write origins.
    pub origins: Vec<String>,
}

/// Who is told of events.
#[derive(Clone, Debug, Serialize)]
pub struct Hooks {
    /// Where events are sent; `None` is nowhere. With it there is a secret.
    #[serde(serialize_with = "as_url")]
    pub url: Option<HookUrl>,
    /// What the requests are signed with.
    #[serde(serialize_with = "as_set")]
    pub secret: Option<SecretString>,
    /// Names of the events, of [`defaults::HOOK_EVENTS`].
    pub events: Vec<&'static str>,
    /// How long a request may take, its connection included, in seconds.
    pub timeout_s: u32,
    /// PEM certificates of the only authorities that the receiver's certificate may be of. `None`
    /// is those of the system.
    #[serde(serialize_with = "as_path")]
    pub ca_file: Option<PathBuf>,
}

/// An `http:` or `https:` URL with a host. Its path may be a secret, which `Debug` and `Display` do
/// not show.
#[derive(Clone)]
pub struct HookUrl(hyper::Uri);

impl HookUrl {
    /// The URL itself.
    pub const fn expose(&self) -> &hyper::Uri {
        &self.0
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.0.scheme_str(), self.0.authority());
        let host = host.map_or("", |host| host.as_str());
        write!(f, "{}://{host}", scheme.unwrap_or_default())?;
        match self.0.path_and_query().map(|path| path.as_str()) {
            None | Some("/") => f.write_str("/"),
            Some(_) => f.write_str("/..."),
        }
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// Severity of a log line, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Worker threads, 1 to 256.
    pub workers: usize,
    /// The SOFTWARE attribute, at most 127 characters; none when empty.
    pub software: String,
    /// Name or number of the user that a server started as root becomes. `None` leaves it to
    /// [`crate::process`].
    #[serde(serialize_with = "as_user")]
    pub user: Option<String>,
}

impl Config {
    /// The configuration as TOML, every key with its value; secrets and users as a count only.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form")
    }
}

fn as_port_range<S: Serializer>(ports: &RangeInclusive<u16>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{}-{}", ports.start(), ports.end()))
}

fn as_address_map<S: Serializer>(pairs: &[(IpAddr, IpAddr)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(inside, outside)| (inside, outside)))
}

fn as_path<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => to.collect_str(&path.display()),
        None => to.serialize_str(""),
    }
}

fn as_address<S: Serializer>(address: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
    match address {
        Some(address) => to.collect_str(address),
        None => to.serialize_str(""),
    }
}

fn as_set<S: Serializer>(secret: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
    as_count(secret.as_slice(), to)
}

fn as_user<S: Serializer>(user: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    match user {
        Some(user) => to.serialize_str(user),
        None => to.collect_str(&format_args!("({PREFERRED_USER}, else {FALLBACK_USER})")),
    }
}

fn as_url<S: Serializer>(url: &Option<HookUrl>, to: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => to.collect_str(url),
        None => to.serialize_str(""),
    }
}

fn as_text<S: Serializer>(url: &hyper::Uri, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(url)
}

fn as_texts<S: Serializer>(rules: &[NetworkRule], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(rules.iter().map(NetworkRule::to_string))
}

fn as_count<T, S: Serializer>(secrets: &[T], to: S) -> Result<S::Ok, S::Error> {
    match secrets.len() {
        0 => to.serialize_str("(not set)"),
        count => to.collect_str(&format_args!("(set: {count})")),
    }
}
