//! Floods from a million addresses of 127.0.0.0/8, for tests and for `benches/relay`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use turnstone::engine::udp::sys::{
    Batch, BufferSizes, Datagram, HEADROOM, HeaderFields, ListenerOptions, SendQueue, UdpSocket,
};
use turnstone::wire::{AttributeType, Class, MessageBuilder, Method, TransactionId};

/// Datagrams sent, or received, in one system call.
const BATCH: usize = 64;

/// Between two looks at the clock, and at a full send buffer.
const PAUSE: Duration = Duration::from_micros(100);

/// A flood of which the kernel has taken nothing for so long has failed.
const STUCK: Duration = Duration::from_secs(10);

/// Strangers are the addresses from 127.16.0.0, over a million of them, on one port.
const FIRST_STRANGER: u32 = 0x7F10_0000;
const STRANGERS: u64 = 1 << 20;

/// What strangers send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    Binding,
    Allocate,
    ChannelData,
    Response,
    Garbage,
}

impl Flood {
    pub(crate) const ALL: [Self; 5] = [
        Self::Binding,
        Self::Allocate,
        Self::ChannelData,
        Self::Response,
        Self::Garbage,
    ];

    /// Writes one packet, and returns its length.
    fn write(self, buffer: &mut [u8]) -> usize {
        let mut id = TransactionId([0; 12]);
        getrandom::fill(&mut id.0).expect("the system has random numbers");
        let (class, method) = match self {
            Self::Binding => (Class::Request, Method::Binding),
            Self::Allocate => (Class::Request, Method::Allocate),
            Self::Response => (Class::Success, Method::Allocate),
            Self::ChannelData => {
                buffer[..4].copy_from_slice(&[0x40, 0, 0, 160]);
                buffer[4..164].fill(0x5A);
                return 164;
            }
            Self::Garbage => {
                getrandom::fill(&mut buffer[..100]).expect("the system has random numbers");
                return 100;
            }
        };
        let mut builder = MessageBuilder::new(buffer, class, method, id);
        match self {
            Self::Allocate => builder.u32(AttributeType::REQUESTED_TRANSPORT, 17 << 24),
            Self::Response => builder.u32(AttributeType::LIFETIME, 600),
            _ => &mut builder,
        };
        builder.finish().expect("a short message")
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Binding => "Binding requests",
            Self::Allocate => "Allocate requests",
            Self::ChannelData => "ChannelData",
            Self::Response => "forged responses",
            Self::Garbage => "garbage",
        })
    }
}

/// What the kernel took, and what came back. Bytes are those of the UDP payloads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Echo {
    pub(crate) sent: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) seconds: f64,
    pub(crate) replies: u64,
    pub(crate) bytes_back: u64,
}

/// Everybody from whom a flood comes, behind one socket.
pub(crate) struct Strangers {
    socket: UdpSocket,
    inbox: Batch,
    /// Who has the next turn.
    next: u64,
    echo: Echo,
}

impl Strangers {
    /// Strangers of whom this one is the first: who has sent before is not to come again.
    pub(crate) fn new(first: u64) -> io::Result<Self> {
        let options = ListenerOptions {
            buffers: BufferSizes {
                receive: Some(8 << 20),
                send: Some(8 << 20),
            },
            ..ListenerOptions::default()
        };
        Ok(Self {
            socket: UdpSocket::listener((Ipv4Addr::UNSPECIFIED, 0).into(), &options)?,
            inbox: Batch::new(BATCH),
            next: first,
            echo: Echo::default(),
        })
    }

    /// Sends `count` packets to a server, each from the next address; `rate` is packets a second,
    /// `None` for as many as the thread can. What the kernel does not take is sent again, and counted
    /// once. Replies are counted, late ones as far as they come in a fifth of a second.
    pub(crate) fn send(
        mut self,
        flood: Flood,
        server: SocketAddr,
        count: u64,
        rate: Option<u32>,
    ) -> io::Result<Echo> {
        let mut packets = Batch::new(BATCH);
        let lengths: Vec<usize> = (0..BATCH)
            .map(|slot| flood.write(&mut packets.slot_mut(slot)[HEADROOM..]))
            .collect();
        let mut queue = SendQueue::new(BATCH);
        let started = Instant::now();
        let mut last_sent = started;
        while self.echo.sent < count {
            let due = rate.map_or(count, |rate| {
                (started.elapsed().as_secs_f64() * f64::from(rate)) as u64
            });
            let missing = due.min(count) - self.echo.sent;
            for (slot, &len) in lengths.iter().enumerate().take(missing as usize) {
                let datagram = Datagram {
                    slot,
                    range: HEADROOM..HEADROOM + len,
                    to: server,
                    fields: HeaderFields {
                        source: Some(stranger(self.next + slot as u64)),
                        ..HeaderFields::default()
                    },
                };
                queue.push(datagram).expect("room for a batch");
            }
            let flushed = queue.flush(&self.socket, &packets);
            let sent = flushed.sent as u64;
            self.next += sent;
            self.echo.sent += sent;
            // Packets of a flood are equally long.
            self.echo.bytes_sent += sent * lengths[0] as u64;
            self.receive()?;
            if sent > 0 {
                last_sent = Instant::now();
            } else if missing > 0 && last_sent.elapsed() > STUCK {
                return Err(flushed
                    .last_error
                    .unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
            }
            if missing == 0 || flushed.dropped > 0 {
                std::thread::sleep(PAUSE);
            }
        }
        self.echo.seconds = started.elapsed().as_secs_f64();
        for _ in 0..200 {
            std::thread::sleep(Duration::from_millis(1));
            self.receive()?;
        }
        Ok(self.echo)
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            self.inbox.clear();
            let count = self.inbox.receive(&self.socket)?;
            for slot in 0..count {
                self.echo.replies += 1;
                self.echo.bytes_back += self.inbox.received(slot).len as u64;
            }
            if count < BATCH {
                return Ok(());
            }
        }
    }
}

/// The address of a packet of the flood; neighbours in time are far from each other.
fn stranger(number: u64) -> IpAddr {
    /// Odd, so that every address comes once before any comes twice.
    const STRIDE: u64 = 0x9_E377;
    let offset = number.wrapping_mul(STRIDE) % STRANGERS;
    Ipv4Addr::from(FIRST_STRANGER + offset as u32).into()
}
