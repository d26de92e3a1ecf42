//! `[hooks]`: who is told of events. No message quotes a secret, or the path of the URL.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::Uri;
use secrecy::SecretString;

use super::Resolver;
use super::auth::beside;
use crate::config::document::Item;
use crate::config::{HookUrl, Hooks, defaults, exposure, files};

/// What a PEM file with certificates has in it (RFC 7468).
const PEM_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

impl<'a> Resolver<'a> {
    pub(super) fn hooks(&mut self) -> Hooks {
        let hooks = Hooks {
            url: self.hook_url(),
            secret: self.hook_secret(),
            events: self.hook_events(),
            // A receiver that takes longer has no business to answer within the request.
            timeout_s: self.number("hooks.timeout_s", 1..=60, defaults::HOOK_TIMEOUT_S),
            ca_file: self.ca_file("hooks.ca_file"),
        };
        if let Some(item) = self.filled("hooks.url")
            && self.filled("hooks.secret").is_none()
            && self.filled("hooks.secret_file").is_none()
        {
            let what = "has no secret to sign the requests with";
            let remedy = "set hooks.secret or hooks.secret_file, and give the receiver the same";
            self.refuse(&item.origin, "hooks.url", what, remedy);
        }
        hooks
    }

    /// A text that is not empty, which stands for none.
    pub(super) fn filled(&self, key: &str) -> Option<&'a Item> {
        self.text(key).filter(|item| !item.text.is_empty())
    }

    fn hook_url(&mut self) -> Option<HookUrl> {
        let key = "hooks.url";
        let item = self.filled(key)?;
        let remedy = "write e.g. \"https://app.example.org/turn-events\"";
        let Ok(url) = item.text.parse::<Uri>() else {
            self.refuse(&item.origin, key, "is not a URL", remedy);
            return None;
        };
        let scheme = url.scheme_str().unwrap_or_default();
        let host = url.host().unwrap_or_default();
        let authority = url.authority().map_or("", |authority| authority.as_str());
        if !["http", "https"].contains(&scheme) || host.is_empty() {
            self.refuse(&item.origin, key, "is not a http or https URL", remedy);
            return None;
        }
        if authority.contains('@') {
            let what = "names a user, which is not sent";
            let remedy = "leave it out: the signature proves who sends";
            self.refuse(&item.origin, key, what, remedy);
            return None;
        }
        if url.port_u16() == Some(0) || (url.port().is_none() && authority.ends_with(':')) {
            self.refuse(&item.origin, key, "has no valid port", remedy);
            return None;
        }
        if scheme == "http" && !is_loopback(host) {
            let what = "is not https: everybody on the way can read names and addresses of users";
            self.warn(&item.origin, key, what, "write https://");
        }
        Some(HookUrl(url))
    }

    fn hook_secret(&mut self) -> Option<SecretString> {
        let (key, file) = ("hooks.secret", "hooks.secret_file");
        if let (Some(item), Some(_)) = (self.filled(key), self.filled(file)) {
            let what = "is set beside hooks.secret_file";
            self.refuse(&item.origin, key, what, "remove one of the two");
            return None;
        }
        if let Some(item) = self.filled(file) {
            let path = beside(&item.origin, Path::new(item.text.as_str()));
            return self.secret_file(file, item, &path);
        }
        let item = self.filled(key)?;
        if item.text.trim().is_empty() {
            let remedy = "write a long random text, e.g. from: openssl rand -base64 32";
            self.refuse(&item.origin, key, "is empty", remedy);
            return None;
        }
        self.warn_of_weak_secret(&item.origin, key, &item.text);
        Some(SecretString::from(item.text.as_str()))
    }

    fn hook_events(&mut self) -> Vec<&'static str> {
        let key = "hooks.events";
        let Some((items, origin)) = self.list(key) else {
            return defaults::HOOK_EVENTS.to_vec();
        };
        let remedy = format!("write some of {}", defaults::HOOK_EVENTS.join(", "));
        let mut events = Vec::new();
        for item in items {
            let mut known = defaults::HOOK_EVENTS.into_iter();
            match known.find(|name| *name == *item.text) {
                Some(name) if !events.contains(&name) => events.push(name),
                Some(_) => {}
                None => {
                    let what = format!("{:?} is not an event", *item.text);
                    self.refuse(&item.origin, key, what, remedy.clone());
                }
            }
        }
        if items.is_empty() {
            self.refuse(origin, key, "is empty", remedy);
        }
        events
    }

    /// A file with certificates of authorities.
    pub(super) fn ca_file(&mut self, key: &str) -> Option<PathBuf> {
        let item = self.filled(key)?;
        let path = beside(&item.origin, Path::new(item.text.as_str()));
        let shown = path.display();
        let (what, remedy) = match files::read(&path, files::CONFIGURATION_MAX) {
            Ok(text) if text.contains(PEM_CERTIFICATE) => {
                self.files.push(path.clone());
                return Some(path);
            }
            Ok(_) => (
                format!("{shown} holds no certificate"),
                "write the certificates of the authorities as PEM",
            ),
            Err(error) => (
                format!("{shown} cannot be read ({error})"),
                match error.kind() {
                    ErrorKind::InvalidInput => "name a regular file of at most 1 MiB",
                    ErrorKind::PermissionDenied => exposure::READABLE,
                    _ => "make the file and let the user of this server read it",
                },
            ),
        };
        self.refuse(&item.origin, key, what, remedy);
        None
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || ip.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}
