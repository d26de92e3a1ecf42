//! Clients, peers and a network that loses, repeats, delays and reorders, from one seed; and after
//! every step the question whether the core did what the model says.

mod agent;
mod checks;
mod intent;
mod lists;
mod model;
mod requests;
mod rng;
mod strangers;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use turnstone::turn::{
    CloseReason, DropCause, IpHeader, Limits, RelayAddress, RelayFailure, Transport,
};
use turnstone::wire::{AttributeType as A, Class, Family, IcmpAttribute};

use self::agent::{Agent, Gossip, random_peer};
use self::intent::{Ask, Intent, Packet, Request};
use self::lists::Lists;
use self::model::{Key, Model, ShouldSend, key_of};
use self::requests::{Answer, Outcome};
pub(crate) use self::rng::Rng;
use crate::host::{Binds, Host, Setup, Socket, ip, relay};
use crate::message::{Account, Delivered, Reply, Scheme};

/// Something that will happen.
enum Happening {
    /// An agent does something.
    Act(usize),
    /// A packet reaches the server.
    Arrival(Packet),
    /// A message from the server reaches whoever is there.
    Answer(Reply),
    /// A peer's datagram reaches a relay socket.
    PeerData {
        relay: SocketAddr,
        peer: SocketAddr,
        ip: IpHeader,
        data: Vec<u8>,
    },
    /// The host has bound a socket, or could not.
    Bound(Socket, Result<(), RelayFailure>),
    /// A router complains.
    Icmp(SocketAddr, SocketAddr, u8),
}

struct World {
    rng: Rng,
    host: Host,
    model: Model,
    agents: Vec<Agent>,
    gossip: Gossip,
    /// By time, then in the order of planning.
    plan: BTreeMap<(u64, u64), Happening>,
    planned: u64,
    acting: bool,
    trace: u64,
    counts: Counts,
}

/// What a run went through, so that a quiet simulation does not pass for a good one.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    steps: u64,
    allocations: u64,
    to_peers: u64,
    to_clients: u64,
    errors: u64,
    failed_binds: u64,
    tokens: u64,
    hours: u64,
    not_answered: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let translated = |bound: &str, advertised: &str| RelayAddress {
            bound: ip(bound),
            advertised: ip(advertised),
        };
        let relays = match rng.below(4) {
            0 => vec![relay("192.0.2.15")],
            1 => vec![relay("192.0.2.15"), relay("2001:db8::15")],
            2 => vec![
                translated("10.0.0.5", "203.0.113.10"),
                relay("2001:db8::15"),
            ],
            _ => vec![
                translated("10.0.0.5", "203.0.113.10"),
                translated("fd00::5", "2001:db8::10"),
            ],
        };
        let limits = Limits {
            allocations_per_user: 2 + rng.below(6) as u32,
            allocations_per_address: 2 + rng.below(6) as u32,
            // How much may be relayed in a time is the matter of `scenario::bandwidth`.
            allocation_kbit_per_s: 0,
            user_kbit_per_s: 0,
            allocations_total: 6 + rng.below(12) as u32,
            permissions_per_allocation: 2 + rng.below(4) as u32,
            channels_per_allocation: 1 + rng.below(3) as u32,
            icmp_per_s: 1_000_000,
            unauthenticated_replies_per_s: rng.pick(&[0, 1, 2, 200]),
            failed_authentications_per_minute: rng.pick(&[0, 1, 3, 10]),
            ..Limits::default()
        };
        let first = 50_000 + rng.below(3) as u16;
        let ports = first..=first + 5 + rng.below(24) as u16;
        let lists = Lists {
            are_written: rng.chance(50),
        };
        let nonce_lifetime_s = rng.pick(&[60, 600, 3600]);
        let start_ms = rng.below(10_000_000);
        let shards = 1 + rng.below(3) as usize;
        let setup = Setup {
            relays: relays.clone(),
            ports: ports.clone(),
            limits: limits.clone(),
            clients: lists.clients(),
            peers: lists.peers(),
            nonce_lifetime_s,
            shards,
            seed: seed as u8,
            start_ms,
            binds: Binds::Wait,
            ..Setup::default()
        };
        let host = Host::new(setup);
        let model = Model {
            relays,
            ports,
            limits,
            lists,
            nonce_lifetime_s,
            shards,
            strangers: Default::default(),
            nonces: BTreeMap::new(),
            allocations: BTreeMap::new(),
            reservations: Vec::new(),
            resting: Default::default(),
            rests: Vec::new(),
            ended: Vec::new(),
            now: start_ms,
            unix_s: host.unix_s(),
        };
        let count = 3 + rng.below(7) as u16;
        let agents: Vec<Agent> = (0..count).map(|it| Agent::new(it, &mut rng)).collect();
        let mut world = Self {
            rng,
            host,
            model,
            agents,
            gossip: Gossip::default(),
            plan: BTreeMap::new(),
            planned: 0,
            acting: true,
            trace: 0xCBF2_9CE4_8422_2325,
            counts: Counts::default(),
        };
        for agent in 0..world.agents.len() {
            let delay = world.rng.below(10_000);
            world.plan(delay, Happening::Act(agent));
        }
        world
    }

    fn plan(&mut self, delay_ms: u64, happening: Happening) {
        self.planned += 1;
        let when = (self.host.now_ms + delay_ms, self.planned);
        self.plan.insert(when, happening);
    }

    /// Adds to the hash of everything that was seen.
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    /// The network: a datagram comes once, twice or never, sooner or later; a stream's frames all
    /// come.
    fn deliveries(&mut self, is_stream: bool) -> Vec<u64> {
        let copies = match self.rng.below(100) {
            _ if is_stream => 1,
            0..=5 => 0,
            6..=9 => 2,
            _ => 1,
        };
        (0..copies).map(|_| 5 + self.rng.below(195)).collect()
    }

    /// Goes on to whatever is next; false if there is nothing left.
    fn step(&mut self) -> bool {
        let planned = self.plan.keys().next().map(|(when, _)| *when);
        let timeout = self.host.next_timeout_ms();
        let Some(next) = planned.into_iter().chain(timeout).min() else {
            return false;
        };
        self.host.now_ms = self.host.now_ms.max(next);
        let (now, unix_s) = (self.host.now_ms, self.host.unix_s());
        self.model.pass_to(now, unix_s);
        if timeout.is_some_and(|it| it <= now) {
            self.host.expire();
            // Most of the time a wake-up finds nothing to do.
            if self.model.has_expired() || !self.host.events.is_empty() {
                self.collect_expired();
                self.check_events();
                self.check();
            }
        } else if let Some((_, happening)) = self.plan.pop_first() {
            self.counts.steps += 1;
            self.happen(happening);
            self.collect_expired();
            self.check_events();
            self.check();
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Act(agent) => self.act(agent),
            Happening::Arrival(packet) => self.arrive(packet),
            Happening::Answer(reply) => {
                let agent = self.agents.iter_mut().find(|it| it.at == reply.to);
                if let Some(agent) = agent {
                    agent.read(&reply, &mut self.gossip);
                }
            }
            Happening::PeerData {
                relay,
                peer,
                ip,
                data,
            } => self.peer_data(relay, peer, ip, &data),
            Happening::Bound(socket, outcome) => self.bound(socket, outcome),
            Happening::Icmp(relay, peer, icmp_type) => self.icmp(relay, peer, icmp_type),
        }
    }

    fn act(&mut self, index: usize) {
        if !self.acting {
            return;
        }
        let pause = match self.rng.below(1000) {
            0..=919 => self.rng.below(2_000),
            920..=979 => self.rng.below(60_000),
            980..=997 => self
                .rng
                .pick(&[299_000, 300_000, 599_500, 600_000, 601_000]),
            _ => self.rng.below(4 * 3_600_000),
        };
        self.plan(pause, Happening::Act(index));
        let agent = &mut self.agents[index];
        let is_stream = agent.at.five_tuple.transport == Transport::Tcp;
        match self.rng.below(300) {
            0 if is_stream => self.disconnect(index),
            0 => agent.rebind(&mut self.rng),
            1 => {
                let same_port = !is_stream && self.rng.chance(50);
                if is_stream {
                    self.disconnect(index);
                } else {
                    agent.restart(&mut self.rng, same_port);
                }
            }
            2..=4 if !agent.has_allocation => {
                let now_s = self.host.now_ms / 1000;
                agent.renew(&mut self.rng, now_s);
            }
            5 if self.rng.chance(30) => self.night(),
            6..=31 => self.unsolicited(),
            32..=41 => self.at_the_last_moment(index),
            _ => {
                let packet = agent.packet(&mut self.rng, &self.gossip);
                // A stream that was closed carries nothing any more.
                if packet.from != agent.at && is_stream {
                    return;
                }
                // Some lose patience, or never had any.
                let times = if self.rng.chance(4) { 10 } else { 1 };
                for _ in 0..times {
                    for delay in self.deliveries(is_stream) {
                        self.plan(delay, Happening::Arrival(packet.clone()));
                    }
                }
            }
        }
    }

    /// Nobody does anything for hours.
    fn night(&mut self) {
        let hours = 1 + self.rng.below(40);
        for (when, happening) in std::mem::take(&mut self.plan) {
            let is_act = matches!(happening, Happening::Act(_));
            let delay = if is_act { hours * 3_600_000 } else { 0 };
            self.plan.insert((when.0 + delay, when.1), happening);
        }
    }

    /// Something arrives just when an allocation ends, or right after, before the timer comes.
    fn at_the_last_moment(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let key = key_of(&agent.at.five_tuple);
        let Some(allocation) = self.model.allocations.get(&key) else {
            return;
        };
        let ends: Vec<u64> = allocation.relays.iter().map(|it| it.expires).collect();
        let end = self.rng.pick(&ends);
        let now = self.host.now_ms;
        if end > now {
            let packet = match agent.first_request() {
                Some(packet) if self.rng.chance(50) => packet,
                _ => agent.packet(&mut self.rng, &self.gossip),
            };
            let delay = end - now + self.rng.pick(&[0, 0, 1, 100]) - self.rng.below(2);
            self.plan(delay, Happening::Arrival(packet));
        }
    }

    /// A stream is closed, and everything on it is lost.
    fn disconnect(&mut self, index: usize) {
        let agent = &mut self.agents[index];
        let at = agent.at;
        agent.restart(&mut self.rng, false);
        self.plan
            .retain(|_, it| !matches!(it, Happening::Arrival(packet) if packet.from == at));
        let key = key_of(&at.five_tuple);
        if self.model.allocations.contains_key(&key) {
            self.model.end(key, CloseReason::Disconnected);
        }
        self.host.disconnect(&at.five_tuple);
        self.expect_silence();
    }

    /// Somebody sends to a relay socket, or a router complains.
    fn unsolicited(&mut self) {
        let sockets: Vec<SocketAddr> = self.host.sockets.values().map(|it| it.address).collect();
        if sockets.is_empty() {
            return;
        }
        let relay = self.rng.pick(&sockets);
        let peer = random_peer(&mut self.rng);
        if self.rng.chance(10) {
            let icmp_type = self.rng.below(13) as u8;
            self.plan(10, Happening::Icmp(relay, peer, icmp_type));
            return;
        }
        let len = self.rng.pick(&[0, 1, 2, 3, 4, 160, 1200]);
        let ip = IpHeader {
            ttl: self.rng.pick(&[None, Some(64), Some(1)]),
            tos: self.rng.next() as u8,
        };
        let data = self.rng.bytes(len);
        self.plan(
            10,
            Happening::PeerData {
                relay,
                peer,
                ip,
                data,
            },
        );
    }
}

impl World {
    /// A packet reaches the server.
    fn arrive(&mut self, packet: Packet) {
        let key = key_of(&packet.from.five_tuple);
        let ttl = packet.ip.ttl;
        let is_served = self.model.lists.serve(packet.from.five_tuple.client.ip());
        let (outcome, should_send) = match &packet.intent {
            Intent::Request(_) | Intent::Binding if !is_served => (answer(Answer::Silence), None),
            Intent::Request(request) => (self.model.request(key, request), None),
            Intent::Binding => (answer(self.model.stranger(key, Answer::Success)), None),
            data => (answer(Answer::Silence), self.model.data(key, ttl, data)),
        };
        let before = self.host.waiting.len();
        let sent = self
            .host
            .client_packet(packet.from, packet.ip, &packet.bytes);
        let sent_ip = sent.as_ref().map(|it| it.ip);
        let sent = sent.map(|it| ShouldSend {
            from: it.from,
            to: it.to,
            data: it.data,
        });
        assert_eq!(sent, should_send, "{packet:?}");
        if let (Some(ip), Some(sent)) = (sent_ip, sent) {
            self.counts.to_peers += 1;
            self.note(&sent.data);
            self.hear(&sent, ip);
        }
        self.check_binds(key, before, &outcome.binds);
        match &packet.intent {
            Intent::Request(request) => self.check_answer(&packet, key, request, outcome.answer),
            Intent::Binding if outcome.answer == Answer::Success => {
                let reply = self.host.only_reply().expect("BIND-04");
                assert_eq!((reply.class(), reply.to), (Class::Success, packet.from));
                let mapped = reply.addresses(A::XOR_MAPPED_ADDRESS);
                assert_eq!(mapped, [packet.from.five_tuple.client]);
            }
            _ => self.expect_silence(),
        }
    }

    fn expect_silence(&mut self) {
        assert_eq!(self.host.replies.pop_front().map(|it| it.bytes), None);
    }

    /// A datagram is on its way to a peer, which may be another allocation.
    fn hear(&mut self, sent: &ShouldSend, ip: IpHeader) {
        let echo = self
            .rng
            .chance(60)
            .then(|| self.rng.bytes(sent.data.len() as u64));
        let is_relay = self.model.is_relay_ip(sent.to.ip());
        for delay in self.deliveries(false) {
            if is_relay {
                self.plan(
                    delay,
                    Happening::PeerData {
                        relay: sent.to,
                        peer: sent.from,
                        ip,
                        data: sent.data.clone(),
                    },
                );
            } else if let Some(data) = echo.clone() {
                let ip = IpHeader::default();
                self.plan(
                    2 * delay,
                    Happening::PeerData {
                        relay: sent.from,
                        peer: sent.to,
                        ip,
                        data,
                    },
                );
            }
        }
    }

    /// The sockets that were asked for since there were `before`.
    fn check_binds(&mut self, key: Key, before: usize, expected: &[Family]) {
        let asked: Vec<Socket> = self.host.waiting.iter().skip(before).copied().collect();
        let families: Vec<Family> = asked.iter().map(|it| Family::of(it.address.ip())).collect();
        assert_eq!(families, expected);
        for socket in asked {
            self.model.asked(key, socket.address);
            let outcome = match self.rng.below(100) {
                0..=9 => Err(RelayFailure::AddressInUse),
                10..=11 => Err(RelayFailure::Unavailable),
                _ => Ok(()),
            };
            let delay = match self.rng.below(100) {
                0..=79 => 0,
                80..=97 => self.rng.below(500),
                _ => self.rng.below(40_000),
            };
            self.plan(delay, Happening::Bound(socket, outcome));
        }
    }

    /// The host has something to report on a socket.
    fn bound(&mut self, socket: Socket, outcome: Result<(), RelayFailure>) {
        let waiting = self.host.waiting.iter().position(|it| *it == socket);
        let Some(waiting) = waiting else {
            // It was closed meanwhile, which the report does not know.
            let (now, shard) = (self.host.now(), &mut self.host.shards[socket.shard]);
            match outcome {
                Ok(()) => shard.handle_relay_bound(now, socket.relay),
                Err(failure) => shard.handle_relay_failed(now, socket.relay, failure),
            }
            self.host.drain(socket.shard);
            return self.expect_silence();
        };
        self.host.waiting.remove(waiting);
        let key = self
            .model
            .owner_of(socket.address)
            .expect("what waits is somebody's");
        let asked = self.model.allocations[&key].clone();
        let outcome_of_all = match outcome {
            Ok(()) => self.model.bind_succeeded(key, socket.address),
            Err(failure) => {
                self.counts.failed_binds += 1;
                let in_use = failure == RelayFailure::AddressInUse;
                self.model.bind_failed(key, socket.address, in_use)
            }
        };
        let before = self.host.waiting.len();
        self.host.report_on(socket, outcome);
        self.host.drain(socket.shard);
        self.check_binds(key, before, &outcome_of_all.binds);
        let Some(reply) = self.host.only_reply() else {
            return assert_eq!(outcome_of_all.answer, Answer::Silence);
        };
        assert_eq!(reply.id(), asked.id);
        self.check_signed(&reply, &asked.account, asked.scheme, outcome_of_all.answer);
        if outcome_of_all.answer == Answer::Success {
            self.counts.allocations += 1;
            self.check_allocated(key, &reply);
        }
        self.send(reply);
    }

    /// The answer to a request.
    fn check_answer(&mut self, packet: &Packet, key: Key, request: &Request, answer: Answer) {
        let Some(reply) = self.host.only_reply() else {
            return assert_eq!(answer, Answer::Silence, "{packet:?}");
        };
        assert_eq!(reply.id(), request.id);
        assert_eq!(key_of(&reply.to.five_tuple), key, "TUP-06");
        assert_eq!(reply.message().method(), Some(request.ask.method()));
        self.check_signed(&reply, &request.account, request.scheme, answer);
        if let Some(nonce) = reply.attribute(A::NONCE) {
            let made = (key.1, self.host.unix_s());
            self.model.nonces.insert(nonce, made);
        }
        let is_success = matches!(answer, Answer::Success | Answer::Again);
        match &request.ask {
            Ask::Allocate(_) if is_success => self.check_allocated(key, &reply),
            Ask::Refresh { lifetime, .. } if is_success => {
                let granted = match lifetime {
                    Some(0) => 0,
                    asked => asked.unwrap_or(600).clamp(600, 3600),
                };
                assert_eq!(reply.lifetime(), Some(granted));
            }
            _ => {}
        }
        self.send(reply);
    }

    fn check_signed(&mut self, reply: &Reply, account: &Account, scheme: Scheme, answer: Answer) {
        let is_signed = reply.message().has_integrity();
        let said = match (reply.code(), is_signed) {
            (None, _) if answer == Answer::Again => Answer::Again,
            (None, _) => Answer::Success,
            (Some(code), true) => Answer::Error(code),
            (Some(code), false) => Answer::Unsigned(code),
        };
        assert_eq!(said, answer);
        self.counts.errors += u64::from(reply.code().is_some());
        if !matches!(answer, Answer::Unsigned(_)) {
            assert!(reply.is_signed_for(account, scheme), "AUTH-20");
        }
    }

    /// The success response to an Allocate request.
    fn check_allocated(&mut self, key: Key, reply: &Reply) {
        let now = self.model.now;
        let allocation = self.model.allocations[&key].clone();
        let mut live: Vec<_> = allocation
            .relays
            .iter()
            .filter(|it| it.expires > now)
            .collect();
        live.sort_by_key(|it| it.bound);
        let relayed: Vec<_> = live
            .iter()
            .map(|it| self.model.advertised(it.bound))
            .collect();
        assert_eq!(reply.relayed(), relayed, "ALLOC-25");
        let expires = live.iter().map(|it| it.expires).min().expect("it lives");
        let remaining = (expires - now).div_ceil(1000) as u32;
        assert_eq!(reply.lifetime(), Some(remaining));
        assert_eq!(reply.addresses(A::XOR_MAPPED_ADDRESS), [key.1]);
        let missing = allocation.missing.filter(|_| allocation.relays.len() == 1);
        if let Some((family, code)) = missing {
            let expected = [family as u8, 0, (code / 100) as u8, (code % 100) as u8];
            assert_eq!(reply.attribute(A::ADDRESS_ERROR_CODE).unwrap(), expected);
        }
        if let Some(token) = &allocation.token {
            assert_eq!(reply.token().as_ref(), Some(token), "IDEM-01");
            return;
        }
        let Some(token) = reply.token() else {
            assert_ne!(allocation.ports, model::Ports::Pair, "ALLOC-14");
            return;
        };
        assert_eq!(allocation.ports, model::Ports::Pair, "ALLOC-13");
        self.counts.tokens += 1;
        for reservation in &mut self.model.reservations {
            if reservation.owner == key {
                reservation.token = Some(token.clone());
            }
        }
        let allocation = self.model.allocations.get_mut(&key).expect("as above");
        allocation.token = Some(token);
    }

    /// A reply goes out into the network.
    fn send(&mut self, reply: Reply) {
        self.note(&reply.bytes);
        let is_stream = reply.to.five_tuple.transport == Transport::Tcp;
        for delay in self.deliveries(is_stream) {
            self.plan(delay, Happening::Answer(reply.clone()));
        }
    }

    fn peer_data(&mut self, relay: SocketAddr, peer: SocketAddr, ip: IpHeader, data: &[u8]) {
        let expected = self.model.peer_data(relay, peer, ip.ttl, data.len());
        let heard = self.host.peer_packet(relay, peer, ip, data);
        let heard = heard.map(|(client, delivered, ip)| {
            self.counts.to_clients += 1;
            self.note(data);
            (key_of(&client.five_tuple), delivered, ip)
        });
        let data = data.to_vec();
        let expected = expected.map(|(key, peer, channel)| {
            let delivered = match channel {
                Some(number) => Delivered::Channel { number, data },
                None => Delivered::Data { peer, data },
            };
            let ip = if key.0 {
                IpHeader::default()
            } else {
                let ttl = ip.ttl.map(|ttl| ttl - 1);
                IpHeader { ttl, ..ip }
            };
            (key, delivered, ip)
        });
        assert_eq!(heard, expected);
        self.expect_silence();
    }

    fn icmp(&mut self, relay: SocketAddr, peer: SocketAddr, icmp_type: u8) {
        let now = self.model.now;
        let relayed_types: &[u8] = if peer.is_ipv4() { &[3, 11] } else { &[1, 2, 3] };
        let owner = self.model.owner_of(relay);
        let expected = owner.filter(|key| {
            let allocation = &self.model.allocations[key];
            allocation.live(Family::of(relay.ip()), now).is_some()
                && allocation.allows(peer.ip(), now)
                && relayed_types.contains(&icmp_type)
                && !self.model.lists.close(peer)
        });
        let icmp = IcmpAttribute {
            icmp_type,
            icmp_code: 0,
            error_data: 0,
        };
        let heard = self.host.icmp(relay, peer, icmp);
        assert_eq!(heard.map(|(to, ..)| key_of(&to.five_tuple)), expected);
    }
}

const fn answer(answer: Answer) -> Outcome {
    let binds = Vec::new();
    Outcome { answer, binds }
}

/// Says which seed it was, if the run does not come to its end.
struct Confession(u64);

#[allow(
    clippy::print_stderr,
    reason = "it stands beside the panic's own words"
)]
impl Drop for Confession {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the seed was {0}: SIM_SEED={0} cargo test --test sim",
                self.0
            );
        }
    }
}

/// Runs a world and returns the hash of what was seen.
fn run(seed: u64, steps: u64, total: &mut Counts) -> u64 {
    let confession = Confession(seed);
    let mut world = World::new(seed);
    let start = world.host.now_ms;
    while world.counts.steps < steps && world.step() {}
    world.wind_down();
    let Counts {
        steps,
        allocations,
        to_peers,
        to_clients,
        errors,
        failed_binds,
        tokens,
        ..
    } = world.counts;
    let shards = world.host.shards.iter();
    let drops = [DropCause::ReplyLimit, DropCause::FailureLimit];
    total.not_answered += shards
        .flat_map(|shard| drops.map(|cause| shard.counters().dropped(cause)))
        .sum::<u64>();
    total.steps += steps;
    total.allocations += allocations;
    total.to_peers += to_peers;
    total.to_clients += to_clients;
    total.errors += errors;
    total.failed_binds += failed_binds;
    total.tokens += tokens;
    total.hours += (world.host.now_ms - start) / 3_600_000;
    drop(confession);
    world.trace
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// How much is simulated by default.
const SEEDS: u64 = 20;
const STEPS: u64 = 4_000;

/// ALLOC-13, ALLOC-20, ALLOC-22, ALLOC-28, AUTH-20, CHAN-05, IDEM-01, MSG-12, PERM-02, PERM-10,
/// REFR-08, SEC-09, AUTH-33, TUP-06 and, by the model, nearly everything else about state.
#[test]
fn the_core_does_what_the_model_says() {
    let mut counts = Counts::default();
    let steps = setting("SIM_STEPS").unwrap_or(STEPS);
    let seeds = match setting("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds.clone() {
        run(seed, steps, &mut counts);
    }
    println!("{counts:?}");
    if seeds.end - seeds.start >= SEEDS && steps >= STEPS {
        assert!(counts.allocations > 400 && counts.tokens > 50, "{counts:?}");
        assert!(
            counts.to_peers > 1_500 && counts.to_clients > 800,
            "{counts:?}"
        );
        assert!(counts.failed_binds > 50 && counts.hours > 400, "{counts:?}");
        assert!(counts.not_answered > 40, "{counts:?}");
    }
}

/// The same seed is the same world, to the byte.
#[test]
fn a_seed_is_a_world() {
    let mut counts = Counts::default();
    let mut hash = |seed| run(seed, 1_500, &mut counts);
    assert_eq!(hash(7), hash(7));
    assert_eq!(hash(8), hash(8));
    assert_ne!(hash(7), hash(8));
}
