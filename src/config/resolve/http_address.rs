//! Where HTTP is served: an address of this machine, or nowhere.

use std::net::SocketAddr;

use super::Resolver;
use crate::config::document::Item;

impl Resolver<'_> {
    /// The address that is written; `None` for the empty text, and for what is refused. `usual` is what
    /// a remedy names. Of an address that others reach, `exposed` says what that means and what to do.
    pub(super) fn http_address(
        &mut self,
        key: &str,
        item: &Item,
        usual: &str,
        exposed: impl Fn(SocketAddr) -> Option<(String, &'static str)>,
    ) -> Option<SocketAddr> {
        if item.text.is_empty() {
            return None;
        }
        let Ok(address) = item.text.parse::<SocketAddr>() else {
            let what = format!("{:?} is not an address with a port", *item.text);
            let remedy = format!("write an address like {usual:?}, or \"\" for none");
            self.refuse(&item.origin, key, what, remedy);
            return None;
        };
        let ip = address.ip();
        if !ip.is_unspecified() && !(self.host.bindable)(ip) {
            let what = format!("{address} is not an address of this machine");
            let remedy = "write an address that \"ip addr\" shows, or 127.0.0.1";
            self.refuse(&item.origin, key, what, remedy);
            return None;
        }
        if let Some((what, remedy)) = exposed(address).filter(|_| !ip.is_loopback()) {
            self.warn(&item.origin, key, what, remedy);
        }
        Some(address)
    }
}
