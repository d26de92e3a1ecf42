//! What a relayed packet costs the worker when its client is on UDP, TCP or TLS.
//!
//! `cargo bench --bench stream`. The server is in this process, with one worker on loopback; the
//! figure is the time that the worker computes for a packet, of calls that wait for each other.
#![allow(
    missing_docs,
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, fails by panicking, and uses some of what the tests share"
)]

#[path = "../tests/it/harness/mod.rs"]
mod harness;

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, Peer, TestServer, Via};

const CLIENTS: usize = 16;
const ROUNDS: usize = 250;

/// Longer than a worker waits before it has its numbers read.
const PUBLISHED: Duration = Duration::from_millis(1200);

struct Call {
    client: Client,
    relayed: SocketAddr,
    peer: Peer,
}

/// Microseconds that the worker has computed.
fn computed_us(server: &TestServer) -> f64 {
    std::thread::sleep(PUBLISHED);
    let text = server.engine.metrics().to_text();
    let series = "turnstone_worker_cpu_seconds_total{worker=\"0\"} ";
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap().parse::<f64>().unwrap() * 1e6
}

fn measure(
    server: &TestServer,
    calls: &mut [Call],
    burst: usize,
    mut round: impl FnMut(&mut Call),
) {
    let before = computed_us(server);
    for _ in 0..ROUNDS {
        calls.iter_mut().for_each(&mut round);
    }
    let packets = (ROUNDS * calls.len() * burst) as f64;
    print!("{:>9.2}", (computed_us(server) - before) / packets);
}

fn main() {
    println!("µs of the worker for a packet:  audio (160 bytes, 1)   video (1200 bytes, 16)");
    println!("                              to peer  to client    to peer  to client");
    for via in [Via::Udp, Via::Tcp, Via::Tls] {
        let server = TestServer::with(|setup| {
            setup.limits.allocation_kbit_per_s = 0;
            setup.limits.user_kbit_per_s = 0;
        });
        let mut calls: Vec<Call> = (0..CLIENTS)
            .map(|_| {
                let mut client = Client::new(&server, via);
                let (relayed, peer) = (client.allocate(), Peer::new());
                client.bind(0x4000, peer.address());
                Call {
                    client,
                    relayed,
                    peer,
                }
            })
            .collect();
        print!("{:<28}", format!("{via:?}"));
        for (len, burst) in [(160, 1), (1200, 16)] {
            let payload = vec![7; len];
            let frame = [&[0x40, 0, (len >> 8) as u8, len as u8][..], &payload].concat();
            let frames = frame.repeat(burst);
            measure(&server, &mut calls, burst, |call| {
                if via == Via::Udp {
                    (0..burst).for_each(|_| call.client.send(&frame));
                } else {
                    call.client.send(&frames);
                }
                (0..burst).for_each(|_| drop(call.peer.recv()));
            });
            measure(&server, &mut calls, burst, |call| {
                (0..burst).for_each(|_| call.peer.send(&payload, call.relayed));
                (0..burst).for_each(|_| drop(call.client.recv()));
            });
            print!("  ");
        }
        println!();
    }
}
