//! What the server should be doing: a second, simple implementation of its rules, over intents.
//! It keeps lists where the core keeps bitmaps, deadlines and indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use turnstone::turn::{CloseReason, FiveTuple, Limits, RelayAddress, Transport};
use turnstone::wire::{Family, TransactionId};

use super::intent::Intent;
use super::lists::Lists;
use super::strangers::Strangers;
use crate::message::{Account, Scheme};

/// A five-tuple in an order: whether it is a stream, the client, the server.
pub(crate) type Key = (bool, SocketAddr, SocketAddr);

pub(crate) fn key_of(five_tuple: &FiveTuple) -> Key {
    let is_stream = five_tuple.transport == Transport::Tcp;
    (is_stream, five_tuple.client, five_tuple.server)
}

/// Which ports do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Any,
    Even,
    Pair,
}

#[derive(Clone, Debug)]
pub(crate) struct Allocation {
    pub(crate) account: Account,
    pub(crate) scheme: Scheme,
    /// Whom the quota counts it for.
    pub(crate) user: String,
    pub(crate) id: TransactionId,
    pub(crate) lifetime: u32,
    pub(crate) ports: Ports,
    /// Sockets that the host has not reported on.
    pub(crate) unbound: usize,
    pub(crate) relays: Vec<Relay>,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) missing: Option<(Family, u16)>,
    pub(crate) created: u64,
    pub(crate) permissions: BTreeMap<IpAddr, u64>,
    pub(crate) channels: BTreeMap<u16, (SocketAddr, u64)>,
    /// Packets and bytes, to peers and to the client.
    pub(crate) usage: [u64; 4],
    pub(crate) ever_permitted: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug)]
pub(crate) struct Relay {
    /// Where its socket is bound.
    pub(crate) bound: SocketAddr,
    pub(crate) is_bound: bool,
    pub(crate) expires: u64,
    pub(crate) attempts: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    pub(crate) owner: Key,
    pub(crate) user: String,
    pub(crate) bound: SocketAddr,
    pub(crate) expires: u64,
    /// Known once the success response was seen.
    pub(crate) token: Option<Vec<u8>>,
}

/// An allocation that has ended, and that the core has to report.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) key: Key,
    pub(crate) reason: CloseReason,
    pub(crate) allocation: Allocation,
}

pub(crate) struct Model {
    pub(crate) relays: Vec<RelayAddress>,
    pub(crate) ports: std::ops::RangeInclusive<u16>,
    pub(crate) limits: Limits,
    pub(crate) lists: Lists,
    pub(crate) nonce_lifetime_s: u32,
    pub(crate) shards: usize,
    pub(crate) strangers: Strangers,
    /// Who was given a nonce, and when.
    pub(crate) nonces: BTreeMap<Vec<u8>, (SocketAddr, u64)>,
    pub(crate) allocations: BTreeMap<Key, Allocation>,
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) resting: BTreeSet<SocketAddr>,
    /// When rests end; of a port that was taken early there may be more than one.
    pub(crate) rests: Vec<(u64, SocketAddr)>,
    pub(crate) ended: Vec<Ended>,
    pub(crate) now: u64,
    pub(crate) unix_s: u64,
}

/// A datagram that should leave a relay socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShouldSend {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Vec<u8>,
}

impl Allocation {
    pub(crate) fn is_pending(&self) -> bool {
        self.unbound > 0
    }

    pub(crate) fn relay(&self, family: Family) -> Option<&Relay> {
        self.relays
            .iter()
            .find(|relay| Family::of(relay.bound.ip()) == family)
    }

    pub(crate) fn live(&self, family: Family, now: u64) -> Option<&Relay> {
        self.relay(family)
            .filter(|relay| !self.is_pending() && relay.expires > now)
    }

    pub(crate) fn is_live(&self, now: u64) -> bool {
        self.live(Family::V4, now).is_some() || self.live(Family::V6, now).is_some()
    }

    pub(crate) fn allows(&self, ip: IpAddr, now: u64) -> bool {
        self.permissions
            .get(&ip)
            .is_some_and(|&expires| expires > now)
    }

    pub(crate) fn channel_of(&self, peer: SocketAddr, now: u64) -> Option<u16> {
        self.channels
            .iter()
            .find(|(_, (bound, expires))| *bound == peer && *expires > now)
            .map(|(number, _)| *number)
    }

    pub(crate) fn peer_of(&self, number: u16, now: u64) -> Option<SocketAddr> {
        self.channels
            .get(&number)
            .filter(|(_, expires)| *expires > now)
            .map(|(peer, _)| *peer)
    }

    pub(crate) fn live_channels(&self, now: u64) -> usize {
        self.channels
            .values()
            .filter(|(_, expires)| *expires > now)
            .count()
    }

    pub(crate) fn live_permissions(&self, now: u64) -> usize {
        self.permissions
            .values()
            .filter(|expires| **expires > now)
            .count()
    }

    /// Takes a family away, with all that belongs to it.
    pub(crate) fn drop_family(&mut self, family: Family) {
        self.relays
            .retain(|relay| Family::of(relay.bound.ip()) != family);
        self.permissions.retain(|ip, _| Family::of(*ip) != family);
        self.channels
            .retain(|_, (peer, _)| Family::of(peer.ip()) != family);
    }
}

impl Model {
    pub(crate) fn advertised(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|it| it.bound == address.ip());
        relay.map_or(address, |it| SocketAddr::new(it.advertised, address.port()))
    }

    pub(crate) fn bound(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|it| it.advertised == address.ip());
        relay.map_or(address, |it| SocketAddr::new(it.bound, address.port()))
    }

    pub(crate) fn is_relay_ip(&self, ip: IpAddr) -> bool {
        self.relays
            .iter()
            .any(|it| it.bound == ip || it.advertised == ip)
    }

    /// Whether a relay socket is bound there.
    pub(crate) fn is_open(&self, address: SocketAddr) -> bool {
        let bound = self.bound(address);
        let mut relays = self.allocations.values().flat_map(|it| &it.relays);
        relays.any(|relay| relay.is_bound && relay.bound == bound)
    }

    /// Whether data to or from a permitted peer goes nowhere because of its port.
    pub(crate) fn is_closed(&self, peer: SocketAddr) -> bool {
        self.lists.close(peer) || (self.is_relay_ip(peer.ip()) && !self.is_open(peer))
    }

    /// Ports that are not free, apart from resting ones.
    pub(crate) fn held_ports(&self) -> BTreeSet<SocketAddr> {
        let relays = self.allocations.values().flat_map(|it| &it.relays);
        let relays = relays.map(|relay| relay.bound);
        let reserved = self.reservations.iter().map(|it| it.bound);
        let mut ports = BTreeSet::new();
        for port in relays.chain(reserved) {
            assert!(ports.insert(port), "{port} has one holder, ALLOC-20");
        }
        assert!(ports.is_disjoint(&self.resting));
        ports
    }

    /// The first ports of what could be leased: of the free ones, or of the resting ones too.
    pub(crate) fn candidates(&self, family: Family, ports: Ports, resting: bool) -> Vec<u16> {
        let Some(relay) = self.relays.iter().find(|it| Family::of(it.bound) == family) else {
            return Vec::new();
        };
        let held = self.held_ports();
        let is_available = |port: u16| {
            let address = SocketAddr::new(relay.bound, port);
            self.ports.contains(&port)
                && !held.contains(&address)
                && (resting || !self.resting.contains(&address))
        };
        self.ports
            .clone()
            .filter(|&port| match ports {
                Ports::Any => is_available(port),
                Ports::Even => port % 2 == 0 && is_available(port),
                Ports::Pair => port % 2 == 0 && is_available(port) && is_available(port + 1),
            })
            .collect()
    }

    /// Takes note of a port that the core leased.
    pub(crate) fn lease(&mut self, bound: SocketAddr, ports: Ports) {
        let family = Family::of(bound.ip());
        let free = self.candidates(family, ports, false);
        let candidates = if free.is_empty() {
            self.candidates(family, ports, true)
        } else {
            free
        };
        let port = bound.port();
        assert!(
            candidates.contains(&port),
            "{bound} for {ports:?} of {candidates:?}"
        );
        self.resting.remove(&bound);
        if ports == Ports::Pair {
            self.resting.remove(&SocketAddr::new(bound.ip(), port + 1));
        }
    }

    pub(crate) fn rest(&mut self, bound: SocketAddr) {
        assert!(self.resting.insert(bound), "{bound} rests once");
        let until = self.now + u64::from(self.limits.port_rest_s) * 1000;
        self.rests.push((until, bound));
    }

    /// Time passes.
    pub(crate) fn pass_to(&mut self, now: u64, unix_s: u64) {
        (self.now, self.unix_s) = (now, unix_s);
        self.reservations.retain(|it| it.expires > now);
        if self.rests.iter().all(|(until, _)| *until > now) {
            return;
        }
        let (over, rests) = self.rests.iter().partition(|(until, _)| *until <= now);
        self.rests = rests;
        let over: Vec<(u64, SocketAddr)> = over;
        for (_, port) in over {
            self.resting.remove(&port);
        }
    }

    /// Whether the time of any relayed address is over.
    pub(crate) fn has_expired(&self) -> bool {
        let live = self.allocations.values().filter(|it| !it.is_pending());
        let mut relays = live.flat_map(|it| &it.relays);
        relays.any(|relay| relay.expires <= self.now)
    }

    /// Ends an allocation.
    pub(crate) fn end(&mut self, key: Key, reason: CloseReason) {
        let allocation = self.allocations.remove(&key).expect("it was there");
        self.reservations.retain(|it| it.owner != key);
        for relay in &allocation.relays {
            self.rest(relay.bound);
        }
        if !allocation.is_pending() {
            self.ended.push(Ended {
                key,
                reason,
                allocation,
            });
        }
    }

    /// What a data packet of a client should lead to.
    pub(crate) fn data(
        &mut self,
        key: Key,
        ttl: Option<u8>,
        intent: &Intent,
    ) -> Option<ShouldSend> {
        let now = self.now;
        let allocation = self.allocations.get(&key)?;
        let (peer, data) = match intent {
            Intent::Send {
                has_unknown: true, ..
            } => return None,
            Intent::Send { peer, data, .. } => {
                if !allocation.allows(peer.ip(), now) || peer.port() == 0 {
                    return None;
                }
                (*peer, data)
            }
            Intent::ChannelData { number, data } => (allocation.peer_of(*number, now)?, data),
            Intent::Junk | Intent::Binding | Intent::Request(_) => return None,
        };
        let from = allocation.live(Family::of(peer.ip()), now)?.bound;
        if self.is_closed(peer) {
            return None;
        }
        if ttl.is_some_and(|ttl| ttl <= 1) && !key.0 {
            return None;
        }
        let to = self.bound(peer);
        let allocation = self.allocations.get_mut(&key).expect("as above");
        allocation.usage[0] += 1;
        allocation.usage[1] += data.len() as u64;
        Some(ShouldSend {
            from,
            to,
            data: data.clone(),
        })
    }

    /// Whose relay socket an address is.
    pub(crate) fn owner_of(&self, bound: SocketAddr) -> Option<Key> {
        let owns = |allocation: &Allocation| allocation.relays.iter().any(|it| it.bound == bound);
        let mut owners = self.allocations.iter().filter(|(_, it)| owns(it));
        owners.next().map(|(key, _)| *key)
    }

    /// Whether a peer's datagram should reach the client, and on which channel.
    pub(crate) fn peer_data(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
        ttl: Option<u8>,
        len: usize,
    ) -> Option<(Key, SocketAddr, Option<u16>)> {
        let (now, peer) = (self.now, self.advertised(peer));
        let key = self.owner_of(relay)?;
        if self.is_closed(peer) {
            return None;
        }
        let allocation = self.allocations.get_mut(&key).expect("its owner");
        allocation.live(Family::of(relay.ip()), now)?;
        let lost = ttl.is_some_and(|ttl| ttl <= 1) && !key.0;
        if lost || !allocation.allows(peer.ip(), now) {
            return None;
        }
        allocation.usage[2] += 1;
        allocation.usage[3] += len as u64;
        Some((key, peer, allocation.channel_of(peer, now)))
    }
}
