//! `turnstone allocations`: what clients hold.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Deserialize;

use super::admin_client::{AdminClient, Failure, ServerArgs, encoded, read};
use super::output;
use super::table::{Side, Table, allocations, bit_rate, bytes, duration};

/// Allocations of a page, the most that the server gives.
const PAGE: usize = 1000;

/// Pages that are asked for at most: more allocations than a server can have.
const PAGES_MAX: usize = 2000;

/// Between two looks of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Takes a terminal's cursor to the first line, and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// List the allocations of a server that runs
#[derive(clap::Args)]
pub(super) struct Args {
    /// Those of this user, or with this very USERNAME
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Those of clients in this network, or with this address
    #[arg(long, value_name = "CIDR")]
    client: Option<String>,

    /// Look again every two seconds, and show rates
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Page {
    allocations: Vec<Allocation>,
    next: Option<String>,
}

/// What of an allocation a row shows.
#[derive(Deserialize)]
struct Allocation {
    id: String,
    user: String,
    client: String,
    transport: String,
    relayed: Vec<String>,
    age_s: u64,
    idle_s: u64,
    expires_s: u64,
    permissions: u64,
    channels: u64,
    bytes_to_peers: u64,
    bytes_to_client: u64,
}

/// What had been relayed at the last look.
struct Look {
    at: Instant,
    bytes: HashMap<String, (u64, u64)>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let parameters = parameters(self.user.as_deref(), self.client.as_deref());
        let listed = AdminClient::new(self.server).and_then(|server| {
            if self.watch {
                watch(&server, &parameters)
            } else if server.is_json() {
                let pages = pages(&server, &parameters, |_| {})?;
                Ok(output::print(pages.join("\n")))
            } else {
                let (allocations, _) = look(&server, &parameters)?;
                Ok(output::print(table(&allocations, None)))
            }
        });
        listed.unwrap_or_else(|failure| failure.tell())
    }
}

fn parameters(user: Option<&str>, client: Option<&str>) -> String {
    let user = user.map(|user| format!("&user={}", encoded(user)));
    let client = client.map(|client| format!("&client={}", encoded(client)));
    user.unwrap_or_default() + &client.unwrap_or_default()
}

/// Every page as the server has written it.
fn pages(
    server: &AdminClient,
    parameters: &str,
    mut each: impl FnMut(Vec<Allocation>),
) -> Result<Vec<String>, Failure> {
    let (mut pages, mut cursor) = (vec![], String::new());
    for _ in 0..PAGES_MAX {
        let path = format!("/v1/allocations?limit={PAGE}{parameters}{cursor}");
        let text = server.ask_for_text(Method::GET, &path, String::new())?;
        let page: Page = read(&text)?;
        pages.push(text);
        each(page.allocations);
        match page.next {
            Some(next) => cursor = format!("&cursor={}", encoded(&next)),
            None => break,
        }
    }
    Ok(pages)
}

fn look(server: &AdminClient, parameters: &str) -> Result<(Vec<Allocation>, Look), Failure> {
    let at = Instant::now();
    let mut allocations = vec![];
    pages(server, parameters, |page| allocations.extend(page))?;
    let relayed = |it: &Allocation| (it.id.clone(), (it.bytes_to_peers, it.bytes_to_client));
    let bytes = allocations.iter().map(relayed).collect();
    Ok((allocations, Look { at, bytes }))
}

/// Goes on until it is interrupted, or nobody reads what it prints.
fn watch(server: &AdminClient, parameters: &str) -> Result<ExitCode, Failure> {
    let clear = if io::stdout().is_terminal() {
        CLEAR
    } else {
        ""
    };
    let mut last = None;
    loop {
        let text = if server.is_json() {
            pages(server, parameters, |_| {})?.join("\n")
        } else {
            let (found, this) = look(server, parameters)?;
            let table = table(&found, Some((last.as_ref(), &this)));
            last = Some(this);
            format!("{clear}{table}\n{}", allocations(found.len() as u64))
        };
        if let Err(error) = output::write(text) {
            return Ok(match error.kind() {
                io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            });
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// With two looks, the last one of which there may not have been, rates take the place of amounts.
fn table(allocations: &[Allocation], looks: Option<(Option<&Look>, &Look)>) -> Table {
    let mut table = Table::new(&[
        ("ID", Side::Left),
        ("USER", Side::Left),
        ("CLIENT", Side::Left),
        ("VIA", Side::Left),
        ("RELAYED", Side::Left),
        ("AGE", Side::Right),
        ("IDLE", Side::Right),
        ("EXPIRES", Side::Right),
        ("PERM", Side::Right),
        ("CHAN", Side::Right),
        ("TO PEERS", Side::Right),
        ("TO CLIENT", Side::Right),
    ]);
    for allocation in allocations {
        let [to_peers, to_client] = match looks {
            None => [allocation.bytes_to_peers, allocation.bytes_to_client].map(bytes),
            Some((last, this)) => rates(allocation, last, this),
        };
        // A row for the second relayed address, with nothing else in it.
        let mut relayed = allocation.relayed.iter();
        table.row(vec![
            allocation.id.clone(),
            allocation.user.clone(),
            allocation.client.clone(),
            allocation.transport.clone(),
            relayed.next().cloned().unwrap_or_default(),
            duration(allocation.age_s),
            duration(allocation.idle_s),
            duration(allocation.expires_s),
            allocation.permissions.to_string(),
            allocation.channels.to_string(),
            to_peers,
            to_client,
        ]);
        for second in relayed {
            let mut cells = vec![String::new(); 12];
            cells[4].clone_from(second);
            table.row(cells);
        }
    }
    table
}

fn rates(allocation: &Allocation, last: Option<&Look>, this: &Look) -> [String; 2] {
    let before = last.and_then(|last| Some((last.at, last.bytes.get(&allocation.id)?)));
    let Some((at, &(to_peers, to_client))) = before else {
        return ["-".to_owned(), "-".to_owned()];
    };
    let ms = this.at.duration_since(at).as_millis().max(1) as u64;
    let rate = |before: u64, now: u64| bit_rate(now.saturating_sub(before) * 8 * 1000 / ms);
    [
        rate(to_peers, allocation.bytes_to_peers),
        rate(to_client, allocation.bytes_to_client),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocation(bytes_to_peers: u64) -> Allocation {
        Allocation {
            id: "0-1f-2".to_owned(),
            user: "alice".to_owned(),
            client: "[2001:db8::1]:50000".to_owned(),
            transport: "udp".to_owned(),
            relayed: vec![
                "192.0.2.1:49152".to_owned(),
                "[2001:db8::2]:49152".to_owned(),
            ],
            age_s: 3725,
            idle_s: 0,
            expires_s: 540,
            permissions: 1,
            channels: 2,
            bytes_to_peers,
            bytes_to_client: 0,
        }
    }

    #[test]
    fn a_row_for_every_relayed_address() {
        let expected = "\
ID      USER   CLIENT               VIA  RELAYED                AGE  IDLE  EXPIRES  PERM  CHAN  TO PEERS  TO CLIENT
0-1f-2  alice  [2001:db8::1]:50000  udp  192.0.2.1:49152      1h02m    0s    9m00s     1     2   1.50 kB        0 B
                                         [2001:db8::2]:49152";
        assert_eq!(table(&[allocation(1500)], None).to_string(), expected);
    }

    #[test]
    fn rates_are_between_two_looks() {
        let look = |at, bytes_to_peers| Look {
            at,
            bytes: HashMap::from([("0-1f-2".to_owned(), (bytes_to_peers, 0))]),
        };
        let start = Instant::now();
        let last = look(start, 1000);
        let this = look(start + WATCH_INTERVAL, 251_000);
        let shown = rates(&allocation(251_000), Some(&last), &this);
        assert_eq!(shown, ["1.00 Mbit/s", "0 bit/s"]);
        assert_eq!(rates(&allocation(9), None, &this), ["-", "-"]);
    }

    #[test]
    fn parameters_are_encoded() {
        let encoded = parameters(Some("1700000000:a&b"), Some("2001:db8::/32"));
        assert_eq!(
            encoded,
            "&user=1700000000%3Aa%26b&client=2001%3Adb8%3A%3A%2F32"
        );
        assert_eq!(parameters(None, None), "");
    }
}
