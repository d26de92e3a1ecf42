//! `turnstone check URL`: a TURN client that goes through everything a browser does with a server,
//! of any make, and says in words what works and what does not.
//!
//! It takes the part of an ordinary client: MD5 keys and MESSAGE-INTEGRITY, no FINGERPRINT, IPv4
//! relayed addresses unless there are none. Blocking sockets and one deadline; nothing here knows
//! the server's own modules, only `wire` and `auth`.

mod address;
mod client;
mod clock;
mod credentials;
mod data;
mod failure;
mod login;
mod outside;
mod probe;
mod report;
mod tls;
mod traffic;
mod transport;
mod url;

use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use secrecy::SecretString;

use crate::cli::credentials::unix_time;

use credentials::Credentials;
use probe::Probe;
pub use report::Report;
use report::{Outcome, Step};
use tls::Tls;
use transport::Transport;
use url::{Scheme, Target};

/// The longest time of data: a permission lasts five minutes (RFC 8656 §9), and is not refreshed.
const TRAFFIC_MAX_S: i64 = 240;

const AFTER_HELP: &str = "\
Exit codes:
  0  everything works; there may be warnings
  1  something failed, and the last lines say what and why
  2  bad usage: nothing was sent";

/// Test a STUN or TURN server, of any make, as a client would use it.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    #[arg(
        value_name = "URL",
        help = "turn:HOST[:PORT][?transport=udp|tcp], turns:HOST[:PORT] for TLS, stun: or stuns: for \
                a Binding alone, or HOST[:PORT], which means turn:. Without a transport turn: means \
                UDP and TCP, one after the other"
    )]
    url: String,

    /// User name
    #[arg(long, value_name = "NAME", requires = "password")]
    user: Option<String>,

    /// Password of the user. Others on this machine can see it in the process list
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    password: Option<SecretString>,

    /// Shared secret: make a credential that is good for ten minutes. Others on this machine can see
    /// it in the process list: prefer the file
    #[arg(long, value_name = "SECRET", conflicts_with_all = ["user", "static_auth_secret_file"])]
    static_auth_secret: Option<SecretString>,

    /// Read the shared secret from the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    static_auth_secret_file: Option<PathBuf>,

    /// For turns: trust the authorities of a PEM file instead of this machine's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Use the host's IPv4 addresses only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// Use the host's IPv6 addresses only
    #[arg(short = '6', long)]
    ipv6: bool,

    /// Seconds of data, 50 packets each, over each transport
    #[arg(long, value_name = "SECONDS", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=TRAFFIC_MAX_S))]
    seconds: u32,

    /// Seconds that everything else may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The command line makes no sense: what is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Runs the command: 0 if everything works, 1 if a step failed, 2 for a bad command line.
///
/// A closed standard output is not an error: the exit code is the answer then.
pub fn run(args: &CheckArgs) -> ExitCode {
    let report = match check(args) {
        Ok(report) => report,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "turnstone check: {error}");
            return ExitCode::from(2);
        }
    };
    let mut stdout = io::stdout().lock();
    let _ = if args.json {
        writeln!(stdout, "{}", report.to_json())
    } else {
        writeln!(stdout, "{report}")
    };
    ExitCode::from(u8::from(!report.works()))
}

/// Checks a server and prints nothing.
///
/// # Errors
/// If the URL or the credentials are unusable; nothing was sent then.
pub fn check(args: &CheckArgs) -> Result<Report, UsageError> {
    let target: Target = args.url.parse()?;
    let tls = args.tls(&target)?;
    let now_unix_s = unix_time();
    let credentials = match target.scheme {
        Scheme::Stun => None,
        Scheme::Turn => Some(Credentials::from_args(args, now_unix_s)?),
    };

    let mut deadline = Instant::now() + Duration::from_secs(args.timeout.into());
    let mut report = Report::new(&args.url);
    let started = Instant::now();
    let resolved = resolve(&target, deadline);
    let elapsed = started.elapsed();
    let addresses = match resolved.map(|addresses| args.select(addresses)) {
        Ok(addresses) if !addresses.is_empty() => addresses,
        other => {
            let (reason, verdict) = unresolved(&target.host, other.err());
            let step = Step::new(Outcome::Fail, "resolve", elapsed, reason);
            report.unresolved(step, verdict);
            return Ok(report);
        }
    };
    let server = addresses[0];
    let detail = describe(&addresses);
    report.resolved(Step::new(Outcome::Ok, "resolve", elapsed, detail), server);

    // A transport that is silent must leave the next one its share of the time.
    let transports = target.transports();
    for (index, &transport) in transports.iter().enumerate() {
        let now = Instant::now();
        let shares = (transports.len() - index) as u32;
        let share = deadline.saturating_duration_since(now) / shares;
        let seconds = args.seconds;
        let probe = Probe::new(
            transport,
            server,
            tls.as_ref(),
            credentials.as_ref(),
            now + share,
            seconds,
        );
        let (result, measured) = probe.run();
        // Data is in nobody's share.
        deadline += measured;
        report.add(result);
    }
    Ok(report)
}

impl CheckArgs {
    /// What TLS needs, if the URL wants it.
    fn tls(&self, target: &Target) -> Result<Option<Tls>, UsageError> {
        match &self.ca_file {
            ca_file if target.transport == Some(Transport::Tls) => {
                Tls::new(&target.host, ca_file.as_deref()).map(Some)
            }
            Some(_) => {
                let message = "--ca-file is of use with turns: and stuns: alone";
                Err(UsageError(message.to_owned()))
            }
            None => Ok(None),
        }
    }

    /// The addresses of the family that was asked for.
    fn select(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.retain(|address| match (self.ipv4, self.ipv6) {
            (true, _) => address.is_ipv4(),
            (_, true) => address.is_ipv6(),
            _ => true,
        });
        addresses
    }
}

/// What was seen and what it means, without an error of the resolver that the name has no address
/// of the family.
fn unresolved(host: &str, error: Option<String>) -> (String, String) {
    match error {
        Some(error) => {
            let verdict = format!(
                "the name cannot be resolved: {error}; look at its spelling, its DNS records and \
                 this machine's resolver"
            );
            (error, verdict)
        }
        None => (
            "no address of this family".to_owned(),
            format!("{host} has no address of the family that --ipv4 or --ipv6 asks for"),
        ),
    }
}

/// Looks the name up; at least one address, in the system's order of preference.
///
/// In a thread of its own, because the system's resolver knows no deadline.
fn resolve(target: &Target, deadline: Instant) -> Result<Vec<SocketAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let name = (target.host.clone(), target.port);
    thread::spawn(move || {
        let addresses = name.to_socket_addrs().map(Vec::from_iter);
        // Nobody listens any more if the time is up.
        let _ = sender.send(addresses);
    });
    let timeout = deadline.saturating_duration_since(Instant::now());
    match receiver.recv_timeout(timeout) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(Ok(mut addresses)) => {
            addresses.dedup();
            Ok(addresses)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:.1} s", timeout.as_secs_f64())),
    }
}

/// The address that is checked, and those that are not.
fn describe(addresses: &[SocketAddr]) -> String {
    let others: Vec<String> = addresses[1..]
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    if others.is_empty() {
        addresses[0].to_string()
    } else {
        format!("{} (not checked: {})", addresses[0], others.join(", "))
    }
}
