//! How many packets a second one core relays over streams.

use std::time::Duration;

use super::harness::Via;
use super::load::{Direction, Fleet, Pace, Sample, Scenario};
use super::servers::Servers;
use super::shared::statistics::median;

/// Calls that have packets under way all the time.
const CALLS: usize = 64;

/// Name, bytes of a packet, packets in a row, and packets of a call under way at most.
const SHAPES: [(&str, usize, usize, usize); 2] = [("audio", 172, 1, 2), ("video", 1200, 16, 16)];

/// Prints what the receivers got, as medians of `rounds`.
pub(crate) fn compare(servers: &Servers, rounds: usize, duration: Duration) {
    println!("{CALLS} calls, each with 2 packets of audio or 16 of video under way all the time");
    println!(
        "                                 packets/s    busy  packets/s and core   ratio    lost  records a packet  load idle"
    );
    for via in [Via::Tcp, Via::Tls] {
        for (name, payload, burst, window) in SHAPES {
            for direction in Direction::BOTH {
                let scenario = Scenario {
                    direction,
                    payload,
                    burst,
                    pace: Pace::Window(window),
                };
                let samples = measure(servers, via, CALLS, &scenario, rounds, duration);
                let reference = per_core(&samples[0]);
                for (server, samples) in servers.running.iter().zip(&samples) {
                    let title = format!("{via:?} {name} {} {}", direction.name(), server.name);
                    println!("{}", line(&title, samples, reference));
                }
            }
        }
    }
}

/// Runs a scenario on every server in turn, again and again, so that what else the machine does
/// hits all alike.
pub(crate) fn measure(
    servers: &Servers,
    via: Via,
    calls: usize,
    scenario: &Scenario,
    rounds: usize,
    duration: Duration,
) -> Vec<Vec<Sample>> {
    let mut samples = vec![Vec::new(); servers.running.len()];
    for _ in 0..rounds {
        for (server, samples) in servers.running.iter().zip(&mut samples) {
            samples.push(Fleet::new(server, via, calls).run(scenario, duration));
        }
    }
    samples
}

/// Packets for each second that the server's process ran.
fn per_core(samples: &[Sample]) -> f64 {
    let each = |sample: &Sample| sample.delivered as f64 / sample.cpu.server_us * 1e6;
    median(samples.iter().map(each).collect())
}

fn line(title: &str, samples: &[Sample], reference: f64) -> String {
    let middle = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    let records = middle(|sample| sample.records as f64 / sample.delivered as f64);
    let records = (records > 0.0).then(|| format!("{records:.2}"));
    format!(
        "{title:<32} {:>9.0} {:>6.0}% {:>19.0} {:>7.2} {:>6.2}% {:>17} {:>9.0}%",
        middle(|sample| sample.delivered as f64 / sample.seconds),
        middle(|sample| sample.cpu.server_us / sample.seconds / 1e4),
        per_core(samples),
        per_core(samples) / reference,
        middle(|sample| 100.0 * sample.lost as f64 / sample.sent as f64),
        records.unwrap_or_default(),
        middle(|sample| 100.0 * sample.idle),
    )
}
