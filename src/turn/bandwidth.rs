//! How much an allocation and its user may relay in a time (RFC 8656 §5). What is beyond is
//! dropped, never queued.
//!
//! Each way has its own buckets: one of the allocation, and one of the user, which allocations on
//! several shards draw on. A bucket holds one second's worth. An allocation draws a millisecond's
//! worth from both at a time and pays its packets from that, so that a packet costs a subtraction,
//! and no allocation writes to what it shares more than about once a millisecond each way.
//!
//! Before it asks the user, an allocation draws on a share of its own. First come first served, two
//! flooded allocations would otherwise take all that their user has, and a call on a third one would
//! be silent.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::limits::Limits;
use super::time::Time;
use crate::wire::Family;

const NS_PER_MS: u64 = 1_000_000;

/// What a bucket holds, as the time in which it fills.
const BURST_NS: u64 = 1000 * NS_PER_MS;

/// Bits that are drawn at a time at the highest rates.
const DRAW_MAX: u32 = 1 << 30;

/// The way of a relayed datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    ToPeers,
    /// From a peer.
    ToClient,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToPeers => "to peers",
            Self::ToClient => "to the client",
        })
    }
}

/// Whose bucket is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthLimit {
    /// The allocation's.
    Allocation,
    /// That of its user, over all allocations.
    User,
}

impl fmt::Display for BandwidthLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allocation => "limits.allocation_kbit_per_s",
            Self::User => "limits.user_kbit_per_s",
        })
    }
}

/// Bytes of a relayed datagram on the peer's side of the wire, so that a flood of tiny packets is
/// not free: the payload and the headers of IP and UDP.
pub(super) const fn wire_len(peer: Family, payload: usize) -> usize {
    payload
        + match peer {
            Family::V4 => 28,
            Family::V6 => 48,
        }
}

/// A limit that is not 0. One kbit/s is one bit a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rate {
    bits_per_ms: NonZeroU32,
}

impl Rate {
    fn new(kbit_per_s: u32) -> Option<Self> {
        let bits_per_ms = NonZeroU32::new(kbit_per_s)?;
        Some(Self { bits_per_ms })
    }

    /// What is drawn at a time.
    fn draw(self) -> u32 {
        self.bits_per_ms.get().min(DRAW_MAX)
    }

    /// The time in which so many bits come in.
    fn ns(self, bits: u64) -> u64 {
        (bits * NS_PER_MS).div_ceil(self.bits_per_ms.get().into())
    }

    /// A low rate lets the largest datagram through all the same, after a pause.
    fn burst_ns(self) -> u64 {
        let largest = wire_len(Family::V6, u16::MAX.into()) as u64 * 8;
        BURST_NS.max(self.ns(largest))
    }
}

/// A bucket, as the moment until which its income is spent: full when that is a burst ago, empty
/// when it is now. In ns of the host's clock, and before its origin as long as nothing was spent.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    spent_until_ns: i64,
}

impl Bucket {
    const FULL: Self = Self {
        spent_until_ns: i64::MIN,
    };

    /// The bucket after so many bits more, if it has them.
    fn spend(self, rate: Rate, now: Time, bits: u64) -> Option<Self> {
        let spent_until_ns = self.since(rate, now) + rate.ns(bits) as i64;
        (spent_until_ns <= now_ns(now)).then_some(Self { spent_until_ns })
    }

    fn is_full(self, rate: Rate, now: Time) -> bool {
        self.spent_until_ns <= now_ns(now) - rate.burst_ns() as i64
    }

    /// From when on its income is there.
    fn since(self, rate: Rate, now: Time) -> i64 {
        self.spent_until_ns
            .max(now_ns(now) - rate.burst_ns() as i64)
    }
}

const fn now_ns(now: Time) -> i64 {
    (now.as_millis() * NS_PER_MS) as i64
}

/// The buckets of a user, which all allocations of it draw on.
#[derive(Debug)]
pub(super) struct UserBandwidth {
    spent_until_ns: [AtomicI64; 2],
}

impl Default for UserBandwidth {
    fn default() -> Self {
        let full = || AtomicI64::new(Bucket::FULL.spent_until_ns);
        Self {
            spent_until_ns: [full(), full()],
        }
    }
}

impl UserBandwidth {
    /// Writes only if the bucket has so much.
    fn spend(&self, way: Way, rate: Rate, now: Time, bits: u64) -> bool {
        let spend = |spent_until_ns| {
            let bucket = Bucket { spent_until_ns }.spend(rate, now, bits)?;
            Some(bucket.spent_until_ns)
        };
        self.spent_until_ns[way as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }

    /// Whether it is as good as new.
    pub(super) fn is_full(&self, limits: &Limits, now: Time) -> bool {
        let Some(rate) = Rate::new(limits.user_kbit_per_s) else {
            return true;
        };
        self.spent_until_ns.iter().all(|spent| {
            let spent_until_ns = spent.load(Ordering::Relaxed);
            Bucket { spent_until_ns }.is_full(rate, now)
        })
    }
}

/// What one allocation has left, each way.
#[derive(Debug)]
pub(super) struct Bandwidth {
    user: Arc<UserBandwidth>,
    buckets: [Bucket; 2],
    /// What it has beside the user's.
    shares: [Bucket; 2],
    /// Bits that were drawn and are not used yet.
    purses: [u32; 2],
}

impl Bandwidth {
    pub(super) const fn new(user: Arc<UserBandwidth>) -> Self {
        Self {
            user,
            buckets: [Bucket::FULL; 2],
            shares: [Bucket::FULL; 2],
            purses: [0; 2],
        }
    }

    /// Pays for a datagram of so many bytes, or says which limit is in the way.
    #[inline]
    pub(super) fn charge(
        &mut self,
        limits: &Limits,
        now: Time,
        way: Way,
        len: usize,
    ) -> Result<(), BandwidthLimit> {
        let bits = len as u32 * 8;
        let purse = &mut self.purses[way as usize];
        if let Some(left) = purse.checked_sub(bits) {
            *purse = left;
            return Ok(());
        }
        self.draw(limits, now, way, bits)
    }

    /// Draws on the buckets for a datagram that the purse is short of.
    fn draw(
        &mut self,
        limits: &Limits,
        now: Time,
        way: Way,
        bits: u32,
    ) -> Result<(), BandwidthLimit> {
        let own = Rate::new(limits.allocation_kbit_per_s);
        let user = Rate::new(limits.user_kbit_per_s);
        let Some(slowest) = own.into_iter().chain(user).min() else {
            return Ok(());
        };
        let short = bits - self.purses[way as usize];
        if let Some(share) = Rate::new(limits.share_kbit_per_s()) {
            let drawn = share.min(slowest).draw().max(short);
            let share = self.shares[way as usize].spend(share, now, drawn.into());
            if let Some(share) = share
                && let Some(bucket) = self.spend_own(own, now, way, drawn)
            {
                self.shares[way as usize] = share;
                self.fill(way, bucket, drawn - short);
                return Ok(());
            }
        }
        let drawn = slowest.draw().max(short);
        let bucket = self
            .spend_own(own, now, way, drawn)
            .ok_or(BandwidthLimit::Allocation)?;
        if user.is_some_and(|rate| !self.user.spend(way, rate, now, drawn.into())) {
            return Err(BandwidthLimit::User);
        }
        self.fill(way, bucket, drawn - short);
        Ok(())
    }

    /// The allocation's bucket after so many bits more, if it has them or has no limit.
    fn spend_own(&self, own: Option<Rate>, now: Time, way: Way, bits: u32) -> Option<Bucket> {
        let bucket = self.buckets[way as usize];
        own.map_or(Some(bucket), |rate| bucket.spend(rate, now, bits.into()))
    }

    /// Keeps what was drawn beyond what the datagram needs.
    const fn fill(&mut self, way: Way, bucket: Bucket, left: u32) {
        self.buckets[way as usize] = bucket;
        self.purses[way as usize] = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(5);
    const LARGE: usize = 65_535;

    /// Without shares: the user may have too many allocations.
    fn limits(allocation: u32, user: u32) -> Limits {
        Limits {
            allocations_per_user: u32::MAX,
            allocation_kbit_per_s: allocation,
            user_kbit_per_s: user,
            ..Limits::default()
        }
    }

    fn later(ms: u64) -> Time {
        Time::from_millis(START.as_millis() + ms)
    }

    /// How many datagrams of so many bytes pass at a moment.
    fn pass(bandwidth: &mut Bandwidth, limits: &Limits, now: Time, way: Way, len: usize) -> u64 {
        let passes = |_: &u64| bandwidth.charge(limits, now, way, len).is_ok();
        (0..1_000_000).take_while(passes).count() as u64
    }

    /// SEC-11: a second's worth at once, then what the rate gives, to the packet.
    #[test]
    fn a_bucket_holds_one_second() {
        let limits = limits(8000, 0);
        let mut bandwidth = Bandwidth::new(Arc::default());
        for way in [Way::ToPeers, Way::ToClient] {
            assert_eq!(pass(&mut bandwidth, &limits, START, way, 1000), 1000);
            let beyond = bandwidth.charge(&limits, START, way, 1000);
            assert_eq!(beyond, Err(BandwidthLimit::Allocation));
            assert_eq!(pass(&mut bandwidth, &limits, later(1), way, 1000), 1);
            assert_eq!(pass(&mut bandwidth, &limits, later(11), way, 500), 20);
            assert_eq!(pass(&mut bandwidth, &limits, later(1010), way, 1000), 999);
            assert_eq!(pass(&mut bandwidth, &limits, later(9999), way, 1000), 1000);
        }
    }

    /// SEC-11: twice the quota: half of it arrives, however long it goes on.
    #[test]
    fn of_twice_the_quota_half_passes() {
        let limits = limits(8000, 8000);
        let mut bandwidth = Bandwidth::new(Arc::default());
        pass(&mut bandwidth, &limits, START, Way::ToPeers, 100);
        let mut passed = 0;
        for ms in 1..=10_000 {
            for _ in 0..20 {
                let charged = bandwidth.charge(&limits, later(ms), Way::ToPeers, 100);
                passed += u32::from(charged.is_ok());
            }
        }
        assert_eq!(passed, 100_000);
    }

    /// SEC-11: allocations of one user share what it has, and the first to come takes it.
    #[test]
    fn the_bucket_of_a_user() {
        let limits = limits(0, 8000);
        let user = Arc::new(UserBandwidth::default());
        assert!(user.is_full(&limits, START));
        let mut first = Bandwidth::new(Arc::clone(&user));
        let mut second = Bandwidth::new(Arc::clone(&user));
        let mut other = Bandwidth::new(Arc::default());
        for _ in 0..500 {
            first.charge(&limits, START, Way::ToClient, 1000).unwrap();
        }
        assert_eq!(pass(&mut second, &limits, START, Way::ToClient, 1000), 500);
        for bandwidth in [&mut first, &mut second] {
            let beyond = bandwidth.charge(&limits, START, Way::ToClient, 1000);
            assert_eq!(beyond, Err(BandwidthLimit::User));
        }
        assert_eq!(pass(&mut first, &limits, START, Way::ToPeers, 1000), 1000);
        assert_eq!(pass(&mut other, &limits, START, Way::ToClient, 1000), 1000);
        assert!(!user.is_full(&limits, later(999)));
        assert!(user.is_full(&limits, later(1000)));
    }

    /// What the user does not have is not taken from the allocation either.
    #[test]
    fn a_refusal_costs_nothing() {
        let limits = limits(16_000, 8000);
        let user = Arc::new(UserBandwidth::default());
        let mut first = Bandwidth::new(Arc::clone(&user));
        let mut second = Bandwidth::new(user);
        assert_eq!(pass(&mut first, &limits, START, Way::ToPeers, 1000), 1000);
        for _ in 0..5000 {
            let beyond = second.charge(&limits, START, Way::ToPeers, 1000);
            assert_eq!(beyond, Err(BandwidthLimit::User));
        }
        assert_eq!(
            pass(&mut second, &limits, later(1000), Way::ToPeers, 1000),
            1000
        );
    }

    /// The largest datagram passes at every rate, and at every rate it is paid for.
    #[test]
    fn the_largest_datagram_at_the_lowest_rate() {
        let largest = wire_len(Family::V6, u16::MAX.into());
        let limits = limits(1, 1);
        let mut bandwidth = Bandwidth::new(Arc::default());
        let full_after = largest as u64 * 8;
        for start in [0, full_after] {
            let now = later(start);
            assert_eq!(pass(&mut bandwidth, &limits, now, Way::ToPeers, largest), 1);
        }
        let short = bandwidth.charge(&limits, later(2 * full_after - 1), Way::ToPeers, largest);
        assert_eq!(short, Err(BandwidthLimit::Allocation));
    }

    /// 0 is no limit, and one limit goes without the other.
    #[test]
    fn no_limit_at_all() {
        let none = limits(0, 0);
        let mut bandwidth = Bandwidth::new(Arc::default());
        for _ in 0..100_000 {
            bandwidth.charge(&none, START, Way::ToPeers, LARGE).unwrap();
        }
        let extreme = limits(u32::MAX, u32::MAX);
        for _ in 0..100_000 {
            bandwidth
                .charge(&extreme, START, Way::ToPeers, LARGE)
                .unwrap();
        }
    }

    /// Headers count: ten times the packets are not ten times the work for the same bandwidth.
    #[test]
    fn empty_datagrams_are_not_free() {
        let limits = limits(8000, 0);
        let mut bandwidth = Bandwidth::new(Arc::default());
        let empty = wire_len(Family::V4, 0);
        let passed = pass(&mut bandwidth, &limits, START, Way::ToPeers, empty);
        assert_eq!(passed, 1_000_000 / 28);
        assert_eq!(wire_len(Family::V6, 100), 148);
    }

    /// SEC-22: whoever took what the user has, each allocation has its share, every second anew and
    /// within its own limit; and more is not to be had so.
    #[test]
    fn a_share_is_left_when_the_user_has_nothing() {
        let limits = Limits {
            allocations_per_user: 20,
            ..limits(4000, 8000)
        };
        let user = Arc::new(UserBandwidth::default());
        let allocations = || Bandwidth::new(Arc::clone(&user));
        let mut all: Vec<Bandwidth> = (0..20).map(|_| allocations()).collect();
        let rate = Rate::new(limits.share_kbit_per_s()).unwrap();
        let share = rate.burst_ns() * 400 / 8 / NS_PER_MS / 1000;
        for way in [Way::ToPeers, Way::ToClient] {
            let mut total = 0;
            for (index, bandwidth) in all.iter_mut().enumerate() {
                let passed = pass(bandwidth, &limits, START, way, 1000);
                assert!(passed >= share && passed <= 500, "{index}: {passed}");
                total += passed;
            }
            assert_eq!(total, 1000 + 20 * share);
        }
        // A second later the first has taken what came in for the user, and the last has its share.
        let (first, last) = all.split_at_mut(19);
        for bandwidth in first {
            pass(bandwidth, &limits, later(1000), Way::ToPeers, 1000);
        }
        let passed = pass(&mut last[0], &limits, later(1000), Way::ToPeers, 1000);
        assert_eq!(passed, 50);
    }
}
