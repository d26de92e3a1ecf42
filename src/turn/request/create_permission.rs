//! CreatePermission (RFC 8656 §10.2).

use std::net::IpAddr;

use super::super::event::Event;
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled};
use crate::auth::Identity;
use crate::wire::{AttributeType, Family};

impl Server {
    /// Installs or refreshes the permission of every address in the request, or of none.
    pub(super) fn handle_create_permission(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        let now = exchange.now.time;
        let allocation = self.owned_allocation(exchange, identity)?;
        let id = allocation.id;
        let families =
            [Family::V4, Family::V6].map(|family| allocation.live_relay(now, family).is_some());

        let mut ips: Vec<IpAddr> = Vec::new();
        for value in exchange.message.all(AttributeType::XOR_PEER_ADDRESS) {
            let peer = self.read_peer(exchange, identity, families, value)?;
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

        self.report(Event::PermissionsInstalled {
            id,
            count: ips.len() as u32,
        });
        self.succeed(exchange, identity, |_| {});
        Ok(())
    }
}
