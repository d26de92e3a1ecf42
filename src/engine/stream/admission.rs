//! How many connections there are, of whom, and which have said nothing yet.
//!
//! Shared by the workers, and touched when a connection opens, is first answered, and ends. It
//! holds nothing of a client that is not connected.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ending::Ending;
use crate::engine::settings::StreamLimits;
use crate::turn::SourcePrefix;

/// The connections of the server.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Admission {
    connections: u32,
    per_address: u32,
    half_open: u32,
    census: Arc<Mutex<Census>>,
}

#[derive(Debug, Default)]
struct Census {
    open: u32,
    /// Connections of each address that has any, IPv6 by /64.
    per_address: HashMap<SourcePrefix, u32>,
    /// Connections that the server has not answered, in the order of their opening.
    half_open: BTreeMap<u64, HalfOpen>,
    next: u64,
}

#[derive(Debug)]
struct HalfOpen {
    client: SocketAddr,
    notice: Arc<Notice>,
}

/// What a connection's task is told by others, on any thread.
#[derive(Debug, Default)]
pub(super) struct Notice {
    notify: Notify,
    eviction: AtomicBool,
}

impl Notice {
    /// Wakes the task: there is something to do.
    pub(super) fn give(&self) {
        self.notify.notify_one();
    }

    /// Waits for [`Notice::give`]; one that came before counts.
    pub(super) async fn given(&self) {
        self.notify.notified().await;
    }

    /// Whether the connection has made room for another.
    pub(super) fn is_eviction(&self) -> bool {
        self.eviction.load(Ordering::Relaxed)
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) place: Place,
    /// The connection that had to go for it, and the limit that asked for that.
    pub(super) instead_of: Option<(SocketAddr, Ending)>,
}

impl Admission {
    pub(in crate::engine) fn new(limits: &StreamLimits) -> Self {
        Self {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            half_open: limits.half_open,
            census: Arc::default(),
        }
    }

    /// Lets a connection in. At a limit the oldest one that counts towards it and has said nothing
    /// goes: silence must not keep clients out.
    ///
    /// # Errors
    /// The limit, if every connection that counts towards it has been answered.
    pub(super) fn admit(
        &self,
        client: SocketAddr,
        notice: &Arc<Notice>,
    ) -> Result<Admitted, Ending> {
        let address = SourcePrefix::subscriber(client.ip());
        let mut census = lock(&self.census);
        let of_address = census.per_address.get(&address).copied().unwrap_or(0);
        let limit = if of_address >= self.per_address {
            Some(Ending::AddressLimit)
        } else if census.open >= self.connections {
            Some(Ending::ConnectionLimit)
        } else if census.half_open.len() >= self.half_open as usize {
            Some(Ending::HalfOpenLimit)
        } else {
            None
        };
        // One that goes makes room at every limit it counts towards.
        let instead_of = match limit {
            None => None,
            Some(limit) => {
                let only = (limit == Ending::AddressLimit).then_some(address);
                Some((census.make_room(only).ok_or(limit)?, limit))
            }
        };
        let serial = census.enter(address, client, Arc::clone(notice));
        drop(census);
        let place = Place {
            serial,
            address,
            notice: Arc::clone(notice),
            census: Arc::clone(&self.census),
        };
        Ok(Admitted { place, instead_of })
    }
}

impl Census {
    fn enter(&mut self, address: SourcePrefix, client: SocketAddr, notice: Arc<Notice>) -> u64 {
        let serial = self.next;
        self.next += 1;
        self.open += 1;
        *self.per_address.entry(address).or_insert(0) += 1;
        self.half_open.insert(serial, HalfOpen { client, notice });
        serial
    }

    fn leave(&mut self, serial: u64, address: SourcePrefix) {
        self.half_open.remove(&serial);
        self.open -= 1;
        let of_address = self.per_address.get_mut(&address);
        let of_address = of_address.expect("an address with a connection is counted");
        *of_address -= 1;
        if *of_address == 0 {
            self.per_address.remove(&address);
        }
    }

    /// Ends the oldest half-open connection, of one address or of any, and says whose it was.
    fn make_room(&mut self, of: Option<SourcePrefix>) -> Option<SocketAddr> {
        let is_it = |half_open: &HalfOpen| {
            of.is_none_or(|address| SourcePrefix::subscriber(half_open.client.ip()) == address)
        };
        let (&serial, _) = self.half_open.iter().find(|(_, it)| is_it(it))?;
        let HalfOpen { client, notice } = self.half_open.remove(&serial)?;
        self.leave(serial, SourcePrefix::subscriber(client.ip()));
        // Under the lock, so that its place sees that it is counted no more.
        notice.eviction.store(true, Ordering::Relaxed);
        notice.give();
        Some(client)
    }
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    serial: u64,
    address: SourcePrefix,
    notice: Arc<Notice>,
    census: Arc<Mutex<Census>>,
}

impl Place {
    /// The client has sent a valid message: the connection is not half open any more.
    pub(super) fn establish(&self) {
        lock(&self.census).half_open.remove(&self.serial);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut census = lock(&self.census);
        if !self.notice.is_eviction() {
            census.leave(self.serial, self.address);
        }
    }
}

/// A worker that panicked ends the server, and the numbers are whole between any two statements.
fn lock(census: &Mutex<Census>) -> MutexGuard<'_, Census> {
    census.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: u32, per_address: u32, half_open: u32) -> Admission {
        Admission::new(&StreamLimits {
            connections,
            connections_per_address: per_address,
            half_open,
            send_queue_bytes: 0,
            queues_total_bytes: 0,
            first_message_s: 0,
            idle_s: 0,
        })
    }

    fn client(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    fn admit(admission: &Admission, address: &str) -> Result<Admitted, Ending> {
        admission.admit(client(address), &Arc::default())
    }

    fn established(admission: &Admission, address: &str) -> Place {
        let admitted = admit(admission, address).unwrap();
        assert!(admitted.instead_of.is_none());
        admitted.place.establish();
        admitted.place
    }

    fn assert_empty(admission: &Admission) {
        let census = lock(&admission.census);
        assert_eq!(census.open, 0);
        assert!(census.per_address.is_empty() && census.half_open.is_empty());
    }

    /// SEC-12
    #[test]
    fn one_connection_more_than_an_address_may_have() {
        let admission = admission(9, 2, 9);
        let both = ["2001:db8::1", "2001:db8::ffff:0:0:1"].map(|ip| established(&admission, ip));
        let refused = admit(&admission, "2001:db8::2").unwrap_err();
        assert_eq!(refused, Ending::AddressLimit);
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"];
        let others = others.map(|ip| established(&admission, ip));
        drop(both);
        let place = established(&admission, "2001:db8::2");
        drop((place, others));
        assert_empty(&admission);
    }

    /// SEC-12
    #[test]
    fn one_connection_more_than_there_may_be() {
        let admission = admission(2, 9, 9);
        let first = established(&admission, "192.0.2.1");
        let second = established(&admission, "192.0.2.2");
        let refused = admit(&admission, "192.0.2.3").unwrap_err();
        assert_eq!(refused, Ending::ConnectionLimit);
        drop(first);
        drop((established(&admission, "192.0.2.3"), second));
        assert_empty(&admission);
    }

    /// SEC-12, SEC-17: at every limit, and of one address only where it is the address's.
    #[test]
    fn the_oldest_silent_connection_gives_way() {
        for (limits, gives_way, limit) in [
            ((9, 9, 3), "192.0.2.1", Ending::HalfOpenLimit),
            ((4, 9, 9), "192.0.2.1", Ending::ConnectionLimit),
            ((9, 2, 9), "192.0.2.2", Ending::AddressLimit),
        ] {
            let admission = admission(limits.0, limits.1, limits.2);
            let notices: [Arc<Notice>; 3] = Default::default();
            let talker = established(&admission, "192.0.2.9");
            let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.2"].map(client);
            let silent: Vec<Admitted> = clients
                .iter()
                .zip(&notices)
                .map(|(&client, notice)| admission.admit(client, notice).unwrap())
                .collect();
            assert!(silent.iter().all(|it| it.instead_of.is_none()));
            let one_more = admit(&admission, "192.0.2.2").unwrap();
            assert_eq!(one_more.instead_of, Some((client(gives_way), limit)));
            let gone = notices.each_ref().map(|notice| notice.is_eviction());
            assert_eq!(gone.iter().filter(|gone| **gone).count(), 1);
            assert!(gone[if gives_way.ends_with('1') { 0 } else { 1 }]);
            drop((talker, silent, one_more));
            assert_empty(&admission);
        }
    }
}
