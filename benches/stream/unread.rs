//! The way of paced streams while another client of the same server does not read its socket.

use std::fmt;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use turnstone::engine::udp::sys::{
    Batch, BufferSizes, Datagram, HEADROOM, HeaderFields, SendQueue, UdpSocket,
};

use super::harness::{Client, Peer, Via};
use super::load::{CHANNEL, CHANNEL_HEADER};
use super::servers::{Running, Servers};
use super::shared::process::Memory;
use super::shared::statistics::{median, quantile};

/// Paced clients, and between two packets of each.
const PACED: usize = 4;
const INTERVAL: Duration = Duration::from_millis(20);

/// Bytes of a paced packet, which has the time of its sending in front, and of one of the flood.
const PAYLOAD: usize = 172;
const FLOOD_PAYLOAD: usize = 1200;

/// Between two sendings of the flood.
const TICK: Duration = Duration::from_micros(500);

/// The flood goes on for so long before the paced streams begin: the buffers of who does not read
/// are full then.
const FILLING: Duration = Duration::from_millis(500);

/// What comes later than this after the last packet was sent is lost.
const GRACE: Duration = Duration::from_secs(2);

/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// What the other client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Absent,
    Reads,
    DoesNotRead,
}

impl Other {
    const ALL: [Self; 3] = [Self::Absent, Self::Reads, Self::DoesNotRead];
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absent => "is absent",
            Self::Reads => "reads",
            Self::DoesNotRead => "does not read",
        })
    }
}

/// What one server did beside one kind of client.
#[derive(Debug, Default)]
struct Report {
    sent: usize,
    /// Milliseconds of those that arrived, of all rounds.
    ways: Vec<f64>,
    /// KB of the process when the paced clients had come, and at the end.
    memory: Vec<[f64; 2]>,
    /// Packets a second that the flood had.
    flood: Vec<f64>,
}

/// Prints ways and losses, of all `rounds` together.
pub(crate) fn compare(servers: &Servers, rounds: usize, duration: Duration, flood_rate: u32) {
    println!(
        "{PACED} clients get a packet every {INTERVAL:?}; the other client's peer sends {FLOOD_PAYLOAD} bytes {flood_rate} times a second"
    );
    println!(
        "               the other client   packets    lost   way ms: median     99 %      max   flood/s   RSS KB before   after"
    );
    for via in [Via::Tcp, Via::Tls] {
        let mut reports: Vec<[Report; 3]> =
            servers.running.iter().map(|_| Default::default()).collect();
        for _ in 0..rounds {
            for (server, reports) in servers.running.iter().zip(&mut reports) {
                for (other, report) in Other::ALL.into_iter().zip(reports) {
                    round(server, via, other, duration, flood_rate, report);
                }
            }
        }
        for (server, reports) in servers.running.iter().zip(reports) {
            for (other, report) in Other::ALL.into_iter().zip(reports) {
                println!("{}", line(server.name, via, other, report));
            }
        }
    }
}

fn line(server: &str, via: Via, other: Other, mut report: Report) -> String {
    report.ways.sort_by(f64::total_cmp);
    let memory = |index: usize| median(report.memory.iter().map(|kb| kb[index]).collect());
    let lost = 1.0 - report.ways.len() as f64 / report.sent as f64;
    format!(
        "{:<14} {other:<16} {:>9} {:>6.2}% {:>16.3} {:>8.3} {:>8.3} {:>9.0} {:>15.0} {:>7.0}",
        format!("{via:?} {server}"),
        report.sent,
        lost * 100.0,
        quantile(&report.ways, 0.5),
        quantile(&report.ways, 0.99),
        quantile(&report.ways, 1.0),
        median(report.flood),
        memory(0),
        memory(1),
    )
}

fn round(
    server: &Running,
    via: Via,
    other: Other,
    duration: Duration,
    flood_rate: u32,
    report: &mut Report,
) {
    let (peer, epoch, done) = (Peer::new(), Instant::now(), AtomicBool::new(false));
    let mut relayed = Vec::new();
    let paced: Vec<Client> = (0..PACED)
        .map(|_| {
            let (client, address) = call(server, via, peer.address());
            relayed.push(address);
            client
        })
        .collect();
    let before = Memory::of(server.pid()).unwrap().rss;
    thread::scope(|scope| {
        let over = Over(&done);
        let done = &done;
        let flood = (other != Other::Absent).then(|| {
            let flood = Flood::new(server, via);
            if other == Other::Reads {
                let stream = flood.client.stream().try_clone().unwrap();
                scope.spawn(move || discard(stream, done));
            }
            let flood = scope.spawn(move || flood.send(flood_rate, done));
            thread::sleep(FILLING);
            flood
        });
        let receivers: Vec<_> = paced
            .into_iter()
            .map(|client| scope.spawn(move || receive(client, via, epoch, done)))
            .collect();
        report.sent += send(&peer, &relayed, epoch, duration);
        thread::sleep(GRACE);
        let after = Memory::of(server.pid()).unwrap().rss;
        report.memory.push([before, after]);
        drop(over);
        for receiver in receivers {
            report.ways.extend(receiver.join().unwrap());
        }
        let flood = flood.map(|flood| flood.join().unwrap());
        report.flood.push(flood.unwrap_or_default());
    });
}

/// Ends the threads of a round when it is dropped, by a panic too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client with an allocation, and a channel to `peer`.
fn call(server: &Running, via: Via, peer: SocketAddr) -> (Client, SocketAddr) {
    let mut client = server.client(via);
    let relayed = client.allocate();
    client.bind(CHANNEL, peer);
    (client, relayed)
}

/// Sends to the paced clients in turn. Returns how many packets that were.
fn send(peer: &Peer, relayed: &[SocketAddr], epoch: Instant, duration: Duration) -> usize {
    let (started, step) = (Instant::now(), INTERVAL / PACED as u32);
    let (mut payload, mut sent) = ([0xA5; PAYLOAD], 0);
    loop {
        let due = step * sent;
        if due >= duration {
            return sent as usize;
        }
        thread::sleep(due.saturating_sub(started.elapsed()));
        let now = epoch.elapsed().as_nanos() as u64;
        payload[..8].copy_from_slice(&now.to_be_bytes());
        peer.send(&payload, relayed[sent as usize % relayed.len()]);
        sent += 1;
    }
}

/// Takes what a paced client gets, until it is over. Returns how long each packet took.
fn receive(mut client: Client, via: Via, epoch: Instant, done: &AtomicBool) -> Vec<f64> {
    const FRAME: usize = CHANNEL_HEADER + PAYLOAD;
    client.stream().set_read_timeout(Some(LOOK)).unwrap();
    let (mut ways, mut input, mut buffer) = (Vec::new(), Vec::new(), [0; 4096]);
    while !done.load(Ordering::Relaxed) {
        let result = match via {
            Via::Tls => client.tls_stream().read(&mut buffer),
            _ => client.stream().read(&mut buffer),
        };
        let Some(len) = taken(result) else { continue };
        let now = epoch.elapsed();
        input.extend(&buffer[..len]);
        while input.len() >= FRAME {
            let sent = input[CHANNEL_HEADER..][..8].try_into().unwrap();
            let way = now.saturating_sub(Duration::from_nanos(u64::from_be_bytes(sent)));
            ways.push(way.as_secs_f64() * 1e3);
            input.drain(..FRAME);
        }
    }
    ways
}

/// Reads and forgets, until it is over.
fn discard(mut stream: impl Read, done: &AtomicBool) {
    let mut buffer = vec![0; 256 * 1024];
    while !done.load(Ordering::Relaxed) {
        taken(stream.read(&mut buffer));
    }
}

/// How much was read; nothing if it is time to look whether it is over.
fn taken(result: io::Result<usize>) -> Option<usize> {
    match result {
        Ok(0) => panic!("the server closed a connection"),
        Ok(len) => Some(len),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
            ) =>
        {
            None
        }
        Err(error) => panic!("a client's connection: {error}"),
    }
}

/// The other client, and its peer that sends without regard.
struct Flood {
    client: Client,
    relayed: SocketAddr,
    peer: UdpSocket,
}

impl Flood {
    fn new(server: &Running, via: Via) -> Self {
        let peer = (Ipv4Addr::LOCALHOST, 0).into();
        let peer = UdpSocket::relay(peer, BufferSizes::default()).unwrap();
        let (client, relayed) = call(server, via, peer.local_addr());
        client.stream().set_read_timeout(Some(LOOK)).unwrap();
        Self {
            client,
            relayed,
            peer,
        }
    }

    /// Sends at a rate until it is over, and returns what the rate was.
    fn send(self, rate: u32, done: &AtomicBool) -> f64 {
        let most = (f64::from(rate) * TICK.as_secs_f64()).ceil() as usize * 8;
        let (template, mut queue) = (Batch::new(1), SendQueue::new(most));
        let (started, mut sent, mut forgotten) = (Instant::now(), 0, 0);
        while !done.load(Ordering::Relaxed) {
            let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as usize;
            let missing = due - sent - forgotten;
            // What the machine was busy for would be a burst that nobody asked for.
            forgotten += missing.saturating_sub(most);
            for _ in 0..missing.min(most) {
                let datagram = Datagram {
                    slot: 0,
                    range: HEADROOM..HEADROOM + FLOOD_PAYLOAD,
                    to: self.relayed,
                    fields: HeaderFields::default(),
                };
                queue.push(datagram).expect("a queue of so many");
            }
            sent += queue.flush(&self.peer, &template).sent;
            thread::sleep(TICK);
        }
        sent as f64 / started.elapsed().as_secs_f64()
    }
}
