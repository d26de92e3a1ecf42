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

/// The place of a prefix among the others.
type Rank = Reverse<u64>;

fn rank(of_prefix: &BTreeMap<u64, Candidate>) -> Option<Rank> {
    let (&oldest, _) = of_prefix.first_key_value()?;
    Some(Reverse(oldest))
}

impl Evictable {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, turn: u64, candidate: Candidate) {
        self.change(candidate.prefix(), |of_prefix| {
            of_prefix.insert(turn, candidate);
        });
    }

    pub(super) fn remove(&mut self, turn: u64, prefix: SourcePrefix) -> Option<Candidate> {
        self.change(prefix, |of_prefix| of_prefix.remove(&turn))
    }

    /// Takes out the oldest, of one prefix or of all.
    pub(super) fn pop(&mut self, of: Option<SourcePrefix>) -> Option<Candidate> {
        let first = || self.ranks.last_key_value().map(|(_, &prefix)| prefix);
        let prefix = of.or_else(first)?;
        let (_, candidate) = self.change(prefix, BTreeMap::pop_first)?;
        Some(candidate)
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
