//! Whether this machine has the addresses of the configuration, and whether others can reach them.

use std::net::IpAddr;

use super::listeners::{self, Listener};
use super::machine::Machine;
use super::report::Finding;
use crate::config::{Config, is_private};

const LISTENERS: &str = "addresses.listeners";
const RELAY: &str = "addresses.relay";
const EXTERNAL: &str = "addresses.external";
const ROUTES: &str = "addresses.routes";

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = listeners(config, machine);
    findings.extend(relay(config, machine));
    findings.extend(external(config, machine));
    findings.extend(routes(config, machine));
    findings
}

fn listeners(config: &Config, machine: &Machine) -> Vec<Finding> {
    let missing = listeners::all(config).into_iter().filter(|listener| {
        let address = listener.address;
        let any = address.ip().is_unspecified() && (address.is_ipv4() || machine.network.ipv6);
        !any && !machine.network.addresses.contains(&address.ip())
    });
    let findings: Vec<Finding> = missing.map(missing_address).collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            LISTENERS,
            "the addresses of all listeners are this machine's",
        )];
    }
    findings
}

fn missing_address(listener: Listener) -> Finding {
    let Listener { key, address, .. } = listener;
    if address.ip().is_unspecified() {
        let found = format!("{listener}: this machine has no IPv6");
        let fix = format!("switch IPv6 on, or remove it from {key}");
        return if listener.is_for_clients {
            Finding::warn(LISTENERS, found).why("the server leaves this listener out")
        } else {
            Finding::fail(LISTENERS, found).why("the server does not start")
        }
        .fix(fix);
    }
    let found = format!("{listener}: this machine does not have the address");
    if !listener.is_needed {
        return Finding::warn(LISTENERS, found)
            .why("the server starts without it")
            .fix(format!("set {key}"));
    }
    let fix = if listener.is_for_clients {
        format!(
            "correct {key}: 0.0.0.0 and [::] listen on every address, and \"ip addr\" shows those \
             there are"
        )
    } else {
        format!("correct {key}: write an address that \"ip addr\" shows, or 127.0.0.1")
    };
    Finding::fail(LISTENERS, found)
        .why("the server does not start")
        .fix(fix)
}

fn relay(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![];
    for &address in &config.relay.addresses {
        let advertised = config.relay.advertised(address);
        findings.push(if !machine.network.addresses.contains(&address) {
            Finding::fail(
                RELAY,
                format!("{address}: this machine does not have the address"),
            )
            .why("the server does not start")
            .fix(
                "set relay.addresses to an address that \"ip addr\" shows; if this one is the \
                     public side of 1:1 NAT, write it to relay.external instead",
            )
            .command(format!(
                "[relay]\nexternal = {{ \"THE-MACHINES-ADDRESS\" = \"{address}\" }}"
            ))
        } else if advertised != address {
            Finding::ok(RELAY, format!("{address}: told to peers as {advertised}"))
        } else if address.is_loopback() {
            Finding::warn(RELAY, format!("{address}: loopback"))
                .why("nobody outside of this machine can reach a relayed address")
                .fix("set relay.addresses to an address of a network")
        } else if is_private(address) {
            Finding::warn(
                RELAY,
                format!("{address}: private, and relay.external does not map it"),
            )
            .why(
                "clients are told this address for their peers, and peers on the Internet \
                     cannot reach it; within a private network it is right",
            )
            .fix("behind 1:1 NAT, as in most clouds, name the public address")
            .command(format!(
                "[relay]\nexternal = {{ \"{address}\" = \"PUBLIC-ADDRESS\" }}"
            ))
        } else {
            Finding::ok(RELAY, format!("{address}: public, and this machine's own"))
        });
    }
    findings
}

fn external(config: &Config, machine: &Machine) -> Vec<Finding> {
    let is_own = |address: &IpAddr| machine.network.addresses.contains(address);
    let mapped = config.relay.external.iter();
    mapped
        .filter(|(inside, outside)| inside != outside)
        .filter_map(|(inside, outside)| {
            if is_own(outside) {
                let found =
                    format!("{outside}: relay.external, and an address of this machine too");
                return Some(
                    Finding::warn(EXTERNAL, found)
                        .why(format!(
                            "peers send to {outside}, and nothing translates that to {inside}, \
                             where the relay sockets are"
                        ))
                        .fix("relay from it directly, and remove it from relay.external")
                        .command(format!("[relay]\naddresses = [\"{outside}\"]")),
                );
            }
            is_private(*outside).then(|| {
                Finding::warn(EXTERNAL, format!("{outside}: relay.external, and private"))
                    .why("peers on the Internet cannot reach it")
                    .fix("write the address that the Internet sees")
            })
        })
        .collect()
}

fn routes(config: &Config, machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![];
    for (v4, name) in [(true, "IPv4"), (false, "IPv6")] {
        let route = machine
            .network
            .routes
            .iter()
            .find(|source| source.is_ipv4() == v4);
        let mut relays = config.relay.addresses.iter();
        let relays = relays.any(|relay| relay.is_ipv4() == v4 && !relay.is_loopback());
        findings.push(match (route, relays) {
            (Some(source), true) => {
                Finding::ok(ROUTES, format!("{name}: a default route, from {source}"))
            }
            (Some(source), false) if !is_private(*source) => {
                Finding::warn(ROUTES, format!("{name}: {source} is not relayed from"))
                    .why(format!("clients cannot reach peers that have {name} only"))
                    .fix("add it to relay.addresses")
            }
            (Some(source), false) => Finding::ok(
                ROUTES,
                format!("{name}: {source} is private, and not relayed from"),
            ),
            (None, true) => Finding::warn(ROUTES, format!("{name}: no default route"))
                .why("peers and clients beyond this machine's own networks get no answer")
                .fix("add a default route, or leave the family out of relay.addresses"),
            (None, false) => Finding::ok(ROUTES, format!("{name}: no default route, and not used")),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{config, well};
    use super::super::report::Status;
    use super::*;

    type Setting = (&'static str, &'static str);

    fn of(check: &str, settings: &[Setting], change: impl FnOnce(&mut Machine)) -> Vec<Finding> {
        let mut machine = well();
        change(&mut machine);
        let mut found = examine(&config(settings), &machine);
        found.retain(|finding| finding.check == check);
        found
    }

    #[track_caller]
    fn expect(found: &[Finding], status: Status, text: &str) {
        assert!(
            found
                .iter()
                .any(|f| f.status == status && f.found.contains(text)),
            "{found:#?}"
        );
    }

    #[test]
    fn a_public_machine_is_well() {
        let found = examine(&config(&[]), &well());
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:#?}");
    }

    #[test]
    fn listeners_need_an_address() {
        let found = of(LISTENERS, &[("listen.udp", "198.51.100.7:3478")], |_| {});
        expect(&found, Status::Fail, "198.51.100.7:3478/udp");
        let found = of(LISTENERS, &[("listen.tcp", "203.0.113.10:443")], |_| {});
        expect(&found, Status::Ok, "all listeners");
        let found = of(LISTENERS, &[("listen.tcp", "0.0.0.0:1")], |machine| {
            machine.network.ipv6 = false;
        });
        expect(&found, Status::Ok, "all listeners");
        let mut with_v6 = config(&[]);
        with_v6.listen.udp.push("[::]:3478".parse().unwrap());
        let mut machine = well();
        machine.network.ipv6 = false;
        expect(&listeners(&with_v6, &machine), Status::Warn, "no IPv6");
    }

    /// Without one of these `run` ends too.
    #[test]
    fn listeners_of_http_need_an_address() {
        for key in ["metrics.listen", "admin.listen", "credentials.listen"] {
            let mut config = config(&[]);
            config.metrics.is_default = false;
            let listen = match key {
                "admin.listen" => &mut config.admin.listen,
                "credentials.listen" => &mut config.credentials.listen,
                _ => &mut config.metrics.listen,
            };
            *listen = "198.51.100.7:9000".parse().ok();
            let found = listeners(&config, &well());
            expect(
                &found,
                Status::Fail,
                &format!("198.51.100.7:9000/tcp ({key})"),
            );
        }
        let everywhere = config(&[("metrics.listen", "[::]:9000")]);
        let mut machine = well();
        machine.network.ipv6 = false;
        expect(&listeners(&everywhere, &machine), Status::Fail, "no IPv6");
        machine
            .network
            .addresses
            .retain(|address| !address.is_loopback());
        let found = listeners(&config(&[]), &machine);
        expect(&found, Status::Warn, "127.0.0.1:9641/tcp (metrics.listen)");
    }

    #[test]
    fn relay_addresses_are_the_machines_and_reachable() {
        let found = of(RELAY, &[("relay.addresses", "198.51.100.7")], |_| {});
        expect(&found, Status::Fail, "198.51.100.7");
        let private: [Setting; 1] = [("relay.addresses", "10.0.0.5")];
        let mapped: [Setting; 2] = [private[0], ("relay.external", "10.0.0.5=198.51.100.7")];
        let has =
            |machine: &mut Machine| machine.network.addresses = vec!["10.0.0.5".parse().unwrap()];
        let found = of(RELAY, &private, has);
        expect(&found, Status::Warn, "private");
        let command = found[0].command.as_deref().unwrap();
        assert!(
            command.contains("\"10.0.0.5\" = \"PUBLIC-ADDRESS\""),
            "{command}"
        );
        expect(
            &of(RELAY, &mapped, has),
            Status::Ok,
            "told to peers as 198.51.100.7",
        );
        let loopback = [("relay.addresses", "127.0.0.1")];
        let found = of(RELAY, &loopback, |machine| {
            machine.network.addresses.push("127.0.0.1".parse().unwrap());
        });
        expect(&found, Status::Warn, "loopback");
    }

    #[test]
    fn external_addresses_are_somebody_elses() {
        let mapped = [
            ("relay.addresses", "10.0.0.5"),
            ("relay.external", "10.0.0.5=203.0.113.10"),
        ];
        expect(
            &of(EXTERNAL, &mapped, |_| {}),
            Status::Warn,
            "this machine too",
        );
        let found = of(EXTERNAL, &mapped, |machine| {
            machine.network.addresses.clear()
        });
        assert_eq!(found, []);
        let mapped = [mapped[0], ("relay.external", "10.0.0.5=10.1.0.5")];
        expect(&of(EXTERNAL, &mapped, |_| {}), Status::Warn, "private");
    }

    #[test]
    fn every_family_that_is_used_has_a_route() {
        let found = of(ROUTES, &[], |_| {});
        expect(
            &found,
            Status::Ok,
            "IPv4: a default route, from 203.0.113.10",
        );
        expect(&found, Status::Ok, "IPv6: no default route, and not used");
        let found = of(ROUTES, &[], |machine| machine.network.routes.clear());
        expect(&found, Status::Warn, "IPv4: no default route");
        let v6 = |address: &'static str| {
            move |machine: &mut Machine| machine.network.routes.push(address.parse().unwrap())
        };
        let found = of(ROUTES, &[], v6("2001:db8::1"));
        expect(
            &found,
            Status::Warn,
            "IPv6: 2001:db8::1 is not relayed from",
        );
        let found = of(ROUTES, &[], v6("fd00::1"));
        expect(&found, Status::Ok, "fd00::1 is private");
    }
}
