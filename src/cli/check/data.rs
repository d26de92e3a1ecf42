//! Data between two allocations: Send and Data indications (RFC 8656 §11), and ChannelData (§12)
//! there and back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{Client, random_id};
use super::failure::Failure;
use crate::wire::{
    AttributeType, ChannelData, ChannelNumber, Class, Message, MessageBuilder, Method,
    TransactionId, decode_xor_address, padded,
};

/// Packets of the ChannelData test, each way.
const PACKETS: usize = 20;

/// Bytes of each: about an audio packet.
pub(super) const PACKET_LEN: usize = 200;

/// Time between two packets: a quarter of a voice call's, so that the test is short and yet makes
/// no burst.
const PACE: Duration = Duration::from_millis(5);

/// How long the last packet may be under way before it counts as lost.
const LATE: Duration = Duration::from_secs(1);

/// How long a Send indication is repeated before it counts as lost.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// How often the echoing side looks whether the test is over.
const ECHO_TICK: Duration = Duration::from_millis(20);

/// Who application data came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Peer(SocketAddr),
    Channel(ChannelNumber),
}

/// What became of the packets of a ChannelData test.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Echo {
    pub(super) sent: usize,
    /// Packets that did not arrive at the second allocation.
    pub(super) lost_there: usize,
    /// Packets that arrived there, and did not come back.
    pub(super) lost_back: usize,
    /// Round trips go through the relay twice.
    pub(super) rtt_min_ms: Option<f64>,
    pub(super) rtt_median_ms: Option<f64>,
}

impl Client<'_> {
    fn send_indication(&mut self, peer: SocketAddr, data: &[u8]) -> Result<(), Failure> {
        let mut buffer = [0; 256];
        let len = MessageBuilder::new(&mut buffer, Class::Indication, Method::Send, random_id())
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::DATA, data)
            .finish()
            .expect("the data is short");
        self.link.send(&buffer[..len])
    }

    fn send_channel_data(&mut self, number: ChannelNumber, data: &[u8]) -> Result<(), Failure> {
        let len = data.len() as u16;
        let mut packet = Vec::with_capacity(ChannelData::HEADER_LEN + padded(data.len()));
        packet.extend(number.get().to_be_bytes());
        packet.extend(len.to_be_bytes());
        packet.extend(data);
        if self.link.is_stream() {
            packet.resize(padded(packet.len()), 0);
        }
        self.link.send(&packet)
    }

    /// The next application data, `None` if there is none until `deadline`.
    fn receive_data(&mut self, deadline: Instant) -> Result<Option<(Source, Vec<u8>)>, Failure> {
        while let Some(packet) = self.link.receive(deadline)? {
            let data = parse_channel_data(&packet).or_else(|| parse_data_indication(&packet));
            if data.is_some() {
                return Ok(data);
            }
        }
        Ok(None)
    }
}

fn parse_channel_data(packet: &[u8]) -> Option<(Source, Vec<u8>)> {
    let data = ChannelData::parse(packet)?;
    Some((Source::Channel(data.number), packet[data.payload].to_vec()))
}

fn parse_data_indication(packet: &[u8]) -> Option<(Source, Vec<u8>)> {
    let message = Message::parse(packet).ok()?;
    if (message.class(), message.method()) != (Class::Indication, Some(Method::Data)) {
        return None;
    }
    let peer = message.first(AttributeType::XOR_PEER_ADDRESS)?;
    let peer = decode_xor_address(peer, &message.transaction_id()).ok()?;
    let data = message.first(AttributeType::DATA)?.to_vec();
    Some((Source::Peer(peer), data))
}

/// Sends from one allocation to the other until it arrives as a Data indication.
pub(super) fn send_and_receive(
    (sender, sender_address): (&mut Client<'_>, SocketAddr),
    (receiver, receiver_address): (&mut Client<'_>, SocketAddr),
    deadline: Instant,
) -> Result<(), Failure> {
    let TransactionId(tag) = random_id();
    let started = Instant::now();
    let deadline = deadline.min(started + SEND_PATIENCE);
    let mut patience = Duration::from_millis(250);
    while Instant::now() < deadline {
        sender.send_indication(receiver_address, &tag)?;
        let resend = deadline.min(Instant::now() + patience);
        patience *= 2;
        while let Some((source, data)) = receiver.receive_data(resend)? {
            match source {
                Source::Peer(peer) if data == tag && peer == sender_address => return Ok(()),
                Source::Peer(source) if data == tag => {
                    return Err(Failure::WrongSource {
                        source,
                        relayed_address: sender_address,
                    });
                }
                _ => {}
            }
        }
    }
    let waited = started.elapsed().as_secs_f64();
    Err(Failure::DataLost {
        detail: format!("no Data indication within {waited:.1} s"),
    })
}

/// Sends packets on a channel of `near`, which `far` sends back on its own.
pub(super) fn echo(
    (near, near_channel): (&mut Client<'_>, ChannelNumber),
    (far, far_channel): (&mut Client<'_>, ChannelNumber),
    deadline: Instant,
) -> Result<Echo, Failure> {
    let tag = random_id();
    let done = AtomicBool::new(false);
    let (sent_and_rtts, arrived) = thread::scope(|scope| {
        let echo = scope.spawn(|| reflect(far, far_channel, tag, &done, deadline));
        let sent_and_rtts = volley(near, near_channel, tag, deadline);
        done.store(true, Ordering::Relaxed);
        (sent_and_rtts, echo.join().expect("the echo does not panic"))
    });
    let ((sent, mut rtts), arrived) = (sent_and_rtts?, arrived?);
    rtts.sort();
    let milliseconds = |rtt: &Duration| rtt.as_micros() as f64 / 1e3;
    Ok(Echo {
        sent,
        lost_there: sent.saturating_sub(arrived),
        lost_back: arrived.saturating_sub(rtts.len()),
        rtt_min_ms: rtts.first().map(milliseconds),
        rtt_median_ms: rtts.get(rtts.len() / 2).map(milliseconds),
    })
}

/// Sends the packets, and returns their number and the round-trip times of those that came back.
fn volley(
    client: &mut Client<'_>,
    channel: ChannelNumber,
    tag: TransactionId,
    deadline: Instant,
) -> Result<(usize, Vec<Duration>), Failure> {
    let mut sent_at = Vec::with_capacity(PACKETS);
    let mut rtts = [None; PACKETS];
    let mut next = Instant::now();
    while rtts.iter().any(Option::is_none) {
        let now = Instant::now();
        if sent_at.len() < PACKETS && now >= next {
            client.send_channel_data(channel, &packet(sent_at.len(), tag))?;
            sent_at.push(now);
            next = now + if sent_at.len() < PACKETS { PACE } else { LATE };
        }
        match client.receive_data(next.min(deadline))? {
            Some((source, data)) => {
                let sequence = sequence(&data, tag).filter(|_| source == Source::Channel(channel));
                if let Some(sequence) = sequence.filter(|&sequence| sequence < sent_at.len()) {
                    rtts[sequence].get_or_insert_with(|| sent_at[sequence].elapsed());
                }
            }
            None if sent_at.len() == PACKETS || Instant::now() >= deadline => break,
            None => {}
        }
    }
    Ok((sent_at.len(), rtts.into_iter().flatten().collect()))
}

/// Sends every packet back that arrives, once, and returns how many did.
fn reflect(
    client: &mut Client<'_>,
    channel: ChannelNumber,
    tag: TransactionId,
    done: &AtomicBool,
    deadline: Instant,
) -> Result<usize, Failure> {
    let mut seen = [false; PACKETS];
    while !done.load(Ordering::Relaxed) && Instant::now() < deadline {
        let received = client.receive_data(deadline.min(Instant::now() + ECHO_TICK))?;
        let Some((source, data)) = received else {
            continue;
        };
        let sequence = sequence(&data, tag).filter(|_| source == Source::Channel(channel));
        if let Some(sequence) = sequence
            && !std::mem::replace(&mut seen[sequence], true)
        {
            client.send_channel_data(channel, &data)?;
        }
    }
    Ok(seen.iter().filter(|&&seen| seen).count())
}

/// The tag of this run, then the sequence number up to the end.
fn packet(sequence: usize, tag: TransactionId) -> [u8; PACKET_LEN] {
    let mut packet = [sequence as u8; PACKET_LEN];
    packet[..tag.0.len()].copy_from_slice(&tag.0);
    packet
}

/// The sequence number of a packet of this run that arrived whole.
fn sequence(data: &[u8], tag: TransactionId) -> Option<usize> {
    let sequence = usize::from(*data.last()?);
    (sequence < PACKETS && data == packet(sequence, tag)).then_some(sequence)
}
