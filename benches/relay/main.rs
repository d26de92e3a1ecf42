//! What a relayed packet and an idle allocation cost, for this server, coturn and `turn::server`.
//!
//! `cargo bench --bench relay -- --quick`, and `-- --help` for the rest. How to read it is in
//! benches/README.md.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench prints, and fails by panicking"
)]

mod admin;
mod client;
mod flood;
mod load;
mod memory;
mod report;
mod servers;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "the stream bench uses the rest")]
mod shared;
#[path = "../../tests/it/harness/strangers.rs"]
mod strangers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use client::Fleet;
use load::{Direction, Scenario};
use report::Report;
use servers::{Kind, Running};

/// Relays packets through TURN servers on loopback and compares what they cost.
#[derive(Debug, Parser)]
struct Args {
    /// Three rounds of one second, paced scenarios only: under a minute
    #[arg(long)]
    quick: bool,

    /// Memory of idle allocations instead of packets
    #[arg(long)]
    memory: bool,

    /// Ten calls under floods of a million packets from strangers instead
    #[arg(long)]
    flood: bool,

    /// Calls while an operator lists 10,000 allocations all the time instead
    #[arg(long)]
    admin: bool,

    /// Packets of one flood
    #[arg(long, default_value_t = 1_000_000)]
    flood_packets: u64,

    /// Packets a second of a flood; 0 for as many as one thread can send
    #[arg(long, default_value_t = 100_000)]
    flood_rate: u32,

    /// Count system calls as well, in one more round under `perf stat` (needs the right to trace)
    #[arg(long)]
    syscalls: bool,

    /// The servers to compare
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "turnstone,coturn,webrtc-rs"
    )]
    servers: Vec<Kind>,

    /// Only the scenarios whose name has this in it
    #[arg(long, default_value = "")]
    only: String,

    /// Allocations [default: 100; with --memory 5000, with --admin 10000]
    #[arg(long)]
    allocations: Option<usize>,

    /// Packets a second of the paced scenarios
    #[arg(long, default_value_t = 40_000)]
    rate: u32,

    /// Rounds, of which the medians are shown [default: 5]
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of one measurement [default: 2]
    #[arg(long)]
    seconds: Option<f64>,

    /// Threads that relay, of turnstone and coturn
    #[arg(long, default_value_t = 1)]
    workers: usize,

    /// The turnstone to measure
    #[arg(long, default_value = env!("CARGO_BIN_EXE_turnstone"))]
    turnstone: PathBuf,

    /// A second turnstone to compare with, such as one built before a change
    #[arg(long)]
    baseline: Option<PathBuf>,

    /// Be the `turn::server` that is measured
    #[arg(long, hide = true)]
    webrtc_rs_at: Option<SocketAddr>,

    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn scenarios(&self) -> Vec<Scenario> {
        let both = [Direction::ToPeers, Direction::ToClients];
        let shapes = [
            ("audio", 160, 1, 1),
            ("video", 1200, 16, 1),
            ("mixed", 1200, 16, 4),
        ];
        let mut scenarios = Vec::new();
        for offered in [Some(self.rate), None] {
            for (name, payload, burst, interleaved) in shapes {
                for direction in both {
                    scenarios.push(Scenario {
                        name,
                        direction,
                        payload,
                        burst,
                        interleaved,
                        offered,
                    });
                }
            }
        }
        let quick = |s: &Scenario| s.offered.is_some() && s.name != "mixed";
        scenarios.retain(|s| {
            s.to_string().contains(&self.only) && (!self.quick || !self.only.is_empty() || quick(s))
        });
        scenarios
    }

    fn rounds(&self) -> usize {
        self.rounds
            .unwrap_or(if self.quick { 3 } else { 5 })
            .clamp(1, 100)
    }

    fn duration(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 1.0 } else { 2.0 });
        Duration::from_secs_f64(seconds.clamp(0.1, 60.0))
    }

    /// The servers that are installed, each with a name for the report.
    fn installed(&self) -> Vec<(Kind, PathBuf)> {
        let mut list = Vec::new();
        for &kind in &self.servers {
            match kind {
                Kind::Turnstone => list.push((kind, self.turnstone.clone())),
                Kind::Baseline => {}
                Kind::WebrtcRs => list.push((kind, std::env::current_exe().unwrap())),
                Kind::Coturn => match shared::coturn_version() {
                    Some(version) => {
                        println!("coturn {version}");
                        list.push((kind, "turnserver".into()));
                    }
                    None => println!("coturn is not installed, left out"),
                },
            }
        }
        if let Some(path) = &self.baseline {
            list.push((Kind::Baseline, path.clone()));
        }
        list
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    if let Some(address) = args.webrtc_rs_at {
        return servers::serve_webrtc_rs(address);
    }
    if args.memory {
        return memory::compare(
            &args.installed(),
            args.allocations.unwrap_or(5000),
            args.workers,
        );
    }
    if args.admin {
        let allocations = args.allocations.unwrap_or(10_000);
        return admin::compare(&args.turnstone, allocations, args.workers);
    }
    if args.flood {
        let rate = (args.flood_rate > 0).then_some(args.flood_rate);
        return flood::compare(&args.installed(), args.flood_packets, rate, args.workers);
    }
    relay(&args)
}

/// Every server is asked in turn in every round, so that what else the machine does hits them all.
fn relay(args: &Args) -> io::Result<()> {
    let allocations = args.allocations.unwrap_or(100);
    println!(
        "{allocations} allocations, {} relaying thread(s)",
        args.workers
    );
    let mut contestants = Vec::new();
    for (kind, program) in args.installed() {
        let server = Running::start(kind, &program, allocations, args.workers)?;
        let fleet = Fleet::allocate(server.address, allocations)?;
        contestants.push((server, fleet));
    }
    println!("{}", report::HEADER);
    for scenario in args.scenarios() {
        let mut reports: Vec<Report> = contestants.iter().map(|_| Report::default()).collect();
        for _ in 0..args.rounds() {
            for ((server, fleet), report) in contestants.iter_mut().zip(&mut reports) {
                fleet.refresh()?;
                let sample = load::run(fleet, &scenario, args.duration(), server.pid());
                report.samples.push(sample);
            }
        }
        if args.syscalls {
            for ((server, fleet), report) in contestants.iter_mut().zip(&mut reports) {
                let counter =
                    shared::process::SyscallCounter::start(server.pid(), args.duration())?;
                let sample = load::run(fleet, &scenario, args.duration(), server.pid());
                report.syscalls = counter
                    .finish()
                    .map(|count| count / sample.delivered as f64);
            }
        }
        let first = reports[0].server_us();
        for ((server, _), report) in contestants.iter().zip(&reports) {
            println!("{}", report.line(&scenario, server.kind, first));
        }
    }
    Ok(())
}
