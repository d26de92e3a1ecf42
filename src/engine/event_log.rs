//! Events of the core as log lines.
//!
//! One line when an allocation begins and one when it ends; one for each refusal, whose rate a
//! client decides and which is therefore limited. Credentials are in none of them.

use std::fmt;
use std::net::SocketAddr;

use tracing::{Level, debug, enabled, info, warn};

use super::clock;
use super::stream::Ending;
use crate::auth::AuthFailure;
use crate::turn::{ClientRefusal, Event, FiveTuple, Reject, Time};
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
    clients: LineLimit,
    connection_limits: LineLimit,
    connections: LineLimit,
    pub(super) resources: LineLimit,
}

impl EventLog {
    pub(super) const fn new(worker: usize) -> Self {
        Self {
            worker,
            authentication: LineLimit::new("failed authentications"),
            requests: LineLimit::new("refused requests"),
            peers: LineLimit::new("refused peers"),
            clients: LineLimit::new("refused clients"),
            connection_limits: LineLimit::new("TCP connections at a limit"),
            connections: LineLimit::new("closed TCP connections"),
            resources: LineLimit::new("resource warnings"),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        let Self {
            authentication,
            requests,
            peers,
            clients,
            connection_limits,
            connections,
            resources,
            worker: _,
        } = self;
        for limit in [
            authentication,
            requests,
            peers,
            clients,
            connection_limits,
            connections,
            resources,
        ] {
            limit.end_second(now);
        }
    }

    /// A limit keeps a connection out.
    pub(super) fn connection_refused(&mut self, client: SocketAddr, limit: Ending) {
        if self.connection_limits.admits(clock::time()) {
            warn!(%client, "TCP connection refused: {limit}");
        }
    }

    /// A limit has a silent connection closed for a new one.
    pub(super) fn connection_gave_way(
        &mut self,
        client: SocketAddr,
        closed: SocketAddr,
        limit: Ending,
    ) {
        if self.connection_limits.admits(clock::time()) {
            warn!(client = %closed, new_client = %client, "silent TCP connection closed for a new one: {limit}");
        }
    }

    /// The server ends a connection: a limit is a warning, and everything else is between it and
    /// the client.
    pub(super) fn connection_ended(&mut self, client: SocketAddr, ending: Ending) {
        let now = clock::time();
        if ending.is_limit() {
            if self.connection_limits.admits(now) {
                warn!(%client, "TCP connection closed: {ending}");
            }
        } else if enabled!(Level::DEBUG) && self.connections.admits(now) {
            debug!(%client, "TCP connection closed: {ending}");
        }
    }

    /// Streams have lost frames since this was last said.
    pub(super) fn frames_dropped(&mut self, frames: u64) {
        let limit = Ending::MemoryLimit;
        if self.connection_limits.admits(clock::time()) {
            warn!(frames, "frames of slow TCP clients dropped: {limit}");
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
            Event::ClientRefused {
                five_tuple,
                refusal,
            } => self.write_refused_client(&five_tuple, refusal),
            Event::PeerRefused {
                five_tuple,
                username,
                peer,
                refusal,
            } => {
                if self.peers.admits(clock::time()) {
                    info!(
                        client = %five_tuple.client,
                        user = %Printable(&username),
                        %peer,
                        reason = %refusal,
                        "peer refused"
                    );
                }
            }
        }
    }

    fn write_refused_client(&mut self, five_tuple: &FiveTuple, refusal: ClientRefusal) {
        if self.clients.admits(clock::time()) {
            let (client, transport) = (five_tuple.client, five_tuple.transport);
            info!(%client, %transport, reason = %refusal, "client refused");
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
