//! The data path: where a packet goes. No heap, no copy of the payload, no queue.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use rand_chacha::rand_core::RngCore;

use super::IpHeader;
use super::action::{Deliver, Forward};
use super::allocation::Allocation;
use super::bandwidth::Way;
use super::client::{Client, FiveTuple};
use super::counters::DropCause;
use super::event::{Event, RelayId};
use super::limits::{Limits, UDP_PAYLOAD_MAX};
use super::peer_policy::{PeerGate, Reach};
use super::server::{Options, Server};
use super::time::Time;
use crate::wire::{
    ATTRIBUTE_HEADER_LEN, AttributeType, ChannelData, Class, Family, IcmpAttribute, Message,
    MessageBuilder, Method, TransactionId, decode_xor_address, prepend_channel_data,
    prepend_data_indication,
};

/// What a handler on the data path comes to: a route, nothing to relay, or a reason to drop.
pub(super) type Routed = Result<Option<Forward>, DropCause>;

impl Server {
    /// ChannelData from a client (RFC 8656 §12.6). It needs the channel only: that the permission
    /// is in force too is not asked for in this direction.
    pub(super) fn route_channel_data(
        &mut self,
        now: Time,
        client: &Client,
        ip: IpHeader,
        packet: &[u8],
    ) -> Routed {
        let message = ChannelData::parse(packet).ok_or(DropCause::Malformed)?;
        let allocation = self
            .table
            .find_mut(&client.five_tuple)
            .ok_or(DropCause::NoAllocation)?;
        let (peer, reach) = allocation
            .channels
            .peer_and_reach(now, message.number)
            .ok_or(DropCause::NoChannel)?;
        let data = ClientData {
            peer,
            payload: message.payload,
            dont_fragment: false,
        };
        let books = Books {
            gate: PeerGate::new(&self.options.peers, &self.shared.ports),
            limits: &self.options.limits,
            events: &mut self.events,
        };
        route(books, allocation, now, ip, reach, data)
    }

    /// A Send indication (RFC 8656 §11.2). Never answered, whatever is wrong with it.
    pub(super) fn route_send(
        &mut self,
        now: Time,
        client: &Client,
        ip: IpHeader,
        message: &Message<'_>,
    ) -> Routed {
        let allocation = self
            .table
            .find_mut(&client.five_tuple)
            .ok_or(DropCause::NoAllocation)?;
        let data = read_send(&self.options, message)?;
        let reach = allocation
            .permissions
            .reach(now, data.peer.ip())
            .ok_or(DropCause::NoPermission)?;
        let books = Books {
            gate: PeerGate::new(&self.options.peers, &self.shared.ports),
            limits: &self.options.limits,
            events: &mut self.events,
        };
        route(books, allocation, now, ip, reach, data)
    }

    /// A datagram from a peer, at `buffer[payload]`, received on a relay socket (RFC 8656 §11.3,
    /// §12.5). The message for the client is built around it, in place.
    ///
    /// # Panics
    /// If there are not `wire::HEADROOM` bytes before and `wire::TAILROOM` after the payload.
    pub fn handle_peer(
        &mut self,
        now: Time,
        relay: RelayId,
        peer: SocketAddr,
        ip: IpHeader,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Option<Deliver> {
        match self.deliver(now, relay, peer, ip, buffer, payload) {
            Ok(deliver) => Some(deliver),
            Err(cause) => {
                self.counters.count(cause);
                None
            }
        }
    }

    fn deliver(
        &mut self,
        now: Time,
        relay: RelayId,
        peer: SocketAddr,
        ip: IpHeader,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Result<Deliver, DropCause> {
        let peer = self.shared.ports.to_advertised(peer);
        let allocation = self
            .table
            .get_mut(relay.allocation)
            .ok_or(DropCause::NoAllocation)?;
        allocation
            .live_relay(now, relay.family)
            .ok_or(DropCause::NoAllocation)?;
        let gate = PeerGate::new(&self.options.peers, &self.shared.ports);
        let reach = allocation
            .permissions
            .reach(now, peer.ip())
            .ok_or(DropCause::NoPermission)?;
        gate.check_packet(peer, reach)
            .map_err(|_| DropCause::PeerRefused)?;
        let client = allocation.client;
        let is_stream = client.five_tuple.transport.is_stream();
        let ip = ip.relayed(is_stream).ok_or(DropCause::HopLimit)?;
        let len = payload.len();
        allocation.charge(
            &self.options.limits,
            &mut self.events,
            now,
            (Way::ToClient, relay.family),
            len,
        )?;
        let message = match allocation.channels.number(now, peer) {
            Some(number) => prepend_channel_data(buffer, payload, number, is_stream),
            None => {
                let mut id = [0; 12];
                self.random.fill_bytes(&mut id);
                prepend_data_indication(buffer, payload, peer, TransactionId(id))
            }
        };
        let message = message
            .filter(|message| is_stream || message.len() <= UDP_PAYLOAD_MAX)
            .ok_or(DropCause::TooLarge)?;
        allocation.usage.packets_to_client += 1;
        allocation.usage.bytes_to_client += len as u64;
        let relayed = self.counters.relayed.at(&client.five_tuple);
        relayed.count(Way::ToClient, len);
        allocation.last_relayed = now;
        Ok(Deliver {
            client,
            message,
            ip,
        })
    }

    /// Of what [`Server::handle_peer`] had delivered so much was dropped on the way to the client.
    pub fn handle_undelivered(&mut self, client: &FiveTuple, packets: u64) {
        if let Some(allocation) = self.table.find_mut(client) {
            allocation.usage.dropped_to_client += packets;
        }
    }

    /// An ICMP error about a datagram that a relay socket sent to `peer` (RFC 8656 §11.5). Which
    /// router says so does not matter; the peer must have a permission. The Data indication is
    /// written to the start of `buffer`, which must hold 64 bytes.
    pub fn handle_icmp(
        &mut self,
        now: Time,
        relay: RelayId,
        peer: SocketAddr,
        icmp: IcmpAttribute,
        buffer: &mut [u8],
    ) -> Option<Deliver> {
        if !is_relayed_icmp(peer.ip(), icmp.icmp_type) {
            return None;
        }
        // Elsewhere the field is unused, or holds what the router likes.
        let has_mtu = match peer.ip() {
            IpAddr::V4(_) => (icmp.icmp_type, icmp.icmp_code) == (3, 4),
            IpAddr::V6(_) => icmp.icmp_type == 2,
        };
        let icmp = IcmpAttribute {
            error_data: if has_mtu { icmp.error_data } else { 0 },
            ..icmp
        };
        let peer = self.shared.ports.to_advertised(peer);
        let allocation = self.table.get(relay.allocation)?;
        allocation.live_relay(now, relay.family)?;
        let Some(reach) = allocation.permissions.reach(now, peer.ip()) else {
            self.counters.count(DropCause::NoPermission);
            return None;
        };
        if reach == Reach::ByPort && self.peer_gate().check_again(peer).is_err() {
            self.counters.count(DropCause::PeerRefused);
            return None;
        }
        let client = allocation.client;
        if !self.icmp_limit.admits(now, self.options.limits.icmp_per_s) {
            self.counters.count(DropCause::IcmpLimit);
            return None;
        }
        let id = TransactionId(self.random_bytes());
        let len = MessageBuilder::new(buffer, Class::Indication, Method::Data, id)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::ICMP, &icmp.encode())
            .finish()
            .ok()?;
        Some(Deliver {
            client,
            message: 0..len,
            ip: IpHeader::default(),
        })
    }
}

/// What a client wants to have sent.
struct ClientData {
    peer: SocketAddr,
    payload: Range<usize>,
    dont_fragment: bool,
}

/// Takes a Send indication apart.
fn read_send(options: &Options, message: &Message<'_>) -> Result<ClientData, DropCause> {
    let (mut peer, mut data, mut dont_fragment) = (None, None, false);
    for attribute in message.attributes() {
        match attribute.attribute_type {
            AttributeType::XOR_PEER_ADDRESS if peer.is_none() => peer = Some(attribute.value),
            AttributeType::DATA if data.is_none() => {
                let start = attribute.offset + ATTRIBUTE_HEADER_LEN;
                data = Some(start..start + attribute.value.len());
            }
            other if !options.understands(other) => return Err(DropCause::UnknownAttribute),
            AttributeType::DONT_FRAGMENT => dont_fragment = true,
            _ => {}
        }
    }
    let (Some(peer), Some(payload)) = (peer, data) else {
        return Err(DropCause::BadIndication);
    };
    let peer = decode_xor_address(peer, &message.transaction_id())
        .map_err(|_| DropCause::BadIndication)?;
    if peer.port() == 0 {
        return Err(DropCause::BadIndication);
    }
    Ok(ClientData {
        peer,
        payload,
        dont_fragment,
    })
}

/// What [`route`] needs of the shard beside the allocation.
struct Books<'a> {
    gate: PeerGate<'a>,
    limits: &'a Limits,
    events: &'a mut VecDeque<Event>,
}

/// The last steps of both ways from client to peer: the socket of the peer's family, the header,
/// the limits of bandwidth.
fn route(
    books: Books<'_>,
    allocation: &mut Allocation,
    now: Time,
    ip: IpHeader,
    reach: Reach,
    data: ClientData,
) -> Routed {
    let ClientData {
        peer,
        payload,
        dont_fragment,
    } = data;
    let Books {
        gate,
        limits,
        events,
    } = books;
    let family = Family::of(peer.ip());
    allocation
        .live_relay(now, family)
        .ok_or(DropCause::NoAllocation)?;
    gate.check_packet(peer, reach)
        .map_err(|_| DropCause::PeerRefused)?;
    let client = allocation.client.five_tuple;
    let ip = ip
        .relayed(client.transport.is_stream())
        .ok_or(DropCause::HopLimit)?;
    if payload.len() > UDP_PAYLOAD_MAX {
        return Err(DropCause::TooLarge);
    }
    allocation.charge(limits, events, now, (Way::ToPeers, family), payload.len())?;
    allocation.usage.packets_to_peers += 1;
    allocation.usage.bytes_to_peers += payload.len() as u64;
    allocation.last_relayed = now;
    // Between families, and between IPv6 addresses, the attribute means nothing (RFC 8656 §13).
    let both_v4 = family == Family::V4 && client.client.is_ipv4();
    Ok(Some(Forward {
        relay: RelayId {
            allocation: allocation.id,
            family,
        },
        peer: gate.ports.to_bound(peer),
        payload,
        ip,
        dont_fragment: dont_fragment && both_v4,
    }))
}

/// The errors that a client can act on: destination unreachable and time exceeded, and for IPv6
/// packet too big.
const fn is_relayed_icmp(peer: IpAddr, icmp_type: u8) -> bool {
    match peer {
        IpAddr::V4(_) => matches!(icmp_type, 3 | 11),
        IpAddr::V6(_) => matches!(icmp_type, 1..=3),
    }
}

/// Counts the ICMP indications of the current second.
#[derive(Debug, Default)]
pub(super) struct IcmpLimit {
    second: u64,
    sent: u32,
}

impl IcmpLimit {
    fn admits(&mut self, now: Time, per_s: u32) -> bool {
        if self.second != now.as_secs() {
            *self = Self {
                second: now.as_secs(),
                sent: 0,
            };
        }
        self.sent += 1;
        self.sent <= per_s
    }
}
