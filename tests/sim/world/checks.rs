//! What must hold after every step.

use std::net::SocketAddr;

use turnstone::turn::{CloseReason, Event};
use turnstone::wire::Family;

use super::World;
use super::model::{Ended, Key, key_of};

impl World {
    /// Relayed addresses whose time is over: nothing is relayed any more, and their sockets close
    /// within a second.
    pub(super) fn collect_expired(&mut self) {
        let now = self.model.now;
        let open: Vec<SocketAddr> = self.host.sockets.values().map(|it| it.address).collect();
        let keys: Vec<Key> = self.model.allocations.keys().copied().collect();
        for key in keys {
            let allocation = &self.model.allocations[&key];
            if allocation.is_pending() {
                continue;
            }
            let closed: Vec<SocketAddr> = allocation
                .relays
                .iter()
                .filter(|it| !open.contains(&it.bound))
                .map(|it| {
                    assert!(it.expires <= now, "{} closed too early", it.bound);
                    it.bound
                })
                .collect();
            for relay in &allocation.relays {
                let late = now.saturating_sub(relay.expires);
                let is_open = open.contains(&relay.bound);
                assert!(!is_open || late < 1000, "{} is {late} ms late", relay.bound);
            }
            if closed.len() == allocation.relays.len() {
                self.model.end(key, CloseReason::Expired);
                continue;
            }
            for bound in closed {
                let allocation = self.model.allocations.get_mut(&key).expect("as above");
                allocation.drop_family(Family::of(bound.ip()));
                self.model.rest(bound);
            }
        }
    }

    /// What the core reported since the last look.
    pub(super) fn check_events(&mut self) {
        let mut created = 0;
        while let Some((shard, event)) = self.host.events.pop_front() {
            self.note(format!("{shard} {event:?}").as_bytes());
            match event {
                Event::AllocationCreated {
                    five_tuple,
                    username,
                    lifetime_s,
                    ..
                } => {
                    created += 1;
                    let allocation = &self.model.allocations[&key_of(&five_tuple)];
                    assert_eq!(*username, *allocation.account.username);
                    assert_eq!(allocation.created, self.model.now);
                    assert_eq!(lifetime_s, allocation.lifetime);
                }
                Event::AllocationClosed {
                    five_tuple,
                    username,
                    relayed,
                    reason,
                    duration,
                    usage,
                    ..
                } => {
                    let key = key_of(&five_tuple);
                    let ended = self.model.ended.iter().position(|it| it.key == key);
                    let Ended {
                        reason: expected,
                        allocation,
                        ..
                    } = self.model.ended.remove(ended.expect("it ended"));
                    assert_eq!(
                        (reason, &*username),
                        (expected, &*allocation.account.username)
                    );
                    let lived = self.model.now - allocation.created;
                    assert_eq!(duration.as_millis(), u128::from(lived));
                    let mut bound: Vec<_> = allocation.relays.iter().map(|it| it.bound).collect();
                    bound.sort();
                    let expected: Vec<_> =
                        bound.iter().map(|it| self.model.advertised(*it)).collect();
                    let relayed: Vec<_> = relayed.into_iter().flatten().collect();
                    assert_eq!(relayed, expected);
                    let used = [
                        usage.packets_to_peers,
                        usage.bytes_to_peers,
                        usage.packets_to_client,
                        usage.bytes_to_client,
                    ];
                    assert_eq!(used, allocation.usage, "exact sums");
                    assert!(usage.peers as usize >= allocation.ever_permitted.len());
                }
                Event::ClientRefused { five_tuple, .. } => {
                    assert!(!self.model.lists.serve(five_tuple.client.ip()));
                }
                Event::BandwidthExceeded { .. } => panic!("there is no limit"),
                Event::RequestRefused { .. }
                | Event::PeerRefused { .. }
                | Event::AllocationRefreshed { .. }
                | Event::ChannelBound { .. }
                | Event::PermissionsInstalled { .. } => {}
            }
        }
        assert!(created <= 1, "one allocation a step");
        assert_eq!(self.model.ended.len(), 0, "every end is reported");
    }

    /// What must hold whenever nothing is going on.
    pub(super) fn check(&self) {
        let model = &self.model;
        let shared = &self.host.shared;
        let held = model.held_ports();
        assert_eq!(shared.ports.resting() as usize, model.resting.len());
        assert_eq!(
            shared.ports.taken() as usize,
            held.len() + model.resting.len()
        );
        assert_eq!(shared.reservations.held(), model.reservations.len());
        assert_eq!(shared.quota.total() as usize, model.allocations.len());
        for user in ["alice", "bob", "carol", "dave", "mallory"] {
            let count = model.allocations.values().filter(|it| it.user == user);
            assert_eq!(shared.quota.of_user(user) as usize, count.count(), "{user}");
        }
        let relays = model.allocations.values().flat_map(|it| &it.relays);
        let bound = relays.clone().filter(|it| it.is_bound).count();
        assert_eq!(self.host.sockets.len(), bound);
        assert_eq!(self.host.waiting.len(), relays.count() - bound);
        let mut seen = 0;
        for shard in &self.host.shards {
            assert!(
                shard.deadlines() <= shard.allocations(),
                "one deadline each"
            );
            for view in shard.inspect(self.host.time()) {
                seen += 1;
                let key = key_of(&view.five_tuple());
                let allocation = &model.allocations[&key];
                assert_eq!(
                    (view.username(), view.user()),
                    (&*allocation.account.username, &*allocation.user)
                );
                let permissions = allocation.live_permissions(model.now);
                assert_eq!(
                    view.permissions(),
                    permissions,
                    "no permission beyond 300 s"
                );
                let channels = allocation.live_channels(model.now);
                assert_eq!(view.channels(), channels, "no channel beyond 600 s");
                for (ip, expires) in &allocation.permissions {
                    if *expires > model.now {
                        let expiry = view.permission_expiry(*ip).expect("it lives");
                        assert_eq!(expiry.as_millis(), *expires);
                    }
                }
            }
        }
        assert_eq!(seen, model.allocations.len());
    }

    /// The clients leave; what they left behind must go.
    pub(super) fn wind_down(&mut self) {
        self.acting = false;
        while self.step() {}
        self.check();
        assert_eq!(self.model.allocations.len(), 0);
        for shard in &self.host.shards {
            assert_eq!((shard.allocations(), shard.poll_timeout()), (0, None));
            assert_eq!(shard.deadlines(), 0);
        }
        let shared = &self.host.shared;
        assert_eq!((shared.ports.taken(), shared.quota.total()), (0, 0));
        assert_eq!(
            (shared.reservations.held(), self.host.sockets.len()),
            (0, 0)
        );
    }
}
