//! CreatePermission (RFC 8656 §10.2).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::event::Event;
use super::super::peer_policy::Reach;
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled, read_peer};
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

        let max = self.options.limits.permissions_per_allocation;
        let mut peers: Vec<(IpAddr, Reach)> = Vec::new();
        let mut seen = BTreeSet::new();
        for value in exchange.message.all(AttributeType::XOR_PEER_ADDRESS) {
            let peer = read_peer(exchange.message, value)?;
            // A message holds thousands of addresses, and each question goes through all rules.
            if !seen.insert(peer.ip()) {
                continue;
            }
            if seen.len() > max as usize {
                return Err(Reject::AllocationFull);
            }
            let reach = self.judge_peer(exchange, identity, id, peer)?;
            peers.push((peer.ip(), reach));
        }
        if peers.is_empty() {
            return Err(Reject::Missing(AttributeType::XOR_PEER_ADDRESS));
        }
        let allocation = self.table.get_mut(id).expect("it was there a moment ago");
        let added = allocation
            .permissions
            .install(now, &peers, max)
            .map_err(|_| Reject::AllocationFull)?;
        allocation.usage.peers = allocation.usage.peers.saturating_add(added);

        let peers = peers.into_iter().map(|(ip, _)| ip).collect();
        self.report(Event::PermissionsInstalled { id, peers });
        self.succeed(exchange, identity, |_| {});
        Ok(())
    }
}
