//! Addresses and ports that are exchanged while some are leased.

use proptest::prelude::*;

use super::*;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn acquire(pool: &PortPool, parity: Parity, random: u64) -> Option<PortLease> {
    pool.acquire(Family::V4, parity, IP, random)
}

fn named(advertised: [u8; 4]) -> RelayAddress {
    RelayAddress {
        bound: IP,
        advertised: advertised.into(),
    }
}

/// RELOAD-04: allocations of an address that got another name keep theirs, and nobody else gets
/// their ports.
#[test]
fn an_address_that_is_renamed_keeps_its_ports() {
    let (old, new) = ([203, 0, 113, 1], [203, 0, 113, 2]);
    let pool = PortPool::new(&[named(old)], 50_000..=50_001, &[]);
    let first = acquire(&pool, Parity::Any, 0).unwrap();
    pool.go_live(first);
    pool.exchange(&[named(new)], 50_000..=50_001, &[]).unwrap();
    let second = acquire(&pool, Parity::Any, 0).unwrap();
    pool.go_live(second);
    assert_eq!(acquire(&pool, Parity::Any, 0), None);
    let at = |ip: [u8; 4], port| SocketAddr::new(ip.into(), port);
    assert_eq!(pool.advertised(first), at(old, 50_000));
    assert_eq!(pool.advertised(second), at(new, 50_001));
    for lease in [first, second] {
        let (bound, advertised) = (pool.bound(lease), pool.advertised(lease));
        assert_eq!(pool.to_bound(advertised), bound);
        assert_eq!(pool.to_advertised(bound), advertised);
        assert!(pool.is_live(advertised));
    }
    assert!(pool.is_relay_ip(old.into()));
    pool.rest(first);
    assert!(!pool.is_relay_ip(old.into()), "nobody has it any more");
    assert_eq!(pool.to_advertised(pool.bound(first)), at(new, 50_000));
    pool.wake(first);
    assert_eq!((pool.taken(), pool.resting()), (1, 0));
}

/// RELOAD-04
#[test]
fn an_address_that_is_gone_gives_no_ports() {
    let other: IpAddr = "2001:db8::1".parse().unwrap();
    let v6 = RelayAddress {
        bound: other,
        advertised: other,
    };
    let pool = PortPool::new(&[named([192, 0, 2, 1])], 50_000..=50_001, &[]);
    let lease = acquire(&pool, Parity::Any, 0).unwrap();
    pool.exchange(&[v6], 50_000..=50_001, &[]).unwrap();
    assert!(!pool.supports(Family::V4) && pool.supports(Family::V6));
    assert_eq!(acquire(&pool, Parity::Any, 0), None);
    assert_eq!(pool.bound(lease), SocketAddr::new(IP, 50_000));
    pool.rest(lease);
    pool.wake(lease);
    assert_eq!(pool.taken(), 0);
}

#[test]
fn addresses_are_bounded_over_all_exchanges() {
    let pool = PortPool::new(&[named([203, 0, 113, 0])], 50_000..=50_001, &[]);
    let nth = |n: u8| [named([203, 0, 113, n])];
    for n in 1..=255 {
        pool.exchange(&nth(n), 50_000..=50_001, &[]).unwrap();
    }
    let one_more = [named([198, 51, 100, 1])];
    let refused = pool.exchange(&one_more, 50_002..=50_003, &[]);
    assert_eq!(refused, Err(TooManyAddresses));
    let lease = acquire(&pool, Parity::Any, 0).unwrap();
    assert_eq!(lease.port, 50_000, "nothing has changed");
    assert_eq!(pool.advertised(lease).ip(), nth(255)[0].advertised);
    pool.exchange(&nth(7), 50_000..=50_001, &[])
        .expect("those that it had need no room");
}

/// What happens to a pool.
#[derive(Clone, Debug)]
enum Step {
    Acquire(u8, u64),
    Release(usize),
    Live(usize),
    Rest(usize),
    Wake(usize),
    Exchange {
        addresses: u8,
        first: u16,
        len: u16,
        listener: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3u8, any::<u64>()).prop_map(|(p, r)| Step::Acquire(p, r)),
        2 => any::<usize>().prop_map(Step::Release),
        3 => any::<usize>().prop_map(Step::Live),
        3 => any::<usize>().prop_map(Step::Rest),
        3 => any::<usize>().prop_map(Step::Wake),
        2 => (1..8u8, 0..40u16, 0..20u16, 0..60u16).prop_map(
            |(addresses, first, len, listener)| Step::Exchange {
                addresses,
                first,
                len,
                listener
            }
        ),
    ]
}

/// Two names of one address, and another address.
fn chosen(set: u8) -> Vec<RelayAddress> {
    let other = IpAddr::from([192, 0, 2, 2]);
    let all = [
        named([203, 0, 113, 1]),
        named([203, 0, 113, 2]),
        RelayAddress {
            bound: other,
            advertised: other,
        },
    ];
    // Of two names of one address only one at a time.
    let mut set = set;
    if set & 3 == 3 {
        set &= !1;
    }
    let all = all.iter().enumerate();
    all.filter(|(i, _)| set >> i & 1 == 1)
        .map(|(_, a)| *a)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// RELOAD-04: no transport address twice, none outside of what is configured when it is
    /// leased, none leaks.
    #[test]
    fn no_port_twice_and_none_lost(steps in prop::collection::vec(step(), 1..200)) {
        let mut addresses = chosen(1);
        let (mut ports, mut listener) = (50_000..=50_019u16, 0u16);
        let pool = PortPool::new(&addresses, ports.clone(), &[]);
        // Leases, and whether they are live; and those that rest.
        let (mut held, mut resting) = (Vec::<(PortLease, bool)>::new(), Vec::new());
        for step in steps {
            match step {
                Step::Acquire(parity, random) => {
                    let parity = [Parity::Any, Parity::Even, Parity::EvenPair][parity as usize];
                    let Some(lease) = acquire(&pool, parity, random) else { continue };
                    let mut new = vec![lease];
                    if parity == Parity::EvenPair {
                        new.push(PortPool::upper(lease));
                    }
                    for lease in new {
                        let bound = pool.bound(lease);
                        prop_assert!(held.iter().all(|(h, _)| pool.bound(*h) != bound));
                        let leased = RelayAddress {
                            bound: bound.ip(),
                            advertised: pool.advertised(lease).ip(),
                        };
                        prop_assert!(addresses.contains(&leased));
                        prop_assert!(ports.contains(&lease.port) && lease.port != listener);
                        resting.retain(|r| pool.bound(*r) != bound);
                        held.push((lease, false));
                    }
                }
                Step::Release(i) if !held.is_empty() => {
                    let i = i % held.len();
                    if !held[i].1 {
                        pool.release(held.swap_remove(i).0);
                    }
                }
                Step::Live(i) if !held.is_empty() => {
                    let i = i % held.len();
                    pool.go_live(held[i].0);
                    held[i].1 = true;
                }
                Step::Rest(i) if !held.is_empty() => {
                    let lease = held.swap_remove(i % held.len()).0;
                    pool.rest(lease);
                    resting.push(lease);
                }
                Step::Wake(i) if !resting.is_empty() => {
                    pool.wake(resting.swap_remove(i % resting.len()));
                }
                Step::Exchange { addresses: set, first, len, listener: at } => {
                    addresses = chosen(set);
                    ports = 50_000 + first..=50_000 + first + len;
                    listener = 50_000 + at;
                    let excluded = SocketAddr::new([0, 0, 0, 0].into(), listener);
                    pool.exchange(&addresses, ports.clone(), &[excluded]).unwrap();
                }
                _ => {}
            }
            prop_assert_eq!(pool.taken() as usize, held.len() + resting.len());
            prop_assert_eq!(pool.resting() as usize, resting.len());
            for &(lease, live) in &held {
                prop_assert_eq!(pool.is_live(pool.bound(lease)), live);
                if live {
                    prop_assert_eq!(pool.to_advertised(pool.bound(lease)), pool.advertised(lease));
                    prop_assert_eq!(pool.to_bound(pool.advertised(lease)), pool.bound(lease));
                }
            }
        }
    }
}
