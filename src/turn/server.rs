//! The state of one shard and the contract with its host.

use std::collections::VecDeque;
use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::action::{Action, Forward};
use super::allocation::{Allocation, Relay};
use super::allocation_view::AllocationView;
use super::bandwidth::Way;
use super::client::{Client, FiveTuple};
use super::client_policy::{ClientPolicy, ClientRefusal};
use super::counters::{Counters, DropCause};
use super::event::{AllocationId, CloseReason, Event, RelayId};
use super::failure_limit::FailureLimit;
use super::limits::Limits;
use super::peer_policy::{PeerGate, PeerPolicy};
use super::port_pool::{PortLease, PortPool};
use super::quota::Quota;
use super::reply_limit::ReplyLimit;
use super::reservation::{ReservationToken, Reservations};
use super::source::SourcePrefix;
use super::table::Table;
use super::time::{Now, Time};
use super::timer::{Deadlines, UNSCHEDULED, second_of};
use super::{IcmpLimit, IpHeader};
use crate::auth::{Authenticator, Revocations};
use crate::wire::{AttributeType, ErrorCode, Family, Method, PacketKind, classify};

/// What the operator decided. Shared by the shards, replaced as a whole.
#[derive(Clone, Debug)]
pub struct Options {
    /// From where it may be used.
    pub clients: ClientPolicy,
    /// Who may use the server.
    pub authenticator: Authenticator,
    /// How much of it.
    pub limits: Limits,
    /// Whom they may talk to.
    pub peers: PeerPolicy,
    /// SOFTWARE in replies to authenticated Allocate and Refresh requests.
    pub software: Option<Box<str>>,
    /// Answer Binding requests of RFC 3489 over UDP.
    pub classic_stun: bool,
    /// Relay Send indications with DONT-FRAGMENT (RFC 8656 §14). Otherwise the attribute is unknown.
    pub dont_fragment: bool,
}

impl Options {
    /// Whether the server knows a comprehension-required attribute, or need not.
    pub(super) fn understands(&self, attribute: AttributeType) -> bool {
        match attribute {
            AttributeType::ACCESS_TOKEN => false,
            AttributeType::DONT_FRAGMENT => self.dont_fragment,
            _ => !attribute.is_comprehension_required() || attribute.name().is_some(),
        }
    }
}

/// What the shards of a server have in common. None of it is touched by a packet, but for reading
/// the port bitmap. The bandwidth of users is shared too, behind what their allocations hold.
#[derive(Debug)]
pub struct Shared {
    /// The relay ports.
    pub ports: PortPool,
    /// The counts of allocations, and the bandwidth of users.
    pub quota: Quota,
    /// The ports held for tokens.
    pub reservations: Reservations,
}

impl Shared {
    /// The common state of a server that has no allocations yet.
    pub fn new(ports: PortPool) -> Self {
        Self {
            ports,
            quota: Quota::default(),
            reservations: Reservations::default(),
        }
    }
}

/// One shard of a TURN server: every allocation of the five-tuples that its host brings to it.
///
/// It does no I/O. Its methods are of four kinds:
///
/// - getters;
/// - `handle_*`: something happened. A client's packet, a peer's packet, an ICMP error, a closed
///   connection, a bound or failed relay socket, time that passed. Packets that are to be relayed
///   come back as a plain routing decision; everything else is queued;
/// - plain verbs: the operator wants something;
/// - `poll_*`: what the host must now do ([`Action`]), what happened ([`Event`]), when to come back.
///
/// After every `handle_*` and every verb the host drains [`Server::poll_action`] before the next
/// one; events may wait. Time never goes back from one call to the next.
#[derive(Debug)]
pub struct Server {
    pub(super) options: Arc<Options>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) shared: Arc<Shared>,
    pub(super) table: Table,
    deadlines: Deadlines,
    /// Freed ports in the order in which their rest ends.
    resting: VecDeque<(Time, PortLease)>,
    /// Reservations in the order in which they end.
    pub(super) held: VecDeque<(Time, ReservationToken)>,
    pub(super) random: ChaCha12Rng,
    pub(super) icmp_limit: IcmpLimit,
    pub(super) reply_limit: ReplyLimit,
    pub(super) failure_limit: FailureLimit,
    actions: VecDeque<Action>,
    pub(super) events: VecDeque<Event>,
    pub(super) counters: Counters,
    pub(super) is_draining: bool,
}

impl Server {
    /// An empty shard. `seed` is 32 bytes from the system's random source: relay ports, tokens and
    /// transaction ids come from it.
    pub fn new(options: Arc<Options>, shared: Arc<Shared>, seed: [u8; 32]) -> Self {
        let mut random = ChaCha12Rng::from_seed(seed);
        Self {
            options,
            revocations: Arc::default(),
            shared,
            table: Table::default(),
            deadlines: Deadlines::default(),
            resting: VecDeque::new(),
            held: VecDeque::new(),
            reply_limit: ReplyLimit::new(&mut random),
            failure_limit: FailureLimit::new(&mut random),
            random,
            icmp_limit: IcmpLimit::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            is_draining: false,
        }
    }

    /// Allocations, pending ones included.
    pub fn allocations(&self) -> usize {
        self.table.len()
    }

    /// Whether a five-tuple has an allocation, pending ones included.
    pub fn has_allocation(&self, five_tuple: &FiveTuple) -> bool {
        self.table.find(five_tuple).is_some()
    }

    /// Entries of the timer: one for each allocation that is not pending.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// What was dropped so far, and why.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The network for which [`DropCause::ReplyLimit`] was counted last. Its address may be forged.
    pub const fn last_limited(&self) -> Option<SourcePrefix> {
        self.reply_limit.last_refused()
    }

    /// A look at every allocation, for invariants and for operators.
    pub fn inspect(&self, now: Time) -> impl Iterator<Item = AllocationView<'_>> {
        self.table
            .iter()
            .map(move |allocation| AllocationView::new(allocation, now))
    }

    /// A look at the allocations of so many places from `slot` on, for operators who go through all
    /// of them in steps. Also the place to go on from, until there is none.
    pub fn inspect_slots(
        &self,
        now: Time,
        slot: u32,
        places: u32,
    ) -> (impl Iterator<Item = AllocationView<'_>>, Option<u32>) {
        let end = slot.saturating_add(places);
        let views = self.table.range(slot..end);
        let views = views.map(move |allocation| AllocationView::new(allocation, now));
        (views, (end < self.table.slots()).then_some(end))
    }

    /// A look at one allocation.
    pub fn inspect_one(&self, now: Time, id: AllocationId) -> Option<AllocationView<'_>> {
        let allocation = self.table.get(id)?;
        Some(AllocationView::new(allocation, now))
    }

    /// A packet from a client: a datagram, or one frame of a stream. Data to be relayed comes back
    /// as a routing decision.
    pub fn handle_client(
        &mut self,
        now: Now,
        client: Client,
        ip: IpHeader,
        packet: &[u8],
    ) -> Option<Forward> {
        let routed = match classify(packet) {
            PacketKind::ChannelData => self.route_channel_data(now.time, &client, ip, packet),
            PacketKind::Stun => self.handle_stun(now, client, ip, packet),
            PacketKind::Dtls | PacketKind::Unknown => Err(DropCause::Malformed),
        };
        match routed {
            Ok(forward) => {
                if let Some(forward) = &forward {
                    let relayed = self.counters.relayed.at(&client.five_tuple);
                    relayed.count(Way::ToPeers, forward.payload.len());
                }
                forward
            }
            Err(cause) => {
                self.counters.count(cause);
                None
            }
        }
    }

    /// A client has connected. One that may not is to be disconnected at once.
    ///
    /// # Errors
    /// Which list is against it.
    pub fn handle_connect(&mut self, five_tuple: FiveTuple) -> Result<(), ClientRefusal> {
        let checked = self.check_client(five_tuple);
        if checked.is_err() {
            self.counters.count(DropCause::ClientRefused);
        }
        checked
    }

    /// Decides whether a client is served at all, and reports it if not.
    pub(super) fn check_client(&mut self, five_tuple: FiveTuple) -> Result<(), ClientRefusal> {
        let checked = self.options.clients.check(five_tuple.client.ip());
        if let Err(refusal) = checked {
            self.report(Event::ClientRefused {
                five_tuple,
                refusal,
            });
        }
        checked
    }

    /// The door of all peers.
    pub(super) fn peer_gate(&self) -> PeerGate<'_> {
        PeerGate::new(&self.options.peers, &self.shared.ports)
    }

    /// The client's connection is gone, and its allocation with it: the five-tuple cannot come
    /// back.
    pub fn handle_disconnect(&mut self, now: Time, five_tuple: &FiveTuple) {
        if let Some(allocation) = self.table.find(five_tuple) {
            let id = allocation.id;
            self.close(now, id, CloseReason::Disconnected);
        }
    }

    /// Time has passed: ends what is over. Wants to be called at [`Server::poll_timeout`], and may
    /// be called at any time.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(id) = self.deadlines.pop_due(now) {
            self.expire(now, id);
        }
        while let Some((_, lease)) = self.resting.pop_front_if(|(until, _)| *until <= now) {
            self.shared.ports.wake(lease);
        }
        while let Some((_, token)) = self.held.pop_front_if(|(until, _)| *until <= now) {
            self.cancel_reservation(token);
        }
    }

    /// From here on other options count. Allocations go on as they are: permissions and channels are
    /// judged by the new policy when they are installed or refreshed, limits when they are next
    /// asked. The server's own addresses among the peers are the host's to fill in.
    pub fn reconfigure(&mut self, options: Arc<Options>) {
        self.options = options;
    }

    /// From here on these credentials are refused, and no others. What lives is not ended.
    pub fn revoke(&mut self, revocations: Arc<Revocations>) {
        self.revocations = revocations;
    }

    /// Whether new allocations are refused with 403 while those that exist go on.
    pub const fn set_draining(&mut self, is_draining: bool) {
        self.is_draining = is_draining;
    }

    /// Whether they are refused.
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Ends one allocation; whether there was one.
    pub fn end(&mut self, now: Time, id: AllocationId, reason: CloseReason) -> bool {
        let exists = self.table.get(id).is_some();
        self.close(now, id, reason);
        exists
    }

    /// Ends every allocation.
    pub fn shut_down(&mut self, now: Time) {
        let ids: Vec<AllocationId> = self.table.iter().map(|allocation| allocation.id).collect();
        for id in ids {
            self.close(now, id, CloseReason::Shutdown);
        }
    }

    /// What the host must do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Server::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let resting = self.resting.front().map(|(until, _)| *until);
        let held = self.held.front().map(|(until, _)| *until);
        [self.deadlines.next_due(), resting, held]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Answers a request, with a success unless there is an error code.
    pub(super) fn reply(
        &mut self,
        to: Client,
        method: Method,
        error: Option<ErrorCode>,
        message: Vec<u8>,
    ) {
        self.counters.count_reply(method, error);
        self.act(Action::Reply { to, message });
    }

    pub(super) fn report(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn random_u64(&mut self) -> u64 {
        self.random.next_u64()
    }

    pub(super) fn random_bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Schedules the end of an allocation if it is nearer than the entry it has.
    pub(super) fn reschedule(&mut self, id: AllocationId) {
        let allocation = self.table.get_mut(id).expect("the caller just touched it");
        let Some(expiry) = allocation.next_expiry() else {
            return;
        };
        if second_of(expiry) < allocation.scheduled_s {
            self.deadlines.cancel(id, allocation.scheduled_s);
            allocation.scheduled_s = self.deadlines.schedule(id, expiry);
        }
    }

    /// The entry of an allocation fired: ends the families whose time is over, and comes back for
    /// what was refreshed.
    fn expire(&mut self, now: Time, id: AllocationId) {
        let Some(allocation) = self.table.get_mut(id) else {
            return;
        };
        allocation.scheduled_s = UNSCHEDULED;
        let over: Vec<Family> = allocation
            .families()
            .filter(|&family| {
                allocation
                    .relay(family)
                    .is_some_and(|relay| relay.expires <= now)
            })
            .collect();
        if over.len() == allocation.families().count() {
            self.close(now, id, CloseReason::Expired);
            return;
        }
        for family in over {
            self.close_relay(
                now,
                RelayId {
                    allocation: id,
                    family,
                },
            );
        }
        self.reschedule(id);
    }

    /// Ends an allocation and everything that belongs to it.
    pub(super) fn close(&mut self, now: Time, id: AllocationId, reason: CloseReason) {
        let Some(allocation) = self.table.get(id) else {
            return;
        };
        let was_pending = allocation.is_pending();
        let relayed = allocation.relayed(&self.shared.ports);
        for family in allocation.families() {
            self.close_relay(
                now,
                RelayId {
                    allocation: id,
                    family,
                },
            );
        }
        let allocation = self.table.remove(id).expect("it was there a moment ago");
        self.deadlines.cancel(id, allocation.scheduled_s);
        if let Some(token) = allocation.request.token {
            self.cancel_reservation(token);
        }
        self.release_quota(now, &allocation);
        if !was_pending {
            let five_tuple = &allocation.client.five_tuple;
            self.counters.count_closed(five_tuple, reason);
            self.report(Event::AllocationClosed {
                id,
                five_tuple: allocation.client.five_tuple,
                username: allocation.owner.username,
                relayed,
                reason,
                duration: now - allocation.created,
                usage: allocation.usage,
            });
        }
    }

    /// Counts an allocation that is gone no more.
    pub(super) fn release_quota(&self, now: Time, allocation: &Allocation) {
        let (user, client) = (&allocation.owner.user, allocation.client.five_tuple.client);
        let limits = &self.options.limits;
        self.shared.quota.release(user, client.ip(), limits, now);
    }

    /// Ends one family of an allocation; its port rests.
    pub(super) fn close_relay(&mut self, now: Time, relay: RelayId) {
        let Some(allocation) = self.table.get_mut(relay.allocation) else {
            return;
        };
        let Some(Relay { lease, .. }) = allocation.take_relay(relay.family) else {
            return;
        };
        self.act(Action::CloseRelay { relay });
        self.rest_port(now, lease);
    }

    pub(super) fn rest_port(&mut self, now: Time, lease: PortLease) {
        self.shared.ports.rest(lease);
        let until = now.plus_secs(self.options.limits.port_rest_s);
        self.resting.push_back((until, lease));
    }

    /// Frees the port of a token that nobody claimed.
    pub(super) fn cancel_reservation(&self, token: ReservationToken) {
        if let Some(lease) = self.shared.reservations.cancel(token) {
            self.shared.ports.release(lease);
        }
    }
}
