//! What it is worth that all packets which have come for a client leave in one write.

use std::time::Duration;

use super::harness::Via;
use super::load::{Direction, Pace, Sample, Scenario};
use super::saturation::measure;
use super::servers::Servers;
use super::shared::statistics::median;

/// Clients, and packets that come at once.
const GROUP: usize = 8;

/// Packets a second, however they come.
const RATE: u32 = 10_000;

/// Bytes of a packet: audio.
const PAYLOAD: usize = 172;

/// How packets come: calls at once, and packets of each in a row.
const ARRIVALS: [(&str, usize, usize); 3] = [
    ("one by one", 1, 1),
    ("8 to 8 clients", GROUP, 1),
    ("8 to one client", 1, GROUP),
];

/// Prints what a packet to a client costs each server, as medians of `rounds`.
pub(crate) fn compare(servers: &Servers, rounds: usize, duration: Duration) {
    println!("{RATE} packets of {PAYLOAD} bytes a second to {GROUP} clients, which come:");
    print!("{:<17}", "");
    for (name, ..) in ARRIVALS {
        print!(" {name:>24}");
    }
    println!("\n{:<17}{}", "", "   µs a packet   records".repeat(3));
    for via in [Via::Tcp, Via::Tls] {
        let costs = ARRIVALS.map(|(_, together, burst)| {
            let scenario = Scenario {
                direction: Direction::ToClients,
                payload: PAYLOAD,
                burst,
                pace: Pace::Rate {
                    together,
                    per_s: RATE,
                },
            };
            measure(servers, via, GROUP, &scenario, rounds, duration)
        });
        for (index, server) in servers.running.iter().enumerate() {
            print!("{:<17}", format!("{via:?} {}", server.name));
            for samples in &costs {
                let middle =
                    |value: fn(&Sample) -> f64| median(samples[index].iter().map(value).collect());
                let cost = middle(|sample| sample.cpu.server_us / sample.delivered as f64);
                let records = middle(|sample| sample.records as f64 / sample.delivered as f64);
                let records = (records > 0.0).then(|| format!("{records:.3}"));
                print!(" {cost:>13.2} {:>9}", records.unwrap_or_default());
            }
            println!();
        }
    }
}
