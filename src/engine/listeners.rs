//! The listeners of one worker, which come and go while it relays.
//!
//! A listener that is to go takes no new clients, and serves those that have an allocation. The
//! kernel spreads clients by how many sockets share the port, so the sockets of a port go together:
//! when no worker has an allocation there any more ([`super::exchange`]).

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use tokio::task::JoinHandle;

use super::clock;
use super::listen::Listeners;
use super::stream;
use super::udp::sys::{EpollSet, UdpSocket, newly_dropped};
use super::worker::{PLACES_PER_STEP, Worker};
use crate::turn::{Client, Link, Transport};

/// Places of listeners, the same ones with every worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub(super) udp: Vec<usize>,
    pub(super) tcp: Vec<usize>,
}

impl Listeners {
    pub(super) fn places(&self) -> Places {
        Places {
            udp: self.udp.iter().map(|(place, ..)| *place).collect(),
            tcp: self.tcp.iter().map(|(place, _)| *place).collect(),
        }
    }
}

/// A UDP listener.
#[derive(Debug)]
pub(super) struct UdpListener {
    pub(super) socket: UdpSocket,
    /// UDP, or DTLS and nothing else.
    pub(super) transport: Transport,
    /// Whether strangers are served.
    pub(super) is_open: bool,
    /// Datagrams that the kernel had dropped at it when that was last asked.
    dropped: u32,
}

/// A listener for streams. Connections that were accepted need it no more.
#[derive(Debug)]
enum TcpDoor {
    Bound(tokio::net::TcpListener),
    Accepting(JoinHandle<()>),
}

/// All of a worker, each at its place.
#[derive(Debug, Default)]
pub(super) struct Doors {
    udp: Vec<Option<UdpListener>>,
    tcp: Vec<Option<TcpDoor>>,
}

impl Doors {
    /// Adds listeners, which serve nobody yet.
    ///
    /// # Errors
    /// If the kernel has no room for them in the set.
    pub(super) fn prepare(&mut self, set: &EpollSet, listeners: Listeners) -> io::Result<()> {
        for (place, transport, socket) in listeners.udp {
            set.add(&socket, place as u64)?;
            let listener = UdpListener {
                socket,
                transport,
                is_open: false,
                dropped: 0,
            };
            put(&mut self.udp, place, listener);
        }
        for (place, listener) in listeners.tcp {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            put(&mut self.tcp, place, TcpDoor::Bound(listener));
        }
        Ok(())
    }

    /// The UDP listener at a place, unless it has been closed.
    pub(super) fn udp(&self, place: usize) -> Option<&UdpListener> {
        self.udp.get(place)?.as_ref()
    }

    /// Where a client is served: a listener stays while an allocation has it.
    pub(super) fn of_client(&self, link: Link) -> &UdpSocket {
        let listener = self.udp(link.0 as usize);
        &listener.expect("it serves this client").socket
    }

    /// Datagrams that the kernel has dropped at UDP listeners since this was last asked.
    pub(super) fn newly_dropped(&mut self) -> u64 {
        let listeners = self.udp.iter_mut().flatten();
        let dropped = listeners.map(|it| newly_dropped(&it.socket, &mut it.dropped));
        dropped.sum()
    }

    fn set_open(&mut self, place: usize, is_open: bool) {
        if let Some(Some(listener)) = self.udp.get_mut(place) {
            listener.is_open = is_open;
        }
    }
}

fn put<T>(all: &mut Vec<Option<T>>, place: usize, it: T) {
    if all.len() <= place {
        all.resize_with(place + 1, || None);
    }
    all[place] = Some(it);
}

/// Serves whoever comes.
pub(super) fn open(worker: &Rc<RefCell<Worker>>, places: &Places) {
    let mut borrowed = worker.borrow_mut();
    let tasks = borrowed.tasks.clone();
    for &place in &places.udp {
        borrowed.doors.set_open(place, true);
    }
    for &place in &places.tcp {
        let Some(door) = borrowed.doors.tcp.get_mut(place) else {
            continue;
        };
        *door = match door.take() {
            Some(TcpDoor::Bound(listener)) => {
                let accepting = stream::accept(Rc::clone(worker), listener, place);
                Some(TcpDoor::Accepting(tasks.start(accepting)))
            }
            other => other,
        };
    }
}

/// Serves only who has an allocation.
pub(super) fn leave(worker: &RefCell<Worker>, udp: &[usize]) {
    let doors = &mut worker.borrow_mut().doors;
    for &place in udp {
        doors.set_open(place, false);
    }
}

/// Closes listeners; once this returns the kernel knows of none of them.
pub(super) async fn close(worker: &RefCell<Worker>, places: &Places) {
    let mut accepting = Vec::new();
    {
        let worker = &mut *worker.borrow_mut();
        #[cfg(feature = "dtls")]
        for &place in &places.udp {
            worker.close_dtls(place);
        }
        let doors = &mut worker.doors;
        for &place in &places.udp {
            doors.udp.get_mut(place).and_then(Option::take);
        }
        for &place in &places.tcp {
            if let Some(TcpDoor::Accepting(task)) = doors.tcp.get_mut(place).and_then(Option::take)
            {
                accepting.push(task);
            }
        }
    }
    for task in accepting {
        task.abort();
        // It has ended when it is gone, in whatever way.
        let _ = task.await;
    }
}

/// Whether a client with an allocation is served by a UDP listener. Looked for in steps, as lists
/// are.
pub(super) async fn is_used(worker: &RefCell<Worker>, place: usize) -> bool {
    let mut next = Some(0);
    while let Some(slot) = next {
        {
            let worker = worker.borrow();
            let server = &worker.server;
            let (mut views, following) = server.inspect_slots(clock::time(), slot, PLACES_PER_STEP);
            if views.any(|view| {
                worker.udp_listener_of(&Client {
                    five_tuple: view.five_tuple(),
                    link: view.link(),
                }) == Some(place)
            }) {
                return true;
            }
            next = following;
        }
        tokio::task::yield_now().await;
    }
    false
}
