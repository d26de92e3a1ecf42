//! ChannelBind (RFC 8656 §12.2).

use super::super::channel::BindError;
use super::super::event::Event;
use super::super::reject::Reject;
use super::super::server::Server;
use super::{Exchange, Handled, check_client, read_peer};
use crate::auth::Identity;
use crate::wire::{AttributeType, decode_channel_number};

impl Server {
    /// Binds a channel to a peer's transport address, or refreshes the binding, and installs the
    /// peer's permission with it.
    pub(super) fn handle_channel_bind(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        let now = exchange.now.time;
        let id = self.owned_allocation(exchange, identity)?.id;
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
        let peer = read_peer(exchange.message, peer)?;
        let reach = self.judge_peer(exchange, identity, id, peer)?;
        if peer.port() == 0 {
            return Err(Reject::Malformed(AttributeType::XOR_PEER_ADDRESS));
        }
        // A refresh is not refused because the peer, another client of this server, has left: browsers
        // would give up the pair, and packets are checked anyway.
        let allocation = self.table.get(id).expect("it was there a moment ago");
        let checked = if allocation.channels.peer(now, number) == Some(peer) {
            self.peer_gate().check_again(peer)
        } else {
            self.peer_gate().check(peer)
        };
        checked.map_err(|refusal| self.peer_refused(exchange, identity, peer, refusal))?;

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
            .install(
                now,
                &[(peer.ip(), reach)],
                limits.permissions_per_allocation,
            )
            .map_err(|_| Reject::AllocationFull)?;
        allocation.usage.peers = allocation.usage.peers.saturating_add(added);
        allocation.channels.bind(now, number, peer, reach);

        self.report(Event::ChannelBound { id, number, peer });
        self.succeed(exchange, identity, |_| {});
        Ok(())
    }
}
