//! Clients that do whatever comes to mind.

use std::net::SocketAddr;

use turnstone::turn::{Client, FiveTuple, IpHeader, Link, Transport};
use turnstone::wire::{AttributeType as A, Method, TransactionId};

use super::intent::{Allocate, Ask, Fault, Intent, Packet, Request};
use super::requests::name_until;
use super::rng::Rng;
use crate::client::{SERVER, SERVER_V6};
use crate::host::{SECRETS, address, alice, bob};
use crate::message::{Account, Reply, Scheme};

pub(crate) struct Agent {
    pub(crate) at: Client,
    pub(crate) account: Account,
    scheme: Scheme,
    nonce: Vec<u8>,
    next_id: u32,
    /// Whether it was told of an allocation of its own.
    pub(crate) has_allocation: bool,
    /// Peers and channels that it asked for lately.
    peers: Vec<SocketAddr>,
    channels: Vec<u16>,
    /// What it sent lately, for replays.
    sent: Vec<Packet>,
    /// The Allocate request that may have made its allocation.
    allocate: Option<Packet>,
}

/// What agents know of each other, as if by signalling.
#[derive(Default)]
pub(crate) struct Gossip {
    pub(crate) relayed: Vec<SocketAddr>,
    pub(crate) tokens: Vec<Vec<u8>>,
    pub(crate) nonces: Vec<Vec<u8>>,
}

const SCHEMES: [Scheme; 4] = [
    Scheme::Old,
    Scheme::Md5Sha1,
    Scheme::Md5Sha256,
    Scheme::Sha256,
];

/// Peers, and what is none.
const PEERS: [&str; 12] = [
    "9.9.9.1",
    "9.9.9.2",
    "9.9.9.3",
    "9.9.9.4",
    "9.9.9.5",
    "2606:4700::1",
    "2606:4700::2",
    "2606:4700::3",
    "10.0.0.1",
    "127.0.0.1",
    "fd00::1",
    "::ffff:9.9.9.1",
];

impl Agent {
    pub(crate) fn new(index: u16, rng: &mut Rng) -> Self {
        let ip = if rng.chance(70) {
            format!("198.51.100.{}", 1 + index)
        } else {
            format!("[2001:db8:7::{}]", 1 + index)
        };
        let client = address(&format!("{ip}:{}", 1000 + rng.below(1000)));
        let server = address(if client.is_ipv4() { SERVER } else { SERVER_V6 });
        let transport = if rng.chance(70) {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let five_tuple = FiveTuple {
            transport,
            client,
            server,
        };
        let account = match rng.below(10) {
            0..=2 => alice(),
            3..=5 => bob(),
            6 if index == 1 => Account::new("mallory", "guess"),
            _ => {
                let user = rng.pick(&["carol", "dave"]);
                let name = name_until(user, rng.below(40_000));
                Account::rest(rng.pick(&SECRETS), &name)
            }
        };
        Self {
            at: Client {
                five_tuple,
                link: Link(u32::from(index)),
            },
            account,
            scheme: rng.pick(&SCHEMES),
            nonce: Vec::new(),
            next_id: 0,
            has_allocation: false,
            peers: Vec::new(),
            channels: Vec::new(),
            sent: Vec::new(),
            allocate: None,
        }
    }

    /// Gets a credential that is good for a while, if it is one of those that end.
    pub(crate) fn renew(&mut self, rng: &mut Rng, now_s: u64) {
        if let Some((_, user)) = self.account.username.split_once(':') {
            let name = name_until(user, now_s + rng.below(40_000));
            self.account = Account::rest(rng.pick(&SECRETS), &name);
        }
    }

    /// Starts again with another port, or on the same one, knowing nothing any more.
    pub(crate) fn restart(&mut self, rng: &mut Rng, same_port: bool) {
        if !same_port {
            self.rebind(rng);
        }
        self.nonce.clear();
        self.has_allocation = false;
    }

    /// Its NAT gives it another port.
    pub(crate) fn rebind(&mut self, rng: &mut Rng) {
        let port = 1000 + rng.below(60_000) as u16;
        self.at.five_tuple.client.set_port(port);
    }

    /// The request that made its allocation, if it still sends from the same place.
    pub(crate) fn first_request(&self) -> Option<Packet> {
        self.allocate.clone().filter(|it| it.from == self.at)
    }

    fn id(&mut self) -> TransactionId {
        self.next_id += 1;
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.at.link.0.to_be_bytes());
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        TransactionId(id)
    }

    /// Reads an answer.
    pub(crate) fn read(&mut self, reply: &Reply, gossip: &mut Gossip) {
        if let Some(nonce) = reply.attribute(A::NONCE) {
            gossip.nonces.push(nonce.clone());
            self.nonce = nonce;
        }
        match reply.code() {
            Some(437) => self.has_allocation = reply.message().method() == Some(Method::Allocate),
            None if reply.lifetime() == Some(0) => self.has_allocation = false,
            _ => self.has_allocation |= !reply.relayed().is_empty(),
        }
        gossip.relayed.extend(reply.relayed());
        gossip.tokens.extend(reply.token());
    }

    /// The next thing it sends.
    pub(crate) fn packet(&mut self, rng: &mut Rng, gossip: &Gossip) -> Packet {
        if rng.chance(6) && !self.sent.is_empty() {
            let mut replay = rng.pick(&self.sent);
            // Its transport may have changed meanwhile, and is where it sends from now.
            if rng.chance(50) {
                replay.from = self.at;
            }
            return replay;
        }
        let ttl = rng.pick(&[None, Some(64), Some(64), Some(1)]);
        let tos = rng.next() as u8;
        let ip = IpHeader { ttl, tos };
        let (id, intent) = (self.id(), self.intent(rng, gossip));
        let is_stream = self.at.five_tuple.transport.is_stream();
        let mut bytes = if matches!(intent, Intent::Junk) {
            let len = 2 + rng.below(60);
            rng.bytes(len)
        } else {
            intent.bytes(id, is_stream)
        };
        let intent = if rng.chance(2) && !matches!(intent, Intent::ChannelData { .. }) {
            // What is cut off somewhere is nothing any more.
            bytes.truncate(1 + rng.below(bytes.len() as u64 - 1) as usize);
            Intent::Junk
        } else {
            intent
        };
        let packet = Packet {
            from: self.at,
            ip,
            bytes,
            intent,
        };
        let is_allocate = matches!(
            &packet.intent,
            Intent::Request(Request {
                ask: Ask::Allocate(_),
                ..
            })
        );
        if is_allocate && !self.has_allocation {
            self.allocate = Some(packet.clone());
        }
        if self.sent.len() == 16 {
            self.sent.remove(0);
        }
        self.sent.push(packet.clone());
        packet
    }

    fn intent(&mut self, rng: &mut Rng, gossip: &Gossip) -> Intent {
        let len = rng.pick(&[0, 1, 2, 3, 4, 160, 1200]);
        let talks = if self.has_allocation { 70 } else { 5 };
        match rng.below(100) {
            0..=1 => Intent::Junk,
            2..=4 => Intent::Binding,
            _ if rng.chance(100 - talks) => Intent::Request(self.request(rng, gossip)),
            5..=54 => Intent::Send {
                peer: self.known_peer(rng, gossip),
                data: rng.bytes(len),
                has_unknown: rng.chance(3),
            },
            _ => Intent::ChannelData {
                number: if rng.chance(70) && !self.channels.is_empty() {
                    rng.pick(&self.channels)
                } else {
                    channel(rng)
                },
                data: rng.bytes(len),
            },
        }
    }

    fn request(&mut self, rng: &mut Rng, gossip: &Gossip) -> Request {
        let faults = [
            Fault::None,
            Fault::Incomplete,
            Fault::Realm,
            Fault::Password,
            Fault::Algorithm,
        ];
        let fault = if self.nonce.is_empty() {
            Some(Fault::None)
        } else {
            rng.chance(6).then(|| rng.pick(&faults))
        };
        let nonce = match rng.below(40) {
            0 => rng.bytes(29),
            1 if !gossip.nonces.is_empty() => rng.pick(&gossip.nonces),
            _ => self.nonce.clone(),
        };
        if rng.chance(3) {
            self.scheme = rng.pick(&SCHEMES);
        }
        let account = if rng.chance(3) {
            alice()
        } else {
            self.account.clone()
        };
        Request {
            id: self.id(),
            account,
            scheme: self.scheme,
            nonce,
            fault,
            ask: self.ask(rng, gossip),
            has_unknown: rng.chance(2),
        }
    }

    fn ask(&mut self, rng: &mut Rng, gossip: &Gossip) -> Ask {
        if !self.has_allocation && rng.chance(80) {
            return Ask::Allocate(allocate(rng, gossip));
        }
        match rng.below(20) {
            0 => Ask::Allocate(allocate(rng, gossip)),
            1..=4 => Ask::Refresh {
                lifetime: rng.pick(&[
                    None,
                    None,
                    Some(600),
                    Some(3600),
                    Some(1),
                    Some(0),
                    Some(u32::MAX),
                ]),
                family: rng.pick(&[None, None, None, Some(1), Some(2), Some(7)]),
            },
            5..=12 => {
                let count = rng.pick(&[1, 1, 1, 2, 3, 0]);
                Ask::Permit((0..count).map(|_| self.new_peer(rng, gossip)).collect())
            }
            _ => {
                let number = channel(rng);
                remember(&mut self.channels, number);
                let peer = if rng.chance(60) {
                    self.known_peer(rng, gossip)
                } else {
                    self.new_peer(rng, gossip)
                };
                Ask::Bind { number, peer }
            }
        }
    }

    /// Most of the time somebody whom it asked for already.
    fn known_peer(&mut self, rng: &mut Rng, gossip: &Gossip) -> SocketAddr {
        if rng.chance(80) && !self.peers.is_empty() {
            rng.pick(&self.peers)
        } else {
            self.new_peer(rng, gossip)
        }
    }

    fn new_peer(&mut self, rng: &mut Rng, gossip: &Gossip) -> SocketAddr {
        let recent = gossip.relayed.len().saturating_sub(8);
        let peer = if rng.chance(25) && recent < gossip.relayed.len() {
            rng.pick(&gossip.relayed[recent..])
        } else {
            random_peer(rng)
        };
        remember(&mut self.peers, peer);
        peer
    }
}

/// Keeps the last few.
fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() == 4 {
        list.remove(0);
    }
    list.push(item);
}

fn allocate(rng: &mut Rng, gossip: &Gossip) -> Allocate {
    let mut allocate = Allocate {
        lifetime: rng.pick(&[None, None, Some(0), Some(700), Some(3600), Some(4000)]),
        is_tcp: rng.chance(2),
        ..Allocate::default()
    };
    if rng.chance(30) {
        allocate.family = Some(rng.pick(&[1, 2, 2, 3]));
    }
    if rng.chance(25) {
        allocate.additional = true;
    }
    if rng.chance(30) {
        allocate.even_port = Some(rng.chance(60));
    }
    if rng.chance(50) && !gossip.tokens.is_empty() {
        let recent = gossip.tokens.len().saturating_sub(2);
        allocate.token = Some(rng.pick(&gossip.tokens[recent..]));
        if rng.chance(85) {
            allocate.family = None;
            allocate.additional = false;
            allocate.even_port = None;
        }
    }
    allocate
}

fn channel(rng: &mut Rng) -> u16 {
    rng.pick(&[0x4000, 0x4000, 0x4001, 0x4002, 0x4FFF, 0x3FFF, 0x5000])
}

/// Somebody whom agents may have heard of, or not.
pub(crate) fn random_peer(rng: &mut Rng) -> SocketAddr {
    let ip = match rng.below(100) {
        0..=74 => rng.pick(&PEERS[..4]),
        75..=89 => rng.pick(&PEERS[5..8]),
        _ => rng.pick(&PEERS),
    };
    SocketAddr::new(
        crate::host::ip(ip),
        rng.pick(&[5000, 5000, 5000, 5000, 5001, 5001, 5002, 0]),
    )
}
