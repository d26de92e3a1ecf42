//! The relay sockets of a worker, found by the name that the core gave them.

use std::io;
use std::net::SocketAddr;

use super::udp::sys::{BufferSizes, EpollSet, Interest, UdpSocket};
use crate::turn::{RelayFailure, RelayId};
use crate::wire::Family;

/// Marks the tokens of relay sockets in the epoll set.
const RELAY_TOKEN: u64 = 1 << 63;

/// Sockets by place of their allocation and family. A place outlives its allocation, so the whole
/// name is compared.
#[derive(Debug, Default)]
pub(super) struct RelaySockets {
    sockets: Vec<Option<(RelayId, UdpSocket)>>,
    open: usize,
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
        set.add(&socket, RELAY_TOKEN | index as u64, Interest::Readable)?;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        debug_assert!(
            self.sockets[index].is_none(),
            "the core closes a relay before it reuses it"
        );
        self.sockets[index] = Some((id, socket));
        self.open += 1;
        Ok(())
    }

    /// Closes a socket, which takes it out of the epoll set.
    pub(super) fn close(&mut self, id: RelayId) {
        let Some(place) = self.sockets.get_mut(index(id)) else {
            return;
        };
        if place.as_ref().is_some_and(|(open, _)| *open == id) {
            *place = None;
            self.open -= 1;
        }
    }

    pub(super) fn get(&self, id: RelayId) -> Option<&UdpSocket> {
        let (open, socket) = self.sockets.get(index(id))?.as_ref()?;
        (*open == id).then_some(socket)
    }

    /// The socket of an event's token; `None` if it is a listener's, or was closed meanwhile.
    pub(super) fn by_token(&self, token: u64) -> Option<(RelayId, &UdpSocket)> {
        let index = usize::try_from(token ^ RELAY_TOKEN).ok()?;
        self.sockets
            .get(index)?
            .as_ref()
            .map(|(id, socket)| (*id, socket))
    }

    pub(super) const fn is_relay_token(token: u64) -> bool {
        token & RELAY_TOKEN != 0
    }

    pub(super) const fn open(&self) -> usize {
        self.open
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
