//! Every metric: name, kind, labels, what it means, and where its numbers come from.
//!
//! Names follow OpenMetrics: base units, `_total` for what only grows. `docs/metrics.md`, the
//! dashboard and the alerting rules name nothing that is not here, which a test holds them to.

use std::fmt;

use super::collector::{Source, Writer};
use super::process;
use super::reloads::unix_s;
use super::sample::{BatchSizes, TCP_ENDINGS, TLS_HANDSHAKES, TickDelays, WEB_FAILURES, WEB_KINDS};
use crate::turn::{
    CloseReason, FailedAuthentication, Limit, PeerRefusal, REQUEST_METHODS, Relayed, Transport,
};
use crate::wire::{ErrorCode, Family};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often a value was how large.
    Histogram,
    /// It says something by its labels, and is always 1.
    Info,
}

impl Kind {
    /// OpenMetrics' name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric.
#[derive(Clone, Copy)]
pub struct Definition {
    /// As queries name it; of a histogram without `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    pub(super) write: fn(&Source<'_>, &mut Writer<'_>) -> fmt::Result,
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

macro_rules! metrics {
    ($($kind:ident $name:literal [$($label:literal),*] $help:literal => $write:expr;)*) => {
        /// Every metric.
        pub const TABLE: &[Definition] = &[$(Definition {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            write: $write,
        },)*];
    };
}

metrics! {
    Info "turnstone_build_info" ["version"]
        "The version that runs"
        => |_, out| out.number(&[env!("CARGO_PKG_VERSION")], 1u64);
    Gauge "turnstone_draining" []
        "1 while new allocations are refused because the operator wants it"
        => |it, out| out.number(&[], u64::from(it.total.host.draining > 0));
    Gauge "turnstone_allocations" ["transport", "family"]
        "Allocations, by transport and address family of the client"
        => |it, out| by_client(out, &[], |transport, family| {
            let created = *it.total.protocol.created.of(transport, family);
            created.saturating_sub(*it.total.protocol.ended.of(transport, family))
        });
    Counter "turnstone_allocations_created_total" ["transport", "family"]
        "Allocations that were made, by transport and address family of the client"
        => |it, out| by_client(out, &[], |transport, family| {
            *it.total.protocol.created.of(transport, family)
        });
    Counter "turnstone_allocations_ended_total" ["reason"]
        "Allocations that ended"
        => |it, out| CloseReason::ALL.iter().try_for_each(|&reason| {
            out.number(&[reason.name()], it.total.protocol.closed(reason))
        });
    Counter "turnstone_relayed_packets_total" ["transport", "family", "direction"]
        "Datagrams relayed, by transport and address family of the client"
        => |it, out| relayed(it, out, |it| (it.packets_to_peers, it.packets_to_client));
    Counter "turnstone_relayed_bytes_total" ["transport", "family", "direction"]
        "Application data relayed, by transport and address family of the client"
        => |it, out| relayed(it, out, |it| (it.bytes_to_peers, it.bytes_to_client));
    Counter "turnstone_dropped_packets_total" ["cause"]
        "Packets that went nowhere"
        => dropped;
    Counter "turnstone_requests_total" ["method"]
        "STUN and TURN requests, retransmissions included"
        => |it, out| REQUEST_METHODS.iter().try_for_each(|&method| {
            out.number(&[method.name()], it.total.protocol.requests(method))
        });
    Counter "turnstone_replies_total" ["method", "code"]
        "Replies to requests, by error code or success"
        => replies;
    Counter "turnstone_challenges_total" []
        "Replies (401) to requests without credentials, which every client begins with"
        => |it, out| out.number(&[], it.total.protocol.challenges);
    Counter "turnstone_authentication_failures_total" ["reason"]
        "Requests whose credentials do not do, answered or not"
        => |it, out| FailedAuthentication::ALL.iter().try_for_each(|&failure| {
            out.number(&[failure.name()], it.total.protocol.failed(failure))
        });
    Counter "turnstone_refused_peers_total" ["class"]
        "Requests for peers that are not relayed to, by class of address"
        => |it, out| PeerRefusal::ALL.iter().try_for_each(|&refusal| {
            out.number(&[refusal.name()], it.total.protocol.peers_refused(refusal))
        });
    Counter "turnstone_limits_reached_total" ["limit"]
        "Requests that a limit refused"
        => |it, out| Limit::ALL.iter().try_for_each(|&limit| {
            out.number(&[limit.name()], it.total.protocol.limited(limit))
        });
    Gauge "turnstone_relay_ports" ["state"]
        "Relay ports on all relay addresses: live, held (being bound, or for a token), resting or free"
        => relay_ports;
    Gauge "turnstone_tcp_connections" ["state"]
        "Open TCP connections of clients: half_open until they are first answered"
        => |it, out| {
            out.number(&["established"], it.total.host.tcp_established)?;
            out.number(&["half_open"], it.total.host.tcp_half_open)
        };
    Counter "turnstone_tcp_connections_accepted_total" []
        "TCP connections that were let in"
        => |it, out| out.number(&[], it.total.host.tcp_accepted);
    Counter "turnstone_tcp_connections_refused_total" ["reason"]
        "TCP connections that were closed at once"
        => |it, out| endings(out, &it.total.host.tcp_refused);
    Counter "turnstone_tcp_connections_ended_total" ["reason"]
        "TCP connections that ended after they were let in"
        => |it, out| {
            out.number(&["client"], it.total.host.tcp_ended_by_client)?;
            endings(out, &it.total.host.tcp_ended)
        };
    Counter "turnstone_tcp_dropped_bytes_total" ["cause"]
        "Data that slow TCP clients lost, in whole frames: queue_full by each, memory by all together"
        => |it, out| {
            out.number(&["queue_full"], it.total.host.tcp_queue_full_bytes)?;
            out.number(&["memory"], it.total.host.tcp_memory_bytes)
        };
    Counter "turnstone_tls_handshakes_total" ["version", "kind"]
        "TLS handshakes that succeeded"
        => |it, out| {
            let mut pairs = TLS_HANDSHAKES.iter().zip(&it.total.host.tls_handshakes);
            pairs.try_for_each(|((version, kind), &number)| out.number(&[version, kind], number))
        };
    Counter "turnstone_dtls_cookies_total" []
        "Cookies that were sent to strangers over DTLS; none without the feature dtls, as of the next two"
        => |it, out| dtls(out, |out| out.number(&[], it.total.host.dtls.cookies));
    Counter "turnstone_dtls_handshakes_total" []
        "DTLS handshakes that succeeded"
        => |it, out| dtls(out, |out| out.number(&[], it.total.host.dtls.handshakes));
    Counter "turnstone_dtls_dropped_total" ["cause"]
        "Datagrams that DTLS listeners dropped"
        => |it, out| dtls(out, |out| {
            let mut drops = it.total.host.dtls.drops().into_iter();
            drops.try_for_each(|(cause, number)| out.number(&[cause], number))
        });
    Gauge "turnstone_web_connections" ["kind"]
        "Open connections that web servers have, which share the port"
        => |it, out| by_kind(out, &it.total.host.web.open);
    Counter "turnstone_web_connections_passed_on_total" ["kind"]
        "Connections that were passed on to web servers, which have taken them"
        => |it, out| by_kind(out, &it.total.host.web.passed_on);
    Counter "turnstone_web_bytes_total" ["direction", "kind"]
        "Bytes that were passed on between web servers and clients"
        => |it, out| {
            let web = &it.total.host.web;
            let to_servers = WEB_KINDS.iter().zip(web.bytes_to_servers).map(|it| ("to_servers", it));
            let to_clients = WEB_KINDS.iter().zip(web.bytes_to_clients).map(|it| ("to_clients", it));
            let mut numbers = to_servers.chain(to_clients);
            numbers.try_for_each(|(direction, (kind, number))| out.number(&[direction, kind], number))
        };
    Counter "turnstone_web_failures_total" ["reason"]
        "Connections for web servers that were closed by a limit, or for want of what passing on needs"
        => |it, out| {
            let mut pairs = WEB_FAILURES.iter().zip(it.total.host.web.failures);
            pairs.try_for_each(|(reason, number)| out.number(&[reason], number))
        };
    Histogram "turnstone_received_batch_datagrams" ["socket"]
        "Datagrams that one receiving system call brought"
        => |it, out| {
            batches(out, "listener", &it.total.host.listener_batches)?;
            batches(out, "relay", &it.total.host.relay_batches)
        };
    Counter "turnstone_worker_cpu_seconds_total" ["worker"]
        "Time that a worker has computed: its rate is the busy share of one CPU"
        => |it, out| (0..).zip(it.workers).try_for_each(|(worker, sample)| {
            out.number(&[&format!("{worker}")], sample.host.cpu_ns as f64 / 1e9)
        });
    Histogram "turnstone_worker_tick_delay_seconds" []
        "How late the timer of a worker was that comes once a second: a packet waits as long"
        => tick_delays;
    Gauge "turnstone_worker_heartbeat_age_seconds" ["worker"]
        "How long ago a worker was last heard of; more than some seconds means that it hangs"
        => |it, out| (0..).zip(it.metrics.ages()).try_for_each(|(worker, age): (u32, _)| {
            out.number(&[&format!("{worker}")], age.as_secs_f64())
        });
    Counter "turnstone_configuration_reloads_total" ["result"]
        "Attempts to read the configuration again"
        => |it, out| {
            out.number(&["success"], it.metrics.reloads.succeeded())?;
            out.number(&["failure"], it.metrics.reloads.failed())
        };
    Gauge "turnstone_configuration_loaded_timestamp_seconds" []
        "Unix time at which the configuration in force was read"
        => |it, out| out.number(&[], it.metrics.reloads.loaded_unix_s());
    Gauge "turnstone_tls_certificate_expiry_timestamp_seconds" ["file"]
        "Unix time at which a certificate in force expires, by its file"
        => |it, out| it.metrics.certificates.expiries().iter().try_for_each(|(file, unix_s)| {
            out.number(&[file], *unix_s as f64)
        });
    Counter "turnstone_tls_certificate_reloads_total" ["result"]
        "Certificates that took the place of others, and those that could not be used"
        => |it, out| {
            out.number(&["success"], it.metrics.certificates.replaced())?;
            out.number(&["failure"], it.metrics.certificates.failed())
        };
    Gauge "turnstone_tls_certificates_outdated" []
        "Certificates in force whose files hold something else that cannot be used, or cannot be read"
        => |it, out| out.number(&[], it.metrics.certificates.outdated());
    Counter "turnstone_http_requests_total" ["service", "result"]
        "Requests of operators (admin), and of programs that want credentials (credentials)"
        => |it, out| {
            let mut numbers = it.metrics.http().numbers();
            numbers.try_for_each(|(labels, number)| out.number(&labels, number))
        };
    Counter "turnstone_hook_events_total" ["result"]
        "Events for the receiver of hooks: sent, failed (given up or refused), dropped (no room)"
        => |it, out| {
            let events = it.metrics.hook_events();
            out.number(&["sent"], events.sent)?;
            out.number(&["failed"], events.failed)?;
            out.number(&["dropped"], events.dropped)
        };
    Gauge "turnstone_hook_events_queued" []
        "Events that wait for the receiver of hooks"
        => |it, out| out.number(&[], it.metrics.hook_events().queued);
    Counter "turnstone_acme_orders_total" ["result"]
        "Attempts to get a certificate from the ACME server"
        => |it, out| {
            out.number(&["success"], it.metrics.acme.succeeded())?;
            out.number(&["failure"], it.metrics.acme.failed())
        };
    Counter "turnstone_acme_http_connections_ended_total" []
        "Connections to where http-01 is answered that were ended for newer ones"
        => |it, out| out.number(&[], it.metrics.acme.ended());
    Gauge "turnstone_acme_next_attempt_timestamp_seconds" []
        "Unix time of the next attempt to get a certificate; 0 without an ACME server, or while one is under way"
        => |it, out| {
            out.number(&[], it.metrics.acme.state().next_attempt_unix_s.unwrap_or(0))
        };
    Gauge "turnstone_revocations_unsaved" []
        "Changes of revocations that a restart would undo, because they cannot be written"
        => |it, out| out.number(&[], it.metrics.unsaved_revocations());
    Gauge "process_start_time_seconds" []
        "Unix time at which the server started"
        => |it, out| out.number(&[], unix_s(it.metrics.started));
    Counter "process_cpu_seconds_total" []
        "Time that all threads have computed"
        => |_, out| out.number(&[], process::cpu_seconds());
    Gauge "process_resident_memory_bytes" []
        "Memory in use"
        => |it, out| it.memory.map_or(Ok(()), |memory| out.number(&[], memory.resident_bytes));
    Gauge "process_virtual_memory_bytes" []
        "Address space in use, of which most is never touched"
        => |it, out| it.memory.map_or(Ok(()), |memory| out.number(&[], memory.virtual_bytes));
    Gauge "process_open_fds" []
        "Open file descriptors: listeners, relay sockets, TCP connections; not before Linux 6.2"
        => |_, out| process::open_files().map_or(Ok(()), |files| out.number(&[], files));
    Gauge "process_max_fds" []
        "File descriptors that may be open (LimitNOFILE)"
        => |_, out| process::max_files().map_or(Ok(()), |files| out.number(&[], files));
}

/// One number for each transport and address family of clients.
fn by_client(
    out: &mut Writer<'_>,
    more: &[&str],
    number: impl Fn(Transport, Family) -> u64,
) -> fmt::Result {
    let built = |transport: &&Transport| cfg!(feature = "dtls") || **transport != Transport::Dtls;
    for &transport in Transport::ALL.iter().filter(built) {
        for (family, name) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
            let transport_name = transport.to_string();
            let labels = [&[transport_name.as_str(), name], more].concat();
            out.number(&labels, number(transport, family))?;
        }
    }
    Ok(())
}

/// Numbers that a build without DTLS does not have.
fn dtls(out: &mut Writer<'_>, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) -> fmt::Result {
    match cfg!(feature = "dtls") {
        true => write(out),
        false => Ok(()),
    }
}

fn relayed(
    it: &Source<'_>,
    out: &mut Writer<'_>,
    both_ways: impl Fn(&Relayed) -> (u64, u64),
) -> fmt::Result {
    let of = |transport, family| both_ways(it.total.protocol.relayed.of(transport, family));
    by_client(out, &["to_peers"], |transport, family| {
        of(transport, family).0
    })?;
    by_client(out, &["to_client"], |transport, family| {
        of(transport, family).1
    })
}

fn dropped(it: &Source<'_>, out: &mut Writer<'_>) -> fmt::Result {
    let mut drops = it.total.drops();
    drops.try_for_each(|(cause, number)| out.number(&[cause], number))
}

fn replies(it: &Source<'_>, out: &mut Writer<'_>) -> fmt::Result {
    for method in REQUEST_METHODS {
        let success = it.total.protocol.replies(method, None);
        out.number(&[method.name(), "success"], success)?;
        for &code in ErrorCode::ALL {
            let errors = it.total.protocol.replies(method, Some(code));
            out.number(&[method.name(), &code.number().to_string()], errors)?;
        }
    }
    Ok(())
}

fn relay_ports(it: &Source<'_>, out: &mut Writer<'_>) -> fmt::Result {
    let ports = it.metrics.shared.ports.census();
    out.number(&["live"], u64::from(ports.live))?;
    out.number(&["held"], u64::from(ports.held))?;
    out.number(&["resting"], u64::from(ports.resting))?;
    out.number(&["free"], u64::from(ports.free))
}

fn endings(out: &mut Writer<'_>, numbers: &[u64; TCP_ENDINGS.len()]) -> fmt::Result {
    let mut pairs = TCP_ENDINGS.iter().zip(numbers);
    pairs.try_for_each(|(reason, &number)| out.number(&[reason], number))
}

fn by_kind(out: &mut Writer<'_>, numbers: &[u64; WEB_KINDS.len()]) -> fmt::Result {
    let mut pairs = WEB_KINDS.iter().zip(numbers);
    pairs.try_for_each(|(kind, &number)| out.number(&[kind], number))
}

fn batches(out: &mut Writer<'_>, socket: &str, sizes: &BatchSizes) -> fmt::Result {
    let bounds = BatchSizes::BOUNDS.iter().map(|&bound| f64::from(bound));
    let mut buckets: Vec<(f64, u64)> = bounds.zip(sizes.calls).collect();
    buckets.push((f64::INFINITY, 0));
    out.histogram(&[socket], sizes.datagrams as f64, &buckets)
}

fn tick_delays(it: &Source<'_>, out: &mut Writer<'_>) -> fmt::Result {
    let delays = &it.total.host.tick_delays;
    let bounds = TickDelays::BOUNDS_MS.iter().map(|&ms| ms as f64 / 1e3);
    let bounds = bounds.chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(delays.ticks).collect();
    out.histogram(&[], delays.total_us as f64 / 1e6, &buckets)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_openmetrics_and_unique() {
        let names: BTreeSet<&str> = TABLE.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for it in TABLE {
            let of_kind = |suffix| it.name.ends_with(suffix);
            assert_eq!(of_kind("_total"), it.kind == Kind::Counter, "{}", it.name);
            assert_eq!(of_kind("_info"), it.kind == Kind::Info, "{}", it.name);
            let ours = it.name.starts_with("turnstone_") || it.name.starts_with("process_");
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(ours && it.name.chars().all(plain), "{}", it.name);
            assert!(!it.help.contains(['|', '\n', '"', '\\']) && !it.help.ends_with('.'));
        }
    }
}
