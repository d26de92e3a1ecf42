//! Who may be relayed to. In coturn allowed beats denied and private networks are open; in
//! turnstone deny wins and private networks are closed.

use std::net::IpAddr;

use ipnet::IpNet;

use super::check;
use super::draft::{Draft, Element, quoted};
use super::line::Line;
use super::ranges::Range;
use crate::turn::{PeerPolicy, PeerRefusal};

/// Networks that coturn leaves open and turnstone closes.
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

const PRIVATE_CLOSED: &str = "coturn relays to private networks (10.0.0.0/8, 172.16.0.0/12, \
    192.168.0.0/16, 100.64.0.0/10) unless they are denied, turnstone only where peers.allow opens \
    them. If your clients talk to machines there, a media server for example, write their networks \
    to peers.allow; clients who reach each other through this server need nothing";

const OWN_CLOSED: &str = "coturn relays to other services of its own machine unless the address is \
    denied, turnstone only where peers.allow has the very address, and never to its listeners. If your \
    clients talk to such a service, a media server for example, write its address and port to \
    peers.allow; clients who reach each other through this server need nothing";

const OWN_OPENED: &str = "it opens every service of this machine at the address but the listeners of \
    turnstone, as it did in coturn: write the port of yours behind it, or remove it if it was meant \
    for clients who reach each other through this server, who need nothing";

/// Lists that guides hand around deny them, for servers that would take them for IPv4.
const MAPPED: &str = "IPv4-mapped addresses are never peers";

/// The ranges of a line.
struct Listed<'a> {
    line: &'a Line<'a>,
    range: Range,
    /// Why it was read although coturn does not.
    note: &'static str,
}

/// `own` are the addresses of this server.
pub(super) fn translate(draft: &mut Draft<'_>, own: &[IpAddr]) {
    if let Some(line) = draft.switch("allow-loopback-peers") {
        draft.translated(line, "");
        draft.set("peers.allow_loopback", "true".to_owned(), &[line]);
    }
    let allowed = listed(draft, "allowed-peer-ip");
    let denied = listed(draft, "denied-peer-ip");
    let exceptions = allow(draft, &allowed, &denied, own);
    deny(draft, &exceptions, &denied);
    draft.note("peers", OWN_CLOSED);
    let private = PRIVATE.map(|text| Range::from(text.parse::<IpNet>().expect("a network")));
    let mut covered = exceptions;
    covered.extend(denied.iter().map(|denied| denied.range));
    if private
        .iter()
        .any(|range| !range.without(&covered).is_empty())
    {
        draft.note("peers", PRIVATE_CLOSED);
    }
}

/// Lines of each option that are read. Every one of the one may cut every one of the other.
const LINES_MAX: usize = 1000;

/// Networks of `peers.deny` at most; each is tried on the configuration's own checks.
const NETWORKS_MAX: usize = 4096;

fn listed<'a>(draft: &mut Draft<'a>, name: &'static str) -> Vec<Listed<'a>> {
    let mut listed = Vec::new();
    for (index, line) in draft.all(name).into_iter().enumerate() {
        if index >= LINES_MAX {
            let what = format!("only {LINES_MAX} such lines are read");
            draft.invalid(line, what, "write larger ranges, and fewer of them");
            continue;
        }
        let text = line.bare();
        if let Ok(network) = text.parse::<IpNet>() {
            listed.push(Listed {
                line,
                range: Range::from(network),
                note: "coturn does not read CIDR, so the line had no effect; it is read as meant",
            });
            continue;
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let Some(first) = draft.address(line, first) else {
            continue;
        };
        let last = match last == text {
            true => Some(first),
            false => draft.address(line, last),
        };
        let Some(last) = last else { continue };
        if let Some(range) = Range::new(first, last) {
            let note = "";
            listed.push(Listed { line, range, note });
        } else {
            let what = format!("{text:?} is no range of addresses");
            let remedy = "write the lower address first, and both of one family";
            draft.invalid(line, what, remedy);
        }
    }
    listed
}

/// Opens what is allowed, and returns what must not be denied.
fn allow(
    draft: &mut Draft<'_>,
    allowed: &[Listed<'_>],
    denied: &[Listed<'_>],
    own: &[IpAddr],
) -> Vec<Range> {
    let (mut elements, mut exceptions) = (Vec::new(), Vec::new());
    for Listed { line, range, note } in allowed {
        let is_cut = denied.iter().any(|denied| denied.range.overlaps(range));
        if range.is_mapped() {
            let instead = "write the IPv4 addresses, of which the public ones are open anyway";
            draft.missing(line, format!("{MAPPED}; {instead}"));
            continue;
        }
        let networks = range.networks();
        let is_own = range.single().is_some_and(|ip| own.contains(&ip));
        let closed = networks.iter().filter(|n| is_own || !is_open(n));
        let closed: Vec<&IpNet> = closed.collect();
        if closed.is_empty() {
            if is_cut {
                draft.translated(line, "public addresses are open anyway");
                exceptions.push(*range);
            } else {
                draft.needless(line, "public addresses are open anyway");
            }
            continue;
        }
        let problem = closed
            .iter()
            .find_map(|network| check(&format!("peers.allow = \"{network}\"")).err());
        if let Some(problem) = problem {
            draft.missing(line, format!("{}; {}", problem.what, problem.remedy));
            continue;
        }
        draft.translated(line, if is_own { OWN_OPENED } else { note });
        exceptions.push(*range);
        elements.extend(closed.into_iter().map(|network| element(network, line)));
    }
    if !elements.is_empty() {
        draft.set_list("peers.allow", elements);
    }
    exceptions
}

fn deny(draft: &mut Draft<'_>, exceptions: &[Range], denied: &[Listed<'_>]) {
    let mut elements = Vec::new();
    for Listed { line, range, note } in denied {
        if range.is_mapped() {
            draft.needless(line, MAPPED);
            continue;
        }
        let has_exception = exceptions.iter().any(|allowed| allowed.overlaps(range));
        let networks = range.networks();
        if has_exception && networks.iter().all(is_closed) {
            draft.needless(
                line,
                "it is closed anyway, but for what peers.allow opens of it; peers.deny would win \
                 over that",
            );
            continue;
        }
        let left = range.without(exceptions);
        let networks = left.iter().flat_map(Range::networks);
        let networks: Vec<IpNet> = networks
            .filter(|network| !Range::from(*network).is_mapped())
            .collect();
        if elements.len() + networks.len() > NETWORKS_MAX {
            let what = format!("with it peers.deny would have more than {NETWORKS_MAX} networks");
            let remedy = "have fewer lines of allowed-peer-ip, which cut it into pieces";
            draft.invalid(line, what, remedy);
            continue;
        }
        let problem = networks
            .iter()
            .find_map(|network| check(&format!("peers.deny = \"{network}\"")).err());
        if let Some(problem) = problem {
            draft.refused(line, &problem);
            continue;
        }
        let cut = "what allowed-peer-ip names is cut out";
        let notes = [*note, if has_exception { cut } else { "" }];
        let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        draft.translated(line, notes.join("; "));
        elements.extend(networks.iter().map(|network| element(network, line)));
    }
    if !elements.is_empty() {
        draft.set_list("peers.deny", elements);
    }
}

fn element(network: &IpNet, line: &Line<'_>) -> Element {
    Element {
        toml: quoted(&network.to_string()),
        lines: vec![line.number],
    }
}

/// Whether a network is open without a word in `peers`.
fn is_open(network: &IpNet) -> bool {
    crate::config::resolve::is_public(*network)
}

/// Whether all of a network is closed without one. The two ends of a network that is wider than a
/// closed one are of different kinds.
fn is_closed(network: &IpNet) -> bool {
    let [first, last] = ends(network);
    first.is_some() && first == last
}

fn ends(network: &IpNet) -> [Option<PeerRefusal>; 2] {
    let policy = PeerPolicy::default();
    [network.network(), network.broadcast()].map(|ip| policy.check_ip(ip).err())
}
