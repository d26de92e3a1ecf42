//! Events of the core as log lines.
//!
//! One line when an allocation begins and one when it ends; one for each refusal, whose rate a
//! client decides and which is therefore limited. Credentials are in none of them.
//!
//! Refusals of which anybody may be the cause in anybody's name say "source unproven", and have a
//! limit of their own: such a flood cannot hide what real clients do, nor have anybody banned by
//! those who read the log (`docs/fail2ban`).

mod line_limit;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tracing::{Level, debug, enabled, info, warn};

use self::line_limit::LineLimit;
use super::clock;
use super::stream::{Ending, WebFailure, WebKind};
use crate::auth::AuthFailure;
use crate::turn::{
    AllocationId, BandwidthLimit, ClientRefusal, Counters, DropCause, Event, FiveTuple,
    PeerRefusal, Reject, SourcePrefix, Time, Way,
};
use crate::wire::Method;

/// Seconds between two lines about what the limits on strangers hold back.
const LIMITS_TOLD_S: u32 = 60;

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
    handshakes: LineLimit,
    headers: LineLimit,
    web: LineLimit,
    unproven: LineLimit,
    bandwidth: LineLimit,
    pub(super) resources: LineLimit,
    limits: LimitReport,
}

/// What was told of the limits on strangers.
#[derive(Debug)]
struct LimitReport {
    replies: u64,
    failures: u64,
    next: Time,
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
            handshakes: LineLimit::new("failed TLS handshakes"),
            headers: LineLimit::new("refused PROXY protocol headers"),
            web: LineLimit::new("connections not passed on"),
            unproven: LineLimit::new("refusals to unproven sources"),
            bandwidth: LineLimit::new("bandwidth limits"),
            resources: LineLimit::new("resource warnings"),
            limits: LimitReport {
                replies: 0,
                failures: 0,
                next: Time::from_millis(0),
            },
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
            handshakes,
            headers,
            web,
            unproven,
            bandwidth,
            resources,
            worker: _,
            limits: _,
        } = self;
        for limit in [
            authentication,
            requests,
            peers,
            clients,
            connection_limits,
            connections,
            handshakes,
            headers,
            web,
            unproven,
            bandwidth,
            resources,
        ] {
            limit.end_second(now);
        }
    }

    /// A limit keeps a connection out.
    pub(super) fn connection_refused(&mut self, client: SocketAddr, limit: Ending) {
        if self
            .connection_limits
            .admits_from(clock::time(), client.ip())
        {
            warn!(%client, "TCP connection refused: {limit}");
        }
    }

    /// A limit has a connection without an allocation closed for a new one.
    pub(super) fn connection_gave_way(
        &mut self,
        client: SocketAddr,
        closed: SocketAddr,
        limit: Ending,
    ) {
        if self
            .connection_limits
            .admits_from(clock::time(), client.ip())
        {
            warn!(client = %closed, new_client = %client, "TCP connection without an allocation closed for a new one: {limit}");
        }
    }

    /// The server ends a connection: a limit is a warning, and everything else is between it and
    /// the client.
    pub(super) fn connection_ended(&mut self, client: SocketAddr, ending: Ending) {
        let now = clock::time();
        if matches!(
            ending,
            Ending::ProxyUntrusted | Ending::ProxyMissing | Ending::ProxyBroken
        ) {
            if self.headers.admits_from(now, client.ip()) {
                info!(%client, "TCP connection closed: {ending}{}", remedy(ending));
            }
        } else if ending.is_limit() {
            if self.connection_limits.admits_from(now, client.ip()) {
                warn!(%client, "TCP connection closed: {ending}");
            }
        } else if enabled!(Level::DEBUG) && self.connections.admits_from(now, client.ip()) {
            debug!(%client, "TCP connection closed: {ending}");
        }
    }

    /// A limit keeps a connection from a web server.
    pub(super) fn not_passed_on(&mut self, client: SocketAddr, kind: WebKind, failure: WebFailure) {
        if self.web.admits_from(clock::time(), client.ip()) {
            let limit = match failure {
                WebFailure::Memory => "a quarter of limits.tcp_queues_total_bytes",
                _ => "web.connections or limits.tcp_connections_per_address",
            };
            let key = kind.key();
            warn!(%client, "connection for {key} closed: {limit} reached");
        }
    }

    /// A limit has a connection that a web server has closed for a new one.
    pub(super) fn web_gave_way(&mut self, client: SocketAddr, closed: SocketAddr) {
        if self.web.admits_from(clock::time(), client.ip()) {
            warn!(client = %closed, new_client = %client, "connection that a web server had closed for a new one: web.connections or limits.tcp_connections_per_address reached");
        }
    }

    /// A connection could not be made to a web server.
    pub(super) fn not_connected(
        &mut self,
        kind: WebKind,
        server: SocketAddr,
        failure: WebFailure,
        error: &io::Error,
    ) {
        if !self.web.admits(clock::time()) {
            return;
        }
        let key = kind.key();
        if failure == WebFailure::Resources {
            warn!(%server, %error, "cannot pass a connection on to {key}; is LimitNOFILE large enough?");
        } else {
            warn!(%server, %error, "cannot pass a connection on: start the web server, or correct {key}");
        }
    }

    /// A client and the server do not come to terms about TLS.
    pub(super) fn handshake_failed(&mut self, client: SocketAddr, failure: &dyn fmt::Display) {
        if self.handshakes.admits_from(clock::time(), client.ip()) {
            info!(%client, reason = %failure, "TLS handshake failed");
        }
    }

    /// Streams have lost frames since this was last said. Returns whether it is said now.
    pub(super) fn frames_dropped(&mut self, frames: u64) -> bool {
        let limit = Ending::MemoryLimit;
        let admitted = self.connection_limits.admits(clock::time());
        if admitted {
            warn!(frames, "frames of slow TCP clients dropped: {limit}");
        }
        admitted
    }

    /// Says what the limits on strangers have held back since it was said last, and whom the last
    /// reply would have gone to.
    pub(super) fn tell_limits(
        &mut self,
        now: Time,
        counters: &Counters,
        last_limited: Option<SourcePrefix>,
    ) {
        let replies = counters.dropped(DropCause::ReplyLimit);
        let failures = counters.dropped(DropCause::FailureLimit);
        let told = &self.limits;
        if now < told.next || (replies, failures) == (told.replies, told.failures) {
            return;
        }
        if let Some(network) = last_limited.filter(|_| replies > told.replies) {
            warn!(
                dropped = replies - told.replies,
                %network,
                "limits.unauthenticated_replies_per_s reached: requests not answered, \
                 whose sources may be forged"
            );
        }
        if failures > told.failures {
            warn!(
                dropped = failures - told.failures,
                "limits.failed_authentications_per_minute: failures not answered any more"
            );
        }
        self.limits = LimitReport {
            replies,
            failures,
            next: now.plus_secs(LIMITS_TOLD_S),
        };
    }

    /// Writes what is worth a line. Returns `false` if it is a refused request beyond the limit of
    /// lines.
    pub(super) fn write(&mut self, event: &Event) -> bool {
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
                user = name(username),
                client = %five_tuple.client,
                transport = %five_tuple.transport,
                relayed = %Relayed(*relayed),
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
                user = name(username),
                client = %five_tuple.client,
                transport = %five_tuple.transport,
                relayed = %Relayed(*relayed),
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
                reject,
                from_there,
            } => {
                let username = username.as_deref().unwrap_or_default();
                return self.write_refusal(five_tuple, *method, username, reject, *from_there);
            }
            Event::ClientRefused {
                five_tuple,
                refusal,
            } => self.write_refused_client(five_tuple, *refusal),
            Event::PeerRefused {
                five_tuple,
                username,
                peer,
                refusal,
            } => self.write_refused_peer(five_tuple, username, *peer, refusal),
            Event::BandwidthExceeded {
                id,
                five_tuple,
                username,
                way,
                limit,
            } => self.write_dropped(*id, five_tuple, username, *way, *limit),
        }
        true
    }

    fn write_refused_peer(
        &mut self,
        five_tuple: &FiveTuple,
        username: &str,
        peer: SocketAddr,
        refusal: &PeerRefusal,
    ) {
        if self
            .peers
            .admits_from(clock::time(), five_tuple.client.ip())
        {
            info!(
                client = %five_tuple.client,
                user = name(username),
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
        if self
            .bandwidth
            .admits_from(clock::time(), five_tuple.client.ip())
        {
            info!(
                id = %format_args!("{worker:x}-{id}"),
                user = name(username),
                client = %five_tuple.client,
                %way,
                reason = %format_args!("{limit} reached"),
                "packets dropped"
            );
        }
    }

    fn write_refused_client(&mut self, five_tuple: &FiveTuple, refusal: ClientRefusal) {
        if self
            .clients
            .admits_from(clock::time(), five_tuple.client.ip())
        {
            let (client, transport) = (five_tuple.client, five_tuple.transport);
            info!(%client, %transport, reason = %refusal, "client refused");
        }
    }

    fn write_refusal(
        &mut self,
        five_tuple: &FiveTuple,
        method: Method,
        username: &str,
        reject: &Reject,
        from_there: bool,
    ) -> bool {
        let is_authentication =
            matches!(reject, Reject::Authentication(_) | Reject::TooManyFailures);
        let (limit, what) = match (is_authentication, from_there) {
            (true, true) => (&mut self.authentication, "authentication failed"),
            (true, false) => (&mut self.unproven, "authentication failed, source unproven"),
            (false, true) => (&mut self.requests, "request refused"),
            (false, false) => (&mut self.unproven, "request refused, source unproven"),
        };
        let (client, transport) = (five_tuple.client, five_tuple.transport);
        if !limit.admits_from(clock::time(), client.ip()) {
            return false;
        }
        let (user, method) = (name(username), method.name());
        let code = reject.code().number();
        if let Reject::Authentication(AuthFailure::Expired { expiry_unix_s, .. }) = reject {
            info!(
                %client, %transport, user, method, code,
                reason = "credential expired",
                expiry_unix_s,
                now_unix_s = clock::unix_s(),
                "{what}"
            );
        } else {
            info!(%client, %transport, user, method, code, reason = %reject, "{what}");
        }
        true
    }
}

/// What the operator can do about the end of a connection.
fn remedy(ending: Ending) -> &'static str {
    match ending {
        Ending::ProxyUntrusted => "; add it there if it is a proxy of yours",
        Ending::ProxyMissing => "; have the proxy send one (send-proxy-v2), or take it out there",
        _ => "",
    }
}

/// A name that a client sent, of a bounded length. The log quotes it; what JSON does not escape of the
/// characters that a terminal obeys is left out.
fn name(username: &str) -> String {
    /// Characters of a name that are worth a log line.
    const CHARS_MAX: usize = 128;
    let is_obeyed = |c: char| matches!(c, '\u{7f}'..='\u{9f}');
    let characters = username.chars().take(CHARS_MAX);
    let visible = |c| {
        if is_obeyed(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    characters.map(visible).collect()
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
    use crate::turn::Transport;

    /// Who guesses passwords is banned over whatever transport.
    #[test]
    fn the_filter_of_fail2ban_knows_every_transport() {
        let filter = include_str!("../../../docs/fail2ban/filter.d/turnstone.conf");
        let names: Vec<String> = Transport::ALL.iter().map(ToString::to_string).collect();
        let names = format!("(?:{})", names.join("|"));
        assert_eq!(filter.matches(&names).count(), 2, "text and JSON");
    }

    #[test]
    fn names_are_cut_and_obeyed_by_nobody() {
        assert_eq!(name(&"é".repeat(1000)), "é".repeat(128));
        assert_eq!(name("a\u{9b}31m\u{7f}"), "a\u{fffd}31m\u{fffd}");
        assert_eq!(name("1767225600:alice"), "1767225600:alice");
    }
}
