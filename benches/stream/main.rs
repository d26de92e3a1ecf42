//! What a relayed packet costs when its client is on UDP, TCP or TLS.
//!
//! `cargo bench --bench stream`. The server is in this process, with one worker on loopback; the
//! figure is the time that the worker computes for a packet, of calls that wait for each other.
//! With `-- --coturn` it is the time of the processes of turnstone and of coturn, on TCP and TLS,
//! and `-- --help` has what else is measured of these. How to read it is in benches/README.md.
#![allow(
    missing_docs,
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, fails by panicking, and uses some of what the tests share"
)]

mod beside;
mod flush;
#[path = "../../tests/it/harness/mod.rs"]
mod harness;
mod load;
mod saturation;
mod servers;
#[path = "../shared/mod.rs"]
mod shared;
mod unread;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use harness::{Client, Peer, TestServer, Via};
use servers::Servers;

const CLIENTS: usize = 16;
const ROUNDS: usize = 250;

/// Measures what packets cost whose clients are on streams.
#[derive(Debug, Parser)]
struct Args {
    /// turnstone and coturn instead of a server in this process
    #[arg(long, conflicts_with_all = ["saturation", "unread", "flush"])]
    coturn: bool,

    /// Packets a second that one core of turnstone and of coturn relays instead
    #[arg(long)]
    saturation: bool,

    /// The way of paced streams while another client does not read its socket instead
    #[arg(long)]
    unread: bool,

    /// What it is worth to write all packets of a client at once instead
    #[arg(long)]
    flush: bool,

    /// Have clients speak TLS 1.2 only, so that servers of different ages do the same
    #[arg(long)]
    tls12: bool,

    /// How often the servers take turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// Seconds of one measurement: of --saturation and --flush 1, of --unread 3, if not said
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: Option<u64>,

    /// Packets a second for the client that does not read
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flood_rate: u32,

    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Longer than a worker waits before it has its numbers read.
const PUBLISHED: Duration = Duration::from_millis(1200);

/// Bytes of a packet, and packets in a row.
type Shape = (usize, usize);

/// Audio and video.
const SHAPES: [Shape; 2] = [(160, 1), (1200, 16)];

struct Call {
    client: Client,
    relayed: SocketAddr,
    peer: Peer,
}

impl Call {
    fn new(mut client: Client) -> Self {
        let (relayed, peer) = (client.allocate(), Peer::new());
        client.bind(0x4000, peer.address());
        Self {
            client,
            relayed,
            peer,
        }
    }
}

/// Has every call send to its peer, again and again. Returns how many packets that were.
fn to_peer(calls: &mut [Call], via: Via, (len, burst): Shape) -> f64 {
    let frame = [&[0x40, 0, (len >> 8) as u8, len as u8][..], &vec![7; len]].concat();
    let frames = frame.repeat(burst);
    repeat(calls, burst, |call| {
        if via == Via::Udp {
            (0..burst).for_each(|_| call.client.send(&frame));
        } else {
            call.client.send(&frames);
        }
        (0..burst).for_each(|_| drop(call.peer.recv()));
    })
}

/// The other way.
fn to_client(calls: &mut [Call], _: Via, (len, burst): Shape) -> f64 {
    let payload = vec![7; len];
    repeat(calls, burst, |call| {
        (0..burst).for_each(|_| call.peer.send(&payload, call.relayed));
        (0..burst).for_each(|_| drop(call.client.recv()));
    })
}

fn repeat(calls: &mut [Call], burst: usize, mut round: impl FnMut(&mut Call)) -> f64 {
    for _ in 0..ROUNDS {
        calls.iter_mut().for_each(&mut round);
    }
    (ROUNDS * calls.len() * burst) as f64
}

/// Microseconds that the worker has computed.
fn computed_us(server: &TestServer) -> f64 {
    std::thread::sleep(PUBLISHED);
    let text = server.engine.metrics().to_text();
    let series = "turnstone_worker_cpu_seconds_total{worker=\"0\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap().parse::<f64>().unwrap() * 1e6
}

fn main() {
    let args = Args::parse();
    let rounds = args.rounds as usize;
    let seconds = |default| Duration::from_secs(args.seconds.unwrap_or(default));
    if !(args.coturn || args.saturation || args.unread || args.flush) {
        return in_this_process();
    }
    let servers = Servers::start(args.tls12, !args.coturn);
    if args.coturn {
        beside::compare(&servers, rounds);
    }
    if args.saturation {
        saturation::compare(&servers, rounds, seconds(1));
    }
    if args.unread {
        unread::compare(&servers, rounds, seconds(3), args.flood_rate);
    }
    if args.flush {
        flush::compare(&servers, rounds, seconds(1));
    }
}

fn in_this_process() {
    println!("µs of the worker for a packet:  audio (160 bytes, 1)   video (1200 bytes, 16)");
    println!("                              to peer  to client    to peer  to client");
    for via in [Via::Udp, Via::Tcp, Via::Tls] {
        let server = TestServer::with(|setup| {
            setup.limits.allocation_kbit_per_s = 0;
            setup.limits.user_kbit_per_s = 0;
        });
        let call = |_| Call::new(Client::new(&server, via));
        let mut calls: Vec<Call> = (0..CLIENTS).map(call).collect();
        print!("{:<28}", format!("{via:?}"));
        for shape in SHAPES {
            for round in [to_peer, to_client] {
                let before = computed_us(&server);
                let packets = round(&mut calls, via, shape);
                print!("{:>9.2}", (computed_us(&server) - before) / packets);
            }
            print!("  ");
        }
        println!();
    }
}
