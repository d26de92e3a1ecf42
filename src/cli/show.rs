//! `turnstone show`: one allocation in full.

use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;

use super::admin_client::{ServerArgs, ask_and_print, encoded};
use super::table::{Side, Table, bit_rate, bytes, duration};

/// Show one allocation in full, with its rates over a second
#[derive(clap::Args)]
pub(super) struct Args {
    /// The allocation, as turnstone allocations names it
    id: String,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Allocation {
    id: String,
    user: String,
    username: String,
    client: String,
    transport: String,
    server: String,
    relayed: Vec<String>,
    age_s: u64,
    idle_s: u64,
    expires_s: u64,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    rates: Rates,
    packets_to_peers: u64,
    bytes_to_peers: u64,
    packets_to_client: u64,
    bytes_to_client: u64,
    dropped_to_client: u64,
    limited_to_peers: u64,
    limited_to_client: u64,
}

#[derive(Deserialize)]
struct Permission {
    address: String,
    expires_s: u64,
}

#[derive(Deserialize)]
struct Channel {
    number: u16,
    peer: String,
    expires_s: u64,
}

#[derive(Deserialize)]
struct Rates {
    bits_per_s_to_peers: u64,
    bits_per_s_to_client: u64,
    packets_per_s_to_peers: u64,
    packets_per_s_to_client: u64,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let path = format!("/v1/allocations/{}", encoded(&self.id));
        let told = |allocation| in_full(&allocation);
        ask_and_print(self.server, Method::GET, &path, String::new(), told)
    }
}

fn in_full(it: &Allocation) -> String {
    let mut facts = Table::new(&[("ALLOCATION", Side::Left), ("", Side::Left)]);
    facts.row(vec!["id".to_owned(), it.id.clone()]);
    facts.whole_row(&["user", &it.user]);
    facts.whole_row(&["username", &it.username]);
    let mut fact = |name: &str, value: String| facts.row(vec![name.to_owned(), value]);
    fact("client", format!("{} by {}", it.client, it.transport));
    fact("server", it.server.clone());
    for relayed in &it.relayed {
        fact("relayed", relayed.clone());
    }
    fact("age", duration(it.age_s));
    fact("idle", duration(it.idle_s));
    fact("expires", format!("in {}", duration(it.expires_s)));

    let mut traffic = Table::new(&[
        ("TRAFFIC", Side::Left),
        ("BYTES", Side::Right),
        ("PACKETS", Side::Right),
        ("RATE", Side::Right),
        ("PACKETS/S", Side::Right),
        ("LIMITED", Side::Right),
        ("DROPPED", Side::Right),
    ]);
    traffic.row(vec![
        "to peers".to_owned(),
        bytes(it.bytes_to_peers),
        it.packets_to_peers.to_string(),
        bit_rate(it.rates.bits_per_s_to_peers),
        it.rates.packets_per_s_to_peers.to_string(),
        it.limited_to_peers.to_string(),
        "-".to_owned(),
    ]);
    traffic.row(vec![
        "to client".to_owned(),
        bytes(it.bytes_to_client),
        it.packets_to_client.to_string(),
        bit_rate(it.rates.bits_per_s_to_client),
        it.rates.packets_per_s_to_client.to_string(),
        it.limited_to_client.to_string(),
        it.dropped_to_client.to_string(),
    ]);

    let mut permissions = Table::new(&[("PERMISSION", Side::Left), ("EXPIRES", Side::Right)]);
    for permission in &it.permissions {
        permissions.row(vec![
            permission.address.clone(),
            duration(permission.expires_s),
        ]);
    }
    let mut channels = Table::new(&[
        ("CHANNEL", Side::Left),
        ("PEER", Side::Left),
        ("EXPIRES", Side::Right),
    ]);
    for channel in &it.channels {
        channels.row(vec![
            format!("{:#06x}", channel.number),
            channel.peer.clone(),
            duration(channel.expires_s),
        ]);
    }
    format!("{facts}\n\n{traffic}\n\n{permissions}\n\n{channels}")
}
