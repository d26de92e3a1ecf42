//! Allocate (RFC 8656 §7.2).
//!
//! The checks come in the RFC's order. Then ports are leased and the host is asked to bind their
//! sockets; the success response waits until every one of them is bound, or has failed.

use std::net::IpAddr;
use std::sync::Arc;

use super::super::action::{Action, RelayFailure};
use super::super::allocation::{AllocateRequest, Allocation, Relay};
use super::super::bandwidth::UserBandwidth;
use super::super::client::Transport;
use super::super::event::{AllocationId, CloseReason, Event, RelayId};
use super::super::limits::BIND_ATTEMPTS_MAX;
use super::super::port_pool::{Parity, PortLease, PortPool};
use super::super::reject::Reject;
use super::super::reservation::ReservationToken;
use super::super::server::Server;
use super::super::time::Now;
use super::{
    Exchange, Handled, Signature, build_reply, check_client, family, lifetime, write_software,
};
use crate::auth::Identity;
use crate::wire::{
    AttributeType, BadAttribute, Class, ErrorCode, EvenPort, Family, Message, Method,
    RequestedTransport,
};

/// What a request wants, its attributes being well-formed and free of contradiction.
struct Wanted {
    /// One family, or IPv4 and IPv6.
    families: &'static [Family],
    parity: Parity,
    token: Option<ReservationToken>,
    lifetime_s: u32,
}

impl Server {
    /// Makes an allocation.
    pub(super) fn handle_allocate(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> Handled {
        if self.replay_allocate(exchange, identity) {
            return Ok(());
        }
        if let Some(allocation) = self.table.find(&exchange.client.five_tuple) {
            if allocation.holds_five_tuple(exchange.now.time) {
                return Err(Reject::FiveTupleInUse);
            }
            let id = allocation.id;
            self.close(exchange.now.time, id, CloseReason::Expired);
        }
        if self.is_draining {
            return Err(Reject::Draining);
        }
        check_client(&exchange.client)?;
        let wanted = self.read_allocate(exchange.message, exchange.client.five_tuple.transport)?;
        let (ip, now) = (exchange.client.five_tuple.client.ip(), exchange.now.time);
        let (quota, limits) = (&self.shared.quota, &self.options.limits);
        let bandwidth = quota.acquire(&identity.user, ip, limits, now)?;
        let leased = self.lease_ports(exchange, identity, &wanted, bandwidth);
        if leased.is_err() {
            let (quota, limits) = (&self.shared.quota, &self.options.limits);
            quota.release(&identity.user, ip, limits, now);
        }
        leased
    }

    /// Answers the retransmission of a request that made an allocation: with the same success, or
    /// with nothing while the first is being worked on. False if it is no retransmission.
    pub(super) fn replay_allocate(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
    ) -> bool {
        let Some(allocation) = self.table.find(&exchange.client.five_tuple) else {
            return false;
        };
        if exchange.method != Method::Allocate
            || allocation.request.transaction_id != exchange.message.transaction_id()
            || allocation.owner.username != identity.username
            || !allocation.holds_five_tuple(exchange.now.time)
        {
            return false;
        }
        if !allocation.is_pending() {
            let has_fingerprint = exchange.message.has_fingerprint();
            self.send_allocate_success(exchange.now, allocation.id, has_fingerprint);
        }
        true
    }

    /// Checks 3 to 9.
    fn read_allocate(&self, message: &Message<'_>, via: Transport) -> Result<Wanted, Reject> {
        use AttributeType as A;
        let protocol = message
            .first(A::REQUESTED_TRANSPORT)
            .ok_or(Reject::Missing(A::REQUESTED_TRANSPORT))?;
        let protocol = read(A::REQUESTED_TRANSPORT, RequestedTransport::decode(protocol))?;
        if protocol == RequestedTransport::TCP && via == Transport::Dtls {
            // That it never is, whatever is built (RFC 7350 §4.6).
            return Err(Reject::Malformed(A::REQUESTED_TRANSPORT));
        }
        if protocol != RequestedTransport::UDP {
            return Err(Reject::UnsupportedTransport(protocol.0));
        }

        let even_port = message
            .first(A::EVEN_PORT)
            .map(EvenPort::decode)
            .transpose();
        let even_port = read(A::EVEN_PORT, even_port)?;
        let requested = family(message, A::REQUESTED_ADDRESS_FAMILY)?;
        let additional = family(message, A::ADDITIONAL_ADDRESS_FAMILY)?;
        let token = message
            .first(A::RESERVATION_TOKEN)
            .map(<[u8; 8]>::try_from)
            .transpose();
        let token = read(A::RESERVATION_TOKEN, token.map_err(|_| BadAttribute))?;
        let lifetime_s = self.options.limits.lifetime_s(lifetime(message)?);

        if token.is_some() {
            let excluded = [
                (A::EVEN_PORT, even_port.is_some()),
                (A::REQUESTED_ADDRESS_FAMILY, requested.is_some()),
                (A::ADDITIONAL_ADDRESS_FAMILY, additional.is_some()),
            ];
            if let Some((other, _)) = excluded.into_iter().find(|(_, present)| *present) {
                return Err(Reject::Conflict(A::RESERVATION_TOKEN, other));
            }
        }
        if requested.is_some() && additional.is_some() {
            let (one, other) = (A::REQUESTED_ADDRESS_FAMILY, A::ADDITIONAL_ADDRESS_FAMILY);
            return Err(Reject::Conflict(one, other));
        }
        let families: &[Family] = match (requested, additional) {
            (_, Some(Some(Family::V6))) => &[Family::V4, Family::V6],
            (_, Some(_)) => return Err(Reject::Malformed(A::ADDITIONAL_ADDRESS_FAMILY)),
            (Some(None), None) => return Err(Reject::UnsupportedFamily),
            (Some(Some(Family::V6)), None) => &[Family::V6],
            (Some(Some(Family::V4)) | None, None) => &[Family::V4],
        };
        if let ([family], None) = (families, token)
            && !self.shared.ports.supports(*family)
        {
            return Err(Reject::UnsupportedFamily);
        }
        let parity = match even_port {
            None => Parity::Any,
            Some(EvenPort {
                reserve_next: false,
            }) => Parity::Even,
            Some(EvenPort { reserve_next: true }) => Parity::EvenPair,
        };
        if parity == Parity::EvenPair && additional.is_some() {
            return Err(Reject::Conflict(A::EVEN_PORT, A::ADDITIONAL_ADDRESS_FAMILY));
        }
        Ok(Wanted {
            families,
            parity,
            token,
            lifetime_s,
        })
    }

    /// Leases a port for each family, and asks the host for the sockets. Of two families one may
    /// be missing.
    fn lease_ports(
        &mut self,
        exchange: &Exchange<'_, '_>,
        identity: &Identity,
        wanted: &Wanted,
        bandwidth: Arc<UserBandwidth>,
    ) -> Handled {
        let preferred = exchange.client.five_tuple.server.ip();
        let mut leases: Vec<(Family, PortLease)> = Vec::new();
        let mut missing = None;
        if let Some(token) = wanted.token {
            let claimed = self
                .shared
                .reservations
                .claim(token, &identity.user, exchange.now.time);
            let lease = claimed.ok_or(Reject::NoReservation)?;
            leases.push((Family::of(self.shared.ports.bound(lease).ip()), lease));
        } else {
            for &family in wanted.families {
                match self.lease_port(family, wanted.parity, preferred) {
                    Ok(lease) => leases.push((family, lease)),
                    Err(reject) => missing = Some((family, reject.code())),
                }
            }
        }
        let token = match (wanted.parity, leases.first()) {
            (_, None) => return Err(Reject::NoPort),
            (Parity::EvenPair, Some(&(_, lease))) => {
                Some(self.reserve(exchange.now, &identity.user, lease))
            }
            _ => None,
        };
        let request = AllocateRequest {
            transaction_id: exchange.message.transaction_id(),
            has_fingerprint: exchange.message.has_fingerprint(),
            lifetime_s: wanted.lifetime_s,
            parity: wanted.parity,
            token,
            missing,
        };
        let mut allocation = Allocation::new(
            exchange.client,
            identity.clone(),
            bandwidth,
            request,
            exchange.now.time,
        );
        let expires = exchange.now.time.plus_secs(wanted.lifetime_s);
        // Another port than the reserved one is of no use to whoever shows a token.
        let attempts = if wanted.token.is_some() {
            BIND_ATTEMPTS_MAX
        } else {
            1
        };
        for &(family, lease) in &leases {
            allocation.set_relay(
                family,
                Relay {
                    lease,
                    expires,
                    attempts,
                },
            );
            allocation.unbound += 1;
        }
        let id = self.table.insert(allocation).id;
        for (family, lease) in leases {
            let address = self.shared.ports.bound(lease);
            self.act(Action::BindRelay {
                relay: RelayId {
                    allocation: id,
                    family,
                },
                address,
            });
        }
        Ok(())
    }

    fn lease_port(
        &mut self,
        family: Family,
        parity: Parity,
        preferred: IpAddr,
    ) -> Result<PortLease, Reject> {
        if !self.shared.ports.supports(family) {
            return Err(Reject::UnsupportedFamily);
        }
        let random = self.random_u64();
        self.shared
            .ports
            .acquire(family, parity, preferred, random)
            .ok_or(Reject::NoPort)
    }

    /// Holds the port above `lease` for whoever shows the token that this returns.
    fn reserve(&mut self, now: Now, user: &str, lease: PortLease) -> ReservationToken {
        let token = self.random_bytes();
        let expires = now.time.plus_secs(self.options.limits.reservation_s);
        self.shared
            .reservations
            .hold(token, user, PortPool::upper(lease), expires);
        self.held.push_back((expires, token));
        token
    }

    /// The host bound a relay socket.
    pub fn handle_relay_bound(&mut self, now: Now, relay: RelayId) {
        match self.table.get_mut(relay.allocation) {
            Some(allocation) if allocation.is_pending() => {
                if let Some(Relay { lease, .. }) = allocation.relay(relay.family) {
                    self.shared.ports.go_live(*lease);
                }
                allocation.unbound -= 1;
                self.complete_allocate(now, relay.allocation);
            }
            // The client went away meanwhile, and the socket was closed with its allocation.
            _ => {}
        }
    }

    /// The host could not bind a relay socket. Another port may do; if none does, the request ends
    /// with 508, or with the other family alone.
    pub fn handle_relay_failed(&mut self, now: Now, relay: RelayId, failure: RelayFailure) {
        let RelayId {
            allocation: id,
            family,
        } = relay;
        let Some(allocation) = self.table.get_mut(id) else {
            return;
        };
        let Some(failed) = allocation.take_relay(family) else {
            return;
        };
        let parity = allocation.request.parity;
        let preferred = allocation.client.five_tuple.server.ip();
        if let Some(token) = allocation.request.token.take() {
            self.cancel_reservation(token);
        }
        // Whoever has the port is likely to have it for a while.
        self.rest_port(now.time, failed.lease);

        let again = failure == RelayFailure::AddressInUse && failed.attempts < BIND_ATTEMPTS_MAX;
        if again && let Ok(lease) = self.lease_port(family, parity, preferred) {
            let attempts = failed.attempts + 1;
            self.retry_bind(
                now,
                relay,
                Relay {
                    lease,
                    attempts,
                    ..failed
                },
            );
            return;
        }
        let allocation = self.table.get_mut(id).expect("it was there a moment ago");
        allocation.unbound -= 1;
        allocation.request.missing = Some((family, ErrorCode::InsufficientCapacity));
        self.complete_allocate(now, id);
    }

    /// Asks for the socket of another port in the place of one that failed.
    fn retry_bind(&mut self, now: Now, id: RelayId, relay: Relay) {
        let address = self.shared.ports.bound(relay.lease);
        let allocation = self
            .table
            .get(id.allocation)
            .expect("it was there a moment ago");
        let token = if allocation.request.parity == Parity::EvenPair {
            let user = allocation.owner.user.clone();
            Some(self.reserve(now, &user, relay.lease))
        } else {
            None
        };
        let allocation = self
            .table
            .get_mut(id.allocation)
            .expect("it was there a moment ago");
        allocation.request.token = token;
        allocation.set_relay(id.family, relay);
        self.act(Action::BindRelay { relay: id, address });
    }

    /// Answers the request once the host has reported on every socket.
    fn complete_allocate(&mut self, now: Now, id: AllocationId) {
        let allocation = self
            .table
            .get_mut(id)
            .expect("the host reports on what it was asked for");
        if allocation.is_pending() {
            return;
        }
        if allocation.next_expiry().is_none() {
            self.fail_allocate(now, id);
            return;
        }
        let expires = now.time.plus_secs(allocation.request.lifetime_s);
        for family in [Family::V4, Family::V6] {
            if let Some(relay) = allocation.relay_mut(family) {
                relay.expires = expires;
            }
        }
        allocation.created = now.time;
        let event = Event::AllocationCreated {
            id,
            five_tuple: allocation.client.five_tuple,
            username: allocation.owner.username.clone(),
            relayed: allocation.relayed(&self.shared.ports),
            lifetime_s: allocation.request.lifetime_s,
        };
        let has_fingerprint = allocation.request.has_fingerprint;
        self.counters.count_created(&allocation.client.five_tuple);
        self.report(event);
        self.reschedule(id);
        self.send_allocate_success(now, id, has_fingerprint);
    }

    /// The success response, or its repetition with the lifetime that is left.
    fn send_allocate_success(&mut self, now: Now, id: AllocationId, has_fingerprint: bool) {
        let Some(allocation) = self.table.get(id) else {
            return;
        };
        let AllocateRequest {
            transaction_id,
            token,
            missing,
            ..
        } = allocation.request;
        let relays: Vec<&Relay> = allocation.live_relays(now.time).collect();
        let expires = relays.iter().map(|relay| relay.expires).min();
        let remaining_s = expires.map_or(0, |expires| expires.secs_after(now.time));
        let client = allocation.client;
        let (class, method) = (Class::Success, Method::Allocate);
        let message = build_reply(class, method, transaction_id, has_fingerprint, |builder| {
            for relay in relays {
                let address = self.shared.ports.advertised(relay.lease);
                builder.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address);
            }
            builder.u32(AttributeType::LIFETIME, remaining_s);
            builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, client.five_tuple.client);
            if let Some(token) = token {
                builder.attribute(AttributeType::RESERVATION_TOKEN, &token);
            }
            if let Some((family, code)) = missing {
                builder.address_error_code(family, code);
            }
            write_software(builder, self.software(method));
            Some(Signature::of(&allocation.owner))
        });
        self.reply(client, method, None, message);
    }

    /// No socket could be had: 508, and nothing is left of the allocation.
    fn fail_allocate(&mut self, now: Now, id: AllocationId) {
        let allocation = self.table.remove(id).expect("it was there a moment ago");
        self.release_quota(now.time, &allocation);
        let AllocateRequest {
            transaction_id,
            has_fingerprint,
            ..
        } = allocation.request;
        let reject = Reject::NoPort;
        let (class, method) = (Class::Error, Method::Allocate);
        let message = build_reply(class, method, transaction_id, has_fingerprint, |builder| {
            builder.error_code(reject.code(), reject.code().phrase());
            write_software(builder, self.software(method));
            Some(Signature::of(&allocation.owner))
        });
        self.counters.count_refusal(&reject);
        self.reply(allocation.client, method, Some(reject.code()), message);
        self.report(Event::RequestRefused {
            five_tuple: allocation.client.five_tuple,
            method,
            username: Some(allocation.owner.username),
            from_there: true,
            reject,
        });
    }
}

fn read<T>(attribute: AttributeType, value: Result<T, BadAttribute>) -> Result<T, Reject> {
    value.map_err(|_| Reject::Malformed(attribute))
}
