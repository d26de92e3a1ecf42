//! `turnstone info`: a server that runs, as a whole.

use std::collections::BTreeMap;
use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;

use super::admin_client::{ServerArgs, ask_and_print};
use super::certificates::{days, unix_s};
use super::table::{Side, Table, duration};

/// Show a server that runs: its addresses, how full it is, whether it drains
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Info {
    version: String,
    uptime_s: u64,
    workers: u64,
    realm: String,
    listeners: Vec<Listener>,
    relay: Relay,
    draining: Option<Draining>,
    config: Configuration,
    allocations: u64,
    tcp_connections: u64,
    relay_ports: RelayPorts,
    certificates: Vec<Certificate>,
    acme: Option<Acme>,
    web: Option<Web>,
}

#[derive(Deserialize)]
struct Certificate {
    names: Vec<String>,
    algorithm: String,
    not_after_unix_s: i64,
}

#[derive(Deserialize)]
struct Listener {
    transport: String,
    address: String,
    leaving: bool,
}

#[derive(Deserialize)]
struct Relay {
    addresses: Vec<RelayAddress>,
    ports: String,
}

#[derive(Deserialize)]
struct RelayAddress {
    bound: String,
    advertised: String,
}

#[derive(Deserialize)]
struct Draining {
    for_s: u64,
    deadline_s: Option<u64>,
}

#[derive(Deserialize)]
struct Configuration {
    file: Option<String>,
    generation: u64,
}

#[derive(Deserialize)]
struct Acme {
    domains: Vec<String>,
    has_certificate: bool,
    next_attempt_unix_s: Option<u64>,
    last_error: Option<String>,
}

#[derive(Deserialize)]
struct Web {
    servers: Vec<WebServer>,
    failures: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct WebServer {
    kind: String,
    address: String,
    connections: u64,
    passed_on: u64,
}

#[derive(Deserialize)]
struct RelayPorts {
    live: u64,
    resting: u64,
    free: u64,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let told = |info| table(&info);
        ask_and_print(self.server, Method::GET, "/v1/info", String::new(), told)
    }
}

fn table(info: &Info) -> Table {
    let mut table = Table::new(&[("SERVER", Side::Left), ("", Side::Left)]);
    // Reasons and lists of names are to be read to their end.
    let mut row = |name: &str, value: String| table.whole_row(&[name, &value]);
    row("version", info.version.clone());
    row("up", duration(info.uptime_s));
    row("realm", info.realm.clone());
    for listener in &info.listeners {
        let Listener {
            transport,
            address,
            leaving,
        } = listener;
        let leaving = if *leaving {
            ", until its allocations end"
        } else {
            ""
        };
        row("listens", format!("{transport} {address}{leaving}"));
    }
    let now = unix_s();
    for Certificate {
        names,
        algorithm,
        not_after_unix_s,
    } in &info.certificates
    {
        let left = (not_after_unix_s - now).div_euclid(86_400);
        let verb = if left < 0 { "expired" } else { "expires" };
        let (names, left) = (names.join(", "), days(left));
        row(
            "certificate",
            format!("{names} ({algorithm}), {verb} {left}"),
        );
    }
    if let Some(acme) = &info.acme {
        row("ACME", of_acme(acme, now));
        if let Some(error) = &acme.last_error {
            row("", error.clone());
        }
    }
    if let Some(web) = &info.web {
        of_web(web, &mut row);
    }
    for RelayAddress { bound, advertised } in &info.relay.addresses {
        let address = match bound == advertised {
            true => bound.clone(),
            false => format!("{bound} as {advertised}"),
        };
        row("relays", address);
    }
    row("relay ports", info.relay.ports.clone());
    let RelayPorts {
        live,
        resting,
        free,
    } = info.relay_ports;
    row("", format!("{live} live, {resting} resting, {free} free"));
    row("allocations", info.allocations.to_string());
    row("TCP clients", info.tcp_connections.to_string());
    row("workers", info.workers.to_string());
    let file = info.config.file.as_deref().unwrap_or("none");
    row("configuration", file.to_owned());
    row("generation", info.config.generation.to_string());
    let draining = match &info.draining {
        None => "no".to_owned(),
        Some(Draining { for_s, deadline_s }) => {
            let deadline =
                deadline_s.map(|seconds| format!(", ends in {} at the latest", duration(seconds)));
            format!("for {}{}", duration(*for_s), deadline.unwrap_or_default())
        }
    };
    row("draining", draining);
    table
}

fn of_web(web: &Web, row: &mut impl FnMut(&str, String)) {
    for WebServer {
        kind,
        address,
        connections,
        passed_on,
    } in &web.servers
    {
        row("passes on", format!("{kind} to {address}"));
        row("", format!("{connections} now, {passed_on} so far"));
    }
    let failures = web.failures.iter().filter(|(_, count)| **count > 0);
    let failures = Vec::from_iter(failures.map(|(reason, count)| format!("{count} {reason}")));
    if !failures.is_empty() {
        row("", format!("closed instead: {}", failures.join(", ")));
    }
}

fn of_acme(acme: &Acme, now_unix_s: i64) -> String {
    let names = acme.domains.join(", ");
    let what = match (acme.has_certificate, &acme.last_error) {
        (_, Some(_)) => "the last attempt failed",
        (true, None) => "has a certificate",
        (false, None) => "has no certificate yet",
    };
    let next = match acme.next_attempt_unix_s {
        None => "an attempt is under way".to_owned(),
        Some(at) => {
            let left = (at as i64).saturating_sub(now_unix_s).max(0);
            format!("next attempt in {}", duration(left as u64))
        }
    };
    format!("{names}: {what}, {next}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What docs/tls.md promises of it is at the end of its lines.
    #[test]
    fn nothing_is_cut_off() {
        let reason = "the authority says: DNS problem: NXDOMAIN looking up A for turn.example.org; \
                      have the name lead to this server";
        let names = ["turn.example.org", "turn.example.net", "turn.example.com"];
        let info = json!({
            "version": "1.0.0", "uptime_s": 1, "workers": 1, "realm": "example.org",
            "listeners": [], "relay": {"addresses": [], "ports": "49152-65535"}, "draining": null,
            "config": {"file": null, "generation": 1}, "allocations": 0, "tcp_connections": 0,
            "relay_ports": {"live": 0, "resting": 0, "free": 1},
            "certificates": [{
                "names": names, "algorithm": "ECDSA", "not_after_unix_s": unix_s() + 90 * 86_400 + 60,
            }],
            "acme": {
                "domains": names, "has_certificate": false, "last_error": reason,
                "next_attempt_unix_s": unix_s() - 1,
            },
        });
        let shown = table(&serde_json::from_value(info).unwrap()).to_string();
        let names = names.join(", ");
        for end in [
            format!("{names} (ECDSA), expires in 90 days\n"),
            format!("{names}: the last attempt failed, next attempt in 0s\n"),
            format!("{reason}\n"),
        ] {
            assert!(shown.contains(&end), "{end} is not in\n{shown}");
        }
    }
}
