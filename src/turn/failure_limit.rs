//! How often a password may be tried, and how often failures are answered.

use rand_chacha::ChaCha12Rng;

use super::budget::{Budget, Rate};
use super::limits::{FAILURE_ADDRESS_SETS, FAILURE_PAIR_SETS, FAILURE_WAYS};
use super::source::{KeyedHash, SourcePrefix};
use super::time::Time;

/// Budgets of failed authentications.
///
/// Who has failed too often is refused whatever the password is: each pair of client address (IPv6
/// by /64) and user name has a budget of its own, so that neither the neighbours behind a NAT nor
/// the user at another address notice. Beside it each address has one over all names, beyond which
/// failures are neither answered nor told; right credentials never meet it.
///
/// What an attacker can do with it:
///
/// - **Lock somebody out** it can only from the victim's own address, with the victim's name and a
///   nonce that was sent there; and not from an allocation that lives.
/// - **Make itself be forgotten** takes pushing its own entry out of its set. The entry with the
///   least to answer for goes first, so every one of the eight places must be taken by a pair that
///   has failed as often and later. Which names share a set cannot be computed without the key, so
///   it takes a budget of failures for each place of the table, some 80,000 within a minute, for
///   ten more tries.
/// - **Ask several workers**: each has its own table, and the kernel spreads a client's ports over
///   them. The bound is the configured one times the number of workers.
/// - **Come from many addresses**: a limit by address cannot help. Passwords that are long can.
///
/// Only who has proven its address comes here, by TCP or by a nonce, and the table never grows.
#[derive(Debug)]
pub(super) struct FailureLimit {
    hash: KeyedHash,
    pairs: Budgets,
    addresses: Budgets,
}

impl FailureLimit {
    pub(super) fn new(random: &mut ChaCha12Rng) -> Self {
        Self {
            hash: KeyedHash::new(random),
            pairs: Budgets::new(FAILURE_PAIR_SETS),
            addresses: Budgets::new(FAILURE_ADDRESS_SETS),
        }
    }

    /// Whether an address may try this name: whether one more failure is left.
    pub(super) fn admits(&self, now: Time, rate: Rate, from: SourcePrefix, username: &str) -> bool {
        let pair = self.pairs.get(self.hash.of((from, username)));
        pair.has_one(rate, now)
    }

    /// Takes note of a failure.
    pub(super) fn record(&mut self, now: Time, rate: Rate, from: SourcePrefix, username: &str) {
        let hash = self.hash.of((from, username));
        self.pairs.spend(hash, rate, now);
    }

    /// Whether a failure is answered and told.
    pub(super) fn admits_reply(&mut self, now: Time, rate: Rate, from: SourcePrefix) -> bool {
        let hash = self.hash.of(from);
        self.addresses.spend(hash, rate, now)
    }
}

/// A set-associative table. Entries are known by all 64 bits of their hash and never shared: a name
/// that has no room replaces another one, whose budget is then full again.
#[derive(Debug)]
struct Budgets(Box<[[Entry; FAILURE_WAYS]]>);

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    hash: u64,
    budget: Budget,
}

impl Budgets {
    fn new(sets: usize) -> Self {
        Self(vec![[Entry::default(); FAILURE_WAYS]; sets].into())
    }

    /// What is left to a sender; everything if it is not there.
    fn get(&self, hash: u64) -> Budget {
        let set = &self.0[hash as usize % self.0.len()];
        let entry = set.iter().find(|entry| entry.hash == hash);
        entry.map_or_else(Budget::default, |entry| entry.budget)
    }

    fn spend(&mut self, hash: u64, rate: Rate, now: Time) -> bool {
        let sets = self.0.len();
        let set = &mut self.0[hash as usize % sets];
        let place = set.iter().position(|entry| entry.hash == hash);
        // An entry that was never used, or is full again, has the least budget to restore.
        let place = place.or_else(|| (0..FAILURE_WAYS).min_by_key(|&way| set[way].budget));
        let entry = &mut set[place.expect("a set has places")];
        if entry.hash != hash {
            *entry = Entry {
                hash,
                budget: Budget::default(),
            };
        }
        entry.budget.spend(rate, now)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    const NOW: Time = Time::from_millis(77_000);

    fn limit() -> (FailureLimit, Rate) {
        let mut random = ChaCha12Rng::from_seed([5; 32]);
        (
            FailureLimit::new(&mut random),
            Rate::new(10, 60, 10).unwrap(),
        )
    }

    fn subscriber(ip: &str) -> SourcePrefix {
        SourcePrefix::subscriber(ip.parse().unwrap())
    }

    /// AUTH-33: at the edge and one beyond, by address and by name.
    #[test]
    fn a_pair_is_refused_after_ten_failures() {
        let (mut limit, rate) = limit();
        let (nat, other) = (subscriber("192.0.2.1"), subscriber("192.0.2.2"));
        for _ in 0..10 {
            assert!(limit.admits(NOW, rate, nat, "alice"));
            limit.record(NOW, rate, nat, "alice");
        }
        assert!(!limit.admits(NOW, rate, nat, "alice"));
        assert!(limit.admits(NOW, rate, nat, "bob"), "a neighbour");
        assert!(limit.admits(NOW, rate, other, "alice"), "elsewhere");
        // What is refused does not put off the end of it.
        limit.record(NOW, rate, nat, "alice");
        assert!(!limit.admits(Time::from_millis(82_999), rate, nat, "alice"));
        assert!(limit.admits(Time::from_millis(83_000), rate, nat, "alice"));
        let (one, same) = (subscriber("2001:db8::1"), subscriber("2001:db8::2"));
        (0..10).for_each(|_| limit.record(NOW, rate, one, "alice"));
        assert!(!limit.admits(NOW, rate, same, "alice"));
    }

    /// AUTH-33: who tries ever new names neither forgets its old failures nor makes the table grow.
    #[test]
    fn the_worst_are_remembered_longest() {
        let (mut limit, rate) = limit();
        let from = subscriber("192.0.2.1");
        (0..10).for_each(|_| limit.record(NOW, rate, from, "alice"));
        let bytes = |limit: &FailureLimit| size_of_val(&*limit.pairs.0);
        assert_eq!(bytes(&limit), 128 * 1024);
        for name in 0..200_000 {
            limit.record(NOW, rate, from, &format!("user {name}"));
        }
        assert!(!limit.admits(NOW, rate, from, "alice"));
        assert_eq!(bytes(&limit), 128 * 1024);
        let kept = limit.pairs.0.iter().flatten();
        assert!(kept.filter(|entry| entry.hash != 0).count() > 8_000);
    }

    /// AUTH-33: a set with more names than places keeps those that failed most, and what is pushed
    /// out begins anew.
    #[test]
    fn a_full_set_replaces_the_least() {
        let (_, rate) = limit();
        let mut budgets = Budgets::new(1);
        for hash in 1..=8 {
            (0..=hash).for_each(|_| _ = budgets.spend(hash, rate, NOW));
        }
        budgets.spend(9, rate, NOW);
        assert_eq!(budgets.get(1), Budget::default());
        assert!((2..=9).all(|hash| budgets.get(hash) != Budget::default()));
        budgets.spend(10, rate, NOW);
        assert_eq!(budgets.get(9), Budget::default());
    }

    /// AUTH-33
    #[test]
    fn replies_to_failures_are_limited_by_address() {
        let (mut limit, _) = limit();
        let rate = Rate::new(200, 60, 200).unwrap();
        let (nat, other) = (subscriber("192.0.2.1"), subscriber("192.0.2.2"));
        assert!((0..200).all(|_| limit.admits_reply(NOW, rate, nat)));
        assert!(!limit.admits_reply(NOW, rate, nat));
        assert!(limit.admits_reply(NOW, rate, other));
    }
}
