//! The connections that may be closed for others, and which of them goes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::admission::Notice;
use crate::turn::SourcePrefix;

/// A connection that may be closed.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) client: SocketAddr,
    pub(super) notice: Arc<Notice>,
}

impl Candidate {
    fn prefix(&self) -> SourcePrefix {
        SourcePrefix::subscriber(self.client.ip())
    }
}

/// Connections by their turns, of which the lowest came first. Every method takes logarithmic time:
/// a flood has it asked for each connection.
#[derive(Debug, Default)]
pub(super) struct Evictable {
    by_prefix: HashMap<SourcePrefix, BTreeMap<u64, Candidate>>,
    /// Who goes first is last.
    ranks: BTreeMap<Rank, SourcePrefix>,
    len: usize,
}

/// The place of a prefix among the others: how many connections it has, and the oldest of them.
type Rank = (usize, Reverse<u64>);

fn rank(of_prefix: &BTreeMap<u64, Candidate>) -> Option<Rank> {
    let (&oldest, _) = of_prefix.first_key_value()?;
    Some((of_prefix.len(), Reverse(oldest)))
}

impl Evictable {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn len_of(&self, prefix: SourcePrefix) -> usize {
        self.by_prefix.get(&prefix).map_or(0, BTreeMap::len)
    }

    pub(super) fn insert(&mut self, turn: u64, candidate: Candidate) {
        self.change(candidate.prefix(), |of_prefix| {
            of_prefix.insert(turn, candidate);
        });
    }

    pub(super) fn remove(&mut self, turn: u64, prefix: SourcePrefix) -> Option<Candidate> {
        self.change(prefix, |of_prefix| of_prefix.remove(&turn))
    }

    /// Takes out the oldest of a prefix.
    pub(super) fn pop_of(&mut self, prefix: SourcePrefix) -> Option<Candidate> {
        let (_, candidate) = self.change(prefix, BTreeMap::pop_first)?;
        Some(candidate)
    }

    /// Takes out the oldest of the prefix that has the most, where the newcomer counts already: a
    /// crowd from few places makes room among itself.
    pub(super) fn pop_for(&mut self, newcomer: SourcePrefix) -> Option<Candidate> {
        let (&(most, _), &first) = self.ranks.last_key_value()?;
        let of_newcomer = self.len_of(newcomer);
        self.pop_of(if of_newcomer == most { newcomer } else { first })
    }

    /// Changes what a prefix has, and its rank with it.
    fn change<T>(
        &mut self,
        prefix: SourcePrefix,
        change: impl FnOnce(&mut BTreeMap<u64, Candidate>) -> T,
    ) -> T {
        let mut of_prefix = self.by_prefix.remove(&prefix).unwrap_or_default();
        if let Some(rank) = rank(&of_prefix) {
            self.ranks.remove(&rank);
        }
        self.len -= of_prefix.len();
        let result = change(&mut of_prefix);
        self.len += of_prefix.len();
        if let Some(rank) = rank(&of_prefix) {
            self.ranks.insert(rank, prefix);
            self.by_prefix.insert(prefix, of_prefix);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(ip: &str) -> Candidate {
        Candidate {
            client: SocketAddr::new(ip.parse().unwrap(), 1),
            notice: Arc::default(),
        }
    }

    fn prefix(ip: &str) -> SourcePrefix {
        candidate(ip).prefix()
    }

    fn evictable(clients: &[&str]) -> Evictable {
        let mut evictable = Evictable::default();
        for (turn, ip) in clients.iter().enumerate() {
            evictable.insert(turn as u64, candidate(ip));
        }
        evictable
    }

    /// Everybody, in the order of their going.
    fn order(mut evictable: Evictable) -> Vec<String> {
        let next = || {
            let len = evictable.len();
            let candidate = evictable.pop_for(prefix("192.0.2.99"))?;
            assert_eq!(evictable.len(), len - 1);
            Some(candidate.client.ip().to_string())
        };
        let order = std::iter::from_fn(next).collect();
        assert_eq!(evictable.len(), 0);
        assert!(evictable.by_prefix.is_empty() && evictable.ranks.is_empty());
        order
    }

    /// SEC-12: who came first and alone goes after the crowd, whose members are one with IPv6 too.
    #[test]
    fn the_most_numerous_prefix_makes_room() {
        let crowd = evictable(&["::1", "1::1", "1::2", "2::1", "1::3", "2::2"]);
        assert_eq!(
            order(crowd),
            ["1::1", "1::2", "2::1", "::1", "1::3", "2::2"]
        );
    }

    /// SEC-12
    #[test]
    fn of_equals_the_oldest_makes_room() {
        let equals = ["192.0.2.3", "192.0.2.1", "192.0.2.2"];
        assert_eq!(order(evictable(&equals)), equals);
    }

    /// SEC-12: otherwise a second connection of an address would close the only one of another.
    #[test]
    fn the_newcomer_counts_already() {
        for (newcomer, gone) in [("1::9", "1::1"), ("2::9", "::1"), ("::2", "::1")] {
            let popped = evictable(&["::1", "1::1"]).pop_for(prefix(newcomer));
            assert_eq!(popped.unwrap().client, candidate(gone).client);
        }
    }

    /// SEC-12
    #[test]
    fn a_prefix_that_has_fewer_now_ranks_lower() {
        let mut evictable = evictable(&["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"]);
        let [one, three] = ["192.0.2.1", "192.0.2.2"].map(prefix);
        assert!(evictable.remove(0, three).is_none(), "another's");
        assert!(evictable.remove(2, three).is_some());
        assert!(evictable.remove(2, three).is_none(), "gone");
        let popped = evictable.pop_of(one).unwrap();
        assert_eq!(popped.client, candidate("192.0.2.1").client);
        assert!(evictable.pop_of(one).is_none());
        assert_eq!(order(evictable), ["192.0.2.2", "192.0.2.2"]);
    }
}
