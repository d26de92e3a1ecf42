//! Floods from strangers while calls run: nobody is cut off, and the server does not grow.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Client, Flood, Peer, Process, Strangers, own_ipv4};

/// Calls that run meanwhile.
const CALLS: usize = 10;

/// Addresses that a flood comes from, a packet each; no two floods share one, and together they are
/// a million.
const fn sources(flood: Flood) -> u64 {
    match flood {
        Flood::Binding | Flood::Allocate => 350_000,
        Flood::ChannelData | Flood::Response | Flood::Garbage => 100_000,
    }
}

/// Packets of a flood in a second, at most. What one worker handles on a machine of its own, so that
/// little is lost at its socket.
const RATE: u32 = 80_000;

/// The worker has handled at least one of so many packets that were sent: a flood that is lost on its
/// way shows nothing. Of replies some are lost on a busy machine, too.
const HANDLED_OF: u64 = 5;

/// Calls lose at most one of so many packets.
const LOST_OF: u32 = 5;

/// A packet is lost if it does not come within this time.
const PATIENCE: Duration = Duration::from_millis(250);

struct Call {
    client: Client,
    peer: Peer,
    relayed: SocketAddr,
}

impl Call {
    fn new(process: &Process, number: u16) -> Self {
        let mut client = Client::udp_to(process.udp[0]);
        let peer = Peer::new();
        let relayed = client.allocate();
        client.bind(0x4000 + number, peer.address());
        client.socket().set_read_timeout(Some(PATIENCE)).unwrap();
        peer.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            client,
            peer,
            relayed,
        }
    }

    /// One packet there and one back; returns how many of the two were lost.
    fn exchange(&mut self, number: u16, turn: u32) -> u32 {
        let mut buffer = [0; 256];
        let data = turn.to_be_bytes();
        self.client.send_channel(0x4000 + number, &data);
        let there = receives(&self.peer.socket, &mut buffer, &data);
        self.peer.send(&data, self.relayed);
        let back = receives(self.client.socket(), &mut buffer, &data);
        u32::from(!there) + u32::from(!back)
    }
}

/// Whether a datagram with this data at its end arrives in time; late ones of earlier turns are
/// skipped.
fn receives(socket: &std::net::UdpSocket, buffer: &mut [u8], data: &[u8]) -> bool {
    while let Ok(len) = socket.recv(buffer) {
        if buffer[..len].ends_with(data) {
            return true;
        }
    }
    false
}

fn resident_kb(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// What a stopped worker has counted under this name.
fn counter(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("{name}=")).expect(line);
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap().parse().unwrap()
}

/// SEC-10: a million sources, most of them of requests, leave nothing behind, and ten calls go on.
/// What they lose depends on the machine and is printed.
#[test]
fn a_million_strangers_leave_nothing_behind() {
    let ip = own_ipv4();
    let mut process = Process::start(&format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = []\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 1\n\
         log.level = \"debug\"\n"
    ));
    let mut calls: Vec<Call> = (0..CALLS as u16).map(|i| Call::new(&process, i)).collect();
    let server = process.udp[0];
    // Whatever is made at first use.
    let mut first = 0;
    let mut send = |flood, count| {
        let strangers = Strangers::new(first);
        first += count;
        strangers.and_then(|strangers| strangers.send(flood, server, count, Some(RATE)))
    };
    for flood in Flood::ALL {
        send(flood, 1000).unwrap();
    }
    let before = resident_kb(&process);
    for flood in Flood::ALL {
        let over = AtomicBool::new(false);
        let (echo, sent, lost) = thread::scope(|scope| {
            let strangers = scope.spawn(|| {
                let echo = send(flood, sources(flood));
                over.store(true, Ordering::Release);
                echo.unwrap()
            });
            let (mut sent, mut lost) = (0, 0);
            for turn in 0.. {
                if over.load(Ordering::Acquire) {
                    break;
                }
                for (number, call) in calls.iter_mut().enumerate() {
                    lost += call.exchange(number as u16, turn);
                    sent += 2;
                }
            }
            (strangers.join().unwrap(), sent, lost)
        });
        println!(
            "{flood}: {} in {:.1} s, {} replies; {CALLS} calls lost {lost} of {sent}",
            echo.sent, echo.seconds, echo.replies
        );
        assert_eq!(echo.sent, sources(flood));
        assert!(lost * LOST_OF <= sent, "lost {lost} of {sent}");
        match flood {
            Flood::Binding => assert!(echo.bytes_back * 10 <= echo.bytes_sent * 16),
            Flood::Allocate => assert!(echo.bytes_back < echo.bytes_sent * 4),
            Flood::ChannelData | Flood::Response | Flood::Garbage => assert_eq!(echo.replies, 0),
        }
        if matches!(flood, Flood::Binding | Flood::Allocate) {
            assert!(echo.replies * HANDLED_OF >= echo.sent, "{echo:?}");
        }
    }
    let grown = resident_kb(&process).saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more");
    for (number, call) in calls.iter_mut().enumerate() {
        assert_eq!(call.exchange(number as u16, u32::MAX), 0, "call {number}");
    }
    process.terminate();
    let line = process.wait_for("worker stopped");
    for (flood, cause) in [
        (Flood::ChannelData, "no_allocation"),
        (Flood::Response, "unexpected"),
        (Flood::Garbage, "malformed"),
    ] {
        let handled = counter(&line, cause);
        assert!(handled * HANDLED_OF >= sources(flood), "{flood} in {line}");
    }
}
