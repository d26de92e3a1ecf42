//! What nobody may foresee: nonces, relay ports, tokens and transaction ids.
//!
//! The seeds are fixed, so the figures are the same in every run. That the seeds of two processes
//! differ is tested with processes.

use turnstone::turn::{IpHeader, Limits};
use turnstone::wire::{AttributeType as A, Class, HEADROOM, Message, Method, TAILROOM};

use crate::client::TestClient;
use crate::host::{Host, Setup, address};
use crate::message::UDP;
use crate::world::Rng;

const SAMPLES: usize = 10_000;

/// What the statistics have against a series of numbers below 2^`bits`: that it repeats itself,
/// prefers some values, or can be told from what came before. The bounds are those that one random
/// series in a million exceeds.
fn flaws(samples: &[u64], bits: u32) -> Vec<String> {
    let mut flaws = Vec::new();
    let len = samples.len() as f64;

    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let mut pairs = 0.0;
    for run in sorted.chunk_by(|a, b| a == b) {
        pairs += (run.len() * (run.len() - 1) / 2) as f64;
    }
    let expected = len * (len - 1.0) / 2.0 / 2.0_f64.powi(bits as i32);
    if (pairs - expected).abs() > 5.0 * expected.sqrt() + 0.5 {
        flaws.push(format!("{pairs} repetitions instead of {expected:.1}"));
    }

    for shift in (0..bits - 5).step_by(6).chain([bits - 6]) {
        let digits: Vec<u64> = samples.iter().map(|it| it >> shift & 0x3F).collect();
        let mut counts = [0.0; 64];
        for digit in &digits {
            counts[*digit as usize] += 1.0;
        }
        let expected = len / 64.0;
        let chi_square: f64 = counts
            .iter()
            .map(|count: &f64| (count - expected).powi(2) / expected)
            .sum();
        // 63 degrees of freedom.
        if !(20.0..135.0).contains(&chi_square) {
            flaws.push(format!("chi-square of bits {shift}: {chi_square:.0}"));
        }
    }

    let mask = u64::MAX >> (64 - bits);
    for lag in [1, 2, 3, 31] {
        let steps: Vec<u64> = samples
            .windows(lag + 1)
            .map(|window| window[lag].wrapping_sub(window[0]) & mask)
            .collect();
        let correlation = correlation(&samples[lag..], &samples[..samples.len() - lag]);
        if correlation.abs() > 5.0 / len.sqrt() {
            flaws.push(format!("correlation at lag {lag}: {correlation:.3}"));
        }
        let repeated = steps.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
        let expected = len / 2.0_f64.powi(bits as i32);
        if repeated > expected + 5.0 * expected.sqrt() + 1.0 {
            flaws.push(format!("{repeated} equal steps at lag {lag}"));
        }
    }

    // The C library's random(): each number is the sum of those 3 and 31 before it, or one more.
    let top = |value: u64| (value << (64 - bits)) >> 50;
    let sums = samples.windows(32).filter(|window| {
        let rest = top(window[31]).wrapping_sub(top(window[28]) + top(window[0])) & 0x3FFF;
        rest < 2
    });
    let (sums, expected) = (sums.count() as f64, len * 2.0 / 16_384.0);
    if sums > expected + 6.0 * expected.sqrt() {
        flaws.push(format!("{sums} sums of earlier numbers"));
    }
    flaws
}

fn correlation(a: &[u64], b: &[u64]) -> f64 {
    let mean =
        |values: &[u64]| values.iter().map(|it| *it as f64).sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (*a as f64 - mean_a, *b as f64 - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    ab / (aa * bb).sqrt()
}

fn assert_random(what: &str, samples: &[u64], bits: u32) {
    assert_eq!(samples.len(), SAMPLES, "{what}");
    let flaws = flaws(samples, bits);
    assert!(flaws.is_empty(), "{what}: {flaws:?}");
}

fn number(bytes: &[u8]) -> u64 {
    let mut number = [0; 8];
    number[8 - bytes.len()..].copy_from_slice(bytes);
    u64::from_be_bytes(number)
}

/// The statistics find what is not random.
#[test]
fn bad_generators_are_found() {
    let series =
        |next: &mut dyn FnMut() -> u64| -> Vec<u64> { (0..SAMPLES).map(|_| next()).collect() };
    let mut rng = Rng::new(1);
    assert!(flaws(&series(&mut || rng.next()), 64).is_empty());
    assert!(flaws(&series(&mut || rng.next() >> 50), 14).is_empty());

    let mut counter = 0;
    let counting = series(&mut || {
        counter += 1;
        counter
    });
    assert!(!flaws(&counting, 14).is_empty());
    let mut state = 1_u64;
    let mut congruential = || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7FFF_FFFF;
        state
    };
    assert!(!flaws(&series(&mut congruential), 31).is_empty());
    let few = series(&mut || rng.next() >> 52);
    assert!(!flaws(&few, 14).is_empty());

    // random() of the GNU C library, whole and as a port.
    for shift in [1, 18] {
        let mut state: Vec<u32> = (0..34).map(|_| rng.next() as u32).collect();
        let additive = series(&mut || {
            let next = state[state.len() - 31].wrapping_add(state[state.len() - 3]);
            state.push(next);
            u64::from(next >> shift)
        });
        let flaws = flaws(&additive, 32 - shift);
        assert_eq!(flaws.len(), 1, "{flaws:?}");
        assert!(flaws[0].contains("sums of earlier"));
    }
}

/// SEC-13: ports do not tell the next one.
#[test]
fn relay_ports() {
    let mut host = Host::new(Setup {
        limits: Limits {
            port_rest_s: 0,
            ..Limits::default()
        },
        nonce_lifetime_s: 1_000_000,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let ports: Vec<u64> = (0..SAMPLES)
        .map(|_| {
            let port = client.allocate(&mut host).port();
            client.refresh(&mut host, 0).success();
            host.events.clear();
            host.advance_s(1);
            u64::from(port - 49_152)
        })
        .collect();
    assert_random("ports", &ports, 14);
}

/// SEC-13, ALLOC-15
#[test]
fn tokens() {
    let mut host = Host::new(Setup {
        limits: Limits {
            port_rest_s: 0,
            allocations_per_user: 1_000_000,
            allocations_per_address: 1_000_000,
            ..Limits::default()
        },
        nonce_lifetime_s: 1_000_000,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let tokens: Vec<u64> = (0..SAMPLES)
        .map(|_| {
            let reply = client.allocate_with(&mut host, |builder| {
                builder.attribute(A::EVEN_PORT, &[0x80]);
            });
            let token = reply.success().token().unwrap();
            client.refresh(&mut host, 0).success();
            host.events.clear();
            number(&token)
        })
        .collect();
    assert_random("tokens", &tokens, 64);
}

/// SEC-13, AUTH-10: one nonce each for ten thousand clients, all of the same second.
#[test]
fn nonces() {
    use base64::Engine as _;

    let mut host = Host::new(Setup::default());
    let nonces: Vec<u64> = (0..SAMPLES)
        .map(|n| {
            let from = format!("198.51.{}.{}:4000", n / 100, n % 100 + 1);
            let mut client = TestClient::udp(&from);
            let packet = client.bare(Method::Allocate, |builder| {
                builder.u32(A::REQUESTED_TRANSPORT, UDP);
            });
            let reply = client.exchange(&mut host, &packet).unwrap();
            let nonce = reply.attribute(A::NONCE).unwrap();
            let opaque = base64::engine::general_purpose::STANDARD_NO_PAD.decode(&nonce[13..]);
            // Four bytes of time, and the rest.
            number(&opaque.unwrap()[4..])
        })
        .collect();
    assert_random("nonces", &nonces, 56);
}

/// SEC-13, SEND-07: both ends of the ids of Data indications.
#[test]
fn transaction_ids() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    let relayed = client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    client.permit(&mut host, &[peer]).success();
    let (time, socket) = (host.time(), *host.sockets.values().next().unwrap());
    assert_eq!(socket.address, relayed);
    let ids: Vec<[u8; 12]> = (0..SAMPLES)
        .map(|_| {
            let mut buffer = vec![0; HEADROOM + 1 + TAILROOM];
            let payload = HEADROOM..HEADROOM + 1;
            let ip = IpHeader::default();
            let delivered =
                host.shards[0].handle_peer(time, socket.relay, peer, ip, &mut buffer, payload);
            let message = Message::parse(&buffer[delivered.unwrap().message]).unwrap();
            assert_eq!(message.class(), Class::Indication);
            message.transaction_id().0
        })
        .collect();
    for range in [0..8, 4..12] {
        let half: Vec<u64> = ids.iter().map(|id| number(&id[range.clone()])).collect();
        assert_random("transaction ids", &half, 64);
    }
}
