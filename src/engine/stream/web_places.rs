//! How many connections web servers have, and which goes for a new one. They take no place of TURN's
//! clients, and those take none of theirs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::Notice;
use super::evictable::{Candidate, Evictable};
use crate::turn::SourcePrefix;

/// The connections of the whole server that web servers have.
#[derive(Clone, Debug, Default)]
pub(super) struct WebPlaces(Arc<Mutex<Census>>);

#[derive(Debug, Default)]
struct Census {
    /// By when they were last used: each may be closed for another.
    open: Evictable,
    /// The next to be used is behind all others.
    next_turn: u64,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct WebPlace {
    client: SocketAddr,
    turn: Cell<u64>,
    notice: Arc<Notice>,
    places: WebPlaces,
}

impl WebPlaces {
    /// A place for a client. Where there are as many as may be, or as many of the address, the one goes
    /// that has been idle for longest, of the address itself or of the one that has the most; it is
    /// returned. None if there is none to go.
    pub(super) fn take(
        &self,
        client: SocketAddr,
        max: u32,
        max_per_address: u32,
    ) -> Option<(WebPlace, Option<SocketAddr>)> {
        let address = SourcePrefix::subscriber(client.ip());
        let mut census = self.lock();
        let mut instead_of = None;
        let of_address = census.open.len_of(address) >= max_per_address as usize;
        if of_address || census.open.len() >= max as usize {
            let Candidate { client, notice } = if of_address {
                census.open.pop_of(address)?
            } else {
                census.open.pop_for(address)?
            };
            // Under the lock, so that its place sees that it is counted no more.
            notice.evict();
            instead_of = Some(client);
        }
        let place = WebPlace {
            client,
            turn: Cell::new(0),
            notice: Arc::default(),
            places: self.clone(),
        };
        place.enter(&mut census);
        drop(census);
        Some((place, instead_of))
    }

    /// The numbers are whole between any two statements.
    fn lock(&self) -> MutexGuard<'_, Census> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebPlace {
    /// The connection is used just now.
    pub(super) fn touch(&self) {
        let mut census = self.places.lock();
        if self.exit(&mut census) {
            self.enter(&mut census);
        }
    }

    /// Waits until the place is another's.
    pub(super) async fn taken(&self) {
        self.notice.given().await;
    }

    fn enter(&self, census: &mut Census) {
        self.turn.set(census.next_turn);
        census.next_turn += 1;
        let candidate = Candidate {
            client: self.client,
            notice: Arc::clone(&self.notice),
        };
        census.open.insert(self.turn.get(), candidate);
    }

    /// False if it is another's already.
    fn exit(&self, census: &mut Census) -> bool {
        let address = SourcePrefix::subscriber(self.client.ip());
        census.open.remove(self.turn.get(), address).is_some()
    }
}

impl Drop for WebPlace {
    fn drop(&mut self) {
        self.exit(&mut self.places.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &WebPlaces, ip: &str) -> (WebPlace, Option<SocketAddr>) {
        places.take(client(ip), 3, 2).unwrap()
    }

    fn client(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 1)
    }

    /// WEB-03: of all and of one address.
    #[test]
    fn one_connection_more_than_there_may_be() {
        let places = WebPlaces::default();
        assert!(places.take(client("192.0.2.1"), 0, 2).is_none());
        assert!(places.take(client("192.0.2.1"), 3, 0).is_none());
        let (first, none) = take(&places, "2001:db8::1");
        assert_eq!(none, None);
        let (second, none) = take(&places, "2001:db8::2");
        assert_eq!(none, None);
        let (third, gone) = take(&places, "2001:db8::3");
        assert_eq!(gone, Some(first.client), "of the address");
        let (fourth, none) = take(&places, "192.0.2.1");
        assert_eq!(none, None);
        let (fifth, gone) = take(&places, "192.0.2.2");
        assert_eq!(gone, Some(second.client), "of all");
        assert_eq!(places.lock().open.len(), 3);
        // Those that have gone give nothing back, and do not come back.
        second.touch();
        drop((first, second));
        assert_eq!(places.lock().open.len(), 3);
        drop((third, fourth, fifth));
        assert_eq!(places.lock().open.len(), 0);
    }

    /// WEB-03: neither silence nor a crowd keeps others out, and who uses a connection keeps it.
    #[test]
    fn the_longest_idle_goes_first() {
        let places = WebPlaces::default();
        let [one, two, three] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        let held = [one, two, three].map(|ip| take(&places, ip).0);
        held[0].touch();
        let (_fourth, gone) = take(&places, "192.0.2.4");
        assert_eq!(gone, Some(client(two)));
        // Nobody else makes room for a second one of an address.
        let (_fifth, gone) = take(&places, "192.0.2.4");
        assert_eq!(gone, Some(client("192.0.2.4")));
        let (_sixth, gone) = take(&places, "192.0.2.5");
        assert_eq!(gone, Some(client(three)));
    }
}
