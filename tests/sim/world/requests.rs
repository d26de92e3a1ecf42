//! What requests should lead to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use turnstone::turn::CloseReason;
use turnstone::wire::{Family, Method};

use super::intent::{Allocate, Ask, Fault, Request};
use super::lists::Verdict;
use super::model::{Allocation, Key, Model, Ports, Relay, Reservation};
use crate::host::UNIX_ORIGIN_S;

/// What the answer to a request should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing, for now or at all.
    Silence,
    /// An error without integrity.
    Unsigned(u16),
    /// An error with the requester's integrity.
    Error(u16),
    /// A success.
    Success,
    /// The success of an earlier Allocate request again.
    Again,
}

/// What a request should lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    /// Families that sockets should be asked for.
    pub(crate) binds: Vec<Family>,
}

impl Outcome {
    const fn answer(answer: Answer) -> Self {
        let binds = Vec::new();
        Self { answer, binds }
    }
}

/// The part of a user name that does not change; the time when it ends.
pub(crate) fn user_and_end(username: &str) -> (String, Option<u64>) {
    match username.split_once(':') {
        Some((end, user)) => (user.into(), end.parse().ok()),
        None => (username.into(), None),
    }
}

impl Model {
    pub(crate) fn request(&mut self, key: Key, request: &Request) -> Outcome {
        match self.judge(key, request) {
            Ok(outcome) => outcome,
            Err(answer) => Outcome::answer(answer),
        }
    }

    fn judge(&mut self, key: Key, request: &Request) -> Result<Outcome, Answer> {
        let is_allocate = request.ask.method() == Method::Allocate;
        self.authenticate(key, request, is_allocate)?;
        if request.has_unknown {
            return Err(Answer::Error(420));
        }
        if let Ask::Allocate(allocate) = &request.ask {
            return self.allocate(key, request, allocate);
        }
        let now = self.now;
        let allocation = self.allocations.get(&key).filter(|it| it.is_live(now));
        let allocation = allocation.ok_or(Answer::Error(437))?;
        if allocation.account.username != request.account.username {
            return Err(Answer::Error(441));
        }
        match &request.ask {
            Ask::Allocate(_) => {}
            Ask::Refresh { lifetime, family } => self.refresh(key, *lifetime, *family)?,
            Ask::Permit(peers) => self.permit(key, peers)?,
            Ask::Bind { number, peer } => self.bind(key, *number, *peer)?,
        }
        Ok(Outcome::answer(Answer::Success))
    }

    fn authenticate(
        &mut self,
        key: Key,
        request: &Request,
        is_allocate: bool,
    ) -> Result<(), Answer> {
        // A request without credentials has no nonce either.
        let has_nonce = request.fault != Some(Fault::None);
        let made = self.nonces.get(&request.nonce);
        let made = made.filter(|it| has_nonce && it.0 == key.1).map(|it| it.1);
        let is_current =
            made.is_some_and(|made| self.unix_s - made <= u64::from(self.nonce_lifetime_s));
        let code = match (request.fault, made) {
            (Some(Fault::None), _) => Some(401),
            (Some(Fault::Incomplete), _) => Some(400),
            (_, None) => Some(438),
            (Some(Fault::Algorithm), _) => Some(400),
            (Some(Fault::Realm), _) => Some(401),
            (Some(Fault::Password) | None, _) => None,
        };
        if let Some(code) = code {
            return Err(self.unsigned(key, is_current, code));
        }
        if !self.try_password(key, request) {
            return Err(match self.unsigned(key, is_current, 401) {
                Answer::Silence => Answer::Silence,
                answer => self.failure(key, answer),
            });
        }
        let (_, end) = user_and_end(&request.account.username);
        let holder = self.holder(key).filter(|it| {
            it.account == request.account && it.scheme.password() == request.scheme.password()
        });
        if is_allocate && holder.is_none() && end.is_some_and(|end| end < self.unix_s) {
            return Err(self.unsigned(key, is_current, 401));
        }
        if !is_current {
            self.repetition(key, request)?;
            return Err(self.unsigned(key, is_current, 438));
        }
        Ok(())
    }

    /// An error for somebody who has not proven who he is, but perhaps where.
    fn unsigned(&mut self, key: Key, is_proven: bool, code: u16) -> Answer {
        let answer = Answer::Unsigned(code);
        if is_proven {
            answer
        } else {
            self.stranger(key, answer)
        }
    }

    /// The allocation that is in the way of another one.
    pub(crate) fn holder(&self, key: Key) -> Option<&Allocation> {
        self.allocations
            .get(&key)
            .filter(|it| it.is_pending() || it.is_live(self.now))
    }

    /// Answers a repeated Allocate request.
    fn repetition(&self, key: Key, request: &Request) -> Result<(), Answer> {
        let is_allocate = request.ask.method() == Method::Allocate;
        match self.holder(key) {
            Some(it) if is_allocate && it.id == request.id && it.account == request.account => {
                Err(if it.is_pending() {
                    Answer::Silence
                } else {
                    Answer::Again
                })
            }
            _ => Ok(()),
        }
    }

    fn allocate(
        &mut self,
        key: Key,
        request: &Request,
        allocate: &Allocate,
    ) -> Result<Outcome, Answer> {
        self.repetition(key, request)?;
        if self.holder(key).is_some() {
            return Err(Answer::Error(437));
        }
        if self.allocations.contains_key(&key) {
            self.end(key, CloseReason::Expired);
        }
        let families = self.check_allocate(allocate)?;
        let (user, _) = user_and_end(&request.account.username);
        let of_user = self.allocations.values().filter(|it| it.user == user);
        if of_user.count() >= self.limits.allocations_per_user as usize {
            return Err(Answer::Error(486));
        }
        let address = subscriber(key.1.ip());
        let of_address = self.allocations.keys();
        let of_address = of_address.filter(|key| subscriber(key.1.ip()) == address);
        if of_address.count() >= self.limits.allocations_per_address as usize {
            return Err(Answer::Error(486));
        }
        if !self.admits_new(&user, address, false) {
            return Err(Answer::Error(486));
        }
        if self.allocations.len() >= self.limits.allocations_total as usize {
            return Err(Answer::Error(508));
        }
        self.admits_new(&user, address, true);
        let ports = match allocate.even_port {
            None => Ports::Any,
            Some(false) => Ports::Even,
            Some(true) => Ports::Pair,
        };
        let mut made = Allocation {
            account: request.account.clone(),
            scheme: request.scheme,
            user,
            id: request.id,
            lifetime: allocate.lifetime.unwrap_or(0).clamp(600, 3600),
            ports,
            unbound: 0,
            relays: Vec::new(),
            token: None,
            missing: None,
            created: self.now,
            permissions: Default::default(),
            channels: Default::default(),
            usage: [0; 4],
            ever_permitted: Default::default(),
        };
        let mut binds = Vec::new();
        if let Some(token) = &allocate.token {
            let now = self.now;
            let position = self.reservations.iter().position(|it| {
                it.token.as_ref() == Some(token) && it.user == made.user && it.expires > now
            });
            let reservation = self
                .reservations
                .remove(position.ok_or(Answer::Error(508))?);
            binds.push(Family::of(reservation.bound.ip()));
            made.relays.push(Relay {
                bound: reservation.bound,
                is_bound: false,
                expires: 0,
                attempts: 8,
            });
        } else {
            for family in families {
                if !self.candidates(family, ports, true).is_empty() {
                    binds.push(family);
                } else if self.relays.iter().any(|it| Family::of(it.bound) == family) {
                    made.missing = Some((family, 508));
                } else {
                    made.missing = Some((family, 440));
                }
            }
        }
        if binds.is_empty() {
            return Err(Answer::Error(508));
        }
        made.unbound = binds.len();
        self.allocations.insert(key, made);
        Ok(Outcome {
            answer: Answer::Silence,
            binds,
        })
    }

    fn check_allocate(&self, allocate: &Allocate) -> Result<Vec<Family>, Answer> {
        let Allocate {
            is_tcp,
            family,
            additional,
            even_port,
            ref token,
            ..
        } = *allocate;
        if is_tcp {
            return Err(Answer::Error(442));
        }
        let excluded = even_port.is_some() || family.is_some() || additional;
        if token.is_some() && excluded || additional && family.is_some() {
            return Err(Answer::Error(400));
        }
        let families = match (additional, family) {
            (true, _) => vec![Family::V4, Family::V6],
            (false, None | Some(1)) => vec![Family::V4],
            (false, Some(2)) => vec![Family::V6],
            (false, Some(_)) => return Err(Answer::Error(440)),
        };
        let has = |family| self.relays.iter().any(|it| Family::of(it.bound) == family);
        if token.is_none() && !additional && !has(families[0]) {
            return Err(Answer::Error(440));
        }
        if additional && even_port == Some(true) {
            return Err(Answer::Error(400));
        }
        Ok(families)
    }

    /// The core asked for a socket.
    pub(crate) fn asked(&mut self, key: Key, bound: SocketAddr) {
        let allocation = &self.allocations[&key];
        if allocation
            .relay(Family::of(bound.ip()))
            .is_some_and(|it| it.bound == bound)
        {
            return; // the port of a token
        }
        let (ports, user) = (allocation.ports, allocation.user.clone());
        self.lease(bound, ports);
        let allocation = self.allocations.get_mut(&key).expect("as above");
        let family = Family::of(bound.ip());
        let failed = allocation.relay(family).map_or(0, |it| it.attempts);
        allocation
            .relays
            .retain(|it| Family::of(it.bound.ip()) != family);
        allocation.relays.push(Relay {
            bound,
            is_bound: false,
            expires: 0,
            attempts: failed + 1,
        });
        if ports == Ports::Pair {
            self.reservations.push(Reservation {
                owner: key,
                user,
                bound: SocketAddr::new(bound.ip(), bound.port() + 1),
                expires: self.now + u64::from(self.limits.reservation_s) * 1000,
                token: None,
            });
        }
    }

    /// The host bound a socket.
    pub(crate) fn bind_succeeded(&mut self, key: Key, bound: SocketAddr) -> Outcome {
        let allocation = self.allocations.get_mut(&key).expect("it waited for it");
        for relay in &mut allocation.relays {
            relay.is_bound |= relay.bound == bound;
        }
        allocation.unbound -= 1;
        self.complete(key)
    }

    /// The host could not bind a socket.
    pub(crate) fn bind_failed(&mut self, key: Key, bound: SocketAddr, in_use: bool) -> Outcome {
        let family = Family::of(bound.ip());
        let allocation = self.allocations.get_mut(&key).expect("it waited for it");
        let relay = allocation.relay(family).expect("it waited for it").clone();
        allocation.relays.retain(|it| it.bound != bound);
        let ports = allocation.ports;
        self.reservations.retain(|it| it.owner != key);
        self.rest(bound);
        let again = in_use && relay.attempts < 8;
        if again && !self.candidates(family, ports, true).is_empty() {
            // So that `asked` counts on.
            let attempts = relay.attempts;
            let allocation = self.allocations.get_mut(&key).expect("as above");
            allocation.relays.push(Relay {
                bound: SocketAddr::new(bound.ip(), 0),
                is_bound: false,
                expires: 0,
                attempts,
            });
            return Outcome {
                answer: Answer::Silence,
                binds: vec![family],
            };
        }
        let allocation = self.allocations.get_mut(&key).expect("as above");
        allocation.unbound -= 1;
        allocation.missing = Some((family, 508));
        self.complete(key)
    }

    fn complete(&mut self, key: Key) -> Outcome {
        let now = self.now;
        let allocation = self.allocations.get_mut(&key).expect("it waited for it");
        if allocation.is_pending() {
            return Outcome::answer(Answer::Silence);
        }
        if allocation.relays.is_empty() {
            self.allocations.remove(&key);
            return Outcome::answer(Answer::Error(508));
        }
        for relay in &mut allocation.relays {
            relay.expires = now + u64::from(allocation.lifetime) * 1000;
        }
        allocation.created = now;
        Outcome::answer(Answer::Success)
    }

    fn refresh(
        &mut self,
        key: Key,
        lifetime: Option<u32>,
        family: Option<u8>,
    ) -> Result<(), Answer> {
        let now = self.now;
        let allocation = self.allocations.get_mut(&key).expect("it lives");
        let live: Vec<Family> = [Family::V4, Family::V6]
            .into_iter()
            .filter(|family| allocation.live(*family, now).is_some())
            .collect();
        let meant: Vec<Family> = match family {
            None => live.clone(),
            Some(number) => live
                .iter()
                .copied()
                .filter(|it| *it as u8 == number)
                .collect(),
        };
        if meant.is_empty() {
            return Err(Answer::Error(443));
        }
        if lifetime != Some(0) {
            let granted = lifetime.unwrap_or(0).clamp(600, 3600);
            for relay in &mut allocation.relays {
                if meant.contains(&Family::of(relay.bound.ip())) {
                    relay.expires = now + u64::from(granted) * 1000;
                }
            }
        } else if meant == live {
            self.end(key, CloseReason::Deleted);
        } else {
            let bound = allocation.relay(meant[0]).expect("it lives").bound;
            allocation.drop_family(meant[0]);
            self.rest(bound);
        }
        Ok(())
    }

    fn check_peer(&self, key: Key, peer: SocketAddr) -> Result<(), Answer> {
        let family = Family::of(peer.ip());
        if self.allocations[&key].live(family, self.now).is_none() {
            return Err(Answer::Error(443));
        }
        if self.is_relay_ip(peer.ip()) {
            return Ok(());
        }
        match self.lists.verdict(peer.ip()) {
            Verdict::Peer => Ok(()),
            Verdict::Refused => Err(Answer::Error(403)),
            Verdict::Disguised => Err(Answer::Error(443)),
        }
    }

    fn permit(&mut self, key: Key, peers: &[SocketAddr]) -> Result<(), Answer> {
        let mut seen = BTreeSet::new();
        for peer in peers {
            // More than there may be are refused without a look at the rest.
            seen.insert(peer.ip());
            if seen.len() > self.limits.permissions_per_allocation as usize {
                return Err(Answer::Error(508));
            }
            self.check_peer(key, *peer)?;
        }
        if peers.is_empty() {
            return Err(Answer::Error(400));
        }
        self.install(key, peers)
    }

    fn install(&mut self, key: Key, peers: &[SocketAddr]) -> Result<(), Answer> {
        let now = self.now;
        let allocation = self.allocations.get_mut(&key).expect("it lives");
        let mut permissions = allocation.permissions.clone();
        permissions.retain(|_, expires| *expires > now);
        for peer in peers {
            permissions.insert(peer.ip(), now + 300_000);
        }
        if permissions.len() > self.limits.permissions_per_allocation as usize {
            return Err(Answer::Error(508));
        }
        allocation.permissions = permissions;
        let ips = peers.iter().map(SocketAddr::ip);
        allocation.ever_permitted.extend(ips);
        Ok(())
    }

    fn bind(&mut self, key: Key, number: u16, peer: SocketAddr) -> Result<(), Answer> {
        if !(0x4000..=0x4FFF).contains(&number) {
            return Err(Answer::Error(400));
        }
        self.check_peer(key, peer)?;
        if peer.port() == 0 {
            return Err(Answer::Error(400));
        }
        let now = self.now;
        if self.lists.close(peer) {
            return Err(Answer::Error(403));
        }
        let is_refresh = self.allocations[&key].peer_of(number, now) == Some(peer);
        if !is_refresh && self.is_relay_ip(peer.ip()) && !self.is_open(peer) {
            return Err(Answer::Error(403));
        }
        let allocation = &self.allocations[&key];
        let (bound_peer, bound_number) = (
            allocation.peer_of(number, now),
            allocation.channel_of(peer, now),
        );
        if bound_peer.is_some_and(|it| it != peer) || bound_number.is_some_and(|it| it != number) {
            return Err(Answer::Error(400));
        }
        let is_full = allocation.live_channels(now) >= self.limits.channels_per_allocation as usize;
        if bound_peer.is_none() && is_full {
            return Err(Answer::Error(508));
        }
        self.install(key, &[peer])?;
        let allocation = self.allocations.get_mut(&key).expect("it lives");
        allocation.channels.retain(|_, (_, expires)| *expires > now);
        allocation.channels.insert(number, (peer, now + 600_000));
        Ok(())
    }
}

/// Whom an address is: of IPv6 its first 64 bits.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A time-limited name that ends so many seconds after the origin.
pub(crate) fn name_until(user: &str, seconds: u64) -> String {
    format!("{}:{user}", UNIX_ORIGIN_S + seconds)
}
