//! One worker: a shard of the server with its sockets, on one thread.
//!
//! UDP comes in rounds. The epoll set tells which sockets have something; each is drained into the
//! batch, the core says where every packet goes, and what leaves by the same socket leaves in one
//! system call, from where it was received. Every round is bounded, and afterwards the runtime
//! gives the streams their turn.

mod life;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use tracing::warn;

use super::clock;
#[cfg(feature = "dtls")]
use super::dtls::Dtls;
use super::event_log::EventLog;
use super::listen::Listeners;
use super::listeners::{Doors, UdpListener};
use super::notices::NoticeSink;
use super::record::{AllocationDetail, AllocationRecord};
use super::relay::{self, Outbox, RelaySockets};
use super::stream::{Priority, Streams};
use super::tasks::Tasks;
use super::udp::sys::{self, Batch, Datagram, Events, HeaderFields, SendQueue, WatchedSet};
use crate::metrics::{self, BatchSizes, Metrics, TickDelays};
use crate::turn::{
    Action, AllocationId, AllocationView, Client, CloseReason, Deliver, FiveTuple, Forward,
    IpHeader, Link, Now, RelayId, Server, Shared, Transport,
};
use crate::wire::{self, IcmpAttribute};

pub(super) use life::{Parts, run};

/// Datagrams that are received before anything is sent. At 1200 bytes a batch fits the L2 cache.
const BATCH_SLOTS: usize = 64;

/// Places of allocations that operators' questions look at before the worker goes on relaying.
pub(super) const PLACES_PER_STEP: u32 = 256;

/// Datagrams of one relay socket in one round, so that a flooded one leaves room for the others.
const RELAY_DATAGRAMS_PER_ROUND: usize = 16;

/// ICMP errors of one relay socket in one round.
const ICMP_ERRORS_PER_ROUND: usize = 4;

const _: () = assert!(sys::HEADROOM >= wire::HEADROOM && sys::TAILROOM >= wire::TAILROOM);

/// Everything that one thread owns.
pub(super) struct Worker {
    index: usize,
    pub(super) server: Server,
    shared: Arc<Shared>,
    pub(super) doors: Doors,
    relays: RelaySockets,
    set: Rc<WatchedSet>,
    pub(super) batch: Batch,
    /// For each filled slot of the batch, the relay socket it came from.
    origins: Vec<RelayId>,
    to_peers: Outbox,
    to_clients: SendQueue,
    /// Slots of the batch whose frames are for the connection of one client, with their places.
    to_stream: Vec<(usize, Range<usize>)>,
    pub(super) streams: Streams,
    #[cfg(feature = "dtls")]
    pub(super) dtls: Dtls,
    pub(super) log: EventLog,
    pub(super) tasks: Tasks,
    notices: Option<NoticeSink>,
    traffic: Traffic,
    tick_delays: TickDelays,
    metrics: Arc<Metrics>,
}

/// What the sockets, rather than the protocol, did not do.
#[derive(Debug, Default)]
struct Traffic {
    /// Datagrams that the kernel did not take.
    unsent: u64,
    /// What receiving calls brought.
    listener_batches: BatchSizes,
    relay_batches: BatchSizes,
    /// Datagrams that the kernel dropped at listeners.
    listener_overflows: u64,
}

/// What a round has left in the sockets that it looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Each said that it had no more.
    Nothing,
    /// There may be more.
    Something,
}

impl Left {
    fn and(self, other: Self) -> Self {
        match self {
            Self::Nothing => other,
            Self::Something => Self::Something,
        }
    }
}

impl Worker {
    /// 1. every listener that has something, a batch each; 2. the relay sockets, together into as
    ///    few batches as they fit.
    fn round(&mut self, events: &Events) -> Left {
        // An error that waits makes a call receive less than there is.
        let mut left = if events.is_full() || events.iter().any(|event| event.error) {
            Left::Something
        } else {
            Left::Nothing
        };
        #[cfg(feature = "dtls")]
        self.dtls.begin_round();
        for event in events.iter() {
            if !RelaySockets::is_relay_token(event.token) {
                left = left.and(self.receive_from_clients(event.token as usize));
            }
        }
        for event in events.iter() {
            if RelaySockets::is_relay_token(event.token) {
                if event.error {
                    self.receive_icmp(event.token);
                }
                if event.readable {
                    left = left.and(self.receive_from_peers(event.token));
                }
            }
        }
        self.deliver_to_clients();
        self.write_events();
        left
    }

    fn receive_from_clients(&mut self, listener: usize) -> Left {
        self.batch.clear();
        let Some(UdpListener {
            socket,
            transport,
            is_open,
            ..
        }) = self.doors.udp(listener)
        else {
            return Left::Nothing;
        };
        let (local, transport, is_open) = (socket.local_addr(), *transport, *is_open);
        match self.batch.receive(socket) {
            Ok(count) => self.traffic.listener_batches.count(count),
            Err(error) => {
                self.warn_limited("cannot receive from clients", &error);
                return Left::Something;
            }
        }
        let now = clock::now();
        for slot in 0..self.batch.len() {
            let received = *self.batch.received(slot);
            let five_tuple = FiveTuple {
                transport,
                client: received.source,
                server: SocketAddr::new(
                    received.destination.unwrap_or_else(|| local.ip()),
                    local.port(),
                ),
            };
            if !is_open && !self.server.has_allocation(&five_tuple) {
                continue;
            }
            #[cfg(feature = "dtls")]
            if transport == Transport::Dtls {
                self.receive_dtls(now, slot, five_tuple, listener);
                continue;
            }
            let link = Link(listener as u32);
            self.handle_datagram(now, slot, Client { five_tuple, link });
        }
        self.flush_to_peers();
        if self.batch.is_full() {
            Left::Something
        } else {
            Left::Nothing
        }
    }

    /// What a client has sent, in a slot of the batch. What is for a peer may wait there.
    pub(super) fn handle_datagram(&mut self, now: Now, slot: usize, client: Client) {
        let received = self.batch.received(slot);
        let ip = IpHeader {
            ttl: received.ttl,
            tos: received.tos,
        };
        let forward = self
            .server
            .handle_client(now, client, ip, self.batch.payload(slot));
        match forward {
            Some(forward) if forward.dont_fragment => {
                self.flush_to_peers();
                let payload = &self.batch.payload(slot)[forward.payload.clone()];
                let unsent = send_forward(&self.relays, &forward, payload);
                self.traffic.unsent += unsent;
            }
            Some(forward) => {
                let range = forward.payload;
                let datagram = Datagram {
                    slot,
                    range: range.start + sys::HEADROOM..range.end + sys::HEADROOM,
                    to: forward.peer,
                    fields: fields(None, forward.ip),
                };
                self.to_peers.push(forward.relay, datagram);
            }
            None => self.act(now),
        }
    }

    /// Datagrams that did not leave.
    #[cfg(feature = "dtls")]
    pub(super) const fn count_unsent(&mut self, datagrams: u64) {
        self.traffic.unsent += datagrams;
    }

    pub(super) fn flush_to_peers(&mut self) {
        self.traffic.unsent += self.to_peers.flush(&self.relays, &self.batch);
    }

    fn receive_from_peers(&mut self, token: u64) -> Left {
        if self.batch.capacity() - self.batch.len() < RELAY_DATAGRAMS_PER_ROUND {
            self.deliver_to_clients();
        }
        if self.origins.is_empty() {
            self.batch.clear();
        }
        let Some((relay, socket)) = self.relays.by_token(token) else {
            return Left::Nothing;
        };
        let received = self
            .batch
            .receive_at_most(socket, RELAY_DATAGRAMS_PER_ROUND);
        match received {
            Ok(count) => {
                self.traffic.relay_batches.count(count);
                self.origins.extend(std::iter::repeat_n(relay, count));
                if count < RELAY_DATAGRAMS_PER_ROUND {
                    return Left::Nothing;
                }
            }
            Err(error) => self.warn_limited("cannot receive from peers", &error),
        }
        Left::Something
    }

    /// Sends on what [`Worker::receive_from_peers`] has gathered.
    fn deliver_to_clients(&mut self) {
        let now = clock::time();
        let (mut queued_for, mut framed_for) = (None, None);
        for slot in 0..self.origins.len() {
            let received = *self.batch.received(slot);
            let ip = IpHeader {
                ttl: received.ttl,
                tos: received.tos,
            };
            let payload = sys::HEADROOM..sys::HEADROOM + received.len;
            let buffer = self.batch.slot_mut(slot);
            let origin = self.origins[slot];
            let deliver =
                self.server
                    .handle_peer(now, origin, received.source, ip, buffer, payload);
            let Some(Deliver {
                client,
                message,
                ip,
            }) = deliver
            else {
                continue;
            };
            match client.five_tuple.transport {
                Transport::Udp | Transport::Dtls => {
                    // By which listener it leaves.
                    let leaving = match client.five_tuple.transport {
                        #[cfg(feature = "dtls")]
                        Transport::Dtls => self.seal(&client, slot, message),
                        _ => Some((client.link, message)),
                    };
                    let Some((listener, message)) = leaving else {
                        self.traffic.unsent += 1;
                        continue;
                    };
                    if queued_for.is_some_and(|queued| queued != listener) {
                        self.flush_to_clients(queued_for);
                    }
                    queued_for = Some(listener);
                    let source = Some(client.five_tuple.server.ip());
                    let datagram = Datagram {
                        slot,
                        range: message,
                        to: client.five_tuple.client,
                        fields: fields(source, ip),
                    };
                    let queued = self.to_clients.push(datagram);
                    debug_assert!(queued.is_ok(), "the queue has room for a batch");
                }
                Transport::Tcp | Transport::Tls => {
                    if framed_for.is_some_and(|framed| framed != client) {
                        self.flush_to_stream(framed_for);
                    }
                    framed_for = Some(client);
                    self.to_stream.push((slot, message));
                }
            }
        }
        self.flush_to_clients(queued_for);
        self.flush_to_stream(framed_for);
        self.origins.clear();
        self.batch.clear();
    }

    fn flush_to_clients(&mut self, listener: Option<Link>) {
        let Some(link) = listener else {
            return;
        };
        let socket = self.doors.of_client(link);
        let flushed = self.to_clients.flush(socket, &self.batch);
        self.traffic.unsent += flushed.dropped as u64;
    }

    /// What one connection gets of a batch goes in one write.
    fn flush_to_stream(&mut self, client: Option<Client>) {
        let Some(client) = client else {
            return;
        };
        let mut frames = [IoSlice::new(&[]); BATCH_SLOTS];
        for (frame, (slot, range)) in frames.iter_mut().zip(&self.to_stream) {
            *frame = IoSlice::new(&self.batch.slot(*slot)[range.clone()]);
        }
        let frames = &frames[..self.to_stream.len()];
        self.streams
            .send(&mut self.server, &client, frames, Priority::Data);
        self.to_stream.clear();
    }

    /// ICMP errors about what a relay socket sent.
    fn receive_icmp(&mut self, token: u64) {
        let now = clock::time();
        for _ in 0..ICMP_ERRORS_PER_ROUND {
            let Some((relay, socket)) = self.relays.by_token(token) else {
                return;
            };
            let Ok(Some(error)) = sys::read_error(socket) else {
                break;
            };
            let icmp = IcmpAttribute {
                icmp_type: error.icmp_type,
                icmp_code: error.icmp_code,
                error_data: error.info,
            };
            let mut buffer = [0; 64];
            let deliver = self
                .server
                .handle_icmp(now, relay, error.peer, icmp, &mut buffer);
            if let Some(Deliver {
                client, message, ..
            }) = deliver
            {
                self.send_to_client(&client, &buffer[message], Priority::Data);
            }
        }
        if let Some((_, socket)) = self.relays.by_token(token) {
            // Otherwise the next send would be blamed for it.
            let _ = sys::take_pending_error(socket);
        }
    }

    /// Sends one payload to a peer, outside of a batch.
    pub(super) fn send_forward(&mut self, forward: &Forward, payload: &[u8]) {
        self.traffic.unsent += send_forward(&self.relays, forward, payload);
    }

    fn tick(&mut self) {
        let now = clock::now();
        self.server.handle_timeout(now.time);
        self.act(now);
        #[cfg(feature = "dtls")]
        self.tick_dtls(now.time);
        for connection in self.streams.connections.iter_mut() {
            let has_allocation = self.server.has_allocation(connection.five_tuple());
            connection.tick(now.time, has_allocation, &self.streams.settings.limits);
        }
        self.write_events();
        let log = &mut self.log;
        self.streams
            .tell_memory_losses(|frames| log.frames_dropped(frames));
        self.log.tick(now.time);
        let (counters, network) = (self.server.counters(), self.server.last_limited());
        self.log.tell_limits(now.time, counters, network);
    }

    /// Has the world know what was counted.
    pub(super) fn publish(&mut self) {
        self.traffic.listener_overflows += self.doors.newly_dropped();
        let streams = &self.streams;
        #[cfg_attr(
            not(feature = "dtls"),
            expect(unused_mut, reason = "there are no others")
        )]
        let (mut tcp_established, mut tcp_half_open) =
            streams.connections.established_and_half_open();
        #[cfg(feature = "dtls")]
        {
            let (established, half_open) = self.dtls.established_and_half_open();
            tcp_established += established;
            tcp_half_open += half_open;
        }
        let host = metrics::Host {
            listener_batches: self.traffic.listener_batches,
            relay_batches: self.traffic.relay_batches,
            listener_overflows: self.traffic.listener_overflows,
            relay_overflows: self.relays.overflows(),
            not_sent: self.traffic.unsent,
            tcp_queue_full: streams.losses.slow.frames,
            tcp_memory: streams.losses.memory.frames,
            tcp_queue_full_bytes: streams.losses.slow.bytes,
            tcp_memory_bytes: streams.losses.memory.bytes,
            tls_handshakes: streams.handshakes,
            tcp_accepted: streams.accepted,
            tcp_established,
            tcp_half_open,
            tcp_refused: streams.refusals.numbers(),
            tcp_ended: streams.endings.numbers(),
            tcp_ended_by_client: streams.ended_by_client,
            web: streams.web,
            #[cfg(feature = "dtls")]
            dtls: self.dtls.counted(),
            #[cfg(not(feature = "dtls"))]
            dtls: metrics::Dtls::default(),
            cpu_ns: clock::thread_cpu_ns(),
            tick_delays: self.tick_delays,
            draining: self.server.is_draining().into(),
        };
        let protocol = *self.server.counters();
        self.metrics
            .publish(self.index, metrics::Sample { protocol, host });
    }

    /// The place of the UDP listener that a client uses, if it uses one.
    pub(super) fn udp_listener_of(&self, client: &Client) -> Option<usize> {
        match client.five_tuple.transport {
            Transport::Udp => Some(client.link.0 as usize),
            Transport::Tcp | Transport::Tls => None,
            #[cfg(feature = "dtls")]
            Transport::Dtls => self.dtls_listener(client),
            #[cfg(not(feature = "dtls"))]
            Transport::Dtls => None,
        }
    }

    /// Adds listeners, which serve nobody yet.
    pub(super) fn prepare(&mut self, listeners: Listeners) -> io::Result<()> {
        self.doors.prepare(self.set.get(), listeners)
    }

    /// What operators are told of an allocation.
    pub(super) fn record(&self, view: &AllocationView<'_>) -> AllocationRecord {
        AllocationRecord::new(self.index, view, &self.shared.ports)
    }

    /// Everything about one allocation.
    pub(super) fn show(&self, id: AllocationId) -> Option<AllocationDetail> {
        let view = self.server.inspect_one(clock::time(), id)?;
        (!view.is_pending()).then(|| AllocationDetail {
            record: self.record(&view),
            permissions: view.permission_list(),
            channels: view.channel_list(),
        })
    }

    /// Ends an allocation as the operator wants; whether there was one.
    pub(super) fn end(&mut self, id: AllocationId, reason: CloseReason) -> bool {
        let now = clock::now();
        let existed = self.server.end(now.time, id, reason);
        self.act(now);
        self.write_events();
        existed
    }

    /// Carries out what the core asks for.
    pub(super) fn act(&mut self, now: Now) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { to, message } => {
                    self.send_to_client(&to, &message, Priority::Control);
                }
                Action::BindRelay { relay, address } => {
                    match self.relays.bind(self.set.get(), relay, address) {
                        Ok(()) => self.server.handle_relay_bound(now, relay),
                        Err(error) => {
                            self.warn_limited(
                                "cannot bind a relay socket; is LimitNOFILE large enough?",
                                &error,
                            );
                            self.server
                                .handle_relay_failed(now, relay, relay::failure(&error));
                        }
                    }
                }
                Action::CloseRelay { relay } => {
                    // What its client sent before may still wait to leave by it.
                    self.flush_to_peers();
                    self.relays.close(relay);
                }
            }
        }
    }

    fn send_to_client(&mut self, client: &Client, message: &[u8], priority: Priority) {
        let FiveTuple {
            transport,
            client: to,
            server,
        } = client.five_tuple;
        match transport {
            Transport::Udp => {
                let socket = self.doors.of_client(client.link);
                let fields = fields(Some(server.ip()), IpHeader::default());
                let sent = sys::send_one(socket, message, to, &fields);
                self.traffic.unsent += u64::from(sent.is_err());
            }
            Transport::Tcp | Transport::Tls => {
                let frames = [IoSlice::new(message)];
                self.streams
                    .send(&mut self.server, client, &frames, priority);
            }
            #[cfg(feature = "dtls")]
            Transport::Dtls => self.send_dtls(client, message, priority == Priority::Control),
            #[cfg(not(feature = "dtls"))]
            Transport::Dtls => debug_assert!(false, "nobody listens for it"),
        }
    }

    pub(super) fn write_events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            let logged = self.log.write(&event);
            if let Some(notices) = &self.notices {
                notices.offer(self.index, event, logged);
            }
        }
    }

    fn warn_limited(&mut self, what: &str, error: &io::Error) {
        if self.log.resources.admits(clock::time()) {
            let open = self.relays.open();
            warn!(%error, relay_sockets = open, "{what}");
        }
    }
}

/// Sends one payload to a peer, outside of a batch. Returns how many were not sent: 0 or 1.
fn send_forward(relays: &RelaySockets, forward: &Forward, payload: &[u8]) -> u64 {
    let Some(socket) = relays.get(forward.relay) else {
        return 1;
    };
    let fields = fields(None, forward.ip);
    let sent = if forward.dont_fragment {
        sys::send_one_dont_fragment(socket, payload, forward.peer, &fields)
    } else {
        sys::send_one(socket, payload, forward.peer, &fields)
    };
    u64::from(sent.is_err())
}

/// The core's header fields, as the sockets take them.
const fn fields(source: Option<std::net::IpAddr>, ip: IpHeader) -> HeaderFields {
    HeaderFields {
        source,
        ttl: ip.ttl,
        tos: ip.tos,
    }
}
