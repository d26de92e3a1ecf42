//! Whether the machine has what the limits of the configuration promise: files, buffers, memory,
//! CPUs and entries of connection tracking.

use std::net::SocketAddr;

use super::machine::{Conntrack, Machine};
use super::report::Finding;
use crate::cli::file_limit::FILES_AT_REST;
use crate::config::Config;
use crate::engine::RECEIVE_BUFFER;
use crate::turn::Transport;

const FILES: &str = "limits.files";
const BUFFERS: &str = "limits.buffers";
const MEMORY: &str = "limits.memory";
const CPUS: &str = "limits.cpus";
const TABLE: &str = "conntrack.table";
const TIMEOUTS: &str = "conntrack.timeouts";

/// What an allocation takes, roughly: its sockets in the kernel with a few packets in their queues,
/// and its place in the tables of the core.
const ALLOCATION_BYTES: u64 = 16 << 10;

/// The parts of a machine's memory that a server may count on, in hundredths.
const MEMORY_PERCENT: u64 = 80;

/// Conversations of an allocation that connection tracking sees: its client, and two peers.
const TRACKED_PER_ALLOCATION: u64 = 3;

/// How full the table may be, in hundredths, before packets are about to be lost.
const TABLE_PERCENT: u64 = 90;

/// Seconds after which an entry of a call that has ended is only a burden.
const STREAM_TIMEOUT_MAX_S: u64 = 300;

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![
        files(config, machine),
        buffers(machine),
        memory(config, machine),
        cpus(config, machine),
    ];
    findings.extend(conntrack(config, machine));
    findings
}

/// Every relayed address and every connection is a file.
fn files(config: &Config, machine: &Machine) -> Finding {
    let relays = &config.relay.addresses;
    let dual = relays.iter().any(|ip| ip.is_ipv4()) && relays.iter().any(|ip| ip.is_ipv6());
    let each = if dual { 2 } else { 1 };
    let total = u64::from(config.limits.allocations_total);
    let wanted = total * each + u64::from(config.limits.tcp_connections) + FILES_AT_REST;
    let (files, whose) = match (machine.files.running, &machine.unit) {
        (Some(running), _) => (running, "the server that runs may open"),
        (None, Some(unit)) => (
            unit.files.unwrap_or(machine.files.hard),
            "turnstone.service may open",
        ),
        // The server asks for more itself, and gets it up to this.
        (None, None) if machine.rights.more_files => (
            machine.files.hard.max(machine.files.most),
            "a server started by this user may open",
        ),
        (None, None) => (machine.files.hard, "a server started by this user may open"),
    };
    let found = format!(
        "{whose} {files} files; {total} allocations of {each} and {} connections want {wanted}",
        config.limits.tcp_connections
    );
    if files >= wanted {
        return Finding::ok(FILES, found);
    }
    Finding::warn(FILES, found)
        .why("allocations and connections beyond that are refused")
        .fix("raise LimitNOFILE of the unit (systemctl edit turnstone), or ulimit -n without systemd")
        .command(format!("[Service]\nLimitNOFILE={}", wanted.next_power_of_two()))
}

fn buffers(machine: &Machine) -> Finding {
    let wanted = RECEIVE_BUFFER as u64;
    let buffers = &machine.buffers;
    let (privileged, who) = match &machine.unit {
        Some(unit) => (unit.has("cap_net_admin"), "turnstone.service"),
        None => (
            machine.rights.large_buffers,
            "a server started by this user",
        ),
    };
    let (got, how) = match (buffers.receive_max, buffers.send_max, buffers.got) {
        (Some(receive), Some(send), _) if receive.min(send) >= wanted => {
            (wanted, "by net.core.rmem_max and wmem_max")
        }
        // Measured by a process that has the same rights.
        (_, _, Some((receive, send))) if privileged == machine.rights.large_buffers => {
            (receive.min(send), "as measured")
        }
        (_, _, _) if privileged => (wanted, "by CAP_NET_ADMIN"),
        (Some(receive), Some(send), _) => (receive.min(send), "by net.core.rmem_max and wmem_max"),
        _ => {
            let found = "net.core.rmem_max and wmem_max cannot be read in this network namespace";
            return Finding::unknown(BUFFERS, found);
        }
    };
    let (got, wanted) = (got.min(wanted) >> 10, wanted >> 10);
    let found = format!("{who} gets UDP buffers of {got} KiB, and asks for {wanted} KiB, {how}");
    if got >= wanted {
        return Finding::ok(BUFFERS, found);
    }
    let bytes = wanted << 10;
    Finding::warn(BUFFERS, found)
        .why("packets are lost when many come while the server does not run for a moment")
        .fix("raise the most that a socket may ask for")
        .command(format!(
            "sysctl -w net.core.rmem_max={bytes} net.core.wmem_max={bytes} \\\n  \
             | tee /etc/sysctl.d/60-turnstone.conf"
        ))
}

/// An estimate, and said to be one.
fn memory(config: &Config, machine: &Machine) -> Finding {
    // A unit has a control group of its own.
    let group = match &machine.unit {
        Some(unit) => unit.memory,
        None => machine.memory.group,
    };
    let limits = [group, machine.memory.machine];
    let Some(available) = limits.into_iter().flatten().min() else {
        return Finding::unknown(
            MEMORY,
            "neither the machine's memory nor a limit can be read",
        );
    };
    let listeners = config.listen.udp.len() * config.server.workers * 2 * RECEIVE_BUFFER;
    let total = u64::from(config.limits.allocations_total);
    let wanted = total * ALLOCATION_BYTES
        + u64::from(config.limits.tcp_queues_total_bytes)
        + listeners as u64;
    let mib = |bytes: u64| bytes >> 20;
    let found = format!(
        "{} MiB; {total} allocations and full queues take some {} MiB",
        mib(available),
        mib(wanted)
    );
    if wanted <= available / 100 * MEMORY_PERCENT {
        return Finding::ok(MEMORY, found);
    }
    Finding::warn(MEMORY, found)
        .why("at full load the kernel may end the server, and every call with it")
        .fix("lower limits.allocations_total and limits.tcp_queues_total_bytes, or add memory")
}

fn cpus(config: &Config, machine: &Machine) -> Finding {
    let (workers, cpus) = (config.server.workers, machine.cpus);
    let found = format!("{workers} workers on {cpus} CPUs");
    if workers <= cpus {
        return Finding::ok(CPUS, found);
    }
    Finding::warn(CPUS, found)
        .why("workers that share a CPU delay each other's packets")
        .fix("leave server.workers out: it is then the number of CPUs")
}

fn conntrack(config: &Config, machine: &Machine) -> Vec<Finding> {
    let Some(table) = machine.conntrack else {
        return vec![Finding::ok(TABLE, "connection tracking is not loaded")];
    };
    let untracked = is_untracked(config, machine);
    let mut findings = vec![fill(config, table, untracked)];
    let Conntrack {
        udp_timeout_s,
        udp_stream_timeout_s,
        ..
    } = table;
    let found = format!(
        "entries of UDP live {udp_timeout_s} s one way, {udp_stream_timeout_s} s both ways"
    );
    let long = udp_stream_timeout_s > STREAM_TIMEOUT_MAX_S;
    findings.push(if long && untracked != Some(true) {
        Finding::warn(TIMEOUTS, found)
            .why("calls that have ended fill the table for that long")
            .fix("shorten it; clients and peers send more often than every two minutes")
            .command("sysctl -w net.netfilter.nf_conntrack_udp_timeout_stream=120")
    } else {
        Finding::ok(TIMEOUTS, found)
    });
    findings
}

fn fill(config: &Config, table: Conntrack, untracked: Option<bool>) -> Finding {
    let Conntrack { max, count, .. } = table;
    let wanted = u64::from(config.limits.allocations_total) * TRACKED_PER_ALLOCATION;
    let state = match untracked {
        Some(true) => ", and the listeners and relay ports are left out",
        Some(false) => "",
        None => ", and whether rules leave the server out is not clear",
    };
    let found = format!("{count} of {max} entries are used{state}");
    let finding = if max > 0 && count >= max / 100 * TABLE_PERCENT {
        Finding::fail(TABLE, found)
            .why("when the table is full, packets of new conversations are lost")
    } else if untracked == Some(true) || max.saturating_sub(count) >= wanted {
        return Finding::ok(TABLE, found);
    } else {
        Finding::warn(
            TABLE,
            format!(
                "{found}; {} allocations may want {wanted}",
                config.limits.allocations_total
            ),
        )
        .why("a call takes an entry for its client and one for each peer; beyond the table packets of new conversations are lost")
    };
    let larger = (max.max(count) + wanted).next_power_of_two();
    finding
        .fix("enlarge the table, or leave the server's ports out of it (notrack)")
        .command(format!("sysctl -w net.netfilter.nf_conntrack_max={larger}"))
}

/// Whether rules leave listeners and relay ports out of connection tracking.
fn is_untracked(config: &Config, machine: &Machine) -> Option<bool> {
    let firewall = &machine.firewall;
    let mut all = Some(true);
    for &relay in &config.relay.addresses {
        let of_family = |listener: &&SocketAddr| listener.is_ipv4() == relay.is_ipv4();
        let listeners = config.listen.udp.iter().filter(of_family);
        let ports = listeners.map(|listener| listener.port()..=listener.port());
        for ports in ports.chain([config.relay.ports.clone()]) {
            match firewall.is_untracked(Transport::Udp, relay, &ports, &machine.interfaces) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{config, expect, well};
    use super::super::machine::{Buffers, Unit};
    use super::super::report::Status;
    use super::*;

    fn unit() -> Unit {
        Unit {
            user: "turnstone".to_owned(),
            files: Some(262_144),
            ..Unit::default()
        }
    }

    #[test]
    fn a_common_machine_is_well() {
        let found = examine(&config(&[]), &well());
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:#?}");
    }

    /// The edge: allocations, connections and the files at rest, and not one less.
    #[test]
    fn files_are_enough_for_allocations_and_connections() {
        let mut machine = well();
        let mut config = config(&[]);
        machine.files.hard = 16_000 + 4000 + FILES_AT_REST;
        machine.rights.more_files = false;
        expect(&files(&config, &machine), Status::Ok, "want 20256");
        machine.files.hard -= 1;
        let found = files(&config, &machine);
        expect(&found, Status::Warn, "20255 files");
        assert_eq!(
            found.command.as_deref(),
            Some("[Service]\nLimitNOFILE=32768")
        );
        machine.rights.more_files = true;
        expect(&files(&config, &machine), Status::Ok, "1048576 files");
        config.relay.addresses.push("2001:db8::1".parse().unwrap());
        machine.unit = Some(unit());
        expect(
            &files(&config, &machine),
            Status::Ok,
            "turnstone.service may open 262144",
        );
        machine.unit.as_mut().unwrap().files = Some(32_768);
        expect(
            &files(&config, &machine),
            Status::Warn,
            "16000 allocations of 2",
        );
        machine.files.running = Some(65_536);
        expect(
            &files(&config, &machine),
            Status::Ok,
            "the server that runs may open 65536",
        );
    }

    #[test]
    fn buffers_are_what_the_server_will_get() {
        let mut machine = well();
        let small = Buffers {
            receive_max: Some(212_992),
            send_max: Some(4 << 20),
            got: Some((4 << 20, 4 << 20)),
        };
        machine.buffers = small;
        expect(&buffers(&machine), Status::Ok, "as measured");
        machine.unit = Some(unit());
        let found = buffers(&machine);
        expect(
            &found,
            Status::Warn,
            "turnstone.service gets UDP buffers of 208 KiB",
        );
        assert!(found.command.unwrap().contains("rmem_max=4194304"));
        machine.unit.as_mut().unwrap().capabilities = vec!["cap_net_admin".to_owned()];
        machine.buffers.got = None;
        expect(&buffers(&machine), Status::Ok, "CAP_NET_ADMIN");
        machine.unit = None;
        machine.rights.large_buffers = false;
        machine.buffers.got = Some((212_992, 212_992));
        expect(
            &buffers(&machine),
            Status::Warn,
            "this user gets UDP buffers of 208 KiB",
        );
        machine.buffers = Buffers {
            receive_max: None,
            send_max: None,
            got: None,
        };
        expect(&buffers(&machine), Status::Unknown, "cannot be read");
    }

    #[test]
    fn memory_is_enough_for_the_limits() {
        let mut machine = well();
        let config = config(&[("limits.allocations_total", "60000")]);
        expect(
            &memory(&config, &machine),
            Status::Warn,
            "1024 MiB; 60000 allocations",
        );
        machine.memory.machine = Some(2 << 30);
        expect(&memory(&config, &machine), Status::Ok, "2048 MiB");
        machine.memory.group = Some(1 << 30);
        expect(&memory(&config, &machine), Status::Warn, "1024 MiB");
        machine.unit = Some(Unit {
            memory: Some(512 << 20),
            ..unit()
        });
        expect(&memory(&config, &machine), Status::Warn, "512 MiB");
        machine.unit = None;
        machine.memory = super::super::machine::Memory {
            machine: None,
            group: None,
        };
        expect(&memory(&config, &machine), Status::Unknown, "can be read");
    }

    #[test]
    fn a_worker_has_a_cpu() {
        let mut machine = well();
        expect(
            &cpus(&config(&[]), &machine),
            Status::Ok,
            "2 workers on 2 CPUs",
        );
        machine.cpus = 1;
        expect(
            &cpus(&config(&[]), &machine),
            Status::Warn,
            "2 workers on 1 CPUs",
        );
    }

    /// Rules that leave the server out of connection tracking make the table no matter.
    #[test]
    fn what_is_not_tracked_takes_no_room() {
        use super::super::firewall::{Firewall, Listing, Listings};
        let config = config(&[]);
        let mut machine = well();
        machine.conntrack = Some(Conntrack {
            max: 1000,
            count: 12,
            udp_timeout_s: 30,
            udp_stream_timeout_s: 3600,
        });
        let mut of = |rule: &str| {
            let text = format!("*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING {rule}\nCOMMIT\n");
            machine.firewall = Firewall::read(&Listings {
                nft: Listing::Missing,
                iptables: Listing::Text(text),
                ip6tables: Listing::Missing,
            });
            conntrack(&config, &machine)
        };
        let found = of("-p udp -m multiport --dports 3478,49152:65535 -j CT --notrack");
        expect(&found[0], Status::Ok, "are left out");
        expect(&found[1], Status::Ok, "3600 s both ways");
        let found = of("-p udp -m udp --dport 49152:65535 -j NOTRACK");
        expect(&found[0], Status::Warn, "may want 48000");
        expect(&found[1], Status::Warn, "3600 s both ways");
        let found = of("-p udp -m limit --limit 5/s -j NOTRACK");
        expect(&found[0], Status::Warn, "is not clear");
    }

    #[test]
    fn the_table_of_connections_has_room() {
        let config = config(&[]);
        let mut machine = well();
        let mut table = Conntrack {
            max: 65_536,
            count: 65_536 - 48_000,
            udp_timeout_s: 30,
            udp_stream_timeout_s: 120,
        };
        let mut of = |table| {
            machine.conntrack = Some(table);
            conntrack(&config, &machine)
        };
        expect(&of(table)[0], Status::Ok, "of 65536 entries");
        table.count += 1;
        let found = of(table);
        expect(&found[0], Status::Warn, "may want 48000");
        expect(&found[1], Status::Ok, "30 s one way, 120 s both ways");
        let command = found[0].command.as_deref();
        assert_eq!(
            command,
            Some("sysctl -w net.netfilter.nf_conntrack_max=131072")
        );
        table.count = table.max / 100 * TABLE_PERCENT;
        expect(&of(table)[0], Status::Fail, "58950 of 65536");
        table.udp_stream_timeout_s = STREAM_TIMEOUT_MAX_S;
        expect(&of(table)[1], Status::Ok, "300 s");
        table.udp_stream_timeout_s += 1;
        expect(&of(table)[1], Status::Warn, "301 s");
    }
}
