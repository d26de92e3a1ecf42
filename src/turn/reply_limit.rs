//! How many replies go to senders who have proven nothing. Over UDP anybody can write anybody's
//! address into a packet, and the reply would be the victim's.

use rand_chacha::ChaCha12Rng;

use super::budget::{Budget, Rate};
use super::limits::REPLY_BUCKETS;
use super::source::{KeyedHash, SourcePrefix};
use super::time::Time;

/// Budgets of replies, by source prefix.
///
/// The table has one size from the start to the end, and a prefix has one place in it. A stranger
/// can spend what is there and cannot make it grow:
///
/// - A flood in the name of one network empties that network's bucket, and the few others that
///   share it (one in [`REPLY_BUCKETS`]). Which ones cannot be computed without the key.
/// - A flood from random addresses spreads evenly. At 500,000 packets a second each of 16,384
///   buckets gets 31, which the default rate of 200 still leaves most of to real clients.
/// - What a flooded network's own real clients lose are first requests over UDP. Over TCP, with a
///   nonce or with an allocation they are not asked for anything.
///
/// Each worker has its own, and the kernel spreads the sources over the workers: a network that
/// uses many ports gets the rate once from each. So the host divides what the operator configured.
#[derive(Debug)]
pub(super) struct ReplyLimit {
    hash: KeyedHash,
    buckets: Box<[Budget]>,
    last_refused: Option<SourcePrefix>,
}

impl ReplyLimit {
    pub(super) fn new(random: &mut ChaCha12Rng) -> Self {
        Self {
            hash: KeyedHash::new(random),
            buckets: vec![Budget::default(); REPLY_BUCKETS].into(),
            last_refused: None,
        }
    }

    /// Whether one more reply may go to a network. With no rate every one may.
    pub(super) fn admits(&mut self, now: Time, rate: Option<Rate>, source: SourcePrefix) -> bool {
        let Some(rate) = rate else {
            return true;
        };
        let bucket = self.hash.of(source) as usize % self.buckets.len();
        let admitted = self.buckets[bucket].spend(rate, now);
        if !admitted {
            self.last_refused = Some(source);
        }
        admitted
    }

    /// The network that was refused a reply last.
    pub(super) const fn last_refused(&self) -> Option<SourcePrefix> {
        self.last_refused
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;

    const NOW: Time = Time::from_millis(77_000);

    fn limit() -> (ReplyLimit, Option<Rate>) {
        let mut random = ChaCha12Rng::from_seed([5; 32]);
        (ReplyLimit::new(&mut random), Rate::new(200, 1, 400))
    }

    fn network(ip: &str) -> SourcePrefix {
        SourcePrefix::network(ip.parse().unwrap())
    }

    /// SEC-09: at the edge and one beyond, for both families, and full again with time.
    #[test]
    fn a_network_gets_so_many_and_no_more() {
        let (mut limit, rate) = limit();
        for (flooded, neighbour, other) in [
            ("192.0.2.1", "192.0.2.255", "192.0.3.1"),
            ("2001:db8:1:2::3", "2001:db8:1:ffff::1", "2001:db8:2::1"),
        ] {
            for _ in 0..400 {
                assert!(limit.admits(NOW, rate, network(flooded)));
            }
            assert!(!limit.admits(NOW, rate, network(flooded)));
            assert!(!limit.admits(NOW, rate, network(neighbour)));
            assert_eq!(limit.last_refused(), Some(network(flooded)));
            assert!(limit.admits(NOW, rate, network(other)));
            let later = NOW.plus_secs(1);
            let admitted = (0..1000).filter(|_| limit.admits(later, rate, network(flooded)));
            assert_eq!(admitted.count(), 200);
        }
        assert!((0..1000).all(|_| limit.admits(NOW, None, network("192.0.2.1"))));
    }

    /// SEC-09, SEC-10: a second of a flood from a hundred thousand random addresses of both families
    /// takes no memory, and leaves room in every bucket.
    #[test]
    fn random_sources_exhaust_nothing() {
        let (mut limit, rate) = limit();
        let mut random = ChaCha12Rng::from_seed([6; 32]);
        for packet in 0..500_000 {
            let bits = random.next_u64();
            let ip: IpAddr = if packet % 2 == 0 {
                Ipv4Addr::from_bits(bits as u32).into()
            } else {
                Ipv6Addr::from_bits(u128::from(bits) << 64).into()
            };
            assert!(limit.admits(NOW, rate, SourcePrefix::network(ip)));
        }
        assert_eq!(size_of_val(&*limit.buckets), 128 * 1024);
        let rate = rate.unwrap();
        assert!(limit.buckets.iter().all(|it| it.has_one(rate, NOW)));
    }

    /// SEC-09: which networks share a bucket differs from worker to worker and from start to start.
    #[test]
    fn places_depend_on_the_key() {
        let places = |seed| {
            let limit = ReplyLimit::new(&mut ChaCha12Rng::from_seed([seed; 32]));
            let place = |last| limit.hash.of(network(&format!("192.0.{last}.1")));
            (0..8).map(place).collect::<Vec<_>>()
        };
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
    }
}
