//! How often a password may be tried, and how often failures are answered.

use std::net::IpAddr;

use rand_chacha::ChaCha12Rng;

use super::budget::{Budget, Rate};
use super::limits::{FAILURE_PAIR_SETS, FAILURE_SENDER_SETS, FAILURE_WAYS, FailureRates};
use super::source::{KeyedHash, SourcePrefix};
use super::time::Time;

/// Budgets of failed authentications.
///
/// Who has failed too often is refused whatever the password is: each pair of client address (IPv6
/// by /64) and user name has a budget of its own, so that neither the neighbours behind a NAT, who
/// have other names, nor the user at another address notice. Networks (IPv4 /24, IPv6 /48) have ten
/// times as much. Beside that each address and each network has a budget over all names, beyond
/// which failures are neither answered nor told; right credentials of a name that is not refused
/// never meet it.
///
/// What an attacker can do with it:
///
/// - **Lock somebody out** it can only from the victim's own address, with the victim's name and a
///   nonce that was sent there; and not from an allocation that lives. A name that many share behind
///   one address is refused to all of them. From ten addresses it can lock a name out of their
///   network.
/// - **Make itself be forgotten** takes pushing its own entry out of its set. The entry with the
///   least to answer for goes first, so every one of the eight places must be taken by a pair that
///   has failed as often and later. Which names share a set cannot be computed without the key, so
///   it takes a budget of failures for each place of the table, some 80,000 within a minute, for
///   ten more tries.
/// - **Ask several workers**: each has its own table, and the kernel spreads a client's ports over
///   them. The bound is the configured one times the number of workers.
/// - **Come from many networks**: a limit by address cannot help. Passwords that are long can.
///
/// Only who has proven its address comes here, by TCP or by a nonce, if perhaps an old one, and the
/// tables never grow.
#[derive(Debug)]
pub(super) struct FailureLimit {
    hash: KeyedHash,
    pairs: Budgets,
    network_pairs: Budgets,
    addresses: Budgets,
    networks: Budgets,
}

impl FailureLimit {
    pub(super) fn new(random: &mut ChaCha12Rng) -> Self {
        Self {
            hash: KeyedHash::new(random),
            pairs: Budgets::new(FAILURE_PAIR_SETS),
            network_pairs: Budgets::new(FAILURE_PAIR_SETS),
            addresses: Budgets::new(FAILURE_SENDER_SETS),
            networks: Budgets::new(FAILURE_SENDER_SETS),
        }
    }

    /// Whether an address may try this name: whether one more failure is left.
    pub(super) fn admits(&self, now: Time, rates: FailureRates, from: IpAddr, name: &str) -> bool {
        let (pair, network_pair) = self.hashes_of_pairs(from, name);
        self.pairs.get(pair).has_one(rates.pair, now)
            && self
                .network_pairs
                .get(network_pair)
                .has_one(rates.network_pair, now)
    }

    /// Takes note of a failure.
    pub(super) fn record(&mut self, now: Time, rates: FailureRates, from: IpAddr, name: &str) {
        let (pair, network_pair) = self.hashes_of_pairs(from, name);
        self.pairs.spend(pair, rates.pair, now);
        self.network_pairs
            .spend(network_pair, rates.network_pair, now);
    }

    /// Whether a failure is answered and told.
    pub(super) fn admits_reply(&mut self, now: Time, rates: FailureRates, from: IpAddr) -> bool {
        let address = self.hash.of(SourcePrefix::subscriber(from));
        let network = self.hash.of(SourcePrefix::network(from));
        self.networks.get(network).has_one(rates.network, now)
            && self.addresses.spend(address, rates.address, now)
            && self.networks.spend(network, rates.network, now)
    }

    fn hashes_of_pairs(&self, from: IpAddr, name: &str) -> (u64, u64) {
        let pair = self.hash.of((SourcePrefix::subscriber(from), name));
        let network_pair = self.hash.of((SourcePrefix::network(from), name));
        (pair, network_pair)
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

    use super::super::limits::Limits;
    use super::*;

    const NOW: Time = Time::from_millis(77_000);

    fn limit() -> (FailureLimit, FailureRates) {
        let mut random = ChaCha12Rng::from_seed([5; 32]);
        let rates = Limits::default().failure_rates();
        (FailureLimit::new(&mut random), rates.unwrap())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// AUTH-33: at the edge and one beyond, by address and by name.
    #[test]
    fn a_pair_is_refused_after_ten_failures() {
        let (mut limit, rate) = limit();
        let (nat, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
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
        let (one, same) = (ip("2001:db8::1"), ip("2001:db8::2"));
        (0..10).for_each(|_| limit.record(NOW, rate, one, "alice"));
        assert!(!limit.admits(NOW, rate, same, "alice"));
    }

    /// AUTH-33: who tries ever new names neither forgets its old failures nor makes the table grow.
    #[test]
    fn the_worst_are_remembered_longest() {
        let (mut limit, rate) = limit();
        let from = ip("192.0.2.1");
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
        let rate = Rate::new(10, 60, 10).unwrap();
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
        let (mut limit, rate) = limit();
        let (nat, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert!((0..200).all(|_| limit.admits_reply(NOW, rate, nat)));
        assert!(!limit.admits_reply(NOW, rate, nat));
        assert!(limit.admits_reply(NOW, rate, other));
    }

    /// AUTH-33: somebody with a whole network has ten addresses' worth of failures and answers.
    #[test]
    fn a_network_has_ten_times_as_much() {
        type Address = fn(u32) -> IpAddr;
        let networks: [(Address, &str); 2] = [
            (
                |n| IpAddr::from([0x2001, 0xDB8, 1, n as u16, 0, 0, 0, 1]),
                "2001:db8:2::1",
            ),
            (|n| IpAddr::from([192, 0, 2, n as u8]), "192.0.3.1"),
        ];
        for (address, elsewhere) in networks {
            let (mut limit, rates) = limit();
            for n in 0..100 {
                assert!(limit.admits(NOW, rates, address(n), "alice"));
                limit.record(NOW, rates, address(n), "alice");
            }
            assert!(!limit.admits(NOW, rates, address(200), "alice"));
            assert!(limit.admits(NOW, rates, address(200), "bob"));
            assert!(limit.admits(NOW, rates, ip(elsewhere), "alice"));
            let answered = |limit: &mut FailureLimit, n| limit.admits_reply(NOW, rates, address(n));
            for n in 0..20 {
                assert!((0..100).all(|_| answered(&mut limit, n)));
            }
            assert!(!answered(&mut limit, 200));
            assert!(limit.admits_reply(NOW, rates, ip(elsewhere)));
        }
    }
}
