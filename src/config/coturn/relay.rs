//! Where peers are talked to.

use std::net::IpAddr;

use super::check;
use super::draft::{Draft, Element, quoted};
use super::line::Line;
use crate::config::defaults;

/// A relay address, with the line that names it if one does.
struct RelayAddress {
    ip: IpAddr,
    line: Option<usize>,
}

/// Translates the relay addresses and ports. Returns the addresses of this server, by which clients
/// may be each other's peers.
pub(super) fn translate(draft: &mut Draft<'_>, listening: &[IpAddr]) -> Vec<IpAddr> {
    let mut relays = relay_addresses(draft, listening);
    let mapped = external(draft, &mut relays);
    if !relays.is_empty() {
        let elements = relays.iter().map(|relay| Element {
            toml: quoted(&relay.ip.to_string()),
            lines: relay.line.into_iter().collect(),
        });
        let elements = elements.collect();
        draft.set_list("relay.addresses", elements);
    }
    if !mapped.is_empty() {
        let pairs: Vec<String> = mapped
            .iter()
            .map(|(_, inside, outside)| format!("\"{inside}\" = \"{outside}\""))
            .collect();
        let lines: Vec<&Line<'_>> = mapped.iter().map(|mapping| mapping.0).collect();
        draft.set(
            "relay.external",
            format!("{{ {} }}", pairs.join(", ")),
            &lines,
        );
    }
    ports(draft);
    if let Some(line) = draft.last("allocation-default-address-family")
        && line.bare() == "ipv4"
    {
        draft.needless(line, "it is IPv4 anyway (RFC 8656)");
    }
    let outside = mapped
        .iter()
        .flat_map(|&(_, inside, outside)| [inside, outside]);
    let relays = relays.iter().map(|relay| relay.ip);
    let listening = listening.iter().copied();
    // Those that are picked where none is named, if the import is made where the server runs.
    let host = draft.host.route_sources.iter();
    let host = host.chain(&draft.host.interface_addresses).copied();
    let own = relays.chain(outside).chain(listening).chain(host);
    own.filter(|ip| !ip.is_unspecified()).collect()
}

/// What `relay-ip` names; without it coturn relays from the addresses that it listens on.
fn relay_addresses(draft: &mut Draft<'_>, listening: &[IpAddr]) -> Vec<RelayAddress> {
    let mut relays: Vec<RelayAddress> = Vec::new();
    for line in draft.all("relay-ip") {
        let Some(ip) = draft.address(line, line.bare()) else {
            continue;
        };
        if relays.iter().any(|relay| relay.ip == ip) {
            draft.needless(line, format!("{ip} is there already"));
        } else if let Err(problem) = check(&format!("relay.addresses = \"{ip}\"")) {
            draft.refused(line, &problem);
        } else {
            draft.translated(line, "");
            let line = Some(line.number);
            relays.push(RelayAddress { ip, line });
        }
    }
    if relays.is_empty() && !listening.iter().any(IpAddr::is_unspecified) {
        // Clients elsewhere could do nothing with a loopback address.
        let any_else = listening.iter().any(|ip| !ip.is_loopback());
        let implied = listening
            .iter()
            .filter(|ip| !(ip.is_loopback() && any_else));
        relays.extend(implied.map(|&ip| RelayAddress { ip, line: None }));
        if !relays.is_empty() {
            draft.note(
                "relay",
                "without relay-ip coturn relays from the addresses of listening-ip, so \
                 relay.addresses has them",
            );
        }
    }
    relays
}

/// What `external-ip` maps: line, address of this machine, address outside.
fn external<'a>(
    draft: &mut Draft<'a>,
    relays: &mut Vec<RelayAddress>,
) -> Vec<(&'a Line<'a>, IpAddr, IpAddr)> {
    let mut mapped: Vec<(&Line<'_>, IpAddr, IpAddr)> = Vec::new();
    for line in draft.all("external-ip") {
        let (outside, inside) = match line.bare().split_once('/') {
            Some((outside, inside)) => (outside, Some(inside)),
            None => (line.bare(), None),
        };
        let Some(outside) = draft.address(line, outside) else {
            continue;
        };
        let inside = match inside {
            Some(inside) => draft.address(line, inside),
            None => only_relay(draft, line, outside, relays),
        };
        let Some(inside) = inside else { continue };
        if inside == outside {
            draft.needless(line, "it is the relay address itself, not mapped");
            continue;
        }
        if let Err((what, remedy)) = check_mapping(inside, outside, relays, &mapped) {
            draft.invalid(line, what, remedy);
            continue;
        }
        let is_relay = relays.iter().any(|relay| relay.ip == inside);
        // Where no address is named those of the default routes are taken, of both families.
        let is_picked = relays.is_empty() && draft.host.relay_addresses().contains(&inside);
        if !is_relay && !is_picked {
            relays.push(RelayAddress {
                ip: inside,
                line: Some(line.number),
            });
            draft.note(
                "relay",
                format!(
                    "{inside} is relayed from because line {} maps it; write further addresses, of \
                     IPv6 for example, to relay.addresses too",
                    line.number
                ),
            );
        }
        draft.translated(line, "");
        mapped.push((line, inside, outside));
    }
    mapped
}

/// The relay address that `external-ip` without a private part is for.
fn only_relay(
    draft: &mut Draft<'_>,
    line: &Line<'_>,
    outside: IpAddr,
    relays: &[RelayAddress],
) -> Option<IpAddr> {
    let is_alike = |ip: &IpAddr| ip.is_ipv4() == outside.is_ipv4();
    let configured = relays.iter().map(|relay| relay.ip);
    let configured: Vec<IpAddr> = configured.filter(|ip| is_alike(ip)).collect();
    if let [only] = configured[..] {
        return Some(only);
    }
    let found = draft.host.relay_addresses().iter().find(|ip| is_alike(ip));
    match (configured.is_empty(), found) {
        (true, Some(&found)) => {
            draft.note(
                "relay",
                format!(
                    "external-ip in line {} does not say whose external address it is: {found}, \
                     this machine's, is taken. Change it in relay.external and relay.addresses if \
                     the server will run elsewhere",
                    line.number
                ),
            );
            Some(found)
        }
        _ => {
            let what = format!("{outside} does not say whose external address it is");
            draft.invalid(line, what, format!("write {outside}/RELAY-ADDRESS"));
            None
        }
    }
}

fn check_mapping(
    inside: IpAddr,
    outside: IpAddr,
    relays: &[RelayAddress],
    mapped: &[(&Line<'_>, IpAddr, IpAddr)],
) -> Result<(), (String, String)> {
    let remedy = "keep one of the two".to_owned();
    if let Some((line, ..)) = mapped.iter().find(|m| m.1 == inside || m.2 == outside) {
        let what = format!("line {} maps one of these addresses already", line.number);
        return Err((what, remedy));
    }
    let alike = relays
        .iter()
        .filter(|relay| relay.ip.is_ipv4() == inside.is_ipv4());
    let mut alike = alike.map(|relay| relay.ip).peekable();
    if alike.peek().is_some() && !alike.any(|ip| ip == inside) {
        let what = format!("{inside} is no relay address, so that the mapping has no effect");
        return Err((what, format!("write relay-ip={inside}, or remove the line")));
    }
    if relays.iter().any(|relay| relay.ip == outside) {
        let what = format!("{outside} is a relay address itself");
        return Err((what, remedy));
    }
    let toml = format!(
        "relay.addresses = \"{inside}\"\nrelay.external = {{ \"{inside}\" = \"{outside}\" }}"
    );
    check(&toml).map_err(|problem| (problem.what, problem.remedy))
}

fn ports(draft: &mut Draft<'_>) {
    let (min, max) = (draft.port("min-port"), draft.port("max-port"));
    let lines: Vec<&Line<'_>> = [min, max]
        .into_iter()
        .flatten()
        .map(|port| port.0)
        .collect();
    if lines.is_empty() {
        return;
    }
    let low = min.map_or(*defaults::RELAY_PORTS.start(), |port| port.1);
    let high = max.map_or(*defaults::RELAY_PORTS.end(), |port| port.1);
    let toml = format!("\"{low}-{high}\"");
    let checked = check(&format!("relay.ports = {toml}"));
    for line in &lines {
        match &checked {
            Ok(()) => draft.translated(line, ""),
            Err(problem) => draft.refused(line, problem),
        }
    }
    if checked.is_ok() {
        draft.set("relay.ports", toml, &lines);
    }
}
