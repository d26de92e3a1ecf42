//! How many allocations there are: in all, of each user and of each client address. Shared by the
//! shards; touched when an allocation begins or ends, never by a packet.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::bandwidth::UserBandwidth;
use super::limits::Limits;
use super::reject::Reject;
use super::source::SourcePrefix;
use super::time::Time;

/// Counts of live allocations. Users and addresses stand in it only while they have one, and a user
/// until its bandwidth is whole again: otherwise a new allocation would be a new allowance.
#[derive(Debug, Default)]
pub struct Quota {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    users: HashMap<Box<str>, User, RandomState>,
    /// By address, IPv6 by /64.
    subscribers: HashMap<SourcePrefix, u32, RandomState>,
    /// Users without an allocation whose bandwidth is not whole, each at most once.
    leaving: VecDeque<Box<str>>,
}

#[derive(Debug, Default)]
struct User {
    allocations: u32,
    bandwidth: Arc<UserBandwidth>,
    is_leaving: bool,
}

impl Quota {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more allocation of a user at a client's address, or says which limit is reached.
    /// Returns the bandwidth that the user's allocations share.
    pub(super) fn acquire(
        &self,
        user: &str,
        client: IpAddr,
        limits: &Limits,
        now: Time,
    ) -> Result<Arc<UserBandwidth>, Reject> {
        let mut counts = self.counts();
        counts.forget_leaving(limits, now);
        let address = SourcePrefix::subscriber(client);
        let of_user = counts.users.get(user).map_or(0, |user| user.allocations);
        if of_user >= limits.allocations_per_user {
            return Err(Reject::UserQuota);
        }
        let of_address = counts.subscribers.get(&address).copied().unwrap_or(0);
        if of_address >= limits.allocations_per_address {
            return Err(Reject::AddressQuota);
        }
        if counts.total >= limits.allocations_total {
            return Err(Reject::ServerFull);
        }
        counts.total += 1;
        *counts.subscribers.entry(address).or_insert(0) += 1;
        let user = counts.users.entry(user.into()).or_default();
        user.allocations += 1;
        Ok(Arc::clone(&user.bandwidth))
    }

    /// Counts one allocation of a user at a client's address less.
    pub(super) fn release(&self, user: &str, client: IpAddr, limits: &Limits, now: Time) {
        let mut counts = self.counts();
        counts.forget_leaving(limits, now);
        counts.total -= 1;
        let address = SourcePrefix::subscriber(client);
        let of_address = counts
            .subscribers
            .get_mut(&address)
            .expect("an address with an allocation is counted");
        *of_address -= 1;
        if *of_address == 0 {
            counts.subscribers.remove(&address);
        }
        counts.release_user(user, limits, now);
    }

    /// Live allocations, pending ones included.
    pub fn total(&self) -> u32 {
        self.counts().total
    }

    /// Live allocations of a user.
    pub fn of_user(&self, user: &str) -> u32 {
        let counts = self.counts();
        counts.users.get(user).map_or(0, |user| user.allocations)
    }

    /// Live allocations of clients at an address, or in its /64.
    pub fn of_address(&self, client: IpAddr) -> u32 {
        let counts = self.counts();
        let count = counts.subscribers.get(&SourcePrefix::subscriber(client));
        count.copied().unwrap_or(0)
    }
}

impl Counts {
    fn release_user(&mut self, name: &str, limits: &Limits, now: Time) {
        let user = self
            .users
            .get_mut(name)
            .expect("a user with an allocation is counted");
        user.allocations -= 1;
        if user.allocations > 0 || user.is_leaving {
            return;
        }
        if user.bandwidth.is_full(limits, now) {
            self.users.remove(name);
        } else {
            user.is_leaving = true;
            self.leaving.push_back(name.into());
        }
    }

    /// Forgets who has neither an allocation nor spent bandwidth any more. Who is not so far keeps
    /// those behind it waiting; with one rate for all it is not for long.
    fn forget_leaving(&mut self, limits: &Limits, now: Time) {
        while let Some(name) = self.leaving.front() {
            let user = self
                .users
                .get_mut(name)
                .expect("who is leaving is still there");
            if user.allocations > 0 {
                user.is_leaving = false;
            } else if user.bandwidth.is_full(limits, now) {
                self.users.remove(name);
            } else {
                return;
            }
            self.leaving.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bandwidth::{Bandwidth, Way};
    use super::*;

    const NOW: Time = Time::from_millis(5000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_empty(quota: &Quota) -> bool {
        let counts = quota.counts();
        counts.total == 0
            && counts.users.is_empty()
            && counts.subscribers.is_empty()
            && counts.leaving.is_empty()
    }

    /// ALLOC-21, REST-06
    #[test]
    fn each_limit_at_its_edge() {
        let quota = Quota::default();
        let limits = Limits {
            allocations_per_user: 2,
            allocations_total: 3,
            ..Limits::default()
        };
        let client = ip("198.51.100.1");
        let acquire = |user| quota.acquire(user, client, &limits, NOW);
        acquire("alice").unwrap();
        acquire("alice").unwrap();
        assert!(matches!(acquire("alice"), Err(Reject::UserQuota)));
        acquire("bob").unwrap();
        assert!(matches!(acquire("carol"), Err(Reject::ServerFull)));
        quota.release("alice", client, &limits, NOW);
        acquire("carol").unwrap();
        for user in ["alice", "bob", "carol"] {
            quota.release(user, client, &limits, NOW);
            assert_eq!(quota.of_user(user), 0);
        }
        assert!(is_empty(&quota));
    }

    /// SEC-12: an address is one IPv4 address, or an IPv6 /64, whoever the users are.
    #[test]
    fn an_address_at_its_edge() {
        let quota = Quota::default();
        let limits = Limits {
            allocations_per_address: 2,
            ..Limits::default()
        };
        for [one, same, other] in [
            ["198.51.100.1", "198.51.100.1", "198.51.100.2"],
            ["2001:db8::1", "2001:db8::ffff:2:3:4", "2001:db8:0:1::1"],
        ] {
            let acquire = |user, client| quota.acquire(user, ip(client), &limits, NOW);
            acquire("alice", one).unwrap();
            acquire("bob", same).unwrap();
            assert_eq!(quota.of_address(ip(one)), 2);
            for client in [one, same] {
                let beyond = acquire("carol", client);
                assert!(matches!(beyond, Err(Reject::AddressQuota)));
            }
            acquire("carol", other).unwrap();
            quota.release("alice", ip(one), &limits, NOW);
            acquire("dave", same).unwrap();
            for (user, client) in [("bob", same), ("carol", other), ("dave", one)] {
                quota.release(user, ip(client), &limits, NOW);
            }
            assert!(is_empty(&quota));
        }
    }

    /// SEC-11: who deletes an allocation and makes another has no new allowance, and is forgotten
    /// when it would have one anyway.
    #[test]
    fn a_users_bandwidth_outlives_its_allocations() {
        let quota = Quota::default();
        let limits = Limits {
            allocation_kbit_per_s: 0,
            user_kbit_per_s: 8000,
            ..Limits::default()
        };
        let client = ip("198.51.100.1");
        let later = |ms| Time::from_millis(NOW.as_millis() + ms);
        let mut passed = 0;
        for _ in 0..3 {
            let user = quota.acquire("alice", client, &limits, NOW).unwrap();
            let mut bandwidth = Bandwidth::new(user);
            while bandwidth.charge(&limits, NOW, Way::ToPeers, 1000).is_ok() {
                passed += 1;
            }
            quota.release("alice", client, &limits, NOW);
            assert_eq!(
                (quota.of_user("alice"), quota.counts().leaving.len()),
                (0, 1)
            );
        }
        assert_eq!(passed, 1000);
        for (ms, users) in [(999, 1), (1000, 0)] {
            quota.acquire("bob", client, &limits, later(ms)).unwrap();
            quota.release("bob", client, &limits, later(ms));
            assert_eq!(quota.counts().users.len(), users);
        }
        assert!(is_empty(&quota));
    }
}
