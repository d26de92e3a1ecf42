//! CreatePermission (RFC 8656 §10.2).

use std::net::IpAddr;

use super::super::event::Event;
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled};
use crate::auth::Identity;
use crate::wire::AttributeType;

impl Server {
    /// Installs or refreshes the permission of every address in the request, or of none.
    pub(super) fn handle_create_permission(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        let now = exchange.now.time;
        let id = self.owned_allocation(exchange, identity)?.id;

        let mut ips: Vec<IpAddr> = Vec::new();
        for value in exchange.message.all(AttributeType::XOR_PEER_ADDRESS) {
            let peer = self.read_peer(exchange, identity, id, value)?;
            ips.push(peer.ip());
        }
        if ips.is_empty() {
            return Err(Reject::Missing(AttributeType::XOR_PEER_ADDRESS));
        }
        let max = self.options.limits.permissions_per_allocation;
        let allocation = self.table.get_mut(id).expect("it was there a moment ago");
        let added = allocation
            .permissions
            .install(now, &ips, max)
            .map_err(|_| Reject::AllocationFull)?;
        allocation.usage.peers = allocation.usage.peers.saturating_add(added);

        self.report(Event::PermissionsInstalled { id, peers: ips });
        self.succeed(exchange, identity, |_| {});
        Ok(())
    }
}
