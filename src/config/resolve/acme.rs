//! `[tls.acme]`: who issues certificates.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hyper::Uri;
use secrecy::{ExposeSecret, SecretSlice};

use super::Resolver;
use super::auth::beside;
use crate::config::uris::HTTPS_PORT;
use crate::config::{Acme, AcmeChallenge, Config, defaults};

/// Names of one certificate, by Let's Encrypt's limit.
pub const ACME_DOMAINS_MAX: usize = 100;

/// Characters of a domain name, and of a label in it (RFC 1035 section 2.3.4).
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// Where the authority of `http-01` looks.
const HTTP_PORT: u16 = 80;

impl Resolver<'_> {
    pub(super) fn acme(&mut self) -> Acme {
        let challenges = [
            ("tls-alpn-01", AcmeChallenge::TlsAlpn01),
            ("http-01", AcmeChallenge::Http01),
        ];
        let eab_key_file = self.acme_file("tls.acme.eab_key_file");
        let acme = Acme {
            domains: self.acme_domains(),
            email: self.acme_email(),
            directory: self.acme_directory(),
            ca_file: self.ca_file("tls.acme.ca_file"),
            challenge: self.choice("tls.acme.challenge", &challenges, AcmeChallenge::TlsAlpn01),
            http_listen: self.acme_http_listen(),
            terms_of_service_agreed: self.switch("tls.acme.terms_of_service_agreed", false),
            eab_key_id: self.acme_text("tls.acme.eab_key_id"),
            eab_key: self.acme_eab_key(eab_key_file.as_deref()),
            eab_key_file,
        };
        self.check_account(&acme);
        acme
    }

    fn acme_text(&self, key: &str) -> String {
        let text = self.text(key).map(|item| item.text.as_str());
        text.unwrap_or_default().to_owned()
    }

    fn acme_file(&self, key: &str) -> Option<PathBuf> {
        let item = self.filled(key)?;
        Some(beside(&item.origin, Path::new(item.text.as_str())))
    }

    fn acme_domains(&mut self) -> Vec<String> {
        let key = "tls.acme.domains";
        let Some((items, origin)) = self.list(key) else {
            return Vec::new();
        };
        if items.len() > ACME_DOMAINS_MAX {
            let what = format!("has more than {ACME_DOMAINS_MAX} names, which no authority takes");
            self.refuse(origin, key, what, "keep the names that clients use");
            return Vec::new();
        }
        let mut domains = Vec::new();
        for item in items {
            let domain = item.text.trim_end_matches('.').to_ascii_lowercase();
            match unfit(&domain) {
                Some((what, remedy)) => {
                    let what = format!("{:?} {what}", *item.text);
                    self.refuse(&item.origin, key, what, remedy);
                }
                None if domains.contains(&domain) => {
                    let what = format!("{domain} is listed twice");
                    self.refuse(&item.origin, key, what, "remove one of the two");
                }
                None => domains.push(domain),
            }
        }
        domains
    }

    fn acme_email(&mut self) -> String {
        let key = "tls.acme.email";
        let email = self.acme_text(key);
        if let Some(item) = self.filled(key) {
            let parts = email.rsplit_once('@');
            let is_plain = |c: char| c.is_ascii_graphic() && !",;:<>?\"".contains(c);
            if !parts.is_some_and(|(user, host)| !user.is_empty() && host.contains('.'))
                || !email.chars().all(is_plain)
            {
                let remedy = "write one as in \"admin@example.org\", or \"\" for none";
                self.refuse(&item.origin, key, "is not an e-mail address", remedy);
            }
        }
        email
    }

    fn acme_directory(&mut self) -> Uri {
        let key = "tls.acme.directory";
        let named = |text: &str| {
            let known = defaults::ACME_DIRECTORIES.iter();
            let found = known.clone().find(|(name, _)| *name == text);
            found.map(|(_, url)| {
                url.parse::<Uri>()
                    .expect("the built-in directories are URLs")
            })
        };
        let default = || named(defaults::ACME_DIRECTORY).expect("the default is one of them");
        let Some(item) = self.filled(key) else {
            return default();
        };
        if let Some(url) = named(&item.text) {
            return url;
        }
        let remedy = "write \"letsencrypt\", \"letsencrypt-staging\" or the https URL of an ACME \
                      directory";
        let url = item.text.parse::<Uri>().ok();
        let is_fit = |url: &Uri| {
            let host = url.host().unwrap_or_default();
            let ip = host.trim_start_matches('[').trim_end_matches(']');
            // A test's; ACME is by https (RFC 8555 section 6.1).
            let is_loopback = ip.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            let authority = url.authority().map_or("", |authority| authority.as_str());
            let scheme = url.scheme_str().unwrap_or_default();
            (scheme == "https" || (scheme == "http" && is_loopback))
                && !host.is_empty()
                && !authority.contains('@')
                && url.port_u16() != Some(0)
                && !authority.ends_with(':')
        };
        match url.filter(is_fit) {
            Some(url) => url,
            None => {
                let what = format!("{:?} is no directory", *item.text);
                self.refuse(&item.origin, key, what, remedy);
                default()
            }
        }
    }

    fn acme_http_listen(&mut self) -> SocketAddr {
        let key = "tls.acme.http_listen";
        let default = defaults::ACME_HTTP_LISTEN[usize::from(!self.host.ipv6)];
        let default = default
            .parse()
            .expect("the built-in listener is an address");
        let Some(item) = self.filled(key) else {
            return default;
        };
        item.text.parse().unwrap_or_else(|_| {
            let what = format!("{:?} is not an address with a port", *item.text);
            let remedy = "write e.g. \"0.0.0.0:80\" or \"[::]:80\"";
            self.refuse(&item.origin, key, what, remedy);
            default
        })
    }

    fn acme_eab_key(&mut self, path: Option<&Path>) -> Option<SecretSlice<u8>> {
        let key = "tls.acme.eab_key_file";
        let (item, path) = (self.filled(key)?, path?);
        let text = self.secret_file(key, item, path)?;
        let text = text.expose_secret().trim();
        let decoded = URL_SAFE_NO_PAD
            .decode(text)
            .or_else(|_| URL_SAFE.decode(text));
        if decoded.is_err() {
            let what = format!("{} is not in base64url", path.display());
            let remedy = "write the HMAC key as the authority shows it";
            self.refuse(&item.origin, key, what, remedy);
        }
        decoded.ok().map(SecretSlice::from)
    }

    fn check_account(&mut self, acme: &Acme) {
        let (id, file) = ("tls.acme.eab_key_id", "tls.acme.eab_key_file");
        match (self.filled(id), self.filled(file)) {
            (Some(item), None) => {
                let remedy = format!("set {file} to the file of the HMAC key of that account");
                self.refuse(&item.origin, id, "has no key", remedy);
            }
            (None, Some(item)) => {
                let remedy = format!("set {id} to the name that the authority gave you");
                self.refuse(&item.origin, file, "is of no account", remedy);
            }
            _ => {}
        }
        if let Some(([_, ..], origin)) = self.list("tls.acme.domains")
            && !acme.terms_of_service_agreed
        {
            let what = "the terms of the authority have not been agreed to";
            let remedy = "read them (letsencrypt.org/repository), and set \
                          terms_of_service_agreed = true in [tls.acme]";
            self.refuse(origin, "tls.acme.domains", what, remedy);
        }
    }

    /// One port has one owner, and a listener of clients does not answer an authority.
    pub(super) fn check_http_listen(&mut self, config: &Config) {
        let Some(wanted) = config.tls.acme.http_listener() else {
            return;
        };
        let listen = &config.listen;
        let Some(taken) = listen.of_tcp().find(|it| collide(**it, wanted)) else {
            return;
        };
        let Some(item) = self.filled("tls.acme.challenge") else {
            unreachable!("http-01 is not the default")
        };
        let (key, port) = match listen.tls.contains(taken) {
            true => ("listen.tls", wanted.port()),
            false => ("listen.tcp", wanted.port()),
        };
        let what = format!(
            "is \"http-01\", which answers on {wanted} (tls.acme.http_listen), and {key} has {taken}"
        );
        let remedy = format!(
            "set it to \"tls-alpn-01\", which is answered on port 443 beside TURN, or take port {port} \
             out of {key}"
        );
        self.refuse(&item.origin, "tls.acme.challenge", what, remedy);
    }

    /// Behind NAT another port may be the right one, so it is no error.
    pub(super) fn warn_of_closed_challenges(&mut self, config: &Config) {
        let acme = &config.tls.acme;
        let Some((_, origin)) = self
            .list("tls.acme.domains")
            .filter(|_| !acme.domains.is_empty())
        else {
            return;
        };
        let listen = &config.listen;
        // A strict one takes no TLS.
        let tcp = listen.tcp.iter().filter(|it| !listen.strict.contains(it));
        let mut ports = listen.tls.iter().chain(tcp).map(SocketAddr::port);
        match acme.challenge {
            AcmeChallenge::TlsAlpn01 if !ports.any(|port| port == HTTPS_PORT) => {
                let what = "no listener takes TLS at port 443, to which the authority connects";
                let remedy = "add e.g. \"[::]:443\" to listen.tls (or remove it from listen.strict), \
                              forward port 443 to it, or set challenge = \"http-01\" in [tls.acme]";
                self.warn(origin, "tls.acme.challenge", what, remedy);
            }
            AcmeChallenge::Http01 if acme.http_listen.port() != HTTP_PORT => {
                let port = acme.http_listen.port();
                let what = format!("is port {port}, and the authority connects to port 80");
                let remedy = "write port 80, or forward it there";
                self.warn(origin, "tls.acme.http_listen", what, remedy);
            }
            _ => {}
        }
    }
}

/// Whether only one of two addresses can be listened on. An IPv6 wildcard may be for IPv4 too.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let has = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip(), other.ip());
    one.port() != 0 && one.port() == other.port() && (a == b || has(a, b) || has(b, a))
}

/// Why no certificate can be asked for a name, and the remedy.
fn unfit(domain: &str) -> Option<(&'static str, &'static str)> {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.starts_with("*.") {
        let remedy =
            "list the names; a wildcard needs a challenge by DNS, and a tool such as certbot";
        return Some(("is a wildcard, which these challenges cannot prove", remedy));
    }
    if domain.parse::<IpAddr>().is_ok() {
        return Some(("is an address", "write a domain name that leads to it"));
    }
    if !domain.is_ascii() {
        return Some(("is not ASCII", "write its form that begins with xn--"));
    }
    let is_name = domain.len() <= NAME_LEN_MAX && domain.split('.').all(is_label);
    (!is_name).then_some(("is not a domain name", "write e.g. \"turn.example.org\""))
}
