//! The load generator: one thread that sends at a rate, receives what comes out and counts.

use std::fmt;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use turnstone::engine::udp::sys::{Batch, Datagram, HEADROOM, HeaderFields, SendQueue, UdpSocket};

use super::client::{Allocation, CHANNEL, Fleet};
use super::shared::process::{Cpu, CpuTimes};

/// Datagrams sent, or received, in one system call.
const BATCH: usize = 64;

/// Datagrams that the generator makes up for after it was held up. Beyond that it forgets: they
/// would be a burst that nobody asked for.
const CATCH_UP_MAX: u64 = 512;

/// Pause between two looks at the clock. The server's share comes in clumps of this length.
const TICK: Duration = Duration::from_micros(100);

/// Silence after which nothing more is to be expected, and how long to wait for it at most.
const SILENCE: Duration = Duration::from_millis(30);
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Bytes of a ChannelData header.
const CHANNEL_HEADER: usize = 4;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToPeers,
    ToClients,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) direction: Direction,
    /// Bytes of application data.
    pub(super) payload: usize,
    /// Packets that an allocation has in a row.
    pub(super) burst: usize,
    /// Allocations whose bursts are mixed with one another.
    pub(super) interleaved: usize,
    /// Packets a second; `None` for as many as the generator can.
    pub(super) offered: Option<u32>,
}

impl Scenario {
    /// The allocation that packet number `packet` belongs to.
    fn flow(&self, packet: u64, flows: usize) -> usize {
        let block = (self.burst * self.interleaved) as u64;
        let interleaved = self.interleaved as u64;
        let flow = packet / block * interleaved + packet % interleaved;
        (flow % flows as u64) as usize
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.direction {
            Direction::ToPeers => "to-peers",
            Direction::ToClients => "to-clients",
        };
        let rate = if self.offered.is_some() { "" } else { "-max" };
        write!(f, "{}-{to}{rate}", self.name)
    }
}

/// What one measurement counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) sent: u64,
    pub(super) delivered: u64,
    /// Time of sending.
    pub(super) seconds: f64,
    pub(super) cpu: CpuTimes,
}

/// Sends for `duration` and counts what arrives, and what CPU time the process `server` took.
pub(super) fn run(fleet: &Fleet, scenario: &Scenario, duration: Duration, server: u32) -> Sample {
    let mut generator = Generator::new(fleet, scenario);
    // What is left over from before.
    generator.receive_all();
    generator.delivered = 0;
    let cpu = Cpu::now(server);
    let seconds = generator.send_for(duration);
    generator.drain();
    Sample {
        sent: generator.sent,
        delivered: generator.delivered,
        seconds,
        cpu: cpu.elapsed(),
    }
}

struct Generator<'f> {
    fleet: &'f Fleet,
    scenario: &'f Scenario,
    /// Its first slot has the packet, in ChannelData.
    template: Batch,
    queue: SendQueue,
    inbox: Batch,
    sent: u64,
    delivered: u64,
}

impl<'f> Generator<'f> {
    fn new(fleet: &'f Fleet, scenario: &'f Scenario) -> Self {
        let mut template = Batch::new(1);
        let packet = &mut template.slot_mut(0)[HEADROOM..];
        packet[..2].copy_from_slice(&CHANNEL.to_be_bytes());
        packet[2..4].copy_from_slice(&(scenario.payload as u16).to_be_bytes());
        packet[CHANNEL_HEADER..][..scenario.payload].fill(0xA5);
        Self {
            fleet,
            scenario,
            template,
            queue: SendQueue::new(BATCH),
            inbox: Batch::new(BATCH),
            sent: 0,
            delivered: 0,
        }
    }

    /// Returns the seconds that it took.
    fn send_for(&mut self, duration: Duration) -> f64 {
        let started = Instant::now();
        let mut forgotten = 0;
        loop {
            let elapsed = started.elapsed();
            if elapsed >= duration {
                return elapsed.as_secs_f64();
            }
            let Some(rate) = self.scenario.offered else {
                self.send(BATCH as u64);
                self.receive_some();
                continue;
            };
            let due = (elapsed.as_secs_f64() * f64::from(rate)) as u64 - forgotten;
            let mut missing = due.saturating_sub(self.sent);
            if missing > CATCH_UP_MAX {
                forgotten += missing - CATCH_UP_MAX;
                missing = CATCH_UP_MAX;
            }
            let block = (self.scenario.burst * self.scenario.interleaved) as u64;
            self.send(missing / block * block);
            if self.receive_some() == 0 {
                thread::sleep(TICK);
            }
        }
    }

    fn send(&mut self, count: u64) {
        let flows = self.fleet.allocations.len();
        for _ in 0..count {
            let flow = self.scenario.flow(self.sent, flows);
            let datagram = self.datagram(&self.fleet.allocations[flow]);
            self.queue.push(datagram).expect("flushed when full");
            self.sent += 1;
            if self.queue.is_full() {
                self.flush();
            }
        }
        self.flush();
    }

    fn datagram(&self, allocation: &Allocation) -> Datagram {
        let end = HEADROOM + CHANNEL_HEADER + self.scenario.payload;
        let (start, to, source): (_, SocketAddr, _) = match self.scenario.direction {
            Direction::ToPeers => (HEADROOM, self.fleet.server, Some(allocation.client)),
            Direction::ToClients => (HEADROOM + CHANNEL_HEADER, allocation.relayed, None),
        };
        Datagram {
            slot: 0,
            range: start..end,
            to,
            fields: HeaderFields {
                source,
                ..HeaderFields::default()
            },
        }
    }

    fn flush(&mut self) {
        let socket = match self.scenario.direction {
            Direction::ToPeers => &self.fleet.clients,
            Direction::ToClients => &self.fleet.peer,
        };
        let flushed = self.queue.flush(socket, &self.template);
        assert_eq!(
            flushed.dropped, 0,
            "loopback refused {:?}",
            flushed.last_error
        );
    }

    /// Counts what has come out, one batch, and returns how many datagrams that were.
    fn receive_some(&mut self) -> usize {
        let (socket, len): (&UdpSocket, _) = match self.scenario.direction {
            Direction::ToPeers => (&self.fleet.peer, self.scenario.payload),
            Direction::ToClients => (&self.fleet.clients, self.scenario.payload + CHANNEL_HEADER),
        };
        self.inbox.clear();
        let count = self.inbox.receive(socket).expect("recvmmsg");
        // A server may be late with what belongs to the scenario before.
        let right = (0..count).filter(|&slot| self.inbox.received(slot).len == len);
        self.delivered += right.count() as u64;
        count
    }

    fn receive_all(&mut self) {
        let bound = 100_000;
        for _ in 0..bound {
            if self.receive_some() == 0 {
                return;
            }
        }
    }

    /// Waits for what is under way.
    fn drain(&mut self) {
        let started = Instant::now();
        let mut last = started;
        while last.elapsed() < SILENCE && started.elapsed() < DRAIN_MAX {
            if self.receive_some() > 0 {
                last = Instant::now();
            } else {
                thread::sleep(TICK);
            }
        }
    }
}
