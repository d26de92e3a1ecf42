//! Every configuration key and the shape of its value.
//!
//! The one list that the file reader, the environment overlay, the "did you mean" of unknown keys
//! and the test of `turnserver.toml.example` share. What a value means is checked in `resolve`.
//! It is a table and not a set of serde structs because serde stops at the first error, and an
//! operator is owed all of them at once.

use super::suggest;

/// What may be written as a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text in quotes.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// One text, or a list of texts.
    List,
    /// A table of texts: `{ name = "value" }`.
    Map,
    /// A list of tables with these keys, of which the path names the list too.
    Tables(&'static [Key]),
}

impl Shape {
    /// How to write a value of this shape, for the remedy of a type error.
    pub(super) fn instruction(self) -> &'static str {
        match self {
            Self::Text => "write one text in quotes",
            Self::Switch => "write true or false, without quotes",
            Self::Number => "write a whole number, without quotes",
            Self::List => "write a text in quotes or a list of them, e.g. [\"one\", \"two\"]",
            Self::Map => "write a table of texts, e.g. { name = \"value\" }",
            Self::Tables(_) => "write a list of tables, e.g. [{ id = \"one\" }, { id = \"two\" }]",
        }
    }
}

/// One configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Section and name, e.g. `relay.ports`.
    pub(super) path: &'static str,
    pub(super) shape: Shape,
}

const fn key(path: &'static str, shape: Shape) -> Key {
    Key { path, shape }
}

pub(super) const KEYS: &[Key] = &[
    key("realm", Shape::Text),
    key("listen.udp", Shape::List),
    key("listen.tcp", Shape::List),
    key("listen.tls", Shape::List),
    key("listen.dtls", Shape::List),
    key("listen.strict", Shape::List),
    key("listen.proxy_protocol_from", Shape::List),
    key("listen.classic_stun", Shape::Switch),
    key("tls.cert", Shape::Text),
    key("tls.key", Shape::Text),
    key("tls.additional", Shape::Tables(PAIR)),
    key("tls.acme.domains", Shape::List),
    key("tls.acme.email", Shape::Text),
    key("tls.acme.directory", Shape::Text),
    key("tls.acme.ca_file", Shape::Text),
    key("tls.acme.challenge", Shape::Text),
    key("tls.acme.http_listen", Shape::Text),
    key("tls.acme.terms_of_service_agreed", Shape::Switch),
    key("tls.acme.eab_key_id", Shape::Text),
    key("tls.acme.eab_key_file", Shape::Text),
    key("web.https", Shape::Text),
    key("web.names", Shape::List),
    key("web.http", Shape::Text),
    key("web.proxy_protocol", Shape::Switch),
    key("web.connections", Shape::Number),
    key("web.idle_s", Shape::Number),
    key("relay.ports", Shape::Text),
    key("relay.addresses", Shape::List),
    key("relay.external", Shape::Map),
    key("relay.dont_fragment", Shape::Switch),
    key("auth.static_auth_secret", Shape::List),
    key("auth.static_auth_secret_file", Shape::List),
    key("auth.users", Shape::Map),
    key("auth.rest_separator", Shape::Text),
    key("auth.nonce_secret", Shape::List),
    key("auth.nonce_secret_file", Shape::List),
    key("auth.nonce_lifetime_s", Shape::Number),
    key("clients.allow", Shape::List),
    key("clients.deny", Shape::List),
    key("peers.allow", Shape::List),
    key("peers.deny", Shape::List),
    key("peers.allow_loopback", Shape::Switch),
    key("limits.allocations_per_user", Shape::Number),
    key("limits.allocations_per_address", Shape::Number),
    key("limits.allocations_total", Shape::Number),
    key("limits.allocation_kbit_per_s", Shape::Number),
    key("limits.user_kbit_per_s", Shape::Number),
    key("limits.permissions_per_allocation", Shape::Number),
    key("limits.channels_per_allocation", Shape::Number),
    key("limits.max_lifetime_s", Shape::Number),
    key("limits.reservation_s", Shape::Number),
    key("limits.port_rest_s", Shape::Number),
    key("limits.unauthenticated_replies_per_s", Shape::Number),
    key("limits.failed_authentications_per_minute", Shape::Number),
    key("limits.tcp_connections", Shape::Number),
    key("limits.tcp_connections_per_address", Shape::Number),
    key("limits.tcp_half_open", Shape::Number),
    key("limits.tcp_send_queue_bytes", Shape::Number),
    key("limits.tcp_queues_total_bytes", Shape::Number),
    key("limits.tcp_first_message_s", Shape::Number),
    key("limits.tcp_idle_s", Shape::Number),
    key("admin.socket", Shape::Text),
    key("admin.listen", Shape::Text),
    key("admin.token", Shape::Text),
    key("admin.token_file", Shape::Text),
    key("metrics.listen", Shape::Text),
    key("credentials.listen", Shape::Text),
    key("credentials.uris", Shape::List),
    key("credentials.keys", Shape::Tables(API_KEY)),
    key("hooks.url", Shape::Text),
    key("hooks.secret", Shape::Text),
    key("hooks.secret_file", Shape::Text),
    key("hooks.events", Shape::List),
    key("hooks.timeout_s", Shape::Number),
    key("hooks.ca_file", Shape::Text),
    key("log.level", Shape::Text),
    key("log.format", Shape::Text),
    key("server.workers", Shape::Number),
    key("server.software", Shape::Text),
    key("server.user", Shape::Text),
];

/// What may be said of each key of the credential service.
const API_KEY: &[Key] = &[
    key("credentials.keys.id", Shape::Text),
    key("credentials.keys.key", Shape::Text),
    key("credentials.keys.key_file", Shape::Text),
    key("credentials.keys.max_ttl_s", Shape::Number),
    key("credentials.keys.origins", Shape::List),
];

/// What may be said of each further certificate.
const PAIR: &[Key] = &[
    key("tls.additional.cert", Shape::Text),
    key("tls.additional.key", Shape::Text),
];

/// Pairs of keys that say the same thing in two ways: a layer that sets one replaces both, so that a
/// secret given on top of a file does not leave the file's secret valid as well.
pub(super) const ALTERNATIVES: [[&str; 2]; 4] = [
    ["auth.static_auth_secret", "auth.static_auth_secret_file"],
    ["auth.nonce_secret", "auth.nonce_secret_file"],
    ["admin.token", "admin.token_file"],
    ["hooks.secret", "hooks.secret_file"],
];

pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter()
        .chain(API_KEY)
        .chain(PAIR)
        .find(|key| key.path == path)
}

/// Whether `name` is a section, such as `relay` or `tls.acme`.
pub(super) fn is_section(name: &str) -> bool {
    sections().any(|section| section == name)
}

fn sections() -> impl Iterator<Item = &'static str> {
    KEYS.iter()
        .filter_map(|key| Some(key.path.rsplit_once('.')?.0))
}

/// What somebody who wrote the unknown key `path` should do about it.
pub(super) fn remedy_for_unknown(path: &str, is_table: bool) -> String {
    let plain = path.to_lowercase().replace('-', "_");
    if is_table && let Some(section) = suggest::nearest(&plain, sections()) {
        return format!("did you mean [{section}]?");
    }
    let name = plain.rsplit('.').next().unwrap_or(&plain);
    // The right name in the wrong section is a likelier mistake than any misspelling.
    let same_name = KEYS
        .iter()
        .map(|key| key.path)
        .find(|known| known.rsplit('.').next() == Some(name));
    match same_name.or_else(|| suggest::nearest(&plain, KEYS.iter().map(|key| key.path))) {
        Some(known) => format!("did you mean {known}?"),
        None => "remove it, or see turnserver.toml.example for every key there is".to_owned(),
    }
}
