//! What differs between two configurations, and what of it a server that runs can take over.

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use super::{Acme, Config, Credential};

/// When a changed key counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At once, for everybody.
    AtOnce,
    /// For what begins from then on: challenges, allocations, permissions, connections. What there
    /// is goes on.
    ForNew,
    /// Once the process has been started again.
    Restart,
}

/// A key, when it counts, and whether it differs.
struct Row {
    key: &'static str,
    when: When,
    differs: fn(&Config, &Config) -> bool,
}

macro_rules! row {
    ($key:literal, $when:ident, $($field:ident).+) => {
        Row {
            key: $key,
            when: When::$when,
            differs: |a, b| a.$($field).+ != b.$($field).+,
        }
    };
}

const ROWS: &[Row] = &[
    row!("realm", ForNew, realm),
    row!("listen.udp", ForNew, listen.udp),
    row!("listen.tcp", ForNew, listen.tcp),
    row!("listen.tls", ForNew, listen.tls),
    row!("listen.dtls", ForNew, listen.dtls),
    row!("listen.strict", ForNew, listen.strict),
    row!(
        "listen.proxy_protocol_from",
        ForNew,
        listen.proxy_protocol_from
    ),
    row!("listen.classic_stun", AtOnce, listen.classic_stun),
    Row {
        key: "tls.cert",
        when: When::ForNew,
        differs: |a, b| a.tls.pairs.first() != b.tls.pairs.first(),
    },
    Row {
        key: "tls.key",
        when: When::ForNew,
        // There is one to a certificate, and its file is told with that.
        differs: |_, _| false,
    },
    Row {
        key: "tls.additional",
        when: When::ForNew,
        differs: |a, b| a.tls.pairs.iter().skip(1).ne(b.tls.pairs.iter().skip(1)),
    },
    row!("tls.acme.domains", Restart, tls.acme.domains),
    row!("tls.acme.email", Restart, tls.acme.email),
    row!("tls.acme.directory", Restart, tls.acme.directory),
    row!("tls.acme.ca_file", Restart, tls.acme.ca_file),
    row!("tls.acme.challenge", Restart, tls.acme.challenge),
    row!("tls.acme.http_listen", Restart, tls.acme.http_listen),
    row!(
        "tls.acme.terms_of_service_agreed",
        Restart,
        tls.acme.terms_of_service_agreed
    ),
    row!("tls.acme.eab_key_id", Restart, tls.acme.eab_key_id),
    Row {
        key: "tls.acme.eab_key_file",
        when: When::Restart,
        differs: |a, b| {
            let key = |config: &Config| {
                let key = config.tls.acme.eab_key.as_ref();
                key.map(|key| key.expose_secret().to_vec())
            };
            a.tls.acme.eab_key_file != b.tls.acme.eab_key_file || key(a) != key(b)
        },
    },
    row!("web.https", ForNew, web.https),
    row!("web.names", ForNew, web.names),
    row!("web.http", ForNew, web.http),
    row!("web.proxy_protocol", ForNew, web.proxy_protocol),
    row!("web.connections", ForNew, web.connections),
    row!("web.idle_s", ForNew, web.idle_s),
    row!("relay.ports", ForNew, relay.ports),
    row!("relay.addresses", ForNew, relay.addresses),
    row!("relay.external", ForNew, relay.external),
    row!("relay.dont_fragment", AtOnce, relay.dont_fragment),
    Row {
        key: "auth.static_auth_secret",
        when: When::ForNew,
        differs: |a, b| {
            exposed(&a.auth.static_auth_secrets) != exposed(&b.auth.static_auth_secrets)
        },
    },
    Row {
        key: "auth.static_auth_secret_file",
        when: When::ForNew,
        // Two ways to say one thing, which is told as the other one.
        differs: |_, _| false,
    },
    Row {
        key: "auth.users",
        when: When::ForNew,
        differs: users_differ,
    },
    row!("auth.rest_separator", ForNew, auth.rest_separator),
    Row {
        key: "auth.nonce_secret",
        when: When::AtOnce,
        differs: |a, b| exposed(&a.auth.nonce_secrets) != exposed(&b.auth.nonce_secrets),
    },
    Row {
        key: "auth.nonce_secret_file",
        when: When::AtOnce,
        differs: |_, _| false,
    },
    row!("auth.nonce_lifetime_s", AtOnce, auth.nonce_lifetime_s),
    row!("clients.allow", AtOnce, clients.allow),
    row!("clients.deny", AtOnce, clients.deny),
    Row {
        key: "peers.allow",
        when: When::ForNew,
        differs: |a, b| a.peers.allow != b.peers.allow,
    },
    Row {
        key: "peers.deny",
        when: When::ForNew,
        differs: |a, b| a.peers.deny != b.peers.deny,
    },
    row!("peers.allow_loopback", ForNew, peers.allow_loopback),
    row!(
        "limits.allocations_per_user",
        ForNew,
        limits.allocations_per_user
    ),
    row!(
        "limits.allocations_per_address",
        ForNew,
        limits.allocations_per_address
    ),
    row!("limits.allocations_total", ForNew, limits.allocations_total),
    row!(
        "limits.allocation_kbit_per_s",
        AtOnce,
        limits.allocation_kbit_per_s
    ),
    row!("limits.user_kbit_per_s", AtOnce, limits.user_kbit_per_s),
    row!(
        "limits.permissions_per_allocation",
        ForNew,
        limits.permissions_per_allocation
    ),
    row!(
        "limits.channels_per_allocation",
        ForNew,
        limits.channels_per_allocation
    ),
    row!("limits.max_lifetime_s", ForNew, limits.max_lifetime_s),
    row!("limits.reservation_s", ForNew, limits.reservation_s),
    row!("limits.port_rest_s", ForNew, limits.port_rest_s),
    row!(
        "limits.unauthenticated_replies_per_s",
        AtOnce,
        limits.unauthenticated_replies_per_s
    ),
    row!(
        "limits.failed_authentications_per_minute",
        AtOnce,
        limits.failed_authentications_per_minute
    ),
    row!("limits.tcp_connections", ForNew, limits.tcp_connections),
    row!(
        "limits.tcp_connections_per_address",
        ForNew,
        limits.tcp_connections_per_address
    ),
    row!("limits.tcp_half_open", ForNew, limits.tcp_half_open),
    row!(
        "limits.tcp_send_queue_bytes",
        ForNew,
        limits.tcp_send_queue_bytes
    ),
    row!(
        "limits.tcp_queues_total_bytes",
        AtOnce,
        limits.tcp_queues_total_bytes
    ),
    row!(
        "limits.tcp_first_message_s",
        AtOnce,
        limits.tcp_first_message_s
    ),
    row!("limits.tcp_idle_s", AtOnce, limits.tcp_idle_s),
    row!("admin.socket", Restart, admin.socket),
    row!("admin.listen", Restart, admin.listen),
    Row {
        key: "admin.token",
        when: When::AtOnce,
        // Without one the listener is to go, which takes a restart.
        differs: |a, b| {
            let (a, b) = (a.admin.token.as_slice(), b.admin.token.as_slice());
            !b.is_empty() && exposed(a) != exposed(b)
        },
    },
    Row {
        key: "admin.token_file",
        when: When::AtOnce,
        differs: |_, _| false,
    },
    row!("metrics.listen", Restart, metrics.listen),
    row!("credentials.listen", Restart, credentials.listen),
    Row {
        key: "credentials.uris",
        when: When::AtOnce,
        // Without keys they are told to nobody, and follow from other keys.
        differs: |a, b| !b.credentials.keys.is_empty() && a.credentials.uris != b.credentials.uris,
    },
    Row {
        key: "credentials.keys",
        when: When::AtOnce,
        differs: api_keys_differ,
    },
    Row {
        key: "hooks.url",
        when: When::Restart,
        differs: |a, b| {
            let expose =
                |config: &Config| config.hooks.url.as_ref().map(|url| url.expose().clone());
            expose(a) != expose(b)
        },
    },
    Row {
        key: "hooks.secret",
        when: When::AtOnce,
        // Without one the hooks are to end, which takes a restart.
        differs: |a, b| {
            let (a, b) = (a.hooks.secret.as_slice(), b.hooks.secret.as_slice());
            !b.is_empty() && exposed(a) != exposed(b)
        },
    },
    Row {
        key: "hooks.secret_file",
        when: When::AtOnce,
        differs: |_, _| false,
    },
    row!("hooks.events", Restart, hooks.events),
    row!("hooks.timeout_s", Restart, hooks.timeout_s),
    row!("hooks.ca_file", Restart, hooks.ca_file),
    row!("log.level", AtOnce, log.level),
    row!("log.format", Restart, log.format),
    row!("server.workers", Restart, server.workers),
    row!("server.software", AtOnce, server.software),
    row!("server.user", Restart, server.user),
];

fn exposed(secrets: &[secrecy::SecretString]) -> Vec<&str> {
    secrets.iter().map(ExposeSecret::expose_secret).collect()
}

fn users_differ(a: &Config, b: &Config) -> bool {
    let (a, b) = (&a.auth.users, &b.auth.users);
    a.len() != b.len()
        || a.iter().zip(b).any(|((name, credential), (other, with))| {
            name != other
                || match (credential, with) {
                    (Credential::Plain(a), Credential::Plain(b)) => {
                        a.expose_secret() != b.expose_secret()
                    }
                    (Credential::Md5Key(a), Credential::Md5Key(b)) => a.expose() != b.expose(),
                    _ => true,
                }
        })
}

fn api_keys_differ(a: &Config, b: &Config) -> bool {
    let (a, b) = (&a.credentials.keys, &b.credentials.keys);
    a.len() != b.len()
        || a.iter().zip(b).any(|(a, b)| {
            a.key.expose_secret() != b.key.expose_secret()
                || (&a.id, a.max_ttl_s, &a.origins) != (&b.id, b.max_ttl_s, &b.origins)
        })
}

/// The keys of which two configurations have different values, and when they count, in the order of
/// the schema.
pub fn differences(a: &Config, b: &Config) -> Vec<(&'static str, When)> {
    let rows = ROWS.iter().filter(|row| (row.differs)(a, b));
    let when = |row: &Row| match row.key {
        // The process cannot connect to other ports than those that it knew at its start.
        "web.https" if !is_open(a, b.web.https) => When::Restart,
        "web.http" if !is_open(a, b.web.http) => When::Restart,
        _ => row.when,
    };
    rows.map(|row| (row.key, when(row))).collect()
}

/// Whether a server of one configuration can have a web server of another.
fn is_open(started: &Config, server: Option<SocketAddr>) -> bool {
    server.is_none_or(|server| started.web.ports.contains(&server.port()))
}

impl Config {
    /// This configuration, with what a server keeps that was started with another one.
    #[must_use]
    pub fn kept_from(mut self, started: &Self) -> Self {
        if !is_open(started, self.web.https) {
            self.web.https = started.web.https;
        }
        if !is_open(started, self.web.http) {
            self.web.http = started.web.http;
        }
        self.web.ports.clone_from(&started.web.ports);
        let token = self.admin.token.take();
        self.admin = started.admin.clone();
        self.admin.token = token.or(self.admin.token);
        self.metrics = started.metrics.clone();
        let secret = self.hooks.secret.take();
        self.hooks = started.hooks.clone();
        self.hooks.secret = secret.or(self.hooks.secret);
        let asks = |acme: &Acme| !acme.domains.is_empty();
        if asks(&self.tls.acme) != asks(&started.tls.acme) && self.tls.pairs.is_empty() {
            // They come or go with the certificate that the next process will ask for, or will not.
            self.listen.tls.clone_from(&started.listen.tls);
            self.listen.dtls.clone_from(&started.listen.dtls);
        }
        self.tls.acme = started.tls.acme.clone();
        self.credentials.listen = started.credentials.listen;
        self.log.format = started.log.format;
        self.server.workers = started.server.workers;
        self.server.user.clone_from(&started.server.user);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::KEYS;
    use crate::config::{Environment, Host, Sources, load};
    use std::collections::BTreeSet;

    fn config(variables: &[(&str, &str)]) -> Config {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.push(name, value);
        }
        let sources = Sources {
            environment,
            ..Sources::default()
        };
        load(&sources, &Host::probe().of_any_machine())
            .unwrap()
            .config
    }

    /// RELOAD-02: no key is forgotten, here or in the documents.
    #[test]
    fn every_key_has_its_row() {
        let schema: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
        let rows: Vec<&str> = ROWS.iter().map(|row| row.key).collect();
        assert_eq!(rows, schema);
        let document = include_str!("../../docs/reload.md");
        let told: Vec<&str> = document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(told.len(), ROWS.len(), "docs/reload.md has a row a key");
        for (row, line) in ROWS.iter().zip(told) {
            let when = match row.when {
                When::AtOnce => "at once",
                When::ForNew => "for new",
                When::Restart => "restart",
            };
            let expected = format!("| `{}` | {when} |", row.key);
            assert!(line.starts_with(&expected), "{expected} is told as {line}");
        }
    }

    /// Not without a certificate and its key.
    const COME_WITH_CERTIFICATES: [&str; 6] = [
        "listen.tls",
        "listen.dtls",
        "listen.strict",
        "tls.cert",
        "tls.key",
        "tls.additional",
    ];

    /// Not without a key, a token or a secret. Of secrets in files the secret counts.
    const COME_WITH_OTHERS: [&str; 7] = [
        "admin.listen",
        "credentials.listen",
        "credentials.uris",
        "credentials.keys",
        "hooks.url",
        "hooks.secret",
        "hooks.ca_file",
    ];

    fn comes_with_others(key: &str) -> bool {
        let is_file = key.ends_with("secret_file") || key == "admin.token_file";
        // Not without a server that was there at the start.
        let is_web = ["web.https", "web.http", "web.names"].contains(&key);
        is_file
            || is_web
            || key.starts_with("tls.acme.")
            || COME_WITH_CERTIFICATES.contains(&key)
            || COME_WITH_OTHERS.contains(&key)
    }

    /// RELOAD-02: every key can differ, which its value in a variable shows.
    #[test]
    fn every_key_can_differ() {
        let base = config(&[]);
        assert_eq!(differences(&base, &base.clone()), []);
        for row in ROWS.iter().filter(|row| !comes_with_others(row.key)) {
            let value = match row.key {
                "hooks.events" => "allocation_ended",
                "hooks.timeout_s" => "7",
                "admin.socket" => "/run/elsewhere/admin.sock",
                "admin.token" => "a-token-of-thirty-two-characters",
                "metrics.listen" => "127.0.0.1:9999",
                "realm" | "auth.static_auth_secret" | "auth.nonce_secret" => "other.example.org",
                "listen.udp" | "listen.tcp" => "127.0.0.1:9999",
                "relay.ports" => "2000-3000",
                "relay.addresses" => "192.0.2.77",
                "relay.external" => "203.0.113.77",
                "relay.dont_fragment" => "false",
                "auth.users" => "alice=wonderland",
                "auth.rest_separator" => "_",
                "listen.proxy_protocol_from"
                | "clients.allow"
                | "clients.deny"
                | "peers.allow"
                | "peers.deny" => "10.0.0.0/8",
                "web.proxy_protocol" => "false",
                "listen.classic_stun" | "peers.allow_loopback" => "true",
                "log.level" => "trace",
                "log.format" => "json",
                "server.software" | "server.user" => "somebody",
                "server.workers" => "255",
                "limits.tcp_queues_total_bytes" | "limits.tcp_send_queue_bytes" => "2000000",
                "limits.max_lifetime_s" => "7777",
                _ => "77",
            };
            let variable = format!("TURNSERVER_{}", row.key.replace('.', "__").to_uppercase());
            let changed = if row.key == "relay.external" {
                let relay = base.relay.addresses[0];
                let value = if relay.is_ipv4() {
                    value
                } else {
                    "2001:db8::77"
                };
                config(&[(&variable, &format!("{relay}={value}"))])
            } else {
                config(&[(&variable, value)])
            };
            assert_eq!(differences(&base, &changed), [(row.key, row.when)]);
            let left = differences(&base, &changed.kept_from(&base));
            assert_eq!(left.is_empty(), row.when == When::Restart, "{}", row.key);
        }
    }

    /// RELOAD-02: certificates are told apart by what they are, not by when they were written.
    #[test]
    fn keys_of_tls_can_differ() {
        use crate::tls::Files;
        use crate::tls::testing::Authority;

        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let authority = Authority::new();
        let write = |name: &str| {
            let (cert, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
            let files = Files { cert, key };
            authority.issue(&["turn.example.org"]).write(&files);
        };
        let load = |port: u16, additional: &str| {
            let text = format!(
                "tls = {{ cert = \"a.crt\", key = \"a.key\", additional = [{additional}] }}\n\
                 listen = {{ tls = \"127.0.0.1:{port}\", strict = \"127.0.0.1:{port}\" }}\n"
            );
            let file = path("turnserver.toml");
            std::fs::write(&file, text).unwrap();
            let sources = Sources {
                file: Some(file),
                ..Sources::default()
            };
            load(&sources, &Host::probe()).unwrap().config
        };
        write("a");
        write("b");
        let base = load(5349, "");
        let all = ["a.crt", "a.key"].map(path);
        for path in all {
            let text = std::fs::read(&path).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(differences(&base, &load(5349, "")), []);
        let added = load(5349, "{ cert = \"b.crt\", key = \"b.key\" }");
        assert_eq!(
            differences(&base, &added),
            [("tls.additional", When::ForNew)]
        );
        write("a");
        let renewed = load(443, "");
        let expected = ["listen.tls", "listen.strict", "tls.cert"];
        let expected = expected.map(|key| (key, When::ForNew));
        assert_eq!(differences(&base, &renewed), expected);
        assert_eq!(differences(&base, &renewed.kept_from(&base)), expected);
    }

    /// RELOAD-02: web servers can change where the process can still connect to them.
    #[test]
    fn web_servers_keep_the_ports_of_the_start() {
        let web = |https: &str, http: &str, names: &str| {
            config(&[
                ("TURNSERVER_WEB__HTTPS", https),
                ("TURNSERVER_WEB__HTTP", http),
                ("TURNSERVER_WEB__NAMES", names),
            ])
        };
        let base = web("127.0.0.1:8443", "127.0.0.1:8080", "www.example.org");
        let moved = web("192.0.2.1:8443", "127.0.0.1:8443", "");
        let for_new = ["web.https", "web.names", "web.http"].map(|key| (key, When::ForNew));
        assert_eq!(differences(&base, &moved), for_new);
        assert_eq!(differences(&base, &moved.kept_from(&base)), for_new);
        let none = web("", "", "");
        assert_eq!(differences(&base, &none), for_new);
        let kept = none.clone().kept_from(&base);
        assert_eq!(differences(&kept, &base), for_new, "and back");
        let elsewhere = web("127.0.0.1:9443", "127.0.0.1:8080", "www.example.org");
        let restart = [("web.https", When::Restart)];
        assert_eq!(differences(&base, &elsewhere), restart);
        assert_eq!(differences(&base, &elsewhere.kept_from(&base)), []);
        assert_eq!(
            differences(&none, &web("", "127.0.0.1:8080", "")),
            [("web.http", When::Restart)]
        );
    }

    /// RELOAD-02: and those that do not come alone.
    #[test]
    fn keys_of_programs_and_operators_can_differ() {
        let service = |key: &str, port: u16| {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("turnserver.toml");
            let text = format!(
                "auth.static_auth_secret = \"of-thirty-two-random-characters!\"\n\
                 admin = {{ listen = \"127.0.0.1:{port}\", token = \"token-of-sixteen-or-more\" }}\n\
                 hooks = {{ url = \"https://host-{port}.example.org/\", secret = \"{key}\", ca_file = \"{port}.pem\" }}\n\
                 credentials = {{ listen = \"127.0.0.1:{port}\", uris = [\"turn:host-{port}.example.org\"], keys = [{{ id = \"app\", key = \"{key}\" }}] }}\n"
            );
            std::fs::write(&file, text).unwrap();
            let pem = directory.path().join(format!("{port}.pem"));
            std::fs::write(pem, "-----BEGIN CERTIFICATE-----\n").unwrap();
            let sources = Sources {
                file: Some(file),
                ..Sources::default()
            };
            let host = Host::probe().of_any_machine();
            load(&sources, &host).unwrap().config
        };
        let base = service("key-of-sixteen-characters-or-more", 9998);
        let changed = service("another-of-sixteen-characters-or-more", 9999);
        let differ = differences(&base, &changed);
        let keys: BTreeSet<&str> = differ.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, COME_WITH_OTHERS.into());
        let left = differences(&base, &changed.kept_from(&base));
        let expected = [
            ("credentials.uris", When::AtOnce),
            ("credentials.keys", When::AtOnce),
            ("hooks.secret", When::AtOnce),
        ];
        assert_eq!(left, expected);
    }
}
