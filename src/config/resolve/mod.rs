//! From a document (right keys, right shapes) to a [`Config`] (right meanings).
//!
//! Every check adds to one list and goes on with the default, so that one run finds all errors.

mod acme;
mod addresses;
mod admin;
mod auth;
mod clients;
mod credentials;
mod hooks;
mod http_address;
mod metrics;
mod peers;
mod tls;
mod uris;
mod web;

pub use acme::ACME_DOMAINS_MAX;
pub use admin::{ADMIN_TOKEN_MIN, SOCKET_PATH_MAX};
pub use auth::SECRET_KEYS;
pub use credentials::API_KEYS_MAX;
pub use tls::PAIRS_MAX;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::auth::prepare_realm;
use crate::process::{FALLBACK_USER, PREFERRED_USER};

use super::document::{Document, Item, Value};
use super::error::{Origin, Problem, Problems};
use super::secret_source::SecretSource;
use super::{Config, Host, Limits, Loaded, Log, LogFormat, LogLevel, Server, defaults};

pub(super) use peers::is_public;

/// # Errors
///
/// `problems`, which the sources already have, and those found here.
pub(super) fn resolve(
    document: &Document,
    host: &Host,
    problems: Vec<Problem>,
) -> Result<Loaded, Problems> {
    let mut resolver = Resolver {
        document,
        host,
        problems,
        warnings: Vec::new(),
        files: Vec::new(),
        secrets: Vec::new(),
    };
    let auth = resolver.auth();
    let listen = resolver.listen();
    let mut config = Config {
        realm: resolver.realm(),
        tls: resolver.tls(),
        web: resolver.web(&listen),
        listen,
        relay: resolver.relay(),
        credentials: resolver.credentials(&auth),
        auth,
        clients: resolver.clients(),
        peers: resolver.peers(),
        limits: resolver.limits(),
        admin: resolver.admin(),
        metrics: resolver.metrics(),
        hooks: resolver.hooks(),
        log: resolver.log(),
        server: resolver.server(),
    };
    if config.credentials.uris.is_empty() {
        config.credentials.uris = config.uris();
    }
    resolver.check_told_names(&config);
    resolver.check_http_listen(&config);
    if resolver.problems.is_empty() {
        resolver.warn_of_untold_tls(&config);
        resolver.warn_of_closed_challenges(&config);
        resolver.warn_of_listeners_among_relay_ports(&config);
        resolver.warn_of_lost_clients(&config);
        resolver.warn_of_useless_rules(&config);
        resolver.warn_of_denied_relay_addresses(&config);
        Ok(Loaded {
            config,
            warnings: resolver.warnings,
            files: resolver.files,
            secrets: resolver.secrets,
        })
    } else {
        Err(Problems::new(resolver.problems))
    }
}

struct Resolver<'a> {
    document: &'a Document,
    host: &'a Host,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    files: Vec<PathBuf>,
    secrets: Vec<SecretSource>,
}

impl<'a> Resolver<'a> {
    fn realm(&mut self) -> String {
        let key = "realm";
        let Some(item) = self.text(key) else {
            return defaults::REALM.to_owned();
        };
        let realm = item.text.as_str();
        let remedy = "write your domain, e.g. \"turn.example.org\"";
        if realm.trim().is_empty() {
            self.refuse(&item.origin, key, "is empty", remedy);
        } else if realm.chars().count() > 127 {
            self.refuse(&item.origin, key, "is longer than 127 characters", remedy);
        } else if realm.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
            let what = "contains a quote, a backslash or a control character";
            self.refuse(&item.origin, key, what, remedy);
        } else if prepare_realm(realm).is_err() {
            self.refuse(&item.origin, key, "contains invisible characters", remedy);
        }
        realm.to_owned()
    }

    fn limits(&mut self) -> Limits {
        use defaults as d;
        // A million is far beyond one machine: larger numbers are slips of the finger.
        let many = 1..=1_000_000;
        // 100 Gbit/s: whoever has more wants no limit.
        const KBIT_PER_S_MAX: u32 = 100_000_000;
        Limits {
            allocations_per_user: self.number(
                "limits.allocations_per_user",
                many.clone(),
                d::ALLOCATIONS_PER_USER,
            ),
            allocations_per_address: self.number(
                "limits.allocations_per_address",
                many.clone(),
                d::ALLOCATIONS_PER_ADDRESS,
            ),
            allocations_total: self.number(
                "limits.allocations_total",
                many.clone(),
                d::ALLOCATIONS_TOTAL,
            ),
            allocation_kbit_per_s: self.number(
                "limits.allocation_kbit_per_s",
                0..=KBIT_PER_S_MAX,
                d::ALLOCATION_KBIT_PER_S,
            ),
            user_kbit_per_s: self.number(
                "limits.user_kbit_per_s",
                0..=KBIT_PER_S_MAX,
                d::USER_KBIT_PER_S,
            ),
            permissions_per_allocation: self.number(
                "limits.permissions_per_allocation",
                1..=65_536,
                d::PERMISSIONS_PER_ALLOCATION,
            ),
            // RFC 8656 section 12: 0x4000 to 0x4FFF.
            channels_per_allocation: self.number(
                "limits.channels_per_allocation",
                1..=4096,
                d::CHANNELS_PER_ALLOCATION,
            ),
            // Not below the 600 s that a client gets without asking (RFC 8656 section 3.2).
            max_lifetime_s: self.number("limits.max_lifetime_s", 600..=86_400, d::MAX_LIFETIME_S),
            reservation_s: self.number("limits.reservation_s", 30..=3600, d::RESERVATION_S),
            port_rest_s: self.number("limits.port_rest_s", 0..=3600, d::PORT_REST_S),
            unauthenticated_replies_per_s: self.number(
                "limits.unauthenticated_replies_per_s",
                0..=1_000_000,
                d::UNAUTHENTICATED_REPLIES_PER_S,
            ),
            failed_authentications_per_minute: self.number(
                "limits.failed_authentications_per_minute",
                0..=1_000_000,
                d::FAILED_AUTHENTICATIONS_PER_MINUTE,
            ),
            tcp_connections: self.number(
                "limits.tcp_connections",
                many.clone(),
                d::TCP_CONNECTIONS,
            ),
            tcp_connections_per_address: self.number(
                "limits.tcp_connections_per_address",
                many.clone(),
                d::TCP_CONNECTIONS_PER_ADDRESS,
            ),
            tcp_half_open: self.number("limits.tcp_half_open", many, d::TCP_HALF_OPEN),
            // At least the longest frame: 4 bytes of header and 65,535 of data, padded.
            tcp_send_queue_bytes: self.number(
                "limits.tcp_send_queue_bytes",
                65_540..=16_777_216,
                d::TCP_SEND_QUEUE_BYTES,
            ),
            tcp_queues_total_bytes: self.number(
                "limits.tcp_queues_total_bytes",
                1 << 20..=u32::MAX,
                d::TCP_QUEUES_TOTAL_BYTES,
            ),
            tcp_first_message_s: self.number(
                "limits.tcp_first_message_s",
                1..=300,
                d::TCP_FIRST_MESSAGE_S,
            ),
            tcp_idle_s: self.number("limits.tcp_idle_s", 5..=3600, d::TCP_IDLE_S),
        }
    }

    fn log(&mut self) -> Log {
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Log {
            level: self.choice("log.level", &levels, LogLevel::Info),
            format: self.choice("log.format", &formats, LogFormat::Text),
        }
    }

    fn server(&mut self) -> Server {
        let cpus = u32::try_from(self.host.cpus.clamp(1, 256)).unwrap_or(1);
        let workers = self.number("server.workers", 1..=256, cpus);
        let key = "server.software";
        let mut software = defaults::SOFTWARE.to_owned();
        if let Some(item) = self.text(key) {
            software.clone_from(&item.text);
            if software.chars().count() > 127 || software.contains(char::is_control) {
                // RFC 8489 section 14.14.
                let what = "is longer than 127 characters or contains control characters";
                self.refuse(
                    &item.origin,
                    key,
                    what,
                    "shorten it, or write \"\" to send none",
                );
            }
        }
        Server {
            workers: workers as usize,
            software,
            user: self.user(),
        }
    }

    fn user(&mut self) -> Option<String> {
        let key = "server.user";
        let item = self.text(key)?;
        if !(self.host.has_user)(&item.text) {
            let what = format!("there is no user {:?} on this machine", *item.text);
            let remedy = format!(
                "make the user, name one that there is, or leave the key out: {PREFERRED_USER} or \
                 {FALLBACK_USER} is used then"
            );
            self.refuse(&item.origin, key, what, remedy);
        }
        Some(item.text.to_string())
    }

    fn text(&self, key: &str) -> Option<&'a Item> {
        match &self.document.get(key)?.value {
            Value::Text(item) => Some(item),
            _ => unreachable!("the schema says that {key} is text"),
        }
    }

    fn switch(&self, key: &str, default: bool) -> bool {
        match self.document.get(key).map(|setting| &setting.value) {
            None => default,
            Some(Value::Switch(on)) => *on,
            Some(_) => unreachable!("the schema says that {key} is a switch"),
        }
    }

    fn number(&mut self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let Some(setting) = self.document.get(key) else {
            return default;
        };
        let Value::Number(number) = setting.value else {
            unreachable!("the schema says that {key} is a number")
        };
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let what = format!("{number} is out of range");
                let remedy = format!("write {} to {}", range.start(), range.end());
                self.refuse(&setting.origin, key, what, remedy);
                default
            }
        }
    }

    /// The items of a list, and where the list as a whole was written.
    fn list(&self, key: &str) -> Option<(&'a [Item], &'a Origin)> {
        let setting = self.document.get(key)?;
        match &setting.value {
            Value::List(items) => Some((items, &setting.origin)),
            _ => unreachable!("the schema says that {key} is a list"),
        }
    }

    fn map(&self, key: &str) -> &'a [(Option<String>, Item)] {
        match self.document.get(key).map(|setting| &setting.value) {
            None => &[],
            Some(Value::Map(entries)) => entries,
            Some(_) => unreachable!("the schema says that {key} is a table"),
        }
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(item) = self.text(key) else {
            return default;
        };
        if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == *item.text) {
            return *chosen;
        }
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("\"{name}\""))
            .collect();
        let what = format!("{:?} is not one of its values", *item.text);
        self.refuse(
            &item.origin,
            key,
            what,
            format!("write {}", names.join(" or ")),
        );
        default
    }

    fn refuse(
        &mut self,
        origin: &Origin,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem::new(origin, key, what, remedy));
    }

    fn warn(
        &mut self,
        origin: &Origin,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.warnings.push(Problem::new(origin, key, what, remedy));
    }
}
