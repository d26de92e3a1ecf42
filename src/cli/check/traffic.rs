//! Paced packets between two allocations, there and back: how many are lost and how long they take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{Client, random_id};
use super::data::Source;
use super::failure::Failure;
use crate::wire::{ChannelNumber, TransactionId};

/// Packets a second: those of a voice call.
const PACKETS_PER_S: u32 = 50;

/// Bytes of each: about an audio packet.
const PACKET_LEN: usize = 200;

/// How long a packet may be under way before it counts as lost.
const LATE: Duration = Duration::from_secs(1);

/// How often the echoing side looks whether the test is over.
const ECHO_TICK: Duration = Duration::from_millis(20);

/// What became of the packets. Times are of round trips, which go through the relay twice, and from
/// here to the server and back twice.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Traffic {
    pub(super) sent: usize,
    /// Packets that did not arrive at the second allocation.
    pub(super) lost_there: usize,
    /// Packets that arrived there, and did not come back.
    pub(super) lost_back: usize,
    packets_per_s: u32,
    packet_bytes: usize,
    /// `None` if nothing came back.
    #[serde(rename = "round_trip_ms")]
    pub(super) round_trips: Option<RoundTrips>,
}

/// How long packets took there and back, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct RoundTrips {
    min: f64,
    pub(super) median: f64,
    p95: f64,
    max: f64,
    /// The mean difference between one round trip and the next.
    pub(super) jitter: f64,
}

impl Traffic {
    /// Packets that were lost either way.
    pub(super) const fn lost(&self) -> usize {
        self.lost_there + self.lost_back
    }

    /// How many there were, and how many were lost where.
    pub(super) fn detail(&self) -> String {
        let Self {
            sent,
            lost_there,
            lost_back,
            ..
        } = self;
        let packets = format!("{sent} packets, {PACKETS_PER_S} a second");
        match (lost_there, lost_back) {
            (0, 0) => format!("{packets}, none lost"),
            _ => {
                let percent = 100.0 * self.lost() as f64 / *sent as f64;
                format!("{packets}, lost {lost_there} there and {lost_back} back ({percent:.1} %)")
            }
        }
    }
}

impl RoundTrips {
    /// In the order in which they were sent; `None` if there are none.
    fn of(in_order: &[Duration]) -> Option<Self> {
        let milliseconds = |rtt: Duration| rtt.as_micros() as f64 / 1e3;
        let mut sorted = in_order.to_vec();
        sorted.sort();
        // The smallest that so many of a hundred do not exceed.
        let percentile = |hundredths: usize| {
            let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().map(milliseconds)
        };
        let differences = in_order
            .windows(2)
            .map(|pair| milliseconds(pair[0].abs_diff(pair[1])));
        let jitter = differences.sum::<f64>() / (in_order.len().max(2) - 1) as f64;
        Some(Self {
            min: milliseconds(*sorted.first()?),
            median: percentile(50)?,
            p95: percentile(95)?,
            max: milliseconds(*sorted.last()?),
            jitter: (jitter * 1e3).round() / 1e3,
        })
    }

    /// The spread.
    pub(super) fn detail(&self) -> String {
        let Self {
            min,
            median,
            p95,
            max,
            ..
        } = self;
        format!(
            "min {min:.1}, median {median:.1}, p95 {p95:.1}, max \
             {max:.1}"
        )
    }
}

/// Sends packets on a channel of `near` for some time, which `far` sends back on its own.
pub(super) fn exchange(
    (near, near_channel): (&mut Client<'_>, ChannelNumber),
    (far, far_channel): (&mut Client<'_>, ChannelNumber),
    seconds: u32,
) -> Result<Traffic, Failure> {
    let tag = random_id();
    let done = AtomicBool::new(false);
    let packets = (seconds * PACKETS_PER_S) as usize;
    let deadline = Instant::now() + Duration::from_secs(seconds.into()) + 2 * LATE;
    let (sent_and_rtts, arrived) = thread::scope(|scope| {
        let echo = scope.spawn(|| reflect((far, far_channel), (packets, tag), &done, deadline));
        let sent_and_rtts = volley((near, near_channel), (packets, tag), deadline);
        done.store(true, Ordering::Relaxed);
        (sent_and_rtts, echo.join().expect("the echo does not panic"))
    });
    let ((sent, rtts), arrived) = (sent_and_rtts?, arrived?);
    Ok(Traffic {
        sent,
        lost_there: sent.saturating_sub(arrived),
        lost_back: arrived.saturating_sub(rtts.len()),
        packets_per_s: PACKETS_PER_S,
        packet_bytes: PACKET_LEN,
        round_trips: RoundTrips::of(&rtts),
    })
}

/// Sends the packets, and returns their number and the round-trip times of those that came back.
fn volley(
    (client, channel): (&mut Client<'_>, ChannelNumber),
    (packets, tag): (usize, TransactionId),
    deadline: Instant,
) -> Result<(usize, Vec<Duration>), Failure> {
    let pace = Duration::from_secs(1) / PACKETS_PER_S;
    let mut sent_at = Vec::with_capacity(packets);
    let mut rtts = vec![None; packets];
    let mut missing = packets;
    let mut next = Instant::now();
    while missing > 0 {
        let now = Instant::now();
        if sent_at.len() < packets && now >= next {
            client.send_channel_data(channel, &packet(sent_at.len(), tag))?;
            sent_at.push(now);
            // From the plan, not from now, so that lateness does not add up.
            next = if sent_at.len() < packets {
                next + pace
            } else {
                now + LATE
            };
        }
        match client.receive_data(next.min(deadline))? {
            Some((Source::Channel(number), data)) if number == channel => {
                let sent = sequence(&data, tag).and_then(|n| Some((n, *sent_at.get(n)?)));
                if let Some((sequence, sent_at)) = sent
                    && rtts[sequence].is_none()
                    && sent_at.elapsed() <= LATE
                {
                    rtts[sequence] = Some(sent_at.elapsed());
                    missing -= 1;
                }
            }
            Some(_) => {}
            None if sent_at.len() == packets || Instant::now() >= deadline => break,
            None => {}
        }
    }
    Ok((sent_at.len(), rtts.into_iter().flatten().collect()))
}

/// Sends every packet back that arrives, once, and returns how many did.
fn reflect(
    (client, channel): (&mut Client<'_>, ChannelNumber),
    (packets, tag): (usize, TransactionId),
    done: &AtomicBool,
    deadline: Instant,
) -> Result<usize, Failure> {
    let mut seen = vec![false; packets];
    while !done.load(Ordering::Relaxed) && Instant::now() < deadline {
        let received = client.receive_data(deadline.min(Instant::now() + ECHO_TICK))?;
        let Some((Source::Channel(number), data)) = received else {
            continue;
        };
        let sequence = sequence(&data, tag).filter(|&n| number == channel && n < packets);
        if let Some(sequence) = sequence
            && !std::mem::replace(&mut seen[sequence], true)
        {
            client.send_channel_data(channel, &data)?;
        }
    }
    Ok(seen.iter().filter(|&&seen| seen).count())
}

/// The tag of this run, then the sequence number, up to the end.
fn packet(sequence: usize, tag: TransactionId) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    for chunk in packet.chunks_exact_mut(4) {
        chunk.copy_from_slice(&(sequence as u32).to_be_bytes());
    }
    packet[..tag.0.len()].copy_from_slice(&tag.0);
    packet
}

/// The sequence number of a packet of this run that arrived whole.
fn sequence(data: &[u8], tag: TransactionId) -> Option<usize> {
    let sequence = u32::from_be_bytes(*data.last_chunk()?) as usize;
    (data == packet(sequence, tag)).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::cli::check::transport::{Link, Transport};

    const CHANNELS: [ChannelNumber; 2] = [ChannelNumber::MIN, ChannelNumber::MAX];

    /// Passes ChannelData on between two clients until there is none for a second, but for the
    /// packets of one in `every` numbers, each way.
    fn relay(sockets: &[UdpSocket; 2], every: [u32; 2]) {
        let mut buffer = [0; 1024];
        let (mut clients, mut idle_since) = ([None; 2], Instant::now());
        while idle_since.elapsed() < 2 * LATE {
            for (from, to) in [(0, 1), (1, 0)] {
                let Ok((len, client)) = sockets[from].recv_from(&mut buffer) else {
                    continue;
                };
                idle_since = Instant::now();
                clients[from] = Some(client);
                let packet = &mut buffer[..len];
                let number = u32::from_be_bytes(*packet.last_chunk().unwrap());
                if let Some(client) = clients[to].filter(|_| number % every[from] != 0) {
                    packet[..2].copy_from_slice(&CHANNELS[to].get().to_be_bytes());
                    sockets[to].send_to(packet, client).unwrap();
                }
            }
        }
    }

    #[test]
    fn loss_is_told_there_and_back() {
        let sockets = [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            socket
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut clients = [0, 1].map(|side| {
            let relay = sockets[side].local_addr().unwrap();
            let link = Link::open(Transport::Udp, relay, deadline).unwrap();
            Client::new(link, deadline)
        });
        // The relay learns where the far one is.
        clients[1].send_channel_data(CHANNELS[1], b"here").unwrap();
        let thread = thread::spawn(move || relay(&sockets, [10, 7]));
        let [near, far] = &mut clients;
        let traffic = exchange((near, CHANNELS[0]), (far, CHANNELS[1]), 1).unwrap();
        thread.join().unwrap();
        // 0, 10, 20, 30 and 40; then 7, 14, 21, 28, 35, 42 and 49.
        let counts = (traffic.sent, traffic.lost_there, traffic.lost_back);
        assert_eq!(counts, (50, 5, 7));
        let detail = "50 packets, 50 a second, lost 5 there and 7 back (24.0 %)";
        assert_eq!(traffic.detail(), detail);
    }

    fn round_trips(milliseconds: &[u64]) -> RoundTrips {
        let rtts = milliseconds.iter().copied().map(Duration::from_millis);
        RoundTrips::of(&Vec::from_iter(rtts)).unwrap()
    }

    #[test]
    fn percentiles_are_of_the_sorted_and_jitter_of_the_order() {
        let rtts = round_trips(&[10, 30, 20, 40]);
        assert_eq!(rtts.detail(), "min 10.0, median 20.0, p95 40.0, max 40.0");
        assert_eq!(rtts.jitter, 16.667);
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let rtts = round_trips(&hundred);
        assert_eq!((rtts.median, rtts.p95), (50.0, 95.0));
        assert_eq!((rtts.min, rtts.max), (1.0, 100.0));
        assert_eq!(rtts.jitter, 1.0);
        assert_eq!(round_trips(&[7]).jitter, 0.0);
        assert!(RoundTrips::of(&[]).is_none());
    }

    #[test]
    fn packets_of_another_run_and_broken_ones_do_not_count() {
        let tag = TransactionId([7; 12]);
        for number in [0, 255, 256, 70_000] {
            let mut packet = packet(number, tag);
            assert_eq!(sequence(&packet, tag), Some(number));
            assert_eq!(sequence(&packet, TransactionId([8; 12])), None);
            assert_eq!(sequence(&packet[1..], tag), None);
            packet[100] ^= 1;
            assert_eq!(sequence(&packet, tag), None);
        }
        assert_eq!(sequence(b"abc", tag), None);
    }
}
