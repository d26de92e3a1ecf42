//! Certificates, and the port for TLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::check;
use super::draft::{Draft, Element, quoted};

/// The port of TURN over TLS, of which both servers' defaults are.
const DEFAULT_PORT: u16 = 5349;

/// The port for plain TURN, if none is written.
const PLAIN_PORT: u16 = 3478;

const NO_PAIR: &str = "coturn serves TLS with a certificate and a key only";

/// Whether the file has coturn serve TLS.
pub(super) fn is_served(draft: &Draft<'_>) -> bool {
    let has = |name| draft.all(name).iter().any(|line| !line.value.is_empty());
    let is_off = draft.all("no-tls").last().and_then(|line| line.is_on()) == Some(true);
    has("cert") && has("pkey") && !is_off
}

/// Translates them. `addresses` are those of `listening-ip`.
pub(super) fn translate(draft: &mut Draft<'_>, addresses: &[IpAddr]) {
    let is_served = is_served(draft);
    let (cert, key) = (draft.text("cert"), draft.text("pkey"));
    let mut is_set = false;
    if let (Some(cert), Some(key), true) = (cert, key, is_served) {
        let (cert_file, key_file) = (quoted(cert.bare()), quoted(key.bare()));
        let toml = format!("[tls]\ncert = {}\nkey = {}", *cert_file, *key_file);
        match check(&toml) {
            Ok(()) => {
                for (line, key, file) in [(cert, "tls.cert", cert_file), (key, "tls.key", key_file)]
                {
                    draft.translated(line, "");
                    draft.set(key, file, &[line]);
                }
                is_set = true;
            }
            Err(problem) => {
                let (at, other) = match problem.key.as_str() {
                    "tls.key" => (key, cert),
                    _ => (cert, key),
                };
                draft.refused(at, &problem);
                draft.needless(other, NO_PAIR);
            }
        }
    } else {
        for line in [cert, key].into_iter().flatten() {
            draft.needless(line, NO_PAIR);
        }
    }
    if let Some((line, port)) = draft.port("tls-listening-port") {
        if is_set {
            listeners(draft, addresses, line.number, port);
            let note = if port == DEFAULT_PORT && addresses.is_empty() {
                "which is the default"
            } else {
                ""
            };
            draft.translated(line, note);
        } else {
            draft.needless(line, NO_PAIR);
        }
    } else if is_set && !addresses.is_empty() {
        set(draft, addresses, DEFAULT_PORT, vec![]);
    }
}

/// Sets the listeners that a port makes.
fn listeners(draft: &mut Draft<'_>, addresses: &[IpAddr], line: usize, port: u16) {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let any = any.into_iter().filter(|ip| ip.is_ipv4() || draft.host.ipv6);
    let any: Vec<IpAddr> = any.collect();
    match addresses {
        [] => set(draft, &any, port, vec![line]),
        addresses => set(draft, addresses, port, vec![line]),
    }
}

/// Of the port for plain TURN nothing is to be set: there TLS is taken too.
fn set(draft: &mut Draft<'_>, addresses: &[IpAddr], port: u16, lines: Vec<usize>) {
    let tcp = draft.settings.iter().find(|it| it.key == "listen.tcp");
    let taken = |address: &SocketAddr| match tcp.map(|it| &it.value) {
        Some(super::draft::Value::List(elements)) => elements
            .iter()
            .any(|element| *element.toml == *quoted(&address.to_string())),
        Some(_) => false,
        None => address.port() == PLAIN_PORT,
    };
    let listeners = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
    let elements = listeners.filter(|it| !taken(it)).map(|address| Element {
        toml: quoted(&address.to_string()),
        lines: lines.clone(),
    });
    let elements = elements.collect();
    draft.set_list("listen.tls", elements);
}
