//! ChannelBind (RFC 8656 §12.2).

use super::super::channel::BindError;
use super::super::event::Event;
use super::super::peer_policy::PeerRefusal;
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled, check_client};
use crate::auth::Identity;
use crate::wire::{AttributeType, Family, decode_channel_number};

impl Server {
    /// Binds a channel to a peer's transport address, or refreshes the binding, and installs the
    /// peer's permission with it.
    pub(super) fn handle_channel_bind(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        let now = exchange.now.time;
        let allocation = self.owned_allocation(exchange, identity)?;
        let id = allocation.id;
        let families =
            [Family::V4, Family::V6].map(|family| allocation.live_relay(now, family).is_some());
        check_client(&exchange.client)?;

        let number = exchange
            .message
            .first(AttributeType::CHANNEL_NUMBER)
            .ok_or(Reject::Missing(AttributeType::CHANNEL_NUMBER))?;
        let number = decode_channel_number(number)
            .map_err(|_| Reject::Malformed(AttributeType::CHANNEL_NUMBER))?;
        let peer = exchange
            .message
            .first(AttributeType::XOR_PEER_ADDRESS)
            .ok_or(Reject::Missing(AttributeType::XOR_PEER_ADDRESS))?;
        let peer = self.read_peer(exchange, identity, families, peer)?;
        if peer.port() == 0 {
            return Err(Reject::Malformed(AttributeType::XOR_PEER_ADDRESS));
        }
        let ports = &self.shared.ports;
        if ports.is_relay_ip(peer.ip()) && !ports.is_live(peer) {
            return Err(self.peer_refused(exchange, identity, peer, PeerRefusal::OwnAddress));
        }

        let limits = &self.options.limits;
        let allocation = self.table.get_mut(id).expect("it was there a moment ago");
        let free = allocation
            .channels
            .check(now, number, peer, limits.channels_per_allocation);
        free.map_err(|error| match error {
            BindError::InUse => Reject::ChannelInUse,
            BindError::Full => Reject::AllocationFull,
        })?;
        let added = allocation
            .permissions
            .install(now, &[peer.ip()], limits.permissions_per_allocation)
            .map_err(|_| Reject::AllocationFull)?;
        allocation.usage.peers = allocation.usage.peers.saturating_add(added);
        allocation.channels.bind(now, number, peer);

        self.report(Event::ChannelBound { id, number, peer });
        self.succeed(exchange, identity, |_| {});
        Ok(())
    }
}
