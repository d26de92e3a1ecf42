//! The load: calls on streams of one server, and one thread that keeps packets of all under way.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use rustls::ProtocolVersion;
use turnstone::engine::udp::sys::{
    Batch, BufferSizes, Datagram, HEADROOM, HeaderFields, SendQueue, UdpSocket,
};

use super::harness::{Client, DEADLINE, Via};
use super::servers::Running;
use super::shared::process::{Cpu, CpuTimes};

/// The address of all peers.
const PEER: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 4);

/// The channel of every call.
pub(crate) const CHANNEL: u16 = 0x4000;

/// Bytes of a ChannelData header.
pub(crate) const CHANNEL_HEADER: usize = 4;

/// Datagrams sent, or received, in one system call.
const BATCH: usize = 64;

/// Bytes read from a stream in one system call.
const READ: usize = 64 * 1024;

/// When so long nothing has come, what is under way is lost.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    ToPeers,
    ToClients,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::ToPeers, Self::ToClients];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ToPeers => "to peers",
            Self::ToClients => "to clients",
        }
    }
}

/// When packets are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Whenever a call has fewer than this under way.
    Window(usize),
    /// Bursts of so many calls together, so many packets a second of all.
    Rate { together: usize, per_s: u32 },
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) direction: Direction,
    /// Bytes of application data.
    pub(crate) payload: usize,
    /// Packets that a call has in a row.
    pub(crate) burst: usize,
    pub(crate) pace: Pace,
}

impl Scenario {
    /// Bytes of a packet on the stream.
    fn frame(&self) -> usize {
        CHANNEL_HEADER + self.payload.next_multiple_of(4)
    }
}

/// What one measurement counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    /// Within `seconds`.
    pub(crate) delivered: u64,
    /// TLS records that these came in.
    pub(crate) records: u64,
    pub(crate) seconds: f64,
    /// The part of this time in which the load had nothing to do but wait.
    pub(crate) idle: f64,
    pub(crate) cpu: CpuTimes,
}

struct Call {
    client: Client,
    relayed: SocketAddr,
    under_way: usize,
    /// Bytes that the client has received of a packet that is not complete.
    partial: usize,
    records: Records,
}

/// Calls of one server, all with one peer.
///
/// Clients do not decipher what they receive: that is work of the same size as the server's, and
/// the load must be able to do more than the server.
pub(crate) struct Fleet {
    calls: Vec<Call>,
    peer: UdpSocket,
    via: Via,
    server: u32,
    inbox: Batch,
    bytes: Box<[u8]>,
    queue: SendQueue,
}

impl Fleet {
    /// Has `count` clients make an allocation and bind a channel. The permissions last for five
    /// minutes.
    pub(crate) fn new(server: &Running, via: Via, count: usize) -> Self {
        let buffers = BufferSizes {
            receive: Some(8 << 20),
            send: Some(8 << 20),
        };
        let peer = UdpSocket::relay((PEER, 0).into(), buffers).unwrap();
        let call = |_| {
            let mut client = server.client(via);
            let relayed = client.allocate();
            client.bind(CHANNEL, peer.local_addr());
            client.stream().set_write_timeout(Some(DEADLINE)).unwrap();
            Call {
                records: Records::new(&mut client, via),
                client,
                relayed,
                under_way: 0,
                partial: 0,
            }
        };
        Self {
            calls: (0..count).map(call).collect(),
            peer,
            via,
            server: server.pid(),
            inbox: Batch::new(BATCH),
            bytes: vec![0; READ].into(),
            queue: SendQueue::new(BATCH),
        }
    }

    /// Sends for `duration` and counts what arrives.
    pub(crate) fn run(mut self, scenario: &Scenario, duration: Duration) -> Sample {
        let to_clients = scenario.direction == Direction::ToClients;
        for call in &self.calls {
            call.client.stream().set_nonblocking(to_clients).unwrap();
        }
        let packet = Packet::new(scenario);
        let (mut arrived, mut lost) = (Arrived::default(), 0);
        let (mut sent, mut forgotten) = (0, 0);
        let cpu = Cpu::now(self.server);
        let started = Instant::now();
        let (mut last_arrival, mut now, mut idle) = (started, started, Duration::ZERO);
        while now - started < duration {
            let more_sent = match scenario.pace {
                Pace::Window(window) => self.fill(window, scenario, &packet),
                Pace::Rate { together, per_s } => {
                    let group = (together * scenario.burst) as u64;
                    let due = ((now - started).as_secs_f64() * f64::from(per_s)) as u64;
                    let missing = due - sent - forgotten;
                    if missing < group {
                        0
                    } else {
                        // What the bench was held up for would come as one burst.
                        forgotten += missing - group;
                        let first = (sent / scenario.burst as u64) as usize;
                        self.burst(first..first + together, scenario, &packet)
                    }
                }
            };
            let more = self.receive(scenario);
            sent += more_sent;
            arrived.packets += more.packets;
            arrived.records += more.records;
            let before = std::mem::replace(&mut now, Instant::now());
            if more.packets > 0 {
                last_arrival = now;
            } else if now - last_arrival > LOST_AFTER {
                lost += self.give_up();
                last_arrival = now;
            }
            if more.packets == 0 && more_sent == 0 {
                idle += now - before;
            }
        }
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu.elapsed());
        let finished = Instant::now();
        while self.under_way() > 0 && finished.elapsed() < LOST_AFTER {
            self.receive(scenario);
        }
        lost += self.give_up();
        Sample {
            sent,
            lost,
            delivered: arrived.packets,
            records: arrived.records,
            seconds,
            idle: idle.as_secs_f64() / seconds,
            cpu,
        }
    }

    fn under_way(&self) -> usize {
        self.calls.iter().map(|call| call.under_way).sum()
    }

    /// What is still under way is lost.
    fn give_up(&mut self) -> u64 {
        let lost = self.under_way() as u64;
        self.calls.iter_mut().for_each(|call| call.under_way = 0);
        lost
    }

    /// Another burst of every call that has room for one.
    fn fill(&mut self, window: usize, scenario: &Scenario, packet: &Packet) -> u64 {
        let has_room = |call: &Call| call.under_way + scenario.burst <= window;
        let mut sent = 0;
        for number in 0..self.calls.len() {
            if has_room(&self.calls[number]) {
                sent += self.burst(number..number + 1, scenario, packet);
            }
        }
        sent
    }

    /// A burst of each of these calls. Returns how many packets that were.
    fn burst(&mut self, numbers: Range<usize>, scenario: &Scenario, packet: &Packet) -> u64 {
        let total = numbers.len() * scenario.burst;
        for number in numbers {
            let number = number % self.calls.len();
            match scenario.direction {
                Direction::ToPeers => {
                    self.calls[number].send(self.via, number, packet, scenario.burst)
                }
                Direction::ToClients => {
                    for _ in 0..scenario.burst {
                        self.queue_datagram(number, packet);
                    }
                }
            }
            self.calls[number].under_way += scenario.burst;
        }
        self.flush(packet);
        total as u64
    }

    fn queue_datagram(&mut self, number: usize, packet: &Packet) {
        if self.queue.is_full() {
            self.flush(packet);
        }
        let datagram = Datagram {
            slot: 0,
            range: HEADROOM + CHANNEL_HEADER..HEADROOM + CHANNEL_HEADER + packet.payload,
            to: self.calls[number].relayed,
            fields: HeaderFields::default(),
        };
        self.queue.push(datagram).expect("flushed when full");
    }

    fn flush(&mut self, packet: &Packet) {
        let flushed = self.queue.flush(&self.peer, &packet.slot);
        assert_eq!(
            flushed.dropped, 0,
            "loopback refused {:?}",
            flushed.last_error
        );
    }

    /// Takes what has come out of calls with packets under way.
    fn receive(&mut self, scenario: &Scenario) -> Arrived {
        let mut arrived = Arrived::default();
        if scenario.direction == Direction::ToClients {
            for call in &mut self.calls {
                if call.under_way > 0 {
                    let more = call.receive(self.via, scenario.frame(), &mut self.bytes);
                    arrived.packets += more.packets;
                    arrived.records += more.records;
                }
            }
            return arrived;
        }
        self.inbox.clear();
        let count = self.inbox.receive(&self.peer).expect("recvmmsg");
        for slot in 0..count {
            let payload = self.inbox.payload(slot);
            let number = usize::from(u16::from_be_bytes([payload[0], payload[1]]));
            let call = &mut self.calls[number];
            arrived.packets += 1;
            call.under_way = call.under_way.saturating_sub(1);
        }
        arrived
    }
}

/// What came out at once.
#[derive(Clone, Copy, Debug, Default)]
struct Arrived {
    packets: u64,
    records: u64,
}

/// A packet in ChannelData.
struct Packet {
    /// For datagrams, without its header.
    slot: Batch,
    payload: usize,
    /// For streams.
    frame: Vec<u8>,
}

impl Packet {
    fn new(scenario: &Scenario) -> Self {
        let mut frame = vec![0xA5; scenario.frame()];
        frame[..2].copy_from_slice(&CHANNEL.to_be_bytes());
        frame[2..4].copy_from_slice(&(scenario.payload as u16).to_be_bytes());
        let mut slot = Batch::new(1);
        slot.slot_mut(0)[HEADROOM..][..frame.len()].copy_from_slice(&frame);
        Self {
            slot,
            payload: scenario.payload,
            frame,
        }
    }
}

impl Call {
    /// Sends `burst` packets with the call's number, each in a TLS record of its own, as clients
    /// do, and all in one write.
    fn send(&mut self, via: Via, number: usize, packet: &Packet, burst: usize) {
        let mut frame = packet.frame.clone();
        frame[CHANNEL_HEADER..][..2].copy_from_slice(&(number as u16).to_be_bytes());
        if via != Via::Tls {
            return self.client.send(&frame.repeat(burst));
        }
        let stream = self.client.tls_stream();
        for _ in 0..burst {
            stream.conn.writer().write_all(&frame).unwrap();
        }
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock).unwrap();
        }
    }

    /// Takes what the client has received.
    fn receive(&mut self, via: Via, frame: usize, buffer: &mut [u8]) -> Arrived {
        let len = match self.client.stream().read(buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Arrived::default(),
            Err(error) => panic!("a client's connection: {error}"),
        };
        assert!(len > 0, "the server closed a connection");
        let (plain, records) = match via {
            Via::Tls => self.records.count(&buffer[..len]),
            _ => (len, 0),
        };
        self.partial += plain;
        let packets = self.partial / frame;
        self.partial %= frame;
        self.under_way = self.under_way.saturating_sub(packets);
        Arrived {
            packets: packets as u64,
            records,
        }
    }
}

/// Version and name of the suite that a client and its server have agreed on.
pub(crate) fn negotiated(client: &mut Client) -> (ProtocolVersion, String) {
    let tls = &client.tls_stream().conn;
    let suite = tls.negotiated_cipher_suite().unwrap().suite();
    (tls.protocol_version().unwrap(), format!("{suite:?}"))
}

/// Counts what is in TLS records, which it does not decipher.
struct Records {
    header: Vec<u8>,
    /// Bytes to come of the record that has begun.
    left: usize,
    /// Bytes of a record that are no application data.
    overhead: usize,
}

impl Records {
    const HEADER: usize = 5;
    const APPLICATION_DATA: u8 = 23;
    const TAG: usize = 16;

    fn new(client: &mut Client, via: Via) -> Self {
        let overhead = match via {
            Via::Tls => match negotiated(client) {
                // The true type.
                (ProtocolVersion::TLSv1_3, _) => 1 + Self::TAG,
                (_, suite) if suite.contains("CHACHA20") => Self::TAG,
                // Part of the nonce.
                _ => 8 + Self::TAG,
            },
            _ => 0,
        };
        Self {
            header: Vec::with_capacity(Self::HEADER),
            left: 0,
            overhead,
        }
    }

    /// Returns how many bytes of application data the records have that begin here, and how many
    /// records that are.
    fn count(&mut self, mut bytes: &[u8]) -> (usize, u64) {
        let (mut plain, mut records) = (0, 0);
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let missing = (Self::HEADER - self.header.len()).min(bytes.len());
            self.header.extend(&bytes[..missing]);
            bytes = &bytes[missing..];
            if let [kind, _, _, high, low] = *self.header {
                assert_eq!(kind, Self::APPLICATION_DATA, "a record of another type");
                self.left = usize::from(u16::from_be_bytes([high, low]));
                plain += self.left - self.overhead;
                records += 1;
                self.header.clear();
            }
        }
        (plain, records)
    }
}
