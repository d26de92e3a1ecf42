//! How many allocations there are, in all and of each user. Shared by the shards; touched when an
//! allocation begins or ends, never by a packet.

use std::sync::{Mutex, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::limits::Limits;
use super::reject::Reject;

/// Counts of live allocations. Users stand in it only while they have one.
#[derive(Debug, Default)]
pub struct Quota {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    users: HashMap<Box<str>, u32, RandomState>,
}

impl Quota {
    /// Counts one more allocation of a user, or says which limit is reached.
    pub(super) fn acquire(&self, user: &str, limits: &Limits) -> Result<(), Reject> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts
            .users
            .get(user)
            .is_some_and(|&count| count >= limits.allocations_per_user)
        {
            return Err(Reject::UserQuota);
        }
        if counts.total >= limits.allocations_total {
            return Err(Reject::ServerFull);
        }
        counts.total += 1;
        *counts.users.entry(user.into()).or_insert(0) += 1;
        Ok(())
    }

    /// Counts one allocation of a user less.
    pub(super) fn release(&self, user: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        let count = counts
            .users
            .get_mut(user)
            .expect("a user with an allocation is counted");
        *count -= 1;
        if *count == 0 {
            counts.users.remove(user);
        }
    }

    /// Live allocations, pending ones included.
    pub fn total(&self) -> u32 {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
    }

    /// Live allocations of a user.
    pub fn of_user(&self, user: &str) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.users.get(user).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ALLOC-21, REST-06
    #[test]
    fn each_limit_at_its_edge() {
        let quota = Quota::default();
        let limits = Limits {
            allocations_per_user: 2,
            allocations_total: 3,
            ..Limits::default()
        };
        quota.acquire("alice", &limits).unwrap();
        quota.acquire("alice", &limits).unwrap();
        assert!(matches!(
            quota.acquire("alice", &limits),
            Err(Reject::UserQuota)
        ));
        quota.acquire("bob", &limits).unwrap();
        assert!(matches!(
            quota.acquire("carol", &limits),
            Err(Reject::ServerFull)
        ));
        quota.release("alice");
        quota.acquire("carol", &limits).unwrap();
        for user in ["alice", "bob", "carol"] {
            quota.release(user);
            assert_eq!(quota.of_user(user), 0);
        }
        assert_eq!(quota.total(), 0);
        assert!(quota.counts.lock().unwrap().users.is_empty());
    }
}
