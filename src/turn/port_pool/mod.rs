//! The relay ports: one atomic bitmap for each relay address, shared by the shards.
//!
//! A port is free, held (for a socket that is not bound yet, or for a token), live, or resting. A
//! port that an allocation gave back rests for a while, so that what is still under way to the old
//! allocation does not reach a new one; resting ports are taken only when no free one is left.
//!
//! Addresses and ports can be exchanged while allocations hold some of them. An address is never
//! taken out of the list, because leases name it by its place: one that is not used any more gives
//! no new ports, and what it gave lives on under the names that clients were told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::wire::Family;

/// 64-bit words of a bitmap of all ports.
const WORDS: usize = 65_536 / 64;

/// Bits of the even ports of a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// An address that relay sockets are bound to, and the one that peers reach it by. They differ
/// behind 1:1 NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAddress {
    /// Where sockets are bound.
    pub bound: IpAddr,
    /// What clients are told.
    pub advertised: IpAddr,
}

/// All relay ports of the server.
#[derive(Debug)]
pub struct PortPool {
    /// Filled from the front, and never emptied.
    addresses: Box<[OnceLock<AddressPool>]>,
    known: AtomicUsize,
    /// The first and the last port of the range, in the upper and the lower half.
    range: AtomicU32,
    /// Whether any address is or was advertised as another one.
    translates: AtomicBool,
    /// Held by who exchanges addresses and ports.
    exchanging: Mutex<()>,
}

/// The ports of an address under one advertised name.
#[derive(Debug)]
struct AddressPool {
    address: RelayAddress,
    /// Of the bound address, under whatever names.
    ports: Arc<BoundPorts>,
    /// Which ports may be leased from here on. None if the address is not used any more.
    usable: Box<[AtomicU64]>,
    is_used: AtomicBool,
    /// A relay socket is bound; a subset of `taken`, without `resting`.
    live: Box<[AtomicU64]>,
    live_count: AtomicU32,
}

/// What is taken of an address that sockets are bound to.
#[derive(Debug)]
struct BoundPorts {
    /// Not free: held, live or resting.
    taken: Box<[AtomicU64]>,
    /// Resting; a subset of `taken`.
    resting: Box<[AtomicU64]>,
}

/// Ports by their state. Each usable port is in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCensus {
    /// A relay socket is bound.
    pub live: u32,
    /// Taken for a socket that is not bound yet, or for a token.
    pub held: u32,
    /// Given back, and not used for a while.
    pub resting: u32,
    /// Can be had.
    pub free: u32,
}

/// A port that belongs to its holder until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortLease {
    address: u8,
    pub(super) port: u16,
}

/// Which ports will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parity {
    Any,
    /// An even port (EVEN-PORT).
    Even,
    /// An even port whose next higher one is leased too (EVEN-PORT with R).
    EvenPair,
}

/// More pairs of bound and advertised addresses than [`PortPool::ADDRESSES_MAX`] since the pool was
/// made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAddresses;

impl fmt::Display for TooManyAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "this server has had {} relay addresses since its start, and no room for more",
            PortPool::ADDRESSES_MAX
        )
    }
}

impl std::error::Error for TooManyAddresses {}

impl PortPool {
    /// Relay addresses that a pool can have, those that it had before included.
    pub const ADDRESSES_MAX: usize = 256;

    /// A pool of `ports` on each of `addresses`. Ports of `excluded` are never used: the server
    /// listens there.
    ///
    /// # Panics
    /// If there are more than [`PortPool::ADDRESSES_MAX`] addresses.
    pub fn new(
        addresses: &[RelayAddress],
        ports: RangeInclusive<u16>,
        excluded: &[SocketAddr],
    ) -> Self {
        let pool = Self {
            addresses: (0..Self::ADDRESSES_MAX).map(|_| OnceLock::new()).collect(),
            known: AtomicUsize::new(0),
            range: AtomicU32::new(0),
            translates: AtomicBool::new(false),
            exchanging: Mutex::new(()),
        };
        pool.exchange(addresses, ports, excluded)
            .expect("an address is named by one byte");
        pool
    }

    /// From here on ports of these addresses and this range are leased. Leases of others go on until
    /// they are given back, under the names that they had.
    ///
    /// # Errors
    /// If there is no room for the new addresses. Then nothing has changed.
    pub fn exchange(
        &self,
        addresses: &[RelayAddress],
        ports: RangeInclusive<u16>,
        excluded: &[SocketAddr],
    ) -> Result<(), TooManyAddresses> {
        let _exchanging = self
            .exchanging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known: Vec<RelayAddress> = self.pools().map(|pool| pool.address).collect();
        let new: Vec<RelayAddress> = addresses
            .iter()
            .filter(|address| !known.contains(address))
            .copied()
            .collect();
        if known.len() + new.len() > Self::ADDRESSES_MAX {
            return Err(TooManyAddresses);
        }
        let mut count = known.len();
        for address in new {
            let bound = self
                .pools()
                .find(|pool| pool.address.bound == address.bound)
                .map(|pool| Arc::clone(&pool.ports));
            let pool = AddressPool::new(address, bound.unwrap_or_default());
            let _ = self.addresses[count].set(pool);
            count += 1;
            self.known.store(count, Ordering::Release);
        }
        if addresses.iter().any(|a| a.bound != a.advertised) {
            self.translates.store(true, Ordering::Release);
        }
        let range = u32::from(*ports.start()) << 16 | u32::from(*ports.end());
        self.range.store(range, Ordering::Release);
        for pool in self.pools() {
            let is_used = addresses.contains(&pool.address);
            pool.set_usable(is_used.then(|| ports.clone()), excluded);
        }
        Ok(())
    }

    fn pools(&self) -> impl Iterator<Item = &AddressPool> + Clone {
        let known = self.known.load(Ordering::Acquire);
        self.addresses[..known].iter().filter_map(OnceLock::get)
    }

    fn pool(&self, lease: PortLease) -> &AddressPool {
        let pool = self.addresses[usize::from(lease.address)].get();
        pool.expect("a lease is of an address that is known")
    }

    /// The port of the range at which a search starts: each as likely as any other.
    fn start(&self, random: u32) -> u16 {
        let range = self.range.load(Ordering::Acquire);
        let (first, last) = (range >> 16, range & 0xffff);
        let count = u64::from(last.saturating_sub(first)) + 1;
        (first as u64 + ((u64::from(random) * count) >> 32)) as u16
    }

    /// Whether relayed addresses of a family can be had at all.
    pub fn supports(&self, family: Family) -> bool {
        self.pools()
            .any(|pool| pool.is_used() && pool.family() == family)
    }

    /// Takes a port of a family, on `preferred` if that is a relay address. `random` decides which
    /// one: no port is likelier than another while few are taken.
    pub(super) fn acquire(
        &self,
        family: Family,
        parity: Parity,
        preferred: IpAddr,
        random: u64,
    ) -> Option<PortLease> {
        let pools = self.pools().enumerate();
        let pools = pools.filter(|(_, pool)| pool.is_used() && pool.family() == family);
        let count = pools.clone().count();
        let first = pools
            .clone()
            .position(|(_, pool)| pool.address.bound == preferred)
            .unwrap_or_else(|| (random >> 32) as usize % count.max(1));
        let mut in_turn = pools.cycle().skip(first).take(count);
        in_turn.find_map(|(index, pool)| {
            let port = pool.acquire(self.start(random as u32), parity)?;
            Some(PortLease {
                address: index as u8,
                port,
            })
        })
    }

    /// The lease of the next higher port, which came with a pair.
    pub(super) const fn upper(lease: PortLease) -> PortLease {
        PortLease {
            address: lease.address,
            port: lease.port + 1,
        }
    }

    /// Gives a port back for immediate use: nothing was ever sent from it.
    pub(super) fn release(&self, lease: PortLease) {
        let ports = &self.pool(lease).ports;
        ports.taken[word(lease.port)].fetch_and(!bit(lease.port), Ordering::AcqRel);
    }

    /// The socket of a lease is bound: what is sent there reaches an allocation.
    pub(super) fn go_live(&self, lease: PortLease) {
        self.pool(lease).set_live(lease.port, true);
    }

    /// Gives a port back for use after a rest, which [`PortPool::wake`] ends.
    pub(super) fn rest(&self, lease: PortLease) {
        let pool = self.pool(lease);
        pool.set_live(lease.port, false);
        pool.ports.resting[word(lease.port)].fetch_or(bit(lease.port), Ordering::AcqRel);
    }

    /// Ends a port's rest, unless an allocation that found no free port ended it already.
    pub(super) fn wake(&self, lease: PortLease) {
        if self.pool(lease).ports.claim_resting(lease.port) {
            self.release(lease);
        }
    }

    /// Where to bind the socket of a lease.
    pub(super) fn bound(&self, lease: PortLease) -> SocketAddr {
        SocketAddr::new(self.pool(lease).address.bound, lease.port)
    }

    /// The relayed transport address that clients are told for a lease.
    pub(super) fn advertised(&self, lease: PortLease) -> SocketAddr {
        SocketAddr::new(self.pool(lease).address.advertised, lease.port)
    }

    /// Whether an address is one of this server's relay addresses, bound or advertised. One that is
    /// not used any more is for as long as allocations have it.
    pub(super) fn is_relay_ip(&self, ip: IpAddr) -> bool {
        self.pools().any(|pool| {
            (pool.address.bound == ip || pool.address.advertised == ip) && pool.is_known()
        })
    }

    /// Whether a transport address is the relayed address of an allocation that lives. A port that
    /// is only held may be any other process's.
    pub(super) fn is_live(&self, address: SocketAddr) -> bool {
        self.pools().any(|pool| {
            let RelayAddress { bound, advertised } = pool.address;
            (bound == address.ip() || advertised == address.ip()) && pool.is_live(address.port())
        })
    }

    /// Where to send what is meant for `address`: this server's relay sockets are reached where
    /// they are bound, whatever they are advertised as (hairpin).
    pub(super) fn to_bound(&self, address: SocketAddr) -> SocketAddr {
        self.translate(address, |relay| (relay.advertised, relay.bound))
    }

    /// Whom to say that something from `address` is from.
    pub(super) fn to_advertised(&self, address: SocketAddr) -> SocketAddr {
        self.translate(address, |relay| (relay.bound, relay.advertised))
    }

    /// An address may have had other names before: the one that the port's allocation has, or else
    /// the one in use.
    fn translate(
        &self,
        address: SocketAddr,
        direction: impl Fn(RelayAddress) -> (IpAddr, IpAddr),
    ) -> SocketAddr {
        if !self.translates.load(Ordering::Relaxed) {
            return address;
        }
        let mut in_use = None;
        for pool in self.pools() {
            let (from, to) = direction(pool.address);
            if from != address.ip() {
                continue;
            }
            if pool.is_live(address.port()) {
                return SocketAddr::new(to, address.port());
            }
            if pool.is_used() {
                in_use = Some(to);
            }
        }
        match in_use {
            Some(to) => SocketAddr::new(to, address.port()),
            None => address,
        }
    }

    /// Ports that are not free, on all addresses.
    pub fn taken(&self) -> u32 {
        self.count(|ports| &ports.taken)
    }

    /// How many ports are in which state, on all addresses. Ports change hands meanwhile, so that the
    /// numbers fit together only as far as nothing happens.
    pub fn census(&self) -> PortCensus {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let live = self.pools().flat_map(|pool| &pool.live);
        let live = live.map(|word| load(word).count_ones()).sum();
        let words = self
            .pools()
            .flat_map(|pool| pool.usable.iter().zip(&pool.ports.taken));
        let free = words.map(|(usable, taken)| (load(usable) & !load(taken)).count_ones());
        let (taken, resting) = (self.taken(), self.resting());
        PortCensus {
            live,
            resting,
            held: taken.saturating_sub(resting).saturating_sub(live),
            free: free.sum(),
        }
    }

    /// Ports that are resting, on all addresses.
    pub fn resting(&self) -> u32 {
        self.count(|ports| &ports.resting)
    }

    /// An address is counted once, whatever names it has had.
    fn count(&self, bitmap: impl Fn(&BoundPorts) -> &[AtomicU64]) -> u32 {
        let once = self.pools().enumerate().filter(|(index, pool)| {
            let mut before = self.pools().take(*index);
            before.all(|other| other.address.bound != pool.address.bound)
        });
        let words = once.flat_map(|(_, pool)| bitmap(&pool.ports));
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }
}

fn bitmap() -> Box<[AtomicU64]> {
    (0..WORDS).map(|_| AtomicU64::new(0)).collect()
}

impl Default for BoundPorts {
    fn default() -> Self {
        Self {
            taken: bitmap(),
            resting: bitmap(),
        }
    }
}

impl BoundPorts {
    /// Takes a port that looked available, if no other shard was faster.
    fn claim(&self, port: u16, parity: Parity) -> bool {
        if !self.claim_one(port) {
            return false;
        }
        if parity == Parity::EvenPair && !self.claim_one(port + 1) {
            self.taken[word(port)].fetch_and(!bit(port), Ordering::AcqRel);
            return false;
        }
        true
    }

    fn claim_one(&self, port: u16) -> bool {
        let before = self.taken[word(port)].fetch_or(bit(port), Ordering::AcqRel);
        before & bit(port) == 0 || self.claim_resting(port)
    }

    fn claim_resting(&self, port: u16) -> bool {
        let before = self.resting[word(port)].fetch_and(!bit(port), Ordering::AcqRel);
        before & bit(port) != 0
    }
}

impl AddressPool {
    fn new(address: RelayAddress, ports: Arc<BoundPorts>) -> Self {
        Self {
            address,
            ports,
            usable: bitmap(),
            is_used: AtomicBool::new(false),
            live: bitmap(),
            live_count: AtomicU32::new(0),
        }
    }

    /// Says which ports may be leased from here on; `None` is an address that is not used any more.
    fn set_usable(&self, ports: Option<RangeInclusive<u16>>, excluded: &[SocketAddr]) {
        self.is_used.store(ports.is_some(), Ordering::Release);
        let mut usable = vec![0u64; WORDS];
        for port in ports.into_iter().flatten() {
            let listened = excluded.iter().any(|listener| {
                let ip = listener.ip();
                listener.port() == port && (ip == self.address.bound || ip.is_unspecified())
            });
            if !listened {
                usable[word(port)] |= bit(port);
            }
        }
        for (old, new) in self.usable.iter().zip(usable) {
            old.store(new, Ordering::Release);
        }
    }

    fn family(&self) -> Family {
        Family::of(self.address.bound)
    }

    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    fn is_known(&self) -> bool {
        self.is_used() || self.live_count.load(Ordering::Relaxed) > 0
    }

    fn is_live(&self, port: u16) -> bool {
        self.live[word(port)].load(Ordering::Relaxed) & bit(port) != 0
    }

    fn set_live(&self, port: u16, live: bool) {
        let word = &self.live[word(port)];
        if live {
            if word.fetch_or(bit(port), Ordering::AcqRel) & bit(port) == 0 {
                self.live_count.fetch_add(1, Ordering::Relaxed);
            }
        } else if word.fetch_and(!bit(port), Ordering::AcqRel) & bit(port) != 0 {
            self.live_count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the first port at or after `start`, around the end: first of the free ones, then of
    /// the resting ones.
    fn acquire(&self, start: u16, parity: Parity) -> Option<u16> {
        let free = |ports: &BoundPorts, w: usize| !ports.taken[w].load(Ordering::Relaxed);
        let resting = |ports: &BoundPorts, w: usize| ports.resting[w].load(Ordering::Relaxed);
        self.search(start, parity, free)
            .or_else(|| self.search(start, parity, |ports, w| free(ports, w) | resting(ports, w)))
    }

    fn search(
        &self,
        start: u16,
        parity: Parity,
        candidates: impl Fn(&BoundPorts, usize) -> u64,
    ) -> Option<u16> {
        let after_start = !(bit(start) - 1);
        let available =
            |w: usize| candidates(&self.ports, w) & self.usable[w].load(Ordering::Relaxed);
        // The first word is visited twice: from `start` on, and at the end before it.
        for step in 0..=WORDS {
            let w = (word(start) + step) % WORDS;
            let mut ports = available(w);
            ports &= match step {
                0 => after_start,
                WORDS => !after_start,
                _ => u64::MAX,
            };
            ports &= match parity {
                Parity::Any => u64::MAX,
                Parity::Even => EVEN,
                Parity::EvenPair => EVEN & available(w) >> 1,
            };
            while ports != 0 {
                let port = (w * 64) as u16 + ports.trailing_zeros() as u16;
                if self.ports.claim(port, parity) {
                    return Some(port);
                }
                ports &= ports - 1;
            }
        }
        None
    }
}

const fn word(port: u16) -> usize {
    port as usize / 64
}

const fn bit(port: u16) -> u64 {
    1 << (port % 64)
}

#[cfg(test)]
mod exchange_tests;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn pool(ports: RangeInclusive<u16>) -> PortPool {
        PortPool::new(
            &[RelayAddress {
                bound: IP,
                advertised: IP,
            }],
            ports,
            &[],
        )
    }

    fn acquire(pool: &PortPool, parity: Parity, random: u64) -> Option<PortLease> {
        pool.acquire(Family::V4, parity, IP, random)
    }

    /// ALLOC-20, ALLOC-22
    #[test]
    fn every_port_once_and_then_none() {
        for start in [0, 1 << 30, 1 << 31, u64::from(u32::MAX)] {
            let pool = pool(49_152..=65_535);
            let ports: HashSet<u16> = (0..16_384)
                .map(|_| acquire(&pool, Parity::Any, start).unwrap().port)
                .collect();
            assert_eq!(ports.len(), 16_384);
            assert!(ports.iter().all(|&port| port >= 49_152));
            assert_eq!(acquire(&pool, Parity::Any, start), None);
            assert_eq!(pool.taken(), 16_384);
        }
    }

    /// ALLOC-19: the first port is each port of the range alike, and so is the distance between two
    /// that follow each other.
    #[test]
    fn ports_are_spread_evenly_over_the_range() {
        use rand_chacha::rand_core::{RngCore, SeedableRng};

        const ROUNDS: u32 = 16_000;
        const SLOTS: u16 = 16;
        let mut random = rand_chacha::ChaCha12Rng::from_seed([1; 32]);
        let pool = pool(49_152..=65_535);
        let (mut ports, mut distances) = ([0u32; SLOTS as usize], [0u32; SLOTS as usize]);
        let mut previous = 0u16;
        for _ in 0..ROUNDS {
            let lease = acquire(&pool, Parity::Any, random.next_u64()).unwrap();
            pool.release(lease);
            assert!(lease.port >= 49_152);
            let width = 16_384 / SLOTS;
            ports[usize::from((lease.port - 49_152) / width)] += 1;
            let distance = lease.port.wrapping_sub(previous) % 16_384;
            distances[usize::from(distance / width)] += 1;
            previous = lease.port;
        }
        // Five standard deviations of a slot's count.
        let expected = ROUNDS / u32::from(SLOTS);
        for count in ports.into_iter().chain(distances) {
            assert!(count.abs_diff(expected) < 155, "{ports:?} {distances:?}");
        }
    }

    /// ALLOC-13, ALLOC-16
    #[test]
    fn even_ports_and_pairs() {
        let pool = pool(50_001..=50_006);
        let pair = acquire(&pool, Parity::EvenPair, 0).unwrap();
        assert_eq!((pair.port, PortPool::upper(pair).port), (50_002, 50_003));
        let even = acquire(&pool, Parity::Even, 0).unwrap();
        assert_eq!(even.port, 50_004);
        assert_eq!(
            acquire(&pool, Parity::EvenPair, 0),
            None,
            "50006 has no port above it"
        );
        assert_eq!(acquire(&pool, Parity::Even, 0).unwrap().port, 50_006);
        assert_eq!(acquire(&pool, Parity::Even, 0), None);
        let odd: HashSet<u16> = (0..2)
            .map(|_| acquire(&pool, Parity::Any, 0).unwrap().port)
            .collect();
        assert_eq!(
            odd,
            HashSet::from([50_001, 50_005]),
            "the port above an even one stays free"
        );
    }

    /// ALLOC-31
    #[test]
    fn a_resting_port_is_the_last_choice() {
        let pool = pool(50_000..=50_001);
        let address = SocketAddr::new(IP, 50_000);
        let first = acquire(&pool, Parity::Any, 0).unwrap();
        assert!(!pool.is_live(address), "no socket is bound yet");
        pool.go_live(first);
        assert!(pool.is_live(address));
        pool.rest(first);
        assert!(!pool.is_live(address));
        assert_eq!(acquire(&pool, Parity::Any, 0).unwrap().port, 50_001);
        assert_eq!(acquire(&pool, Parity::Any, 0).unwrap().port, 50_000);
        assert_eq!(acquire(&pool, Parity::Any, 0), None);
        pool.wake(first);
        assert_eq!(pool.taken(), 2, "its rest was over already");
        pool.rest(first);
        pool.wake(first);
        assert_eq!(pool.taken(), 1);
    }

    #[test]
    fn listeners_are_no_relay_ports() {
        let address = RelayAddress {
            bound: IP,
            advertised: IP,
        };
        let listeners = [
            "0.0.0.0:50000".parse().unwrap(),
            "192.0.2.9:50001".parse().unwrap(),
        ];
        let pool = PortPool::new(&[address], 50_000..=50_001, &listeners);
        assert_eq!(acquire(&pool, Parity::Any, 0).unwrap().port, 50_001);
        assert_eq!(acquire(&pool, Parity::Any, 0), None);
    }

    #[test]
    fn every_usable_port_is_in_one_state() {
        let pool = pool(50_000..=50_009);
        let census = |live, held, resting, free| {
            let expected = PortCensus {
                live,
                resting,
                held,
                free,
            };
            assert_eq!(pool.census(), expected);
        };
        census(0, 0, 0, 10);
        let pair = acquire(&pool, Parity::EvenPair, 0).unwrap();
        census(0, 2, 0, 8);
        pool.go_live(pair);
        census(1, 1, 0, 8);
        pool.rest(pair);
        census(0, 1, 1, 8);
        pool.wake(pair);
        pool.release(PortPool::upper(pair));
        census(0, 0, 0, 10);
    }

    /// ALLOC-25
    #[test]
    fn advertised_addresses_translate_both_ways() {
        let advertised: IpAddr = "203.0.113.10".parse().unwrap();
        let pool = PortPool::new(
            &[RelayAddress {
                bound: IP,
                advertised,
            }],
            50_000..=50_001,
            &[],
        );
        let lease = acquire(&pool, Parity::Any, 0).unwrap();
        let (inner, outer) = (
            SocketAddr::new(IP, 50_000),
            SocketAddr::new(advertised, 50_000),
        );
        assert_eq!((pool.bound(lease), pool.advertised(lease)), (inner, outer));
        assert_eq!(
            (pool.to_bound(outer), pool.to_advertised(inner)),
            (inner, outer)
        );
        pool.go_live(lease);
        assert!(pool.is_live(inner) && pool.is_live(outer));
        let other = "198.51.100.1:7".parse().unwrap();
        assert_eq!(
            (pool.to_bound(other), pool.to_advertised(other)),
            (other, other)
        );
    }

    #[test]
    fn many_threads_never_share_a_port() {
        let pool = pool(50_000..=50_999);
        let seen = Mutex::new(HashSet::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (pool, seen) = (&pool, &seen);
                scope.spawn(move || {
                    for i in 0..250 {
                        let parity = if i % 2 == 0 {
                            Parity::EvenPair
                        } else {
                            Parity::Any
                        };
                        let random = (thread * 250 + i) << 22;
                        if let Some(lease) = acquire(pool, parity, random) {
                            let mut seen = seen.lock().unwrap();
                            assert!(seen.insert(lease.port));
                            if parity == Parity::EvenPair {
                                assert!(seen.insert(lease.port + 1));
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(seen.lock().unwrap().len(), pool.taken() as usize);
    }
}
