//! `[credentials]`: who may ask the server for time-limited credentials, and what is told.

use std::net::SocketAddr;

use secrecy::ExposeSecret;

use super::Resolver;
use crate::config::document::{Document, Item, Value};
use crate::config::{ApiKey, Auth, CredentialService, defaults};

/// Keys of the service: each request is compared with all of them.
pub const API_KEYS_MAX: usize = 100;

/// Bytes of a key's id.
const ID_LEN_MAX: usize = 64;

/// A year: whoever needs credentials for longer wants a fixed user.
const TTL_S_MAX: u32 = 31_536_000;

const REMEDY_ORIGIN: &str = "write an origin as browsers do: \"https://app.example\", without a \
    path, in lower case";

impl<'a> Resolver<'a> {
    /// The URIs are empty if none are configured.
    pub(super) fn credentials(&mut self, auth: &Auth) -> CredentialService {
        let keys = self.api_keys(auth);
        let listen = self.credentials_listen(!keys.is_empty());
        CredentialService {
            listen,
            uris: self.credential_uris(),
            keys,
        }
    }

    fn credentials_listen(&mut self, has_keys: bool) -> Option<SocketAddr> {
        let key = "credentials.listen";
        let Some(item) = self.text(key) else {
            return has_keys.then_some(defaults::CREDENTIALS_LISTEN);
        };
        let usual = defaults::CREDENTIALS_LISTEN.to_string();
        let address = self.http_address(key, item, &usual, |address| {
            let what = format!("keys and credentials travel to {address} without encryption");
            has_keys.then_some((what, "listen on 127.0.0.1 behind a proxy with TLS"))
        });
        address.filter(|_| has_keys)
    }

    fn credential_uris(&mut self) -> Vec<String> {
        let key = "credentials.uris";
        let items = self.list(key).map_or(&[][..], |(items, _)| items);
        for item in items {
            let (scheme, rest) = item.text.split_once(':').unwrap_or_default();
            let is_uri = ["stun", "stuns", "turn", "turns"].contains(&scheme)
                && !rest.is_empty()
                && rest.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_uri {
                let what = format!("{:?} is not a TURN URI", *item.text);
                let remedy = "write a URI like \"turn:turn.example.org:3478?transport=udp\"";
                self.refuse(&item.origin, key, what, remedy);
            }
        }
        items.iter().map(|item| item.text.to_string()).collect()
    }

    fn api_keys(&mut self, auth: &Auth) -> Vec<ApiKey> {
        let path = "credentials.keys";
        let Some(setting) = self.document.get(path) else {
            return vec![];
        };
        let Value::Tables(tables) = &setting.value else {
            unreachable!("the schema says that {path} is a list of tables")
        };
        if tables.len() > API_KEYS_MAX {
            let what = format!("has more than {API_KEYS_MAX} keys");
            let remedy = "remove some: one for each back end or application is enough";
            self.refuse(&setting.origin, path, what, remedy);
        }
        let mut problems = self.problems.iter();
        let has_problem = problems.any(|it| it.key.contains("static_auth_secret"));
        let has_secret = !auth.static_auth_secrets.is_empty() || has_problem;
        if !tables.is_empty() && !has_secret && !auth.users.is_empty() {
            let what = "needs a secret: time-limited credentials are made from one";
            let remedy = "set auth.static_auth_secret";
            self.refuse(&setting.origin, path, what, remedy);
        }
        let mut keys: Vec<ApiKey> = vec![];
        for table in tables {
            let Some(key) = self.api_key(table) else {
                continue;
            };
            let same = |known: &&ApiKey| {
                known.id == key.id || known.key.expose_secret() == key.key.expose_secret()
            };
            if let Some(known) = keys.iter().find(same) {
                let what = format!("has the id or the key of another one, {:?}", known.id);
                self.refuse(table.written(), path, what, "give each its own");
            }
            keys.push(key);
        }
        keys
    }

    fn api_key(&mut self, table: &'a Document) -> Option<ApiKey> {
        // The keys of the one table are read as those of the whole document are.
        let document = std::mem::replace(&mut self.document, table);
        let id = self.api_key_id();
        let max_ttl_s = self.number(
            "credentials.keys.max_ttl_s",
            1..=TTL_S_MAX,
            defaults::CREDENTIALS_MAX_TTL_S,
        );
        let origins = self.api_key_origins();
        let names = ["credentials.keys.key", "credentials.keys.key_file"];
        let items = names.map(|name| self.text(name).filter(|item| !item.text.is_empty()));
        self.document = document;
        if items.iter().all(Option::is_none) {
            let remedy = "set key_file to a file with one, e.g. from: openssl rand -hex 32";
            self.refuse(table.written(), names[0], "is missing", remedy);
        }
        let key = self.bearer(names, items)?;
        Some(ApiKey {
            id: id?,
            key,
            max_ttl_s,
            origins,
        })
    }

    fn api_key_id(&mut self) -> Option<String> {
        let key = "credentials.keys.id";
        let remedy = "write a name for logs and paths: letters, digits, '.', '_' and '-'";
        let Some(item) = self.text(key) else {
            let table = self.document.written();
            self.refuse(table, key, "is missing", remedy);
            return None;
        };
        let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if item.text.is_empty() || item.text.len() > ID_LEN_MAX || !item.text.bytes().all(is_plain)
        {
            let what = format!(
                "is empty, longer than {ID_LEN_MAX} characters, or has others than letters, digits, '.', '_' and '-'"
            );
            self.refuse(&item.origin, key, what, remedy);
        }
        Some(item.text.to_string())
    }

    fn api_key_origins(&mut self) -> Vec<String> {
        let key = "credentials.keys.origins";
        let items = self.list(key).map_or(&[][..], |(items, _)| items);
        for Item { text, origin } in items {
            let what = match text.as_str() {
                "*" => "would let every web page ask with this key".to_owned(),
                text if !is_origin(text) => format!("{text:?} is not an origin"),
                _ => continue,
            };
            self.refuse(origin, key, what, REMEDY_ORIGIN);
        }
        items.iter().map(|item| item.text.to_string()).collect()
    }
}

/// As browsers write it (RFC 6454 §6.2).
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c);
    let is_host =
        |c: u8| c.is_ascii_graphic() && !c.is_ascii_uppercase() && !b"/\\?#@*\"'<>,;".contains(&c);
    !scheme.is_empty()
        && scheme.bytes().all(is_scheme)
        && !host.is_empty()
        && host.bytes().all(is_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "http://[::1]:8080",
            "capacitor://localhost",
        ] {
            assert!(is_origin(origin), "{origin}");
        }
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "://app.example",
            "https://app.example/",
            "https://App.example",
            "https://*.example",
            "https://a b",
            "https://a,https://b",
        ] {
            assert!(!is_origin(text), "{text}");
        }
    }
}
