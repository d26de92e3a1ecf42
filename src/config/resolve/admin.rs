//! `[admin]`: how operators reach the server while it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::Resolver;
use super::auth::beside;
use crate::config::document::Item;
use crate::config::{Admin, Origin};

/// Bytes of a Unix socket's path, the last zero excepted (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;

/// Characters of a token at least: shorter ones can be found by trying.
pub const ADMIN_TOKEN_MIN: usize = 16;

impl Resolver<'_> {
    pub(super) fn admin(&mut self) -> Admin {
        let (socket, is_default) = self.admin_socket();
        let token = self.admin_token();
        let listen = self.admin_listen(token.is_some());
        Admin {
            socket,
            is_default,
            listen,
            token,
        }
    }

    fn admin_socket(&mut self) -> (Option<PathBuf>, bool) {
        let key = "admin.socket";
        let Some(item) = self.text(key) else {
            return (None, true);
        };
        if item.text.is_empty() {
            return (None, false);
        }
        let path = PathBuf::from(item.text.as_str());
        if !path.is_absolute() {
            let what = format!("{:?} is not an absolute path", *item.text);
            let remedy = "write a path from the root, or \"\" for no socket";
            self.refuse(&item.origin, key, what, remedy);
        } else if item.text.len() > SOCKET_PATH_MAX && item.origin != Origin::Default {
            let what = format!("is longer than {SOCKET_PATH_MAX} bytes");
            self.refuse(&item.origin, key, what, "write a shorter path");
        }
        (Some(path), item.origin == Origin::Default)
    }

    fn admin_listen(&mut self, has_token: bool) -> Option<SocketAddr> {
        let key = "admin.listen";
        let item = self.text(key)?;
        // Whoever reaches the address and knows the token can do all that operators can.
        let address = self.http_address(key, item, "127.0.0.1:8479", |address| {
            let what = format!("the token travels to {address} without encryption");
            let remedy = "listen on 127.0.0.1, and come by a tunnel or a proxy with TLS";
            Some((what, remedy))
        })?;
        let mut problems = self.problems.iter();
        let has_problem = problems.any(|it| it.key.contains("admin.token"));
        if !has_token && !has_problem {
            let what = "needs a token: whoever reaches the address could end every call";
            let remedy = "set admin.token_file to a file with one, e.g. from: openssl rand -hex 32";
            self.refuse(&item.origin, key, what, remedy);
        }
        has_token.then_some(address)
    }

    fn admin_token(&mut self) -> Option<SecretString> {
        let names = ["admin.token", "admin.token_file"];
        let items = names.map(|name| self.text(name).filter(|item| !item.text.is_empty()));
        self.bearer(names, items)
    }

    /// A token (RFC 6750 §2.1) that is written under the first name, or in a file under the second.
    pub(super) fn bearer(
        &mut self,
        names: [&str; 2],
        items: [Option<&Item>; 2],
    ) -> Option<SecretString> {
        let (key, item, token) = match items.into() {
            (None, None) => return None,
            (Some(_), Some(file)) => {
                let what = format!("is set beside {}", names[0]);
                let remedy = "remove one of the two";
                self.refuse(&file.origin, names[1], what, remedy);
                return None;
            }
            (Some(item), None) => {
                let key = names[0];
                self.warn_of_weak_secret(&item.origin, key, &item.text);
                (key, item, SecretString::from(item.text.as_str()))
            }
            (None, Some(item)) => {
                let key = names[1];
                let path = beside(&item.origin, Path::new(item.text.as_str()));
                (key, item, self.secret_file(key, item, &path)?)
            }
        };
        let text = token.expose_secret();
        let what = if text.len() < ADMIN_TOKEN_MIN {
            format!("is shorter than {ADMIN_TOKEN_MIN} characters")
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            "has characters that no HTTP header can hold".to_owned()
        } else {
            return Some(token);
        };
        let remedy = "write a long random text, e.g. from: openssl rand -hex 32";
        self.refuse(&item.origin, key, what, remedy);
        None
    }
}
