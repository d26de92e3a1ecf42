//! The numbers of one worker, as plain numbers.

use std::time::Duration;

use crate::turn::{Counters, DropCause};

/// Why the server refuses TCP connections or ends them.
pub const TCP_ENDINGS: [&str; 21] = [
    "connection_limit",
    "address_limit",
    "half_open_limit",
    "memory_limit",
    "no_first_message",
    "no_allocation",
    "frame_too_long",
    "not_turn",
    "not_tls",
    "no_certificate",
    "hello_too_long",
    "tls_handshake",
    "tls_broken",
    "proxy_untrusted",
    "proxy_missing",
    "proxy_broken",
    "client_refused",
    "replaced",
    "listener_closed",
    "passed_on",
    "not_passed_on",
];

/// Kinds of connections that web servers get.
pub const WEB_KINDS: [&str; 2] = ["https", "http"];

/// Why connections were not passed on to web servers.
pub const WEB_FAILURES: [&str; 4] = [
    "connection_limit",
    "memory_limit",
    "unreachable",
    "no_resources",
];

/// What was passed on to web servers, each by [`WEB_KINDS`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Web {
    /// Connections that were taken on.
    pub passed_on: [u64; WEB_KINDS.len()],
    /// Those that are open.
    pub open: [u64; WEB_KINDS.len()],
    /// Bytes from clients.
    pub bytes_to_servers: [u64; WEB_KINDS.len()],
    /// Bytes to clients.
    pub bytes_to_clients: [u64; WEB_KINDS.len()],
    /// Connections that were not passed on, by [`WEB_FAILURES`].
    pub failures: [u64; WEB_FAILURES.len()],
}

impl Web {
    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            passed_on,
            open,
            bytes_to_servers,
            bytes_to_clients,
            failures,
        } = self;
        let by_kind = [passed_on, open, bytes_to_servers, bytes_to_clients];
        by_kind.into_iter().flatten().chain(failures)
    }
}

/// Kinds of TLS handshakes: the version, and whether keys were made or an earlier session resumed.
pub const TLS_HANDSHAKES: [(&str, &str); 4] = [
    ("1.2", "full"),
    ("1.2", "resumed"),
    ("1.3", "full"),
    ("1.3", "resumed"),
];

/// Everything that a worker has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What the protocol counted.
    pub protocol: Counters,
    /// What its host counted.
    pub host: Host,
}

impl Sample {
    /// Packets that went nowhere, by cause: the protocol's causes, then the host's.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let Self { protocol, host } = self;
        let causes = DropCause::ALL.iter();
        let causes = causes.map(|&cause| (cause.name(), protocol.dropped(cause)));
        causes.chain([
            ("listener_overflow", host.listener_overflows),
            ("relay_overflow", host.relay_overflows),
            ("not_sent", host.not_sent),
            ("tcp_queue_full", host.tcp_queue_full),
            ("tcp_memory", host.tcp_memory),
        ])
    }

    /// Every number, in an order that is always the same.
    pub(super) fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self { protocol, host } = self;
        protocol.numbers_mut().chain(host.numbers_mut())
    }
}

/// What the sockets and the threads did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// Datagrams that a call received from a listener.
    pub listener_batches: BatchSizes,
    /// Datagrams that a call received from a relay socket.
    pub relay_batches: BatchSizes,
    /// Datagrams that the kernel dropped at listeners, whose buffers were full.
    pub listener_overflows: u64,
    /// Datagrams that the kernel dropped at relay sockets, likewise.
    pub relay_overflows: u64,
    /// Datagrams that the kernel did not send.
    pub not_sent: u64,
    /// Frames that a slow TCP client lost.
    pub tcp_queue_full: u64,
    /// Frames that TCP clients lost because all of them together were slow.
    pub tcp_memory: u64,
    /// Bytes of those frames.
    pub tcp_queue_full_bytes: u64,
    /// Likewise.
    pub tcp_memory_bytes: u64,
    /// TLS handshakes that succeeded, by [`TLS_HANDSHAKES`].
    pub tls_handshakes: [u64; TLS_HANDSHAKES.len()],
    /// TCP connections that were let in.
    pub tcp_accepted: u64,
    /// TCP connections that have been answered, and are open.
    pub tcp_established: u64,
    /// TCP connections that have not.
    pub tcp_half_open: u64,
    /// TCP connections that were closed at once, by [`TCP_ENDINGS`].
    pub tcp_refused: [u64; TCP_ENDINGS.len()],
    /// TCP connections that the server ended, likewise.
    pub tcp_ended: [u64; TCP_ENDINGS.len()],
    /// TCP connections that their clients ended.
    pub tcp_ended_by_client: u64,
    /// What web servers got.
    pub web: Web,
    /// What DTLS listeners met.
    pub dtls: Dtls,
    /// The time that the thread has computed, in nanoseconds.
    pub cpu_ns: u64,
    /// How late the timer was that comes once a second.
    pub tick_delays: TickDelays,
    /// 1 if new allocations are refused because the operator wants it.
    pub draining: u64,
}

impl Host {
    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            listener_batches,
            relay_batches,
            listener_overflows,
            relay_overflows,
            not_sent,
            tcp_queue_full,
            tcp_memory,
            tcp_queue_full_bytes,
            tcp_memory_bytes,
            tls_handshakes,
            tcp_accepted,
            tcp_established,
            tcp_half_open,
            tcp_refused,
            tcp_ended,
            tcp_ended_by_client,
            web,
            dtls,
            cpu_ns,
            tick_delays,
            draining,
        } = self;
        let plain = [
            listener_overflows,
            relay_overflows,
            not_sent,
            tcp_queue_full,
            tcp_memory,
            tcp_queue_full_bytes,
            tcp_memory_bytes,
            tcp_accepted,
            tcp_established,
            tcp_half_open,
            tcp_ended_by_client,
            cpu_ns,
            draining,
        ];
        plain
            .into_iter()
            .chain(&mut listener_batches.calls)
            .chain([&mut listener_batches.datagrams])
            .chain(&mut relay_batches.calls)
            .chain([&mut relay_batches.datagrams])
            .chain(tls_handshakes)
            .chain(web.numbers_mut())
            .chain(dtls.numbers_mut())
            .chain(tcp_refused)
            .chain(tcp_ended)
            .chain(&mut tick_delays.ticks)
            .chain([&mut tick_delays.total_us])
    }
}

/// What DTLS listeners met. All zero in a build without DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dtls {
    /// Cookies that were sent.
    pub cookies: u64,
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Datagrams that are no DTLS.
    pub not_dtls: u64,
    /// Records and ClientHellos that are broken, or not whole in one datagram.
    pub malformed: u64,
    /// Records of nobody's session.
    pub no_session: u64,
    /// Records of data that are not authentic, or came twice.
    pub discarded: u64,
    /// ClientHellos with a cookie while as many sessions began as may at a time.
    pub busy: u64,
}

impl Dtls {
    /// What was dropped, and why.
    pub(super) const fn drops(&self) -> [(&'static str, u64); 5] {
        [
            ("not_dtls", self.not_dtls),
            ("malformed", self.malformed),
            ("no_session", self.no_session),
            ("discarded", self.discarded),
            ("busy", self.busy),
        ]
    }

    fn numbers_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let Self {
            cookies,
            handshakes,
            not_dtls,
            malformed,
            no_session,
            discarded,
            busy,
        } = self;
        [
            cookies, handshakes, not_dtls, malformed, no_session, discarded, busy,
        ]
        .into_iter()
    }
}

/// How many datagrams a receiving call brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchSizes {
    /// Calls, by the power of two that their datagrams reach at most.
    pub(super) calls: [u64; Self::BOUNDS.len()],
    pub(super) datagrams: u64,
}

impl BatchSizes {
    /// What a bucket holds at most; the last one is the size of a batch.
    pub(super) const BOUNDS: [u32; 7] = [1, 2, 4, 8, 16, 32, 64];

    /// Counts a call that brought something.
    pub const fn count(&mut self, datagrams: usize) {
        if datagrams > 0 {
            let bucket = datagrams.next_power_of_two().trailing_zeros() as usize;
            let last = self.calls.len() - 1;
            self.calls[if bucket < last { bucket } else { last }] += 1;
            self.datagrams += datagrams as u64;
        }
    }
}

/// How late a timer was.
#[derive(Clone, Copy, Debug, Default)]
pub struct TickDelays {
    pub(super) ticks: [u64; Self::BOUNDS_MS.len() + 1],
    pub(super) total_us: u64,
}

impl TickDelays {
    /// What a bucket holds at most, in milliseconds, which are the timer's own unit; one more is for
    /// what is beyond.
    pub(super) const BOUNDS_MS: [u64; 8] = [2, 5, 10, 25, 50, 100, 250, 1000];

    /// Counts a tick.
    pub fn count(&mut self, delay: Duration) {
        let bucket = Self::BOUNDS_MS
            .iter()
            .position(|&bound| delay <= Duration::from_millis(bound))
            .unwrap_or(Self::BOUNDS_MS.len());
        self.ticks[bucket] += 1;
        self.total_us += delay.as_micros() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_one_of_the_numbers() {
        let mut sample = Sample::default();
        let count = sample.numbers_mut().count();
        assert_eq!(count, size_of::<Sample>() / size_of::<u64>());
        for (value, number) in (1..).zip(sample.numbers_mut()) {
            *number = value;
        }
        let sum: u64 = sample.numbers_mut().map(|number| *number).sum();
        assert_eq!(sum, (1..=count as u64).sum::<u64>());
    }

    #[test]
    fn a_batch_is_counted_where_it_fits() {
        let mut sizes = BatchSizes::default();
        for datagrams in [0, 1, 2, 3, 4, 5, 33, 64, 65] {
            sizes.count(datagrams);
        }
        assert_eq!(sizes.calls, [1, 1, 2, 1, 0, 0, 3]);
        assert_eq!(sizes.datagrams, 177);
    }

    #[test]
    fn a_delay_is_counted_where_it_fits() {
        let mut delays = TickDelays::default();
        for us in [0, 2000, 2001, 1_000_000, 1_000_001, 60_000_000] {
            delays.count(Duration::from_micros(us));
        }
        assert_eq!(delays.ticks, [2, 1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(delays.total_us, 62_004_002);
    }
}
