//! `[metrics]`: where the server is watched.

use std::net::SocketAddr;

use super::Resolver;
use crate::config::document::Item;
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
        let mut listen = None;
        if !item.text.is_empty() {
            match item.text.parse::<SocketAddr>() {
                Ok(address) => {
                    self.check_metrics_address(item, address);
                    listen = Some(address);
                }
                Err(_) => {
                    let what = format!("{:?} is not an address with a port", *item.text);
                    let remedy = "write an address like \"127.0.0.1:9641\", or \"\" for no metrics";
                    self.refuse(&item.origin, key, what, remedy);
                }
            }
        }
        Metrics {
            listen,
            is_default: false,
        }
    }

    /// Whoever reaches the page can read it.
    fn check_metrics_address(&mut self, item: &Item, address: SocketAddr) {
        let key = "metrics.listen";
        let ip = address.ip();
        if !ip.is_unspecified() && !(self.host.bindable)(ip) {
            let what = format!("{address} is not an address of this machine");
            let remedy = "write an address that \"ip addr\" shows, or 127.0.0.1";
            self.refuse(&item.origin, key, what, remedy);
        } else if !ip.is_loopback() {
            let what = format!("{address} can be read by others, without a password");
            let remedy = "let only your monitoring reach the port, by the firewall";
            self.warn(&item.origin, key, what, remedy);
        }
    }
}
