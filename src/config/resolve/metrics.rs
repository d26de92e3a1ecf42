//! `[metrics]`: where the server is watched.

use super::Resolver;
use crate::config::{Metrics, defaults};

impl Resolver<'_> {
    pub(super) fn metrics(&mut self) -> Metrics {
        let key = "metrics.listen";
        let Some(item) = self.text(key) else {
            let address = defaults::METRICS_LISTEN.parse();
            return Metrics {
                listen: Some(address.expect("the built-in address is one")),
                is_default: true,
            };
        };
        // Whoever reaches the page can read it.
        let listen = self.http_address(key, item, defaults::METRICS_LISTEN, |address| {
            let what = format!("{address} can be read by others, without a password");
            let remedy = "let only your monitoring reach the port, by the firewall";
            Some((what, remedy))
        });
        Metrics {
            listen,
            is_default: false,
        }
    }
}
