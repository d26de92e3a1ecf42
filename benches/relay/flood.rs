//! What ten calls lose, and how a server's memory grows, while strangers flood its listener.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::client::Fleet;
use super::load::{self, Direction, Sample, Scenario};
use super::servers::{Kind, Running};
use super::shared::process::Memory;
use super::strangers::{Echo, Flood, Strangers};

/// Calls that run meanwhile.
const CALLS: usize = 10;

/// Packets a second of a call, each way: audio in frames of 20 ms.
const PACKETS_PER_CALL: u32 = 50;

/// Every server under every flood, `count` packets at `rate` a second, or at the most that one
/// thread can.
pub(super) fn compare(
    servers: &[(Kind, PathBuf)],
    count: u64,
    rate: Option<u32>,
    workers: usize,
) -> io::Result<()> {
    println!(
        "{CALLS} calls of {PACKETS_PER_CALL} packets a second each way, {workers} relaying \
         thread(s); a flood is {count} packets from as many addresses"
    );
    println!(
        "server      flood               flood/s   calls lose: to peers  to clients   \
         replies   bytes back/in   RSS KB before   after"
    );
    for server in servers {
        one(server, None, count, rate, workers)?;
        for flood in Flood::ALL {
            one(server, Some(flood), count, rate, workers)?;
        }
    }
    Ok(())
}

/// One flood, or none, on a server of its own, so that memory which one leaves is not blamed on
/// the next.
fn one(
    (kind, program): &(Kind, PathBuf),
    flood: Option<Flood>,
    count: u64,
    rate: Option<u32>,
    workers: usize,
) -> io::Result<()> {
    let server = Running::start(*kind, program, CALLS, workers)?;
    let fleet = Fleet::allocate(server.address, CALLS)?;
    let before = Memory::of(server.pid())?.rss;
    let address = server.address;
    let strangers = thread::spawn(move || match flood {
        Some(flood) => Strangers::new(0)?.send(flood, address, count, rate),
        None => Ok(Echo::default()),
    });
    let seconds = rate.map_or(3.0, |rate| count as f64 / f64::from(rate));
    let half = Duration::from_secs_f64((seconds / 2.0).max(0.5));
    let [to_peers, to_clients] = [Direction::ToPeers, Direction::ToClients]
        .map(|direction| load::run(&fleet, &calls(direction), half, server.pid()));
    let echo = strangers.join().expect("the flood ends")?;
    let after = Memory::of(server.pid())?.rss;
    println!(
        "{:<11} {:<18} {:>8.0} {:>21.2}% {:>10.2}% {:>9} {:>15.2} {before:>15.0} {after:>7.0}",
        kind.name(),
        flood.map_or_else(|| "nothing".to_owned(), |flood| flood.to_string()),
        echo.sent as f64 / echo.seconds.max(0.001),
        loss(&to_peers),
        loss(&to_clients),
        echo.replies,
        echo.bytes_back as f64 / echo.bytes_sent.max(1) as f64,
    );
    Ok(())
}

fn calls(direction: Direction) -> Scenario {
    Scenario {
        name: "calls",
        direction,
        payload: 160,
        burst: 1,
        interleaved: 1,
        offered: Some(CALLS as u32 * PACKETS_PER_CALL),
    }
}

fn loss(sample: &Sample) -> f64 {
    100.0 * (1.0 - sample.delivered as f64 / sample.sent as f64)
}
