//! The relay sockets of a worker, found by the name that the core gave them.

use std::io;
use std::net::SocketAddr;

use super::udp::sys::{self, Batch, BufferSizes, Datagram, EpollSet, SendQueue, UdpSocket};
use crate::turn::{RelayFailure, RelayId};
use crate::wire::Family;

/// Marks the tokens of relay sockets in the epoll set.
const RELAY_TOKEN: u64 = 1 << 63;

/// Sockets that are asked at a time how many datagrams they lost: at a third of a microsecond each no
/// packet waits long.
const ASKED_AT_A_TIME: usize = 1024;

/// A relay socket.
#[derive(Debug)]
struct Place {
    id: RelayId,
    socket: UdpSocket,
    /// What it has lost, as far as it is counted.
    dropped: u32,
}

/// Sockets by place of their allocation and family. A place outlives its allocation, so the whole
/// name is compared.
#[derive(Debug, Default)]
pub(super) struct RelaySockets {
    sockets: Vec<Option<Place>>,
    open: usize,
    /// Which one is asked next what it has lost.
    next: usize,
    overflows: u64,
}

impl RelaySockets {
    /// Binds a socket and adds it to the set.
    pub(super) fn bind(
        &mut self,
        set: &EpollSet,
        id: RelayId,
        address: SocketAddr,
    ) -> io::Result<()> {
        let socket = UdpSocket::relay(address, BufferSizes::default())?;
        let index = index(id);
        set.add(&socket, RELAY_TOKEN | index as u64)?;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        debug_assert!(
            self.sockets[index].is_none(),
            "the core closes a relay before it reuses it"
        );
        self.sockets[index] = Some(Place {
            id,
            socket,
            dropped: 0,
        });
        self.open += 1;
        Ok(())
    }

    /// Closes a socket, which takes it out of the epoll set.
    pub(super) fn close(&mut self, id: RelayId) {
        let Some(place) = self.sockets.get_mut(index(id)) else {
            return;
        };
        if let Some(mut closed) = place.take_if(|open| open.id == id) {
            self.overflows += closed.lost();
            self.open -= 1;
        }
    }

    /// Datagrams that the kernel dropped because the buffer of a relay socket was full: all of closed
    /// sockets, and of open ones up to when they were last asked, which this does for some.
    pub(super) fn overflows(&mut self) -> u64 {
        for _ in 0..self.sockets.len().min(ASKED_AT_A_TIME) {
            self.next = (self.next + 1) % self.sockets.len();
            let open = self.sockets[self.next].as_mut();
            self.overflows += open.map_or(0, Place::lost);
        }
        self.overflows
    }

    pub(super) fn get(&self, id: RelayId) -> Option<&UdpSocket> {
        let open = self.sockets.get(index(id))?.as_ref()?;
        (open.id == id).then_some(&open.socket)
    }

    /// The socket of an event's token; `None` if it is a listener's, or was closed meanwhile.
    pub(super) fn by_token(&self, token: u64) -> Option<(RelayId, &UdpSocket)> {
        let index = usize::try_from(token ^ RELAY_TOKEN).ok()?;
        self.sockets
            .get(index)?
            .as_ref()
            .map(|open| (open.id, &open.socket))
    }

    pub(super) const fn is_relay_token(token: u64) -> bool {
        token & RELAY_TOKEN != 0
    }

    pub(super) const fn open(&self) -> usize {
        self.open
    }
}

impl Place {
    /// What it has lost since this was last asked.
    fn lost(&mut self) -> u64 {
        sys::newly_dropped(&self.socket, &mut self.dropped)
    }
}

/// Datagrams for peers, waiting to leave by their relay sockets.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Vec<(RelayId, Datagram)>,
    /// The indexes of what waits, each behind the place of its socket.
    order: Vec<(usize, usize)>,
    queue: SendQueue,
}

impl Outbox {
    /// Makes room for `capacity` datagrams.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            waiting: Vec::with_capacity(capacity),
            order: Vec::with_capacity(capacity),
            queue: SendQueue::new(capacity),
        }
    }

    /// Adds a datagram, for which there must be room.
    pub(super) fn push(&mut self, relay: RelayId, datagram: Datagram) {
        self.order.push((index(relay), self.waiting.len()));
        self.waiting.push((relay, datagram));
    }

    /// Sends everything, in one system call a socket and in the order of arrival for each. Returns
    /// how many datagrams were not sent.
    pub(super) fn flush(&mut self, relays: &RelaySockets, batch: &Batch) -> u64 {
        self.order.sort_unstable();
        let mut unsent = 0;
        for same_socket in self.order.chunk_by(|(a, _), (b, _)| a == b) {
            let (relay, _) = self.waiting[same_socket[0].1];
            let Some(socket) = relays.get(relay) else {
                unsent += same_socket.len();
                continue;
            };
            for &(_, index) in same_socket {
                let queued = self.queue.push(self.waiting[index].1.clone());
                debug_assert!(queued.is_ok(), "the queue has room for a batch");
            }
            unsent += self.queue.flush(socket, batch).dropped;
        }
        self.order.clear();
        self.waiting.clear();
        unsent as u64
    }
}

/// What a failed bind means to the core.
pub(super) fn failure(error: &io::Error) -> RelayFailure {
    match error.kind() {
        io::ErrorKind::AddrInUse => RelayFailure::AddressInUse,
        _ => RelayFailure::Unavailable,
    }
}

fn index(id: RelayId) -> usize {
    let family = match id.family {
        Family::V4 => 0,
        Family::V6 => 1,
    };
    id.allocation.slot as usize * 2 + family
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::udp::sys::{HEADROOM, HeaderFields};
    use crate::turn::AllocationId;

    fn relay(slot: u32) -> RelayId {
        let allocation = AllocationId {
            slot,
            generation: 0,
        };
        RelayId {
            allocation,
            family: Family::V4,
        }
    }

    /// However many sockets there are, each is asked in its turn; and a last time when it closes.
    #[test]
    fn what_relay_sockets_lose_is_counted() {
        let set = EpollSet::new().unwrap();
        let mut relays = RelaySockets::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let sender = std::net::UdpSocket::bind(loopback).unwrap();
        let flood = |relays: &RelaySockets, id| {
            let socket = relays.get(id).unwrap();
            let before = socket.dropped().unwrap();
            for _ in 0..100_000 {
                sender.send_to(&[0; 1400], socket.local_addr()).unwrap();
                if socket.dropped().unwrap() > before {
                    return u64::from(socket.dropped().unwrap() - before);
                }
            }
            panic!("the buffer takes everything");
        };
        let last = (ASKED_AT_A_TIME + 6) as u32 / 2;
        for id in [relay(0), relay(last)] {
            relays.bind(&set, id, loopback).unwrap();
        }
        assert!(relays.sockets.len() > ASKED_AT_A_TIME);
        let mut lost = flood(&relays, relay(0)) + flood(&relays, relay(last));
        let counted = relays.overflows().max(relays.overflows());
        assert_eq!(counted, lost);
        lost += flood(&relays, relay(last));
        relays.close(relay(last));
        assert_eq!(relays.overflows().max(relays.overflows()), lost);
    }

    /// One client's data must never leave by another's relay socket, as it did when a socket was
    /// closed between queueing and sending.
    #[test]
    fn what_waits_for_a_closed_socket_goes_nowhere() {
        let set = EpollSet::new().unwrap();
        let mut relays = RelaySockets::default();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        for id in [relay(0), relay(1)] {
            relays.bind(&set, id, loopback).unwrap();
        }
        let peer = std::net::UdpSocket::bind(loopback).unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let batch = Batch::new(2);
        let datagram = |slot| Datagram {
            slot,
            range: HEADROOM..HEADROOM + 1 + slot,
            to: peer.local_addr().unwrap(),
            fields: HeaderFields::default(),
        };
        let mut outbox = Outbox::new(2);
        outbox.push(relay(0), datagram(0));
        outbox.push(relay(1), datagram(1));
        relays.close(relay(0));
        assert_eq!(outbox.flush(&relays, &batch), 1);
        outbox.push(relay(1), datagram(1));
        assert_eq!(outbox.flush(&relays, &batch), 0);

        let second = relays.get(relay(1)).unwrap().local_addr();
        for _ in 0..2 {
            assert_eq!(peer.recv_from(&mut [0; 8]).unwrap(), (2, second));
        }
        peer.set_nonblocking(true).unwrap();
        assert!(peer.recv_from(&mut [0; 8]).is_err());
    }
}
