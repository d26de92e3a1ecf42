//! What clients are told of TLS, and whether it leads them here.

use super::Resolver;
use crate::config::Config;

impl Resolver<'_> {
    /// A client of TURN that names no protocol, as browsers' do, is known by the name that it asks for
    /// alone.
    pub(super) fn check_told_names(&mut self, config: &Config) {
        let key = "web.names";
        let items = self.list(key).map_or(&[][..], |(items, _)| items);
        for item in items {
            let name = item.text.to_ascii_lowercase();
            let mut told = config.credentials.uris.iter();
            let remedy = "take it out of web.names, or give TURN a name of its own, with a certificate \
                          for it (credentials.uris can name it)";
            if let Some(uri) = told.find(|uri| tls_host_of(uri) == Some(&*name)) {
                let what = format!("{name} would lead browsers' TURN ({uri}) to the web server");
                self.refuse(&item.origin, key, what, remedy);
            } else if config.tls.acme.domains.contains(&name) {
                let what = format!(
                    "{name} is in tls.acme.domains too, and clients that ask for it get the web server"
                );
                let remedy =
                    "keep it in one of the two: the web server has certificates of its own";
                self.warn(&item.origin, key, what, remedy);
            }
        }
    }

    /// A server can speak TLS without anybody knowing where.
    pub(super) fn warn_of_untold_tls(&mut self, config: &Config) {
        let is_told = self
            .list("credentials.uris")
            .is_some_and(|(it, _)| !it.is_empty());
        if is_told || !config.tls.is_on() {
            return;
        }
        let Some(host) = config.tls_host() else {
            let names = config
                .tls
                .pairs
                .first()
                .map_or(&[][..], |pair| pair.names());
            // One without a name is told of as that.
            let (Some(name), Some(item)) = (names.first(), self.filled("tls.cert")) else {
                return;
            };
            let what = format!(
                "is for {name}, which is no name to connect to, and the realm is none of its names: clients \
                 are told of no turns: URI"
            );
            let remedy = "set realm to the name of this server, or credentials.uris to what clients shall \
                          use";
            return self.warn(&item.origin, "tls.cert", what, remedy);
        };
        if let Some((items, origin)) = self.list("listen.tls")
            && !items.is_empty()
            && config.tls_ports().is_empty()
        {
            let what = "is on loopback alone, for a proxy whose port is not known here: clients are told \
                        of no turns: URI";
            let remedy = format!(
                "set credentials.uris to what clients shall use, with e.g. \
                 \"turns:{host}:443?transport=tcp\""
            );
            self.warn(origin, "listen.tls", what, remedy);
        }
    }
}

/// The host of a URI for TLS.
fn tls_host_of(uri: &str) -> Option<&str> {
    let rest = uri
        .strip_prefix("turns:")
        .or_else(|| uri.strip_prefix("stuns:"))?;
    rest.split([':', '?']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_uris() {
        for (uri, host) in [
            (
                "turns:turn.example.org:443?transport=tcp",
                Some("turn.example.org"),
            ),
            (
                "turns:turn.example.org?transport=tcp",
                Some("turn.example.org"),
            ),
            ("stuns:turn.example.org", Some("turn.example.org")),
            ("turn:turn.example.org:3478", None),
        ] {
            assert_eq!(tls_host_of(uri), host, "{uri}");
        }
    }
}
