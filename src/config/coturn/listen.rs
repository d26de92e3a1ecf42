//! Where clients connect.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::check;
use super::draft::{Draft, Element, quoted};
use super::line::Line;
use super::tls;

/// The port of STUN and TURN, of which both servers' defaults are.
const DEFAULT_PORT: u16 = 3478;

/// What to know when neither UDP nor TCP is wanted, and TLS is not set up.
const TLS_ONLY: &str = "with no-udp and no-tcp coturn serves TLS only, for which the file names no \
    certificate: TCP is served on loopback, for a proxy on this machine that ends TLS";

/// An address to listen on, with the lines that it comes from.
struct Listener {
    address: SocketAddr,
    lines: Vec<usize>,
}

/// Translates the listeners, and returns the addresses that `listening-ip` names.
pub(super) fn translate(draft: &mut Draft<'_>) -> Vec<IpAddr> {
    for name in ["rfc3489-compatibility", "stun-backward-compatibility"] {
        if let Some(line) = draft.switch(name) {
            draft.translated(line, "");
            if !draft
                .settings
                .iter()
                .any(|s| s.key == "listen.classic_stun")
            {
                draft.set("listen.classic_stun", "true".to_owned(), &[line]);
            }
        }
    }
    let port = draft.port("listening-port");
    let (listeners, addresses) = listeners(draft, port);
    let (no_udp, no_tcp) = (draft.switch("no-udp"), draft.switch("no-tcp"));
    let is_default = listeners.is_none();
    let listeners = listeners.unwrap_or_default();
    if let (Some(udp), Some(tcp), false) = (no_udp, no_tcp, tls::is_served(draft)) {
        draft.translated(udp, "");
        draft.translated(tcp, TLS_ONLY);
        draft.set("listen.udp", "[]".to_owned(), &[udp]);
        let port = port.map_or(DEFAULT_PORT, |port| port.1);
        draft.set("listen.tcp", format!("[\"127.0.0.1:{port}\"]"), &[tcp]);
        return addresses;
    }
    for (key, off) in [("listen.udp", no_udp), ("listen.tcp", no_tcp)] {
        if let Some(line) = off {
            draft.translated(line, "");
            draft.set(key, "[]".to_owned(), &[line]);
        } else if !is_default {
            let elements = listeners.iter().map(|listener| Element {
                toml: quoted(&listener.address.to_string()),
                lines: listener.lines.clone(),
            });
            let elements = elements.collect();
            draft.set_list(key, elements);
        }
    }
    addresses
}

/// The listeners, `None` if they are the default ones; and the addresses of `listening-ip`.
fn listeners(
    draft: &mut Draft<'_>,
    port: Option<(&Line<'_>, u16)>,
) -> (Option<Vec<Listener>>, Vec<IpAddr>) {
    let number = port.map_or(DEFAULT_PORT, |port| port.1);
    let mut listeners: Vec<Listener> = Vec::new();
    let mut addresses = Vec::new();
    for line in draft.all("listening-ip") {
        let Some(ip) = draft.address(line, line.bare()) else {
            continue;
        };
        if add(draft, &mut listeners, line, SocketAddr::new(ip, number)) {
            addresses.push(ip);
        }
    }
    let mut is_default = listeners.is_empty();
    if is_default {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let any = any.into_iter().filter(|ip| ip.is_ipv4() || draft.host.ipv6);
        listeners.extend(any.map(|ip| Listener {
            address: SocketAddr::new(ip, number),
            lines: Vec::new(),
        }));
        is_default = number == DEFAULT_PORT;
    }
    if let Some((line, _)) = port {
        draft.translated(line, "");
        for listener in &mut listeners {
            listener.lines.push(line.number);
        }
    }
    for line in draft.all("aux-server") {
        if let Ok(address) = line.bare().parse::<SocketAddr>() {
            is_default &= !add(draft, &mut listeners, line, address);
        } else {
            let what = format!("{:?} is not an address with a port", line.bare());
            draft.invalid(line, what, "write 203.0.113.10:443 or [2001:db8::10]:443");
        }
    }
    ((!is_default).then_some(listeners), addresses)
}

/// Adds a listener that the configuration takes and that is not there yet.
fn add(
    draft: &mut Draft<'_>,
    listeners: &mut Vec<Listener>,
    line: &Line<'_>,
    address: SocketAddr,
) -> bool {
    if listeners.iter().any(|known| known.address == address) {
        draft.needless(line, format!("{address} is there already"));
        return false;
    }
    let toml = quoted(&address.to_string());
    if let Err(problem) = check(&format!("listen.udp = {}", toml.as_str())) {
        draft.refused(line, &problem);
        return false;
    }
    draft.translated(line, "");
    listeners.push(Listener {
        address,
        lines: vec![line.number],
    });
    true
}
