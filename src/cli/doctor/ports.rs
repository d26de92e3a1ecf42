//! Whether the ports are free, permitted, and left alone by other programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use super::listeners::{self, Listener};
use super::machine::{Machine, Ports};
use super::report::Finding;
use crate::config::Config;
use crate::engine::port_owner::{Owner, Taken};
use crate::turn::Transport;

const LISTENERS: &str = "ports.listeners";
const LOW: &str = "ports.privileged";
const TAKEN: &str = "ports.relay-taken";
const LOCAL: &str = "ports.local-range";
const SIZE: &str = "ports.relay-size";

/// The name of the server's process.
const SERVER: &str = "turnstone";

/// Where web servers listen.
const WEB_PORTS: [u16; 2] = [80, 443];

/// Programs that are named in one finding.
const NAMED_MAX: usize = 5;

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = listeners(config, machine);
    findings.push(privileged(config, machine));
    findings.push(relay_taken(config, machine));
    findings.push(local_range(config, machine));
    findings.push(relay_size(config));
    findings
}

/// Whether a socket belongs to a server of this kind, which may well be the one to examine.
pub(super) fn is_server(taken: &Taken) -> bool {
    taken
        .owner
        .as_ref()
        .is_some_and(|owner| owner.name == SERVER)
}

fn listeners(config: &Config, machine: &Machine) -> Vec<Finding> {
    let (mut findings, mut free) = (vec![], vec![]);
    let listeners = listeners::all(config).into_iter();
    for listener in listeners.filter(|listener| listener.address.port() != 0) {
        let taken = match listener.transport {
            Transport::Udp | Transport::Dtls => &machine.ports.udp,
            Transport::Tcp | Transport::Tls => &machine.ports.tcp,
        };
        match Ports::in_the_way(taken, listener.address) {
            None => free.push(listener.to_string()),
            Some(taken) => findings.push(listener_taken(listener, taken)),
        }
    }
    if !free.is_empty() {
        findings.push(Finding::ok(LISTENERS, format!("free: {}", free.join(", "))));
    }
    findings
}

/// Whether it is a port of web servers, whose clients the server can tell from its own.
fn shares_with_web(listener: &Listener) -> bool {
    let is_tcp = listener.transport != Transport::Udp;
    listener.is_for_clients && is_tcp && WEB_PORTS.contains(&listener.address.port())
}

fn listener_taken(listener: Listener, taken: &Taken) -> Finding {
    let (key, is_needed) = (listener.key, listener.is_needed);
    let failing = match is_needed {
        true => Finding::fail,
        false => Finding::warn,
    };
    match &taken.owner {
        Some(owner) if is_server(taken) => {
            Finding::ok(LISTENERS, format!("{listener}: {owner} runs and has it"))
        }
        Some(owner) => failing(LISTENERS, format!("{listener}: taken by {owner}"))
            .why(match is_needed {
                true => "the server does not start",
                false => "the server starts without it",
            })
            .fix(match shares_with_web(&listener) {
                true => format!(
                    "stop that program for good, set {key}, or let a web server listen on 127.0.0.1 and \
                     have its clients passed on to it ([web], docs/tls.md)"
                ),
                false => format!("stop that program for good, or set {key}"),
            })
            .command(match owner.name.as_str() {
                "turnserver" => "systemctl disable --now coturn".to_owned(),
                _ => format!("systemctl status {}   # shows the unit to stop", owner.pid),
            }),
        None => {
            let found = format!("{listener}: taken by a process that this user may not look at");
            Finding::warn(LISTENERS, found)
                .why(match is_needed {
                    true => "unless it is turnstone itself, the server does not start",
                    false => "unless it is turnstone itself, the server starts without it",
                })
                .fix("run the doctor as root to see whose it is")
        }
    }
}

fn privileged(config: &Config, machine: &Machine) -> Finding {
    let unprivileged = machine.ports.unprivileged;
    // Relay ports are bound after the server has given up every right.
    let first = *config.relay.ports.start();
    if first < unprivileged {
        return Finding::fail(
            LOW,
            format!("relay ports from {first}: only privileged processes get ports below {unprivileged} here"),
        )
        .why("the server relays without privileges, so allocations there are refused")
        .fix("lower net.ipv4.ip_unprivileged_port_start, or raise relay.ports")
        .command("sysctl -w net.ipv4.ip_unprivileged_port_start=1024");
    }
    let listeners = listeners::all(config).into_iter();
    let low = listeners
        .filter(|listener| listener.is_needed)
        .map(|listener| listener.address.port())
        .find(|&port| port != 0 && port < unprivileged);
    let Some(port) = low else {
        return Finding::ok(
            LOW,
            format!("no port below {unprivileged} is used, so no right is needed"),
        );
    };
    let why = "the server does not start";
    match &machine.unit {
        Some(unit) if unit.has("cap_net_bind_service") => {
            Finding::ok(LOW, format!("port {port}: the unit may bind it"))
        }
        Some(_) => Finding::fail(LOW, format!("port {port}: turnstone.service may not bind ports below {unprivileged}"))
            .why(why)
            .fix("add to the unit (systemctl edit turnstone)")
            .command("[Service]\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nPrivateUsers=no\nSystemCallFilter=capset"),
        None if machine.rights.low_ports => {
            Finding::ok(LOW, format!("port {port}: this user may bind it"))
        }
        None => Finding::fail(LOW, format!("port {port}: this user may not bind ports below {unprivileged}"))
            .why(why)
            .fix("start as root or with CAP_NET_BIND_SERVICE, which the server gives up afterwards"),
    }
}

fn relay_taken(config: &Config, machine: &Machine) -> Finding {
    let range = &config.relay.ports;
    let mut ports: BTreeMap<Option<&Owner>, Vec<u16>> = BTreeMap::new();
    let mut server_runs = false;
    for taken in &machine.ports.udp {
        if is_server(taken) {
            server_runs = true;
            continue;
        }
        let port = taken.address.port();
        let mut relays = config.relay.addresses.iter();
        let in_the_way = relays.any(|&ip| taken.is_in_the_way_of(SocketAddr::new(ip, port)));
        if range.contains(&port) && in_the_way {
            let ports = ports.entry(taken.owner.as_ref()).or_default();
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    let count: usize = ports.values().map(Vec::len).sum();
    if count == 0 {
        let note = if server_runs { " but turnstone" } else { "" };
        return Finding::ok(
            TAKEN,
            format!("no program{note} has a port of {}", shown(range)),
        );
    }
    let mut names = String::new();
    for (owner, ports) in ports.iter().take(NAMED_MAX) {
        let name = owner.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        // Writing to a string cannot fail.
        let _ = write!(names, "; {name}: {}", ports[0]);
        if ports.len() > 1 {
            let _ = write!(names, " and {} more", ports.len() - 1);
        }
    }
    if ports.len() > NAMED_MAX {
        let _ = write!(names, "; and {} more programs", ports.len() - NAMED_MAX);
    }
    Finding::warn(
        TAKEN,
        format!(
            "relay ports of {} that other programs have: {count}{names}",
            shown(range)
        ),
    )
    .why("an allocation that draws such a port tries another, and is refused after eight")
    .fix(if ports.keys().all(Option::is_none) {
        "run the doctor as root to see whose they are"
    } else {
        "stop those programs, give them other ports, or move relay.ports"
    })
}

/// The kernel gives ports of its own range to sockets that name none.
fn local_range(config: &Config, machine: &Machine) -> Finding {
    let relay = &config.relay.ports;
    let Some(local) = &machine.ports.local else {
        return Finding::unknown(LOCAL, "net.ipv4.ip_local_port_range cannot be read");
    };
    let (low, high) = (
        *relay.start().max(local.start()),
        *relay.end().min(local.end()),
    );
    let shared = low..=high;
    let reserved = &machine.ports.reserved;
    if shared.is_empty() {
        let local = shown(local);
        return Finding::ok(
            LOCAL,
            format!("outgoing sockets get ports of {local}, apart from the relay ports"),
        );
    }
    let is_reserved = |port: u16| reserved.iter().any(|range| range.contains(&port));
    if shared.clone().all(is_reserved) {
        let shared = shown(&shared);
        return Finding::ok(LOCAL, format!("{shared} is reserved from outgoing sockets"));
    }
    let mut list: Vec<String> = reserved.iter().map(shown).collect();
    list.push(shown(&shared));
    let list = list.join(",");
    let found = format!(
        "other programs' outgoing sockets may take the relay ports {}",
        shown(&shared)
    );
    Finding::warn(LOCAL, found)
        .why("a port that is taken costs an allocation another attempt, and a resolver takes many")
        .fix("reserve them; sockets that name their port are not concerned")
        .command(format!(
            "sysctl -w net.ipv4.ip_local_reserved_ports={list} \\\n  \
             | tee /etc/sysctl.d/60-turnstone-ports.conf"
        ))
}

fn relay_size(config: &Config) -> Finding {
    // Every address has the whole range. Clients may ask for either family, or for both.
    let addresses = |v4: bool| {
        let relays = config.relay.addresses.iter();
        relays.filter(|ip| ip.is_ipv4() == v4).count()
    };
    let families = [addresses(true), addresses(false)].into_iter();
    let addresses = families.filter(|count| *count > 0).min().unwrap_or(0);
    let size = u32::try_from(config.relay.ports.len() * addresses).unwrap_or(u32::MAX);
    let total = config.limits.allocations_total;
    let shown = match addresses {
        0 | 1 => shown(&config.relay.ports),
        many => format!("{} of {many} addresses", shown(&config.relay.ports)),
    };
    if size >= total {
        return Finding::ok(
            SIZE,
            format!("{shown} has {size} ports for at most {total} allocations"),
        );
    }
    let found = format!("{shown} has {size} ports, and limits.allocations_total is {total}");
    Finding::warn(SIZE, found)
        .why("allocations are refused (508) before the limit that was meant is reached")
        .fix("widen relay.ports, or lower the limit")
        .command(format!("[limits]\nallocations_total = {size}"))
}

/// A range of ports as text.
pub(super) fn span(ports: &RangeInclusive<u16>, between: char) -> String {
    if ports.start() == ports.end() {
        ports.start().to_string()
    } else {
        format!("{}{between}{}", ports.start(), ports.end())
    }
}

fn shown(ports: &RangeInclusive<u16>) -> String {
    span(ports, '-')
}

#[cfg(test)]
mod tests {
    use super::super::machine::Unit;
    use super::super::machine::testing::{config, taken, well};
    use super::super::report::Status;
    use super::*;

    #[track_caller]
    fn expect(found: &[Finding], check: &str, status: Status, text: &str) {
        let is = |f: &&Finding| f.check == check && f.status == status && f.found.contains(text);
        assert!(found.iter().any(|f| is(&f)), "{check} {text}: {found:#?}");
    }

    #[test]
    fn a_quiet_machine_is_well() {
        let found = examine(&config(&[]), &well());
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:#?}");
        expect(
            &found,
            LISTENERS,
            Status::Ok,
            "0.0.0.0:3478/udp, 0.0.0.0:3478/tcp",
        );
    }

    #[test]
    fn a_listeners_port_may_be_taken() {
        let mut machine = well();
        machine.ports.udp = vec![taken("127.0.0.1:3478", Some("coturn"))];
        machine.ports.tcp = vec![taken("[::]:3478", Some("turnstone"))];
        let found = examine(&config(&[]), &machine);
        expect(
            &found,
            LISTENERS,
            Status::Fail,
            "0.0.0.0:3478/udp: taken by coturn (pid 7)",
        );
        expect(
            &found,
            LISTENERS,
            Status::Ok,
            "0.0.0.0:3478/tcp: turnstone (pid 7) runs",
        );
        machine.ports.udp = vec![taken("0.0.0.0:3478", None)];
        let found = examine(&config(&[]), &machine);
        expect(&found, LISTENERS, Status::Warn, "may not look at");
        let elsewhere = config(&[("listen.udp", "203.0.113.10:3478")]);
        machine.ports.udp = vec![taken("127.0.0.1:3478", Some("coturn"))];
        expect(
            &examine(&elsewhere, &machine),
            LISTENERS,
            Status::Ok,
            "free: 203",
        );
    }

    /// Of them `run` leaves out none but the default page of the metrics.
    #[test]
    fn the_port_of_a_listener_of_http_may_be_taken() {
        let mut machine = well();
        machine.ports.tcp = vec![taken("127.0.0.1:9641", Some("other"))];
        let found = examine(&config(&[]), &machine);
        let metrics = "127.0.0.1:9641/tcp (metrics.listen): taken by other";
        expect(&found, LISTENERS, Status::Warn, metrics);
        let mut config = config(&[("metrics.listen", "127.0.0.1:9641")]);
        config.admin.listen = "0.0.0.0:8479".parse().ok();
        config.credentials.listen = "127.0.0.1:8478".parse().ok();
        machine.ports.tcp.extend(
            ["127.0.0.1:8478", "127.0.0.1:8479"].map(|address| taken(address, Some("other"))),
        );
        let found = examine(&config, &machine);
        expect(&found, LISTENERS, Status::Fail, metrics);
        for text in [
            "0.0.0.0:8479/tcp (admin.listen)",
            "127.0.0.1:8478/tcp (credentials.listen)",
        ] {
            expect(&found, LISTENERS, Status::Fail, text);
        }
        config.admin.listen = "127.0.0.1:80".parse().ok();
        machine.rights.low_ports = false;
        expect(&examine(&config, &machine), LOW, Status::Fail, "port 80");
    }

    /// Nobody stops their web server for a relay.
    #[test]
    fn a_web_server_can_share_its_port() {
        let mut machine = well();
        let config = config(&[("listen.tcp", "0.0.0.0:443,0.0.0.0:3478")]);
        machine.ports.tcp = vec![
            taken("0.0.0.0:443", Some("nginx")),
            taken("0.0.0.0:3478", Some("nginx")),
        ];
        let found = listeners(&config, &machine);
        let remedies = found.iter().filter_map(|it| it.remedy.as_deref());
        let remedies: Vec<&str> = remedies.collect();
        let at_web = |remedy: &&str| remedy.contains("[web], docs/tls.md");
        assert!(
            remedies.len() == 2 && at_web(&remedies[0]) && !at_web(&remedies[1]),
            "{found:#?}"
        );
    }

    #[test]
    fn low_ports_need_a_right() {
        let low = config(&[("listen.tcp", "0.0.0.0:443")]);
        let mut machine = well();
        expect(&examine(&low, &machine), LOW, Status::Ok, "this user may");
        machine.rights.low_ports = false;
        expect(
            &examine(&low, &machine),
            LOW,
            Status::Fail,
            "this user may not",
        );
        machine.ports.unprivileged = 443;
        expect(
            &examine(&low, &machine),
            LOW,
            Status::Ok,
            "no port below 443",
        );
        machine.ports.unprivileged = 1024;
        let unit = Unit {
            user: "turnstone".to_owned(),
            ..Unit::default()
        };
        machine.unit = Some(unit.clone());
        expect(
            &examine(&low, &machine),
            LOW,
            Status::Fail,
            "turnstone.service may not",
        );
        machine.unit = Some(Unit {
            capabilities: vec!["cap_net_bind_service".to_owned()],
            ..unit
        });
        expect(&examine(&low, &machine), LOW, Status::Ok, "the unit may");
        machine.ports.unprivileged = 50_000;
        expect(
            &examine(&low, &machine),
            LOW,
            Status::Fail,
            "relay ports from 49152",
        );
    }

    #[test]
    fn relay_ports_may_be_taken() {
        let mut machine = well();
        machine.ports.udp = vec![
            taken("0.0.0.0:50000", Some("dns")),
            taken("0.0.0.0:50001", Some("dns")),
            taken("0.0.0.0:50001", Some("dns")),
            taken("203.0.113.10:50002", Some("turnstone")),
            taken("127.0.0.1:50003", Some("local")),
            taken("0.0.0.0:5353", Some("mdns")),
        ];
        let found = examine(&config(&[]), &machine);
        expect(
            &found,
            TAKEN,
            Status::Warn,
            "49152-65535 that other programs have: 2; dns (pid 7): 50000 and 1 more",
        );
        let found = relay_taken(&config(&[]), &machine);
        assert!(found.remedy.unwrap().starts_with("stop those"));
        machine.ports.udp.drain(..3);
        expect(
            &examine(&config(&[]), &machine),
            TAKEN,
            Status::Ok,
            "no program but turnstone",
        );
        let many =
            (0..=NAMED_MAX).map(|n| taken(&format!("0.0.0.0:5000{n}"), Some(&format!("p{n}"))));
        machine.ports.udp = many.collect();
        expect(
            &examine(&config(&[]), &machine),
            TAKEN,
            Status::Warn,
            "p4 (pid 7): 50004; and 1 more programs",
        );
        machine.ports.udp.pop();
        let mut unknown = machine.clone();
        unknown.ports.udp = vec![taken("0.0.0.0:50000", None)];
        let found = relay_taken(&config(&[]), &unknown);
        assert!(found.remedy.unwrap().starts_with("run the doctor as root"));
        let found = relay_taken(&config(&[]), &machine).found;
        assert!(found.ends_with("p4 (pid 7): 50004"), "{found}");
    }

    #[test]
    fn outgoing_sockets_may_take_relay_ports() {
        let mut machine = well();
        machine.ports.local = Some(32768..=60999);
        machine.ports.reserved = vec![8080..=8080];
        let found = examine(&config(&[]), &machine);
        expect(&found, LOCAL, Status::Warn, "relay ports 49152-60999");
        let found = local_range(&config(&[]), &machine);
        let command = found.command.unwrap();
        assert!(
            command.contains("reserved_ports=8080,49152-60999 \\\n  |"),
            "{command}"
        );
        machine.ports.reserved = vec![49152..=55000, 55001..=61000];
        expect(
            &examine(&config(&[]), &machine),
            LOCAL,
            Status::Ok,
            "is reserved",
        );
        machine.ports.reserved = vec![49152..=60998];
        expect(
            &examine(&config(&[]), &machine),
            LOCAL,
            Status::Warn,
            "may take",
        );
        machine.ports.local = None;
        expect(
            &examine(&config(&[]), &machine),
            LOCAL,
            Status::Unknown,
            "cannot be read",
        );
    }

    #[test]
    fn the_range_is_as_large_as_the_limit() {
        let small = config(&[
            ("relay.ports", "50000-50099"),
            ("limits.allocations_total", "100"),
        ]);
        expect(
            &examine(&small, &well()),
            SIZE,
            Status::Ok,
            "100 ports for at most 100",
        );
        let small = config(&[
            ("relay.ports", "50000-50098"),
            ("limits.allocations_total", "100"),
        ]);
        expect(&examine(&small, &well()), SIZE, Status::Warn, "99 ports");
    }

    /// Each address has the range to itself, and the family with fewer addresses is full first.
    #[test]
    fn several_relay_addresses_have_as_many_ports_each() {
        let of = |addresses| {
            let config = config(&[
                ("relay.addresses", addresses),
                ("relay.ports", "50000-50009"),
                ("limits.allocations_total", "20"),
            ]);
            relay_size(&config)
        };
        let two = of("203.0.113.10,203.0.113.11");
        let is_two = two
            .found
            .contains("50000-50009 of 2 addresses has 20 ports");
        assert!(two.status == Status::Ok && is_two, "{two:?}");
        let mixed = of("203.0.113.10,203.0.113.11,2001:db8::10");
        let is_one = mixed.found.contains("50000-50009 has 10 ports");
        assert!(mixed.status == Status::Warn && is_one, "{mixed:?}");
    }
}
