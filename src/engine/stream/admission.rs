//! How many connections there are, of whom, and which may be closed for others.
//!
//! Shared by the workers, and touched when a connection opens, is first answered, gets or loses its
//! allocation, and ends. It holds nothing of a client that is not connected.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ending::Ending;
use super::evictable::{Candidate, Evictable};
use super::proxy::Announced;
use super::web_places::WebPlaces;
use crate::engine::settings::StreamLimits;
use crate::turn::SourcePrefix;

/// How far a client has come. Who has come less far goes first when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Stage {
    /// The server has not answered anything yet.
    HalfOpen,
    /// It has, and there is no allocation.
    Answered,
    /// There is an allocation: the connection is never closed for another.
    Allocated,
}

/// The connections of the server.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Admission {
    census: Arc<Mutex<Census>>,
    /// Those that web servers have, which are none of the others.
    pub(super) web: WebPlaces,
}

#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    connections: u32,
    per_address: u32,
    half_open: u32,
}

#[derive(Debug, Default)]
struct Census {
    limits: Limits,
    open: u32,
    /// Connections of each address that has any, IPv6 by /64.
    per_address: HashMap<SourcePrefix, u32>,
    half_open: Evictable,
    answered: Evictable,
    /// Those that proxies have announced, whichever worker has them: one five-tuple is one client.
    announced: HashSet<Announced>,
    /// The next to enter one of these is behind all others there.
    next_turn: u64,
}

/// What a connection's task is told by others, on any thread.
#[derive(Debug, Default)]
pub(in crate::engine) struct Notice {
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

    /// The connection is to make room for another.
    pub(super) fn evict(&self) {
        self.eviction.store(true, Ordering::Relaxed);
        self.give();
    }

    /// Whether the connection has made room for another.
    pub(in crate::engine) fn is_eviction(&self) -> bool {
        self.eviction.load(Ordering::Relaxed)
    }
}

/// A connection that was let in.
#[derive(Debug)]
pub(in crate::engine) struct Admitted {
    pub(super) place: Place,
    /// The connections that had to go for it, and the limits that asked for that.
    pub(super) instead_of: Vec<(SocketAddr, Ending)>,
}

impl Admission {
    pub(in crate::engine) fn new(limits: &StreamLimits) -> Self {
        let admission = Self {
            census: Arc::default(),
            web: WebPlaces::default(),
        };
        admission.set_limits(limits);
        admission
    }

    /// From here on other limits count. What is beyond them stays until it ends, or room is needed.
    pub(in crate::engine) fn set_limits(&self, limits: &StreamLimits) {
        lock(&self.census).limits = Limits {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            half_open: limits.half_open,
        };
    }

    /// Open connections.
    pub(in crate::engine) fn open(&self) -> u32 {
        lock(&self.census).open
    }

    /// Lets a connection in. At a limit one goes that counts towards it and has no allocation:
    /// neither silence nor talk must keep clients out. A proxy may have any number of them.
    ///
    /// # Errors
    /// The limit, if every connection that counts towards it has an allocation.
    pub(super) fn admit(
        &self,
        client: SocketAddr,
        is_proxy: bool,
        notice: &Arc<Notice>,
    ) -> Result<Admitted, Ending> {
        let address = SourcePrefix::subscriber(client.ip());
        let mut census = lock(&self.census);
        let mut instead_of = Vec::new();
        // One that goes may make room at the limits behind as well.
        for limit in [
            Ending::AddressLimit,
            Ending::ConnectionLimit,
            Ending::HalfOpenLimit,
        ] {
            let is_exempt = is_proxy && limit == Ending::AddressLimit;
            if !is_exempt && census.has_reached(limit, address) {
                let closed = census.make_room(limit, address).ok_or(limit)?;
                instead_of.push((closed, limit));
            }
        }
        census.join(address);
        let mut place = Place {
            client,
            stage: Stage::HalfOpen,
            turn: 0,
            announced: None,
            notice: Arc::clone(notice),
            census: Arc::clone(&self.census),
        };
        place.enter(&mut census);
        drop(census);
        Ok(Admitted { place, instead_of })
    }
}

impl Census {
    fn has_reached(&self, limit: Ending, address: SourcePrefix) -> bool {
        let limits = self.limits;
        match limit {
            Ending::AddressLimit => {
                let of_address = self.per_address.get(&address).copied().unwrap_or(0);
                of_address >= limits.per_address
            }
            Ending::ConnectionLimit => self.open >= limits.connections,
            _ => self.half_open.len() >= limits.half_open as usize,
        }
    }

    /// Ends a connection that counts towards a limit, a half-open one if there is any, for one of
    /// an address, and says whose it was.
    fn make_room(&mut self, limit: Ending, address: SourcePrefix) -> Option<SocketAddr> {
        let pop = |evictable: &mut Evictable| match limit {
            Ending::AddressLimit => evictable.pop_of(address),
            _ => evictable.pop_for(address),
        };
        let Candidate { client, notice } = match pop(&mut self.half_open) {
            None if limit != Ending::HalfOpenLimit => pop(&mut self.answered)?,
            half_open => half_open?,
        };
        self.leave(SourcePrefix::subscriber(client.ip()));
        // Under the lock, so that its place sees that it is counted no more.
        notice.evict();
        Some(client)
    }

    fn join(&mut self, address: SourcePrefix) {
        self.open += 1;
        *self.per_address.entry(address).or_insert(0) += 1;
    }

    fn leave(&mut self, address: SourcePrefix) {
        self.open -= 1;
        let of_address = self.per_address.get_mut(&address);
        let of_address = of_address.expect("an address with a connection is counted");
        *of_address -= 1;
        if *of_address == 0 {
            self.per_address.remove(&address);
        }
    }

    /// Where the connections of a stage are that may be closed.
    const fn evictable(&mut self, stage: Stage) -> Option<&mut Evictable> {
        match stage {
            Stage::HalfOpen => Some(&mut self.half_open),
            Stage::Answered => Some(&mut self.answered),
            Stage::Allocated => None,
        }
    }
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(in crate::engine) struct Place {
    client: SocketAddr,
    stage: Stage,
    /// Among those of its stage.
    turn: u64,
    announced: Option<Announced>,
    notice: Arc<Notice>,
    census: Arc<Mutex<Census>>,
}

impl Place {
    pub(in crate::engine) const fn stage(&self) -> Stage {
        self.stage
    }

    /// The client has come to another stage.
    pub(in crate::engine) fn set_stage(&mut self, stage: Stage) {
        if stage == self.stage {
            return;
        }
        let census = Arc::clone(&self.census);
        let mut census = lock(&census);
        // One that has made room is not in the census any more.
        if !self.notice.is_eviction() {
            self.exit(&mut census);
            self.stage = stage;
            self.enter(&mut census);
        }
    }

    /// The connection is this one, as a proxy says.
    ///
    /// # Errors
    /// If that is there already: who comes by two proxies could otherwise be taken for another.
    pub(super) fn announce(&mut self, announced: Announced) -> Result<(), Ending> {
        if !lock(&self.census).announced.insert(announced) {
            return Err(Ending::ProxyBroken);
        }
        self.announced = Some(announced);
        Ok(())
    }

    /// The connection is of this client, as a proxy says. At the limit of its address one goes that
    /// has no allocation, which is returned.
    ///
    /// # Errors
    /// The limit, if every connection of the address has an allocation.
    pub(super) fn move_to(&mut self, client: SocketAddr) -> Result<Option<SocketAddr>, Ending> {
        let census = Arc::clone(&self.census);
        let mut census = lock(&census);
        if self.notice.is_eviction() {
            return Ok(None);
        }
        self.exit(&mut census);
        census.leave(self.address());
        let (address, limit) = (SourcePrefix::subscriber(client.ip()), Ending::AddressLimit);
        let moved = match census.has_reached(limit, address) {
            true => census.make_room(limit, address).ok_or(limit).map(Some),
            false => Ok(None),
        };
        if moved.is_ok() {
            self.client = client;
        }
        census.join(self.address());
        self.enter(&mut census);
        moved
    }

    fn enter(&mut self, census: &mut Census) {
        self.turn = census.next_turn;
        census.next_turn += 1;
        if let Some(evictable) = census.evictable(self.stage) {
            let candidate = Candidate {
                client: self.client,
                notice: Arc::clone(&self.notice),
            };
            evictable.insert(self.turn, candidate);
        }
    }

    fn exit(&self, census: &mut Census) {
        if let Some(evictable) = census.evictable(self.stage) {
            evictable.remove(self.turn, self.address());
        }
    }

    fn address(&self) -> SourcePrefix {
        SourcePrefix::subscriber(self.client.ip())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut census = lock(&self.census);
        if let Some(announced) = &self.announced {
            census.announced.remove(announced);
        }
        if !self.notice.is_eviction() {
            self.exit(&mut census);
            census.leave(self.address());
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
        Admission::new(&limits(connections, per_address, half_open))
    }

    fn limits(connections: u32, per_address: u32, half_open: u32) -> StreamLimits {
        StreamLimits {
            connections,
            connections_per_address: per_address,
            half_open,
            send_queue_bytes: 0,
            queues_total_bytes: 0,
            first_message_s: 0,
            idle_s: 0,
        }
    }

    fn client(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().unwrap(), 1)
    }

    fn admit(admission: &Admission, address: &str) -> Result<Admitted, Ending> {
        admission.admit(client(address), false, &Arc::default())
    }

    fn at_stage(admission: &Admission, address: &str, stage: Stage) -> Place {
        let Admitted {
            mut place,
            instead_of,
        } = admit(admission, address).unwrap();
        assert_eq!(instead_of, []);
        place.set_stage(stage);
        place
    }

    fn allocated(admission: &Admission, address: &str) -> Place {
        at_stage(admission, address, Stage::Allocated)
    }

    fn assert_empty(admission: &Admission) {
        let census = lock(&admission.census);
        assert_eq!(census.open, 0);
        assert!(census.per_address.is_empty());
        assert_eq!((census.half_open.len(), census.answered.len()), (0, 0));
    }

    /// SEC-12
    #[test]
    fn one_connection_more_than_an_address_may_have() {
        let admission = admission(9, 2, 9);
        let both = ["2001:db8::1", "2001:db8::ffff:0:0:1"].map(|ip| allocated(&admission, ip));
        let refused = admit(&admission, "2001:db8::2").unwrap_err();
        assert_eq!(refused, Ending::AddressLimit);
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"];
        let others = others.map(|ip| allocated(&admission, ip));
        drop(both);
        let place = allocated(&admission, "2001:db8::2");
        drop((place, others));
        assert_empty(&admission);
    }

    /// SEC-12
    #[test]
    fn one_connection_more_than_there_may_be() {
        let admission = admission(2, 9, 9);
        let first = allocated(&admission, "192.0.2.1");
        let second = allocated(&admission, "192.0.2.2");
        let refused = admit(&admission, "192.0.2.3").unwrap_err();
        assert_eq!(refused, Ending::ConnectionLimit);
        drop(first);
        drop((allocated(&admission, "192.0.2.3"), second));
        assert_empty(&admission);
    }

    /// SEC-12, SEC-17: at every limit, and of one address only where it is the address's.
    #[test]
    fn the_oldest_silent_connection_gives_way() {
        for (limits, newcomer, gives_way, limit) in [
            ((9, 9, 2), "192.0.2.3", "192.0.2.1", Ending::HalfOpenLimit),
            ((5, 9, 9), "192.0.2.3", "192.0.2.1", Ending::ConnectionLimit),
            ((9, 2, 9), "192.0.2.2", "192.0.2.2", Ending::AddressLimit),
        ] {
            let admission = admission(limits.0, limits.1, limits.2);
            let owner = allocated(&admission, "192.0.2.9");
            let talkers = ["192.0.2.9", "192.0.2.2"];
            let talkers = talkers.map(|ip| at_stage(&admission, ip, Stage::Answered));
            let silent = ["192.0.2.1", "192.0.2.2"].map(|ip| admit(&admission, ip).unwrap());
            assert!(silent.iter().all(|it| it.instead_of.is_empty()));
            let one_more = admit(&admission, newcomer).unwrap();
            assert_eq!(one_more.instead_of, [(client(gives_way), limit)]);
            let gone = silent.each_ref().map(|it| it.place.notice.is_eviction());
            assert_eq!(gone, ["192.0.2.1", "192.0.2.2"].map(|ip| ip == gives_way));
            assert!(talkers.iter().all(|it| !it.notice.is_eviction()));
            drop((owner, talkers, silent, one_more));
            assert_empty(&admission);
        }
    }

    /// SEC-12, SEC-17: talk without an allocation keeps nobody out. The one goes that has been
    /// without an allocation for longest, and none that has one.
    #[test]
    fn where_none_is_silent_one_without_an_allocation_gives_way() {
        for (limits, limit) in [
            ((3, 9, 9), Ending::ConnectionLimit),
            ((9, 3, 9), Ending::AddressLimit),
        ] {
            let admission = admission(limits.0, limits.1, limits.2);
            let mut places =
                [Stage::Allocated; 3].map(|stage| at_stage(&admission, "192.0.2.1", stage));
            for index in [1, 0] {
                places[index].set_stage(Stage::Answered);
            }
            let next = || admit(&admission, "192.0.2.1");
            for gone in [1, 0] {
                let mut newcomer = next().unwrap();
                assert_eq!(newcomer.instead_of, [(client("192.0.2.1"), limit)]);
                assert!(places[gone].notice.is_eviction());
                // What comes too late changes nothing.
                places[gone].set_stage(Stage::Allocated);
                newcomer.place.set_stage(Stage::Allocated);
                std::mem::swap(&mut places[gone], &mut newcomer.place);
            }
            assert_eq!(next().unwrap_err(), limit);
            assert!(places.iter().all(|place| !place.notice.is_eviction()));
            drop(places);
            assert_empty(&admission);
        }
    }

    /// SEC-12: an address at its limit, whose connections are answered, while as many as may be
    /// are half open elsewhere.
    #[test]
    fn room_at_one_limit_is_not_always_room_at_the_next() {
        let admission = admission(9, 1, 1);
        let talker = at_stage(&admission, "192.0.2.1", Stage::Answered);
        let silent = admit(&admission, "192.0.2.2").unwrap();
        let both = [
            (client("192.0.2.1"), Ending::AddressLimit),
            (client("192.0.2.2"), Ending::HalfOpenLimit),
        ];
        let newcomer = admit(&admission, "192.0.2.1").unwrap();
        assert_eq!(newcomer.instead_of, both);
        assert_eq!(lock(&admission.census).half_open.len(), 1);
        drop((talker, silent, newcomer));
        assert_empty(&admission);
    }

    /// Limits that fall end nobody, and count for the next; those that rise let it in.
    #[test]
    fn limits_can_change() {
        let admission = admission(3, 3, 3);
        let places: Vec<Place> = (1..=3)
            .map(|host| allocated(&admission, &format!("192.0.2.{host}")))
            .collect();
        admission.set_limits(&limits(1, 9, 9));
        let refused = admit(&admission, "192.0.2.4").unwrap_err();
        assert_eq!(refused, Ending::ConnectionLimit);
        assert_eq!(lock(&admission.census).open, 3);
        admission.set_limits(&limits(4, 9, 9));
        let fourth = allocated(&admission, "192.0.2.4");
        assert!(admit(&admission, "192.0.2.5").is_err());
        drop((places, fourth));
        assert_empty(&admission);
    }

    /// PROXY-04: a proxy has no limit of its own, and who comes by it has that of the client.
    #[test]
    fn a_proxys_connections_count_for_its_clients() {
        let admission = admission(9, 2, 9);
        let proxy = client("192.0.2.9");
        let by_proxy = || admission.admit(proxy, true, &Arc::default()).unwrap().place;
        let mut places: Vec<Place> = (0..5).map(|_| by_proxy()).collect();
        let mut moved = places.split_off(2);
        for place in &mut moved[..2] {
            assert_eq!(place.move_to(client("198.51.100.1")), Ok(None));
        }
        moved[0].set_stage(Stage::Allocated);
        let newcomer = &mut places[0];
        let gone = newcomer.move_to(client("198.51.100.1"));
        assert_eq!(gone, Ok(Some(client("198.51.100.1"))));
        assert!(moved[1].notice.is_eviction() && !moved[0].notice.is_eviction());
        assert_eq!(
            moved[1].move_to(client("198.51.100.2")),
            Ok(None),
            "too late"
        );
        newcomer.set_stage(Stage::Allocated);
        let refused = moved[2].move_to(client("198.51.100.1"));
        assert_eq!(refused, Err(Ending::AddressLimit));
        assert_eq!(lock(&admission.census).open, 4);
        // To its own address and back.
        for _ in 0..3 {
            assert_eq!(moved[2].move_to(proxy), Ok(None));
        }
        drop((moved, places));
        assert_empty(&admission);
    }
}
