//! What clients are told of TLS.

use super::Resolver;
use crate::config::Config;

impl Resolver<'_> {
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
