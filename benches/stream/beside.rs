//! What a packet costs the processes of turnstone and of coturn.

use super::harness::Via;
use super::servers::Servers;
use super::shared::process::Cpu;
use super::shared::statistics::median;
use super::{CLIENTS, Call, SHAPES, to_client, to_peer};

/// Prints what a packet costs each server, as medians of `rounds`.
pub(crate) fn compare(servers: &Servers, rounds: usize) {
    println!(
        "µs of the server's process for a packet: audio (160 bytes, 1)   video (1200 bytes, 16)"
    );
    println!("                                        to peer  to client    to peer  to client");
    for via in [Via::Tcp, Via::Tls] {
        let mut contestants: Vec<_> = servers
            .running
            .iter()
            .map(|server| {
                let calls = (0..CLIENTS).map(|_| Call::new(server.client(via)));
                (server, calls.collect::<Vec<_>>(), vec![Vec::new(); 4])
            })
            .collect();
        // In turn, so that what else the machine does hits both alike.
        for _ in 0..rounds {
            for (server, calls, costs) in &mut contestants {
                for (shape, costs) in SHAPES.iter().zip(costs.chunks_mut(2)) {
                    for (costs, round) in costs.iter_mut().zip([to_peer, to_client]) {
                        let cpu = Cpu::now(server.pid());
                        let packets = round(calls, via, *shape);
                        costs.push(cpu.elapsed().server_us / packets);
                    }
                }
            }
        }
        for (server, _, costs) in contestants {
            print!("{:<38}", format!("{via:?} {}", server.name));
            for costs in costs {
                print!("{:>9.2}", median(costs));
            }
            println!();
        }
    }
}
