//! What clients were granted, by their requests and the answers to them, and what may be relayed
//! because of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use turnstone::auth::{LongTermKey, PasswordAlgorithm};
use turnstone::turn::{
    AllocationId, AllocationView, Client, FiveTuple, RelayAddress, RelayId, Usage,
};
use turnstone::wire::{
    AttributeType as A, ChannelData, ChannelNumber, Class, Family, IntegrityAlgorithm, Message,
    Method, decode_channel_number, decode_xor_address, verify_integrity,
};

use crate::host::{Host, Sent, ip};
use crate::lists::{Lists, Verdict};
use crate::message::{Delivered, Reply};
use crate::operation::accounts;

/// Milliseconds that a permission and a channel last (RFC 8656 §9, §12).
const PERMISSION_MS: u64 = 300_000;
const CHANNEL_MS: u64 = 600_000;

/// The relay ports.
pub(crate) const PORTS: RangeInclusive<u16> = 50_000..=50_007;

/// What the lists, if they are written, have beside those of `tests/sim`: two of the relayed
/// addresses behind 1:1 NAT, by the name that clients are not told.
pub(crate) const DENIED_RELAYS: &str = "10.0.0.5:50006-50007";

/// Bytes of the longest reply.
const REPLY_MAX: usize = 1280;

/// The keys of everybody who may use the server.
static KEYS: LazyLock<Vec<LongTermKey>> = LazyLock::new(|| {
    let algorithms = [PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256];
    accounts()
        .flat_map(|it| algorithms.map(|algorithm| it.key(algorithm)))
        .collect()
});

/// Whether somebody who may use the server has made this message.
pub(crate) fn is_authentic(message: &Message<'_>) -> bool {
    [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256]
        .into_iter()
        .any(|algorithm| {
            message.integrity(algorithm).is_some()
                && KEYS
                    .iter()
                    .any(|key| verify_integrity(message, algorithm, key.as_bytes()))
        })
}

/// An answer fits its request, and only the authentic one succeeds.
pub(crate) fn assert_answer(request: &Message<'_>, reply: &Reply) {
    let message = reply.message();
    assert!(reply.bytes.len() <= REPLY_MAX);
    assert_eq!(message.transaction_id(), request.transaction_id(), "MSG-10");
    assert_eq!(message.method(), request.method(), "MSG-10");
    assert_eq!(
        message.has_fingerprint(),
        request.has_fingerprint(),
        "FP-04"
    );
    assert!(matches!(message.class(), Class::Success | Class::Error));
    assert_eq!(reply.code().is_some(), message.class() == Class::Error);
    let signatures = [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256]
        .into_iter()
        .filter(|&it| message.integrity(it).is_some());
    assert!(signatures.count() <= 1, "AUTH-20");
    assert!(
        !message.has_integrity() || is_authentic(&message),
        "AUTH-20"
    );
    if request.method() == Some(Method::Binding) {
        return;
    }
    let is_challenge = matches!(reply.code(), Some(401 | 438));
    assert_eq!(message.first(A::NONCE).is_some(), is_challenge, "AUTH-02");
    assert!(!is_challenge || !message.has_integrity());
    if message.class() == Class::Success {
        assert!(is_authentic(request) && message.has_integrity(), "AUTH-01");
    }
}

#[derive(Debug)]
struct Grants {
    id: AllocationId,
    permissions: BTreeMap<IpAddr, u64>,
    channels: BTreeMap<ChannelNumber, (SocketAddr, u64)>,
    /// Packets and bytes, to peers and to the client.
    usage: [u64; 4],
}

impl Grants {
    fn allows(&self, now: u64, ip: IpAddr) -> bool {
        self.permissions.get(&ip).is_some_and(|&until| until > now)
    }
}

pub(crate) struct Ledger {
    relays: Vec<RelayAddress>,
    lists: Lists,
    grants: Vec<(FiveTuple, Grants)>,
}

impl Ledger {
    pub(crate) const fn new(relays: Vec<RelayAddress>, lists: Lists) -> Self {
        Self {
            relays,
            lists,
            grants: Vec::new(),
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    fn of(&mut self, client: &FiveTuple) -> &mut Grants {
        let grants = self.grants.iter_mut().find(|(it, _)| it == client);
        &mut grants.expect("it has an allocation").1
    }

    pub(crate) fn open(&mut self, id: AllocationId, client: FiveTuple) {
        assert!(
            self.grants
                .iter()
                .all(|(it, other)| *it != client && other.id != id)
        );
        let grants = Grants {
            id,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            usage: [0; 4],
        };
        self.grants.push((client, grants));
    }

    pub(crate) fn close(&mut self, id: AllocationId, client: FiveTuple, usage: Usage) {
        let index = self.grants.iter().position(|(it, _)| *it == client);
        let (_, grants) = self
            .grants
            .swap_remove(index.expect("what is closed was open"));
        assert_eq!(grants.id, id);
        let counted = [
            usage.packets_to_peers,
            usage.bytes_to_peers,
            usage.packets_to_client,
            usage.bytes_to_client,
        ];
        assert_eq!(counted, grants.usage, "exact sums");
    }

    /// A request was answered: a success is a grant.
    pub(crate) fn grant(&mut self, now: u64, from: &Client, request: &Message<'_>, reply: &Reply) {
        if reply.class() != Class::Success {
            return;
        }
        let id = request.transaction_id();
        let mut peers = request
            .all(A::XOR_PEER_ADDRESS)
            .map(|value| decode_xor_address(value, &id).expect("a success for a bad peer"));
        match request.method() {
            Some(Method::CreatePermission) => {
                let peers: Vec<SocketAddr> = peers.collect();
                assert!(!peers.is_empty(), "PERM-04");
                for peer in &peers {
                    let ip = self.bound(*peer).ip();
                    let is_relay = self.relays.iter().any(|it| it.bound == ip);
                    assert!(is_relay || self.lists.verdict(ip) == Verdict::Peer, "{ip}");
                }
                let grants = self.of(&from.five_tuple);
                grants
                    .permissions
                    .extend(peers.iter().map(|it| (it.ip(), now + PERMISSION_MS)));
            }
            Some(Method::ChannelBind) => {
                let bound = peers.next().expect("CHAN-01");
                let number = request.first(A::CHANNEL_NUMBER).expect("CHAN-01");
                let number = decode_channel_number(number).expect("CHAN-01");
                let grants = self.of(&from.five_tuple);
                let live = grants
                    .channels
                    .iter()
                    .filter(|(_, (_, until))| *until > now);
                for (other, (peer, _)) in live {
                    let same = (*other == number, *peer == bound);
                    assert!(same.0 == same.1, "one channel a peer, CHAN-05");
                }
                grants.permissions.insert(bound.ip(), now + PERMISSION_MS);
                grants.channels.retain(|_, (_, until)| *until > now);
                grants.channels.insert(number, (bound, now + CHANNEL_MS));
            }
            _ => {}
        }
    }

    fn bound(&self, peer: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|it| it.advertised == peer.ip());
        relay.map_or(peer, |it| SocketAddr::new(it.bound, peer.port()))
    }

    fn advertised(&self, peer: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|it| it.bound == peer.ip());
        relay.map_or(peer, |it| SocketAddr::new(it.advertised, peer.port()))
    }

    /// Whether the lists close a transport address, by any name.
    fn is_denied(&self, peer: SocketAddr) -> bool {
        let bound = self.bound(peer);
        let is_denied_relay = bound.ip() == ip("10.0.0.5") && bound.port() >= 50_006;
        self.lists.close(peer) || (self.lists.are_written && is_denied_relay)
    }

    /// Out in the Internet as far as the lists have it, or a relay socket of this server. Nothing
    /// else.
    fn assert_is_peer(&self, peer: SocketAddr) {
        let bound = self.bound(peer);
        let is_relay = self.relays.iter().any(|it| it.bound == bound.ip());
        if is_relay {
            assert!(PORTS.contains(&peer.port()), "{peer}");
        } else {
            assert_eq!(self.lists.verdict(peer.ip()), Verdict::Peer, "{peer}");
        }
        assert!(!self.is_denied(peer), "{peer}");
    }

    /// A datagram left for a peer: the client may send to it, and this is what it sent.
    pub(crate) fn assert_may_send(&mut self, now: u64, from: &Client, packet: &[u8], sent: &Sent) {
        let peer;
        let data;
        if let Some(ChannelData { number, payload }) = ChannelData::parse(packet) {
            let grants = self.of(&from.five_tuple);
            let (bound, until) = grants.channels[&number];
            assert!(until > now, "no channel beyond 600 s");
            peer = bound;
            data = &packet[payload];
        } else {
            let message = Message::parse(packet).expect("nothing else is relayed");
            assert_eq!(message.method(), Some(Method::Send));
            let value = message.first(A::XOR_PEER_ADDRESS).expect("SEND-01");
            peer = decode_xor_address(value, &message.transaction_id()).expect("SEND-01");
            data = message.first(A::DATA).expect("SEND-01");
            let grants = self.of(&from.five_tuple);
            assert!(grants.allows(now, peer.ip()), "{peer} has no permission");
        }
        assert_eq!(sent.data, data);
        assert_eq!(sent.to, self.bound(peer));
        assert_eq!(sent.to.is_ipv4(), sent.from.is_ipv4());
        assert!(self.relays.iter().any(|it| it.bound == sent.from.ip()));
        self.assert_is_peer(peer);
        let usage = &mut self.of(&from.five_tuple).usage;
        usage[0] += 1;
        usage[1] += data.len() as u64;
    }

    /// A peer's datagram went to a client: the client wants it, on the channel if there is one.
    pub(crate) fn assert_may_hear(
        &mut self,
        now: u64,
        to: &Client,
        relay: RelayId,
        peer: SocketAddr,
        heard: &Delivered,
    ) {
        let peer = self.advertised(peer);
        // A relay socket that an error is about may be gone.
        if matches!(heard, Delivered::Icmp { .. }) {
            assert!(!self.is_denied(peer), "{peer}");
        } else {
            self.assert_is_peer(peer);
        }
        let grants = self.of(&to.five_tuple);
        assert_eq!(grants.id, relay.allocation);
        assert!(grants.allows(now, peer.ip()), "{peer} has no permission");
        let mut channels = grants.channels.iter();
        let channel = channels.find(|(_, (it, until))| *it == peer && *until > now);
        match heard {
            Delivered::Channel { number, .. } => {
                assert_eq!(Some(*number), channel.map(|it| it.0.get()), "CHAN-13");
            }
            Delivered::Data { peer: said, .. } => {
                assert!(channel.is_none(), "CHAN-13");
                assert_eq!(*said, peer);
            }
            Delivered::Icmp { peer: said, .. } => {
                assert_eq!(*said, peer);
                return;
            }
        }
        grants.usage[2] += 1;
        grants.usage[3] += heard.data().len() as u64;
    }

    /// With a relay socket goes what was granted in its family.
    pub(crate) fn forget_closed(&mut self, host: &Host) {
        for (_, grants) in &mut self.grants {
            let is_open = |ip: IpAddr| {
                let (allocation, family) = (grants.id, Family::of(ip));
                host.sockets
                    .values()
                    .any(|it| it.relay == RelayId { allocation, family })
            };
            grants.permissions.retain(|ip, _| is_open(*ip));
            grants.channels.retain(|_, (peer, _)| is_open(peer.ip()));
        }
    }

    /// The core counts what was granted: no more, no less, no longer.
    pub(crate) fn assert_same(&self, now: u64, view: &AllocationView<'_>) {
        let five_tuple = view.five_tuple();
        let Some((_, grants)) = self.grants.iter().find(|(it, _)| *it == five_tuple) else {
            assert_eq!(
                (view.permissions(), view.channels()),
                (0, 0),
                "it is pending"
            );
            return;
        };
        assert_eq!(view.id(), grants.id);
        let permissions = grants.permissions.iter().filter(|it| *it.1 > now);
        assert_eq!(view.permissions(), permissions.clone().count());
        for (ip, until) in permissions {
            let expiry = view.permission_expiry(*ip).expect("it is in force");
            assert_eq!(expiry.as_millis(), *until);
        }
        let channels = grants
            .channels
            .iter()
            .filter(|(_, (_, until))| *until > now);
        assert_eq!(view.channels(), channels.clone().count());
        for (number, (_, until)) in channels {
            let expiry = view.channel_expiry(*number).expect("it is bound");
            assert_eq!(expiry.as_millis(), *until);
        }
    }
}
