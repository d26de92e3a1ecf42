//! Events of the core as log lines.
//!
//! One line when an allocation begins and one when it ends; one for each refusal, whose rate a
//! client decides and which is therefore limited. Credentials are in none of them.

use std::fmt;
use std::net::SocketAddr;

use tracing::{debug, info, warn};

use super::clock;
use crate::auth::AuthFailure;
use crate::turn::{AllocationId, BandwidthLimit, Event, FiveTuple, PeerRefusal, Reject, Time, Way};
use crate::wire::Method;

/// Lines of one kind that a worker writes in a second.
const LINES_PER_S: u32 = 10;

/// Writes the lines of one worker.
#[derive(Debug)]
pub(super) struct EventLog {
    worker: usize,
    authentication: LineLimit,
    requests: LineLimit,
    peers: LineLimit,
    bandwidth: LineLimit,
    pub(super) resources: LineLimit,
}

impl EventLog {
    pub(super) const fn new(worker: usize) -> Self {
        Self {
            worker,
            authentication: LineLimit::new("failed authentications"),
            requests: LineLimit::new("refused requests"),
            peers: LineLimit::new("refused peers"),
            bandwidth: LineLimit::new("bandwidth limits"),
            resources: LineLimit::new("resource warnings"),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        let Self {
            authentication,
            requests,
            peers,
            bandwidth,
            resources,
            ..
        } = self;
        for limit in [authentication, requests, peers, bandwidth, resources] {
            limit.end_second(now);
        }
    }

    pub(super) fn write(&mut self, event: Event) {
        let worker = self.worker;
        match event {
            Event::AllocationCreated {
                id,
                five_tuple,
                username,
                relayed,
                lifetime_s,
            } => info!(
                id = %format_args!("{worker:x}-{id}"),
                user = %Printable(&username),
                client = %five_tuple.client,
                transport = %five_tuple.transport,
                relayed = %Relayed(relayed),
                lifetime_s,
                "allocation created"
            ),
            Event::AllocationClosed {
                id,
                five_tuple,
                username,
                relayed,
                reason,
                duration,
                usage,
            } => info!(
                id = %format_args!("{worker:x}-{id}"),
                user = %Printable(&username),
                client = %five_tuple.client,
                transport = %five_tuple.transport,
                relayed = %Relayed(relayed),
                %reason,
                duration_s = duration.as_secs(),
                packets_to_peers = usage.packets_to_peers,
                bytes_to_peers = usage.bytes_to_peers,
                packets_to_client = usage.packets_to_client,
                bytes_to_client = usage.bytes_to_client,
                dropped_to_client = usage.dropped_to_client,
                limited_to_peers = usage.limited_to_peers,
                limited_to_client = usage.limited_to_client,
                peers = usage.peers,
                "allocation closed"
            ),
            Event::AllocationRefreshed { id, lifetime_s } => {
                debug!(id = %format_args!("{worker:x}-{id}"), lifetime_s, "allocation refreshed");
            }
            Event::ChannelBound { id, number, peer } => {
                debug!(id = %format_args!("{worker:x}-{id}"), channel = %number, %peer, "channel bound");
            }
            Event::PermissionsInstalled { id, peers } => {
                debug!(id = %format_args!("{worker:x}-{id}"), ?peers, "permissions installed");
            }
            Event::RequestRefused {
                five_tuple,
                method,
                username,
                reject: Reject::Authentication(failure),
            } => {
                let username = username.as_deref().unwrap_or_default();
                self.write_authentication_failure(&five_tuple, method, username, failure);
            }
            Event::RequestRefused {
                five_tuple,
                method,
                username,
                reject,
            } => {
                if self.requests.admits(clock::time()) {
                    info!(
                        client = %five_tuple.client,
                        transport = %five_tuple.transport,
                        user = %Printable(username.as_deref().unwrap_or_default()),
                        method = method.name(),
                        code = reject.code().number(),
                        reason = %reject,
                        "request refused"
                    );
                }
            }
            Event::PeerRefused {
                five_tuple,
                username,
                peer,
                refusal,
            } => self.write_refused_peer(&five_tuple, &username, peer, &refusal),
            Event::BandwidthExceeded {
                id,
                five_tuple,
                username,
                way,
                limit,
            } => self.write_dropped(id, &five_tuple, &username, way, limit),
        }
    }

    fn write_refused_peer(
        &mut self,
        five_tuple: &FiveTuple,
        username: &str,
        peer: SocketAddr,
        refusal: &PeerRefusal,
    ) {
        if self.peers.admits(clock::time()) {
            info!(
                client = %five_tuple.client,
                user = %Printable(username),
                %peer,
                reason = %refusal,
                "peer refused"
            );
        }
    }

    fn write_dropped(
        &mut self,
        id: AllocationId,
        five_tuple: &FiveTuple,
        username: &str,
        way: Way,
        limit: BandwidthLimit,
    ) {
        let worker = self.worker;
        if self.bandwidth.admits(clock::time()) {
            info!(
                id = %format_args!("{worker:x}-{id}"),
                user = %Printable(username),
                client = %five_tuple.client,
                %way,
                reason = %format_args!("{limit} reached"),
                "packets dropped"
            );
        }
    }

    fn write_authentication_failure(
        &mut self,
        five_tuple: &FiveTuple,
        method: Method,
        username: &str,
        failure: AuthFailure,
    ) {
        if !self.authentication.admits(clock::time()) {
            return;
        }
        let (client, transport) = (five_tuple.client, five_tuple.transport);
        let (user, method) = (Printable(username), method.name());
        let code = Reject::Authentication(failure.clone()).code().number();
        if let AuthFailure::Expired { expiry_unix_s, .. } = failure {
            info!(
                %client, %transport, %user, method, code,
                reason = "credential expired",
                expiry_unix_s,
                now_unix_s = clock::unix_s(),
                "authentication failed"
            );
        } else {
            info!(%client, %transport, %user, method, code, reason = %failure, "authentication failed");
        }
    }
}

/// Admits so many lines a second, and says afterwards how many it kept back.
#[derive(Debug)]
pub(super) struct LineLimit {
    kind: &'static str,
    second: u64,
    lines: u32,
}

impl LineLimit {
    const fn new(kind: &'static str) -> Self {
        Self {
            kind,
            second: 0,
            lines: 0,
        }
    }

    /// Whether one more line may be written.
    pub(super) fn admits(&mut self, now: Time) -> bool {
        self.end_second(now);
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES_PER_S
    }

    /// Says how many lines the last second was short of, once it is over.
    fn end_second(&mut self, now: Time) {
        let second = now.as_millis() / 1000;
        if second == self.second {
            return;
        }
        let suppressed = self.lines.saturating_sub(LINES_PER_S);
        (self.second, self.lines) = (second, 0);
        if suppressed > 0 {
            warn!(
                suppressed,
                "{} not logged: more than {LINES_PER_S} a second", self.kind
            );
        }
    }
}

/// A name that a client sent: of a bounded length, and in quotes unless it is a plain word, so that
/// it can pass for nothing else in the line.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Characters of a name that are worth a log line.
        const CHARS_MAX: usize = 128;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:@+-".contains(c);
        if self.0.len() <= CHARS_MAX && self.0.chars().all(is_plain) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        self.0
            .chars()
            .take(CHARS_MAX)
            .try_for_each(|c| write!(f, "{}", c.escape_debug()))?;
        f.write_str("\"")
    }
}

/// One relayed address, or both of a dual allocation.
struct Relayed([Option<SocketAddr>; 2]);

impl fmt::Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [Some(v4), Some(v6)] => write!(f, "{v4},{v6}"),
            [Some(one), None] | [None, Some(one)] => one.fmt(f),
            [None, None] => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-18
    #[test]
    fn ten_lines_a_second_and_no_more() {
        let mut limit = LineLimit::new("test lines");
        let second = Time::from_millis(5_000);
        let admitted = (0..100_000).filter(|_| limit.admits(second)).count();
        assert_eq!(admitted, LINES_PER_S as usize);
        assert!(limit.admits(Time::from_millis(6_000)));
    }

    #[test]
    fn names_cannot_forge_lines() {
        let name = format!("a\nallocation created\u{1b}[31m{}", "x".repeat(1000));
        let printed = Printable(&name).to_string();
        assert!(!printed.contains('\n') && !printed.contains('\u{1b}'));
        assert!(printed.len() < 300);
        let name = "x client=192.0.2.1:1 user=\"root\"";
        let printed = Printable(name).to_string();
        assert_eq!(printed, r#""x client=192.0.2.1:1 user=\"root\"""#);
        assert_eq!(
            Printable("1767225600:alice").to_string(),
            "1767225600:alice"
        );
    }
}
