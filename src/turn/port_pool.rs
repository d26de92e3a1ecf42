//! The relay ports: one atomic bitmap for each relay address, shared by the shards.
//!
//! A port is free, held (for a socket that is not bound yet, or for a token), live, or resting. A
//! port that an allocation gave back rests for a while, so that what is still under way to the old
//! allocation does not reach a new one; resting ports are taken only when no free one is left.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

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
    addresses: Vec<AddressPool>,
    /// Whether any address is advertised as another one.
    translates: bool,
}

#[derive(Debug)]
struct AddressPool {
    address: RelayAddress,
    ports: RangeInclusive<u16>,
    usable: Box<[u64]>,
    /// Not free: held, live or resting.
    taken: Box<[AtomicU64]>,
    /// A relay socket is bound; a subset of `taken`, without `resting`.
    live: Box<[AtomicU64]>,
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

impl PortPool {
    /// Relay addresses that a pool can have.
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
        assert!(
            addresses.len() <= Self::ADDRESSES_MAX,
            "an address is named by one byte"
        );
        let translates = addresses
            .iter()
            .any(|address| address.bound != address.advertised);
        let addresses = addresses
            .iter()
            .map(|&address| AddressPool::new(address, ports.clone(), excluded))
            .collect();
        Self {
            addresses,
            translates,
        }
    }

    /// Whether relayed addresses of a family can be had at all.
    pub fn supports(&self, family: Family) -> bool {
        self.addresses.iter().any(|pool| pool.family() == family)
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
        let first = self
            .addresses
            .iter()
            .position(|pool| pool.address.bound == preferred)
            .unwrap_or_else(|| (random >> 32) as usize % self.addresses.len().max(1));
        (0..self.addresses.len()).find_map(|step| {
            let index = (first + step) % self.addresses.len();
            let pool = &self.addresses[index];
            if pool.family() != family {
                return None;
            }
            let port = pool.acquire(pool.start(random as u32), parity)?;
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
        let pool = &self.addresses[usize::from(lease.address)];
        pool.taken[word(lease.port)].fetch_and(!bit(lease.port), Ordering::AcqRel);
    }

    /// The socket of a lease is bound: what is sent there reaches an allocation.
    pub(super) fn go_live(&self, lease: PortLease) {
        let pool = &self.addresses[usize::from(lease.address)];
        pool.live[word(lease.port)].fetch_or(bit(lease.port), Ordering::AcqRel);
    }

    /// Gives a port back for use after a rest, which [`PortPool::wake`] ends.
    pub(super) fn rest(&self, lease: PortLease) {
        let pool = &self.addresses[usize::from(lease.address)];
        pool.live[word(lease.port)].fetch_and(!bit(lease.port), Ordering::AcqRel);
        pool.resting[word(lease.port)].fetch_or(bit(lease.port), Ordering::AcqRel);
    }

    /// Ends a port's rest, unless an allocation that found no free port ended it already.
    pub(super) fn wake(&self, lease: PortLease) {
        let pool = &self.addresses[usize::from(lease.address)];
        if pool.claim_resting(lease.port) {
            self.release(lease);
        }
    }

    /// Where to bind the socket of a lease.
    pub(super) fn bound(&self, lease: PortLease) -> SocketAddr {
        SocketAddr::new(
            self.addresses[usize::from(lease.address)].address.bound,
            lease.port,
        )
    }

    /// The relayed transport address that clients are told for a lease.
    pub(super) fn advertised(&self, lease: PortLease) -> SocketAddr {
        SocketAddr::new(
            self.addresses[usize::from(lease.address)]
                .address
                .advertised,
            lease.port,
        )
    }

    /// Whether an address is one of this server's relay addresses, bound or advertised.
    pub(super) fn is_relay_ip(&self, ip: IpAddr) -> bool {
        self.addresses
            .iter()
            .any(|pool| pool.address.bound == ip || pool.address.advertised == ip)
    }

    /// Whether a transport address is the relayed address of an allocation that lives. A port that
    /// is only held may be any other process's.
    pub(super) fn is_live(&self, address: SocketAddr) -> bool {
        let (word, bit) = (word(address.port()), bit(address.port()));
        self.addresses.iter().any(|pool| {
            let RelayAddress { bound, advertised } = pool.address;
            (bound == address.ip() || advertised == address.ip())
                && pool.live[word].load(Ordering::Relaxed) & bit != 0
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

    fn translate(
        &self,
        address: SocketAddr,
        direction: impl Fn(RelayAddress) -> (IpAddr, IpAddr),
    ) -> SocketAddr {
        if !self.translates {
            return address;
        }
        let mut pairs = self.addresses.iter().map(|pool| direction(pool.address));
        match pairs.find(|&(from, _)| from == address.ip()) {
            Some((_, to)) => SocketAddr::new(to, address.port()),
            None => address,
        }
    }

    /// Ports that are not free, on all addresses.
    pub fn taken(&self) -> u32 {
        let words = self.addresses.iter().flat_map(|pool| pool.taken.iter());
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }

    /// How many ports are in which state, on all addresses. Ports change hands meanwhile, so that the
    /// numbers fit together only as far as nothing happens.
    pub fn census(&self) -> PortCensus {
        let count = |word: &u64| word.count_ones();
        let usable = self.addresses.iter().flat_map(|pool| pool.usable.iter());
        let live = self.addresses.iter().flat_map(|pool| pool.live.iter());
        let live = live
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum();
        let (taken, resting) = (self.taken(), self.resting());
        PortCensus {
            live,
            resting,
            held: taken.saturating_sub(resting).saturating_sub(live),
            free: usable.map(count).sum::<u32>().saturating_sub(taken),
        }
    }

    /// Ports that are resting, on all addresses.
    pub fn resting(&self) -> u32 {
        let words = self.addresses.iter().flat_map(|pool| pool.resting.iter());
        words
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum()
    }
}

impl AddressPool {
    fn new(address: RelayAddress, ports: RangeInclusive<u16>, excluded: &[SocketAddr]) -> Self {
        let mut usable = vec![0; WORDS];
        for port in ports.clone() {
            let listened = excluded.iter().any(|listener| {
                let ip = listener.ip();
                listener.port() == port && (ip == address.bound || ip.is_unspecified())
            });
            if !listened {
                usable[word(port)] |= bit(port);
            }
        }
        let bitmap = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            address,
            ports,
            usable: usable.into(),
            taken: bitmap(),
            live: bitmap(),
            resting: bitmap(),
        }
    }

    fn family(&self) -> Family {
        Family::of(self.address.bound)
    }

    /// The port of the range at which a search starts: each as likely as any other.
    fn start(&self, random: u32) -> u16 {
        let count = self.ports.len() as u64;
        self.ports.start() + ((u64::from(random) * count) >> 32) as u16
    }

    /// Takes the first port at or after `start`, around the end: first of the free ones, then of
    /// the resting ones.
    fn acquire(&self, start: u16, parity: Parity) -> Option<u16> {
        let free = |pool: &Self, w: usize| !pool.taken[w].load(Ordering::Relaxed);
        let resting = |pool: &Self, w: usize| pool.resting[w].load(Ordering::Relaxed);
        self.search(start, parity, free)
            .or_else(|| self.search(start, parity, |pool, w| free(pool, w) | resting(pool, w)))
    }

    fn search(
        &self,
        start: u16,
        parity: Parity,
        candidates: impl Fn(&Self, usize) -> u64,
    ) -> Option<u16> {
        let after_start = !(bit(start) - 1);
        // The first word is visited twice: from `start` on, and at the end before it.
        for step in 0..=WORDS {
            let w = (word(start) + step) % WORDS;
            let mut ports = candidates(self, w) & self.usable[w];
            ports &= match step {
                0 => after_start,
                WORDS => !after_start,
                _ => u64::MAX,
            };
            ports &= match parity {
                Parity::Any => u64::MAX,
                Parity::Even => EVEN,
                Parity::EvenPair => EVEN & (candidates(self, w) & self.usable[w]) >> 1,
            };
            while ports != 0 {
                let port = (w * 64) as u16 + ports.trailing_zeros() as u16;
                if self.claim(port, parity) {
                    return Some(port);
                }
                ports &= ports - 1;
            }
        }
        None
    }

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

const fn word(port: u16) -> usize {
    port as usize / 64
}

const fn bit(port: u16) -> u64 {
    1 << (port % 64)
}

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
        let seen = std::sync::Mutex::new(HashSet::new());
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
