//! One allocation (RFC 8656 §3.2, §6).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::bandwidth::{Bandwidth, BandwidthLimit, UserBandwidth, Way, wire_len};
use super::channel::Channels;
use super::client::Client;
use super::counters::DropCause;
use super::event::{AllocationId, Event, Usage};
use super::limits::Limits;
use super::permission::Permissions;
use super::port_pool::{Parity, PortLease, PortPool};
use super::reservation::ReservationToken;
use super::time::Time;
use super::timer::UNSCHEDULED;
use crate::auth::{Identity, KnownUser};
use crate::wire::{ErrorCode, Family, TransactionId};

/// What a client holds: one or two relayed transport addresses, and who may talk through them.
#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) id: AllocationId,
    pub(super) client: Client,
    /// Who made it, with the key that all its requests are checked with. Never the password.
    pub(super) owner: Identity,
    /// The Allocate request, which is answered once the sockets are bound and whenever it is
    /// retransmitted.
    pub(super) request: AllocateRequest,
    /// Sockets that the host has not reported on. While there are any, the allocation is pending.
    pub(super) unbound: u8,
    relays: [Option<Relay>; 2],
    pub(super) created: Time,
    /// When it last relayed something, either way.
    pub(super) last_relayed: Time,
    /// The second of its entry among the deadlines.
    pub(super) scheduled_s: u64,
    pub(super) permissions: Permissions,
    pub(super) channels: Channels,
    bandwidth: Bandwidth,
    pub(super) usage: Usage,
}

/// What the answer to an Allocate request takes from the request.
#[derive(Debug)]
pub(super) struct AllocateRequest {
    pub(super) transaction_id: TransactionId,
    pub(super) has_fingerprint: bool,
    pub(super) lifetime_s: u32,
    pub(super) parity: Parity,
    /// The token of the port above, where EVEN-PORT reserved it.
    pub(super) token: Option<ReservationToken>,
    /// The family of an ADDITIONAL-ADDRESS-FAMILY request that could not be had.
    pub(super) missing: Option<(Family, ErrorCode)>,
}

/// One relayed transport address.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) lease: PortLease,
    pub(super) expires: Time,
    /// Ports tried so far, this one included.
    pub(super) attempts: u8,
}

impl Allocation {
    pub(super) fn new(
        client: Client,
        owner: Identity,
        user_bandwidth: Arc<UserBandwidth>,
        request: AllocateRequest,
        now: Time,
    ) -> Self {
        Self {
            id: AllocationId {
                slot: 0,
                generation: 0,
            },
            client,
            owner,
            request,
            unbound: 0,
            relays: [None, None],
            created: now,
            last_relayed: now,
            scheduled_s: UNSCHEDULED,
            permissions: Permissions::default(),
            channels: Channels::default(),
            bandwidth: Bandwidth::new(user_bandwidth),
            usage: Usage::default(),
        }
    }

    pub(super) const fn is_pending(&self) -> bool {
        self.unbound > 0
    }

    /// Whether any of its relayed addresses is in use.
    pub(super) fn is_live(&self, now: Time) -> bool {
        self.live_families(now).next().is_some()
    }

    /// Whether it is in the way of another allocation on its five-tuple. An allocation whose time
    /// is over is not, although the timer that removes it comes up to a second later.
    pub(super) fn holds_five_tuple(&self, now: Time) -> bool {
        self.is_pending() || self.is_live(now)
    }

    /// For checking a request against the allocation's own key.
    pub(super) fn known_user(&self) -> KnownUser<'_> {
        let Identity {
            username,
            user,
            realm,
            key,
            ..
        } = &self.owner;
        KnownUser {
            username,
            user,
            realm: *realm,
            key,
        }
    }

    /// The relayed address of a family, unless its time is over.
    pub(super) fn live_relay(&self, now: Time, family: Family) -> Option<&Relay> {
        self.relay(family)
            .filter(|relay| relay.expires > now && !self.is_pending())
    }

    pub(super) const fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays[index(family)].as_ref()
    }

    pub(super) const fn relay_mut(&mut self, family: Family) -> Option<&mut Relay> {
        self.relays[index(family)].as_mut()
    }

    pub(super) const fn set_relay(&mut self, family: Family, relay: Relay) {
        self.relays[index(family)] = Some(relay);
    }

    /// Takes a family out of the allocation, with its permissions and channels.
    pub(super) fn take_relay(&mut self, family: Family) -> Option<Relay> {
        let relay = self.relays[index(family)].take()?;
        self.permissions.remove_family(family);
        self.channels.remove_family(family);
        Some(relay)
    }

    /// The families it has, IPv4 first.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> + use<> {
        let has = [self.relays[0].is_some(), self.relays[1].is_some()];
        [Family::V4, Family::V6]
            .into_iter()
            .filter(move |&family| has[index(family)])
    }

    /// The families whose time is not over, IPv4 first.
    pub(super) fn live_families(&self, now: Time) -> impl Iterator<Item = Family> + use<> {
        let live =
            [Family::V4, Family::V6].map(|family| self.live_relay(now, family).map(|_| family));
        live.into_iter().flatten()
    }

    /// The relayed addresses whose time is not over, IPv4 first.
    pub(super) fn live_relays(&self, now: Time) -> impl Iterator<Item = &Relay> {
        self.live_families(now)
            .filter_map(move |family| self.relay(family))
    }

    /// When the first of its relayed addresses ends.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.relays
            .iter()
            .flatten()
            .map(|relay| relay.expires)
            .min()
    }

    /// Takes a datagram to or from a peer of a family into the books, unless it is beyond a limit
    /// of bandwidth. The first one that is of each way is an event.
    pub(super) fn charge(
        &mut self,
        limits: &Limits,
        events: &mut VecDeque<Event>,
        now: Time,
        (way, peer): (Way, Family),
        payload: usize,
    ) -> Result<(), DropCause> {
        let charged = self
            .bandwidth
            .charge(limits, now, way, wire_len(peer, payload));
        let Err(limit) = charged else {
            return Ok(());
        };
        let limited = match way {
            Way::ToPeers => &mut self.usage.limited_to_peers,
            Way::ToClient => &mut self.usage.limited_to_client,
        };
        *limited += 1;
        if *limited == 1 {
            events.push_back(Event::BandwidthExceeded {
                id: self.id,
                five_tuple: self.client.five_tuple,
                username: self.owner.username.clone(),
                way,
                limit,
            });
        }
        Err(match limit {
            BandwidthLimit::Allocation => DropCause::AllocationBandwidth,
            BandwidthLimit::User => DropCause::UserBandwidth,
        })
    }

    /// What clients are told.
    pub(super) fn relayed(&self, ports: &PortPool) -> [Option<SocketAddr>; 2] {
        self.relays
            .each_ref()
            .map(|relay| Some(ports.advertised(relay.as_ref()?.lease)))
    }
}

const fn index(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}
