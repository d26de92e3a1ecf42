//! Every option of coturn, and what becomes of it: the one table that the import, its messages and
//! `docs/migration.md` share.

/// Keys of sections follow the order of `turnserver.toml.example`; the first is above all sections.
pub(super) const SECTIONS: [&str; 9] = [
    "", "listen", "tls", "relay", "auth", "peers", "limits", "log", "server",
];

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// These keys, by a rule of its own.
    Becomes(&'static [&'static str]),
    /// Nothing: turnstone behaves so anyway, or the option is about something that it has not.
    Needless,
    /// Nothing, and the operator should know.
    Missing,
}

/// One option of coturn.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoturnOption {
    pub(super) name: &'static str,
    /// Where in the result it is told of.
    pub(super) section: &'static str,
    pub(super) fate: Fate,
    /// How it is translated, why it is not needed, or what to do instead.
    pub(super) note: &'static str,
    /// Whether it is off unless it is written, so that writing it as off changes nothing.
    pub(super) is_switch: bool,
    /// Whether the note is told when the option becomes keys, since it then means something else.
    pub(super) differs: bool,
    /// Whether its value may be a secret, which no message quotes.
    pub(super) is_secret: bool,
}

impl CoturnOption {
    const fn new(
        name: &'static str,
        section: &'static str,
        fate: Fate,
        note: &'static str,
    ) -> Self {
        Self {
            name,
            section,
            fate,
            note,
            is_switch: false,
            differs: false,
            is_secret: false,
        }
    }

    const fn switch(self) -> Self {
        Self {
            is_switch: true,
            ..self
        }
    }

    const fn differs(self) -> Self {
        Self {
            differs: true,
            ..self
        }
    }

    const fn secret(self) -> Self {
        Self {
            is_secret: true,
            ..self
        }
    }
}

/// The option of this name. coturn tells upper case from lower case, and so does this.
pub(super) fn find(name: &str) -> Option<&'static CoturnOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

const fn becomes(
    name: &'static str,
    section: &'static str,
    keys: &'static [&'static str],
    note: &'static str,
) -> CoturnOption {
    CoturnOption::new(name, section, Fate::Becomes(keys), note)
}

const fn needless(name: &'static str, section: &'static str, note: &'static str) -> CoturnOption {
    CoturnOption::new(name, section, Fate::Needless, note)
}

const fn missing(name: &'static str, section: &'static str, note: &'static str) -> CoturnOption {
    CoturnOption::new(name, section, Fate::Missing, note)
}

const SUITES: &str = "the cipher suites and groups are those with forward secrecy that are known to be \
    safe; of TLS 1.2 there are ECDHE suites only";
const PASSPHRASE: &str = "a key with a passphrase is not read: write it without one (openssl pkey -in \
    KEY -out NEW-KEY), for the server's user alone";
const CLIENT_CERTIFICATES: &str = "clients are not asked for certificates: they have credentials";
const NO_TLS: &str = "TLS is spoken only where `tls.cert` is set";
const NO_DTLS: &str = "DTLS is spoken only where listen.dtls says";
const ONE_POINT_TWO: &str = "TLS 1.2 is spoken beside 1.3, with safe cipher suites only";
const OLD_TLS: &str = "TLS is 1.2 or 1.3";
const RFC5780: &str = "NAT behaviour discovery (RFC 5780) is not there yet, and no browser asks \
    for it";
const REDIRECT: &str = "no client is sent elsewhere (ALTERNATE-SERVER): name all servers in \
    iceServers, or several addresses in DNS";
const DATABASE: &str = "there are no user databases: write users to `auth.users` (turnadmin -l \
    lists them), or give out time-limited credentials, which need none";
const NO_DATABASE: &str = "there is no database to ask";
const METRICS: &str = "metrics are at metrics.listen, 127.0.0.1:9641 by default: docs/metrics.md has \
    their names";
const ADMIN: &str = "there is no such console: turnstone allocations, show, end and drain do what it \
    did (docs/admin.md)";
const NO_ADMIN: &str = "there is no such console to switch off or set up";
const OAUTH: &str = "third-party authorization (RFC 7635) is not there: use time-limited \
    credentials, which browsers can";
const SOCKETS: &str = "every allocation has sockets of its own";
const BATCHES: &str = "packets are received and sent in batches anyway";
const FAMILY: &str = "a client that names no family gets IPv4 (RFC 8656), whatever it comes by";
const STRANGERS: &str = "replies to strangers are always limited, for each network: \
    `limits.unauthenticated_replies_per_s`";

/// The options of coturn 4.6.1 to 4.17.1, and those removed before that guides still carry.
pub(super) const OPTIONS: &[CoturnOption] = &[
    // Listeners.
    becomes(
        "listening-ip",
        "listen",
        &["listen.udp", "listen.tcp"],
        "each with the port; without one, all addresses of this machine",
    ),
    becomes(
        "listening-port",
        "listen",
        &["listen.udp", "listen.tcp"],
        "a part of the address; 3478 by default, as in coturn",
    ),
    becomes(
        "aux-server",
        "listen",
        &["listen.udp", "listen.tcp"],
        "one more address, in both lists",
    ),
    becomes("no-udp", "listen", &["listen.udp"], "an empty list").switch(),
    becomes("no-tcp", "listen", &["listen.tcp"], "an empty list").switch(),
    becomes(
        "rfc3489-compatibility",
        "listen",
        &["listen.classic_stun"],
        "true",
    )
    .switch(),
    becomes(
        "stun-backward-compatibility",
        "listen",
        &["listen.classic_stun"],
        "clients of RFC 3489 are told MAPPED-ADDRESS, all others XOR-MAPPED-ADDRESS only",
    )
    .differs()
    .switch(),
    needless(
        "no-stun-backward-compatibility",
        "listen",
        "clients of RFC 3489 are not answered unless `listen.classic_stun` says so",
    )
    .switch(),
    missing(
        "listening-device",
        "listen",
        "listeners are bound to addresses: write those of the device to `listen.udp` and \
         `listen.tcp`",
    ),
    missing(
        "tcp-proxy-port",
        "listen",
        "every TCP listener takes the PROXY protocol from the addresses that you write to \
         `listen.proxy_protocol_from`: those of the balancer, which coturn believes without asking",
    ),
    needless(
        "udp-self-balance",
        "listen",
        "the kernel spreads clients over the workers",
    )
    .switch(),
    becomes(
        "tls-listening-port",
        "tls",
        &["listen.tls"],
        "each listening address with this port; 5349 by default, as in coturn. Plain TCP is taken \
         there too, and TLS on `listen.tcp`, unless `listen.strict` has the address",
    ),
    becomes(
        "cert",
        "tls",
        &["tls.cert"],
        "PEM, with its chain; read again when it changes",
    ),
    becomes(
        "pkey",
        "tls",
        &["tls.key"],
        "PEM; the server's user must be able to read it",
    ),
    missing("pkey-pwd", "tls", PASSPHRASE).secret(),
    needless("cipher-list", "tls", SUITES),
    needless("ec-curve-name", "tls", SUITES),
    needless("dh-file", "tls", SUITES),
    missing("CA-file", "tls", CLIENT_CERTIFICATES),
    missing(
        "raw-public-keys",
        "tls",
        "a certificate is needed: no browser takes a bare key",
    )
    .switch(),
    missing(
        "dtls",
        "listen",
        "DTLS has listeners of its own: set listen.dtls, in a turnstone built with --features dtls (docs/tls.md)",
    )
    .switch(),
    missing(
        "acme-redirect",
        "listen",
        "nobody is redirected: let [tls.acme] get the certificate (docs/tls.md), by its own answers at port 443 or 80",
    ),
    missing(
        "respond-http-unsupported",
        "listen",
        "HTTP is not answered: for a health check open a TCP connection, or run turnstone check",
    )
    .switch(),
    needless("no-tls", "tls", NO_TLS).switch(),
    needless("no-dtls", "tls", NO_DTLS).switch(),
    missing("no-tlsv1_2", "tls", ONE_POINT_TWO).switch(),
    needless("no-tlsv1", "tls", OLD_TLS).switch(),
    needless("no-tlsv1_1", "tls", OLD_TLS).switch(),
    needless("no-sslv2", "tls", OLD_TLS).switch(),
    needless("no-sslv3", "tls", OLD_TLS).switch(),
    needless("tlsv1", "tls", OLD_TLS).switch(),
    needless("tlsv1_1", "tls", OLD_TLS).switch(),
    needless("dh566", "tls", SUITES).switch(),
    needless("dh1066", "tls", SUITES).switch(),
    needless("dh2066", "tls", SUITES).switch(),
    missing("rfc5780", "listen", RFC5780).switch(),
    missing("alt-listening-port", "listen", RFC5780),
    missing("alt-tls-listening-port", "listen", RFC5780),
    needless("no-rfc5780", "listen", RFC5780).switch(),
    needless("response-origin-only-with-rfc5780", "listen", RFC5780).switch(),
    missing(
        "secure-stun",
        "listen",
        "Binding is answered without credentials, which browsers do not have at that time; the \
         replies are limited: `limits.unauthenticated_replies_per_s`",
    )
    .switch(),
    missing(
        "stun-only",
        "listen",
        "TURN cannot be switched off; with no secret and no user that anybody was given, only STUN \
         is of use",
    )
    .switch(),
    missing("no-stun", "listen", "Binding cannot be switched off").switch(),
    needless(
        "fingerprint",
        "listen",
        "replies have FINGERPRINT if the request had it",
    )
    .switch(),
    needless(
        "include-reason-string",
        "listen",
        "refusals of authenticated requests have a reason phrase",
    )
    .switch(),
    missing(
        "rfc5766-channel-numbers",
        "listen",
        "channel numbers end at 0x4FFF (RFC 8656), as WebRTC clients have them",
    )
    .switch(),
    missing(
        "mobility",
        "listen",
        "mobility (RFC 8016) is not there yet: browsers change networks by an ICE restart, which \
         needs none",
    )
    .switch(),
    missing("alternate-server", "listen", REDIRECT),
    missing("tls-alternate-server", "listen", REDIRECT),
    missing("udp-alternate-server", "listen", REDIRECT),
    missing("tcp-alternate-server", "listen", REDIRECT),
    needless(
        "drop-invalid-packets",
        "listen",
        "what is neither STUN nor ChannelData is dropped and counted",
    ),
    needless("drop-invalid-packets-log", "listen", "no packet is logged"),
    needless("udp-recvmmsg", "listen", BATCHES),
    needless("udp-recvmmsg-log", "listen", BATCHES),
    needless("udp-gso", "listen", BATCHES),
    needless("udp-gso-log", "listen", BATCHES),
    needless(
        "sock-buf-size",
        "listen",
        "listeners have 4 MiB, relay sockets what the system gives (net.core.rmem_default)",
    ),
    // Relaying.
    becomes(
        "relay-ip",
        "relay",
        &["relay.addresses"],
        "without one coturn takes the addresses of listening-ip, and the import writes those",
    ),
    becomes(
        "external-ip",
        "relay",
        &["relay.external"],
        "PUBLIC/PRIVATE becomes PRIVATE = PUBLIC; PUBLIC alone is for the one relay address of \
         its family",
    ),
    becomes(
        "min-port",
        "relay",
        &["relay.ports"],
        "lowest-highest, from 1024",
    ),
    becomes(
        "max-port",
        "relay",
        &["relay.ports"],
        "lowest-highest, from 1024",
    ),
    missing(
        "relay-device",
        "relay",
        "relay sockets are bound to addresses: write those of the device to `relay.addresses`",
    ),
    needless("multiplex-peer", "relay", SOCKETS).switch(),
    needless("multiplex-peer-port", "relay", SOCKETS),
    needless("multiplex-peer-max-peers", "relay", SOCKETS),
    missing(
        "no-udp-relay",
        "relay",
        "relaying UDP is what it does: do not run it where UDP must not be relayed",
    )
    .switch(),
    needless(
        "no-tcp-relay",
        "relay",
        "TCP is not relayed (RFC 6062), only UDP",
    )
    .switch(),
    missing(
        "server-relay",
        "relay",
        "a peer needs a permission, always: whoever runs a service behind a relayed address must \
         ask for one",
    )
    .switch(),
    missing("allocation-default-address-family", "relay", FAMILY),
    missing("keep-address-family", "relay", FAMILY).switch(),
    // Authentication.
    becomes(
        "realm",
        "",
        &["realm"],
        "the same; the 0x keys of users depend on it. coturn's default is the domain name of \
         the machine, turnstone's is turnstone",
    ),
    becomes(
        "static-auth-secret",
        "auth",
        &["auth.static_auth_secret"],
        "a list, of which all are accepted",
    )
    .secret(),
    becomes(
        "use-auth-secret",
        "auth",
        &["auth.static_auth_secret"],
        "the secret alone switches it on; one in coturn's database must be written to the file",
    ),
    becomes(
        "user",
        "auth",
        &["auth.users"],
        "a table of names and passwords or 0x keys; left out beside a secret, where coturn \
         does not look at it",
    )
    .secret(),
    becomes(
        "rest-api-separator",
        "auth",
        &["auth.rest_separator"],
        "one character, no digit",
    ),
    becomes(
        "stale-nonce",
        "auth",
        &["auth.nonce_lifetime_s"],
        "30 to 3600 s; 0, which is for ever in coturn, becomes 3600",
    ),
    becomes(
        "stateless-nonce-secret",
        "auth",
        &["auth.nonce_secret"],
        "a server of each kind in one fleet does not take the other's nonces",
    )
    .differs()
    .secret(),
    needless(
        "stateless-nonce",
        "auth",
        "nonces prove themselves, and none is remembered",
    ),
    needless("lt-cred-mech", "auth", "credentials are always asked for").switch(),
    missing(
        "no-auth",
        "auth",
        "nobody relays without credentials: give out time-limited ones, or write a user to \
         `auth.users`",
    )
    .switch(),
    missing("oauth", "auth", OAUTH).switch(),
    needless(
        "server-name",
        "auth",
        "it is for third-party authorization only",
    ),
    needless(
        "secret-ts-exp-time",
        "auth",
        "it has no effect in coturn either",
    ),
    needless(
        "check-origin-consistency",
        "auth",
        "ORIGIN is not looked at, and no browser sends it",
    )
    .switch(),
    missing("userdb", "auth", DATABASE).secret(),
    missing("db", "auth", DATABASE).secret(),
    missing("psql-userdb", "auth", DATABASE).secret(),
    missing("sql-userdb", "auth", DATABASE).secret(),
    missing("mysql-userdb", "auth", DATABASE).secret(),
    missing("mongo-userdb", "auth", DATABASE).secret(),
    missing("redis-userdb", "auth", DATABASE).secret(),
    needless("secret-key-file", "auth", NO_DATABASE),
    needless("no-auth-pings", "auth", NO_DATABASE).switch(),
    needless("no-dynamic-ip-list", "auth", NO_DATABASE).switch(),
    needless("no-dynamic-realms", "auth", NO_DATABASE).switch(),
    // Peers.
    becomes(
        "allowed-peer-ip",
        "peers",
        &["peers.allow", "peers.deny"],
        "in coturn allowed beats denied; here `peers.deny` wins, and it is cut out of that",
    )
    .differs(),
    becomes(
        "denied-peer-ip",
        "peers",
        &["peers.deny"],
        "ranges become networks in CIDR",
    ),
    becomes(
        "allow-loopback-peers",
        "peers",
        &["peers.allow_loopback"],
        "for tests only",
    )
    .differs()
    .switch(),
    needless(
        "no-multicast-peers",
        "peers",
        "multicast addresses are never peers",
    )
    .switch(),
    needless(
        "no-loopback-peers",
        "peers",
        "loopback addresses are never peers, unless `peers.allow_loopback` says so",
    )
    .switch(),
    // Limits.
    becomes(
        "user-quota",
        "limits",
        &["limits.allocations_per_user"],
        "beyond it Allocate gets 486, as in coturn; there always is one",
    ),
    becomes(
        "total-quota",
        "limits",
        &["limits.allocations_total"],
        "beyond it Allocate gets 508, where coturn says 486",
    )
    .differs(),
    becomes(
        "max-bps",
        "limits",
        &["limits.allocation_kbit_per_s"],
        "bytes become kbit; every packet counts with 28 bytes of headers (48 with IPv6), so add \
         5 % for video and 20 % for audio if it is tight",
    )
    .differs(),
    missing(
        "bps-capacity",
        "limits",
        "no bandwidth is reserved: lower `limits.allocations_total` or \
         `limits.allocation_kbit_per_s`, whose product is the most there can be",
    ),
    becomes(
        "max-allocate-lifetime",
        "limits",
        &["limits.max_lifetime_s"],
        "600 to 86400 s",
    ),
    missing(
        "channel-lifetime",
        "limits",
        "channels live 600 s (RFC 8656), and clients rely on it",
    ),
    missing(
        "permission-lifetime",
        "limits",
        "permissions live 300 s (RFC 8656), and clients rely on it",
    ),
    needless(
        "max-allocate-timeout",
        "limits",
        "nothing is remembered of a client before it has authenticated",
    ),
    needless("unauthorized-ratelimit", "limits", STRANGERS).switch(),
    needless("unauthorized-ratelimit-rps", "limits", STRANGERS),
    // Logs.
    becomes("Verbose", "log", &["log.level"], "debug").switch(),
    becomes(
        "log-min-level",
        "log",
        &["log.level"],
        "the same levels by the names error, warn, info and debug",
    ),
    needless(
        "verbose",
        "log",
        "allocations are logged at level info, which is the default",
    )
    .switch(),
    missing(
        "log-file",
        "log",
        "lines go to standard error, and so to the journal: for a file write \
         StandardError=append:FILE to the unit",
    ),
    needless("no-stdout-log", "log", "lines go to standard error only").switch(),
    needless("syslog", "log", "the journal passes lines on to syslog").switch(),
    missing(
        "syslog-facility",
        "log",
        "write SyslogFacility= to the unit",
    ),
    needless("simple-log", "log", "it has no files to rotate").switch(),
    needless("new-log-timestamp", "log", "times are ISO 8601"),
    missing(
        "new-log-timestamp-format",
        "log",
        "times are ISO 8601, in UTC; `log.format` can make lines JSON",
    ),
    missing(
        "log-binding",
        "log",
        "no packet is logged, so that nobody can fill the disk",
    )
    .switch(),
    missing(
        "redis-statsdb",
        "log",
        "let hooks.url receive the events, of which allocation_ended has the usage (docs/hooks.md), \
         or set `log.format` to \"json\" and read the lines allocation created and allocation closed",
    )
    .secret(),
    // The process.
    becomes(
        "relay-threads",
        "server",
        &["server.workers"],
        "0 becomes 1",
    ),
    becomes(
        "cpus",
        "server",
        &["server.workers"],
        "unless relay-threads is set",
    ),
    becomes(
        "proc-user",
        "server",
        &["server.user"],
        "it matters if root starts the server; turnserver, the user of coturn's package, is \
         left out",
    ),
    needless(
        "proc-group",
        "server",
        "the server takes the group of its user",
    ),
    becomes(
        "software-attribute",
        "server",
        &["server.software"],
        "the empty text where it is off",
    ),
    becomes(
        "no-software-attribute",
        "server",
        &["server.software"],
        "the empty text",
    )
    .switch(),
    becomes("prod", "server", &["server.software"], "the empty text").switch(),
    needless(
        "daemon",
        "server",
        "it stays in the foreground, where systemd wants it",
    )
    .switch(),
    needless("pidfile", "server", "systemd knows the process"),
    needless("ne", "server", "there is one engine"),
    needless("version", "server", "turnstone --version"),
    missing("prometheus", "server", METRICS),
    missing("prometheus-port", "server", METRICS),
    missing("prometheus-address", "server", METRICS),
    missing("prometheus-path", "server", METRICS),
    missing("prometheus-username-labels", "server", METRICS),
    missing("prometheus-tls", "server", METRICS),
    missing("prometheus-cert", "server", METRICS),
    missing("prometheus-key", "server", METRICS),
    missing("cli", "server", ADMIN).switch(),
    needless("no-cli", "server", NO_ADMIN).switch(),
    needless("cli-ip", "server", NO_ADMIN),
    needless("cli-port", "server", NO_ADMIN),
    needless("cli-password", "server", NO_ADMIN).secret(),
    needless("cli-max-output-sessions", "server", NO_ADMIN),
    missing("web-admin", "server", ADMIN).switch(),
    needless("web-admin-ip", "server", NO_ADMIN),
    needless("web-admin-port", "server", NO_ADMIN),
    needless("web-admin-listen-on-workers", "server", NO_ADMIN).switch(),
    missing(
        "drain-min-allocations",
        "server",
        "SIGUSR1 drains, and the server ends with its last allocation, and not before",
    ),
];
