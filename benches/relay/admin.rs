//! What calls notice while an operator lists thousands of allocations again and again.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::engine::udp::sys::{Batch, HeaderFields, send_one};

use super::client::{CHANNEL, Fleet};
use super::load::{self, Direction, Scenario};
use super::servers::{Kind, Running};

/// Packets a second of the load, and how long each measurement takes.
const RATE: u32 = 10_000;
const TIME: Duration = Duration::from_secs(3);

/// Between two packets whose way is timed, and how long one is waited for.
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
const PROBE_TIME_MAX: Duration = Duration::from_millis(200);

/// First nobody lists, then somebody does without a pause.
pub(super) fn compare(program: &Path, allocations: usize, workers: usize) -> io::Result<()> {
    let server = Running::start(Kind::Turnstone, program, allocations, workers)?;
    let fleet = Fleet::allocate(server.address, allocations)?;
    println!("{allocations} allocations, {workers} relaying thread(s); ways are client to peer");
    println!(
        "operator    calls lose   way µs: median     p99     max   lists   ms a list   ms a page of 1000: median     max"
    );
    for is_listing in [false, true] {
        let done = AtomicBool::new(false);
        let (loss, mut ways, lists) = thread::scope(|scope| {
            let lister = scope.spawn(|| list(&server.admin_socket(), is_listing, &done));
            let sample = load::run(&fleet, &calls(), TIME, server.pid());
            let loss = 100.0 * (1.0 - sample.delivered as f64 / sample.sent as f64);
            let ways = probe(&fleet);
            done.store(true, Ordering::Relaxed);
            Ok::<_, io::Error>((loss, ways?, lister.join().expect("the lister ends")?))
        })?;
        ways.sort_unstable();
        let way = |part: f64| ways[((ways.len() - 1) as f64 * part) as usize].as_micros();
        let mut pages = lists.pages;
        pages.sort_unstable();
        let page = |part: f64| {
            let last = pages.len().checked_sub(1);
            last.map_or(0.0, |last| {
                pages[(last as f64 * part) as usize].as_secs_f64() * 1e3
            })
        };
        let total: Duration = pages.iter().sum();
        println!(
            "{:<10} {loss:>10.3}% {:>16} {:>7} {:>7} {:>7} {:>11.1} {:>27.2} {:>7.2}",
            if is_listing { "lists" } else { "is absent" },
            way(0.5),
            way(0.99),
            way(1.0),
            lists.count,
            total.as_secs_f64() * 1e3 / lists.count.max(1) as f64,
            page(0.5),
            page(1.0),
        );
    }
    Ok(())
}

fn calls() -> Scenario {
    Scenario {
        name: "calls",
        direction: Direction::ToPeers,
        payload: 160,
        burst: 1,
        interleaved: 1,
        offered: Some(RATE),
    }
}

/// How long single packets take through the server; a lost one is an error.
fn probe(fleet: &Fleet) -> io::Result<Vec<Duration>> {
    let mut packet = [0xA5; 24];
    packet[..2].copy_from_slice(&CHANNEL.to_be_bytes());
    packet[2..4].copy_from_slice(&20_u16.to_be_bytes());
    let (mut ways, mut inbox) = (Vec::new(), Batch::new(64));
    let started = Instant::now();
    while started.elapsed() < TIME {
        let allocation = &fleet.allocations[ways.len() % fleet.allocations.len()];
        let fields = HeaderFields {
            source: Some(allocation.client),
            ..HeaderFields::default()
        };
        let sent = Instant::now();
        send_one(&fleet.clients, &packet, fleet.server, &fields)?;
        inbox.clear();
        while inbox.receive(&fleet.peer)? == 0 {
            if sent.elapsed() > PROBE_TIME_MAX {
                return Err(io::Error::other("a packet was lost"));
            }
            inbox.clear();
        }
        ways.push(sent.elapsed());
        thread::sleep(PROBE_INTERVAL);
    }
    Ok(ways)
}

#[derive(Default)]
struct Lists {
    count: usize,
    /// How long each page took, from connecting to its last byte.
    pages: Vec<Duration>,
}

/// Lists everything until it is enough.
fn list(socket: &PathBuf, is_listing: bool, done: &AtomicBool) -> io::Result<Lists> {
    let (mut lists, mut cursor) = (Lists::default(), String::new());
    while is_listing && !done.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let mut stream = UnixStream::connect(socket)?;
        let path = format!("/v1/allocations?limit=1000{cursor}");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        lists.pages.push(asked.elapsed());
        let next = answer.rsplit_once(r#""next":"#).map(|(_, next)| next);
        let next = next.ok_or_else(|| io::Error::other("no page"))?;
        match next.trim_end_matches('}') {
            "null" => {
                lists.count += 1;
                cursor.clear();
            }
            next => cursor = format!("&cursor={}", next.trim_matches('"')),
        }
    }
    Ok(lists)
}
