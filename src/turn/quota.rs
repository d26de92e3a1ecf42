//! How many allocations there are, in all, of each user and of each client address, and how quickly
//! users and addresses make new ones. Shared by the shards; touched when an allocation begins or ends, never by a packet.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::bandwidth::UserBandwidth;
use super::budget::{Budget, Rate};
use super::limits::Limits;
use super::reject::Reject;
use super::source::SourcePrefix;
use super::time::Time;

/// Counts of live allocations, and how quickly new ones come. Users and addresses stand in it while
/// they have one, and until their budgets are whole again: otherwise a new allocation would be a new
/// allowance.
#[derive(Debug, Default)]
pub struct Quota {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    users: HashMap<Box<str>, User, RandomState>,
    /// By address, IPv6 by /64.
    subscribers: HashMap<SourcePrefix, Holder, RandomState>,
    /// Users without an allocation whose budgets are not whole, each at most once.
    leaving_users: VecDeque<Box<str>>,
    /// Addresses likewise.
    leaving_subscribers: VecDeque<SourcePrefix>,
}

#[derive(Debug, Default)]
struct User {
    holder: Holder,
    bandwidth: Arc<UserBandwidth>,
}

/// Who has allocations: a user or an address.
#[derive(Clone, Copy, Debug, Default)]
struct Holder {
    allocations: u32,
    /// Of new allocations.
    new: Budget,
    is_leaving: bool,
}

impl Holder {
    /// Whether it may have one more, as many as it has, and how quickly they come.
    fn admits(self, at_a_time: u32, rate: Rate, now: Time) -> Result<(), Refused> {
        if self.allocations >= at_a_time {
            Err(Refused::Quota)
        } else if !self.new.has_one(rate, now) {
            Err(Refused::Rate)
        } else {
            Ok(())
        }
    }

    fn add(&mut self, rate: Rate, now: Time) {
        self.allocations += 1;
        self.new.spend(rate, now);
    }
}

/// Which of a holder's limits is reached.
enum Refused {
    Quota,
    Rate,
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
        let (user_rate, address_rate) = (
            limits.user_allocation_rate(),
            limits.address_allocation_rate(),
        );
        let of_user = counts.users.get(user).map(|user| user.holder);
        of_user
            .unwrap_or_default()
            .admits(limits.allocations_per_user, user_rate, now)
            .map_err(|refused| match refused {
                Refused::Quota => Reject::UserQuota,
                Refused::Rate => Reject::UserRate,
            })?;
        let of_address = counts.subscribers.get(&address).copied();
        of_address
            .unwrap_or_default()
            .admits(limits.allocations_per_address, address_rate, now)
            .map_err(|refused| match refused {
                Refused::Quota => Reject::AddressQuota,
                Refused::Rate => Reject::AddressRate,
            })?;
        if counts.total >= limits.allocations_total {
            return Err(Reject::ServerFull);
        }
        counts.total += 1;
        let of_address = counts.subscribers.entry(address).or_default();
        of_address.add(address_rate, now);
        let user = counts.users.entry(user.into()).or_default();
        user.holder.add(user_rate, now);
        Ok(Arc::clone(&user.bandwidth))
    }

    /// Counts one allocation of a user at a client's address less.
    pub(super) fn release(&self, user: &str, client: IpAddr, limits: &Limits, now: Time) {
        let mut counts = self.counts();
        counts.forget_leaving(limits, now);
        counts.total -= 1;
        counts.release_subscriber(SourcePrefix::subscriber(client), now);
        counts.release_user(user, limits, now);
    }

    /// Live allocations, pending ones included.
    pub fn total(&self) -> u32 {
        self.counts().total
    }

    /// Live allocations of a user.
    pub fn of_user(&self, user: &str) -> u32 {
        let counts = self.counts();
        counts
            .users
            .get(user)
            .map_or(0, |user| user.holder.allocations)
    }

    /// Live allocations of clients at an address, or in its /64.
    pub fn of_address(&self, client: IpAddr) -> u32 {
        let counts = self.counts();
        let holder = counts.subscribers.get(&SourcePrefix::subscriber(client));
        holder.map_or(0, |holder| holder.allocations)
    }

    /// Users and addresses that it knows: those with an allocation, and those that had one a moment
    /// ago.
    pub fn remembered(&self) -> (usize, usize) {
        let counts = self.counts();
        (counts.users.len(), counts.subscribers.len())
    }
}

impl Counts {
    fn release_user(&mut self, name: &str, limits: &Limits, now: Time) {
        let user = self
            .users
            .get_mut(name)
            .expect("a user with an allocation is counted");
        user.holder.allocations -= 1;
        if user.holder.allocations > 0 || user.holder.is_leaving {
            return;
        }
        if user.is_whole(limits, now) {
            self.users.remove(name);
        } else {
            user.holder.is_leaving = true;
            self.leaving_users.push_back(name.into());
        }
    }

    fn release_subscriber(&mut self, address: SourcePrefix, now: Time) {
        let holder = self
            .subscribers
            .get_mut(&address)
            .expect("an address with an allocation is counted");
        holder.allocations -= 1;
        if holder.allocations > 0 || holder.is_leaving {
            return;
        }
        if holder.new.is_full(now) {
            self.subscribers.remove(&address);
        } else {
            holder.is_leaving = true;
            self.leaving_subscribers.push_back(address);
        }
    }

    /// Forgets who has neither an allocation nor anything spent any more. Who is not so far keeps
    /// those behind it waiting; with one rate for all it is not for long.
    fn forget_leaving(&mut self, limits: &Limits, now: Time) {
        while let Some(name) = self.leaving_users.front() {
            let user = self
                .users
                .get_mut(name)
                .expect("who is leaving is still there");
            if user.holder.allocations > 0 {
                user.holder.is_leaving = false;
            } else if user.is_whole(limits, now) {
                self.users.remove(name);
            } else {
                break;
            }
            self.leaving_users.pop_front();
        }
        while let Some(address) = self.leaving_subscribers.front() {
            let holder = self
                .subscribers
                .get_mut(address)
                .expect("who is leaving is still there");
            if holder.allocations > 0 {
                holder.is_leaving = false;
            } else if holder.new.is_full(now) {
                self.subscribers.remove(address);
            } else {
                break;
            }
            self.leaving_subscribers.pop_front();
        }
    }
}

impl User {
    /// Whether forgetting it gives it nothing.
    fn is_whole(&self, limits: &Limits, now: Time) -> bool {
        self.holder.new.is_full(now) && self.bandwidth.is_full(limits, now)
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

    /// Whether nothing is left once every budget is whole again.
    fn is_empty(quota: &Quota, limits: &Limits) -> bool {
        let mut counts = quota.counts();
        counts.forget_leaving(limits, NOW.plus_secs(60));
        counts.total == 0
            && counts.users.is_empty()
            && counts.subscribers.is_empty()
            && counts.leaving_users.is_empty()
            && counts.leaving_subscribers.is_empty()
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
        assert!(is_empty(&quota, &limits));
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
            assert!(is_empty(&quota, &limits));
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
            // Too many for shares.
            allocations_per_user: 10_000,
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
                (quota.of_user("alice"), quota.counts().leaving_users.len()),
                (0, 1)
            );
        }
        assert_eq!(passed, 1000);
        for (ms, is_there) in [(999, true), (1000, false)] {
            quota.acquire("bob", client, &limits, later(ms)).unwrap();
            assert_eq!(quota.counts().users.contains_key("alice"), is_there);
        }
        quota.release("bob", client, &limits, later(1000));
        quota.release("bob", client, &limits, later(1000));
        assert!(is_empty(&quota, &limits));
    }

    /// SEC-12: new allocations have a rate, whatever is deleted meanwhile: of a user wherever it is,
    /// and of an address whoever is there. Fifty calls may start at once.
    #[test]
    fn new_allocations_at_the_edge_of_their_rate() {
        let limits = Limits {
            allocations_per_address: 20,
            ..Limits::default()
        };
        let later = |ms| Time::from_millis(NOW.as_millis() + ms);
        let make = |quota: &Quota, user: &str, client, now| {
            let made = quota.acquire(user, client, &limits, now);
            made.map(|_| quota.release(user, client, &limits, now))
        };
        let quota = Quota::default();
        for client in 0..50 {
            let client = IpAddr::from([198, 51, 100, client]);
            make(&quota, "alice", client, NOW).unwrap();
        }
        let client = ip("203.0.113.1");
        let beyond = make(&quota, "alice", client, NOW);
        assert!(matches!(beyond, Err(Reject::UserRate)));
        make(&quota, "bob", client, NOW).unwrap();
        let early = make(&quota, "alice", client, later(199));
        assert!(matches!(early, Err(Reject::UserRate)));
        make(&quota, "alice", client, later(200)).unwrap();
        make(&quota, "carol", client, later(20_000)).unwrap();
        assert_eq!(quota.remembered(), (1, 1), "the others are forgotten");

        let quota = Quota::default();
        for user in 0..20 {
            make(&quota, &format!("user {user}"), client, NOW).unwrap();
        }
        let beyond = make(&quota, "alice", client, NOW);
        assert!(matches!(beyond, Err(Reject::AddressRate)));
        make(&quota, "alice", client, later(500)).unwrap();
        assert!(matches!(
            make(&quota, "alice", client, later(999)),
            Err(Reject::AddressRate)
        ));
    }

    /// SEC-12: a small quota leaves room for an ICE restart.
    #[test]
    fn ten_at_once_with_the_smallest_quota() {
        let quota = Quota::default();
        let limits = Limits {
            allocations_per_user: 1,
            ..Limits::default()
        };
        let client = ip("198.51.100.1");
        for made in 0..11 {
            let acquired = quota.acquire("alice", client, &limits, NOW);
            assert_eq!(acquired.is_ok(), made < 10);
            if acquired.is_ok() {
                quota.release("alice", client, &limits, NOW);
            }
        }
    }
}
