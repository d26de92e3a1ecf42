//! How often strangers are answered, passwords tried and allocations made: counts that fill again, one a sender.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::intent::{Fault, Request};
use super::model::{Key, Model};
use super::requests::{Answer, user_and_end};

/// What is left to a sender, in shares of one: each is as many as the period has milliseconds.
#[derive(Clone, Copy, Debug)]
struct Left {
    shares: u64,
    at: u64,
}

/// So many in a period, of which `burst` at once.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    count: u64,
    period_ms: u64,
    burst: u64,
}

/// A worker and whatever it counts by.
type Counts<K> = BTreeMap<(usize, K), Left>;

#[derive(Default)]
pub(crate) struct Strangers {
    /// By family: all IPv4 clients are of one network, and all IPv6 clients.
    replies: Counts<bool>,
    failures: Counts<(IpAddr, String)>,
    failures_of_networks: Counts<(bool, String)>,
    failure_replies: Counts<IpAddr>,
    failure_replies_of_networks: Counts<bool>,
    /// New allocations, over all workers, which count as one.
    new_of_users: Counts<String>,
    new_of_addresses: Counts<IpAddr>,
}

fn left<K: Ord>(counts: &mut Counts<K>, key: (usize, K), of: Allowance, now: u64) -> &mut Left {
    let full = of.burst * of.period_ms;
    let left = counts.entry(key).or_insert(Left {
        shares: full,
        at: now,
    });
    left.shares = full.min(left.shares + (now - left.at) * of.count);
    left.at = now;
    left
}

fn spend<K: Ord>(counts: &mut Counts<K>, key: (usize, K), of: Allowance, now: u64) -> bool {
    let left = left(counts, key, of, now);
    let enough = left.shares >= of.period_ms;
    if enough {
        left.shares -= of.period_ms;
    }
    enough
}

/// All IPv6 clients share a /64.
fn subscriber(key: Key) -> IpAddr {
    match key.1.ip() {
        IpAddr::V6(_) => "2001:db8:7::".parse().unwrap(),
        ip => ip,
    }
}

impl Model {
    fn shard(&self, key: Key) -> usize {
        usize::from(key.1.port()) % self.shards
    }

    fn failures(&self, factor: u64) -> Option<Allowance> {
        let count = u64::from(self.limits.failed_authentications_per_minute) * factor;
        (count > 0).then_some(Allowance {
            count,
            period_ms: 60_000,
            burst: count,
        })
    }

    /// The answer to a request without credentials, if there is one.
    pub(crate) fn stranger(&mut self, key: Key, answer: Answer) -> Answer {
        let count = u64::from(self.limits.unauthenticated_replies_per_s);
        if count == 0 || key.0 || self.holder(key).is_some() {
            return answer;
        }
        let allowance = Allowance {
            count,
            period_ms: 1000,
            burst: 2 * count,
        };
        let network = (self.shard(key), key.1.is_ipv4());
        if spend(&mut self.strangers.replies, network, allowance, self.now) {
            answer
        } else {
            Answer::Silence
        }
    }

    /// Whether name and password of a request do.
    pub(crate) fn try_password(&mut self, key: Key, request: &Request) -> bool {
        let username = &request.account.username;
        let is_right =
            request.fault != Some(Fault::Password) && user_and_end(username).0 != "mallory";
        let is_owner = self
            .holder(key)
            .is_some_and(|it| it.account.username == *username);
        let allowances = self.failures(1).zip(self.failures(10));
        if let Some((of_pair, of_network)) = allowances.filter(|_| !is_owner) {
            let shard = self.shard(key);
            let counts = &mut self.strangers;
            let pair = (shard, (subscriber(key), username.clone()));
            let pair = left(&mut counts.failures, pair, of_pair, self.now);
            let network = (shard, (key.1.is_ipv4(), username.clone()));
            let networks = &mut counts.failures_of_networks;
            let network = left(networks, network, of_network, self.now);
            if pair.shares < of_pair.period_ms || network.shares < of_network.period_ms {
                return false;
            }
            if !is_right {
                pair.shares -= of_pair.period_ms;
                network.shares -= of_network.period_ms;
            }
        }
        is_right
    }

    /// Whether a user at an address may make one more allocation so soon, which the caller has
    /// found that it may have; spent if `spends`.
    pub(crate) fn admits_new(&mut self, user: &str, address: IpAddr, spends: bool) -> bool {
        let allowance = |at_a_time: u32| {
            let count = u64::from(at_a_time.max(10));
            Allowance {
                count,
                period_ms: 10_000,
                burst: count,
            }
        };
        let of_user = allowance(self.limits.allocations_per_user);
        let of_address = allowance(self.limits.allocations_per_address);
        let strangers = &mut self.strangers;
        let user = left(
            &mut strangers.new_of_users,
            (0, user.into()),
            of_user,
            self.now,
        );
        let address = (0, address);
        let address = left(
            &mut strangers.new_of_addresses,
            address,
            of_address,
            self.now,
        );
        let admitted = user.shares >= of_user.period_ms && address.shares >= of_address.period_ms;
        if admitted && spends {
            user.shares -= of_user.period_ms;
            address.shares -= of_address.period_ms;
        }
        admitted
    }

    /// The answer to a wrong password, if there is one.
    pub(crate) fn failure(&mut self, key: Key, answer: Answer) -> Answer {
        let Some((of_address, of_network)) = self.failures(20).zip(self.failures(200)) else {
            return answer;
        };
        let shard = self.shard(key);
        let counts = &mut self.strangers;
        let address = (shard, subscriber(key));
        let address = left(&mut counts.failure_replies, address, of_address, self.now);
        let network = (shard, key.1.is_ipv4());
        let networks = &mut counts.failure_replies_of_networks;
        let network = left(networks, network, of_network, self.now);
        if address.shares < of_address.period_ms || network.shares < of_network.period_ms {
            return Answer::Silence;
        }
        address.shares -= of_address.period_ms;
        network.shares -= of_network.period_ms;
        answer
    }
}
