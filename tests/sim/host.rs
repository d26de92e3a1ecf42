//! The host of the core: shards, a fake clock and sockets that are only names.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use secrecy::SecretString;
use turnstone::auth::{Authenticator, Credentials, NonceKey};
use turnstone::turn::{
    Action, Client, ClientPolicy, Deliver, Event, FiveTuple, Forward, IpHeader, Limits, Now,
    Options, PeerPolicy, PortPool, RelayAddress, RelayFailure, RelayId, Server, Shared, Time,
};
use turnstone::wire::{HEADROOM, IcmpAttribute, TAILROOM};

use crate::message::{Account, Delivered, REALM, Reply};

/// Unix time of the clock's origin: 2026-01-01T00:00:00Z.
pub(crate) const UNIX_ORIGIN_S: u64 = 1_767_225_600;

/// The shared secrets of time-limited credentials.
pub(crate) const SECRETS: [&str; 2] = ["north", "logen"];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The users with passwords.
pub(crate) fn alice() -> Account {
    Account::new("alice", "wonderland")
}

pub(crate) fn bob() -> Account {
    Account::new("bob", "builder")
}

/// What is different from one server to the next.
pub(crate) struct Setup {
    pub(crate) relays: Vec<RelayAddress>,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) limits: Limits,
    pub(crate) clients: ClientPolicy,
    pub(crate) peers: PeerPolicy,
    pub(crate) nonce_lifetime_s: u32,
    pub(crate) dont_fragment: bool,
    pub(crate) classic_stun: bool,
    pub(crate) software: Option<&'static str>,
    pub(crate) shards: usize,
    pub(crate) seed: u8,
    pub(crate) start_ms: u64,
    pub(crate) binds: Binds,
}

impl Default for Setup {
    /// An IPv4 and an IPv6 relay address, and the limits of a server without a configuration.
    fn default() -> Self {
        Self {
            relays: vec![relay("192.0.2.15"), relay("2001:db8::15")],
            ports: 49_152..=65_535,
            listeners: Vec::new(),
            limits: Limits::default(),
            clients: ClientPolicy::default(),
            peers: PeerPolicy::default(),
            nonce_lifetime_s: 600,
            dont_fragment: true,
            classic_stun: false,
            software: None,
            shards: 1,
            seed: 1,
            start_ms: 1_234_567,
            binds: Binds::Succeed,
        }
    }
}

/// A relay address that is advertised as it is.
pub(crate) fn relay(text: &str) -> RelayAddress {
    RelayAddress {
        bound: ip(text),
        advertised: ip(text),
    }
}

/// What becomes of a request for a relay socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binds {
    Succeed,
    /// The next so many fail, then all succeed.
    Fail(u32, RelayFailure),
    /// Nothing is reported until somebody does: see [`Host::waiting`].
    Wait,
}

/// A datagram from a relay socket to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) data: Vec<u8>,
    pub(crate) ip: IpHeader,
    pub(crate) dont_fragment: bool,
}

/// The name of a relay socket, in an order.
pub(crate) type SocketName = (usize, u32, u32, u8);

fn name(shard: usize, relay: RelayId) -> SocketName {
    let id = relay.allocation;
    (shard, id.slot, id.generation, relay.family as u8)
}

/// A relay socket, bound or asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    pub(crate) shard: usize,
    pub(crate) relay: RelayId,
    pub(crate) address: SocketAddr,
}

pub(crate) struct Host {
    pub(crate) shards: Vec<Server>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) binds: Binds,
    /// Sockets that the core asked for and that nobody reported on.
    pub(crate) waiting: VecDeque<Socket>,
    /// Bound sockets.
    pub(crate) sockets: BTreeMap<SocketName, Socket>,
    pub(crate) replies: VecDeque<Reply>,
    /// With their shard.
    pub(crate) events: VecDeque<(usize, Event)>,
    pub(crate) now_ms: u64,
}

impl Host {
    pub(crate) fn new(setup: Setup) -> Self {
        let mut credentials = Credentials::new(REALM, ':').unwrap();
        for Account { username, password } in [alice(), bob()] {
            let password = SecretString::from(password);
            credentials.add_user(&username, &password).unwrap();
        }
        for secret in SECRETS {
            credentials.add_secret(SecretString::from(secret));
        }
        Self::with_credentials(setup, credentials)
    }

    pub(crate) fn with_credentials(setup: Setup, credentials: Credentials) -> Self {
        let keys = vec![NonceKey::new([setup.seed; 32])];
        let authenticator = Authenticator::new(Arc::new(credentials), keys, setup.nonce_lifetime_s);
        let options = Arc::new(Options {
            authenticator,
            limits: setup.limits,
            clients: setup.clients,
            peers: setup.peers,
            software: setup.software.map(Into::into),
            classic_stun: setup.classic_stun,
            dont_fragment: setup.dont_fragment,
        });
        let ports = PortPool::new(&setup.relays, setup.ports, &setup.listeners);
        let shared = Arc::new(Shared::new(ports));
        let shards = (0..setup.shards)
            .map(|shard| {
                let mut seed = [setup.seed; 32];
                seed[0] = shard as u8;
                let (options, shared) = (Arc::clone(&options), Arc::clone(&shared));
                Server::new(options, shared, seed)
            })
            .collect();
        Self {
            shards,
            shared,
            binds: setup.binds,
            waiting: VecDeque::new(),
            sockets: BTreeMap::new(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            now_ms: setup.start_ms,
        }
    }

    pub(crate) fn time(&self) -> Time {
        Time::from_millis(self.now_ms)
    }

    pub(crate) fn unix_s(&self) -> u64 {
        UNIX_ORIGIN_S + self.now_ms / 1000
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            time: self.time(),
            unix_s: self.unix_s(),
        }
    }

    /// The shard that the kernel brings a five-tuple to.
    pub(crate) fn shard_of(&self, five_tuple: &FiveTuple) -> usize {
        usize::from(five_tuple.client.port()) % self.shards.len()
    }

    /// A packet from a client. What it makes the core do is done; a relayed datagram is returned.
    pub(crate) fn client_packet(
        &mut self,
        client: Client,
        ip: IpHeader,
        packet: &[u8],
    ) -> Option<Sent> {
        let shard = self.shard_of(&client.five_tuple);
        let now = self.now();
        let forward = self.shards[shard].handle_client(now, client, ip, packet);
        self.drain(shard);
        let Forward {
            relay,
            peer,
            payload,
            ip,
            dont_fragment,
        } = forward?;
        let socket = self.sockets.get(&name(shard, relay));
        Some(Sent {
            from: socket.expect("data leaves from a bound socket").address,
            to: peer,
            data: packet[payload].to_vec(),
            ip,
            dont_fragment,
        })
    }

    /// A datagram from a peer on the socket that is bound to `relay`, if there is one.
    pub(crate) fn peer_packet(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
        ip: IpHeader,
        payload: &[u8],
    ) -> Option<(Client, Delivered, IpHeader)> {
        let socket = *self.sockets.values().find(|it| it.address == relay)?;
        let mut buffer = vec![0xAA; HEADROOM + payload.len() + TAILROOM];
        let range = HEADROOM..HEADROOM + payload.len();
        buffer[range.clone()].copy_from_slice(payload);
        let time = self.time();
        let deliver =
            self.shards[socket.shard].handle_peer(time, socket.relay, peer, ip, &mut buffer, range);
        self.drain(socket.shard);
        Some(read(deliver?, &buffer))
    }

    /// An ICMP error about a datagram to `peer` from the socket that is bound to `relay`.
    pub(crate) fn icmp(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
        icmp: IcmpAttribute,
    ) -> Option<(Client, Delivered, IpHeader)> {
        let socket = *self.sockets.values().find(|it| it.address == relay)?;
        let mut buffer = [0xAA; 64];
        let time = self.time();
        let deliver =
            self.shards[socket.shard].handle_icmp(time, socket.relay, peer, icmp, &mut buffer);
        Some(read(deliver?, &buffer))
    }

    pub(crate) fn disconnect(&mut self, five_tuple: &FiveTuple) {
        let shard = self.shard_of(five_tuple);
        let time = self.time();
        self.shards[shard].handle_disconnect(time, five_tuple);
        self.drain(shard);
    }

    pub(crate) fn shut_down(&mut self) {
        let time = self.time();
        for shard in 0..self.shards.len() {
            self.shards[shard].shut_down(time);
            self.drain(shard);
        }
    }

    /// Reports on the socket that was asked for first of those that wait.
    pub(crate) fn report(&mut self, outcome: Result<(), RelayFailure>) {
        let socket = self.waiting.pop_front().expect("a socket was asked for");
        self.report_on(socket, outcome);
        self.drain(socket.shard);
    }

    /// Reports on a socket that is not among those that wait any more.
    pub(crate) fn report_on(&mut self, socket: Socket, outcome: Result<(), RelayFailure>) {
        let now = self.now();
        let shard = &mut self.shards[socket.shard];
        match outcome {
            Ok(()) => {
                let bound = self
                    .sockets
                    .insert(name(socket.shard, socket.relay), socket);
                assert_eq!(bound, None, "one socket a relayed address");
                shard.handle_relay_bound(now, socket.relay);
            }
            Err(failure) => shard.handle_relay_failed(now, socket.relay, failure),
        }
    }

    /// Lets time pass. Every shard is woken exactly when it wants to be.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(due) = self.next_timeout_ms().filter(|&due| due <= end) {
            self.now_ms = self.now_ms.max(due);
            self.expire();
        }
        self.now_ms = end;
    }

    pub(crate) fn advance_s(&mut self, seconds: u64) {
        self.advance_ms(seconds * 1000);
    }

    /// When a shard wants to be woken next.
    pub(crate) fn next_timeout_ms(&self) -> Option<u64> {
        self.shards
            .iter()
            .filter_map(Server::poll_timeout)
            .map(Time::as_millis)
            .min()
    }

    /// Wakes the shards whose time has come.
    pub(crate) fn expire(&mut self) {
        let time = self.time();
        for shard in 0..self.shards.len() {
            let due = self.shards[shard].poll_timeout();
            if due.is_some_and(|due| due <= time) {
                self.shards[shard].handle_timeout(time);
                self.drain(shard);
                assert!(
                    self.shards[shard]
                        .poll_timeout()
                        .is_none_or(|due| due > time),
                    "a shard that was woken has nothing left to do"
                );
            }
        }
    }

    /// Does what a shard wants done.
    pub(crate) fn drain(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].poll_action() {
            match action {
                Action::Reply { to, message } => {
                    let bytes = message;
                    self.replies.push_back(Reply { to, bytes });
                }
                Action::BindRelay { relay, address } => self.waiting.push_back(Socket {
                    shard,
                    relay,
                    address,
                }),
                Action::CloseRelay { relay } => {
                    let bound = self.sockets.remove(&name(shard, relay));
                    let asked = self
                        .waiting
                        .iter()
                        .position(|it| (it.shard, it.relay) == (shard, relay));
                    let asked = asked.and_then(|index| self.waiting.remove(index));
                    assert!(
                        bound.is_some() != asked.is_some(),
                        "what is closed was open, or asked for"
                    );
                }
            }
        }
        while let Some(event) = self.shards[shard].poll_event() {
            self.events.push_back((shard, event));
        }
        while let Some(outcome) = self.next_bind() {
            self.report(outcome);
        }
    }

    /// How the next bind ends, if there is one to be reported on at once.
    fn next_bind(&mut self) -> Option<Result<(), RelayFailure>> {
        self.waiting.front()?;
        match &mut self.binds {
            Binds::Succeed | Binds::Fail(0, _) => Some(Ok(())),
            Binds::Fail(left, failure) => {
                *left -= 1;
                Some(Err(*failure))
            }
            Binds::Wait => None,
        }
    }

    /// The only reply since the last look.
    pub(crate) fn only_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.pop_front();
        assert!(self.replies.is_empty(), "one reply at the most");
        reply
    }
}

fn read(deliver: Deliver, buffer: &[u8]) -> (Client, Delivered, IpHeader) {
    let Deliver {
        client,
        message,
        ip,
    } = deliver;
    let is_stream = client.five_tuple.transport.is_stream();
    (client, Delivered::read(&buffer[message], is_stream), ip)
}
